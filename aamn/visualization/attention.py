"""Pictures of what ACGA and CSTM attend to, after the Figures 1 of their supplements."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from aamn.structures import Geometry
from aamn.visualization.overlays import COLOURS, caption, contact_sheet

PADDING = "<0s>"  # the supplement's name for the zeros behind a sentence
LARGE = 240  # pixels of a picture's width, at least


def word_names(tokens: Sequence[str], weights: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names and weights (n, h, w) of a sentence's words from weights (L, h, w) of all places, the
    padding's sum as the last one where there is any."""
    n = len(tokens)
    if n == len(weights):
        return list(tokens), weights
    return [*tokens, PADDING], np.concatenate([weights[:n], weights[n:].sum(0, keepdims=True)])


def cell_of(x: float, y: float, geometry: Geometry, grid: tuple[int, int]) -> tuple[int, int]:
    """The (row, column) of a grid (h, w) over the network's input in which the frame's pixel with
    this left upper corner lies."""
    rows, columns = _cells(geometry, grid)
    return int(rows[int(y)]), int(columns[int(x)])


def over_frame(weights: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Weights (h, w) of cells of the network's input as weights (H0, W0) of the frame's pixels:
    each has its cell's, the padding's cells are not seen."""
    rows, columns = _cells(geometry, weights.shape)
    return weights[rows[:, None], columns]


def _cells(geometry: Geometry, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The cells' rows (H0,) and columns (W0,) in which the centres of the frame's pixels lie."""
    sizes = zip(
        geometry.original_size, geometry.content_size, geometry.network_size, grid, strict=True
    )
    rows, columns = (
        ((np.arange(original) + 0.5) * content / original * cells / network).astype(int)
        for original, content, network, cells in sizes
    )
    return rows, columns


def heat(frame: np.ndarray, weights: np.ndarray, highest: float) -> np.ndarray:
    """The frame (H0, W0, 3) uint8 under the colours of weights (H0, W0), blue for 0 to red for
    `highest` and above, enlarged to a width at which captions can be read."""
    levels = np.clip(255 * weights / max(highest, 1e-12), 0, 255).round().astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None]
    return _enlarged((0.5 * grey + 0.5 * colours).astype(np.uint8))


def _enlarged(picture: np.ndarray) -> np.ndarray:
    factor = max(1, -(-LARGE // picture.shape[1]))
    return picture.repeat(factor, 0).repeat(factor, 1)


def star(picture: np.ndarray, x: float, y: float, width: int) -> np.ndarray:
    """A copy of the picture of a frame `width` pixels wide, a star at the frame's pixel (x, y)."""
    scale = picture.shape[1] / width
    centre = (int((x + 0.5) * scale), int((y + 0.5) * scale))
    marked = picture.copy()
    for colour, thickness in (((255, 255, 255), 4), ((0, 0, 0), 2)):
        cv2.drawMarker(marked, centre, colour, cv2.MARKER_STAR, 16, thickness, cv2.LINE_AA)
    return marked


def word_sheet(
    frame: np.ndarray,
    names: Sequence[str],
    weights: np.ndarray,
    geometry: Geometry,
    pixel: tuple[int, int],
) -> np.ndarray:
    """ACGA's vision-guided language attention: a picture a word with its weights (n, h, w) over
    the frame, all words on one scale and the padding from 0 to 1, and its weight at the star."""
    row, column = cell_of(*pixel, geometry, weights.shape[1:])
    words = max(own.max() for name, own in zip(names, weights, strict=True) if name != PADDING)
    pictures = []
    for name, own in zip(names, weights, strict=True):
        highest = 1.0 if name == PADDING else float(words)
        picture = star(heat(frame, over_frame(own, geometry), highest), *pixel, frame.shape[1])
        pictures.append(caption(picture, f"{name}  {own[row, column]:.3f}"))
    return contact_sheet(pictures)


def attended_picture(
    frame: np.ndarray, cells: np.ndarray, geometry: Geometry, pixel: tuple[int, int]
) -> np.ndarray:
    """ACGA's language-guided vision attention (h, w, h, w): where the cell at the star looks."""
    own = cells[cell_of(*pixel, geometry, cells.shape[:2])]
    picture = star(heat(frame, over_frame(own, geometry), own.max()), *pixel, frame.shape[1])
    return caption(picture, f"where the star looks; at most {own.max():.3f} a cell")


def selection_bars(spatial: np.ndarray, temporal: np.ndarray, height: int = 120) -> np.ndarray:
    """LGFS's pairs of weights (C,): a column a channel, the spatial map's share from below, the
    temporal map's from above, in the order of the spatial one."""
    order = np.argsort(spatial)
    share = spatial[order] / (spatial + temporal)[order]
    level = np.arange(height)[::-1, None] + 0.5  # of each row, from below
    columns = np.where((level < share * height)[..., None], COLOURS[0], COLOURS[1])
    return columns.astype(np.uint8).repeat(max(1, -(-LARGE // len(share))), 1)


def selection_sheet(
    frame: np.ndarray,
    weights: tuple[np.ndarray, np.ndarray],
    maps: tuple[np.ndarray, np.ndarray],
    geometry: Geometry,
) -> np.ndarray:
    """LGFS at one stage: all pairs of weights (C,), and the two maps (C, h, w) of the channel that
    the sentence gives most to the spatial and of the one that it gives most to the temporal."""
    bars = selection_bars(*weights)
    pictures = [caption(bars, f"{len(weights[0])} channels, spatial in red")]
    for channel in (int(weights[0].argmax()), int(weights[1].argmax())):
        highest = float(max(own[channel].max() for own in maps))
        for name, weight, own in zip(("spatial", "temporal"), weights, maps, strict=True):
            picture = heat(frame, over_frame(own[channel], geometry), highest)
            pictures.append(caption(picture, f"{name} {channel}: weight {weight[channel]:.4f}"))
    return contact_sheet(pictures, columns=5)
