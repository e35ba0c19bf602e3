"""The paper's detector, really built and run."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from proposals import detectron2_rcnn
from proposals.build import build_detector, load_detector
from proposals.config import DetectorConfig, FineTuneConfig
from proposals.detector import TorchDetector, save_detector
from proposals.detectron2_rcnn import Detectron2RCNN
from proposals.errors import InputError
from proposals.finetune import finetune
from proposals.manifest import AnnotatedFrame, Manifest

HERE = importlib.util.find_spec("detectron2") is not None
needs_detectron2 = pytest.mark.skipif(
    not HERE, reason="detectron2 is not installed; the README says how to build it"
)
CONFIG = DetectorConfig(
    name="detectron2_faster_rcnn_R_101_FPN_3x",
    weights="",
    classes=("adult", "ball"),
    min_size=96,
    max_size=160,
    proposals=20,
    score_threshold=0.0,
    finetune=FineTuneConfig(iterations=2, batch=1, lr=1e-4, rois=16, workers=0),
)


def frames(count: int = 1, size=(48, 64)) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (count, *size, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def network():
    """Random weights; damped, since 101 layers without trained norms overflow."""
    torch.manual_seed(0)
    network = build_detector(replace(CONFIG))
    for key, value in network.state_dict().items():
        if key.endswith("norm.weight"):
            value.mul_(0.5)
    return network


@needs_detectron2
def test_it_is_the_paper_s_detector(network):
    from detectron2.modeling.meta_arch import GeneralizedRCNN

    assert isinstance(network.rcnn, GeneralizedRCNN)
    assert len(network.rcnn.backbone.bottom_up.res4) == 23  # ResNet-101's


@needs_detectron2
def test_boxes_keep_the_contract(network):
    batch = frames(2)
    found = TorchDetector(network).detect(batch)
    for frame, boxes in zip(batch, found, strict=True):
        h0, w0 = frame.shape[:2]
        assert 0 < len(boxes.boxes) <= 20
        assert (boxes.boxes >= 0).all() and (boxes.boxes[:, [0, 2]] <= w0).all()
        assert (boxes.boxes[:, [1, 3]] <= h0).all()
        assert (np.diff(boxes.scores) <= 0).all() and set(boxes.labels.tolist()) <= {0, 1}


@needs_detectron2
def test_boxes_agree_with_detectron2_s_own_inference(network):
    """With one class, no threshold and its NMS, detectron2's own path gives the same boxes."""
    (frame,) = frames()
    rcnn = network.eval().rcnn
    predictor = rcnn.roi_heads.box_predictor
    predictor.test_score_thresh, predictor.test_nms_thresh = 0.0, CONFIG.nms_iou
    image = network._resized(torch.from_numpy(frame.copy()).permute(2, 0, 1)[None])[0]
    with torch.inference_mode():
        own = rcnn([{"image": image, "height": 48, "width": 64}])[0]["instances"]
    (ours,) = TorchDetector(network).detect([frame])
    best = own.scores.argmax()
    np.testing.assert_allclose(ours.boxes[0], own.pred_boxes.tensor[best].numpy(), atol=1e-2)
    assert ours.scores[0] == pytest.approx(own.scores[best].item(), abs=1e-5)
    assert ours.labels[0] == own.pred_classes[best]


@needs_detectron2
def test_it_learns_and_its_checkpoint_rebuilds_itself(network, tmp_path):
    save_detector(network, tmp_path / "start.pt")
    start = replace(CONFIG, weights=str(tmp_path / "start.pt"))
    learner = build_detector(start)
    box, label = np.array([[10, 10, 40, 40]], np.float32), np.array([1])
    from PIL import Image

    Image.fromarray(frames()[0]).save(tmp_path / "f.png")
    annotated = AnnotatedFrame(1, tmp_path / "f.png", None, (48, 64), box, label)
    manifest = Manifest(tmp_path / "m.json", CONFIG.classes, (annotated,))
    before = {key: value.clone() for key, value in learner.state_dict().items()}
    trained = finetune(learner, manifest, tmp_path / "out")
    changed = {key for key, value in trained.state_dict().items() if not value.equal(before[key])}
    assert any("box_predictor" in key for key in changed)
    assert any("bottom_up.res5" in key for key in changed)
    assert not any("bottom_up.stem" in key or "bottom_up.res2" in key for key in changed)
    again = load_detector(tmp_path / "out/detector.pt")
    (a,), (b,) = TorchDetector(trained).detect(frames()), again.detect(frames())
    np.testing.assert_array_equal(a.boxes, b.boxes)


@needs_detectron2
def test_its_class_heads_begin_anew_for_other_classes(network, tmp_path):
    save_detector(network, tmp_path / "d.pt")
    config = replace(CONFIG, weights=str(tmp_path / "d.pt"), classes=("a", "b", "c"))
    state, old = build_detector(config).state_dict(), network.state_dict()
    for key, value in state.items():
        assert (value.shape == old[key].shape and value.equal(old[key])) != ("box_predictor" in key)


@needs_detectron2
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "detectron2_faster_rcnn_R_18"}, "detectron2 has no 'faster_rcnn_R_18'"),
        ({"classes": ()}, "wanted `classes`"),
        ({"weights": "/nowhere/w.pkl"}, "no weight file at /nowhere/w.pkl"),
        ({"weights": "/nowhere/w.pt"}, "no weight file at /nowhere/w.pt"),
    ],
)
def test_what_cannot_be_built(changes, message):
    with pytest.raises(InputError, match=message):
        build_detector(replace(CONFIG, **changes))


@needs_detectron2
def test_weights_of_another_backbone_are_refused(tmp_path):
    path = Path(tmp_path / "w.pkl")
    import pickle

    path.write_bytes(pickle.dumps({"model": {"x": np.zeros(3)}, "__author__": "somebody"}))
    with pytest.raises(InputError, match=r"w.pkl: the weights are of another backbone"):
        build_detector(replace(CONFIG, weights=str(path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"square": 64}, "only torchvision's detectors can share a backbone"),
        ({"backbone_from": "s.pt"}, "only torchvision's detectors can share a backbone"),
    ],
)
def test_it_shares_no_backbone(changes, message):
    with pytest.raises(InputError, match=rf"^{CONFIG.name}: {message}"):
        build_detector(replace(CONFIG, **changes))


def test_the_models_tree_gets_the_rpns_numbers(monkeypatch):
    """Whatever detectron2's own file says."""
    model = SimpleNamespace(
        BACKBONE=SimpleNamespace(), ROI_HEADS=SimpleNamespace(), RPN=SimpleNamespace()
    )
    tree = SimpleNamespace(MODEL=model, merge_from_file=lambda path: None)
    monkeypatch.setitem(sys.modules, "detectron2.config", SimpleNamespace(get_cfg=lambda: tree))
    monkeypatch.setitem(sys.modules, "detectron2", SimpleNamespace())
    learning = FineTuneConfig(candidates=2000, proposals=1000)
    config = replace(CONFIG, candidates=900, proposals=800, finetune=learning)
    rpn = detectron2_rcnn._tree(Path("m.yaml"), config).MODEL.RPN
    assert (rpn.PRE_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TRAIN) == (2000, 1000)
    assert (rpn.PRE_NMS_TOPK_TEST, rpn.POST_NMS_TOPK_TEST) == (900, 800)


def test_boxes_are_scaled_by_width_and_height():
    found = detectron2_rcnn._scale((48, 64), (96, 160), torch.zeros(0))
    assert found.tolist() == [2.5, 2.0, 2.5, 2.0]  # x, y, x, y


@pytest.mark.parametrize(
    ("size", "wanted"), [((48, 64), (96, 128)), ((64, 48), (128, 96)), ((30, 100), (48, 160))]
)
def test_frames_get_the_model_s_size_and_channels(size, wanted):
    """The shorter side becomes 96, unless the longer one would exceed 160."""
    frames = torch.tensor([10, 20, 30], dtype=torch.uint8)[None, :, None, None].repeat(1, 1, *size)
    model = SimpleNamespace(config=CONFIG, _channels=[2, 1, 0])
    resized = Detectron2RCNN._resized(model, frames)
    assert resized.shape == (1, 3, *wanted) and resized.dtype == torch.float32
    assert resized[0, :, 5, 7].tolist() == [30, 20, 10]  # 0..255, not 0..1


def stages() -> SimpleNamespace:
    """The names of a detectron2 ResNet's stages, beside a pyramid's and the heads'."""
    rcnn, body = nn.Module(), nn.Module()
    for name in ("stem", "res2", "res3", "res4", "res5"):
        body.add_module(name, nn.Linear(1, 1))
    rcnn.backbone, rcnn.roi_heads = nn.Module(), nn.Linear(1, 1)
    rcnn.backbone.bottom_up, rcnn.backbone.fpn = body, nn.Linear(1, 1)
    return SimpleNamespace(rcnn=rcnn)


@pytest.mark.parametrize(
    ("trainable", "learning"),
    [
        (0, set()),
        (1, {"fpn", "res5"}),
        (3, {"fpn", "res5", "res4", "res3"}),
        (5, {"fpn", "res5", "res4", "res3", "res2", "stem"}),
    ],
)
def test_the_top_stages_learn_alone(trainable, learning):
    model = stages()
    Detectron2RCNN.freeze(model, trainable)
    found = {k.split(".")[-2] for k, p in model.rcnn.named_parameters() if p.requires_grad}
    assert found == learning | {"roi_heads"}


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ("imagenet", "detectron2://ImageNetPretrained/MSRA/R-101.pkl"),
        ("here.pkl", "here.pkl"),
        ("coco", "/faster_rcnn_R_101_FPN_3x/137851257/model_final_f6e8b1.pkl"),
    ],
)
def test_where_weights_come_from(weights, wanted):
    model = SimpleNamespace(WEIGHTS="detectron2://ImageNetPretrained/MSRA/R-101.pkl")
    name = CONFIG.name.removeprefix("detectron2_")
    source = detectron2_rcnn._source(name, weights, SimpleNamespace(MODEL=model))
    assert source.endswith(wanted)
    with pytest.raises(InputError, match="no COCO weights of 'other' are known"):
        detectron2_rcnn._source("other", "coco", None)


def test_classes_are_wanted_where_weights_are_not_coco_s():
    with pytest.raises(InputError, match="weights 'imagenet': wanted `classes`"):
        detectron2_rcnn._coco_classes(replace(CONFIG, weights="imagenet", classes=()))


def heads(classes: int, value: float) -> nn.Module:
    rcnn = nn.Module()
    rcnn.backbone, rcnn.roi_heads = nn.Linear(2, 2), nn.Module()
    rcnn.roi_heads.box_predictor = nn.Linear(2, classes)
    for parameter in rcnn.parameters():
        nn.init.constant_(parameter, value)
    return rcnn


@pytest.mark.parametrize(("classes", "predicted"), [(3, 7.0), (4, 1.0)])
def test_weights_of_our_own_checkpoint_are_taken_but_for_other_classes(
    tmp_path, classes, predicted
):
    state = {f"rcnn.{key}": value for key, value in heads(3, 7.0).state_dict().items()}
    torch.save({"format": "aamn-detector", "state": state}, tmp_path / "d.pt")
    rcnn = heads(classes, 1.0)
    detectron2_rcnn._load_weights(rcnn, str(tmp_path / "d.pt"))
    assert (rcnn.backbone.weight == 7).all()
    assert (rcnn.roi_heads.box_predictor.weight == predicted).all()


def test_weights_of_another_network_of_our_own_are_refused(tmp_path):
    state = {f"rcnn.{key}": value for key, value in heads(3, 7.0).state_dict().items()}
    for wrong in (
        {**state, "rcnn.more": torch.zeros(1)},
        {**state, "rcnn.backbone.bias": torch.zeros(5)},
    ):
        torch.save({"format": "aamn-detector", "state": wrong}, tmp_path / "d.pt")
        with pytest.raises(InputError, match=r"d\.pt: the weights are of another network"):
            detectron2_rcnn._load_weights(heads(3, 1.0), str(tmp_path / "d.pt"))


@pytest.mark.parametrize(
    ("source", "there"),
    [("w.pkl", True), ("w.pkl", False), ("detectron2://w.pkl", False), ("https://w.pkl", False)],
)
def test_detectron2_reads_its_own_files_and_addresses(tmp_path, monkeypatch, source, there):
    read = []

    class Checkpointer:
        def __init__(self, rcnn):
            self.rcnn = rcnn

        def load(self, source):
            read.append((self.rcnn, source))

    stands_in = SimpleNamespace(DetectionCheckpointer=Checkpointer)
    monkeypatch.setitem(sys.modules, "detectron2", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "detectron2.checkpoint", stands_in)
    monkeypatch.chdir(tmp_path)
    if there:
        Path(source).touch()
    rcnn = heads(3, 1.0)
    if there or "://" in source:
        detectron2_rcnn._load_weights(rcnn, source)
        assert read == [(rcnn, source)]
        return
    with pytest.raises(InputError, match=r"^no weight file at w\.pkl$"):
        detectron2_rcnn._load_weights(rcnn, source)


@pytest.mark.skipif(HERE, reason="detectron2 is installed")
def test_without_detectron2_the_line_says_so():
    with pytest.raises(InputError, match="needs detectron2, which is not installed; the README"):
        build_detector(replace(CONFIG))
