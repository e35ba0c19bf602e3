"""One pass of a backbone that the detector and the segmenter have in common."""

import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_models import tiny_config, tiny_segmenter

import aamn
from aamn.config.schema import FlowConfig
from aamn.index.box_source import DetectedBoxes, SharedBoxes, StoredBoxes, detected_boxes
from aamn.index.builder import build_index
from aamn.index.file import IndexFile
from aamn.index.job import IndexJob
from aamn.index.video_index import VideoIndex
from aamn.inference.checkpoint import Loaded, save_checkpoint
from aamn.models.build import start_backbones
from aamn.predictor import write_bundle
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.decoding import Video
from proposals.detector import TorchDetector, save_detector
from proposals.errors import InputError
from proposals.extract import extract
from proposals.frames import FrameSource
from proposals.store import ProposalStore

COUNT = 11
SMALL = DetectorConfig(
    name="small", weights="", classes=("a", "b"), square=48, widths=(8, 16), strides=(4, 2),
    head=16, proposals=8, score_threshold=0.0,
)  # fmt: skip
PYRAMID = DetectorConfig(
    name="resnet50_fpn_gn", weights="", classes=("a", "b"), square=64, proposals=8,
    anchors=(8, 16, 32, 64, 128), score_threshold=0.0,
)  # fmt: skip
OF_PYRAMID = ("aamn.backbone.name=resnet50_fpn_gn", "aamn.backbone.flow_name=small", "aamn.size=64")


class Frames(FrameSource):
    """Noise, wider than it is high."""

    def __init__(self):
        self.size, self.fps, self.announced, self.path = (40, 70), 10.0, COUNT, Path("noise")
        self.video = np.random.default_rng(0).integers(0, 255, (COUNT, 40, 70, 3), dtype=np.uint8)

    def __len__(self):
        return COUNT

    def _frame(self, index):
        return self.video[index] if index < COUNT else None

    def close(self):
        pass


def detector_of(config):
    torch.manual_seed(5)
    return TorchDetector(build_detector(config))


def segmenter_on(detector, path, *overrides):
    """A segmenter whose RGB stream starts from the detector's backbone."""
    save_detector(detector.network, path)
    overrides = (*overrides, f"aamn.backbone.weights={path}")
    segmenter = tiny_segmenter(*overrides)
    start_backbones(segmenter, tiny_config(*overrides))
    return segmenter


def job(segmenter, boxes):
    return IndexJob(segmenter, "v", Frames(), boxes, None, FlowConfig())


def counted(backbone):
    """How many frames go through a backbone from now on, one number a pass."""
    seen, first = [], next(m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d))
    first.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


@pytest.mark.parametrize(
    ("config", "overrides"), [(SMALL, ()), (PYRAMID, OF_PYRAMID)], ids=["small", "pyramid"]
)
@pytest.mark.slow
def test_one_pass_a_frame_gives_what_two_give(tmp_path, config, overrides):
    detector = detector_of(config)
    segmenter = segmenter_on(detector, tmp_path / "d.pt", *overrides)
    passes = counted(segmenter.streams["rgb"].backbone), counted(detector.network)
    boxes = detected_boxes(detector, segmenter)
    assert isinstance(boxes, SharedBoxes)
    build_index(job(segmenter, boxes), tmp_path / "one.h5")
    assert (sum(passes[0]), sum(passes[1])) == (COUNT, 0)
    build_index(job(segmenter, DetectedBoxes(detector, 4)), tmp_path / "two.h5")
    assert (sum(passes[0]), sum(passes[1])) == (2 * COUNT, COUNT)
    model = Loaded(segmenter, tiny_config(*overrides), 0)
    one, two = (VideoIndex.read(tmp_path / f"{name}.h5", model) for name in ("one", "two"))
    assert one.file.header.origin == two.file.header.origin
    for name in ("boxes", "vectors", "links"):
        found, wanted = one.file.array(name)[:], two.file.array(name)[:]
        np.testing.assert_allclose(found, wanted, atol=1e-3, rtol=1e-4, err_msg=name)
    masks = [index.file.array("masks")[:].astype(int) for index in (one, two)]
    assert abs(masks[0] - masks[1]).max() <= 1
    assert (one.file.array("valid")[:] == two.file.array("valid")[:]).all()
    assert one.file.array("valid")[:].any()


def test_it_also_gives_what_stored_proposals_give(tmp_path):
    """The file between the stages, read in training, holds the boxes that the shared pass finds."""
    detector = detector_of(SMALL)
    segmenter = segmenter_on(detector, tmp_path / "d.pt")
    (tmp_path / "v").mkdir()
    for number, frame in enumerate(Frames().video):
        cv2.imwrite(str(tmp_path / "v" / f"{number:02}.png"), frame[..., ::-1])
    extract(detector, [Video("v", tmp_path / "v")], tmp_path / "p.h5")
    stored = StoredBoxes(ProposalStore.read(tmp_path / "p.h5"), "v", Frames().size)
    found = {}
    for name, boxes in (("stored", stored), ("shared", detected_boxes(detector, segmenter))):
        build_index(job(segmenter, boxes), tmp_path / f"{name}.h5")
        model = Loaded(segmenter, tiny_config(), 0)
        found[name] = VideoIndex.read(tmp_path / f"{name}.h5", model).file.array("vectors")[:]
    np.testing.assert_allclose(found["shared"], found["stored"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("square", "overrides"), [(48, ()), (48, ("aamn.size=64",)), (0, ())],
    ids=["other weights", "another square", "no square"],
)  # fmt: skip
def test_where_the_backbones_differ_each_takes_its_pass_and_says_so_once(
    tmp_path, caplog, square, overrides
):
    detector = detector_of(replace(SMALL, square=square, min_size=40, max_size=60))
    segmenter = segmenter_on(detector, tmp_path / "d.pt", *overrides)
    if square and not overrides:
        with torch.no_grad():
            next(segmenter.streams["rgb"].backbone.parameters()).add_(0.01)
    with caplog.at_level(logging.INFO, "aamn"):
        boxes = detected_boxes(detector, segmenter)
    assert type(boxes) is DetectedBoxes
    said = [record for record in caplog.records if "takes its own pass" in record.getMessage()]
    assert len(said) == bool(square)
    passes = counted(detector.network)
    build_index(job(segmenter, boxes), tmp_path / "v.h5")
    assert sum(passes) == COUNT


def test_a_segmenter_without_an_rgb_stream_shares_nothing(tmp_path):
    flow = (
        "aamn.streams=flow", "aamn.link_features=flow", "aamn.mask_head.features=flow",
        "aamn.actor.features=flow", "aamn.action.features=flow", "aamn.action.fusion=none",
        "aamn.action.context=none",
    )  # fmt: skip
    segmenter = tiny_segmenter(*flow)
    assert type(detected_boxes(detector_of(SMALL), segmenter)) is DetectedBoxes


def test_the_detector_of_a_fine_tuned_segmenter_shares_its_backbone(tmp_path):
    """The heads learn anew on a backbone that stage two has changed; then one pass serves both."""
    segmenter = segmenter_on(detector_of(SMALL), tmp_path / "d.pt")
    with torch.no_grad():
        for parameter in segmenter.streams["rgb"].backbone.parameters():
            parameter.mul_(1.1)
    torch.save({"model": segmenter.state_dict()}, tmp_path / "s.pt")
    again = replace(SMALL, weights=str(tmp_path / "d.pt"), backbone_from=str(tmp_path / "s.pt"))
    assert isinstance(detected_boxes(detector_of(again), segmenter), SharedBoxes)


def test_a_bundle_takes_one_pass(tmp_path):
    detector = detector_of(SMALL)
    segmenter = segmenter_on(detector, tmp_path / "d.pt")
    save_checkpoint(tmp_path / "s.pt", segmenter, tiny_config(), 1)
    write_bundle(tmp_path / "b", tmp_path / "d.pt", tmp_path / "s.pt")
    (tmp_path / "v").mkdir()
    for number, frame in enumerate(Frames().video):
        cv2.imwrite(str(tmp_path / "v" / f"{number:02}.png"), frame)
    loaded = aamn.load(tmp_path / "b", "cpu")
    backbone = loaded.loaded.segmenter.streams["rgb"].backbone
    passes = counted(backbone), counted(loaded.boxes.network)
    assert len(loaded.index(tmp_path / "v")) == COUNT
    assert (sum(passes[0]), sum(passes[1])) == (COUNT, 0)


def test_half_precision_stays_near_and_is_another_origin(tmp_path):
    detector = detector_of(SMALL)
    segmenter = segmenter_on(detector, tmp_path / "d.pt")
    whole = job(segmenter, DetectedBoxes(detector, 4))
    path = tmp_path / "v.h5"
    build_index(whole, path)
    half = replace(whole, precision="bfloat16")
    with pytest.raises(InputError, match="precision is"):
        build_index(half, path)
    build_index(half, tmp_path / "half.h5")
    found, wanted = IndexFile.read(tmp_path / "half.h5"), IndexFile.read(path)
    assert found.array("vectors").data.dtype == np.float32
    key = segmenter.input_spec.key  # elsewhere, rounding may link other boxes
    apart = found.array("masks")[:, :, key].astype(int) - wanted.array("masks")[:, :, key]
    assert 0 < abs(apart).max() < 8
    with pytest.raises(InputError, match="precision 'float8': wanted one of float32, bfloat16"):
        build_index(replace(whole, precision="float8"), tmp_path / "w.h5")
