"""Recently used things in memory, within a limit of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np

from proposals.frames import FrameSource

Value = TypeVar("Value")

WHOLE_VIDEO = 16 << 20  # bytes: a smaller video is decoded once and kept
OPEN_DECODER = 16 << 20  # bytes that a larger one counts for, which is kept open only


class ByteLimitedCache(Generic[Value]):
    """Keeps the most recently used values while their sizes sum to at most `limit` bytes; a copy
    that is pickled to another process starts empty."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value], size: Callable[[Value], int]) -> Value:
        """The value of `key`, made and measured when it is not at hand."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        value = make()
        self._kept[key] = value, size(value)
        self.used += self._kept[key][1]
        while self.used > self.limit and len(self._kept) > 1:
            self.used -= self._kept.popitem(last=False)[1][1]
        return value

    def __len__(self) -> int:
        return len(self._kept)

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "used": 0, "_kept": OrderedDict()}


class MemoryFrames(FrameSource):
    """A decoded video: frames (N, H0, W0, 3) uint8."""

    def __init__(self, source: FrameSource, frames: np.ndarray) -> None:
        self.path, self.size, self.fps = source.path, source.size, source.fps
        self.announced, self._frames = source.announced, frames

    def __len__(self) -> int:
        return len(self._frames)

    def _frame(self, index: int) -> np.ndarray | None:
        return self._frames[index] if index < len(self._frames) else None

    def close(self) -> None:
        """Nothing is open."""


def in_memory(source: FrameSource) -> FrameSource:
    """A small video decoded, a large one as it is, whatever its header announces."""
    h, w = source.size
    most = WHOLE_VIDEO // (h * w * 3)
    if source.announced > most:
        return source
    read = list(islice(source.iterate(), most + 1))
    if len(read) > most:
        return source
    frames = np.stack(read)
    source.close()
    return MemoryFrames(source, frames)


def bytes_of(source: FrameSource) -> int:
    """What a source that `in_memory` returned counts for."""
    h, w = source.size
    return len(source) * h * w * 3 if isinstance(source, MemoryFrames) else OPEN_DECODER
