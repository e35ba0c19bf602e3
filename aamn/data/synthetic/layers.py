"""What one object covers in one frame, and how polygons become it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_FINE = 4  # sub-pixels a pixel along each axis: drawn large, then averaged
_SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates


@dataclass(frozen=True)
class Layer:
    """What one object covers: RGB times coverage (h, w, 3) and coverage (h, w), both float32 in
    0..1, with the top left corner at pixel (x, y), which may lie outside of the picture."""

    x: int
    y: int
    rgb: np.ndarray
    cover: np.ndarray

    def placed(self, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The part of the picture that the layer covers, and the same part of the layer."""
        h, w = self.cover.shape
        top, bottom = np.clip((self.y, self.y + h), 0, height)
        left, right = np.clip((self.x, self.x + w), 0, width)
        inside = slice(top - self.y, bottom - self.y), slice(left - self.x, right - self.x)
        return (slice(top, bottom), slice(left, right)), inside


def rasterise(
    polygons: Sequence[np.ndarray], colours: Sequence[tuple[int, int, int]], shift: np.ndarray
) -> Layer:
    """Paints polygons (n, 2), given in pixels and moved by `shift` (2,), over each other."""
    everything = np.concatenate(polygons) + shift
    low = np.floor(everything.min(0)).astype(int) - 1
    w, h = np.ceil(everything.max(0)).astype(int) + 1 - low
    canvas = np.zeros((h * _FINE, w * _FINE, 4), np.uint8)
    for points, colour in zip(polygons, colours, strict=True):
        fine = (points + shift - low) * _FINE - 0.5
        fixed = np.round(fine * 2**_SHIFT).astype(np.int32)
        cv2.fillPoly(canvas, [fixed], (*colour, 255), cv2.LINE_8, _SHIFT)
    small = cv2.resize(canvas, (w, h), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return Layer(int(low[0]), int(low[1]), small[..., :3], small[..., 3])
