"""A video's frames as pictures that a browser shows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import cv2
import numpy as np

from aamn.visualization.overlays import COLOURS, highlighted
from proposals.errors import InputError
from proposals.frames import FrameSource, fitted_size, resize_frame

LONGEST = 1280  # pixels of a side that is sent
TOGETHER = 16  # frames decoded at a time
KEPT = 12  # of such groups


def jpeg(picture: np.ndarray, longest: int = LONGEST, quality: int = 88) -> bytes:
    """A JPEG of an RGB picture (H0, W0, 3) uint8, scaled down where a side is longer."""
    height, width = picture.shape[:2]
    if max(height, width) > longest:
        picture = resize_frame(picture, fitted_size((height, width), (longest, longest)))
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def thumbnail(frame: np.ndarray, masks: Sequence[np.ndarray] = (), longest: int = 320) -> bytes:
    """A small JPEG of a frame (H0, W0, 3) uint8 RGB, what masks (H0, W0) bool show highlighted."""
    if any(mask.any() for mask in masks):
        frame = highlighted(frame, masks, COLOURS[: len(masks)])
    return jpeg(frame, longest, 80)


class Pictures:
    """The frames of one video as JPEGs, decoded some at a time, the last used ones kept; any
    thread may ask. `count` is the number of frames that may be asked for."""

    def __init__(self, frames: FrameSource, count: int) -> None:
        self._frames, self.count = frames, count
        self._groups: OrderedDict[int, list[bytes]] = OrderedDict()
        self._lock = threading.Lock()  # a decoder serves one thread

    def __getitem__(self, number: int) -> bytes:
        """Raises:
        InputError: there is no such frame.
        """
        if not 0 <= number < self.count:
            raise InputError(f"wanted frame {number}, the video has {self.count} frames")
        group = number // TOGETHER
        with self._lock:
            if group not in self._groups:
                first = group * TOGETHER
                numbers = np.arange(first, min(first + TOGETHER, self.count))
                self._groups[group] = [jpeg(frame) for frame in self._frames.read(numbers)]
            self._groups.move_to_end(group)
            while len(self._groups) > KEPT:
                self._groups.popitem(last=False)
            return self._groups[group][number % TOGETHER]

    def close(self) -> None:
        """Frees the decoder."""
        with self._lock:
            self._frames.close()
