"""Which reader reads which data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aamn.config.schema import DataConfig
from aamn.data.datasets.a2d import A2DSentences
from aamn.data.datasets.folder import YourVideos
from aamn.data.datasets.held_out import HELD_OUT, TrainingPart, check_share
from aamn.data.datasets.jhmdb import JHMDBSentences
from aamn.data.datasets.refvos import ReferringVideos
from aamn.data.datasets.source import VideoTextSource
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
    """One split of the configured data set; with `data.held_out`, the training split without the
    videos held out, and these as the split HELD_OUT.

    Raises:
        InputError: no root, or whatever the reader finds wrong with it.
    """
    if not data.root:
        raise InputError("data.root names no folder; set it in the recipe or with --set data.root=")
    check_share(data.held_out, "data.held_out")
    if split == HELD_OUT and not data.held_out:
        raise InputError("no video is held out: set data.held_out, such as to 0.1, in training")
    reader = READERS[data.kind]
    if not data.held_out or split not in (HELD_OUT, data.train_split):
        return reader(data.root, split)
    source = reader(data.root, data.train_split)
    return TrainingPart(source, data.held_out, split == HELD_OUT)


def validation_split(data: DataConfig) -> str:
    """The split that settings are chosen on."""
    return data.validation_split or (HELD_OUT if data.held_out else data.test_split)


def open_all(data: DataConfig) -> list[VideoTextSource]:
    """Every split of the data set: its own ones where it fixes their names, else the configured."""
    names = SPLITS.get(data.kind) or dict.fromkeys([data.train_split, data.test_split])
    return [open_source(replace(data, held_out=0.0), name) for name in names]
