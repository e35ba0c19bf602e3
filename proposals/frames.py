"""The one video decoder of both stages: frame 17 of a video is the same picture everywhere.

Container headers lie about lengths and seeking lands on neighbours, so positions are counted in the
order in which frames are shown, however long each is: every frame's time stamp is noted the first
time it is decoded, and a seek is checked against it.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
import tempfile
import threading
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeGuard

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # broken files get our one line instead

import cv2
import numpy as np
from PIL import Image

from proposals import places
from proposals.errors import InputError
from proposals.pictures import as_looked_at, read_picture
from proposals.video_file import VideoDecoder, no_frame

VIDEO_SUFFIXES = (
    frozenset(  # of what is taken for a video in a folder; one that is named may have any
        (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg")
        + (".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".ogv", ".gif")
    )
)
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"))
FOLDER_FPS = 25.0  # a folder of images does not say how fast it plays
LIVE = (  # protocols that need not end
    *("rtsp", "rtsps", "rtmp", "rtmps", "rtmpt", "rtmpe", "rtp", "srt", "udp", "tcp", "mms"),
)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_SPOOL_BYTES = 64 << 20  # of an iterator's frames in memory, before they go to the disk
_KEPT = 64  # frames of those that come only once
_NEAR = 32  # frames: decoding that far forward is cheaper than seeking
_KEYS_TRIED = 4  # before a seek gives way to decoding from the start


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

    def lacking(self, count: int | None = None) -> str:
        """What to say of a video that ends before its header says or has damaged frames, as far as
        it has been decoded; "" of others. `count` is what another run has decoded of it."""
        return ""

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

    def iterate(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[np.ndarray]:
        """Every `step`-th of the frames (H0, W0, 3) from `start` up to `stop` or the end, in
        order."""
        index = start
        while stop is None or index < stop:
            frame = self._frame(index)
            if frame is None:
                return
            yield frame
            index += step

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Stamps:
    """What is known of a video's frames as far as they have been decoded: the time each is shown,
    in the file's own units (whole numbers), which are key frames, which are damaged, and at the end
    why it came."""

    def __init__(self) -> None:
        self.times: list[int | None] = []
        self.keys: list[int] = []
        self.damaged: list[int] = []
        self.complete, self.failure = False, ""
        self.ordered = True  # strictly increasing: a time tells which frame a seek landed on
        self._lock = threading.Lock()

    def note(self, index: int, time: int | None, key: bool = False, damaged: bool = False) -> None:
        with self._lock:
            if index == len(self.times):
                before = self.times[-1] if self.times else -math.inf
                self.ordered &= time is not None and before is not None and time > before
                self.times.append(time)
                self.keys += [index] * (key and not damaged)
                self.damaged += [index] * damaged

    def key_before(self, index: int) -> int:
        """The last known key frame up to `index`; 0 where there is none."""
        place = bisect_right(self.keys, index)
        return self.keys[place - 1] if place else 0


@functools.lru_cache(maxsize=16384)
def _stamps_of(path: str, modified: int, size: int) -> _Stamps:
    """The stamps of one version of a file, shared by all sources of this process."""
    return _Stamps()


class VideoFile(FrameSource):
    """A video file, which what it holds makes one, not its suffix."""

    def __init__(self, path: Path) -> None:
        """Raises:
        InputError: no video, one without a decoder here or of too many pixels, or not one frame
            that can be decoded.
        """
        self.path = path
        self._decoder: VideoDecoder | None = None
        self._next = 0  # the frame that the decoder gives next
        status = path.stat()
        if status.st_size == 0:
            raise InputError(f"{path} is empty (0 bytes)")
        self._version = (str(path.resolve()), status.st_mtime_ns, status.st_size)
        decoder = self._open()
        if not self._advance():
            raise no_frame(path, decoder.failure)
        self.size = decoder.picture().shape[:2]
        self.fps = decoder.fps if 0 < decoder.fps < 1000 else FOLDER_FPS
        self.announced = decoder.announced

    @property
    def _stamps(self) -> _Stamps:
        return _stamps_of(*self._version)

    def _open(self) -> VideoDecoder:
        if self._decoder is None:
            self._decoder, self._next = VideoDecoder(self.path), 0
        return self._decoder

    def _advance(self) -> bool:
        """Decodes the next frame, without converting it, and notes its time stamp."""
        decoder, stamps = self._open(), self._stamps
        frame = decoder.advance()
        if frame is not None:
            stamps.note(self._next, frame.pts, bool(frame.key_frame), frame.is_corrupt)
            self._next += 1
            return True
        if self._next == len(stamps.times):
            stamps.complete, stamps.failure = True, decoder.failure
        self.close()  # past the end the decoder has no current frame
        return False

    def _seek(self, index: int) -> bool:
        """Decodes frame `index`, whose time stamp is known, wherever the decoder stands: from the
        key frame before it, or one before that, or from the start."""
        stamps, before = self._stamps, index
        for _ in range(_KEYS_TRIED):
            before = stamps.key_before(before)
            if not stamps.ordered or before <= _NEAR:
                break
            time = stamps.times[before]
            if time is not None and self._open().seek(time):
                self._next = before + 1
                return self._forward(index)
            before -= 1
        self.close()
        return self._forward(index)

    def _forward(self, index: int) -> bool:
        """Decodes up to and including frame `index`, which must not lie behind."""
        while self._next <= index:
            if not self._advance():
                return False
        return True

    def _frame(self, index: int) -> np.ndarray | None:
        stamps = self._stamps
        known = len(stamps.times)
        if stamps.complete and index >= known:
            return None
        near = self._next - 1 <= index <= self._next + _NEAR
        if not near and known:
            self._seek(min(index, known - 1))
        if not self._forward(index):
            return None
        frame = self._open().picture()
        # a stream that changes size keeps its first one
        return frame if frame.shape[:2] == self.size else cv2.resize(frame, self.size[::-1])

    def __len__(self) -> int:
        stamps = self._stamps
        if not stamps.complete:
            if self._next != len(stamps.times):
                self._seek(len(stamps.times) - 1)
            while self._advance():
                pass
        return len(stamps.times)

    def lacking(self, count: int | None = None) -> str:
        """As `FrameSource.lacking`; a video of no stated length may end anywhere."""
        stamps, found = self._stamps, []
        last = stamps.times[-1] if stamps.complete else None
        if stamps.complete or count is None:
            count = len(stamps.times)
        ended = stamps.complete or count > len(stamps.times)
        if ended and (stamps.failure or self._open().lacks(count, last)):
            said = f"{self.announced} announced" if self.announced else "an unknown number"
            why = f" ({stamps.failure})" if stamps.failure else ""
            found.append(f"video ends at frame {count} of {said}{why}")
        if stamps.damaged:
            first = f"the first one is frame {stamps.damaged[0]}"
            found.append(f"{len(stamps.damaged)} of {count} frames are damaged, {first}")
        return f"{self.path}: {'; '.join(found)}" if found else ""

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._decoder, self._next = None, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoder": None, "_next": 0}


class ImageList(FrameSource):
    """Images one after another: arrays (H0, W0, 3) uint8 RGB, PIL images or paths, or one array
    (T, H0, W0, 3); each is looked at when it is read."""

    fps = FOLDER_FPS

    def __init__(self, images: Sequence[Any] | np.ndarray, path: Path | None = None) -> None:
        """`path` names them in errors; None: a hash of all frames does.

        Raises:
            InputError: no image, or the first one is none.
        """
        self.images, self.path = images, path or Path("frames")
        self.announced = len(images)
        if not len(images):
            raise InputError(f"{self.path}: wanted at least one frame, got none")
        self.size = self._decode(0).shape[:2]
        if path is None:
            self.path = Path(f"frames-{frames_hash(self)}")

    def _decode(self, index: int) -> np.ndarray:
        image = self.images[index]
        if isinstance(image, (str, Path)):
            return read_picture(Path(image))
        if isinstance(image, Image.Image):
            return as_looked_at(image, f"{self.path}: frame {index}")
        return checked_frame(image, f"{self.path}: frame {index}")

    def _name(self, index: int) -> str:
        image = self.images[index]
        return f" ({Path(image).name})" if isinstance(image, (str, Path)) else ""

    def _frame(self, index: int) -> np.ndarray | None:
        if index >= len(self.images):
            return None
        frame = self._decode(index)
        if frame.shape[:2] != self.size:
            (h, w), (h0, w0) = frame.shape[:2], self.size
            raise InputError(
                f"{self.path}: frame {index}{self._name(index)} is {w}x{h}, the first one"
                f" {w0}x{h0}; bring all images to one size"
            )
        return frame

    def __len__(self) -> int:
        return len(self.images)

    def close(self) -> None:
        """Nothing stays open between two images."""


def images_in(folder: Path) -> list[Path]:
    """A folder's images, in natural order (2.jpg before 10.jpg)."""
    found = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    shown = (file for file in found if not file.name.startswith("."))
    return sorted(shown, key=lambda file: natural_key(file.name))


class ImageFolder(ImageList):
    """A folder of images, in natural order (2.jpg before 10.jpg)."""

    def __init__(self, path: Path) -> None:
        self.files = images_in(path)
        if not self.files:
            raise InputError(
                f"{path}: the folder holds no image; wanted {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        super().__init__(self.files, path)


def checked_frame(frame: Any, name: str) -> np.ndarray:
    """The frame as an array (H0, W0, 3) uint8.

    Raises:
        InputError: another shape or type; it is called `name`.
    """
    frame = np.asarray(frame)
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise InputError(
            f"{name}: wanted (height, width, 3) uint8 RGB, got {frame.shape} {frame.dtype}"
        )
    return frame


class SpooledFrames(FrameSource):
    """Frames that come only once, kept in a temporary file without loss; small videos stay in
    memory."""

    def __init__(
        self, frames: Iterable[Any], name: str = "", fps: float = FOLDER_FPS, end: int | None = None
    ) -> None:
        """Takes all frames (H0, W0, 3) uint8 RGB, or those before frame `end`. `name` says where
        they come from; a hash of them is added, because the same place may give others later.

        Raises:
            InputError: no frame, or one of another size or type than (H0, W0, 3) uint8.
        """
        self.path, self.fps, self._count = Path(name or "frames"), fps, 0
        self._file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        for frame in islice(frames, end):
            self._add(frame)
        if not self._count:
            raise InputError(f"{self.path}: wanted at least one frame, got none")
        self.announced = self._count
        self.path = Path(f"{self.path}-{frames_hash(self)}")

    def _add(self, frame: Any) -> None:
        name = f"{self.path}: frame {self._count}"
        frame = _given(frame, name, self.size if self._count else None)
        self.size = frame.shape[:2]
        self._file.write(frame.tobytes())
        self._count += 1

    def _frame(self, index: int) -> np.ndarray | None:
        if index >= self._count:
            return None
        length = 3 * self.size[0] * self.size[1]
        self._file.seek(index * length)
        return np.frombuffer(self._file.read(length), np.uint8).reshape(*self.size, 3)

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """The file goes with the object: its frames cannot be had again."""


def _given(frame: Any, name: str, size: tuple[int, int] | None) -> np.ndarray:
    """A frame (H0, W0, 3) uint8 RGB that a caller gave.

    Raises:
        InputError: another shape or type, or another size than that of the first one.
    """
    image = isinstance(frame, Image.Image)
    frame = as_looked_at(frame, name) if image else checked_frame(frame, name)
    if size is not None and frame.shape[:2] != size:
        (h, w), (h0, w0) = frame.shape[:2], size
        raise InputError(f"{name} is {w}x{h}, the first one {w0}x{h0}")
    return frame


class ArrivingFrames(FrameSource):
    """Frames as they come, such as a camera's, of which the last few are kept."""

    def __init__(
        self,
        frames: Iterable[Any],
        name: str = "frames",
        fps: float = FOLDER_FPS,
        kept: int = _KEPT,
        release: Callable[[], None] | None = None,
    ) -> None:
        """Takes the first frame (H0, W0, 3) uint8 RGB; of the others, each when it is wanted.
        `release` lets go of where they come from, when this is closed.

        Raises:
            InputError: no frame, or another shape or type.
        """
        self.path, self.fps, self.announced, self._count = Path(name), fps, 0, 0
        self._frames, self._last = iter(frames), deque[np.ndarray](maxlen=kept)
        self._release = release
        self.size = (0, 0)
        if not self._take():
            raise InputError(f"{self.path}: wanted at least one frame, got none")

    def _take(self) -> bool:
        """Whether there was one more."""
        frame = next(self._frames, None)
        if frame is None:
            return False
        name = f"{self.path}: frame {self._count}"
        frame = _given(frame, name, self.size if self._count else None)
        self.size = frame.shape[:2]
        self._last.append(frame)
        self._count += 1
        return True

    def _frame(self, index: int) -> np.ndarray | None:
        while self._count <= index:
            if not self._take():
                return None
        place = index - self._count + len(self._last)
        if place < 0:
            raise InputError(f"{self.path}: frame {index} has gone by; it comes only once")
        return self._last[place]

    def __len__(self) -> int:
        """Those that have come."""
        return self._count

    def close(self) -> None:
        if self._release is not None:
            self._release()


def frames_hash(frames: FrameSource) -> str:
    """16 letters that tell one video's frames from another's: of their size and every pixel."""
    digest = hashlib.blake2b(repr(tuple(frames.size)).encode(), digest_size=8)
    for frame in frames.iterate():
        digest.update(frame.tobytes())
    return digest.hexdigest()


def _stream(source: str | int, name: str, end: int | None) -> SpooledFrames:
    """What OpenCV reads from an address or a camera.

    Raises:
        InputError: it cannot be opened, or gives no frame.
    """
    capture = _opened(source, name)
    try:
        fps = capture.get(cv2.CAP_PROP_FPS)
        return SpooledFrames(_grabbed(capture), name, fps if 0 < fps < 1000 else FOLDER_FPS, end)
    finally:
        capture.release()


def _opened(source: str | int, name: str) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        capture.release()
        raise InputError(f"{name}: OpenCV cannot open it; is it there, and may you read it?")
    return capture


def _grabbed(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        read, frame = capture.read()
        if not read:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


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
    if not path.exists():
        places.fetch(path)
    if path.is_dir():
        return ImageFolder(path)
    if not path.exists():
        raise InputError(f"no video at {path}")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{path} is one picture; wanted a video, or the folder of its pictures")
    return VideoFile(path)


VideoLike = Path | str | int | np.ndarray | Sequence[Any] | Iterator[Any] | FrameSource


def is_path(video: VideoLike) -> TypeGuard[Path | str]:
    """Whether it names a video file or a folder of images, not an address."""
    return isinstance(video, Path) or (isinstance(video, str) and not _ADDRESS.fullmatch(video))


def take_frames(video: VideoLike, end: int | None = None) -> FrameSource:
    """The frames of whatever a notebook has: a path (as `open_frames`), an array (T, H0, W0, 3)
    uint8 RGB, a list of images (arrays, PIL images or paths), an iterator of frames, an address
    or a camera's number that OpenCV opens.

    Args:
        end: the frame to stop before, where frames come only once; None: all that come.

    Raises:
        InputError: none of these, one that cannot be opened, or one that would never end.
    """
    if isinstance(video, str | Path) and is_path(video):
        return open_frames(video)
    if isinstance(video, int) and not isinstance(video, bool):
        if video < 0:
            raise InputError(f"camera {video}: wanted a number from 0")
        return _live(video, f"camera-{video}", end)
    if isinstance(video, str):
        protocol = video.partition("://")[0].lower()
        return (_live if protocol in LIVE else _stream)(video, _address_name(video), end)
    if isinstance(video, FrameSource):
        return video
    if hasattr(video, "__array__") and not isinstance(video, Image.Image):
        video = np.asarray(video)
        if video.ndim != 4:
            raise InputError(
                f"an array of shape {video.shape}: wanted (frames, height, width, 3) uint8 RGB"
            )
        return ImageList(video)
    if isinstance(video, Sequence) and not isinstance(video, bytes):
        return ImageList(video)
    if isinstance(video, Iterator):
        return SpooledFrames(video, end=end)
    raise InputError(
        f"a {type(video).__name__} is no video: wanted a path, an address, a camera's number, an "
        "array (frames, height, width, 3) uint8 RGB, a list of images or an iterator of frames"
    )


def arriving_frames(video: VideoLike, end: int | None = None) -> FrameSource:
    """As `take_frames`, but frames that come only once (a camera's, an address's, an iterator's)
    are given on as they come, and may never end.

    Raises:
        InputError: as `take_frames`.
    """
    if isinstance(video, int) and not isinstance(video, bool) and video >= 0:
        return _captured(video, f"camera-{video}", end)
    if isinstance(video, str) and not is_path(video):
        return _captured(video, _address_name(video), end)
    if isinstance(video, Iterator):
        return ArrivingFrames(islice(video, end))
    return take_frames(video, end)


def _captured(source: str | int, name: str, end: int | None) -> ArrivingFrames:
    capture = _opened(source, name)
    fps = capture.get(cv2.CAP_PROP_FPS)
    fps, frames = fps if 0 < fps < 1000 else FOLDER_FPS, islice(_grabbed(capture), end)
    return ArrivingFrames(frames, name, fps, release=capture.release)


def _address_name(address: str) -> str:
    """An address without password and token."""
    return address.partition("?")[0].rpartition("@")[2][-100:]


def _live(source: str | int, name: str, end: int | None) -> SpooledFrames:
    if end is None:
        raise InputError(f"{name} never ends: wanted how many frames, such as frames=range(100)")
    return _stream(source, name, end)


def fitted_size(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of frames of `size` (H0, W0) scaled by the largest one factor that fits them into
    `room` (H, W)."""
    return scaled_size(size, min(room[0] / size[0], room[1] / size[1]), room)


def scaled_size(size: tuple[int, int], scale: float, room: tuple[int, int]) -> tuple[int, int]:
    """(h, w) in whole pixels of frames of `size` (H0, W0) times a factor, at most `room` (H, W)."""
    h, w = (min(most, max(1, round(side * scale))) for side, most in zip(size, room, strict=True))
    return h, w


def resize_frame(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The frame (H0, W0, C) at `size` (h, w), averaged where it shrinks."""
    if frame.shape[:2] == size:
        return frame
    shrinks = size[0] * size[1] < frame.shape[0] * frame.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(frame, size[::-1], interpolation=method)
