"""How far a score can be trusted: the probability that a sentence means somebody in its video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import mannwhitneyu

from aamn.inference.verdict import Probability

BINS = 10


def fit_probability(present: Sequence[float], absent: Sequence[float]) -> Probability:
    """The most likely slope and intercept. The wanted probabilities are a little inside 0 and 1,
    the more the fewer sentences there are, so that no slope is infinite; sentences for which nobody
    was found at all, -inf, say nothing of scores.

    Raises:
        ValueError: no finite score on one of the sides.
    """
    yes, no = (np.array([s for s in side if math.isfinite(s)]) for side in (present, absent))
    if not (yes.size and no.size):
        raise ValueError("wanted scores of both present and absent sentences")
    scores = np.concatenate([yes, no])
    middle, spread = scores.mean(), scores.std() or 1.0
    wanted = np.repeat([(yes.size + 1) / (yes.size + 2), 1 / (no.size + 2)], [yes.size, no.size])

    def loss(line: np.ndarray) -> float:
        logits = line[0] * (scores - middle) / spread + line[1]
        return float((np.logaddexp(0, logits) - wanted * logits).mean())

    slope, intercept = minimize(loss, np.zeros(2)).x
    return Probability(float(slope / spread), float(intercept - slope * middle / spread))


def auroc(present: Sequence[float], absent: Sequence[float]) -> float:
    """The area under the ROC curve: how often a present sentence scores higher than an absent one,
    equal scores counted half."""
    lowest = -1e30  # ranks take no infinity
    yes, no = (np.maximum(np.asarray(side, np.float64), lowest) for side in (present, absent))
    return float(mannwhitneyu(yes, no).statistic / (yes.size * no.size))


def reliability(probabilities: np.ndarray, meant: np.ndarray) -> list[dict[str, float]]:
    """The reliability diagram: of each of BINS equal intervals of probability that holds some
    sentence, the mean probability, the share that means somebody, and how many there are."""
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return [
        {
            "probability": float(probabilities[place == n].mean()),
            "share": float(meant[place == n].mean()),
            "count": int((place == n).sum()),
        }
        for n in range(BINS)
        if (place == n).any()
    ]


def calibration_error(bins: Sequence[dict[str, float]]) -> float:
    """The expected calibration error (Guo et al., ICML 2017): the mean distance of share and
    probability, each bin counted by its sentences."""
    total = sum(one["count"] for one in bins)
    return sum(one["count"] * abs(one["share"] - one["probability"]) for one in bins) / total


def trust(
    probability: Probability, present: Sequence[float], absent: Sequence[float]
) -> dict[str, Any]:
    """How far these probabilities can be trusted on these sentences: `auroc`, the expected
    calibration error `ece`, and the reliability diagram behind it."""
    found = np.array([probability.of(score) for score in (*present, *absent)])
    meant = np.repeat([1.0, 0.0], [len(present), len(absent)])
    bins = reliability(found, meant)
    return {"auroc": auroc(present, absent), "ece": calibration_error(bins), "reliability": bins}
