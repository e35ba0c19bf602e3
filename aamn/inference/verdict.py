"""Whether a sentence has a match in a video, and why it has none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from scipy.special import expit

from aamn.inference.clip_by_clip import Answer
from aamn.structures import MaskTrack, Query, empty_track
from proposals.errors import InputError


@dataclass(frozen=True)
class Probability:
    """P(somebody is meant) = 1 / (1 + exp(-(slope * score + intercept))), after Platt (1999)."""

    slope: float
    intercept: float

    @classmethod
    def read(cls, values: Any, what: str) -> Probability | None:
        """From plain values, where there are any; `what` begins the error's line.

        Raises:
            InputError: they are no two numbers of these names.
        """
        if values is None:
            return None
        if not isinstance(values, dict) or values.keys() != {"slope", "intercept"}:
            raise InputError(f"{what}: wanted a slope and an intercept, got {values!r}")
        return cls(**{key: checked_number(own, f"{what}.{key}") for key, own in values.items()})

    def of(self, score: float) -> float:
        """Of a sentence with this score; 0 where nobody is found, -inf."""
        return 0.0 if score == -math.inf else float(expit(self.slope * score + self.intercept))


@dataclass(frozen=True)
class Verdict:
    """A sentence's score in a video, whether that is a match, the score that a match must reach
    (None: any will do), and how likely somebody is meant (None: it was not calibrated)."""

    query: Query
    score: float
    matched: bool
    threshold: float | None = None
    probability: float | None = None

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
        facts = {
            "score": self.score,
            "matched": self.matched,
            "absent_threshold": self.threshold,
            "probability": self.probability,
        }
        return facts if self.matched else {**facts, "reason": self.reason}

    def __str__(self) -> str:
        if self.score == -math.inf:
            return f"no match, {self.reason}"
        limit = "no threshold" if self.threshold is None else f"threshold {self.threshold:.3f}"
        if self.probability is not None:
            limit = f"probability {100 * self.probability:.0f} %, {limit}"
        return f"score {self.score:.3f}, {'match' if self.matched else 'no match'} ({limit})"


def checked_number(value: Any, what: str) -> float:
    """A number to compare scores with; `what` begins the error's line.

    Raises:
        InputError: it is none, or NaN, which compares with nothing.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        raise InputError(f"{what}: wanted a number, got {value!r}")
    return float(value)


@dataclass(frozen=True)
class NoMatch:
    """What a calibration says of sentences that mean nobody: the score below which one does, and
    the probability by the score; None where it says nothing."""

    threshold: float | None = None
    probability: Probability | None = None


UNCALIBRATED = NoMatch()


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
