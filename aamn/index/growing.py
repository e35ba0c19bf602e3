"""An index in memory, which grows while its video comes in: it answers for the clips so far."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from aamn.index.file import ClipBlock, Header


@dataclass(frozen=True)
class BlockArray:
    """The arrays of several blocks as one, of which parts are read as of a `StoredArray`."""

    parts: tuple[np.ndarray, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, place: Any) -> np.ndarray:
        if not isinstance(place, tuple):
            return np.concatenate(self.parts)[place]
        clip, *rest = place
        starts = [0, *accumulate(map(len, self.parts))]
        part = bisect_right(starts, clip) - 1
        inner = (clip - starts[part], *rest)
        return self.parts[part][inner]


class GrowingIndex:
    """Blocks of clips in memory, where `IndexFile` has a file."""

    def __init__(self, header: Header, blocks: Sequence[ClipBlock]) -> None:
        """`header.frames` is taken from the blocks, of which there is at least one."""
        self.header = replace(header, frames=int(blocks[-1].windows[-1, 2]))
        self.path, self.blocks = Path(header.path), tuple(blocks)

    def array(self, name: str) -> BlockArray:
        """One of the arrays of `ClipBlock`, of all clips."""
        return BlockArray(tuple(getattr(block, name) for block in self.blocks))

    def optional(self, name: str) -> BlockArray | None:
        """One that need not be there."""
        return None if getattr(self.blocks[0], name) is None else self.array(name)

    def close(self) -> None:
        """Nothing is open."""
