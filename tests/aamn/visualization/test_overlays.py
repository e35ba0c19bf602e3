"""Pictures for people: known pixels of what is drawn, and what lies on the disk."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from aamn.visualization.overlays import (
    COLOURS,
    DIMMED,
    caption,
    caption_strip,
    contact_sheet,
    highlighted,
    line_width,
    outlined,
    overlay,
    query_colours,
    word_attention,
    write_picture,
)

WHITE = [255, 255, 255]


def grey(height=30, width=40, value=100):
    return np.full((height, width, 3), value, np.uint8)


def block(y1, y2, x1, x2, size=(30, 40)):
    mask = np.zeros(size, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_colours_are_six_different_ones():
    assert len(set(COLOURS)) == len(COLOURS) == 6


def test_an_overlay_leaves_the_inside_dims_the_outside_and_has_a_line_around():
    frame = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    before, mask = frame.copy(), block(5, 20, 10, 30)
    picture = overlay(frame, mask, (200, 0, 50))
    assert (picture[mask] == frame[mask]).all(), "the colours that a sentence speaks of"
    line = block(4, 21, 9, 31) & ~mask
    assert (picture[line] == (200, 0, 50)).all()
    outside = ~(mask | line)
    assert (picture[outside] == np.rint(0.4 * frame[outside])).all()
    assert DIMMED == 0.4 and (frame == before).all(), "the frame itself is kept"


def test_an_overlay_by_hand():
    frame = np.full((3, 4, 3), 10, np.uint8)
    frame[1, 1] = (250, 200, 3)
    picture = overlay(frame, block(1, 2, 1, 2, (3, 4)), (1, 2, 3))
    line, dark = [1, 2, 3], [4, 4, 4]
    assert picture.tolist() == [
        [line, line, line, dark],
        [line, [250, 200, 3], line, dark],
        [line, line, line, dark],
    ]


@pytest.mark.parametrize(("height", "width"), [(30, 1), (240, 1), (480, 2), (1080, 4)])
def test_the_line_grows_with_the_frame(height, width):
    mask = block(10, 20, 10, 20, (height, height))
    column = overlay(grey(height, height), mask, (0, 255, 0))[:, 15]
    assert (column == (0, 255, 0)).all(-1).sum() == 2 * width


def test_every_part_of_a_mask_has_a_line_and_without_a_mask_all_is_dimmed():
    mask = block(2, 8, 2, 8) | block(20, 28, 30, 38)
    picture = overlay(grey(), mask, (0, 255, 0))
    for y, x in ((1, 4), (8, 4), (19, 33), (28, 33)):
        assert picture[y, x].tolist() == [0, 255, 0]
    assert (overlay(grey(), np.zeros((30, 40), bool)) == 40).all()


def test_several_masks_have_lines_of_their_own_colours_which_pass_behind_what_is_shown():
    red, blue = block(5, 15, 5, 15), block(5, 15, 15, 25)
    picture = highlighted(grey(), [red, blue], [(255, 0, 0), (0, 0, 255)])
    assert (picture[red | blue] == 100).all()
    assert picture[4, 8].tolist() == [255, 0, 0] and picture[4, 22].tolist() == [0, 0, 255]
    assert (highlighted(grey(), [], []) == 40).all()


def test_a_text_has_one_colour_wherever_it_comes():
    one, two = COLOURS[:2]
    assert query_colours(["dog", "cat", "dog"]) == [one, two, one]
    seven = query_colours([f"s{n}" for n in range(7)])
    assert seven[:6] == list(COLOURS) and seven[6] == one


def test_the_box_of_an_overlay_is_a_thin_white_frame_behind_what_is_shown():
    mask = block(6, 10, 0, 40)
    picture = overlay(grey(), mask, (0, 255, 0), box=(4.4, 6.0, 20.6, 25.0))
    frame = block(6, 26, 4, 22) & ~block(7, 25, 5, 21)
    line = block(5, 11, 0, 40) & ~mask
    assert (picture[frame & ~mask & ~line] == 255).all() and (picture[mask] == 100).all()
    assert (picture[~frame & ~mask & ~line] == 40).all()


@pytest.mark.parametrize("box", [(0.0, 0.0, 0.0, 0.0), (7.0, 3.0, 7.0, 9.0)])
def test_no_box_is_drawn_where_nobody_is_found(box):
    empty = np.zeros((30, 40), bool)
    assert (overlay(grey(), empty, box=box) == 40).all()
    assert (outlined(grey(), boxes=[(box, COLOURS[0], False)], width=40) == 100).all()


def test_a_box_that_is_nowhere_does_not_hide_the_next_one():
    nowhere = ((0.0, 0.0, 0.0, 0.0), (0, 0, 255), False)
    boxes = [nowhere, ((10.0, 5.0, 30.0, 20.0), (255, 0, 0), False)]
    assert outlined(grey(), boxes=boxes, width=40)[5, 20].tolist() == [255, 0, 0]
    assert outlined(grey()).shape == (360, 480, 3)


@pytest.mark.parametrize("width", [20, 40, 120])
def test_outlined_scales_frame_mask_and_box_together(width):
    scale = width / 40
    frame = grey()
    frame[:, 30:] = 200
    mask, box = block(10, 20, 10, 20), ((24.0, 4.0, 28.0, 24.0), (0, 0, 255), False)
    picture = outlined(frame, mask, (0, 200, 0), [box], width)
    assert picture.shape == (30 * scale, width, 3)

    def at(x, y):
        return picture[int(y * scale), int(x * scale)].tolist()

    assert at(2, 2) == [40] * 3 and at(37, 2) == [80] * 3, "dimmed"
    assert at(15, 15) == [100] * 3, "as it is"
    for x, y in ((24, 12), (28, 12), (26, 4), (26, 24)):
        assert at(x, y)[2] > 200 > 60 > at(x, y)[0], "a line at each side of the box"
    if width == 120:
        assert at(26, 14) == [40] * 3, "nothing inside the box"


def test_a_dashed_box_has_dashes_and_gaps_on_all_four_sides():
    box = ((10.0, 10.0, 90.0, 70.0), (255, 0, 0), True)
    picture = outlined(grey(80, 100), boxes=[box], width=100).astype(int)
    red = (picture[..., 0] > 180) & (picture[..., 1] < 80)
    sides = {"top": red[10, 10:91], "bottom": red[70, 10:91]}
    sides |= {"left": red[10:71, 10], "right": red[10:71, 90]}
    for name, side in sides.items():
        runs = 1 + np.flatnonzero(np.diff(side.astype(int)))
        assert 0.4 < side.mean() < 0.85 and len(runs) >= 6, name
    assert all(red[y, x] for y in (10, 70) for x in (10, 90)), "dashes meet in the corners"
    assert not red[14:67, 14:87].any()


def test_a_caption_is_a_strip_below_the_picture():
    picture = np.random.default_rng(0).integers(0, 255, (30, 62, 3), np.uint8)
    found = caption(picture, "dog")
    assert found.shape == (48, 62, 3) and (found[:30] == picture).all()
    strip = found[30:]
    assert strip.max() > 200, "light letters"
    assert len(np.unique(strip)) > 3, "whose edges are smooth"
    assert (strip[:, 40:] == 24).all() and (strip[:, 4:30] != 24).any()
    wide = caption(picture, "dog", width=100)
    assert wide.shape == (48, 100, 3) and not wide[:30, 62:].any()
    assert caption(picture, "dog", width=5).shape == found.shape


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("a dog", 62, ["a dog"]),
        ("a dog on the left", 62, ["a dog on", "the left"]),
        ("a dog on the left", 640, ["a dog on the left"]),
        ("", 62, [""]),
    ],
)
def test_a_long_caption_goes_on_in_the_next_line(monkeypatch, text, width, lines):
    drawn, real = [], cv2.putText
    monkeypatch.setattr(
        cv2, "putText", lambda p, t, at, *rest: drawn.append((t, at)) or real(p, t, at, *rest)
    )
    strip = caption_strip(text, width, 480)
    assert [line for line, _ in drawn] == lines
    scale = max(1, width / 320)
    assert strip.shape == (round(15 * scale) * len(lines) + round(3 * scale), width, 3)
    assert [y for _, (_, y) in drawn] == [
        round(15 * scale) * n - round(2 * scale) for n in range(1, len(lines) + 1)
    ]
    assert (strip[:, -round(3 * scale) :] == 24).all(), "nothing is cut off"


def test_a_word_that_is_wider_than_the_picture_is_broken_and_nothing_is_lost(monkeypatch):
    drawn, real = [], cv2.putText
    monkeypatch.setattr(cv2, "putText", lambda p, t, *rest: drawn.append(t) or real(p, t, *rest))
    strip = caption_strip("the abcdefghijklmnopqrstuvwxyz", 62, 40)
    assert drawn[0] == "the" and "".join(drawn[1:]) == "abcdefghijklmnopqrstuvwxyz"
    assert len(drawn) > 2 and (strip[:, -3:] == 24).all()


def test_letters_grow_with_the_frame():
    small, large = (caption_strip("dog", width, width) for width in (320, 1280))
    tall = [np.ptp(np.flatnonzero((s > 120).any((1, 2)))) for s in (small, large)]
    assert large.shape[0] == 4 * small.shape[0] and 3 < tall[1] / tall[0] < 6


def test_each_words_bars_are_as_tall_and_as_deep_as_its_weights(monkeypatch):
    labels, real = [], cv2.putText

    def noted(picture, text, place, *rest):
        labels.append((text, place[0]))
        return real(picture, text, place, *rest)

    monkeypatch.setattr(cv2, "putText", noted)
    actor, action = torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.75])
    picture = word_attention(("jumping", "dog"), actor, action)
    # "jumping" has 12 + 9 * 7 = 75 pixels, "dog" the least, 46; the names of the rows have 64.
    assert picture.shape == (140, 64 + 75 + 46 + 8, 3)
    starts = {"jumping": 64, "dog": 64 + 75}
    assert {(word, starts[word]) for word in starts} <= set(labels)
    rows = (("actor", actor, COLOURS[0], 84), ("action", action, COLOURS[1], 134))
    for name, weights, colour, base in rows:
        assert any(text == name and x < 64 for text, x in labels)
        for weight, (word, x) in zip(weights.tolist(), starts.items(), strict=True):
            deep = [int(255 - (255 - c) * (0.25 + 0.75 * weight)) for c in colour]
            column = (picture[base - 40 : base + 1, x + 2] == deep).all(-1)
            assert column.sum() == round(36 * weight) + 1, (name, word)
            assert column[-1], "bars stand on their line"
            assert (f"{weight:.2f}", x) in labels
            top = base - round(36 * weight)
            assert (picture[top - 11 : top - 2, x : x + 25] < 120).all(-1).any(), "its number"
        name_place = picture[base - 18 : base - 2, 2:60].reshape(-1, 3)
        assert (abs(name_place - np.array(colour)).sum(1) < 40).any(), "in the bars' colour"
    for x in starts.values():
        assert (picture[14:25, x : x + 25] < 90).all(-1).any(), "dark words above the bars"
    assert picture[84 - 18, 70].tolist() == list(COLOURS[0]), "the whole weight has the pure colour"
    assert picture[84 - 18, 64 + 75 - 10].tolist() == WHITE, "a gap between the words"


def test_a_contact_sheet_goes_row_by_row():
    pictures = [grey(6, 8, 10 * (n + 1)) for n in range(4)] + [grey(4, 10, 50)]
    sheet = contact_sheet(pictures, columns=3)
    # Each cell is as large as the largest, 6 x 10, with 4 pixels of white behind it.
    assert sheet.shape == (2 * 10, 3 * 14, 3)
    wanted = np.full(sheet.shape, 255, np.uint8)
    for (y, x), value in zip(((0, 0), (0, 14), (0, 28), (10, 0)), (10, 20, 30, 40), strict=True):
        wanted[y : y + 6, x : x + 8] = value
    wanted[10:14, 14:24] = 50
    assert np.array_equal(sheet, wanted)


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (4, 1, 4), (5, 2, 4), (8, 2, 4)])
def test_a_contact_sheet_has_four_columns_at_most(count, rows, columns):
    assert contact_sheet([grey(6, 8)] * count).shape == (rows * 10, columns * 12, 3)


def test_a_written_picture_has_its_colours_and_a_mask_one_channel(tmp_path):
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[0, 1] = (250, 20, 3)
    write_picture(tmp_path / "deep" / "p.png", picture)
    with Image.open(tmp_path / "deep" / "p.png") as image:
        assert image.mode == "RGB" and image.size == (3, 2)
        assert image.getpixel((1, 0)) == (250, 20, 3)
    write_picture(tmp_path / "m.png", block(0, 1, 0, 2, (2, 3)).astype(np.uint8) * 255)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.array(image), [[255, 255, 0], [0, 0, 0]])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["p.png"]


@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [(4000, 16, 1), (1080, 1920, 3.375), (1920, 1080, 4.5), (48, 32, 1)],
)
def test_letters_grow_as_far_as_both_sides_do(width, height, scale):
    """A strip of 4000x16 pixels has small letters, as one has that stands upright."""
    assert len(caption_strip("dog", width, height)) == round(15 * scale) + round(3 * scale)


@pytest.mark.parametrize(
    ("size", "wide"), [((32, 48), 1), ((480, 640), 2), ((720, 480), 2), ((720, 1280), 3)]
)
def test_lines_grow_with_the_frame(size, wide):
    assert line_width(size) == line_width(size[::-1]) == wide
    frame = np.full((*size, 3), 200, np.uint8)
    picture = overlay(frame, np.zeros(size, bool), box=(10, 10, size[1] - 10, size[0] - 10))
    drawn = ((picture == 255).all(-1)[: size[0] // 2, size[1] // 2]).sum()
    assert wide <= drawn <= wide + 2, "OpenCV rounds widths up"
