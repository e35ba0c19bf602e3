"""The index file: all a video contributes to any sentence's answer (contract: docs/indexes.md).

It is written aside, made durable and then renamed, so that a file under its own name is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from proposals.errors import InputError, cannot_write
from proposals.files import FOR_EVER, escaped, hdf5_aside, locked, open_hdf5, sweep
from proposals.identity import Identity
from proposals.limits import check_pixels, read_array
from proposals.terminal import printable

FORMAT, VERSION = "aamn-index", 3
SUFFIX = ".h5"
NO_END = 1 << 40  # a number of frames that no video has
CLIPS_A_CHUNK = 64  # of the small arrays, in the file


@dataclass(frozen=True)
class Origin:
    """What an index was made from: a hash of the segmenter's video side, the boxes (detector and
    settings), the flow (method and settings), the numbers the streams computed in, and that only
    every so many-th frame went through the networks. Equal origins make equal indexes of a video.
    """

    model: str
    boxes: dict[str, Any]
    flow: dict[str, Any]
    precision: str = "float32"
    every: int = 1

    def difference(self, other: Origin) -> str:
        """The first thing that differs, in words; "" when nothing does."""
        for key in ("model", "boxes", "flow", "precision", "every"):
            mine, theirs = (json.dumps(getattr(o, key), sort_keys=True) for o in (self, other))
            if mine != theirs:
                return f"{key} is {mine} in the one and {theirs} in the other"
        return ""

    def to_json(self) -> str:
        """An `every` of 1 is not told: files that have always been like that stay as they are."""
        told = asdict(self)
        if self.every == 1:
            del told["every"]
        return json.dumps(told, sort_keys=True)


@dataclass(frozen=True)
class Selection:
    """Which clips of a video are indexed: all; those with one of `frames`, of which those up to
    NO_END end with the video; or one around each of `key_frames` (rising) and no other.

    Raises:
        InputError: no frame at all, one before the first, or frames that do not rise.
    """

    frames: range | None = None
    key_frames: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        frames, keys = self.frames, self.key_frames
        if not isinstance(frames, range | None):
            raise InputError(f"frames: wanted a range such as range(100), got {frames!r}")
        if frames is not None and not (0 <= frames.start < frames.stop and frames.step > 0):
            raise InputError(f"{frames}: wanted 0 <= start < end and a step above 0")
        if keys is not None and (list(keys) != sorted({*keys}) or min(keys, default=-1) < 0):
            raise InputError(f"key frames {keys}: wanted at least one, rising, from 0")

    def covers(self, other: Selection) -> bool:
        """Whether an index of this selection can stand in for one of the other."""
        if self == other:
            return True
        if self.key_frames is not None or other.key_frames is not None:
            return False
        mine, theirs = self.frames, other.frames
        if mine is None or theirs is None:
            return mine is None
        inside = theirs.start in mine and theirs.stop <= mine.stop
        return inside and theirs.step % mine.step == 0

    @property
    def whole(self) -> bool:
        return self.frames is None and self.key_frames is None

    def wants(self, clip: range) -> bool:
        """Whether a clip that answers for these frames is one of the selection's."""
        return self.frames is None or any(frame in self.frames for frame in clip)

    def thinned(self, every: int) -> Selection:
        """Which of every `every`-th frames, counted by themselves, answer for the wanted ones,
        those between them included."""
        if self.frames is None or every == 1:
            return self
        start, stop = self.frames.start // every, self.frames.stop
        last = stop if stop == NO_END else -(-(self.frames[-1]) // every) + 1
        return Selection(range(start, last))

    def __str__(self) -> str:
        if self.key_frames is not None:
            return f"{len(self.key_frames)} key frames"
        if self.frames is None:
            return "frames"
        end = "the end" if self.frames.stop == NO_END else f"{self.frames.stop - 1}"
        step = f" in steps of {self.frames.step}" if self.frames.step > 1 else ""
        return f"frames {self.frames.start} to {end}{step}"

    def to_json(self) -> str:
        frames: list[int | None] | None = None
        if self.frames is not None:
            stop = None if self.frames.stop == NO_END else self.frames.stop
            frames = [self.frames.start, stop, self.frames.step]
        return json.dumps({"frames": frames, "key_frames": self.key_frames})

    @classmethod
    def from_json(cls, text: str) -> Selection:
        value = json.loads(text)
        frames, keys = value["frames"], value["key_frames"]
        if frames:
            start, stop, step = frames
            frames = range(start, NO_END if stop is None else stop, step)
        return cls(frames, None if keys is None else tuple(keys))


WHOLE = Selection()


@dataclass(frozen=True)
class Header:
    """What holds for the whole video.

    `path` is absolute where the video is a file or folder; `identity` tells it from others, None in
    older files; size (H0, W0); `heads` names the matching heads whose vectors lie side by side,
    with their widths; `frames` is the end of the last clip's frames: the video's number of frames,
    unless `selection` ends before.
    """

    video_id: str
    path: str
    size: tuple[int, int]
    fps: float
    heads: dict[str, int]
    origin: Origin
    selection: Selection = WHOLE
    frames: int = 0
    identity: Identity | None = None


@dataclass(frozen=True)
class ClipBlock:
    """C consecutive clips of a video, each of T frames with K tubes.

    windows (C, 3) int64: key frame, first frame and end of the frames the clip answers for;
    boxes (C, T, K, 4) float32 original pixels; vectors (C, K, D) float32; valid (C, K) bool; masks
    (C, K, T, g, g) uint8, 255 times the probability; links (C, K, K) float32, scores (1) from the
    tubes of the clip before (rows) to the clip's tubes (columns), zero for the first clip; context
    (C, K, 1 + K) float32, how much the whole clip, then each tube, contributes to what a tube's
    action is judged by, None without a contextual LSTM.
    """

    windows: np.ndarray
    boxes: np.ndarray
    vectors: np.ndarray
    valid: np.ndarray
    masks: np.ndarray
    links: np.ndarray
    context: np.ndarray | None = None


ARRAYS = tuple(ClipBlock.__dataclass_fields__)
OPTIONAL = {"context"}
# Of masks. As fast as LZF, which packs the same masks into other bytes from time to time.
PACKED: dict[str, Any] = {"compression": "gzip", "compression_opts": 1}


def index_path(folder: Path | str, video_id: str) -> Path:
    """Where the index of a video lies: its id is escaped."""
    return Path(folder) / (escaped(video_id) + SUFFIX)


@dataclass
class IndexWriter:
    """Appends blocks of clips to a file that is being written."""

    file: h5py.File
    clips: int = 0

    def add(self, block: ClipBlock) -> None:
        """Writes the next clips."""
        for name in ARRAYS:
            values = getattr(block, name)
            if values is None:
                continue
            if name not in self.file:
                self._create(name, values)
            data = self.file[name]
            data.resize(self.clips + len(values), 0)
            data[self.clips :] = values
        self.clips += len(block.windows)

    def _create(self, name: str, values: np.ndarray) -> None:
        rest = values.shape[1:]
        packed: dict[str, Any] = {"chunks": (CLIPS_A_CHUNK, *rest), "fletcher32": True}
        if name == "masks":  # one tube of one clip is what a sentence reads
            packed |= {"chunks": (1, 1, *rest[1:]), **PACKED}
        self.file.create_dataset(name, (0, *rest), values.dtype, maxshape=(None, *rest), **packed)


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Nobody else writes the index at `path`, and half-written ones are swept away.

    Raises:
        InputError: another process writes it, or the disk is full or read-only.
    """
    with locked(_lock(path), path):
        try:
            sweep(path)
            yield
        except OSError as error:
            raise cannot_write(path, error) from None


def wait_for_writer(path: Path) -> None:
    """Waits until no other process writes the index at `path`."""
    with locked(_lock(path), path, patience=FOR_EVER):
        pass


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


@contextmanager
def new_index(path: Path, header: Header) -> Iterator[IndexWriter]:
    """A writer of the index at `path`, which appears when the block of code is left without an
    error; `header.frames` is taken from what was written. Only for its `only_writer`.

    Raises:
        OSError: the disk is full or read-only.
    """
    with hdf5_aside(path) as file:
        writer = IndexWriter(file)
        yield writer
        _describe(file, header)


@contextmanager
def written_index(path: Path, header: Header) -> Iterator[IndexWriter]:
    """`new_index` by its `only_writer`.

    Raises:
        InputError: as `only_writer`.
    """
    with only_writer(path), new_index(path, header) as writer:
        yield writer


def _describe(file: h5py.File, header: Header) -> None:
    """The attributes, last, so that a file without them is no index."""
    windows = file["windows"]
    file.attrs["video_id"] = header.video_id
    file.attrs["path"] = header.path
    if header.identity is not None:
        file.attrs["identity"] = header.identity.to_json()
    file.attrs["size"] = header.size
    file.attrs["fps"] = header.fps
    file.attrs["frames"] = int(windows[-1, 2])
    file.attrs["heads"] = json.dumps(header.heads)
    file.attrs["origin"] = header.origin.to_json()
    file.attrs["selection"] = header.selection.to_json()
    file.attrs["version"] = VERSION
    file.attrs["format"] = FORMAT


@dataclass(frozen=True)
class StoredArray:
    """An array of an index, of which parts are read by the usual brackets.

    Raises:
        InputError: a part that has changed since it was written, that is too large, or whose
            numbers are not finite; names the file and the video.
    """

    data: h5py.Dataset
    source: IndexFile

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: Any) -> np.ndarray:
        where = f"{self.source.path}, video {printable(self.source.header.video_id)}"
        values = read_array(self.data, where, place)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(f"{where}: {self.data.name} is not finite; index the video again")
        return values


@dataclass
class IndexFile:
    """The reading side; opened lazily, so that it can be pickled to other processes."""

    path: Path
    header: Header
    _file: h5py.File | None = field(default=None, repr=False)
    _process: int = field(default=-1, repr=False)

    @classmethod
    def read(cls, path: Path | str) -> IndexFile:
        """Opens an index.

        Raises:
            InputError: no file, another kind of file, another version, or a damaged one.
        """
        path = Path(path)
        with _open(path) as file:
            try:
                return cls(path, _header(path, file))
            except (KeyError, ValueError, TypeError, OSError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(
                    f"{path} is a damaged index ({' '.join(str(error).split())}); remove it and "
                    "index the video again"
                ) from None

    def array(self, name: str) -> StoredArray:
        """One of the arrays of `ClipBlock`, of all clips."""
        return StoredArray(self._open_file()[name], self)

    def optional(self, name: str) -> StoredArray | None:
        """One that need not be there."""
        return self.array(name) if name in self._open_file() else None

    def _open_file(self) -> h5py.File:
        if self._file is None or self._process != os.getpid():  # HDF5 files do not survive a fork
            self._file, self._process = self._opened(), os.getpid()
        return self._file

    def _opened(self) -> h5py.File:
        """The file, which must be the one whose header was read."""
        if IndexFile.read(self.path).header != self.header:
            raise InputError(f"{self.path} is another index by now; read it again")
        return _open(self.path)

    def close(self) -> None:
        """Frees the file; the next read opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_process": -1}


def _open(path: Path) -> h5py.File:
    return open_hdf5(
        path, "index", "`aamn index` writes one, segmenter.index(video, out=FOLDER) keeps one"
    )


def _header(path: Path, file: h5py.File) -> Header:
    if file.attrs.get("format") != FORMAT:
        raise InputError(f"{path} is HDF5, but no index of a video; `aamn index` writes one")
    if file.attrs["version"] != VERSION:
        raise InputError(
            f"{path} has version {file.attrs['version']} of the index format, this library reads "
            f"{VERSION}: index the video again"
        )
    counts = {len(file[name]) for name in ARRAYS if name in file or name not in OPTIONAL}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"its arrays are of {sorted(counts)} clips")
    height, width = (int(value) for value in file.attrs["size"])
    check_pixels((height, width), f"{path}: its video")
    return Header(
        video_id=str(file.attrs["video_id"]),
        path=str(file.attrs["path"]),
        size=(height, width),
        fps=float(file.attrs["fps"]),
        heads={name: int(n) for name, n in json.loads(file.attrs["heads"]).items()},
        origin=Origin(**json.loads(file.attrs["origin"])),
        selection=Selection.from_json(file.attrs["selection"]),
        frames=int(file.attrs["frames"]),
        identity=Identity.from_json(str(file.attrs.get("identity", ""))),
    )
