"""How long a trained system takes for a clip and a sentence, and for the frames of a video."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch

from aamn.data.flow.store import FlowStore
from aamn.index.box_source import StoredBoxes
from aamn.index.builder import build_index
from aamn.index.job import IndexJob, indexable
from aamn.index.video_index import VideoIndex
from aamn.inference.checkpoint import Loaded
from aamn.inference.clip_by_clip import segment_video
from aamn.models.aamn import AAMN
from aamn.models.segmenter import Segmenter
from aamn.structures import Sample
from proposals.frames import FrameSource
from proposals.store import ProposalStore

REPEATS = 3  # of what takes little: a further sentence


@dataclass(frozen=True)
class VideoSeconds:
    """Seconds a frame of one video: for its first sentence, decoding included, and for a further
    one; `further` is None where a system keeps nothing of what it has seen."""

    first: float
    further: float | None


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of one call, until the GPU, if there is one, has done its part."""
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def pair_seconds(segmenter: Segmenter, samples: Iterable[Sample]) -> float:
    """Median seconds from a loaded clip, with its boxes and flow, to the masks of one sentence; the
    first sample only warms up, and each counts with its first sentence."""

    def segment(sample: Sample) -> None:
        segmenter.segment(sample.clip, sample.proposals, sample.queries[:1])

    taken = [seconds_of(partial(segment, sample)) for sample in samples]
    return median(taken[1:])


def video_seconds(
    loaded: Loaded,
    video_id: str,
    frames: FrameSource,
    texts: Sequence[str],
    boxes: ProposalStore | None,
    flow: FlowStore | None,
    folder: Path,
) -> VideoSeconds:
    """Seconds a frame for `texts[0]` and, by the index in `folder`, for `texts[-1]`; boxes and flow
    come from their files."""
    if isinstance(loaded.segmenter, AAMN) and boxes is not None:
        return _indexed_seconds(loaded, video_id, frames, texts, boxes, flow, folder)
    query = loaded.vocabulary.encode(texts[0])

    def segment() -> None:
        for _ in segment_video(
            loaded.segmenter, video_id, frames, [query], boxes, flow, loaded.config.flow
        ):
            pass

    return VideoSeconds(seconds_of(segment) / len(frames), None)


def _indexed_seconds(
    loaded: Loaded,
    video_id: str,
    frames: FrameSource,
    texts: Sequence[str],
    boxes: ProposalStore,
    flow: FlowStore | None,
    folder: Path,
) -> VideoSeconds:
    path = folder / "video.h5"
    stored = StoredBoxes(boxes, video_id, frames.size)
    job = IndexJob(indexable(loaded.segmenter), video_id, frames, stored, flow, loaded.config.flow)
    indexing = seconds_of(lambda: build_index(job, path, replace=True))
    index = VideoIndex.read(path, loaded)

    def ask(text: str) -> None:
        index.query([text])[0].masks()

    first = indexing + seconds_of(lambda: ask(texts[0]))
    further = median(seconds_of(lambda: ask(texts[-1])) for _ in range(REPEATS))
    index.close()
    path.unlink()
    return VideoSeconds(first / len(frames), further / len(frames))
