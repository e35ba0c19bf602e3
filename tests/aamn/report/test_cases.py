"""Which answers are shown, and an answer beside the one with words weighted at random."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from read_page import Page, numbers

from aamn.report.cases import (
    ANSWER,
    CONTEXT,
    TRUTH,
    Case,
    Contrast,
    pick_cases,
    pick_contrasts,
)
from aamn.report.render import render
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
    page = Page(render("contrast.html", contrast=contrast())).sections[0]
    assert [caption for caption, _ in page.pictures] == [
        "ground truth",
        "predicted weights, IoU 1.00",
        "random weights, IoU 0.33",
    ]
    weights = [(word, given["title"]) for word, given in page.spans if "title" in given]
    predicted, random = [("red", "0.250"), ("dog", "0.750")], [("red", "0.875"), ("dog", "0.125")]
    half = [("red", "0.500"), ("dog", "0.500")]  # the weights of the actions
    assert weights == [*predicted, *half, *random, *half]
    assert "v<1>, frame 4, motion" in page.text
    truth, ours, random = (picture for _, picture in page.pictures)
    for picture, column, colour in (
        (truth, 15, TRUTH),
        (ours, 15, ANSWER),
        (random, 17, ANSWER),
        (ours, 22, None),
        (random, 22, ANSWER),
        (random, 12, None),
    ):
        assert_shown(picture, column, 10, colour)


def assert_shown(picture, x, y, colour):
    """The frame's pixel (x, y), of brightness 90: as it is inside a mask of some colour, dimmed
    outside; the picture has 16 pixels for each of the frame's."""
    level = 36 if colour is None else 90
    found = picture[16 * y + 8, 16 * x + 8]
    np.testing.assert_allclose(found, [level] * 3, atol=12, err_msg=f"{x} {y}")


def assert_line(picture, x, y, colour):
    """A line of this colour stands at the left side of the frame's pixel (x, y), on dimmed ground;
    a JPEG's colours are blurred."""
    line = picture[16 * y - 8 : 16 * y + 8, 16 * x].mean(0) - 36
    assert np.corrcoef(line, colour)[0, 1] > 0.9 and np.abs(line).max() > 40, line


def test_a_contrast_counts_the_key_frame_of_each_answer():
    """The other segmenter's key frame is at another place: there its mask is, elsewhere nothing."""
    found = contrast()
    assert replace(found, key=0).random_iou == 0


def answer():
    """Four frames of brightness 90, 90, 120 and 150 whose key frame is the second; tube 2 of 3 is
    chosen, which listens most to tube 3."""
    rows = [
        torch.tensor([a, b, -np.inf, c]) for a, b, c in ((1, 2.5, 0), (0.75, 2, 1), (0.25, 0.5, 1))
    ]
    weights = torch.tensor([[1.0, 0, 0], [0.375, 0.0, 0.625], [0, 0, 0], [0.5, 0.25, 0.25]])
    members = torch.tensor([[-1, 1, 3], [-1, 0, 3], [0, 0, 0], [-1, 0, 1]])
    words = torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5])
    masks = torch.stack([square(2, 12), square(5, 15), square(8, 18), square(11, 21)])
    boxes = torch.tensor([[2.0 + 3 * n, 5, 12 + 3 * n, 15] for n in range(4)])
    scores = TubeScores(*rows, *words, weights, members)
    frames = np.stack([np.full((20, 30, 3), b, np.uint8) for b in (90, 90, 120, 150)])
    return Case(
        row=Row("v", 0, 6, "red dog", "", 50, 150, 0.4375),
        tokens=("red", "dog"),
        frames=frames,
        key=1,
        target=Target(0, torch.tensor([10.0, 5, 20, 15]), square(10, 20)),
        track=MaskTrack("v", "red dog", torch.arange(5, 9), boxes, masks, 2.5, scores, 1),
        proposals=np.array([[1, 1, 4, 4], [5, 5, 15, 15], [0, 0, 0, 0], [22, 2, 28, 18]], float),
    )


def test_a_case_shows_the_truth_and_the_answer_in_their_colours():
    page = Page(render("case.html", case=answer())).sections[0]
    shown = dict(page.pictures)
    assert list(shown) == [
        *("frame", "localisation", "ground truth", "prediction"),
        *("-1", "key frame", "+1", "+2"),
    ]
    for picture, here, elsewhere, end, colour in (
        (shown["ground truth"], (15, 10), (7, 10), 20, TRUTH),
        (shown["prediction"], (7, 10), (17, 10), 15, ANSWER),
    ):
        assert_shown(picture, *here, colour)
        assert_shown(picture, *elsewhere, None)
        assert_line(picture, end, 10, colour)
    for place in ((7, 10), (15, 10)):
        for name in ("frame", "localisation"):
            assert (abs(shown[name][16 * 10 + 8, 16 * place[0] + 8].astype(int) - 90) < 12).all()
    boxes = {(5, 10): ANSWER, (22, 10): CONTEXT, (2, 1): (205, 210, 220)}
    for (x, y), colour in boxes.items():
        line = shown["localisation"][16 * y, 16 * x - 1 : 16 * x + 1].mean(0)
        np.testing.assert_allclose(line, colour, atol=45, err_msg=f"{x} {y}")
    dashes = shown["localisation"][16 * 5 : 16 * 15, 16 * 20].astype(int)
    red = (dashes[:, 0] > 170) & (dashes[:, 1] < 90)
    assert 0.3 < red.mean() < 0.9, "the true box is dashed"


def test_the_strip_shows_each_frame_with_its_own_mask():
    page = Page(render("case.html", case=answer())).sections[0]
    for place, (_, picture) in enumerate(page.pictures[4:]):
        level = (90, 90, 120, 150)[place]
        assert picture.shape == (200, 300, 3)
        inside = picture[100, 10 * (7 + 3 * place)]
        np.testing.assert_allclose(inside, [level] * 3, atol=12)
        np.testing.assert_allclose(picture[190, 290], [0.4 * level] * 3, atol=12)


@pytest.mark.parametrize(
    ("count", "key", "labels"),
    [
        (1, 0, []),
        (2, 1, ["-1", "key frame"]),
        (5, 2, ["-2", "-1", "key frame", "+1", "+2"]),
        (9, 4, ["-4", "-2", "key frame", "+2", "+4"]),
    ],
)
def test_the_strip_goes_from_the_clips_first_frame_to_its_last(count, key, labels):
    found = answer()
    track = MaskTrack(
        "v",
        "s",
        torch.arange(count),
        found.track.boxes[:1].expand(count, 4),
        found.track.masks[:1].expand(count, 20, 30),
        2.5,
        found.track.scores,
        1,
    )
    case = replace(found, frames=found.frames[:1].repeat(count, 0), key=key, track=track)
    page = Page(render("case.html", case=case)).sections[0]
    assert [caption for caption, _ in page.pictures[4:]] == labels


def facts(case):
    """The last sentence about a case: its text, and the numbers in it."""
    text = Page(render("case.html", case=case)).sections[0].words[-1]
    return text, numbers(text)


def test_the_facts_of_an_answer_by_hand():
    found = answer()
    text, said = facts(found)
    # Tube 2 of the 3 that there are; 2.5 = 2 + 0.5; the box; the context's tube 4 and its weight.
    assert said == [2, 3, 2.5, 2, 0.5, 0.44, 4, 0.62] and "tube 4" in text
    weights = found.track.scores.context_attention.clone()
    weights[1] = torch.tensor([0.75, 0.0, 0.25])
    listening = replace(found.track.scores, context_attention=weights)
    text, said = facts(replace(found, track=replace(found.track, scores=listening)))
    assert "whole clip" in text and said == [2, 3, 2.5, 2, 0.5, 0.44, 0.75]
    alone = replace(found.track.scores, context_attention=None, context_members=None)
    _, said = facts(replace(found, track=replace(found.track, scores=alone)))
    assert said == [2, 3, 2.5, 2, 0.5, 0.44], "no context, nothing said of it"
    _, said = facts(replace(found, track=replace(found.track, scores=None)))
    assert said == [2.5]
    assert "IoU 0.33" in Page(render("case.html", case=found)).sections[0].text
    assert "v, frame 7" in Page(render("case.html", case=found)).sections[0].text


def test_among_equals_the_longer_sentence_and_then_the_better_answer_is_contrasted():
    rows = [
        row(0.7, "a", "a dog"),
        row(0.9, "a", "a cat"),
        row(0.51, "b", "it"),
        row(0.5, "c", "a"),
    ]
    assert pick_contrasts(rows, 9) == [1, 2, 3]
    assert pick_contrasts([row(0.5, "a", "one two three"), row(0.51, "b", "one")], 1) == [1]


def test_the_larger_of_two_equal_answers_is_the_best():
    rows = [row(1, "a"), row(1, "b", union=900), row(0.5, "c"), row(0.5, "d", union=10)]
    assert pick_cases(rows, 1) == ([1], [2])
    assert pick_cases(rows, 0) == ([], [])


def test_the_summary_is_the_mean_over_the_sentences():
    found = contrast()
    half = replace(found.case, row=replace(found.case.row, intersection=50))
    same = Contrast(half, found.case.track, 0)
    text = Page(render("summary.html", contrasts=[found, same])).sections[0].text
    assert numbers(text) == [2, 75, 66.7]


def test_a_system_that_weighs_no_words_shows_the_sentence():
    found, case = contrast(), answer()
    plain = [replace(one, track=replace(one.track, scores=None)) for one in (found.case, case)]
    article = render("contrast.html", contrast=replace(found, case=plain[0]))
    words = Page(article).sections[0].text.count("red dog")
    assert words == 4, "the title, the one answer, and both modules of the other"
    assert Page(render("case.html", case=plain[1])).sections[0].text.count("red dog") == 1
