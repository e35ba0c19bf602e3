"""A video that any sentence can be asked of: scores by one matrix product, paths by dynamic
programming, masks pasted when they are wanted. No network but the sentence's runs here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aamn.index.file import IndexFile
from aamn.index.growing import GrowingIndex
from aamn.index.indexed_video import IndexedVideo
from aamn.index.query_encoder import CALIBRATED, QueryEncoder
from aamn.inference.checkpoint import Loaded
from aamn.inference.results import run_lengths
from aamn.inference.track import Track
from aamn.inference.verdict import Probability, checked_number
from aamn.models.encoded import EncodedSentences, ModuleScores
from aamn.structures import MaskTrack, Query, TubeScores
from aamn.tubes.video_linking import (
    TRANSITION_COST,
    VideoPaths,
    best_paths,
    clip_winners,
    distinct_paths,
    without_absence,
)
from proposals.errors import InputError
from proposals.frames import FrameSource

LINKINGS = ("video", "clip")


@dataclass(frozen=True, eq=False, repr=False)
class VideoTrack(Track):
    """A track through an index. When it is pickled it leaves the segmenter behind and reads its
    boxes and masks from the index file, as long as this is there.

    tubes (C,) is the chosen tube of each clip, -1 for none; total, actor and action (C, K) are the
    scores of all tubes, -inf where there is none.
    """

    index: IndexedVideo
    query: Query
    score: float
    present: bool
    absent_threshold: float | None
    tubes: np.ndarray
    total: np.ndarray
    actor: np.ndarray
    action: np.ndarray
    actor_attention: np.ndarray
    action_attention: np.ndarray
    linking: str = LINKINGS[0]
    chance: Probability | None = None  # by the score; None: it was not calibrated

    @property
    def video_id(self) -> str:
        return self.index.video_id

    @property
    def size(self) -> tuple[int, int]:
        return self.index.size

    @property
    def frames(self) -> range:
        return self.index.frames

    @property
    def probability(self) -> float | None:
        return None if self.chance is None else self.chance.of(self.score)

    @property
    def facts(self) -> dict[str, Any]:
        return {"linking": self.linking, **super().facts}

    def refused(self) -> VideoTrack:
        """The same sentence without a match."""
        return replace(self, score=-math.inf, present=False)

    def video(self) -> FrameSource:
        return self.index.video()

    def check(self, frames: FrameSource) -> None:
        self.index.check(frames)

    def parts(self, frames: range) -> Iterator[MaskTrack]:
        for span in self.index.spans(frames):
            yield of_clip(self, int(self.index.locate(span[:1])[0][0]), span)

    def clip_scores(self, clip: int) -> TubeScores:
        """The scores of one clip's tubes."""
        rows = (self.total[clip], self.actor[clip], self.action[clip])
        attention = (self.actor_attention, self.action_attention)
        total, actor, action, first, last = map(torch.from_numpy, (*rows, *attention))
        if self.index.context is None:
            return TubeScores(total, actor, action, first, last)
        context = torch.from_numpy(self.index.context[clip])
        members = torch.arange(-1, len(context)).expand_as(context)
        return TubeScores(total, actor, action, first, last, context, members)

    def _boxes(self, numbers: np.ndarray) -> np.ndarray:
        return self.index.shown_boxes(numbers, self._shown)

    def _masks(self, numbers: np.ndarray) -> np.ndarray:
        return self.index.shown_masks(numbers, self._shown)

    def _codes(self, numbers: np.ndarray) -> Iterator[dict[str, Any]]:
        for crop in self.index.shown_crops(numbers, self._shown):
            yield run_lengths(crop.mask, self.size, crop.top, crop.left)

    @property
    def _shown(self) -> np.ndarray:
        """The chosen tube of each clip; none where nobody is present."""
        return self.tubes if self.present else np.full_like(self.tubes, -1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "index": IndexedVideo(self.index.file)}


class VideoIndex(IndexedVideo):
    """The index of one video, ready to be asked."""

    def __init__(
        self,
        file: IndexFile | GrowingIndex,
        query_encoder: QueryEncoder,
        owner: Any = None,
        given: FrameSource | None = None,
    ) -> None:
        """`owner` and `given` as in `IndexedVideo`.

        Raises:
            InputError: the index was made by another segmenter.
        """
        if file.header.origin.model != query_encoder.model:
            raise InputError(
                f"{file.path} was made by another segmenter ({file.header.origin.model}, this one "
                f"is {query_encoder.model}); index the video again"
            )
        super().__init__(file, owner, given)
        self.query_encoder = query_encoder

    @classmethod
    def read(cls, path: Path | str, loaded: Loaded, owner: object = None) -> VideoIndex:
        """The index at `path`, asked through this segmenter.

        Raises:
            InputError: no index, a damaged one, or one of another segmenter.
        """
        return cls(IndexFile.read(path), QueryEncoder(loaded), owner)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "query_encoder": self.query_encoder}

    @cached_property
    def _valid(self) -> Tensor:
        return torch.from_numpy(self.file.array("valid")[:])

    @cached_property
    def _vectors(self) -> dict[str, Tensor]:
        """Module name -> (C, K, D_m)."""
        vectors = torch.from_numpy(self.file.array("vectors")[:])
        heads = self.header.heads
        return dict(zip(heads, vectors.split(list(heads.values()), -1), strict=True))

    @cached_property
    def _links(self) -> Tensor:
        return torch.from_numpy(self.file.array("links")[:])

    @cached_property
    def _weights(self) -> Tensor:
        """(C,): each clip's share of new frames; only the last clip repeats some."""
        new = torch.from_numpy(self.windows[:, 2] - self.windows[:, 1]).float()
        return new / new.max()

    def scores(self, sentences: EncodedSentences) -> dict[str, Tensor]:
        """Module name -> (Q, C, K), every sentence's score for every tube, padding included."""
        scores = {}
        for name, vectors in self._vectors.items():
            products = vectors.flatten(0, 1) @ sentences.sides[name].T + sentences.biases[name]
            scores[name] = products.T.reshape(-1, *vectors.shape[:2])
        return scores

    def query(
        self,
        texts: str | Sequence[str],
        *,
        linking: str = "video",
        absent_threshold: float | str | None = CALIBRATED,
        transition_cost: float = TRANSITION_COST,
        top: int = 1,
    ) -> list[VideoTrack]:
        """One track a sentence, in their order; a text alone is one sentence. A sentence of which
        no word is known has no match: its masks are empty and its score is -inf.

        Args:
            linking: "video" keeps one identity through the clips, "clip" lets every clip choose
                its own best tube, as the paper does.
            absent_threshold: sentences whose score is below it get empty masks; "calibrated": the
                segmenter's own, where it has one, and where probabilities are calibrated, too,
                masks are empty in the clips before an actor comes and after it has left; None:
                none does.
            transition_cost: of the links beside the matching scores.
            top: up to so many tracks a sentence, each of another actor (`distinct_paths`), best
                first, then those of the next sentence.

        Raises:
            InputError: a sentence without a word, another linking, a threshold that is no number,
                or `top` below 1.
        """
        threshold = self.query_encoder.threshold(absent_threshold)
        queries = self.query_encoder.queries(texts)
        found = self._answers(queries, linking, threshold, transition_cost, top)
        return [track for tracks in found for track in _without_unknown(tracks)]

    def answer(
        self,
        queries: Sequence[Query],
        *,
        linking: str = "video",
        absent_threshold: float | None = None,
        transition_cost: float = TRANSITION_COST,
        top: int = 1,
    ) -> list[VideoTrack]:
        """As `query` of sentences that are word numbers already, such as a data set's; unknown
        words count as any other's.

        Raises:
            InputError: another linking, or `top` below 1.
        """
        found = self._answers(queries, linking, absent_threshold, transition_cost, top)
        return [track for tracks in found for track in tracks]

    def _answers(
        self,
        queries: Sequence[Query],
        linking: str,
        absent_threshold: float | None,
        transition_cost: float,
        top: int,
    ) -> list[list[VideoTrack]]:
        """The tracks of each sentence, best first."""
        if linking not in LINKINGS:
            raise InputError(f"linking: wanted one of {', '.join(LINKINGS)}, got {linking!r}")
        transition_cost = checked_number(transition_cost, "transition_cost")
        if top < 1:
            raise InputError(f"top: wanted at least one track a sentence, got {top}")
        sentences = self.query_encoder.encode(queries)
        found = ModuleScores.of(self.scores(sentences), self._valid)
        paths = self._paths(found.total, linking, transition_cost, top)
        known = self.query_encoder.no_match
        if known.probability is not None and absent_threshold == known.threshold:
            line = known.probability
            paths = [
                without_absence(one, found.total, self._weights, line.slope, line.intercept)
                for one in paths
            ]
        make = partial(self._track, sentences, found, absent_threshold, linking)
        return [
            [make(place, query, tubes, score) for tubes, score in _best_first(paths, place)]
            for place, query in enumerate(queries)
        ]

    def _paths(
        self, total: Tensor, linking: str, transition_cost: float, top: int
    ) -> list[VideoPaths]:
        """The path of each sentence's best actor, then of the next best, ...; total (Q, C, K)."""
        if linking == "clip":
            find = partial(clip_winners, weights=self._weights)
        else:
            find = partial(
                best_paths,
                links=self._links,
                weights=self._weights,
                transition_cost=transition_cost,
                valid=self._valid,
            )
        if top == 1:
            return [find(total)]
        return distinct_paths(total, torch.from_numpy(self.boxes), find, top)

    def _track(
        self,
        sentences: EncodedSentences,
        scores: ModuleScores,
        threshold: float | None,
        linking: str,
        place: int,
        query: Query,
        tubes: Tensor,
        score: float,
    ) -> VideoTrack:
        """The track of the sentence at `place` among the asked ones, by its path (C,)."""
        names, words = list(sentences.attention), len(query.tokens)
        reached = threshold is None or score >= threshold
        return VideoTrack(
            index=self,
            query=query,
            score=score,
            present=score > -math.inf and reached,
            absent_threshold=threshold,
            tubes=tubes.numpy(),
            total=scores.total[place].numpy(),
            actor=scores.actor[place].numpy(),
            action=scores.action[place].numpy(),
            actor_attention=sentences.attention[names[0]][place, :words].numpy(),
            action_attention=sentences.attention[names[-1]][place, :words].numpy(),
            linking=linking,
            chance=self.query_encoder.no_match.probability,
        )


def _without_unknown(tracks: Sequence[VideoTrack]) -> Sequence[VideoTrack]:
    """One sentence's tracks; where no word of it is known, one without a match."""
    return tracks if tracks[0].query.known else [tracks[0].refused()]


def _best_first(paths: Sequence[VideoPaths], place: int) -> list[tuple[Tensor, float]]:
    """The paths (C,) of one sentence with their scores, the highest first; those after the first
    that lead through no tube are none."""
    found = [(path.tubes[place], float(path.scores[place])) for path in paths]
    found = found[:1] + [one for one in found[1:] if one[1] > -math.inf]
    return sorted(found, key=lambda one: -one[1])


def of_clip(track: VideoTrack, clip: int, frames: range) -> MaskTrack:
    """The part of a track for which one clip answers, with its masks."""
    tube = int(track.tubes[clip]) if track.present else -1
    return MaskTrack(
        video_id=track.index.video_id,
        text=track.text,
        frame_indices=torch.tensor(frames),
        boxes=torch.from_numpy(track.boxes(frames)),
        masks=torch.from_numpy(track.masks(frames)),
        score=float(track.total[clip, tube]) if tube >= 0 else float("-inf"),
        scores=track.clip_scores(clip),
        tube=tube,
    )
