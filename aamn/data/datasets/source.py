"""What a data set of videos with sentences offers, whichever its files look like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from aamn.structures import Target
from proposals.errors import InputError
from proposals.frames import FrameSource


@dataclass(frozen=True)
class Expression:
    """A sentence and the object of one video that it refers to.

    actor and action are A2D's class numbers (0: unknown); `kind` says what decides between the
    objects ("" when the data set has no tags); `distractors` counts the video's objects between
    which that alone decides, the referent included (0: unknown).
    """

    video_id: str
    instance: int
    text: str
    kind: str = ""
    actor: int = 0
    action: int = 0
    distractors: int = 0


@dataclass(frozen=True)
class KeyFrame:
    """An annotated frame (0-based) with every sentence whose object it shows."""

    video_id: str
    frame: int
    expressions: tuple[Expression, ...]


@dataclass(frozen=True)
class FullTarget:
    """An object in every frame: boxes (N, 4) float32 original pixels, all zeros where the object
    is absent, and masks (N, H0, W0) bool, or None where only boxes are annotated."""

    instance: int
    boxes: Tensor
    masks: Tensor | None


def target_of(expression: Expression, box: Tensor, mask: Tensor) -> Target:
    """The expression's target with its tags."""
    return Target(
        expression.instance, box, mask, expression.kind, distractors=expression.distractors
    )


class SentencesByVideo:
    """The part of a source that its sentences by video alone decide; `_listed_in` says in errors
    where they come from."""

    _sentences: dict[str, tuple[Expression, ...]]
    _listed_in: str | Path

    @property
    def video_ids(self) -> list[str]:
        """The split's videos that have sentences."""
        return list(self._sentences)

    def sentences(self, video_id: str) -> tuple[Expression, ...]:
        """All sentences of one video.

        Raises:
            InputError: the split has no such video.
        """
        if video_id not in self._sentences:
            raise InputError(f"{self._listed_in} has no video {video_id}")
        return self._sentences[video_id]

    def texts(self) -> list[str]:
        """All sentences of the split."""
        return [expression.text for found in self._sentences.values() for expression in found]


class VideoTextSource(Protocol):
    """One split of a data set. Sources are picklable and open files when these are asked for."""

    key_frames: list[KeyFrame]

    @property
    def video_ids(self) -> list[str]:
        """The videos that have sentences."""

    def sentences(self, video_id: str) -> tuple[Expression, ...]:
        """All sentences of one video."""

    def texts(self) -> list[str]:
        """All sentences, for building the vocabulary."""

    def frames(self, video_id: str) -> FrameSource:
        """The video's frames."""

    def video_path(self, video_id: str) -> Path:
        """The video file or folder of images that `frames` opens."""

    def targets(self, key_frame: KeyFrame) -> tuple[Target, ...]:
        """What each expression of the key frame refers to, in their order."""

    def full_video_targets(self, video_id: str, instance: int) -> FullTarget | None:
        """The object in every frame, or None when the data set does not say."""
