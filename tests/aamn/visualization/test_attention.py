"""Pictures of attention: what is drawn is recomputed pixel by pixel."""

import cv2
import numpy as np
import pytest

from aamn.structures import Geometry
from aamn.visualization import attention as attention_pictures
from aamn.visualization.attention import (
    PADDING,
    attended_picture,
    cell_of,
    heat,
    over_frame,
    selection_bars,
    selection_sheet,
    star,
    word_names,
    word_sheet,
)
from aamn.visualization.overlays import COLOURS, caption

WIDE = Geometry.fit((30, 40), (32, 32))  # the frame covers 24 x 32 of the network's square
GEOMETRIES = (WIDE, Geometry.fit((50, 20), (64, 64)), Geometry.fit((240, 320), (96, 96)))


def naive_cell(x, y, geometry, grid):
    """The cell in which the pixel's centre lies, by its place in the network's input."""
    (h0, w0), (h, w), (ch, cw) = (
        geometry.original_size,
        geometry.network_size,
        geometry.content_size,
    )
    across, down = (x + 0.5) / w0 * cw, (y + 0.5) / h0 * ch
    return int(down // (h / grid[0])), int(across // (w / grid[1]))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: str(g.original_size))
@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (1, 2)])
def test_every_pixel_has_its_cells_weight(geometry, grid):
    weights = np.random.default_rng(0).random(grid)
    drawn = over_frame(weights, geometry)
    assert drawn.shape == geometry.original_size
    for y in range(0, drawn.shape[0], 3):
        for x in range(0, drawn.shape[1], 3):
            cell = naive_cell(x, y, geometry, grid)
            assert drawn[y, x] == weights[cell] and cell_of(x, y, geometry, grid) == cell


def test_cells_of_the_padding_are_not_seen():
    weights = np.zeros((4, 4))
    weights[3] = 1.0  # the square's last 8 of 32 rows; the frame ends at row 24
    assert not over_frame(weights, WIDE).any()


def test_words_and_the_sum_of_the_padding():
    weights = np.arange(8, dtype=float).reshape(4, 1, 2)
    names, drawn = word_names(("red", "dog"), weights)
    assert names == ["red", "dog", PADDING]
    assert drawn[:, 0].tolist() == [[0, 1], [2, 3], [4 + 6, 5 + 7]]
    names, drawn = word_names(("a", "b", "c", "d"), weights)
    assert names == ["a", "b", "c", "d"] and drawn.shape == weights.shape


def naive_heat(grey, weight, highest):
    """One pixel: half the frame's grey, half the colour of the weight."""
    level = np.full((1, 1), round(255 * min(1.0, weight / highest)), np.uint8)
    blue, green, red = cv2.applyColorMap(level, cv2.COLORMAP_JET)[0, 0].tolist()
    return [int(0.5 * grey + 0.5 * colour) for colour in (red, green, blue)]


def test_heat_is_the_naive_one():
    frame = np.full((30, 40, 3), 100, np.uint8)
    weights = np.random.default_rng(1).random((30, 40))
    picture = heat(frame, weights, 0.8)
    assert picture.shape == (180, 240, 3), "six times as large, to be read"
    for y, x in ((0, 0), (17, 30), (29, 39)):
        block = picture[6 * y : 6 * y + 6, 6 * x : 6 * x + 6]
        assert (block == naive_heat(100, weights[y, x], 0.8)).all()


@pytest.mark.parametrize(
    ("pixel", "centre"), [((0, 0), (3, 3)), ((20, 15), (123, 93)), ((33, 22), (201, 135))]
)
def test_a_star_stands_at_the_centre_of_its_pixel(pixel, centre):
    """Six times as large as the frame of 40 pixels, a pixel's centre is three to the right."""
    grey = np.full((180, 240, 3), 128, np.uint8)
    marked = star(grey, *pixel, 40)
    x, y = centre
    assert marked[y, x].tolist() == [0, 0, 0] and (grey == 128).all()
    changed = np.argwhere((marked != 128).any(-1))
    assert (abs(changed - (y, x)) <= 12).all(), "nothing else changes"
    if min(centre) > 12:
        np.testing.assert_allclose(changed.mean(0), (y, x), atol=0.6)


def test_what_the_captions_say(frame, monkeypatch):
    said = []
    monkeypatch.setattr(
        attention_pictures, "caption", lambda p, text, *rest: said.append(text) or caption(p, text)
    )
    cells = np.full((4, 4, 4, 4), 0.01)
    cells[1, 2, 3, 3], cells[2, 1] = 0.625, 0.9
    attended_picture(frame, cells, WIDE, (20, 10))  # 20.5 * 0.8 = 16.4, 10.5 * 0.8 = 8.4, of 8
    assert "0.625" in said[-1]
    weights = np.zeros((2, 4, 4))
    weights[0, 1, 2], weights[1, 1, 2] = 0.375, 0.125
    word_sheet(frame, ["red", "dog"], weights, WIDE, (20, 10))
    assert [text.split() for text in said[-2:]] == [["red", "0.375"], ["dog", "0.125"]]


@pytest.mark.parametrize(
    ("width", "shown"), [(40, 240), (100, 300), (239, 478), (240, 240), (300, 300)]
)
def test_pictures_are_enlarged_by_whole_factors_to_be_read(width, shown):
    picture = heat(np.zeros((2, width, 3), np.uint8), np.zeros((2, width)), 1.0)
    assert picture.shape == (2 * shown // width, shown, 3)


def test_weights_above_the_highest_are_red_and_nothing_is_blue():
    frame = np.zeros((1, 240, 3), np.uint8)
    weights = np.zeros((1, 240))
    weights[0, 1], weights[0, 2], weights[0, 3] = 0.5, 1.0, 7.0
    none, half, full, more = heat(frame, weights, 1.0)[0, :4].astype(int)
    assert none[2] > 50 and none[0] == none[1] == 0, "blue"
    assert half[1] > max(half[0], half[2]), "green"
    assert full[0] > 50 and full[1] == full[2] == 0 and more.tolist() == full.tolist(), "red"
    assert heat(frame, np.zeros((1, 240)), 0.0)[0, 0].tolist() == none.tolist()


@pytest.fixture
def frame():
    return np.random.default_rng(2).integers(0, 255, (30, 40, 3), np.uint8)


def test_the_sheet_shows_every_word_on_one_scale(frame):
    weights = np.random.default_rng(3).random((3, 4, 4))
    sheet = word_sheet(frame, ["red", "dog", PADDING], weights, WIDE, (20, 10))
    row, column = naive_cell(20, 10, WIDE, (4, 4))
    for place, name in enumerate(["red", "dog", PADDING]):
        highest = 1.0 if name == PADDING else weights[:2].max()
        picture = star(heat(frame, over_frame(weights[place], WIDE), highest), 20, 10, 40)
        own = caption(picture, f"{name}  {weights[place, row, column]:.3f}")
        left = place * (240 + 4)
        assert np.array_equal(sheet[: own.shape[0], left : left + 240], own)


def test_the_star_looks_where_its_cell_does(frame):
    cells = np.random.default_rng(4).random((4, 4, 4, 4))
    got = attended_picture(frame, cells, WIDE, (39, 29))
    own = cells[naive_cell(39, 29, WIDE, (4, 4))]
    wanted = star(heat(frame, over_frame(own, WIDE), own.max()), 39, 29, 40)
    assert np.array_equal(got[:180], wanted)
    assert (wanted[-9:, -9:] != heat(frame, over_frame(own, WIDE), own.max())[-9:, -9:]).any()


def test_bars_are_the_pairs_in_order():
    spatial = np.array([0.75, 0.25, 0.5])
    bars = selection_bars(spatial, 1 - spatial, height=100)
    columns = bars[:, :: bars.shape[1] // 3]
    red = (columns == COLOURS[0]).all(-1)
    assert (red | (columns == COLOURS[1]).all(-1)).all()
    assert red.sum(0).tolist() == [25, 50, 75] and red[-1].all() and not red[0].any()


def test_bars_show_shares_and_are_at_least_a_pixel_wide():
    bars = selection_bars(np.array([3.0, 0.5]), np.array([1.0, 1.5]))
    red = (bars == COLOURS[0]).all(-1)
    assert bars.shape == (120, 240, 3) and bars.dtype == np.uint8
    assert red[:, :120].sum(0).tolist() == [30] * 120, "a quarter"
    assert red[:, 120:].sum(0).tolist() == [90] * 120, "three of four"
    many = np.full(300, 0.5)
    assert selection_bars(many, many).shape == (120, 300, 3)
    assert selection_bars(many[:200], many[:200]).shape == (120, 400, 3)


def test_the_sheet_shows_the_most_decided_channels(frame):
    rng = np.random.default_rng(5)
    spatial = np.array([0.1, 0.9904, 0.4])
    maps = (rng.random((3, 4, 4)), rng.random((3, 4, 4)))
    sheet = selection_sheet(frame, (spatial, 1 - spatial), maps, WIDE)
    shown = [("spatial", 1, 0.9904), ("temporal", 1, 0.0096), ("spatial", 0, 0.1)]
    for place, (name, channel, weight) in enumerate(shown, 1):
        own = maps[name == "temporal"][channel]
        highest = max(maps[0][channel].max(), maps[1][channel].max())
        picture = heat(frame, over_frame(own, WIDE), highest)
        wanted = caption(picture, f"{name} {channel}: weight {weight:.4f}")
        width = (sheet.shape[1] - 5 * 4) // 5
        left = place * (width + 4)
        assert np.array_equal(sheet[: wanted.shape[0], left : left + 240], wanted)
