"""COCO's average precision of scored masks, on cases whose numbers can be worked out by hand."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as rle
from tiny_models import random_sample, tiny_segmenter

from aamn.evaluation.coco_ap import average_precision, scored_masks
from aamn.evaluation.metrics import mean_precision
from aamn.structures import Clip, Geometry, MaskTrack, Query, Sample, Target

CLIP = Clip("v", torch.arange(1), torch.zeros(1, 3, 4, 4), None, Geometry.fit((4, 4), (4, 4)), 0)


segmenter = functools.cache(tiny_segmenter)


def sample_and_tracks(answers, scores):
    """A sample with one sentence an answer; an answer is the share of its target's rows."""
    sample = random_sample(segmenter(), lengths=(2,) * len(answers))
    tracks = []
    for target, share, score in zip(sample.targets, answers, scores, strict=True):
        rows = torch.nonzero(target.mask.any(1)).flatten()
        mask = target.mask.clone()
        mask[rows[round(len(rows) * share) :]] = False
        frames = torch.arange(1)
        tracks.append(MaskTrack("v", "s", frames, torch.zeros(1, 4), mask[None], score))
    return sample, tracks


@pytest.mark.parametrize(
    ("answers", "scores", "expected"),
    [
        ((1, 1), (0.9, 0.1), 1.0),
        # COCO reads precision at 101 recalls; the right answer comes first: 51 of them are 1.
        ((1, 0.2), (0.9, 0.1), 51 / 101),
        # The wrong answer comes first: at a recall of one half the precision is one half.
        ((1, 0.2), (0.1, 0.9), 51 / 101 / 2),
        # An empty answer is a wrong one, which comes first or last as its score says.
        ((1, 0), (0.1, 0.9), 51 / 101 / 2),
        ((1, 0), (0.9, 0.1), 51 / 101),
        ((0, 0), (0.1, 0.9), 0.0),
    ],
)
def test_average_precision_by_hand(answers, scores, expected):
    found = average_precision(scored_masks(*sample_and_tracks(answers, scores), 0))
    assert found["coco_ap"] == pytest.approx(expected, abs=1e-6)
    assert found["coco_ap50"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("answers", "scores", "mttr", "nonempty"),
    [
        # Right, empty, right: two of four sentences are ever found. At the 26 recalls up to 1/4
        # precision is 1; at the 25 up to 1/2 it is 2/3 with the empty answer, 1 without it.
        ((1, 0, 1, 0), (0.9, 0.8, 0.7, 0.1), (26 + 25 * 2 / 3) / 101, 51 / 101),
        # The empty answer comes first: at best two of three are right, wherever one looks.
        ((1, 0, 1, 0), (0.8, 0.9, 0.7, 0.1), 51 * (2 / 3) / 101, 51 / 101),
        # Without empty answers both are one number; with nothing else both are nothing.
        ((1, 0.2), (0.1, 0.9), 51 / 101 / 2, 51 / 101 / 2),
        ((0, 0), (0.1, 0.9), 0.0, 0.0),
    ],
)
def test_empty_answers_by_hand(answers, scores, mttr, nonempty):
    """MTTR's protocol counts them as false positives of their scores."""
    found = average_precision(scored_masks(*sample_and_tracks(answers, scores), 0))
    for name in ("coco_ap", "coco_ap50", "coco_ap75"):
        assert found[name] == pytest.approx(mttr, abs=1e-6)
        assert found[f"{name}_nonempty"] == pytest.approx(nonempty, abs=1e-6)


def test_it_is_not_the_mean_of_precisions():
    """Order by score moves the one and not the other."""
    orders = [((1, 0.2), (0.9, 0.1)), ((1, 0.2), (0.1, 0.9))]
    masks = [scored_masks(*sample_and_tracks(*order), 0) for order in orders]
    assert average_precision(masks[0])["coco_ap"] > average_precision(masks[1])["coco_ap"]
    assert mean_precision([1, 0.2]) == mean_precision([0.2, 1]) == 0.5


def masks_of(*spans, size=(2, 50)):
    """Masks of whole columns start..stop-1."""
    masks = torch.zeros(len(spans), *size, dtype=torch.bool)
    for mask, (start, stop) in zip(masks, spans, strict=True):
        mask[:, start:stop] = True
    return masks


def scored(sentences, key=0):
    """(truth, answers by frame, score) of each sentence, as `scored_masks` gets them."""
    targets, queries, tracks = [], [], []
    for truth, frames, score in sentences:
        targets.append(Target(0, torch.zeros(4), masks_of(truth)[0]))
        queries.append(Query("s", ("s",), torch.tensor([2])))
        n = len(frames)
        tracks.append(
            MaskTrack("v", "s", torch.arange(n), torch.zeros(n, 4), masks_of(*frames), score)
        )
    return scored_masks(Sample(CLIP, None, tuple(queries), tuple(targets)), tracks, key)


@pytest.mark.parametrize(
    ("stop", "ap", "ap50", "ap75"),
    [
        # IoU with columns 0..19: the share of the ten thresholds 0.50, 0.55, ... at or below it.
        (20, 1.0, 1, 1),
        (16, 0.7, 1, 1),  # 0.8
        (14, 0.5, 1, 0),  # 0.7
        (11, 0.2, 1, 0),  # 0.55
        (9, 0.0, 0, 0),
        (40, 0.1, 1, 0),  # 0.5: too much costs as too little
    ],
)
def test_the_three_averages_by_hand(stop, ap, ap50, ap75):
    found = average_precision(scored([((0, 20), [(0, stop)], 0.3)]))
    names = ["coco_ap", "coco_ap50", "coco_ap75"]
    assert list(found) == [*names, *(f"{name}_nonempty" for name in names)]
    assert list(found.values()) == pytest.approx([ap, ap50, ap75] * 2)


@pytest.mark.parametrize(("key", "expected"), [(0, 0), (1, 1), (2, 0)])
def test_the_key_frames_mask_is_the_answer(key, expected):
    frames = [(30, 50), (0, 20), (10, 40)]
    assert average_precision(scored([((0, 20), frames, 0.3)], key))["coco_ap"] == pytest.approx(
        expected
    )


def test_answers_are_compared_with_the_truth_of_their_own_sentence():
    swapped = [((0, 20), [(20, 40)], 0.5), ((20, 40), [(0, 20)], 0.5)]
    assert average_precision(scored(swapped))["coco_ap"] == 0
    assert average_precision(iter(scored([(t, [t], 0.5) for t, _, _ in swapped])))[
        "coco_ap"
    ] == pytest.approx(1)


def test_every_sentence_wants_its_answer():
    sample, tracks = sample_and_tracks((1, 1), (0.9, 0.1))
    with pytest.raises(ValueError):
        scored_masks(sample, tracks[:1], 0)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools' own
@given(mask=arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_a_coded_mask_is_the_mask(mask):
    """Pixel by pixel, high or wide, with the score beside it."""
    target = Target(0, torch.zeros(4), torch.from_numpy(mask))
    answer = MaskTrack(
        "v", "s", torch.arange(1), torch.zeros(1, 4), torch.from_numpy(~mask)[None], 0.25
    )
    query = Query("s", ("s",), torch.tensor([2]))
    (coded,) = scored_masks(Sample(CLIP, None, (query,), (target,)), [answer], 0)
    np.testing.assert_array_equal(rle.decode(coded.truth), mask)
    np.testing.assert_array_equal(rle.decode(coded.answer), ~mask)
    assert coded.score == 0.25


def test_nothing_is_an_error():
    with pytest.raises(ValueError, match="no masks"):
        average_precision([])
