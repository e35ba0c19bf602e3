"""Faster R-CNN of torchvision: the default detector, from the small one to ResNet-101-FPN."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import (
    MobileNet_V3_Large_Weights,
    ResNet50_Weights,
    ResNet101_Weights,
    WeightsEnum,
)
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_V2_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
    MaskRCNN_ResNet50_FPN_V2_Weights,
    fasterrcnn_resnet50_fpn_v2,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import (
    FasterRCNN,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from proposals.backbones import MOBILE_STAGES, SmallBackbone, build_pyramid
from proposals.config import DetectorConfig
from proposals.detector import CHECKPOINT_FORMAT, TrainableDetector, rank_boxes
from proposals.errors import InputError
from proposals.frames import fitted_size, resize_frame
from proposals.inference_form import InBFloat16, inference_form, with_part
from proposals.weights import read_mapping

log = logging.getLogger("proposals")

LONGEST = ("rcnn.backbone", "rcnn.rpn.head.conv", "rcnn.roi_heads.box_head")  # in bfloat16
MOBILE_EPS = 1e-3  # of MobileNet's
CLASSIFIER_EPS = 1e-5  # of the batch normalisations with which torchvision's classifiers learned

MASKED = "mask_resnet50_fpn_v2"  # the one with a mask head, which is used as it is published
_COCO = {
    "resnet50_fpn": FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "resnet50_fpn_v2": FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    MASKED: MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
}
_IMAGENET = {
    "resnet50_fpn": ResNet50_Weights.IMAGENET1K_V1,
    "resnet50_fpn_v2": ResNet50_Weights.IMAGENET1K_V2,
    "resnet101_fpn": ResNet101_Weights.IMAGENET1K_V1,
    "mobilenet_fpn": MobileNet_V3_Large_Weights.IMAGENET1K_V2,
}
_FEATURES = "features."  # what the names of MobileNet's layers begin with


class TorchvisionRCNN(TrainableDetector):
    """A torchvision Faster R-CNN, ranking its boxes across classes."""

    def __init__(self, config: DetectorConfig) -> None:
        """Raises:
        InputError: an unknown name, no classes, or weights that cannot be had.
        """
        super().__init__(config)
        if config.name not in _BUILDERS:
            raise InputError(
                f"detector {config.name!r}: wanted one of {', '.join(_BUILDERS)}, or"
                " detectron2_ and the name of a file in detectron2's COCO-Detection"
            )
        if not config.classes:
            config.classes = _coco_classes(config)
        self.rcnn = _BUILDERS[config.name](config, len(config.classes) + 1)
        if config.square:
            _look_at_squares(self.rcnn, config.square)
        _load_weights(self.rcnn, config)
        if config.backbone_from:
            _load_backbone(self.rcnn, config.backbone_from)
        self.rcnn.backbone.register_forward_hook(_in_full_precision)

    @property
    def backbone(self) -> nn.Module:
        return self.rcnn.backbone

    def freeze(self, trainable: int) -> None:
        """Lets only the top `trainable` of a ResNet's five stages learn; 0: none of them."""
        self.backbone.requires_grad_(trainable > 0)
        body = getattr(self.rcnn.backbone, "body", None)
        if body is not None and self.config.name.startswith("mobilenet"):
            first = MOBILE_STAGES[len(MOBILE_STAGES) - 1 - trainable]
            for number, layer in body.items():
                layer.requires_grad_(int(number) >= first)
        elif body is not None:
            learning = ("layer4", "layer3", "layer2", "layer1", "conv1")[: max(0, trainable)]
            for name, parameter in body.named_parameters():
                parameter.requires_grad_(name.startswith((*learning, *(["bn1"] * (trainable > 4)))))

    def losses(
        self, frames: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Named losses of a batch: frames uint8 (3, H0, W0), boxes (n, 4), labels (n,) int64.

        Raises:
            InputError: the detector has a mask head, for which no masks are given.
        """
        if self.config.name == MASKED:
            raise InputError(f"{MASKED} is used as published; fine-tune resnet50_fpn_v2 instead")
        targets = [{"boxes": b, "labels": c + 1} for b, c in zip(boxes, labels, strict=True)]
        return self.rcnn([frame.float() / 255 for frame in frames], targets)

    def predict(self, frames: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes, scores and labels of each of the frames (B, 3, H0, W0) uint8, best first."""
        images, _ = self.rcnn.transform([frame.float() / 255 for frame in frames])
        features = self.features(images.tensors)
        return self._ranked(images, features, (frames.shape[-2], frames.shape[-1]))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The backbone's maps of images (B, 3, h, w) as its own transform makes them, the finest
        first."""
        maps = self.rcnn.backbone(images)
        return {"0": maps} if isinstance(maps, Tensor) else maps

    def predict_from(
        self, images: Tensor, maps: Sequence[Tensor], size: tuple[int, int]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The same from the backbone's maps, finest first, of squares `images` (B, 3, S, S) into
        which the frames of `size` (H0, W0) were fitted."""
        features = {str(level): value.float() for level, value in enumerate(maps)}
        if len(maps) > 1:  # the pyramid's coarsest map is every other number of the last one
            features["pool"] = features[str(len(maps) - 1)][:, :, ::2, ::2]
        content = fitted_size(size, (self.config.square,) * 2)
        return self._ranked(ImageList(images, [content] * len(images)), features, size)

    def in_bfloat16(self) -> TorchvisionRCNN:
        """Backbone, the RPN's convolution and the box head in bfloat16; scores and boxes are made
        of their answers in float32."""
        form = inference_form(self)
        for path in LONGEST:
            form = with_part(form, path, InBFloat16)
        return form

    def regions(
        self, images: ImageList, features: dict[str, Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """What both heads find on the features of each image: boxes (n, C, 4) in its pixels and
        scores (n, C) of the C classes without background."""
        rcnn = self.rcnn
        rois, _ = rcnn.rpn(images, features)
        heads = rcnn.roi_heads
        pooled = heads.box_head(heads.box_roi_pool(features, rois, images.image_sizes))
        logits, deltas = heads.box_predictor(pooled)
        boxes = heads.box_coder.decode(deltas.float(), rois).reshape(*logits.shape, 4)[:, 1:]
        scores = logits.float().softmax(1)[:, 1:]
        counts = [r.shape[0] for r in rois]  # what is traced for an export stays a variable
        return list(zip(boxes.split(counts), scores.split(counts), strict=True))

    def _ranked(
        self, images: ImageList, features: dict[str, Tensor], size: tuple[int, int]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """What is kept of frames of `size` (H0, W0), in their pixels."""
        (h0, w0), (h, w) = size, images.image_sizes[0]
        scale = images.tensors.new_tensor([w0 / w, h0 / h, w0 / w, h0 / h])
        return [
            rank_boxes(boxes * scale, scores, size, self.config)
            for boxes, scores in self.regions(images, features)
        ]


class _SquareTransform(GeneralizedRCNNTransform):
    """Frames as stage two sees them: scaled as a whole into the top left corner of a black square,
    and only then normalised."""

    def __init__(self, square: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(square, square, mean, std, size_divisible=1)
        self.square = square

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        squares = images[0].new_zeros(len(images), 3, self.square, self.square)
        sizes = []
        for place, image in enumerate(images):
            h, w = fitted_size((image.shape[-2], image.shape[-1]), (self.square,) * 2)
            squares[place, :, :h, :w] = self._fit(image, (h, w))
            sizes.append((h, w))
        if targets is not None:
            targets = [
                {**target, "boxes": target["boxes"] * _factors(image, size)}
                for target, image, size in zip(targets, images, sizes, strict=True)
            ]
        return ImageList(self.normalize(squares), sizes), targets

    def _fit(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """The image (3, h, w) at a size, by stage two's own arithmetic on bytes."""
        if tuple(image.shape[-2:]) == size:
            return image
        frame = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        fitted = torch.from_numpy(resize_frame(frame, size)).permute(2, 0, 1)
        return fitted.to(image.device).float() / 255


def _factors(image: Tensor, size: tuple[int, int]) -> Tensor:
    """What takes boxes of an image (3, H0, W0) to pixels of its fitted size (h, w)."""
    y, x = size[0] / image.shape[-2], size[1] / image.shape[-1]
    return image.new_tensor([x, y, x, y])


class _SquarePool(MultiScaleRoIAlign):
    """RoIAlign that takes the maps' strides from the square; the part of it that a frame covers
    may be much shorter, which torchvision would mistake for another stride."""

    def __init__(self, pool: MultiScaleRoIAlign, square: int) -> None:
        super().__init__(pool.featmap_names, pool.output_size, pool.sampling_ratio)
        self.square = square

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        return super().forward(x, boxes, [(self.square, self.square)] * len(image_shapes))


def _look_at_squares(rcnn: FasterRCNN, square: int) -> None:
    """Makes the detector see frames as stage two does."""
    transform, heads = rcnn.transform, rcnn.roi_heads
    if square % transform.size_divisible:
        raise InputError(
            f"square: wanted a multiple of {transform.size_divisible} pixels, got {square}"
        )
    rcnn.transform = _SquareTransform(square, transform.image_mean, transform.image_std)
    heads.box_roi_pool = _SquarePool(heads.box_roi_pool, square)
    if heads.has_mask():
        heads.mask_roi_pool = _SquarePool(heads.mask_roi_pool, square)


def _in_full_precision(
    backbone: nn.Module, inputs: tuple[Tensor], features: Tensor | dict[str, Tensor]
) -> Tensor | dict[str, Tensor]:
    """Features as float32: torchvision gives anchors their type, and in half precision these would
    be off by pixels."""
    if isinstance(features, Tensor):
        return features.float()
    return {name: value.float() for name, value in features.items()}


def _small(config: DetectorConfig, classes: int) -> FasterRCNN:
    """SmallBackbone with one feature map; frames are normalised inside the backbone."""
    backbone = SmallBackbone(config.widths, config.strides)
    stride = 1
    for s in config.strides:
        stride *= s
    channels = backbone.out_channels
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator((config.anchors,), (config.ratios,)),
        box_roi_pool=MultiScaleRoIAlign(["0"], config.pool, sampling_ratio=1),
        box_head=TwoMLPHead(channels * config.pool**2, config.head),
        box_predictor=FastRCNNPredictor(config.head, classes),
        image_mean=[0.0, 0.0, 0.0],
        image_std=[1.0, 1.0, 1.0],
        size_divisible=stride,
        box_positive_fraction=0.5,  # few RoIs are sampled: more of them shall teach the boxes
        **_shared(config),
    )


def _resnet(config: DetectorConfig, classes: int) -> FasterRCNN:
    return FasterRCNN(build_pyramid(config.name), classes, **_shared(config))


def _resnet_from_nothing(config: DetectorConfig, classes: int) -> FasterRCNN:
    """Group norms, and anchors of the size that the videos want."""
    if len(config.anchors) != 5:
        raise InputError(
            f"anchors: {config.name} wants five, one a level, got {len(config.anchors)}"
        )
    sizes = tuple((size,) for size in config.anchors)
    anchors = AnchorGenerator(sizes, (config.ratios,) * len(sizes))
    backbone = build_pyramid(config.name)
    return FasterRCNN(backbone, classes, rpn_anchor_generator=anchors, **_shared(config))


def _mobile(config: DetectorConfig, classes: int) -> FasterRCNN:
    """Light heads on MobileNetV3's pyramid, and anchors of the size that the videos want."""
    backbone = build_pyramid(config.name)
    if len(config.anchors) != 4:
        raise InputError(
            f"anchors: {config.name} wants four, one a level, got {len(config.anchors)}"
        )
    sizes = tuple((size,) for size in config.anchors)
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(sizes, (config.ratios,) * len(sizes)),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], config.pool, sampling_ratio=2),
        box_head=TwoMLPHead(backbone.out_channels * config.pool**2, config.head),
        box_predictor=FastRCNNPredictor(config.head, classes),
        **_shared(config),
    )


def _resnet50_v2(config: DetectorConfig, classes: int) -> FasterRCNN:
    return fasterrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, num_classes=classes, **_shared(config)
    )


def _masked(config: DetectorConfig, classes: int) -> FasterRCNN:
    return maskrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, num_classes=classes, **_shared(config)
    )


_BUILDERS = {
    "small": _small,
    "resnet50_fpn": _resnet,
    "resnet50_fpn_gn": _resnet_from_nothing,
    "resnet50_fpn_v2": _resnet50_v2,
    "resnet101_fpn": _resnet,
    MASKED: _masked,
    "mobilenet_fpn": _mobile,
    "mobilenet_fpn_gn": _mobile,
}


def _shared(config: DetectorConfig) -> dict[str, int]:
    return {
        "min_size": config.min_size,
        "max_size": config.max_size,
        "rpn_pre_nms_top_n_train": config.rpn.training_candidates,
        "rpn_post_nms_top_n_train": config.rpn.training_proposals,
        "rpn_pre_nms_top_n_test": config.rpn.candidates,
        "rpn_post_nms_top_n_test": config.rpn.proposals,
        "box_batch_size_per_image": config.finetune.rois,
    }


def published_classes() -> tuple[str, ...]:
    """The class names of torchvision's COCO weights; "N/A" where COCO has left a number out."""
    return tuple(_COCO[MASKED].meta["categories"][1:])


def _coco_classes(config: DetectorConfig) -> tuple[str, ...]:
    """COCO's class names, for COCO's weights as they are, of the masked one from any file.

    Raises:
        InputError: when the weights are others.
    """
    as_published = config.weights == "coco" and config.name in _COCO
    if not (as_published or config.name == MASKED):
        raise InputError(
            f"detector {config.name!r} with weights {config.weights!r}: wanted `classes`, the names"
            " of what it detects"
        )
    return tuple(_COCO[config.name].meta["categories"][1:])


def _load_weights(rcnn: FasterRCNN, config: DetectorConfig) -> None:
    name, weights = config.name, config.weights
    if weights == "coco":
        _check_published(name, weights, _COCO)
        _load_detector(rcnn, _downloaded(_COCO[name]), "the COCO weights")
    elif weights == "imagenet":
        _check_published(name, weights, _IMAGENET)
        _load_body(rcnn, _downloaded(_IMAGENET[name]), "the ImageNet weights")
    elif weights:
        state = read_mapping(Path(weights))
        if state.get("format") == CHECKPOINT_FORMAT:
            state = {key.removeprefix("rcnn."): value for key, value in state["state"].items()}
        classifier = "conv1.weight" in state or f"{_FEATURES}0.0.weight" in state
        load = _load_body if classifier else _load_detector
        load(rcnn, state, weights)


def _check_published(name: str, weights: str, published: dict[str, WeightsEnum]) -> None:
    if name not in published:
        raise InputError(
            f"torchvision publishes no {weights} weights for {name!r}, only for"
            f" {', '.join(published)}; give a file, or weights: '' to begin at random"
        )


def _downloaded(weights: WeightsEnum) -> dict[str, Tensor]:
    """Weights from torchvision's cache, or from its site.

    Raises:
        InputError: not cached and no way to the site; names the file and where it is looked for.
    """
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise InputError(
            f"cannot download {weights.url} ({error}); fetch it elsewhere and put it into {folder},"
            " or give its path as `weights`"
        ) from None


def _load_detector(rcnn: FasterRCNN, state: dict[str, Tensor], source: str) -> None:
    """A whole detector's weights; the class heads begin anew when the classes are others."""
    own = rcnn.state_dict()
    heads = [key for key in own if key.startswith("roi_heads.box_predictor.")]
    if any(key in state and state[key].shape != own[key].shape for key in heads):
        log.info("%s are of other classes: the class heads begin anew", source)
        state = {**state, **{key: own[key] for key in heads}}
    _load(rcnn, state, source)


def _load_body(rcnn: FasterRCNN, state: dict[str, Tensor], source: str) -> None:
    """A classification network's weights, into the ResNet below the feature pyramid."""
    body = getattr(rcnn.backbone, "body", None)
    if body is None:
        raise InputError(f"{source}: these are a ResNet's weights, the detector's backbone is none")
    eps = CLASSIFIER_EPS
    if f"{_FEATURES}0.0.weight" in state:  # whose last layers the pyramid does without
        state = {k.removeprefix(_FEATURES): v for k, v in state.items() if k.startswith(_FEATURES)}
        state, eps = {k: v for k, v in state.items() if k.split(".")[0] in body}, MOBILE_EPS
    state = {key: v for key, v in state.items() if not key.startswith("fc.")}
    _load(body, _with_eps_of(body, state, eps), source)


def _with_eps_of(body: nn.Module, state: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
    """A classifier's weights for a body of frozen norms, whose variances take over what their eps
    lacks: so the norms are the classifier's own, and the eps stays with the weights."""
    lacking = {
        f"{name}.running_var": eps - norm.eps
        for name, norm in body.named_modules()
        if isinstance(norm, FrozenBatchNorm2d)
    }
    return {key: v + lacking[key] if key in lacking else v for key, v in state.items()}


def _load_backbone(rcnn: FasterRCNN, path: str) -> None:
    """The backbone of a segmenter's RGB stream, which may have learned on since a detector's
    weights were its start.

    Raises:
        InputError: no readable checkpoint, or its backbone is of another form.
    """
    state = read_mapping(Path(path)).get("model", {})
    first = next(iter(rcnn.backbone.state_dict()))
    prefixes = [k.removesuffix(first) for k in state if k.endswith(first) and ".rgb." in k]
    if not prefixes:
        raise InputError(
            f"backbone_from: {path} holds no segmenter with a backbone of this detector's form"
        )
    found = {k.removeprefix(prefixes[0]): v for k, v in state.items() if k.startswith(prefixes[0])}
    own = rcnn.backbone.state_dict()
    _load(rcnn.backbone, {key: value for key, value in found.items() if key in own}, path)


def _load(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    own = module.state_dict()
    # frozen norms have no counter of batches
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked") or k in own}
    wrong = sorted(own.keys() ^ state.keys()) or sorted(
        key for key in own if own[key].shape != state[key].shape
    )
    wrong = [key for key in wrong if not key.endswith("num_batches_tracked")]
    if wrong:
        raise InputError(
            f"{source}: the weights are of another network ({len(wrong)} keys or shapes differ,"
            f" such as {wrong[0]})"
        )
    module.load_state_dict(state, strict=False)
