"""Training videos kept apart, so that a setting can be chosen without looking at the test split."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aamn.data.datasets.source import (
    Expression,
    FullTarget,
    KeyFrame,
    SentencesByVideo,
    VideoTextSource,
)
from aamn.structures import Target
from proposals.errors import InputError
from proposals.frames import FrameSource

VALIDATION = "validation"  # the split's name


def in_validation(video_id: str, share: float) -> bool:
    """Whether a video is among the given share (0..1) of all; its name alone decides, so videos
    that are added later change no other's side."""
    digest = hashlib.sha256(video_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def check_share(share: float, name: str) -> None:
    """Raises InputError, with the option's name, unless the share leaves videos to learn from."""
    if not 0 <= share < 1:
        raise InputError(f"{name}: wanted a share from 0 to below 1, got {share}")


class TrainingPart(SentencesByVideo):
    """The validation videos of a training split, or all others."""

    def __init__(self, source: VideoTextSource, share: float, validation: bool) -> None:
        self._source = source
        self._validation = validation
        kept = [v for v in source.video_ids if in_validation(v, share) == validation]
        self._sentences = {video_id: source.sentences(video_id) for video_id in kept}
        self.key_frames: list[KeyFrame] = [
            key for key in source.key_frames if key.video_id in self._sentences
        ]

    def sentences(self, video_id: str) -> tuple[Expression, ...]:
        """All sentences of one of these videos.

        Raises:
            InputError: it is none of these.
        """
        found = self._source.sentences(video_id)
        if video_id not in self._sentences:
            side = "is not" if self._validation else "is"
            raise InputError(
                f"the training video {video_id} {side} of the validation split "
                "(data.validation_share)"
            )
        return found

    def frames(self, video_id: str) -> FrameSource:
        return self._source.frames(video_id)

    def video_path(self, video_id: str) -> Path:
        return self._source.video_path(video_id)

    def targets(self, key_frame: KeyFrame) -> tuple[Target, ...]:
        return self._source.targets(key_frame)

    def full_video_targets(self, video_id: str, instance: int) -> FullTarget | None:
        return self._source.full_video_targets(video_id, instance)
