"""COCO's average precision of scored masks, on cases whose numbers can be worked out by hand."""

import pytest
import torch
from tiny_models import random_sample, tiny_segmenter

from aamn.coco import average_precision, scored_masks
from aamn.metrics import mean_precision
from aamn.structures import MaskTrack


def sample_and_tracks(answers, scores):
    """A sample with one sentence an answer; an answer is the share of its target's rows."""
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter, lengths=(2,) * len(answers))
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
        # An empty answer is no answer, whatever its score.
        ((1, 0), (0.1, 0.9), 51 / 101),
        ((0, 0), (0.1, 0.9), 0.0),
    ],
)
def test_average_precision_by_hand(answers, scores, expected):
    found = average_precision(scored_masks(*sample_and_tracks(answers, scores), 0))
    assert found["coco_ap"] == pytest.approx(expected, abs=1e-6)
    assert found["coco_ap50"] == pytest.approx(expected, abs=1e-6)


def test_it_is_not_the_mean_of_precisions():
    """Order by score moves the one and not the other."""
    orders = [((1, 0.2), (0.9, 0.1)), ((1, 0.2), (0.1, 0.9))]
    masks = [scored_masks(*sample_and_tracks(*order), 0) for order in orders]
    assert average_precision(masks[0])["coco_ap"] > average_precision(masks[1])["coco_ap"]
    assert mean_precision([1, 0.2]) == mean_precision([0.2, 1]) == 0.5


def test_nothing_is_an_error():
    with pytest.raises(ValueError, match="no masks"):
        average_precision([])
