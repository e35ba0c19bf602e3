"""Indexed PNGs of several objects, with DAVIS's palette."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from proposals.files import written_aside


def davis_palette(colours: int = 256) -> list[int]:
    """r, g, b of each index: 0 black, 1 (128, 0, 0), 2 (0, 128, 0), 3 (128, 128, 0) ... : the bits
    of the index, three at a time from the lowest, fill the channels from the highest bit down."""
    palette = []
    for index in range(colours):
        for channel in range(3):
            bits = [(index >> (3 * place + channel)) & 1 for place in range(3)]
            palette.append(sum(bit << (7 - place) for place, bit in enumerate(bits)))
    return palette


def merge_objects(masks: np.ndarray, scores: Sequence[float]) -> np.ndarray:
    """Labels (N, H0, W0) uint8, 0 for none and n for object n (1-based), of masks (n, N, H0, W0)
    bool; where two overlap the higher score wins."""
    labels = np.zeros(masks.shape[1:], np.uint8)
    for place in np.argsort(np.asarray(scores), kind="stable"):
        labels[masks[place]] = place + 1
    return labels


def write_labels(labels: np.ndarray, path: Path) -> None:
    """An indexed PNG of labels (H0, W0) uint8 with DAVIS's palette, written atomically."""
    picture = Image.fromarray(labels, "P")
    picture.putpalette(davis_palette())
    write_png(picture, path)


def write_png(picture: Image.Image, path: Path) -> None:
    """A PNG as it is, written atomically."""
    with written_aside(path) as aside:
        picture.save(aside, format="PNG")
