"""Match or no match, and what is said of it."""

import math

import pytest
import torch

from aamn.inference.clip_by_clip import Answer
from aamn.inference.verdict import JudgedAnswers, Verdict
from aamn.structures import MaskTrack, Query

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
