"""Several sentences about one video: which are shown, and in which colours."""

import numpy as np
import pytest
from read_page import Page, numbers

from aamn.report import assemble
from aamn.report.render import render
from aamn.report.scenes import Scene, pick_scenes
from aamn.structures import Row
from aamn.visualization.overlays import COLOURS


def row(video, frame, instance, text):
    return Row(video, instance, frame, text, "", 0, 1)


def test_a_scene_has_the_first_sentence_of_each_object_and_frames_from_start_to_end():
    rows = [
        row("alone", 0, 0, "one"),
        *(row("full", frame, i, f"object {i}") for frame in range(5) for i in range(8)),
        row("full", 4, 0, "another about object 0"),
        row("pair", 0, 0, "one"),
        row("pair", 0, 1, "two"),
    ]
    full, pair = pick_scenes(rows, 2)
    assert pair == [42, 43]
    assert [rows[i].frame for i in full] == [0] * 6 + [2] * 6 + [4] * 6, "as many as colours"
    assert [rows[i].instance for i in full] == [*range(6)] * 3
    assert pick_scenes(rows, 9)[2] == [0]


@pytest.fixture
def scene():
    """Two frames and two sentences; the second sentence's object is not in the second frame."""
    truth = np.zeros((2, 2, 40, 60), bool)
    truth[0, 0, :20, :30] = truth[0, 1, 20:, 30:] = truth[1, 0, :20, :30] = True
    swapped = truth.copy()
    swapped[0] = truth[0, ::-1]
    return Scene(
        "v<1>",
        [3, 8],
        ["the first", "the <second>"],
        np.full((2, 40, 60, 3), 100, np.uint8),
        np.array([[True, True], [True, False]]),
        truth,
        {"ours": truth.copy(), "theirs": swapped},
    )


def test_mean_iou_counts_what_is_asked(scene):
    assert scene.mean_iou("ours") == 1
    assert scene.mean_iou("theirs") == pytest.approx(1 / 3)
    scene.answers["ours"][0, 0, :20, :15] = False
    assert scene.mean_iou("ours") == pytest.approx((0.5 + 1 + 1) / 3)
    scene.answers["ours"][0, 0] = scene.truth[0, 0] = False
    assert scene.mean_iou("ours") == 1, "two empty masks agree"


def test_a_mask_of_one_pixel_counts_like_any_other(scene):
    scene.truth[...] = scene.answers["ours"][...] = False
    scene.truth[..., 7, 9] = scene.answers["ours"][..., 7, 9] = True
    assert scene.mean_iou("ours") == 1
    scene.answers["ours"][0, 1, 7, 10] = True
    assert scene.mean_iou("ours") == pytest.approx((1 + 0.5 + 1) / 3)


def test_masks_have_the_colours_of_their_sentences(scene):
    page = Page(render("scene.html", scene=scene)).sections[0]
    shown = dict(page.pictures)
    assert list(shown) == [
        *("frame 4", "frame 9", "ground truth, frame 4", "ground truth, frame 9"),
        *("ours, IoU 1.00, frame 4", "ours, IoU 1.00, frame 9"),
        *("theirs, IoU 0.33, frame 4", "theirs, IoU 0.33, frame 9"),
    ]
    grey, dark = np.array([100] * 3), np.array([40] * 3)
    expected = {
        "frame 4": (grey, grey),
        "ground truth, frame 4": (grey, grey),
        "ours, IoU 1.00, frame 9": (grey, dark),
        "theirs, IoU 0.33, frame 4": (grey, grey),
    }
    ends = {  # along the middle of the upper mask, just right of it; and above the lower one
        "ground truth, frame 4": COLOURS[:2],
        "theirs, IoU 0.33, frame 4": COLOURS[1::-1],
    }
    for caption, lines in ends.items():
        h, w = shown[caption].shape[:2]
        for colour, (y, x) in zip(
            lines, ((h // 4, w // 2 + 3), (h // 2 - 4, 3 * w // 4)), strict=True
        ):
            np.testing.assert_allclose(shown[caption][y, x], colour, atol=40, err_msg=caption)
    for caption, (above, below) in expected.items():
        h, w = shown[caption].shape[:2]
        for colour, (y, x) in ((above, (h // 4, w // 4)), (below, (3 * h // 4, 3 * w // 4))):
            np.testing.assert_allclose(shown[caption][y, x], colour, atol=8, err_msg=caption)
    for (text, given), wanted, colour in zip(
        [span for span in page.spans if "style" in span[1]],
        ("the first", "the <second>"),
        COLOURS,
        strict=False,
    ):
        assert text == wanted and numbers(given["style"])[-3:] == list(colour)
    assert "v<1>" in page.text and "the <second>" in page.text


def test_what_was_not_asked_is_an_empty_mask():
    found = assemble._filled({(1, 0): np.ones((2, 3), bool)}, (2, 1, 2, 3))
    assert found.dtype == bool and found[1, 0].all() and not found[0].any()
