"""The paper's model by its parts, and single steps of a model of its shape."""

import pytest
import torch
from paper_size import count_parts, time_steps
from tiny_models import TINY

from aamn.config import Config, load_config
from aamn.models.build import build_segmenter

VGG = 14_714_688  # torchvision's vgg16().features
FC6, FC7 = 512 * 7 * 7 * 4096 + 4096, 4096 * 4096 + 4096


def lstm(inputs, hidden):
    """One direction of one layer with both of torch's bias vectors."""
    return 4 * hidden * (inputs + hidden + 2)


def linear(inputs, outputs):
    return inputs * outputs + outputs


@pytest.fixture(scope="module")
def counts():
    config = load_config(Config)
    with torch.device("meta"):
        return dict(count_parts(build_segmenter(config, 2000), 3))


@pytest.mark.parametrize(
    ("part", "parameters"),
    [
        ("streams.rgb.backbone", VGG),
        ("streams.flow.head", FC6 + FC7),
        ("streams", 2 * (VGG + FC6 + FC7)),
        ("tube_layers", 2 * linear(4096, 1024)),
        ("language.embedding", 2000 * 300),
        ("language.attention", 2 * (lstm(300, 512) + lstm(1024, 512)) + 2 * 2048),
        ("parts.actor", linear(1029, 512) + linear(300, 512) + 513),
        ("parts.action.context", lstm(1024, 512) + linear(512, 512) + 512),
        ("parts.action.fusion", linear(1536, 300) + linear(1024, 300) + linear(600, 300)),
        ("parts.action.matching", 2 * linear(300, 512) + 513),
        ("mask_head", linear(1024, 256) + 3 * linear(256 * 9, 256) + 256 * 4 + 1),
        ("all", 294_535_911),
    ],
)
def test_the_papers_parts_have_the_sizes_of_its_layers(counts, part, parameters):
    assert counts[part] == parameters


def test_parts_add_up(counts):
    children = ("streams", "tube_layers", "language", "parts", "mask_head")
    assert sum(counts[child] for child in children) == counts["all"]


def test_single_steps_run_and_are_timed():
    config = load_config(Config, None, list(TINY))
    seconds = time_steps(config, ["train", "infer"])
    assert list(seconds) == ["train", "infer"] and min(seconds.values()) > 0
