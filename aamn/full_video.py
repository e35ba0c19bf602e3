"""Whole videos, clip by clip: every frame gets a mask for every sentence.

Clips follow each other without a gap, and each clip answers for the frames that no clip before it
has answered for, so memory does not grow with the video's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from aamn.config import FlowConfig
from aamn.data.clips import load_clip, load_proposals
from aamn.data.flow_store import FlowStore
from aamn.models.segmenter import Segmenter
from aamn.structures import MaskTrack, Needs, Query
from proposals.frames import FrameSource
from proposals.store import ProposalStore


@dataclass(frozen=True)
class Window:
    """A clip by its key frame, and the frames start..stop-1 it answers for."""

    key_frame: int
    start: int
    stop: int


@dataclass(frozen=True)
class Answer:
    """Frames start..stop-1 of a video, or some of them: one track a sentence, which says which."""

    start: int
    stop: int
    tracks: tuple[MaskTrack, ...]


def plan_windows(frames: int, needs: Needs) -> list[Window]:
    """Clips that together answer once for each of `frames` frames.

    A segmenter that predicts key frames only gets a clip for every frame; one that predicts whole
    clips gets clips side by side, the last one moved back so that it does not leave the video.
    """
    if needs.predicts == "key":
        return [Window(n, n, n + 1) for n in range(frames)]
    before, after = -min(needs.offsets), max(needs.offsets)
    length = before + after + 1
    windows, start = [], 0
    while start < frames:
        stop = min(start + length, frames)
        latest = max(frames - 1 - after, min(before, (frames - 1) // 2))
        windows.append(Window(min(start + before, latest), start, stop))
        start = stop
    return windows


def _cut(track: MaskTrack, window: Window, needs: Needs) -> MaskTrack:
    """The part of a clip's track that lies in the window."""
    if needs.predicts == "key":
        return track
    first = window.key_frame + min(needs.offsets)
    return _at(track, torch.arange(window.start, window.stop) - first)


def _at(track: MaskTrack, places: torch.Tensor) -> MaskTrack:
    """The frames at these places of a track."""
    return MaskTrack(
        video_id=track.video_id,
        text=track.text,
        frame_indices=track.frame_indices[places],
        boxes=track.boxes[places],
        masks=track.masks[places],
        score=track.score,
        scores=track.scores,
        tube=track.tube,
    )


def segment_video(
    segmenter: Segmenter,
    video_id: str,
    frames: FrameSource,
    queries: Sequence[Query],
    proposals: ProposalStore | None = None,
    flow: FlowStore | None = None,
    flow_config: FlowConfig | None = None,
) -> Iterator[Answer]:
    """Masks of all sentences in every frame, in the order of the frames.

    Raises:
        InputError: the video cannot be decoded, or the proposals or flow file lacks it.
    """
    needs = segmenter.needs
    segmenter.eval()
    for window in plan_windows(len(frames), needs):
        clip = load_clip(video_id, frames, window.key_frame, needs, flow, flow_config)
        boxes = None
        if needs.proposals:
            boxes = load_proposals(proposals, video_id, clip.frame_indices, needs.proposals)
        tracks = segmenter.segment(clip, boxes, queries)
        yield Answer(
            window.start, window.stop, tuple(_cut(track, window, needs) for track in tracks)
        )


def select_frames(answers: Iterable[Answer], frames: range) -> Iterator[Answer]:
    """The answers' share of the given frames."""
    for answer in answers:
        places = [n - answer.start for n in range(answer.start, answer.stop) if n in frames]
        if places:
            tracks = tuple(_at(track, torch.tensor(places)) for track in answer.tracks)
            yield Answer(answer.start + places[0], answer.start + places[-1] + 1, tracks)
