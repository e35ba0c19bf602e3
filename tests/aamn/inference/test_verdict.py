"""Match or no match, and what is said of it."""

import math

import pytest
import torch

from aamn.inference.clip_by_clip import Answer
from aamn.inference.verdict import JudgedAnswers, Probability, Verdict
from aamn.structures import MaskTrack, Query
from proposals.errors import InputError

KNOWN = Query("red zebra", ("red", "zebra"), torch.tensor([5, 1]))
UNKNOWN = Query("big zebra zebra", ("big", "zebra", "zebra"), torch.tensor([1, 1, 1]))


@pytest.mark.parametrize(
    ("query", "score", "threshold", "matched", "said"),
    [
        (KNOWN, 0.5, None, True, "score 0.500, match (no threshold)"),
        (KNOWN, 0.5, 0.5, True, "score 0.500, match (threshold 0.500)"),
        (KNOWN, 0.5, 0.75, False, "score 0.500, no match (threshold 0.750)"),
        (KNOWN, -math.inf, None, False, "no match, nobody is found in the video"),
        (UNKNOWN, 9.0, None, False, "no match, none of its words is known: big, zebra"),
    ],
)
def test_a_verdict_is_said_in_a_line(query, score, threshold, matched, said):
    verdict = Verdict.of(query, score, threshold)
    assert (verdict.matched, str(verdict)) == (matched, said)
    assert bool(verdict.reason) is not matched and ("reason" in verdict.facts) is not matched
    assert verdict.facts["matched"] is matched and verdict.facts["absent_threshold"] == threshold


def test_a_calibrated_score_is_said_as_a_probability():
    chance = Probability(2.0, -1.0).of(1.0)
    assert chance == pytest.approx(1 / (1 + math.exp(-1)))
    verdict = Verdict(KNOWN, 1.0, True, 0.5, chance)
    assert str(verdict) == "score 1.000, match (probability 73 %, threshold 0.500)"
    assert verdict.facts["probability"] == chance
    assert Verdict.of(KNOWN, 1.0).facts["probability"] is None
    assert Probability(2.0, -1.0).of(-math.inf) == 0.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2], r"b\.json: probability: wanted a slope and an intercept, got \[1, 2\]"),
        ({"slope": 1.0}, "wanted a slope and an intercept"),
        ({"slope": "1", "intercept": 0}, r"probability\.slope: wanted a number, got '1'"),
        ({"slope": 1, "intercept": math.nan}, r"probability\.intercept: wanted a number"),
    ],
)
def test_a_line_that_is_none_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        Probability.read(values, "b.json: probability")
    assert Probability.read(None, "") is None


def track(query, frames, score):
    masks = torch.ones(len(frames), 2, 3, dtype=torch.bool)
    return MaskTrack(
        "v", query.text, torch.tensor(frames), torch.ones(len(frames), 4), masks, score
    )


def test_clips_count_by_their_frames_and_unknown_sentences_are_emptied():
    clips = [([0, 1, 2], 1.0), ([3], 5.0), ([4, 5], -math.inf)]
    judged = JudgedAnswers(
        [KNOWN, UNKNOWN],
        [
            Answer(frames[0], frames[-1] + 1, tuple(track(q, frames, s) for q in (KNOWN, UNKNOWN)))
            for frames, s in clips
        ],
    )
    answers = list(judged)
    assert all(a.tracks[0].masks.all() and not a.tracks[1].masks.any() for a in answers)
    assert [a.tracks[1].frame_indices.tolist() for a in answers] == [frames for frames, _ in clips]
    first, second = judged.verdicts
    assert (first.score, first.matched) == (2.0, True) and second.score == -math.inf
    assert judged.facts == [first.facts, second.facts]
    assert JudgedAnswers([KNOWN], []).verdicts[0].score == -math.inf
