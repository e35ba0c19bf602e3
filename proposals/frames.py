"""The one video decoder of both stages: frame 17 of a video is the same picture everywhere.

Container headers lie about lengths and seeking lands on neighbours, so positions are counted:
every frame's time stamp is noted the first time it is decoded, and a seek is checked against it.
"""

from __future__ import annotations

import functools
import os
import re
import threading
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # broken files get our one line instead

import cv2
import numpy as np
from PIL import Image, ImageOps

from proposals.errors import InputError

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg")
    + (".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".ogv")
)
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"))
FOLDER_FPS = 25.0  # a folder of images does not say how fast it plays
_NEAR = 32  # frames: decoding that far forward is cheaper than seeking
_STAMP_TOLERANCE = 0.01  # milliseconds


class FrameSource(ABC):
    """A video's frames, 0-based, as uint8 RGB arrays (H0, W0, 3); opened lazily, so that it can be
    pickled to worker processes."""

    path: Path
    size: tuple[int, int]  # (H0, W0)
    fps: float
    announced: int  # frames that the header promises; what can be decoded is len()

    @abstractmethod
    def __len__(self) -> int:
        """Frames that can really be decoded."""

    @abstractmethod
    def _frame(self, index: int) -> np.ndarray | None:
        """Frame `index` (H0, W0, 3), or None past the end."""

    @abstractmethod
    def close(self) -> None:
        """Frees the decoder; the next read opens it again."""

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The frames (n, H0, W0, 3) at `indices`, which may repeat and come in any order.

        Raises:
            InputError: an index outside the video, or a frame of another size.
        """
        wanted = [int(index) for index in indices]
        out = np.empty((len(wanted), *self.size, 3), np.uint8)
        for index in sorted(set(wanted)):
            frame = self._frame(index) if index >= 0 else None
            if frame is None:
                raise InputError(f"{self.path}: wanted frame {index}, it has {len(self)}")
            out[[place for place, value in enumerate(wanted) if value == index]] = frame
        return out

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """The frames (H0, W0, 3) from `start` up to `stop` or the end, in order."""
        index = start
        while stop is None or index < stop:
            frame = self._frame(index)
            if frame is None:
                return
            yield frame
            index += 1

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Stamps:
    """Time stamps, milliseconds, of a video's frames as far as they have been decoded."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.complete = False
        self.ordered = True  # strictly increasing: a stamp tells which frame a seek landed on
        self._lock = threading.Lock()

    def note(self, index: int, time: float) -> None:
        with self._lock:
            if index == len(self.times):
                self.ordered &= not self.times or time > self.times[-1] + 2 * _STAMP_TOLERANCE
                self.times.append(time)

    def index_of(self, time: float) -> int | None:
        """The frame shown at `time`, if it is a known one."""
        near = bisect_left(self.times, time - _STAMP_TOLERANCE)
        known = near < len(self.times) and abs(self.times[near] - time) <= _STAMP_TOLERANCE
        return near if known else None


@functools.lru_cache(maxsize=16384)
def _stamps_of(path: str, modified: int, size: int) -> _Stamps:
    """The stamps of one version of a file, shared by all sources of this process."""
    return _Stamps()


class VideoFile(FrameSource):
    """A video file, decoded by OpenCV."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._capture: cv2.VideoCapture | None = None
        self._next = 0  # the frame that the next grab gives
        status = path.stat()
        if status.st_size == 0:
            raise InputError(f"{path} is empty (0 bytes)")
        self._version = (str(path.resolve()), status.st_mtime_ns, status.st_size)
        capture = self._open()
        if not capture.isOpened() or not self._advance():
            self.close()
            raise InputError(
                f"{path}: no frame can be decoded; the file is truncated or damaged, or no video"
            )
        self.size = capture.retrieve()[1].shape[:2]
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if 0 < fps < 1000 else FOLDER_FPS
        self.announced = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    @property
    def _stamps(self) -> _Stamps:
        return _stamps_of(*self._version)

    def _open(self) -> cv2.VideoCapture:
        if self._capture is None:
            options = [cv2.CAP_PROP_N_THREADS, 1]  # the programs decode in several processes
            self._capture = cv2.VideoCapture(str(self.path.resolve()), cv2.CAP_FFMPEG, options)
            self._next = 0
        return self._capture

    def _advance(self) -> bool:
        """Decodes the next frame, without converting it, and notes its time stamp."""
        capture = self._open()
        if capture.grab():
            self._stamps.note(self._next, capture.get(cv2.CAP_PROP_POS_MSEC))
            self._next += 1
            return True
        if self._next == len(self._stamps.times):
            self._stamps.complete = True
        self.close()  # past the end the decoder has no current frame
        return False

    def _seek(self, index: int) -> bool:
        """Decodes frame `index`, whose time stamp is known, wherever the decoder stands."""
        before, stamps = index, self._stamps
        while stamps.ordered and before > _NEAR:
            capture = self._open()
            capture.set(cv2.CAP_PROP_POS_FRAMES, before)
            landed = None
            if capture.grab():
                landed = stamps.index_of(capture.get(cv2.CAP_PROP_POS_MSEC))
            if landed is not None and landed <= index:
                self._next = landed + 1
                return self._forward(index)
            before -= _NEAR
        self.close()
        return self._forward(index)

    def _forward(self, index: int) -> bool:
        """Decodes up to and including frame `index`, which must not lie behind."""
        while self._next <= index:
            if not self._advance():
                return False
        return True

    def _frame(self, index: int) -> np.ndarray | None:
        known, stamps = len(self._stamps.times), self._stamps
        if stamps.complete and index >= known:
            return None
        near = self._next - 1 <= index <= self._next + _NEAR
        if not near and known:
            self._seek(min(index, known - 1))
        if not self._forward(index):
            return None
        decoded, frame = self._open().retrieve()
        if not decoded:
            raise InputError(f"{self.path}: frame {index} cannot be decoded")
        if frame.shape[:2] != self.size:  # a stream that changes size keeps its first one
            frame = cv2.resize(frame, self.size[::-1])
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def __len__(self) -> int:
        stamps = self._stamps
        if not stamps.complete:
            if self._next != len(stamps.times):
                self._seek(len(stamps.times) - 1)
            while self._advance():
                pass
        return len(stamps.times)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._capture, self._next = None, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_capture": None, "_next": 0}


class ImageFolder(FrameSource):
    """A folder of images, in natural order (2.jpg before 10.jpg)."""

    fps = FOLDER_FPS

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = sorted(
            (
                file
                for file in path.iterdir()
                if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
            ),
            key=lambda file: natural_key(file.name),
        )
        self.announced = len(self.files)
        if not self.files:
            raise InputError(
                f"{path}: the folder holds no image; wanted {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        self.size = self._decode(self.files[0]).shape[:2]

    @staticmethod
    def _decode(file: Path) -> np.ndarray:
        try:
            with Image.open(file) as image:
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{file} is no readable image: {error}") from None

    def _frame(self, index: int) -> np.ndarray | None:
        if index >= len(self.files):
            return None
        frame = self._decode(self.files[index])
        if frame.shape[:2] != self.size:
            (h, w), (h0, w0) = frame.shape[:2], self.size
            raise InputError(
                f"{self.path}: frame {index} ({self.files[index].name}) is {w}x{h}, the first one"
                f" {w0}x{h0}; bring all images to one size"
            )
        return frame

    def __len__(self) -> int:
        return len(self.files)

    def close(self) -> None:
        """Nothing stays open between two images."""


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts numbers inside names by value."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), p) if p.isdigit() else (1, 0, p) for p in parts if p]


def open_frames(path: Path | str) -> FrameSource:
    """The frames of a video file or of a folder of images.

    Raises:
        InputError: nothing there, another kind of file, or not one frame that can be decoded.
    """
    path = Path(path)
    if path.is_dir():
        return ImageFolder(path)
    if not path.exists():
        raise InputError(f"no video at {path}")
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(
            f"{path}: its suffix {path.suffix!r} is none of a video's:"
            f" {' '.join(sorted(VIDEO_SUFFIXES))}"
        )
    return VideoFile(path)


def fitted_size(size: tuple[int, int], square: int) -> tuple[int, int]:
    """(h, w) of frames of `size` (H0, W0) scaled by one factor into a square of so many pixels."""
    scale = min(square / size[0], square / size[1])
    h, w = (min(square, max(1, round(side * scale))) for side in size)
    return h, w


def resize_frame(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The frame (H0, W0, C) at `size` (h, w), averaged where it shrinks."""
    if frame.shape[:2] == size:
        return frame
    shrinks = size[0] * size[1] < frame.shape[0] * frame.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(frame, size[::-1], interpolation=method)
