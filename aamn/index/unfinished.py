"""What an index that is not finished consists of: one file a block of clips in a folder beside it,
so that a run that was interrupted, however hard, goes on after the last of them."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from aamn.index.file import ARRAYS, OPTIONAL, PACKED, ClipBlock
from proposals.files import hdf5_aside, write_text

log = logging.getLogger("aamn")

FORMAT = 1
JOB = "job.json"


@dataclass(frozen=True)
class Place:
    """Where the work stands after a block: the number of the planner's run of frames, the frame up
    to which they went through the networks, what the planner has handed out; whether the video
    ended there; and what the next clip is linked with, boxes (1, K, 4) and features (1, K, C)."""

    run: int
    frame: int
    planned: int
    ended: bool
    boxes: np.ndarray
    features: np.ndarray


class UnfinishedIndex:
    """The blocks of one index, in their order; `place` is where the last one ends, None before the
    first. Only for who holds the index's lock."""

    def __init__(self, path: Path, job: dict[str, Any] | None) -> None:
        """`path` is the index's, `job` all that its numbers depend on (None: that is not known);
        blocks of another job are removed."""
        self.path, self.folder = path, path.with_name(path.name + ".parts")
        record = json.dumps({"format": FORMAT, "job": job}, sort_keys=True)
        self._files: list[Path] = []
        self.place: Place | None = None
        if self.folder.exists() and job is not None and _text_of(self.folder / JOB) == record:
            self._go_on()
        else:
            self._begin(record)

    def _begin(self, record: str) -> None:
        if self.folder.exists():
            log.info("%s: what an interrupted run has left does not fit: starts anew", self.path)
        self.remove()
        write_text(self.folder / JOB, record)

    def _go_on(self) -> None:
        """Takes the blocks up to the first that is missing or damaged; removes all else."""
        place = None
        while (file := self._file(len(self._files))).exists():
            place = _place_in(file)
            if place is None:
                break
            self._files.append(file)
            self.place = place
        for other in {*self.folder.iterdir()} - {self.folder / JOB, *self._files}:
            other.unlink()
        if self.place is not None:
            log.info("%s: goes on after frame %d", self.path, self.place.frame - 1)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:08d}.h5"

    def add(self, block: ClipBlock, place: Place) -> None:
        """Keeps a block, which is there as a whole or not at all.

        Raises:
            CannotWrite: the disk is full.
        """
        path = self._file(len(self._files))
        with hdf5_aside(path) as file:
            for name in ARRAYS:
                values = getattr(block, name)
                if values is not None:
                    packed = PACKED if name == "masks" else {}
                    file.create_dataset(name, data=values, **packed)
            file["edge_boxes"], file["edge_features"] = place.boxes, place.features
            for name in ("run", "frame", "planned", "ended"):
                file.attrs[name] = getattr(place, name)
        self._files.append(path)
        self.place = place

    def __len__(self) -> int:
        return len(self._files)

    def blocks(self) -> Iterator[ClipBlock]:
        """All blocks, one in memory at a time."""
        for path in self._files:
            with h5py.File(path, "r", locking=False) as file:
                names = [name for name in ARRAYS if name in file or name not in OPTIONAL]
                arrays = {name: file[name][:] for name in names}
            yield ClipBlock(**arrays)

    def remove(self) -> None:
        """When the index is whole, or will never be."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self._files, self.place = [], None


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _place_in(path: Path) -> Place | None:
    """None for a file that is not whole, as after a power cut."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            if not all(name in file for name in ARRAYS if name not in OPTIONAL):
                return None
            run, frame, planned = (int(file.attrs[name]) for name in ("run", "frame", "planned"))
            boxes, features = file["edge_boxes"][:], file["edge_features"][:]
            return Place(run, frame, planned, bool(file.attrs["ended"]), boxes, features)
    except (OSError, KeyError, ValueError):
        return None
