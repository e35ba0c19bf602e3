"""The hinge (12) and the mask loss (11) against plain loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aamn.models.losses import Mismatches, matching_loss, sample_mismatches, segmentation_loss


def naive_hinge(scores, valid, clips, matched, mismatches, margin):
    total = 0.0
    for q in range(len(clips)):
        b, k = int(clips[q]), int(matched[q])
        match = scores[q, b, k].item()
        for other in range(scores.shape[2]):
            if other != k and valid[b, other]:
                total += max(0.0, margin - match + scores[q, b, other].item())
        for place, there in zip(mismatches.index[q], mismatches.valid[q], strict=True):
            if there:
                total += max(0.0, margin - match + scores[int(place), b, k].item())
    return total / len(clips)


@pytest.mark.parametrize("seed", range(4))
def test_hinge_is_that_of_plain_loops(seed):
    g = torch.Generator().manual_seed(seed)
    q, b, k = 7, 3, 5
    scores = torch.randn(q, b, k, generator=g) * 0.2
    valid = torch.rand(b, k, generator=g) > 0.3
    clips = torch.randint(0, b, (q,), generator=g)
    matched = torch.randint(0, k, (q,), generator=g)
    valid[clips, matched] = True
    actors = torch.randint(0, 2, (q,), generator=g)
    mismatches = sample_mismatches(clips, actors, k - 1)
    got = matching_loss(scores, valid, clips, matched, mismatches, 0.1)
    expected = naive_hinge(scores, valid, clips, matched, mismatches, 0.1)
    assert got.item() == pytest.approx(expected, abs=1e-6)


def test_a_clear_winner_costs_nothing_and_a_tie_costs_the_margin():
    scores = torch.tensor([[[1.0, 0.5]], [[0.2, 0.2]]])  # 2 sentences, 1 clip, 2 tubes
    nothing = Mismatches(torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 1, dtype=torch.bool))
    valid, clips, matched = (
        torch.ones(1, 2, dtype=torch.bool),
        torch.tensor([0, 0]),
        torch.tensor([0, 0]),
    )
    assert matching_loss(scores, valid, clips, matched, nothing, 0.1).item() == pytest.approx(0.05)


def test_mismatches_are_other_actors_of_the_same_video_first():
    videos = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    actors = torch.tensor([5, 5, 6, 7, 5, 6, 5])
    for seed in range(20):
        torch.manual_seed(seed)
        drawn = sample_mismatches(videos, actors, 3)
        first = drawn.index[0].tolist()
        assert set(first[:2]) == {2, 3}, "the two other actors of video 0 come first"
        assert first[2] in (4, 5, 6), "then the rest of the batch"
        assert drawn.valid.all()


def test_a_sentence_is_no_mismatch_of_its_own_actor():
    drawn = sample_mismatches(torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1]), 5)
    assert drawn.index.shape == (3, 3) and not drawn.valid.any()


@given(
    videos=st.lists(st.integers(0, 2), min_size=1, max_size=7),
    count=st.integers(1, 8),
    data=st.data(),
)
def test_mismatches_are_distinct_sentences_and_the_same_videos_are_all_taken_first(
    videos, count, data
):
    q = len(videos)
    actors = data.draw(st.lists(st.integers(0, 2), min_size=q, max_size=q))
    drawn = sample_mismatches(torch.tensor(videos), torch.tensor(actors), count)
    assert drawn.index.shape == drawn.valid.shape == (q, min(count, q))
    for i in range(q):
        chosen = drawn.index[i][drawn.valid[i]].tolist()
        same = [j for j in range(q) if videos[j] == videos[i] and actors[j] != actors[i]]
        others = [j for j in range(q) if videos[j] != videos[i]]
        assert len(chosen) == len(set(chosen)) == min(count, len(same) + len(others))
        assert set(chosen) <= {*same, *others}
        first = chosen[: len(same)]
        assert set(first) == set(same) if len(chosen) >= len(same) else set(chosen) <= set(same)


def test_every_mismatch_has_its_turn():
    """Among the same video's and among the rest, the first one drawn is not always the same."""
    videos, actors = torch.tensor([0, 0, 0, 1, 1]), torch.arange(5)
    orders = set()
    for seed in range(40):
        torch.manual_seed(seed)
        orders.add(tuple(sample_mismatches(videos, actors, 4).index[0].tolist()))
    assert orders == {(a, 3 - a, b, 7 - b) for a in (1, 2) for b in (3, 4)}


def test_the_hinge_pulls_the_match_up_and_those_within_the_margin_down():
    scores = torch.tensor(
        [
            [[1.0, 0.95, -9.0, 0.99], [5.0, 5.0, 5.0, 5.0]],  # its clip's tubes; another clip's
            [[1.5, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]],
        ],
        requires_grad=True,
    )
    valid = torch.tensor([[True, True, True, False], [True] * 4])
    mismatches = Mismatches(torch.tensor([[1], [0]]), torch.tensor([[True], [False]]))
    clips, matched = torch.tensor([0, 1]), torch.tensor([0, 1])
    loss = matching_loss(scores, valid, clips, matched, mismatches, 0.1)
    # Sentence 0: tube 1 lies 0.05 below, sentence 1 likes the tube 0.5 more; sentence 1: nothing.
    assert loss.item() == pytest.approx((0.05 + 0.6) / 2)
    loss.backward()
    wanted = torch.zeros(2, 2, 4)
    wanted[0, 0, 0], wanted[0, 0, 1], wanted[1, 0, 0] = -1.0, 0.5, 0.5
    torch.testing.assert_close(scores.grad, wanted)


def test_mask_loss_takes_halves_and_truth_values():
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 0.0]]])
    targets = torch.tensor([[[True, False], [False, True]]])
    expected = (2 * math.log(2) + math.log(1 + math.exp(2)) + math.log(1 + math.exp(-1))) / 4
    found = segmentation_loss(logits.half(), targets)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_mask_loss_is_mean_cross_entropy():
    logits, targets = torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[1.0, 0.0]]])
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert segmentation_loss(logits, targets).item() == pytest.approx(expected)
