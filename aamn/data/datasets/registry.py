"""Which reader reads which data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from aamn.config.schema import DataConfig
from aamn.data.datasets.a2d import A2DSentences
from aamn.data.datasets.folder import YourVideos
from aamn.data.datasets.jhmdb import JHMDBSentences
from aamn.data.datasets.refvos import ReferringVideos
from aamn.data.datasets.source import VideoTextSource
from aamn.data.datasets.validation import VALIDATION, TrainingPart, check_share
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
    """One split of the configured data set; with `data.validation_share`, the training split
    without the validation videos, and these as the split VALIDATION.

    Raises:
        InputError: no root, no video in the split, or whatever the reader finds wrong with it.
    """
    source = _open(data, split)
    if not source.video_ids:
        advice = "; raise data.validation_share" * (split == VALIDATION)
        raise InputError(f"{data.root}: no video of the split {split!r} has a sentence{advice}")
    return source


def _open(data: DataConfig, split: str) -> VideoTextSource:
    if not data.root:
        raise InputError("data.root names no folder; set it in the recipe or with --set data.root=")
    check_share(data.validation_share, "data.validation_share")
    if split == VALIDATION and not data.validation_share:
        raise InputError(
            "there is no validation split: set data.validation_share, such as to 0.1, in training"
        )
    reader = READERS[data.kind]
    if not data.validation_share or split not in (VALIDATION, data.train_split):
        return reader(data.root, split)
    source = reader(data.root, data.train_split)
    return TrainingPart(source, data.validation_share, split == VALIDATION)


def validation_split(data: DataConfig) -> str:
    """The split that settings are chosen on."""
    return data.validation_split or (VALIDATION if data.validation_share else data.test_split)


def open_all(data: DataConfig) -> list[VideoTextSource]:
    """Every split of the data set: its own ones where it fixes their names, else the configured."""
    names = SPLITS.get(data.kind) or dict.fromkeys([data.train_split, data.test_split])
    return [_open(replace(data, validation_share=0.0), name) for name in names]


def all_videos(data: DataConfig) -> dict[str, Path]:
    """Video id -> its path, of every split.

    Raises:
        InputError: there is none.
    """
    found = {v: source.video_path(v) for source in open_all(data) for v in source.video_ids}
    if not found:
        raise InputError(f"{data.root}: no video has a sentence")
    return found
