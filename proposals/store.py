"""The wall between the two stages: every frame's boxes in HDF5 (contract: FORMAT.md).

A writer puts each finished video into a small file of its own beside the target, complete before
it gets its name, and joins them into the target at the end, which is also written aside and then
renamed. So whatever kills the job, a video is either there as a whole or not at all.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from proposals.errors import InputError

log = logging.getLogger("proposals")

FORMAT = "aamn-proposals"
VERSION = 1
PARTS = ".parts"  # suffix of the folder of unfinished work beside the target
_SHARD = re.compile(r"\.shard-(\d+)-of-(\d+)$")  # end of a shard's file name, before .h5
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MARGIN = 1 << 20  # bytes that joining needs beyond the boxes themselves
_ARRAYS = ("boxes", "scores", "labels")

Setting = str | int | float | bool


@dataclass(frozen=True)
class Attributes:
    """What made the boxes; equal in all files that are read, or written, together.

    `detector` is its name, `weights` a hash of its weights, `settings` its thresholds and sizes;
    label l of a box is `classes[l]`, unless `classes` is empty.
    """

    detector: str
    weights: str = ""
    classes: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def to_json(self) -> str:
        values = {**self.__dict__, "classes": list(self.classes), "settings": dict(self.settings)}
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Attributes:
        values = json.loads(text)
        return cls(**{**values, "classes": tuple(values["classes"])})

    def difference(self, other: Attributes) -> str:
        """The first thing that differs, as "key: mine, other's"; "" when nothing does."""
        first, second = (
            {**{k: v for k, v in a.__dict__.items() if k != "settings"}, **a.settings}
            for a in (self, other)
        )
        for key in {**first, **second}:
            values = [repr(a[key]) if key in a else "nothing" for a in (first, second)]
            if values[0] != values[1]:
                return f"{key}: {values[0]}, {values[1]}"
        return ""


@dataclass(frozen=True)
class BoxWindow:
    """The most confident boxes of T frames, best first, padded with zeros.

    boxes (T, K, 4) float32 xyxy pixels of the original frame; scores (T, K) float32; labels (T, K)
    int64; valid (T, K) bool.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class _Video:
    """One video's boxes: counts (N,) a frame, and boxes, scores and labels of all frames."""

    video_id: str
    frame_size: tuple[int, int]
    counts: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class _File:
    """One HDF5 file of the contract: its index in memory, its boxes mapped lazily, so that it can
    be pickled and forked to worker processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._maps: dict[str, np.ndarray] = {}
        try:
            self._version = _version_of(path)
            with h5py.File(path, "r", locking=False) as file:
                self.attributes = self._check(file)
                self.video_ids = [str(name) for name in file["video_ids"].asstr()[:]]
                self.frame_sizes = file["frame_size"][:]
                self.video_starts = file["video_starts"][:]
                self.frame_starts = file["frame_starts"][:]
                self._places = {name: self._place(file[name]) for name in _ARRAYS}
                self._check_lengths()
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path} is no proposals file, or a damaged one ({' '.join(str(error).split())});"
                " extract it again"
            ) from None

    def _check(self, file: h5py.File) -> Attributes:
        if file.attrs.get("format") != FORMAT:
            raise InputError(f"{self.path} is HDF5, but no proposals file (proposals/FORMAT.md)")
        version = int(file.attrs.get("version", 0))
        if version != VERSION:
            raise InputError(
                f"{self.path} has version {version} of the proposals format; this library reads"
                f" {VERSION}: use the library that wrote it, or extract it again"
            )
        return Attributes.from_json(file.attrs["attributes"])

    def _place(self, array: h5py.Dataset) -> tuple[np.dtype, tuple[int, ...], int | None]:
        """(type, shape, offset in the file): uncompressed arrays can be mapped."""
        offset = array.id.get_offset()
        if offset is None and array.size:
            raise InputError(f"{self.path}: {array.name} is compressed or chunked (FORMAT.md)")
        return array.dtype, array.shape, offset

    def _check_lengths(self) -> None:
        videos, frames = len(self.video_ids), len(self.frame_starts) - 1
        shapes = {name: shape for name, (_, shape, _) in self._places.items()}
        boxes = shapes["boxes"][0]
        complete = (
            len(self.video_starts) == videos + 1
            and self.frame_sizes.shape == (videos, 2)
            and self.video_starts[0] == self.frame_starts[0] == 0
            and self.video_starts[-1] == frames
            and self.frame_starts[-1] == boxes
            and shapes == {"boxes": (boxes, 4), "scores": (boxes,), "labels": (boxes,)}
            and (np.diff(self.video_starts) >= 0).all()
            and (np.diff(self.frame_starts) >= 0).all()
        )
        if not complete:
            raise InputError(
                f"{self.path} is incomplete: its index and its boxes disagree; extract it again"
            )

    def array(self, name: str) -> np.ndarray:
        """boxes, scores or labels of the whole file."""
        if name not in self._maps:
            dtype, shape, offset = self._places[name]
            if offset is None:
                return np.zeros(shape, dtype)
            if _version_of(self.path) != self._version:
                raise InputError(f"{self.path} was replaced while it was read; open it again")
            self._maps[name] = np.memmap(self.path, dtype, "r", offset, shape)
        return self._maps[name]

    def close(self) -> None:
        self._maps = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def video(self, row: int) -> _Video:
        """All that the file holds of one video."""
        first, last = self.video_starts[row : row + 2]
        starts = self.frame_starts[first : last + 1]
        span = slice(starts[0], starts[-1])
        h0, w0 = self.frame_sizes[row].tolist()
        boxes, scores, labels = (np.array(self.array(name)[span]) for name in _ARRAYS)
        return _Video(self.video_ids[row], (h0, w0), np.diff(starts), boxes, scores, labels)


def _version_of(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


class ProposalStore:
    """Reads one proposals file, or the files of several shards as one."""

    def __init__(self, path: Path, files: Sequence[_File]) -> None:
        self.path = path
        self.attributes = files[0].attributes
        self._files = list(files)
        self._rows: dict[str, tuple[int, int]] = {}
        for number, file in enumerate(files):
            self._join(number, file)

    def _join(self, number: int, file: _File) -> None:
        difference = self.attributes.difference(file.attributes)
        if difference:
            raise InputError(
                f"{self._files[0].path} and {file.path} are of different detectors ({difference})"
            )
        for row, video_id in enumerate(file.video_ids):
            at = self._rows.setdefault(video_id, (number, row))
            if at != (number, row) and not _is_part_of(file.path, self._files[at[0]].path):
                raise InputError(
                    f"the video {video_id} is both in {self._files[at[0]].path} and in {file.path};"
                    " remove one of the files"
                )

    @classmethod
    def read(cls, path: Path | str) -> ProposalStore:
        """The proposals at `path`: a file, a folder of shards, or a pattern such as "p/*.h5". When
        the file is not there its shards (or what an unfinished job has written) are read.

        Raises:
            InputError: nothing there, a shard missing, another format or version, an incomplete
                file, files of different detectors, a video that is there twice.
        """
        path = Path(path)
        return cls(path, [_File(file) for file in _files_at(path)])

    @staticmethod
    def write(
        path: Path | str,
        detector: str,
        weights: str = "",
        classes: Sequence[str] = (),
        settings: Mapping[str, Setting] | None = None,
        fresh: bool = False,
    ) -> ProposalWriter:
        """A writer of `path`; what is there already, from the same detector, is kept, or if
        `fresh` removed."""
        attributes = Attributes(detector, weights, tuple(classes), dict(settings or {}))
        return ProposalWriter(Path(path), attributes, fresh)

    @property
    def video_ids(self) -> list[str]:
        return sorted(self._rows)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def _at(self, video_id: str) -> tuple[_File, int]:
        at = self._rows.get(video_id)
        if at is None:
            raise InputError(
                f"{self.path} holds no proposals of the video {video_id}; add them with"
                f" tools/extract_proposals.py --out {self.path}"
            )
        return self._files[at[0]], at[1]

    def frame_count(self, video_id: str) -> int:
        file, row = self._at(video_id)
        return int(file.video_starts[row + 1] - file.video_starts[row])

    def frame_size(self, video_id: str) -> tuple[int, int]:
        """(H0, W0), the pixels that the boxes are in."""
        file, row = self._at(video_id)
        h0, w0 = file.frame_sizes[row].tolist()
        return h0, w0

    def window(
        self, video_id: str, frame_indices: Sequence[int] | np.ndarray, top: int
    ) -> BoxWindow:
        """The `top` most confident boxes of each of the T frames, which may repeat.

        Raises:
            InputError: a video that is lacking, or a frame outside it.
        """
        file, row = self._at(video_id)
        frames = np.asarray(frame_indices, np.int64)
        count = self.frame_count(video_id)
        outside = frames[(frames < 0) | (frames >= count)]
        if len(outside):
            raise InputError(
                f"{self.path}: wanted frame {outside[0]} of the video {video_id}, the file has"
                f" {count} of it; was another copy of the video extracted?"
            )
        return _read_window(file, file.video_starts[row] + frames, top)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def __enter__(self) -> ProposalStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_window(file: _File, frames: np.ndarray, top: int) -> BoxWindow:
    """The window of `frames`, (T,) rows of the file's frame index."""
    starts = file.frame_starts[frames]
    counts = np.minimum(file.frame_starts[frames + 1] - starts, top)
    valid = np.arange(top) < counts[:, None]
    rows = (starts[:, None] + np.arange(top))[valid]
    boxes = np.zeros((len(frames), top, 4), np.float32)
    scores = np.zeros((len(frames), top), np.float32)
    labels = np.zeros((len(frames), top), np.int64)
    for name, out in zip(_ARRAYS, (boxes, scores, labels), strict=True):
        out[valid] = file.array(name)[rows]
    return BoxWindow(boxes, scores, labels, valid)


class ProposalWriter:
    """Adds videos to a proposals file, each of them whole or not at all; one process at a time.

    Used as a context manager: leaving it joins the new videos with the file's; leaving it by an
    exception keeps them for the next writer of the same file.
    """

    def __init__(self, path: Path, attributes: Attributes, fresh: bool = False) -> None:
        """Raises:
        InputError: another process writes here, the file is of another detector, or its name
            does not end in .h5.
        """
        if path.suffix != ".h5":
            raise InputError(f"{path}: wanted a proposals file's name to end in .h5")
        self.path = path
        self.attributes = attributes
        self._parts = _parts_of(path)
        self._make_parts()
        self._lock = _lock(self._parts)
        try:
            self._done = self._resume(fresh)
        except BaseException:
            self._release()
            raise

    def _make_parts(self) -> None:
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from None

    def _resume(self, fresh: bool) -> set[str]:
        """What is there already; half-written files of a killed writer are swept away."""
        half_written = [*self._parts.glob("*.tmp"), self.path.with_name(self.path.name + ".tmp")]
        for stray in [*half_written, *(_written(self.path) if fresh else [])]:
            stray.unlink(missing_ok=True)
        files = [_File(path) for path in _written(self.path)]
        if not files:
            return set()
        difference = files[0].attributes.difference(self.attributes)
        if difference:
            raise InputError(
                f"{self.path} was made by another detector than this run's ({difference}); choose"
                " another --out, or remove the file and its .parts folder"
            )
        return set(ProposalStore(self.path, files).video_ids)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._done

    def add(
        self,
        video_id: str,
        boxes: Sequence[np.ndarray],
        scores: Sequence[np.ndarray],
        labels: Sequence[np.ndarray],
        frame_size: tuple[int, int],
    ) -> None:
        """Stores a video, durably: one array a frame, boxes (n, 4) xyxy in pixels of the original
        frame of `frame_size` (H0, W0), scores (n,) falling, labels (n,) integers.

        Raises:
            InputError: a value that breaks the contract (names video, frame and box), a video
                that is there already, a full disk.
        """
        if video_id in self._done:
            raise InputError(
                f"{self.path} already holds the video {video_id!r};"
                " skip it with `if video_id in store`"
            )
        try:
            video = _validated(video_id, boxes, scores, labels, frame_size, self.attributes.classes)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            _write_file(file, self.attributes, [video])
        name = hashlib.sha256(video_id.encode()).hexdigest()[:24] + ".h5"
        with self._room():
            _write_aside(self._parts / name, content.getbuffer())
        self._done.add(video_id)

    def close(self) -> None:
        """Joins the file and the new videos into one file, in order of their ids."""
        if self._lock is None:
            return
        paths = _written(self.path)
        files = [_File(path) for path in paths]
        if paths != [self.path]:
            sources = ProposalStore(self.path, files) if files else None
            with self._room():
                self._join(sources)
        for file in files:
            file.close()
        shutil.rmtree(self._parts)
        self._release()

    def _join(self, sources: ProposalStore | None) -> None:
        aside = self.path.with_name(self.path.name + ".tmp")
        located = [sources._at(video_id) for video_id in sources.video_ids] if sources else []
        needed = sum(_stored_bytes(file, row) for file, row in located) + _MARGIN
        if shutil.disk_usage(self.path.parent).free < needed:
            raise OSError(errno.ENOSPC, "no space left to join the videos")
        try:
            with h5py.File(aside, "w", locking=False) as file:
                _write_joined(file, self.attributes, located)
            with aside.open("rb+") as written:
                os.fsync(written.fileno())
            os.replace(aside, self.path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        _sync_folder(self.path.parent)

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Turns a full disk into one line."""
        try:
            yield
        except OSError as error:
            full = error.errno in _NO_ROOM or "No space left" in str(error)
            reason = "no space left on the device" if full else str(error)
            raise InputError(
                f"cannot write {self.path}: {reason}; {len(self._done)} videos are kept, make room"
                " and run the same command again"
            ) from None

    def abandon(self) -> None:
        """Lets go without joining: what was added stays for the next writer of this file."""
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            (self._parts / "lock").unlink(missing_ok=True)
            with suppress(OSError):  # not empty: the parts wait for the next writer
                self._parts.rmdir()
            self._lock.close()
        self._lock = None

    def __enter__(self) -> ProposalWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self._release()


def _validated(
    video_id: str,
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    frame_size: tuple[int, int],
    classes: Sequence[str],
) -> _Video:
    """One video in the stored types.

    Raises:
        InputError: naming the video, the frame and the box.
    """
    if not isinstance(video_id, str) or not video_id or not video_id.isprintable():
        raise InputError(f"wanted a printable, non-empty video id, got {video_id!r}")
    if not len(boxes) == len(scores) == len(labels) > 0:
        raise InputError(
            f"video {video_id}: wanted one array of boxes, scores and labels for each frame, got"
            f" {len(boxes)}, {len(scores)} and {len(labels)}"
        )
    if len(frame_size) != 2 or min(frame_size) < 1:
        raise InputError(f"video {video_id}: wanted frame_size (height, width), got {frame_size}")
    arrays = [
        (_array(b, np.float32, (-1, 4)), _array(s, np.float32, (-1,)), _array(c, np.int64, (-1,)))
        for b, s, c in zip(boxes, scores, labels, strict=True)
    ]
    for frame, (b, s, c) in enumerate(arrays):
        fault = _fault(b, s, c, frame_size, classes)
        if fault:
            raise InputError(f"video {video_id}, frame {frame}: {fault}")
    b, s, c = (np.concatenate(part) for part in zip(*arrays, strict=True))
    counts = np.array([len(array[1]) for array in arrays], np.int64)
    h0, w0 = (int(value) for value in frame_size)
    return _Video(video_id, (h0, w0), counts, b, s, c.astype(np.int32))


def _array(values: Any, dtype: type, shape: tuple[int, ...]) -> np.ndarray | None:
    """The values as an array of that shape, None when they are none."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    try:
        array = np.asarray(values)
    except ValueError:
        return None
    if array.size == 0:
        return np.zeros([max(0, n) for n in shape], dtype)
    if array.ndim != len(shape) or array.shape[1:] != shape[1:] or array.dtype.kind not in "iuf":
        return None
    whole = dtype is not np.int64 or array.dtype.kind in "iu"
    return array.astype(dtype) if whole else None


def _fault(
    boxes: np.ndarray | None,
    scores: np.ndarray | None,
    labels: np.ndarray | None,
    frame_size: tuple[int, int],
    classes: Sequence[str],
) -> str:
    """What is wrong with one frame's boxes, in words; "" when nothing is."""
    if boxes is None or scores is None or labels is None:
        return "wanted boxes (n, 4) and scores (n,) of numbers and labels (n,) of integers"
    if not len(boxes) == len(scores) == len(labels):
        return f"got {len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels"
    h0, w0 = frame_size
    x1, y1, x2, y2 = boxes.T
    for bad, wanted in (
        (~np.isfinite(boxes).all(1), "finite numbers"),
        ((x1 >= x2) | (y1 >= y2), "x1 < x2 and y1 < y2"),
        (
            (x1 < 0) | (y1 < 0) | (x2 > w0) | (y2 > h0),
            f"a box inside the frame (width {w0}, height {h0}): clip it",
        ),
    ):
        if bad.any():
            at = int(bad.argmax())
            return f"box {at} is {boxes[at].tolist()}, wanted {wanted}"
    if not np.isfinite(scores).all():
        return f"score {int((~np.isfinite(scores)).argmax())} is not finite"
    if (np.diff(scores) > 0).any():
        return "the scores rise, wanted the most confident box first"
    known = len(classes) or np.iinfo(np.int32).max
    if ((labels < 0) | (labels >= known)).any():
        at = int(((labels < 0) | (labels >= known)).argmax())
        return f"label {at} is {labels[at]}, wanted 0..{known - 1}"
    return ""


def _write_file(file: h5py.File, attributes: Attributes, videos: Sequence[_Video]) -> None:
    """One file of the contract from videos in memory."""
    counts = np.concatenate([np.zeros(0, np.int64), *(video.counts for video in videos)])
    _write_index(
        file,
        attributes,
        [video.video_id for video in videos],
        [video.frame_size for video in videos],
        [len(video.counts) for video in videos],
        counts,
    )
    _write_boxes(file, videos)


def _write_joined(
    file: h5py.File, attributes: Attributes, located: Sequence[tuple[_File, int]]
) -> None:
    """One file of the contract from videos in other files, copied one after the other."""
    counts = [
        np.diff(source.frame_starts[source.video_starts[row] : source.video_starts[row + 1] + 1])
        for source, row in located
    ]
    _write_index(
        file,
        attributes,
        [source.video_ids[row] for source, row in located],
        [source.frame_sizes[row] for source, row in located],
        [len(part) for part in counts],
        np.concatenate([np.zeros(0, np.int64), *counts]),
    )
    _write_boxes(file, (_taken(source, row) for source, row in located))


def _taken(source: _File, row: int) -> _Video:
    """A video to be copied; thousands of parts must not stay open."""
    video = source.video(row)
    if source.path.parent.suffix == PARTS:
        source.close()
    return video


def _write_boxes(file: h5py.File, videos: Iterable[_Video]) -> None:
    start = 0
    for video in videos:
        stop = start + len(video.scores)
        for name in _ARRAYS:
            file[name][start:stop] = getattr(video, name)
        start = stop


def _write_index(
    file: h5py.File,
    attributes: Attributes,
    video_ids: Sequence[str],
    frame_sizes: Sequence[Any],
    frames: Sequence[int],
    counts: np.ndarray,
) -> None:
    """Everything but the boxes, whose arrays are made, in a layout that has no time stamps."""
    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    file.attrs["attributes"] = attributes.to_json()
    width = max([len(name.encode()) for name in video_ids], default=1)
    names = np.array([name.encode() for name in video_ids], h5py.string_dtype("utf-8", width))
    file.create_dataset("video_ids", data=names)
    sizes = np.asarray(frame_sizes, np.int32).reshape(-1, 2)
    file.create_dataset("frame_size", data=sizes)
    file.create_dataset("video_starts", data=np.cumsum([0, *frames], dtype=np.int64))
    file.create_dataset("frame_starts", data=np.cumsum([0, *counts], dtype=np.int64))
    total = int(counts.sum())
    file.create_dataset("boxes", (total, 4), np.float32)
    file.create_dataset("scores", (total,), np.float32)
    file.create_dataset("labels", (total,), np.int32)


def _stored_bytes(file: _File, row: int) -> int:
    first, last = file.video_starts[row : row + 2]
    boxes = int(file.frame_starts[last] - file.frame_starts[first])
    return 24 * boxes + 8 * int(last - first) + 256


def _write_aside(path: Path, content: Any) -> None:
    """Writes a file completely and durably before it gets its name."""
    aside = path.with_suffix(".tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes a renaming durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(parts: Path) -> IO[str]:
    """The parts folder's lock, held until the returned file is closed or the process ends.

    Raises:
        InputError: another process holds it.
    """
    while True:
        parts.mkdir(parents=True, exist_ok=True)
        path = parts / "lock"
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise InputError(
                f"{parts} is being written by {holder}; wait for it, or give each worker a --shard"
            ) from None
        if path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno())):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
            return lock
        lock.close()  # its folder was removed by the process that held it: start again


def shard_path(path: Path, index: int, count: int) -> Path:
    """The file of shard `index` of `count`: proposals.shard-0-of-4.h5."""
    digits = len(str(count - 1))
    return path.with_name(f"{path.stem}.shard-{index:0{digits}d}-of-{count}{path.suffix}")


def _parts_of(path: Path) -> Path:
    return path.with_name(path.name + PARTS)


def _is_part_of(part: Path, path: Path) -> bool:
    """Whether `part` is left over from joining it into `path`."""
    return part.parent == _parts_of(path)


def _written(path: Path) -> list[Path]:
    """The joined file, when there is one, then the videos that are not joined yet."""
    return [*([path] if path.is_file() else []), *sorted(_parts_of(path).glob("*.h5"))]


def _files_at(path: Path) -> list[Path]:
    """Every file that `ProposalStore.read(path)` reads as one."""
    files = _written(path)
    if path.is_dir():
        targets = {p for p in path.glob("*.h5") if p.is_file()}
        targets |= {p.with_suffix("") for p in path.glob(f"*.h5{PARTS}")}
        files = [file for target in sorted(targets) for file in _written(target)]
    elif not files:
        whole_set = not any(letter in path.name for letter in "*?[")
        pattern = f"{path.stem}.shard-*-of-*{path.suffix}" if whole_set else path.name
        shards = sorted(p for p in path.parent.glob(pattern) if p.is_file())
        if whole_set:
            _check_shards(path, shards)
        files = shards
    elif files[0] != path:
        log.warning("%s: the job is unfinished, reading the %d videos it has", path, len(files))
    if not files:
        raise InputError(f"no proposals file at {path}; tools/extract_proposals.py writes one")
    return files


def _check_shards(path: Path, shards: Sequence[Path]) -> None:
    """Raises InputError unless all shards of one split of the job are there."""
    numbers = [_SHARD.search(shard.stem) for shard in shards]
    counts = {int(number[2]) for number in numbers if number}
    if len(counts) > 1:
        raise InputError(
            f"{path}: there are shards of {' and of '.join(map(str, sorted(counts)))};"
            " remove those of the other job"
        )
    there = {int(number[1]) for number in numbers if number}
    missing = sorted(set(range(max(counts, default=0))) - there)
    if missing:
        raise InputError(
            f"{path}: shard {missing[0]} of {max(counts)} is missing"
            f" ({len(missing)} in all); run it with --shard {missing[0]}/{max(counts)}"
        )
