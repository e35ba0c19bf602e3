"""The wall between the two stages, its reading side: every frame's boxes in HDF5 (contract:
FORMAT.md). store_writer.py writes them, store_validation.py says what boxes must be like.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from proposals.errors import InputError
from proposals.frames import FrameSource
from proposals.identity import Identity, check_same, describe_unknown
from proposals.limits import check_bytes, read_array

log = logging.getLogger("proposals")

FORMAT = "aamn-proposals"
VERSION = 1
PARTS = ".parts"  # suffix of the folder of unfinished work beside the target
_SHARD = re.compile(r"\.shard-(\d+)-of-(\d+)$")  # end of a shard's file name, before .h5
ARRAYS = ("boxes", "scores", "labels")
CHECKSUMS = "checksums"  # array of every video's `StoredVideo.checksum`; older files have none
READ_AGAIN = 3  # times, where a writer was seen at work

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
class StoredVideo:
    """One video's boxes: counts (N,) a frame, and boxes, scores and labels of all frames; the
    identity of the video that they were found in, where it is known."""

    video_id: str
    frame_size: tuple[int, int]
    counts: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    identity: Identity | None = None

    @property
    def checksum(self) -> int:
        """CRC-32 of all of it."""
        head = f"{self.video_id} {self.frame_size} {self.counts.tolist()}"
        found = zlib.crc32(head.encode(errors="surrogatepass"))
        for name, kind in zip(ARRAYS, ("<f4", "<f4", "<i4"), strict=True):
            found = zlib.crc32(np.ascontiguousarray(getattr(self, name), kind).data, found)
        return found

    @property
    def fault(self) -> str:
        """What is wrong with the numbers, in words; "" when nothing is."""
        bad = ~(np.isfinite(self.boxes).all(1) & np.isfinite(self.scores))
        if not bad.any():
            return ""
        at = int(bad.argmax())
        frame = int(np.searchsorted(np.cumsum(self.counts), at, side="right"))
        box = [*self.boxes[at].tolist(), float(self.scores[at])]
        return f"frame {frame} has the box and score {box}, wanted finite numbers"


class StoredFile:
    """One HDF5 file of the contract: its index in memory, its boxes mapped lazily, so that it can
    be pickled and forked to worker processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._maps: dict[str, np.ndarray] = {}
        self._sound: set[int] = set()  # rows that were looked at
        try:
            self._version = _version_of(path)
            with h5py.File(path, "r", locking=False) as file:
                self.attributes = self._check(file)
                check_bytes(file["video_ids"].nbytes, str(path))
                self.video_ids = [str(name) for name in file["video_ids"].asstr()[:]]
                self.frame_sizes = read_array(file["frame_size"], str(path))
                self.identities = _identities(file, len(self.video_ids))
                self.video_starts = read_array(file["video_starts"], str(path))
                self.frame_starts = read_array(file["frame_starts"], str(path))
                self._checksums = file[CHECKSUMS][:] if CHECKSUMS in file else None
                self._places = {name: self._place(file[name]) for name in ARRAYS}
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
            and (self._checksums is None or self._checksums.shape == (videos,))
            and len(self.identities) == videos
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
            if not self.path.is_file() or _version_of(self.path) != self._version:
                raise Replaced(f"{self.path} was replaced while it was read; open it again")
            self._maps[name] = np.memmap(self.path, dtype, "r", offset, shape)
        return self._maps[name]

    def close(self) -> None:
        self._maps = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def video(self, row: int) -> StoredVideo:
        """All that the file holds of one video."""
        first, last = self.video_starts[row : row + 2]
        starts = self.frame_starts[first : last + 1]
        span = slice(starts[0], starts[-1])
        h0, w0 = self.frame_sizes[row].tolist()
        boxes, scores, labels = (np.array(self.array(name)[span]) for name in ARRAYS)
        video = StoredVideo(
            self.video_ids[row],
            (h0, w0),
            np.diff(starts),
            boxes,
            scores,
            labels,
            self.identities[row],
        )
        if row not in self._sound:
            self._check_video(row, video)
        return video

    def check(self, row: int) -> None:
        """Looks at the numbers of a video, the first time that they are wanted.

        Raises:
            InputError: they have changed since they were written, or are not finite.
        """
        if row not in self._sound:
            self.video(row)

    def _check_video(self, row: int, video: StoredVideo) -> None:
        fault = video.fault
        if self._checksums is not None and video.checksum != self._checksums[row]:
            fault = "its boxes have changed since they were written"
        if fault:
            raise InputError(
                f"{self.path}, video {video.video_id}: {fault}; extract its proposals again"
            )
        self._sound.add(row)


def _identities(file: h5py.File, videos: int) -> list[Identity | None]:
    """Each video's, None where the file, of an older version or another writer, does not say it."""
    if "identities" not in file:
        return [None] * videos
    return [Identity.from_json(text) for text in file["identities"].asstr()[:]]


def _version_of(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


class Replaced(InputError):
    """A file is another one than when it was opened."""


def _versions_at(path: Path) -> dict[Path, tuple[int, int, int]]:
    """Which files the writers of `path`, or of the files in it, have there."""
    folder, name = (path, "") if path.is_dir() else (path.parent, path.stem.rstrip("*"))
    found = {}
    for pattern in (f"{name}*.h5", f"{name}*.h5{PARTS}/*.h5"):
        for file in folder.glob(pattern):
            with suppress(OSError):
                found[file] = _version_of(file)
    return found


class ProposalStore:
    """Reads one proposals file, or the files of several shards as one."""

    def __init__(self, path: Path, files: Sequence[StoredFile]) -> None:
        self.path = path
        self.attributes = files[0].attributes
        self._files = list(files)
        self._rows: dict[str, tuple[int, int]] = {}
        for number, file in enumerate(files):
            self._join(number, file)

    def _join(self, number: int, file: StoredFile) -> None:
        difference = self.attributes.difference(file.attributes)
        if difference:
            raise InputError(
                f"{self._files[0].path} and {file.path} are of different detectors ({difference})"
            )
        for row, video_id in enumerate(file.video_ids):
            before = self._files[self._rows.get(video_id, (number, row))[0]].path
            if video_id in self._rows and not _is_part_of(file.path, before):
                raise InputError(
                    f"the video {video_id} is both in {before} and in {file.path};"
                    " remove one of the files"
                )
            self._rows[video_id] = (number, row)  # a part is never older than what it is joined to

    @classmethod
    def read(cls, path: Path | str) -> ProposalStore:
        """The proposals at `path`: a file, a folder of shards, or a pattern such as "p/*.h5". When
        the file is not there its shards (or what an unfinished job has written) are read.

        Raises:
            InputError: nothing there, a shard missing, another format or version, an incomplete
                file, files of different detectors, a video that is there twice.
        """
        path = Path(path)
        store = cls._read(path)
        describe_unknown([store.identity(video_id) for video_id in store.video_ids], path)
        return store

    @classmethod
    def _read(cls, path: Path) -> ProposalStore:
        for _ in range(READ_AGAIN):
            there = _versions_at(path)
            try:
                return cls(path, [StoredFile(file) for file in _files_at(path)])
            except InputError:  # a writer may have joined its parts meanwhile
                if _versions_at(path) == there:
                    raise
        return cls(path, [StoredFile(file) for file in _files_at(path)])

    @property
    def video_ids(self) -> list[str]:
        return sorted(self._rows)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def locate(self, video_id: str) -> tuple[StoredFile, int]:
        at = self._rows.get(video_id)
        if at is None:
            raise InputError(
                f"{self.path} holds no proposals of the video {video_id}; add them with"
                f" `aamn extract --out {self.path}`"
            )
        return self._files[at[0]], at[1]

    def frame_count(self, video_id: str) -> int:
        file, row = self.locate(video_id)
        return int(file.video_starts[row + 1] - file.video_starts[row])

    def frame_size(self, video_id: str) -> tuple[int, int]:
        """(H0, W0), the pixels that the boxes are in."""
        file, row = self.locate(video_id)
        h0, w0 = file.frame_sizes[row].tolist()
        return h0, w0

    def identity(self, video_id: str) -> Identity | None:
        """Of the video that the boxes were found in, where the file says it."""
        file, row = self.locate(video_id)
        return file.identities[row]

    def check(self, video_id: str, frames: FrameSource) -> None:
        """Raises:
        InputError: the boxes are those of another video, or of another size of it.
        """
        (h0, w0), (h, w) = self.frame_size(video_id), frames.size
        if (h0, w0) != (h, w):
            raise InputError(
                f"{self.path}: the boxes of {video_id} are in pixels of {w0}x{h0}, the video is "
                f"{w}x{h}; extract its proposals again"
            )
        self.check_identity(video_id, frames)

    def check_identity(self, video_id: str, frames: FrameSource) -> None:
        """Raises:
        InputError: the boxes are those of another video.
        """
        advice = "run `aamn extract` with its --out again, or name another file of boxes"
        check_same(self.identity(video_id), frames, self.path, f"{video_id!r}", advice)

    def window(
        self, video_id: str, frame_indices: Sequence[int] | np.ndarray, top: int
    ) -> BoxWindow:
        """The `top` most confident boxes of each of the T frames, which may repeat.

        Raises:
            InputError: a video that is lacking or damaged, or a frame outside it.
        """
        try:
            return self._window(video_id, frame_indices, top)
        except Replaced:  # its writer has joined more videos into it
            self.__dict__.update(ProposalStore.read(self.path).__dict__)
            return self._window(video_id, frame_indices, top)

    def _window(
        self, video_id: str, frame_indices: Sequence[int] | np.ndarray, top: int
    ) -> BoxWindow:
        file, row = self.locate(video_id)
        frames = np.asarray(frame_indices, np.int64)
        count = self.frame_count(video_id)
        outside = frames[(frames < 0) | (frames >= count)]
        if len(outside):
            raise InputError(
                f"{self.path}: wanted frame {outside[0]} of the video {video_id}, the file has"
                f" {count} of it; was another copy of the video extracted?"
            )
        file.check(row)
        return _read_window(file, file.video_starts[row] + frames, top)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def __enter__(self) -> ProposalStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_window(file: StoredFile, frames: np.ndarray, top: int) -> BoxWindow:
    """The window of `frames`, (T,) rows of the file's frame index."""
    starts = file.frame_starts[frames]
    counts = np.minimum(file.frame_starts[frames + 1] - starts, top)
    valid = np.arange(top) < counts[:, None]
    rows = (starts[:, None] + np.arange(top))[valid]
    boxes = np.zeros((len(frames), top, 4), np.float32)
    scores = np.zeros((len(frames), top), np.float32)
    labels = np.zeros((len(frames), top), np.int64)
    parts: tuple[np.ndarray, ...] = (boxes, scores, labels)
    for name, part in zip(ARRAYS, parts, strict=True):
        part[valid] = file.array(name)[rows]
    return BoxWindow(boxes, scores, labels, valid)


def shard_path(path: Path, index: int, count: int) -> Path:
    """The file of shard `index` of `count`: proposals.shard-0-of-4.h5."""
    digits = len(str(count - 1))
    return path.with_name(f"{path.stem}.shard-{index:0{digits}d}-of-{count}{path.suffix}")


def parts_of(path: Path) -> Path:
    return path.with_name(path.name + PARTS)


def part_path(path: Path, video_id: str) -> Path:
    """Where one video's boxes wait to be joined into `path`."""
    return parts_of(path) / (hashlib.sha256(video_id.encode()).hexdigest()[:24] + ".h5")


def _is_part_of(part: Path, path: Path) -> bool:
    """Whether `part` is left over from joining it into `path`."""
    return part.parent == parts_of(path)


def written_files(path: Path) -> list[Path]:
    """The joined file, when there is one, then the videos that are not joined yet."""
    return [*([path] if path.is_file() else []), *sorted(parts_of(path).glob("*.h5"))]


def _files_at(path: Path) -> list[Path]:
    """Every file that `ProposalStore.read(path)` reads as one."""
    files = written_files(path)
    if path.is_dir():
        targets = {p for p in path.glob("*.h5") if p.is_file()}
        targets |= {p.with_suffix("") for p in path.glob(f"*.h5{PARTS}")}
        files = [file for target in sorted(targets) for file in written_files(target)]
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
        raise InputError(f"no proposals file at {path}; `aamn extract` writes one")
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
