"""Whole videos, clip by clip: every frame gets a mask for every sentence.

Clips follow each other without a gap, and each clip answers for the frames that no clip before it
has answered for, so memory does not grow with the video's length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aamn.config.schema import FlowConfig
from aamn.data.flow.store import FlowStore
from aamn.data.samples import load_clip, load_proposals
from aamn.models.segmenter import Segmenter
from aamn.structures import InputSpec, MaskTrack, Query
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


def plan_windows(frames: int, input_spec: InputSpec) -> list[Window]:
    """Clips that together answer once for each of `frames` frames.

    A segmenter that predicts key frames only gets a clip for every frame; one that predicts whole
    clips gets clips side by side, the last one moved back so that it does not leave the video.
    """
    if input_spec.predicts == "key":
        return [Window(n, n, n + 1) for n in range(frames)]
    before, after = -min(input_spec.offsets), max(input_spec.offsets)
    length = before + after + 1
    windows, start = [], 0
    while start < frames:
        stop = min(start + length, frames)
        latest = max(frames - 1 - after, min(before, (frames - 1) // 2))
        windows.append(Window(min(start + before, latest), start, stop))
        start = stop
    return windows


def windows_of(wanted: range, frames: int, input_spec: InputSpec) -> list[Window]:
    """Those of `plan_windows` that answer for one of the wanted frames."""
    return [
        window
        for window in plan_windows(frames, input_spec)
        if any(n in wanted for n in range(window.start, window.stop))
    ]


def _cut(
    track: MaskTrack, window: Window, frames: Sequence[int], input_spec: InputSpec
) -> MaskTrack:
    """These frames of the window's track."""
    if input_spec.predicts == "key":
        return track
    first = window.key_frame + min(input_spec.offsets)
    return track.at([frame - first for frame in frames])


def segment_video(
    segmenter: Segmenter,
    video_id: str,
    frames: FrameSource,
    queries: Sequence[Query],
    proposals: ProposalStore | None = None,
    flow: FlowStore | None = None,
    flow_config: FlowConfig | None = None,
    wanted: range | None = None,
) -> Iterator[Answer]:
    """Masks of all sentences in the order of the frames, in every frame, or in those `wanted`;
    clips without one of these are passed by.

    Raises:
        InputError: the video cannot be decoded, or the proposals or flow file lacks it.
    """
    input_spec = segmenter.input_spec
    segmenter.eval()
    wanted = range(len(frames)) if wanted is None else wanted
    for window in windows_of(wanted, len(frames), input_spec):
        chosen = [n for n in range(window.start, window.stop) if n in wanted]
        clip = load_clip(video_id, frames, window.key_frame, input_spec, flow, flow_config)
        boxes = None
        if input_spec.proposals:
            assert proposals is not None, "wanted the proposals of a segmenter that needs them"
            boxes = load_proposals(proposals, video_id, clip.frame_indices, input_spec.proposals)
        tracks = segmenter.segment(clip, boxes, queries)
        parts = tuple(_cut(track, window, chosen, input_spec) for track in tracks)
        yield Answer(chosen[0], chosen[-1] + 1, parts)
