"""Which answers are shown, and an answer beside the one with words weighted at random."""

from dataclasses import replace

import numpy as np
import torch

from aamn.report_cases import (
    Case,
    Contrast,
    contrast_article,
    contrast_summary,
    pick_cases,
    pick_contrasts,
)
from aamn.structures import MaskTrack, Row, Target, TubeScores


def row(iou, video="v", text="s", union=100):
    return Row(video, 0, 0, text, "", round(iou * union), union)


def test_best_and_worst_come_from_different_videos():
    rows = [row(0.9, "a"), row(0.8, "a"), row(0.7, "b"), row(0.1, "c"), row(0.0, "d"), row(0, "e")]
    assert pick_cases(rows, 2) == ([0, 2], [4, 5])
    assert pick_cases(rows, 9) == ([0, 2, 3, 4, 5], [1])


def test_among_equals_the_larger_mistake_comes_first():
    assert pick_cases([row(0, "a"), row(0, "b", union=900), row(1, "c")], 1) == ([2], [1])


def test_contrasts_are_the_longest_sentences_and_first_those_answered_right():
    rows = [
        row(0.9, "a", "cat"),
        row(0.8, "a", "the small cat"),
        row(0.4, "b", "the cat that is wrong"),
        row(0.6, "b", "a cat"),
        row(0.7, "c", "a dog"),
        row(0.5, "d", "a dog that is half right"),
    ]
    assert pick_contrasts(rows, 9) == [1, 4, 3, 5]
    assert pick_contrasts(rows, 2) == [1, 4]


def square(x1, x2):
    mask = torch.zeros(20, 30, dtype=torch.bool)
    mask[5:15, x1:x2] = True
    return mask


def track(mask, actor, key=0):
    """A clip of two frames; in the one that is not the key frame nothing is marked."""
    scores = TubeScores(*torch.zeros(3, 1), torch.tensor(actor), torch.tensor([0.5, 0.5]))
    masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    masks[key] = mask
    boxes = torch.tensor([[0.0, 0, 20, 15]]).expand(2, 4)
    return MaskTrack("v", "red dog", torch.tensor([3, 4]), boxes, masks, 0.0, scores, 0)


def contrast():
    """The answer covers the truth's ten columns, the other one five of them and five beside."""
    case = Case(
        row=Row("v<1>", 0, 3, "red dog", "motion", 100, 100),
        tokens=("red", "dog"),
        frames=np.full((1, 20, 30, 3), 90, np.uint8),
        key=0,
        target=Target(0, torch.tensor([10.0, 5, 20, 15]), square(10, 20)),
        track=track(square(10, 20), [0.25, 0.75]),
    )
    return Contrast(case, track(square(15, 25), [0.875, 0.125], 1), 1)


def test_the_iou_with_random_weights_by_hand():
    assert contrast().random_iou == 50 / 150
    nothing = torch.zeros(20, 30, dtype=torch.bool)
    found = contrast()
    empty = replace(found.case.target, mask=nothing)
    assert replace(found, case=replace(found.case, target=empty)).random_iou == 0
    agreed = Contrast(replace(found.case, target=empty), track(nothing, [0.5, 0.5]), 0)
    assert agreed.random_iou == 1


def test_a_contrast_says_both_ious_and_both_weights():
    page = contrast_article(contrast())
    assert page.count("<img") == 3
    assert "predicted weights, IoU 1.00" in page and "random weights, IoU 0.33" in page
    before, after = page.split("predicted weights, IoU 1.00</figcaption>")[1].split("<img")
    for words, weights in ((before, ("0.250", "0.750")), (after, ("0.875", "0.125"))):
        for word, weight in zip(("red", "dog"), weights, strict=True):
            at = words.index(f"title='{weight}'")
            assert words[at:].split(">")[1].startswith(word)
    assert "v&lt;1&gt;, frame 4, motion" in page


def test_the_summary_is_the_mean_over_the_sentences():
    found = contrast()
    same = Contrast(found.case, found.case.track, 0)
    assert "Mean IoU of these 2: 100.0 with the predicted" in contrast_summary([found, same])
    assert "66.7 with random" in contrast_summary([found, same])
