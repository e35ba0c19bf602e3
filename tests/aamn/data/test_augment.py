"""Augmentation: a mirrored sample is what the mirror image would have given."""

from __future__ import annotations

import pytest
import torch

from aamn.config import AugmentConfig
from aamn.data.augment import Change, change_sample, draw_change, swap_sides
from aamn.data.words import Vocabulary
from aamn.structures import Clip, Geometry, Proposals, Sample, Target

VOCABULARY = Vocabulary(["man", "on", "the", "left", "right"])


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("man on the left", "man on the right"),
        ("the RIGHT dog left of a Left car", "the LEFT dog right of a Right car"),
        ("leftmost and right-hand side", "rightmost and left-hand side"),
        ("moving rightwards, leftover bright light", "moving leftwards, leftover bright light"),
        ("a cat", "a cat"),
    ],
)
def test_left_and_right_change_places(text: str, mirrored: str) -> None:
    assert swap_sides(text) == mirrored
    assert swap_sides(mirrored) == text


def make_sample() -> Sample:
    """A 10x8 frame in a 20x20 square: content 20x16."""
    geometry = Geometry.fit((10, 8), (20, 20))
    generator = torch.Generator().manual_seed(0)
    rgb, flow = torch.zeros(1, 3, 20, 20), torch.zeros(1, 2, 20, 20)
    rgb[..., :16] = torch.rand(1, 3, 20, 16, generator=generator)
    flow[..., :16] = torch.randn(1, 2, 20, 16, generator=generator)
    proposals = Proposals(
        torch.tensor([0]),
        torch.tensor([[[1.0, 2, 4, 5], [0, 0, 0, 0]]]),
        torch.tensor([[0.9, 0.0]]),
        torch.zeros(1, 2, dtype=torch.int64),
        torch.tensor([[True, False]]),
    )
    mask = torch.zeros(10, 8, dtype=torch.bool)
    mask[2:5, 1:4] = True
    return Sample(
        Clip("v", torch.tensor([0]), rgb, flow, geometry, 0),
        proposals,
        (VOCABULARY.encode("man on the left"),),
        (Target(0, torch.tensor([1.0, 2, 4, 5]), mask),),
    )


def test_the_mirror_image_of_everything() -> None:
    sample = make_sample()
    mirrored = change_sample(sample, Change(flip=True), VOCABULARY)
    assert mirrored.proposals.boxes.tolist() == [[[4, 2, 7, 5], [0, 0, 0, 0]]]
    assert mirrored.targets[0].box.tolist() == [4, 2, 7, 5]
    assert mirrored.targets[0].mask[2:5, 4:7].all() and mirrored.targets[0].mask.sum() == 9
    assert mirrored.queries[0].words.tolist() == [2, 3, 4, 6]
    for x in range(16):
        assert torch.equal(mirrored.clip.rgb[..., x], sample.clip.rgb[..., 15 - x])
        assert torch.equal(mirrored.clip.flow[:, 0, :, x], -sample.clip.flow[:, 0, :, 15 - x])
        assert torch.equal(mirrored.clip.flow[:, 1, :, x], sample.clip.flow[:, 1, :, 15 - x])
    assert not mirrored.clip.rgb[..., 16:].any() and not mirrored.clip.flow[..., 16:].any()


def test_mirroring_twice_changes_nothing() -> None:
    sample = make_sample()
    flip = Change(flip=True)
    twice = change_sample(change_sample(sample, flip, VOCABULARY), flip, VOCABULARY)
    assert torch.equal(twice.clip.rgb, sample.clip.rgb)
    assert torch.equal(twice.clip.flow, sample.clip.flow)
    assert torch.equal(twice.targets[0].mask, sample.targets[0].mask)
    assert twice.queries[0].text == "man on the left"


def test_colours_change_inside_the_frame_only() -> None:
    sample = make_sample()
    darker = change_sample(sample, Change(brightness=0.5), VOCABULARY).clip.rgb
    assert torch.allclose(darker, sample.clip.rgb / 2)
    flat = change_sample(sample, Change(contrast=0.0), VOCABULARY).clip.rgb
    assert torch.allclose(flat[..., :16], sample.clip.rgb[..., :16].mean())
    assert not flat[..., 16:].any()
    grey = change_sample(sample, Change(saturation=0.0), VOCABULARY).clip.rgb
    assert torch.allclose(grey[:, 0], grey[:, 2]) and grey.max() <= 1
    assert not torch.equal(sample.clip.rgb[:, 0], sample.clip.rgb[:, 2])  # the sample is untouched


def test_draws() -> None:
    assert draw_change(AugmentConfig(), (1, 2, 3)) == Change()
    config = AugmentConfig(flip=0.25, colour=0.2, scale=0.3)
    draws = [draw_change(config, (0, 0, i)) for i in range(2000)]
    assert draws[5] == draw_change(config, (0, 0, 5)) != draws[6]
    assert sum(draw.flip for draw in draws) / 2000 == pytest.approx(0.25, abs=0.03)
    for name, low, high in (
        ("brightness", 0.8, 1.2),
        ("saturation", 0.8, 1.2),
        ("shrink", 0.7, 1.0),
    ):
        values = [getattr(draw, name) for draw in draws]
        assert low <= min(values) < low + 0.01 and high - 0.01 < max(values) <= high
