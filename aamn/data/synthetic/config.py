"""Every knob of the synthetic corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from proposals.errors import InputError
from proposals.ranges import Range, Seed, Share

Videos = Annotated[int, Range(0, 100_000)]
Side = Annotated[int, Range(64, 8192)]


@dataclass
class SyntheticConfig:
    """Size, length and difficulty of the corpus; lengths of the picture in pixels."""

    seed: Seed = 0
    train_videos: Videos = 120
    test_videos: Videos = 40
    # sentences about each actor of the train split, as many as can be told apart
    sentences: Annotated[int, Range(1, 100)] = 1
    # videos of the train split that have no sentence, as A2D's missed ones
    missed_videos: Videos = 1
    width: Side = 160
    height: Side = 120
    min_frames: Annotated[int, Range(12, 100_000)] = 24
    max_frames: Annotated[int, Range(12, 100_000)] = 40
    fps: Annotated[float, Range(0, 1000, above=True)] = 25.0
    codec: str = "mp4v"  # four letters that OpenCV's writer knows
    shake: Share = 0.008  # standard deviation of the camera's shake, in frame heights
    drift: Share = 0.002  # largest speed of the background, in frame heights a frame
    # standard deviation of the sensor's noise, in grey levels of 255
    noise: Annotated[float, Range(0, 255)] = 2.0
    max_occluders: Annotated[int, Range(0, 100)] = 2  # posts and bushes in front of the actors

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 64:
            raise InputError(
                f"width x height: wanted at least 64 x 64, got {self.width} x {self.height}"
            )
        if self.width % 2 or self.height % 2:
            raise InputError(
                f"width x height: the codec wants even numbers, got {self.width} x {self.height}"
            )
        if not 12 <= self.min_frames <= self.max_frames:
            raise InputError(
                "min_frames and max_frames: wanted 12 <= min_frames <= max_frames, got "
                f"{self.min_frames} and {self.max_frames}"
            )
        if min(self.train_videos, self.test_videos, self.missed_videos) < 0:
            raise InputError("train_videos, test_videos and missed_videos cannot be negative")
        if len(self.codec) != 4:
            raise InputError(f"codec: wanted four letters such as mp4v, got {self.codec!r}")


@dataclass
class CollageConfig(SyntheticConfig):
    """A corpus of real cut-outs before real backgrounds."""

    # the share of training videos that recipes keep apart (their data.validation_share): cut-outs
    # and backgrounds of their own
    validation_share: Annotated[float, Range(0, 1, below=True)] = 0.1
    # sequences that show actors without a mask, such as parked cars, and so are no background
    busy: list[str] = field(default_factory=list)
    # sequences whose actor is half hidden later on: it plays in training videos alone
    train_only: list[str] = field(default_factory=list)
