"""Operations of single layers, counted by hand."""

import pytest
import torch
from tiny_models import tiny_config
from torch import nn

from aamn.experiments.flops import _count, _detector_parts, _input_size, frame_flops
from proposals.config import DetectorConfig


@pytest.mark.parametrize(
    ("layer", "shape", "operations"),
    [
        (nn.Linear(5, 3), (2, 5), 2 * 2 * 5 * 3),
        (nn.Conv2d(3, 4, 3, padding=1), (1, 3, 6, 8), 2 * 6 * 8 * 4 * 3 * 9),
        (nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 6, 8), 2 * 2 * 3 * 4 * 4 * 3 * 9),
        (nn.ReLU(), (2, 5), 0),
    ],
)
def test_a_multiplication_and_its_addition_are_two_operations(layer, shape, operations):
    counted, answer = _count(layer, torch.empty(shape))
    assert counted == operations
    assert answer.shape == layer(torch.empty(shape)).shape


@pytest.mark.parametrize(
    ("values", "size", "inside"),
    [
        # 240 x 320: the shorter side becomes 320, the longer 426.7, padded to multiples of 32
        ({"min_size": 320, "max_size": 576}, (240, 320), (320, 448)),
        ({"min_size": 320, "max_size": 576}, (320, 240), (448, 320)),
        # 100 x 400: the longer side's bound holds, 576 / 400 = 1.44
        ({"min_size": 320, "max_size": 576}, (100, 400), (160, 576)),
        ({"min_size": 320, "max_size": 576}, (320, 320), (320, 320)),
        ({"square": 96, "min_size": 320}, (100, 400), (96, 96)),
    ],
)
def test_the_detector_s_input_with_its_padding(values, size, inside):
    assert _input_size(DetectorConfig(**values), size) == inside


def test_matching_is_a_clip_s_work_divided_among_its_frames():
    """4 tubes and the whole frame; 3 frames of a clip. C_v = 12, C_v' = 14, C_e = 6, C_c = 9."""
    counted = frame_flops(tiny_config(), None, (40, 50))
    wider = frame_flops(tiny_config("aamn.radius=2"), None, (40, 50))
    assert counted["matching"] * 3 == pytest.approx(wider["matching"] * 5)
    more = frame_flops(tiny_config("aamn.tube_channels=15"), None, (40, 50))
    # One more channel of both streams' tube layers (5 rows of 12), of the actor's match (4 x 10),
    # of the fusion's appearance and motion (4 x 6 each) and of the contextual LSTM's input
    # (a sequence of four for each of 4 tubes, 4 gates of 9).
    added = 2 * (2 * 5 * 12 + 4 * 10 + 2 * 4 * 6 + 4 * 4 * 4 * 9)
    assert (more["matching"] - counted["matching"]) * 3 == pytest.approx(added)


SMALL = {"name": "small", "square": 48, "widths": (8, 16), "strides": (4, 2), "head": 16}


def test_a_detector_s_parts_by_hand():
    config = DetectorConfig(**SMALL, proposals=20, pool=3, anchors=(8, 16), ratios=(0.5, 1.0, 2.0))
    with torch.device("meta"), torch.no_grad():
        counted = _detector_parts(config, (40, 50))
    # At 6 x 6 cells, a 3 x 3 layer, then one score and four numbers for each of six anchors.
    assert counted["detector's proposals"] == 2 * 36 * 16 * (16 * 9 + 6 * 5)
    first, second = 16 * 3 * 3 * 16, 16 * 16
    # Background and one class; four numbers of each.
    assert counted["detector's boxes"] == 2 * 20 * (first + second + 16 * (2 + 2 * 4))
    backbone = frame_flops(tiny_config(), None, (40, 50))["rgb backbone"]
    assert counted["detector's backbone"] == backbone, "the same layers at the same size"


@pytest.mark.parametrize(
    ("values", "once"),
    [({}, True), ({"square": 64}, False), ({"square": 0}, False)],
)
def test_a_backbone_is_counted_once_where_form_and_square_are_the_same(values, once):
    detector = DetectorConfig(**{**SMALL, **values})
    counted = frame_flops(tiny_config(), detector, (40, 50))
    assert ("rgb backbone" not in counted) == once
    assert "detector's backbone" in counted and "flow backbone" in counted
