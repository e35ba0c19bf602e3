"""Overlay videos: H.264 in an mp4 that browsers play while they load it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from proposals.errors import InputError
from proposals.files import cannot_write, written_aside

QUALITY = {"crf": "20", "preset": "veryfast"}  # of x264
UNKNOWN_FPS = 25.0
_BT601 = 6  # the matrix, primaries and transfer that are said to be, and are, used


class VideoWriter:
    """Takes a video's pictures one by one."""

    def __init__(
        self, path: Path, container: av.container.OutputContainer, stream: av.VideoStream
    ) -> None:
        self._path, self._container, self._stream = path, container, stream

    def add(self, picture: np.ndarray) -> None:
        """Appends an RGB frame (H, W, 3) uint8; an odd side repeats its last row or column, since
        H.264 stores colours for 2x2 pixels.

        Raises:
            InputError: it cannot be written, or is of another size than the first.
        """
        h, w = picture.shape[:2]
        even = np.pad(picture, ((0, h % 2), (0, w % 2), (0, 0)), "edge")
        if even.shape[:2] != (self._stream.height, self._stream.width):
            raise InputError(f"{self._path}: a frame of {w}x{h} in a video of another size")
        frame = av.VideoFrame.from_ndarray(even, "rgb24")
        yuv = frame.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")
        self._write(yuv)

    def finish(self) -> None:
        """Writes what the encoder still holds back."""
        self._write(None)

    def _write(self, frame: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise _cannot_write(self._path, error) from None


@contextmanager
def written_video(path: Path, fps: float, size: Sequence[int]) -> Iterator[VideoWriter]:
    """The writer of an mp4, which appears under its name when it is complete; `size` is (height,
    width) of every frame.

    Raises:
        InputError: the file cannot be written.
    """
    with written_aside(path, suffix=".mp4") as aside:
        try:
            container = av.open(str(aside), "w", options={"movflags": "+faststart"})
        except (av.FFmpegError, OSError) as error:
            raise _cannot_write(path, error) from None
        try:
            with container:
                writer = VideoWriter(path, container, _stream(container, path, fps, size))
                yield writer
                writer.finish()
        except av.FFmpegError as error:  # the index is written when the file is closed
            raise _cannot_write(path, error) from None


def _stream(
    container: av.container.OutputContainer, path: Path, fps: float, size: Sequence[int]
) -> av.VideoStream:
    if min(size) < 1:
        raise InputError(f"{path}: cannot write a video of {size[1]}x{size[0]} pixels")
    stream = container.add_stream("libx264", rate=exact_rate(fps), options=QUALITY)
    stream.height, stream.width = (side + side % 2 for side in size)
    stream.pix_fmt = "yuv420p"
    codec = stream.codec_context
    codec.colorspace = codec.color_primaries = codec.color_trc = _BT601
    codec.color_range = 1  # 16 to 235
    return stream


def exact_rate(fps: float) -> Fraction:
    """The fraction that a float stands for, such as 30000/1001; 25 where it is 0."""
    return Fraction(fps or UNKNOWN_FPS).limit_denominator(100_000)


def _cannot_write(path: Path, error: Exception) -> InputError:
    number = getattr(error, "errno", None)
    return cannot_write(path, OSError(number, getattr(error, "strerror", None) or str(error)))
