"""What a library of videos holds of one video: a row for each tube of each clip, and one for each
path that an actor takes through the clips."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aamn.index.file import Header, IndexFile
from aamn.index.indexed_video import IndexedVideo
from aamn.tubes.video_linking import VideoPaths, best_paths, distinct_paths
from proposals import places

TUBES, PATHS = "tubes", "paths"  # the levels of rows
LEVELS = (TUBES, PATHS)


@dataclass(frozen=True)
class VideoRows:
    """R rows of a video: vectors (R, D) float32; spans (R, 2) int64, the first frame and the end of
    the frames that each is about; levels (R,) places in LEVELS; `source` leads to the index."""

    header: Header
    source: str
    vectors: np.ndarray
    spans: np.ndarray
    levels: np.ndarray

    @property
    def identity(self) -> str:
        """What tells the video from others of its id."""
        identity = self.header.identity
        return "" if identity is None else f"{identity.bytes}:{identity.blocks}"


def rows_of(path: Path) -> VideoRows:
    """The rows of the video whose index lies at a path, or is fetched to there.

    Raises:
        InputError: no index, or a damaged one.
    """
    with IndexedVideo(IndexFile.read(places.fetch(path))) as index:
        valid, vectors = index.file.array("valid")[:], index.file.array("vectors")[:]
        clips = np.nonzero(valid)[0]
        paths, spans = _paths(index, vectors, valid)
        return VideoRows(
            index.header,
            places.shown(path),
            np.concatenate([vectors[valid], paths]).astype(np.float32),
            np.concatenate([index.windows[clips, 1:], spans]),
            np.repeat([0, 1], [len(clips), len(paths)]).astype(np.int8),
        )


def _paths(
    index: IndexedVideo, vectors: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean vectors (P, D) of the paths of different actors, whatever is asked, and the frames
    (P, 2) they lead through. Each clip counts by its new frames, as in a path's score: this is the
    inner product of such a mean."""
    new = torch.from_numpy(index.windows[:, 2] - index.windows[:, 1]).float()
    weights, spans, means = new / new.max(), [], []
    for path in _distinct(index, torch.from_numpy(valid), weights):
        tubes = path.tubes[0].numpy()
        clips = np.flatnonzero(tubes >= 0)
        if len(clips):
            share = weights.numpy()[clips, None]
            means.append((vectors[clips, tubes[clips]] * share).sum(0) / share.sum())
            spans.append([index.windows[clips[0], 1], index.windows[clips[-1], 2]])
    width = vectors.shape[-1]
    return np.array(means).reshape(-1, width), np.array(spans, np.int64).reshape(-1, 2)


def _distinct(index: IndexedVideo, valid: Tensor, weights: Tensor) -> list[VideoPaths]:
    """The paths that their links alone choose: no sentence prefers an actor."""
    links = torch.from_numpy(index.file.array("links")[:])
    find = partial(best_paths, links=links, weights=weights, valid=valid)
    scores = torch.zeros(1, *valid.shape).masked_fill(~valid, -torch.inf)
    return distinct_paths(scores, torch.from_numpy(index.boxes), find, valid.shape[1])
