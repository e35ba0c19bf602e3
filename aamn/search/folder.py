"""Search through many videos: the indexes of a folder as one matrix of tube embeddings, of which a
sentence finds the best by their inner products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from aamn.index.file import SUFFIX, IndexFile
from aamn.index.query_encoder import CALIBRATED, QueryEncoder
from aamn.index.video_index import VideoIndex, VideoTrack
from aamn.inference.verdict import Verdict
from aamn.structures import Query
from proposals import places
from proposals.errors import InputError

TABLE = "videos"  # of a library; its folder ends in .lance


@dataclass(frozen=True, repr=False)
class Hit:
    """A video that a sentence may be about: the score of its best tube for the sentence, and the
    frames for which that tube's clip answers; `matched` says whether the score reaches the
    threshold; `fps` turns frames into time, 0 where it is not known."""

    video_id: str
    path: Path
    score: float
    frames: range
    text: str = ""
    matched: bool = True
    fps: float = 0.0

    @property
    def source(self) -> str:
        """Where the index lies: a path or URL."""
        return places.shown(self.path)

    @property
    def seconds(self) -> tuple[float, float] | None:
        """When the frames begin and end in the video."""
        if not self.fps:
            return None
        return self.frames.start / self.fps, self.frames.stop / self.fps

    def __repr__(self) -> str:
        frames = f"frames {self.frames.start} to {self.frames.stop - 1}"
        found = f"score {self.score:.3f}" + ("" if self.matched else ", no match")
        return f"Hit({self.text!r} in {self.video_id!r}, {found}, {frames})"


class Searched(Protocol):
    """What sentences are asked of; `narrows`: whether `search` takes what chooses among the videos
    before they are scored."""

    narrows: bool

    @property
    def size(self) -> str:
        """How much there is to be found, in words."""

    def search(
        self,
        texts: str | Sequence[str],
        top: int = 10,
        absent_threshold: float | str | None = CALIBRATED,
    ) -> list[list[Hit]]:
        """The hits of each sentence, best first; further arguments where it `narrows`."""

    def open(self, hit: Hit) -> VideoIndex:
        """The index of a video that was found."""

    def track(self, hit: Hit) -> VideoTrack:
        """The track of the sentence in a video that was found for it."""


class IndexFolder:
    """The indexes of a folder, ready to be searched; every clip's tubes are in memory, as numbers.

    vectors (N, D) float32 of the N tubes of all videos, video by video; clips (N, 2) int64, the
    first frame and the end of the frames that a tube's clip answers for; bounds (V + 1,) int64,
    between which each video's tubes lie. Videos without any tube cannot be found.
    """

    narrows = False

    def __init__(self, folder: Path | str | Sequence[Path], query_encoder: QueryEncoder) -> None:
        """`folder` may also be the indexes themselves.

        Raises:
            InputError: no index in the folder, a damaged one, or one of another segmenter.
        """
        self.query_encoder = query_encoder
        self.files: list[IndexFile] = []
        vectors, clips, counts = [], [], []
        if isinstance(folder, Path | str):
            paths = sorted(Path(folder).glob(f"*{SUFFIX}"))
        else:
            paths = list(folder)
        if not paths:
            raise InputError(f"no index in {folder}; `aamn index` writes them")
        for path in paths:
            file = IndexFile.read(path)
            index = VideoIndex(file, query_encoder)
            valid = file.array("valid")[:]
            if valid.any():
                self.files.append(file)
                vectors.append(file.array("vectors")[:][valid])
                clips.append(index.windows[np.nonzero(valid)[0], 1:])
                counts.append(len(vectors[-1]))
            index.close()
        if not self.files:
            raise InputError(f"{folder}: not one of its {len(paths)} videos has a tube")
        self.heads = list(self.files[0].header.heads)
        self.vectors, self.clips = np.concatenate(vectors), np.concatenate(clips)
        self.bounds = np.cumsum([0, *counts])

    def __len__(self) -> int:
        """Videos that can be found."""
        return len(self.files)

    def search(
        self,
        texts: str | Sequence[str],
        top: int = 10,
        absent_threshold: float | str | None = CALIBRATED,
    ) -> list[list[Hit]]:
        """The `top` videos of each sentence, best first, by the score of their best tube; a text
        alone is one sentence. Of a sentence of which no word is known there are none.

        Args:
            absent_threshold: hits whose score is below it are no match; as in `VideoIndex.query`.

        Raises:
            InputError: a sentence without a word.
        """
        threshold = self.query_encoder.threshold(absent_threshold)
        queries = self.query_encoder.queries(texts)
        sentences = self.query_encoder.encode(queries)
        sides = np.concatenate([sentences.sides[name].numpy() for name in self.heads], 1)  # (Q, D)
        bias = sum(float(sentences.biases[name]) for name in self.heads)
        scores = self.vectors @ sides.T + bias  # (N, Q)
        best = np.maximum.reduceat(scores, self.bounds[:-1], axis=0)  # (V, Q)
        order = np.argsort(-best, axis=0, kind="stable")[:top]
        return [
            [self._hit(int(video), scores[:, place], query, threshold) for video in order[:, place]]
            if query.known
            else []
            for place, query in enumerate(queries)
        ]

    def _hit(self, video: int, scores: np.ndarray, query: Query, threshold: float | None) -> Hit:
        """One video by all tubes' scores (N,) for the sentence."""
        start, end = self.bounds[video : video + 2]
        tube = start + int(scores[start:end].argmax())
        first, stop = self.clips[tube].tolist()
        file = self.files[video]
        frames = range(first, stop)
        verdict = Verdict.of(query, float(scores[tube]), threshold)
        path, text = file.path, query.text
        fps, found = file.header.fps, verdict
        return Hit(file.header.video_id, path, found.score, frames, text, found.matched, fps)

    @property
    def size(self) -> str:
        return f"{len(self)} videos"

    def __repr__(self) -> str:
        return f"IndexFolder({len(self)} videos, {len(self.vectors)} tubes)"

    def open(self, hit: Hit) -> VideoIndex:
        """The index of a video that was found, ready to be asked for its masks."""
        return VideoIndex(IndexFile.read(hit.path), self.query_encoder)

    def track(self, hit: Hit) -> VideoTrack:
        """The track of the sentence in a video that was found for it."""
        return self.open(hit).query(hit.text)[0]


def is_library(place: Path | str) -> bool:
    """Whether a library lies at a folder or URL.

    Raises:
        InputError: it cannot be reached.
    """
    if places.is_url(place):
        return places.is_there(f"{str(place).rstrip('/')}/{TABLE}.lance")
    return (Path(place) / f"{TABLE}.lance").is_dir()
