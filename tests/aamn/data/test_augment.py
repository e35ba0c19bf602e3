"""Augmentation: a mirrored sample is what the mirror image would have given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aamn.config.schema import AugmentConfig
from aamn.data.augment import (
    Change,
    change_sample,
    check_augmentation,
    draw_change,
    mirror_boxes,
    swap_sides,
)
from aamn.data.words import Vocabulary
from aamn.structures import Clip, Geometry, Proposals, Sample, Target
from proposals.errors import InputError

VOCABULARY = Vocabulary(["man", "on", "the", "left", "right"])


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("man on the left", "man on the right"),
        ("the RIGHT dog left of a Left car", "the LEFT dog right of a Right car"),
        ("leftmost and right-hand side", "rightmost and left-hand side"),
        ("moving rightwards, leftover bright light", "moving leftwards, leftover bright light"),
        ("a cat", "a cat"),
        ("left, then right; the left-most", "right, then left; the right-most"),
        ("lefthand and rightside, LEFTMOST", "righthand and leftside, RIGHTMOST"),
        ("the leftward rightward one", "the rightward leftward one"),
        ("brighter, upright, cleft, lefty", "brighter, upright, cleft, lefty"),
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


def test_the_mirror_image_keeps_whatever_has_no_side() -> None:
    sample = make_sample()
    tagged = replace(sample.targets[0], instance=7, kind="motion", distractors=3)
    sample = replace(sample, targets=(tagged, sample.targets[0]), queries=sample.queries * 2)
    mirrored = change_sample(sample, Change(flip=True), VOCABULARY)
    (one, two), found = mirrored.targets, mirrored.proposals
    assert (one.instance, one.kind, one.distractors, two.instance) == (7, "motion", 3, 0)
    assert torch.equal(found.scores, sample.proposals.scores)
    assert torch.equal(found.valid, sample.proposals.valid)
    assert mirrored.clip.geometry == sample.clip.geometry
    assert sample.proposals.boxes[0, 0].tolist() == [1, 2, 4, 5]  # the sample is untouched
    assert sample.clip.flow[:, 0].equal(make_sample().clip.flow[:, 0])


def test_a_sample_without_flow_and_proposals_has_a_mirror_image() -> None:
    sample = make_sample()
    bare = replace(sample, proposals=None, clip=replace(sample.clip, flow=None))
    mirrored = change_sample(bare, Change(flip=True), VOCABULARY)
    assert mirrored.proposals is None and mirrored.clip.flow is None
    assert torch.equal(mirrored.clip.rgb[..., :16], sample.clip.rgb[..., :16].flip(-1))


@pytest.mark.parametrize(
    ("box", "mirrored"),
    [
        ([0, 1, 100, 5], [0, 1, 100, 5]),  # as wide as the frame
        ([0, 0, 1, 1], [99, 0, 100, 1]),  # the first column, then the last
        ([20.5, 3, 30, 9], [70, 3, 79.5, 9]),
    ],
)
def test_mirrored_boxes(box: list[float], mirrored: list[float]) -> None:
    assert mirror_boxes(torch.tensor([[box, box]], dtype=torch.float32), 100).tolist() == [
        [mirrored, mirrored]
    ]


def one_pixel(*rgb: float) -> Sample:
    """Two pixels with a mean of 0.5 in the corner of a square of 4: one of this colour."""
    square = torch.zeros(1, 3, 4, 4)
    square[0, :, 0, 0] = torch.tensor(rgb)
    square[0, :, 0, 1] = 1 - torch.tensor(rgb)
    clip = Clip("v", torch.tensor([0]), square, None, Geometry((1, 2), (4, 4), 1.0), 0)
    return Sample(clip, None, (), ())


@pytest.mark.parametrize(
    ("change", "first", "second"),
    [
        (Change(), [0.9, 0.3, 0.3], [0.1, 0.7, 0.7]),
        (Change(brightness=0.5), [0.45, 0.15, 0.15], [0.05, 0.35, 0.35]),
        (Change(brightness=2), [1, 0.6, 0.6], [0.2, 1, 1]),
        (Change(contrast=0.5), [0.7, 0.4, 0.4], [0.3, 0.6, 0.6]),
        (Change(contrast=2), [1, 0.1, 0.1], [0, 0.9, 0.9]),
        (Change(saturation=0.5), [0.7, 0.4, 0.4], [0.3, 0.6, 0.6]),
        (Change(saturation=1.5), [1, 0.2, 0.2], [0, 0.8, 0.8]),
        (Change(brightness=0.5, contrast=0.5), [0.35, 0.2, 0.2], [0.15, 0.3, 0.3]),
    ],
)
def test_colours_by_hand(change: Change, first: list[float], second: list[float]) -> None:
    # the mean over the frame is 0.5, the pixels' own greys are 0.5 as well
    rgb = change_sample(one_pixel(0.9, 0.3, 0.3), change, VOCABULARY).clip.rgb
    assert rgb[0, :, 0, 0].tolist() == pytest.approx(first, abs=1e-6)
    assert rgb[0, :, 0, 1].tolist() == pytest.approx(second, abs=1e-6)
    assert not rgb[..., 1:, :].any() and not rgb[..., 2:].any()


def test_saturation_turns_each_pixel_about_its_own_grey() -> None:
    sample = one_pixel(0.2, 0.0, 0.1)  # grey 0.1; the other pixel's is 0.9
    rgb = change_sample(sample, Change(saturation=0.0), VOCABULARY).clip.rgb
    assert torch.allclose(rgb[0, :, 0, :2], torch.tensor([[0.1, 0.9]] * 3))


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
        ("contrast", 0.8, 1.2),
        ("saturation", 0.8, 1.2),
        ("shrink", 0.7, 1.0),
    ):
        values = [getattr(draw, name) for draw in draws]
        assert low <= min(values) < low + 0.01 and high - 0.01 < max(values) <= high
    assert all(len({d.brightness, d.contrast, d.saturation}) == 3 for d in draws[:9])
    for name, middle in (("brightness", 1.0), ("contrast", 1.0), ("shrink", 0.85)):
        above = [getattr(draw, name) > middle for draw in draws if draw.flip]
        assert 0.4 < sum(above) / len(above) < 0.6, f"{name} tells whether a sample is mirrored"


def test_certain_changes_and_impossible_ones() -> None:
    draws = [draw_change(AugmentConfig(flip=1.0), (0, 0, i)) for i in range(50)]
    assert all(draw == Change(flip=True) for draw in draws)
    assert len({draw_change(AugmentConfig(colour=1.0), (s, 0, 0)) for s in range(5)}) == 5
    assert len({draw_change(AugmentConfig(scale=0.5), (0, e, 0)).shrink for e in range(5)}) == 5


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("flip", 0.0, True),
        ("flip", 1.0, True),
        ("flip", 1.01, False),
        ("colour", 1.0, True),
        ("colour", -0.01, False),
        ("colour", 1.01, False),
        ("scale", 0.9, True),
        ("scale", 0.91, False),
        ("scale", -0.5, False),
    ],
)
def test_strengths_outside_their_range_are_refused(name: str, value: float, allowed: bool) -> None:
    config = AugmentConfig(**{name: value})
    if allowed:
        check_augmentation(config)
        return
    with pytest.raises(InputError, match=rf"augment\.{name}: .* got {value}"):
        check_augmentation(config)
