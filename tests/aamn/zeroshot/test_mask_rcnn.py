"""torchvision's Mask R-CNN, its real class with random weights, as detector and as mask source."""

import pytest
import torch
from tiny_zeroshot import CLASSES, draw, tiny_config

from aamn.config.loading import load_config
from aamn.index.box_source import SharedBoxes, detected_boxes
from aamn.index.query_encoder import QueryEncoder
from aamn.predictor import VideoSegmenter
from aamn.zeroshot.assemble import assemble
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.errors import InputError
from proposals.torchvision_rcnn import MASKED, published_classes

SMALL = DetectorConfig(
    name=MASKED,
    weights="",
    classes=CLASSES,
    square=96,
    proposals=8,
    score_threshold=0.0,
    boxes_per_frame=4,
)


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    config = tiny_config("zeroshot.masks=rcnn", recipe="zeroshot_attributes")
    return assemble(config, build_detector(SMALL).eval())


@pytest.mark.slow
def test_boxes_and_masks_come_from_one_backbone(parts):
    segmenter = parts.loaded.segmenter
    assert isinstance(detected_boxes(parts.detector, segmenter), SharedBoxes)
    index = VideoSegmenter(QueryEncoder(parts.loaded), parts.detector).index(draw(3))
    assert index.file.array("masks").shape[-2:] == (28, 28)
    (track,) = index.query("the red dog", absent_threshold=None)
    assert track.masks().shape == (3, 48, 96) and bool(index.file.array("valid")[:].any())


def test_boxes_do_not_touch_each_other(parts):
    source = parts.loaded.segmenter.rcnn
    with torch.inference_mode():
        images = torch.rand(2, 3, 96, 96)
        maps = (*source.maps(images), images)
        frames = torch.tensor([1, 0, 1])
        boxes = torch.tensor([[4.0, 4, 40, 50], [10, 20, 90, 80], [30, 8, 70, 90]])
        together, names = source(maps, frames, boxes), source.classify(maps, frames, boxes)
        assert together.shape == (3, 28, 28) and names.shape == (3, 3)
        for place in range(3):
            one = slice(place, place + 1)
            alone = source(maps, frames[one], boxes[one])
            torch.testing.assert_close(together[one], alone, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(
                names[one], source.classify(maps, frames[one], boxes[one]), atol=1e-4, rtol=1e-4
            )
        assert source(maps, frames[:0], boxes[:0]).shape == (0, 28, 28)


def test_it_is_not_fine_tuned(parts):
    with pytest.raises(InputError, match="used as published; fine-tune resnet50_fpn_v2"):
        parts.detector.network.losses([], [], [])


def test_the_published_classes():
    classes = published_classes()
    recipe = load_config(DetectorConfig, "detector_coco_masks", ["weights="])
    assert build_detector(recipe).config.classes == classes and recipe.square == 640
    assert classes[:2] == ("person", "bicycle") and len(classes) == 90 and "N/A" in classes
