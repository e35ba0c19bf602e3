"""What the page lets a visitor ask of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proposals.errors import InputError
from proposals.frames import FrameSource


@dataclass(frozen=True)
class Limits:
    """The most of one upload (megabytes, frames, megapixels a frame), of one question (sentences,
    letters of each), and of videos that all visitors have open at once; an unused one is closed
    after `minutes`."""

    megabytes: float = 200
    frames: int = 1800
    megapixels: float = 2.1
    sentences: int = 8
    letters: int = 200
    videos: int = 32
    minutes: float = 30

    def check_bytes(self, count: int) -> None:
        """Raises:
        InputError: an upload of so many bytes is too large.
        """
        if count > self.megabytes * 1e6:
            raise InputError(
                f"the file is larger than {self.megabytes:g} MB; cut the video, or scale it down"
            )

    def check_frames(self, count: int) -> None:
        """Raises:
        InputError: a video of so many frames is too long.
        """
        if count > self.frames:
            raise InputError(f"the video is longer than {self.frames} frames; cut it")

    def check_video(self, frames: FrameSource) -> None:
        """Raises:
        InputError: the video announces more frames or larger ones than are allowed.
        """
        height, width = frames.size
        if height * width > self.megapixels * 1e6:
            raise InputError(
                f"its frames are {width}x{height}, more than {self.megapixels:g} megapixels; "
                "scale the video down"
            )
        self.check_frames(frames.announced)

    def check_sentences(self, texts: Sequence[str]) -> None:
        """Raises:
        InputError: too many sentences, or one that is too long.
        """
        if len(texts) > self.sentences:
            raise InputError(f"wanted at most {self.sentences} sentences, got {len(texts)}")
        if any(len(text) > self.letters for text in texts):
            raise InputError(f"a sentence is longer than {self.letters} letters")
