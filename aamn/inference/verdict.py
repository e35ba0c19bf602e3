"""Whether a sentence has a match in a video, and why it has none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from aamn.inference.clip_by_clip import Answer
from aamn.structures import MaskTrack, Query, empty_track
from proposals.errors import InputError


@dataclass(frozen=True)
class Verdict:
    """A sentence's score in a video, whether that is a match, and the score that a match must reach
    (None: any will do)."""

    query: Query
    score: float
    matched: bool
    threshold: float | None = None

    @classmethod
    def of(cls, query: Query, score: float, threshold: float | None = None) -> Verdict:
        """A match is a sentence of which a word is known, with an actor that scores enough."""
        if not query.known:
            return cls(query, -math.inf, False, threshold)
        reached = score > -math.inf and (threshold is None or score >= threshold)
        return cls(query, score, reached, threshold)

    @property
    def reason(self) -> str:
        """Why there is no match; "" where there is one."""
        if self.matched:
            return ""
        if not self.query.known:
            return f"none of its words is known: {', '.join(self.query.unknown)}"
        if self.score == -math.inf:
            return "nobody is found in the video"
        return "its score is below the threshold"

    @property
    def facts(self) -> dict[str, Any]:
        """For `result.json`."""
        facts = {"score": self.score, "matched": self.matched, "absent_threshold": self.threshold}
        return facts if self.matched else {**facts, "reason": self.reason}

    def __str__(self) -> str:
        if self.score == -math.inf:
            return f"no match, {self.reason}"
        limit = "no threshold" if self.threshold is None else f"threshold {self.threshold:.3f}"
        return f"score {self.score:.3f}, {'match' if self.matched else 'no match'} ({limit})"


def checked_number(value: Any, what: str) -> float:
    """A number to compare scores with; `what` begins the error's line.

    Raises:
        InputError: it is none, or NaN, which compares with nothing.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        raise InputError(f"{what}: wanted a number, got {value!r}")
    return float(value)


class JudgedAnswers:
    """Answers of one video as they go by, clip by clip; those to sentences of which no word is
    known are emptied. A sentence's score is the mean of its clips', each counted by its frames.

    When all have gone by, `verdicts` are the sentences', and `facts` the same for `result.json`.
    """

    def __init__(self, queries: Sequence[Query], answers: Iterable[Answer]) -> None:
        self.queries, self.answers = queries, answers
        self.facts: list[dict[str, Any]] = [{} for _ in queries]
        self._scores: list[list[float]] = [[] for _ in queries]  # one a frame

    @property
    def verdicts(self) -> list[Verdict]:
        means = [sum(own) / len(own) if own else -math.inf for own in self._scores]
        return [Verdict.of(*pair) for pair in zip(self.queries, means, strict=True)]

    def __iter__(self) -> Iterator[Answer]:
        for answer in self.answers:
            pairs = zip(self.queries, answer.tracks, strict=True)
            tracks = [track if query.known else _emptied(track) for query, track in pairs]
            for own, track in zip(self._scores, tracks, strict=True):
                own += [track.score] * len(track.masks) * (track.score > -math.inf)
            yield replace(answer, tracks=tuple(tracks))
        for facts, verdict in zip(self.facts, self.verdicts, strict=True):
            facts.update(verdict.facts)


def _emptied(track: MaskTrack) -> MaskTrack:
    size = (track.masks.shape[1], track.masks.shape[2])
    return empty_track(track.video_id, track.text, track.frame_indices, size)
