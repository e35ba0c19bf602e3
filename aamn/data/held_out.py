"""Training videos kept apart, so that a setting can be chosen without looking at the test split."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aamn.data.source import Expression, FullTarget, KeyFrame, VideoTextSource
from aamn.structures import Target
from proposals.errors import InputError
from proposals.frames import FrameSource

HELD_OUT = "held_out"  # the split's name


def is_held_out(video_id: str, share: float) -> bool:
    """Whether a video is among the given share (0..1) of all; its name alone decides, so videos
    that are added later change no other's side."""
    digest = hashlib.sha256(video_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


class TrainingPart:
    """The held-out videos of a training split, or all others."""

    def __init__(self, source: VideoTextSource, share: float, held_out: bool) -> None:
        self._source = source
        self._held_out = held_out
        self.video_ids = [v for v in source.video_ids if is_held_out(v, share) == held_out]
        kept = set(self.video_ids)
        self.key_frames: list[KeyFrame] = [k for k in source.key_frames if k.video_id in kept]

    def texts(self) -> list[str]:
        """All sentences of these videos."""
        return [expression.text for v in self.video_ids for expression in self.sentences(v)]

    def sentences(self, video_id: str) -> tuple[Expression, ...]:
        """All sentences of one of these videos.

        Raises:
            InputError: it is none of these.
        """
        found = self._source.sentences(video_id)
        if video_id not in self.video_ids:
            side = "is not" if self._held_out else "is"
            raise InputError(f"the training video {video_id} {side} held out (data.held_out)")
        return found

    def frames(self, video_id: str) -> FrameSource:
        return self._source.frames(video_id)

    def video_path(self, video_id: str) -> Path:
        return self._source.video_path(video_id)

    def targets(self, key_frame: KeyFrame) -> tuple[Target, ...]:
        return self._source.targets(key_frame)

    def full_video_targets(self, video_id: str, instance: int) -> FullTarget | None:
        return self._source.full_video_targets(video_id, instance)
