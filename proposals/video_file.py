"""A video file as FFmpeg's libraries decode it: frame after frame, from the start or a key frame.

What a file holds decides, not its suffix. Formats that name other files (playlists) and text that
FFmpeg would draw are no videos. What has been decoded is counted in the order in which frames are
shown; the container's rotation is applied, nothing is resized or cropped.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import numpy as np
from av.video.reformatter import VideoReformatter

from proposals.errors import InputError
from proposals.limits import check_pixels

_FORMATS = (  # FFmpeg's names
    "mov,matroska,avi,gif,mpeg,mpegts,mpegvideo,m4v,h264,hevc,obu,ivf,asf,flv,ogg,mxf,dv,rm,nut,"
    "mjpeg,yuv4mpegpipe,wtv,apng"
)
_EXACT = "mov,"  # whose headers count their frames; others state a duration
_SLACK_FRAMES, _SLACK_SHARE = 3, 0.01  # by which a stated duration may be wrong


class VideoDecoder:
    """Decodes one video file; used by one thread.

    fps: frames a second, 0 where it is not said; announced: the frames that the header promises,
    where it states a duration an estimate, 0 where it says nothing; failure: why decoding ended
    before the file did, or "".
    """

    def __init__(self, path: Path) -> None:
        """Raises:
        InputError: no video, one without a decoder here, or one of too many pixels.
        """
        self.path, self.failure = path, ""
        self._container = _opened(path)
        try:
            self._stream = _video_stream(path, self._container)
            self._codec = self._stream.codec_context
            if self._codec.height and self._codec.width:  # else they are known when one is decoded
                check_pixels((self._codec.height, self._codec.width), str(path))
        except InputError:
            self._container.close()
            raise
        self._codec.thread_count = 1  # the programs decode in several processes
        self._seconds = _stated_seconds(self._container, self._stream)
        self.fps = float(self._stream.guessed_rate or self._stream.average_rate or 0)
        exact = self._container.format.name.startswith(_EXACT)
        self._counted = self._stream.frames if exact else 0
        self.announced = self._counted or round(self._seconds * self.fps)
        self._to_rgb = VideoReformatter()
        self._frames = self._decoded()
        self.frame: av.VideoFrame | None = None

    def advance(self) -> av.VideoFrame | None:
        """Decodes the next frame, which becomes `frame`; None at the end."""
        self.frame = next(self._frames, None)
        return self.frame

    def _decoded(self) -> Generator[av.VideoFrame, None, None]:
        """The frames from here on, up to the first one that cannot be decoded: those behind it
        would get wrong numbers. A stream may begin with what needs frames that were cut off."""
        begun, packets = False, self._container.demux(self._stream)
        while True:
            packet = None
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.is_corrupt and begun:
                    raise av.InvalidDataError(0, "a part of it is missing")
                frames = self._stream.decode(packet)
            except (av.FFmpegError, ValueError) as error:
                if begun or packet is None:
                    self.failure = _reason(error)
                    yield from self._delayed(packet.pts if packet else None)
                    return
                continue
            begun = begun or bool(frames)
            yield from frames

    def _delayed(self, until: int | None) -> Iterator[av.VideoFrame]:
        """The frames shown before the time `until` that the decoder still holds back."""
        with suppress(av.FFmpegError):
            for frame in self._stream.decode(None):
                if until is not None and frame.pts is not None and frame.pts < until:
                    yield frame

    def seek(self, stamp: int) -> bool:
        """Decodes the key frame shown at `stamp`, which becomes `frame`; False when there is none
        at that time, wherever the decoder stands then."""
        try:
            self._container.seek(stamp, stream=self._stream)
        except av.FFmpegError:
            return False
        self._frames = self._decoded()
        for frame in self._frames:
            self.frame = frame
            if frame.pts is None or frame.pts >= stamp:
                return frame.pts == stamp
        return False

    def picture(self) -> np.ndarray:
        """`frame` as (H0, W0, 3) uint8 RGB.

        Raises:
            InputError: it has too many pixels.
        """
        assert self.frame is not None  # advance or seek has set it
        check_pixels((self.frame.height, self.frame.width), str(self.path))
        pixels = self._to_rgb.reformat(self.frame, format="rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, self.frame.rotation // 90))

    def lacks(self, count: int, last: int | None) -> bool:
        """Whether the file promises more than `count` frames of which the last is shown at `last`,
        where that is known; False where it promises nothing."""
        if self._counted:
            return count < self._counted and count < self._counted - self._hidden()
        shown = count / (self.fps or 25)
        if last is not None:
            shown = float((last - (self._stream.start_time or 0)) * (self._stream.time_base or 0))
        slack = max(_SLACK_FRAMES / (self.fps or 25), _SLACK_SHARE * self._seconds)
        return shown + slack < self._seconds

    def _hidden(self) -> int:
        """Frames that the header counts and bids players not to show."""
        hidden = 0
        with _opened(self.path) as container, suppress(av.FFmpegError):
            for packet in container.demux(container.streams[self._stream.index]):
                hidden += packet.is_discard
        return hidden

    def close(self) -> None:
        """Frees the file and the decoder."""
        self._frames.close()
        self._container.close()


def _opened(path: Path) -> av.container.InputContainer:
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    try:
        return av.open(str(path.resolve()), options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise no_frame(path, _reason(error)) from None


def no_frame(path: Path, reason: str = "") -> InputError:
    """What to say of a file that holds no video."""
    why = f" ({reason})" if reason else ""
    return InputError(
        f"{path}: no frame can be decoded{why}; the file is truncated or damaged, or no video"
    )


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", "") or error).split())


def _video_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream):
        if container.streams.audio:
            raise InputError(f"{path} holds no video, only sound")
        raise no_frame(path, "it holds no video")
    if stream.codec_context is None:
        raise InputError(
            f"{path} is encoded as {_codec_name(container)}, for which there is no decoder here "
            f"(PyAV {av.__version__}); convert it, such as by `ffmpeg -i OLD -c:v libx264 NEW.mp4`"
        )
    return stream


def _codec_name(container: av.container.InputContainer) -> str:
    """The name of the video's codec, or its four letters, from FFmpeg's description of the file."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        description: str = container.dumps_format()  # type: ignore[attr-defined]
    finally:
        av.logging.set_level(level)
    found = re.search(r"Video: (\w+)(?: \((\w+))?", description)
    names = [name for name in (found.groups() if found else ()) if name and name != "none"]
    return names[0] if names else "an unknown codec"


def _stated_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """How long the video is by its header; 0 where it does not say."""
    base = stream.time_base or Fraction(0)
    if container.format.name == "avi":
        return float(stream.frames * base)
    if stream.duration:
        return float(stream.duration * base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if tag:
        hours, minutes, seconds = tag.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    alone = len(container.streams) == 1
    return (container.duration or 0) / av.time_base if alone else 0.0
