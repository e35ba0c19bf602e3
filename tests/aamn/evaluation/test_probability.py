"""Probabilities of scores: against a known line, by hand, and where nobody is found."""

import math

import numpy as np
import pytest
from scipy.special import expit

from aamn.evaluation.probability import (
    auroc,
    calibration_error,
    fit_probability,
    reliability,
    trust,
)
from aamn.inference.verdict import Probability


def drawn(slope, intercept, count=4000):
    """Scores, and whether each means somebody, drawn from a known line."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(-4, 8, count)
    meant = rng.random(count) < expit(slope * scores + intercept)
    return scores[meant].tolist(), scores[~meant].tolist()


def test_the_line_is_found_again():
    found = fit_probability(*drawn(1.5, -3.0))
    assert found.slope == pytest.approx(1.5, rel=0.1)
    assert found.intercept == pytest.approx(-3.0, rel=0.1)


def test_scores_that_can_be_told_apart_have_a_finite_line():
    """Two and three sentences: the wanted probabilities are 3/4 and 1/5, which the line meets where
    all scores of a side are equal."""
    found = fit_probability([2.0, 2.0, -math.inf], [1.0, 1.0, 1.0])
    said = [found.of(score) for score in (2.0, 1.0, -math.inf)]
    assert said == pytest.approx([3 / 4, 1 / 5, 0], abs=1e-4)


@pytest.mark.parametrize("sides", [([], [1.0]), ([1.0], [-math.inf])])
def test_one_side_alone_says_nothing(sides):
    with pytest.raises(ValueError, match="both present and absent"):
        fit_probability(*sides)


@pytest.mark.parametrize(
    ("present", "absent", "wanted"),
    [
        ([2.0, 3.0], [0.0, 1.0], 1.0),
        ([0.0, 3.0], [1.0, 2.0], 0.5),
        ([1.0, 1.0], [1.0, 0.0], 0.75),
        ([1.0, 5.0], [-math.inf, 2.0], 0.75),
        ([-math.inf], [-math.inf], 0.5),
    ],
)
def test_the_area_counts_pairs(present, absent, wanted):
    assert auroc(present, absent) == wanted


def test_the_diagram_and_its_error_by_hand():
    """Two sentences at 0.05, one of them meant; four at 0.95 to 1, three of them meant."""
    found = np.array([0.05, 0.05, 0.95, 0.95, 1.0, 1.0])
    bins = reliability(found, np.array([1.0, 0, 1, 1, 1, 0]))
    assert [one["count"] for one in bins] == [2, 4]
    assert [one["share"] for one in bins] == [0.5, 0.75]
    assert [one["probability"] for one in bins] == pytest.approx([0.05, 0.975])
    assert calibration_error(bins) == pytest.approx((2 * 0.45 + 4 * 0.225) / 6)


def test_probabilities_of_the_line_that_was_drawn_from_can_be_trusted():
    found = trust(Probability(1.5, -3.0), *drawn(1.5, -3.0))
    assert found["ece"] < 0.02 and 0.9 < found["auroc"] < 1
    assert len(found["reliability"]) == 10
    sure = trust(Probability(15.0, -30.0), *drawn(1.5, -3.0))
    assert sure["ece"] > 0.05 and sure["auroc"] == found["auroc"], "too sure of itself"
