"""Which reader reads which data set."""

from __future__ import annotations

from collections.abc import Callable

from aamn.config import DataConfig
from aamn.data.a2d import A2DSentences
from aamn.data.folder import YourVideos
from aamn.data.jhmdb import JHMDBSentences
from aamn.data.refvos import ReferringVideos
from aamn.data.source import VideoTextSource
from proposals.errors import InputError

Reader = Callable[[str, str], VideoTextSource]  # root, split

READERS: dict[str, Reader] = {
    "a2d": A2DSentences,
    "jhmdb": JHMDBSentences,
    "refvos": ReferringVideos,
    "folder": YourVideos,
}

SPLITS = {"a2d": ("train", "test"), "jhmdb": ("test",)}  # of data sets that fix their names


def open_source(data: DataConfig, split: str) -> VideoTextSource:
    """One split of the configured data set.

    Raises:
        InputError: an unknown kind, no root, or whatever the reader finds wrong with it.
    """
    if data.kind not in READERS:
        raise InputError(f"data.kind: wanted one of {sorted(READERS)}, got {data.kind!r}")
    if not data.root:
        raise InputError("data.root names no folder; set it in the recipe or with --set data.root=")
    return READERS[data.kind](data.root, split)


def open_all(data: DataConfig) -> list[VideoTextSource]:
    """Every split of the data set: its own ones where it fixes their names, else the configured."""
    names = SPLITS.get(data.kind) or dict.fromkeys([data.train_split, data.test_split])
    return [open_source(data, name) for name in names]
