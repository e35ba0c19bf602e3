"""Faster R-CNN of detectron2, the paper's detector; the only file that imports detectron2.

`detectron2_faster_rcnn_R_101_FPN_3x` and every other name of a file in detectron2's COCO-Detection
folder whose model has a box head.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from proposals.config import DetectorConfig
from proposals.detector import (
    CHECKPOINT_FORMAT,
    DETECTRON2,
    TrainableDetector,
    rank_boxes,
)
from proposals.errors import InputError
from proposals.weights import read_mapping

log = logging.getLogger("proposals")

# where detectron2's model zoo keeps the COCO weights
_ZOO = "detectron2://COCO-Detection"
_COCO = {
    "faster_rcnn_R_50_FPN_1x": "137257794/model_final_b275ba.pkl",
    "faster_rcnn_R_50_FPN_3x": "137849458/model_final_280758.pkl",
    "faster_rcnn_R_101_FPN_3x": "137851257/model_final_f6e8b1.pkl",
    "faster_rcnn_X_101_32x8d_FPN_3x": "139173657/model_final_68b088.pkl",
}
_STAGES = ("res5", "res4", "res3", "res2", "stem")


class Detectron2RCNN(TrainableDetector):
    """A detectron2 Faster R-CNN, ranking its boxes across classes."""

    def __init__(self, config: DetectorConfig) -> None:
        """Raises:
        InputError: detectron2 is not installed, has no such model, no classes are given, the
            weights cannot be had, or a shared backbone is wanted.
        """
        super().__init__(config)
        if config.square or config.backbone_from:
            raise InputError(f"{config.name}: only torchvision's detectors can share a backbone")
        name = config.name.removeprefix(DETECTRON2)
        recipe = _recipe(name)
        config.classes = config.classes or _coco_classes(config)
        tree = _tree(recipe, config)
        from detectron2.modeling import build_model

        self.rcnn = build_model(tree)
        self._channels = [2, 1, 0] if tree.INPUT.FORMAT == "BGR" else [0, 1, 2]
        if config.weights:
            _load_weights(self.rcnn, _source(name, config.weights, tree))

    def freeze(self, trainable: int) -> None:
        """Lets only the top `trainable` of the ResNet's five stages learn; 0: no part of the
        backbone."""
        self.rcnn.backbone.requires_grad_(trainable > 0)
        learning = _STAGES[: max(0, trainable)]
        body = getattr(self.rcnn.backbone, "bottom_up", self.rcnn.backbone)
        for name, parameter in body.named_parameters():
            parameter.requires_grad_(name.startswith(learning))

    def losses(
        self, frames: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Named losses of a batch: frames uint8 (3, H0, W0), boxes (n, 4), labels (n,) int64."""
        from detectron2.structures import Boxes, Instances
        from detectron2.utils.events import EventStorage

        batch = []
        for frame, b, c in zip(frames, boxes, labels, strict=True):
            image = self._resized(frame[None])[0]
            scale = _scale(frame.shape[-2:], image.shape[-2:], b)
            truth = Instances(tuple(image.shape[-2:]), gt_boxes=Boxes(b * scale), gt_classes=c)
            batch.append({"image": image, "instances": truth})
        with EventStorage():
            return self.rcnn(batch)

    def predict(self, frames: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes, scores and labels of each of the frames (B, 3, H0, W0) uint8, best first."""
        rcnn, size = self.rcnn, (frames.shape[-2], frames.shape[-1])
        resized = self._resized(frames)
        images = rcnn.preprocess_image([{"image": image} for image in resized])
        features = rcnn.backbone(images.tensor)
        rois, _ = rcnn.proposal_generator(images, features, None)
        heads = rcnn.roi_heads
        maps = [features[name] for name in heads.box_in_features]
        pooled = heads.box_head(heads.box_pooler(maps, [roi.proposal_boxes for roi in rois]))
        answers = heads.box_predictor(pooled)
        boxes = heads.box_predictor.predict_boxes(answers, rois)
        scores = heads.box_predictor.predict_probs(answers, rois)
        scale = _scale(size, resized.shape[-2:], frames.new_zeros(0, dtype=torch.float32))
        return [
            rank_boxes(b.unflatten(1, (-1, 4)) / scale, s[:, :-1], size, self.config)
            for b, s in zip(boxes, scores, strict=True)
        ]

    def _resized(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, H0, W0) uint8 RGB -> float (B, 3, H, W) 0..255 in the model's channels."""
        h0, w0 = frames.shape[-2:]
        scale = min(self.config.min_size / min(h0, w0), self.config.max_size / max(h0, w0))
        size = (max(1, round(h0 * scale)), max(1, round(w0 * scale)))
        frames = frames[:, self._channels].float()
        return functional.interpolate(frames, size, mode="bilinear", align_corners=False)


def _scale(original: Sequence[int], resized: Sequence[int], like: Tensor) -> Tensor:
    """Factors (4,) from boxes of the original frame to the resized one."""
    (h0, w0), (h, w) = original, resized
    return like.new_tensor([w / w0, h / h0, w / w0, h / h0])


def _recipe(name: str) -> Path:
    """detectron2's own YAML of the model; its model_zoo is not asked, since it needs an old
    setuptools."""
    package = importlib.util.find_spec("detectron2")
    if package is None or package.submodule_search_locations is None:
        raise InputError(
            f"detector {DETECTRON2}{name} needs detectron2, which is not installed; the README"
            " says how to build it"
        )
    folder = Path(package.submodule_search_locations[0]) / "model_zoo/configs/COCO-Detection"
    if "/" in name or not (folder / f"{name}.yaml").is_file():
        models = sorted(path.stem for path in folder.glob("faster_rcnn*.yaml"))
        raise InputError(f"detectron2 has no {name!r}; wanted one of {', '.join(models)}")
    return folder / f"{name}.yaml"


def _tree(recipe: Path, config: DetectorConfig) -> Any:
    from detectron2.config import get_cfg

    tree = get_cfg()
    tree.merge_from_file(str(recipe))
    tree.MODEL.DEVICE = "cpu"
    tree.MODEL.BACKBONE.FREEZE_AT = 0  # see `freeze`
    tree.MODEL.ROI_HEADS.NUM_CLASSES = len(config.classes)
    tree.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = config.finetune.rois
    tree.MODEL.RPN.PRE_NMS_TOPK_TRAIN = config.rpn.training_candidates
    tree.MODEL.RPN.POST_NMS_TOPK_TRAIN = config.rpn.training_proposals
    tree.MODEL.RPN.PRE_NMS_TOPK_TEST = config.rpn.candidates
    tree.MODEL.RPN.POST_NMS_TOPK_TEST = config.rpn.proposals
    return tree


def _coco_classes(config: DetectorConfig) -> tuple[str, ...]:
    if config.weights != "coco":
        raise InputError(
            f"detector {config.name!r} with weights {config.weights!r}: wanted `classes`, the names"
            " of what it detects"
        )
    from detectron2.data import MetadataCatalog

    return tuple(MetadataCatalog.get("coco_2017_val").thing_classes)


def _source(name: str, weights: str, tree: Any) -> str:
    """The path or detectron2:// address of the weights."""
    if weights == "imagenet":
        return tree.MODEL.WEIGHTS
    if weights != "coco":
        return weights
    if name not in _COCO:
        raise InputError(f"no COCO weights of {name!r} are known, only of {', '.join(_COCO)}")
    return f"{_ZOO}/{name}/{_COCO[name]}"


def _load_weights(rcnn: nn.Module, source: str) -> None:
    """Weights of ours, of detectron2's or of MSRA's formats; class heads of other classes begin
    anew, which detectron2 logs.

    Raises:
        InputError: a file that is not there, no way to the site, or weights of another backbone.
    """
    if "://" not in source and Path(source).suffix != ".pkl":
        content = read_mapping(Path(source))
        if content.get("format") == CHECKPOINT_FORMAT:
            _load_own(rcnn, content["state"], source)
            return
    if "://" not in source and not Path(source).is_file():
        raise InputError(f"no weight file at {source}")
    from detectron2.checkpoint import DetectionCheckpointer

    backbone = rcnn.get_submodule("backbone")
    body: nn.Module = getattr(backbone, "bottom_up", backbone)
    before = {k: v.clone() for k, v in body.state_dict().items() if v.dim() == 4}
    try:
        DetectionCheckpointer(rcnn).load(source)
    except Exception as error:  # downloads and unpickling fail in many ways
        raise InputError(
            f"cannot load {source} ({type(error).__name__}: {' '.join(str(error).split())}); fetch"
            " it elsewhere and give its path as `weights`"
        ) from None
    after = body.state_dict()
    if any(value.equal(after[key]) for key, value in before.items()):
        raise InputError(f"{source}: the weights are of another backbone")


def _load_own(rcnn: nn.Module, state: dict[str, Tensor], source: str) -> None:
    own = rcnn.state_dict()
    state = {key.removeprefix("rcnn."): value for key, value in state.items()}
    heads = [key for key in own if key.startswith("roi_heads.box_predictor.")]
    if any(key in state and state[key].shape != own[key].shape for key in heads):
        log.info("%s is of other classes: the class heads begin anew", source)
        state = {**state, **{key: own[key] for key in heads}}
    if own.keys() != state.keys() or any(own[key].shape != state[key].shape for key in own):
        raise InputError(f"{source}: the weights are of another network")
    rcnn.load_state_dict(state)
