"""Pictures of attention: what is drawn is recomputed pixel by pixel."""

import cv2
import numpy as np
import pytest

from aamn.attention_pictures import (
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
from aamn.structures import Geometry
from aamn.visualize import COLOURS, caption

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
