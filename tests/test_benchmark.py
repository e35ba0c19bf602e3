"""The benchmark on a tiny model and a few frames: it runs and its tables add up."""

import importlib
import re
import sys
from pathlib import Path

import pytest
from tiny_models import TINY, tiny_config

from aamn.config import Config, load_config
from proposals.detector import DetectorConfig

CONFIGS = Path(__file__).parents[1] / "configs"
DETECTOR = """
name: small
square: 48
widths: [8, 16]
strides: [4, 2]
head: 16
proposals: 8
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "detector.yaml"
    path.write_text(DETECTOR)
    return path


def printed(monkeypatch, capsys, *more):
    """What the program prints, and the first number behind each name."""
    words = [word for value in TINY for word in ("--set", value)]
    size = ["--frames", "7", "--width", "50", "--height", "40"]
    arguments = ["benchmark", *words, *size, "--no-memory", *map(str, more)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("command_line").run(importlib.import_module("benchmark").main)
    assert not ended.value.code
    said = capsys.readouterr().out
    rows = re.findall(r"^ *([\w,:'\- ]+?) +(\d+\.\d+)", said, re.M)
    return said, {name: float(value) for name, value in rows}


def test_the_table_has_every_part(monkeypatch, capsys):
    _, numbers = printed(monkeypatch, capsys)
    parts = ("boxes", "decoding", "flow", "masks", "preparing", "streams", "tubes", "writing")
    sum_of_parts = sum(numbers[part] for part in (*parts, "rest"))
    assert sum_of_parts == pytest.approx(numbers["indexing"], abs=1)  # each is rounded to 0.1
    for name in ("first sentence", "each further sentence", "clip by clip, one sentence"):
        assert numbers[name] > 0


def test_it_computes_the_networks_in_several_ways_and_names_the_fastest(monkeypatch, capsys):
    said, numbers = printed(monkeypatch, capsys)
    names = ["float32", "channels_last", "bfloat16", "bfloat16, channels_last"]
    assert all(numbers[name] > 0 for name in names)
    assert re.search(r"^fastest here: (.+)$", said, re.M)[1] in names


def test_detailed_masks_can_be_measured(monkeypatch, capsys):
    _, numbers = printed(monkeypatch, capsys, "--set", "aamn.mask_head.detail_stride=4")
    assert numbers["masks"] > 0 and numbers["forward passes and flow alone"] > 0


def test_a_detector_on_the_shared_trunk_is_measured_and_counted_once(monkeypatch, capsys, recipe):
    _, numbers = printed(monkeypatch, capsys, "--detector", recipe)
    assert numbers["boxes"] > 0
    assert "detector's trunk" in numbers and "rgb trunk" not in numbers
    _, apart = printed(monkeypatch, capsys, "--detector", recipe, "--set", "aamn.size=64")
    assert "rgb trunk" in apart


@pytest.fixture(scope="module")
def frame_flops():
    return importlib.import_module("frame_cost").frame_flops


def test_the_shared_pyramid_costs_at_most_80_gflop_a_frame(frame_flops):
    """Both streams, matching and masks with the detector; the paper's system costs 5 times that."""
    size = (240, 320)
    shared, papers = (
        frame_flops(
            load_config(Config, CONFIGS / recipe),
            load_config(DetectorConfig, CONFIGS / detector),
            size,
        )
        for recipe, detector in (
            ("aamn_r50fpn_shared.yaml", "detector_r50fpn_shared.yaml"),
            ("aamn_vgg16_a2d.yaml", "detector_resnet101_fpn.yaml"),
        )
    )
    assert 30e9 < sum(shared.values()) <= 80e9
    assert sum(papers.values()) > 400e9
    assert "rgb trunk" in papers and "rgb trunk" not in shared
    # VGG-16's convolutions: 15.35e9 multiply-adds at 224 x 224 (Simonyan and Zisserman, 2015)
    assert papers["rgb trunk"] == pytest.approx(2 * 15.35e9 * (512 / 224) ** 2, rel=0.01)


def test_parts_are_counted_by_hand(frame_flops):
    """The tiny model: FC6 and FC7 of 1 + 4 regions, the mask head on 4 of them."""
    counted = frame_flops(tiny_config(), None, (40, 50))
    assert counted["rgb regions"] == counted["flow regions"] == 2 * 5 * (16 * 49 * 12 + 12 * 12)
    cells = 4 * 14 * 14
    head = 2 * cells * (32 * 7 + 7 * 7 * 9 + 7 * 1 * 4)
    assert counted["mask head"] == head
    first = 12 * 12 * 8 * (3 + 2 * 8) * 9
    second = 6 * 6 * 16 * (8 + 2 * 16) * 9
    assert counted["rgb trunk"] == counted["flow trunk"] == 2 * (first + second)
