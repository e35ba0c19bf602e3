"""Video-level paths against all paths, and the threshold for nobody."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aamn.tubes.video_linking import (
    VideoPaths,
    best_paths,
    calibrate_absence,
    clip_winners,
    distinct_paths,
    link_costs,
    path_scores,
    shares_at,
    without_absence,
)

NO = float("-inf")


def naive_paths(scores, links, weights, transition_cost):
    """One sentence's paths, each with its value; a clip without tube holds -1."""
    choices = [[k for k, s in enumerate(clip) if s > NO] or [-1] for clip in scores.tolist()]

    def value(path):
        total = sum(
            float(w) * float(scores[c, k])
            for c, (k, w) in enumerate(zip(path, weights, strict=True))
            if k >= 0
        )
        pairs = enumerate(itertools.pairwise(path), start=1)
        return total - transition_cost * sum(cost(c, a, b) for c, (a, b) in pairs if min(a, b) >= 0)

    def cost(clip, a, b):
        onwards = max(float(links[clip, a, k]) for k in choices[clip])
        backwards = max(float(links[clip, k, b]) for k in choices[clip - 1])
        return (onwards + backwards) / 2 - float(links[clip, a, b])

    return {path: value(path) for path in itertools.product(*choices)}


def naive_score(scores, path, weights):
    """The weighted mean of one sentence's scores on a path."""
    pairs = [
        (float(weights[clip]), float(scores[clip, tube]))
        for clip, tube in enumerate(path)
        if tube >= 0
    ]
    return sum(w * s for w, s in pairs) / sum(w for w, _ in pairs) if pairs else NO


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3)),
    transition_cost=st.sampled_from([None, 0.0, 0.25, 3.0]),
    data=st.data(),
)
def test_no_path_is_better_and_its_score_is_the_mean_on_it(shape, transition_cost, data):
    """Quarters add up exactly, so that ties are ties; what is not to be read holds nothing."""
    q, c, k = shape
    quarters = st.integers(-8, 8)
    scores = torch.from_numpy(data.draw(arrays(int, shape, elements=quarters))).double() / 4
    valid = torch.from_numpy(data.draw(arrays(bool, (c, k))))
    links = torch.from_numpy(data.draw(arrays(int, (c, k, k), elements=quarters))).double() / 4
    weights = torch.from_numpy(data.draw(arrays(int, c, elements=st.integers(1, 4)))).double() / 4
    scores[:, ~valid] = NO
    links[0] = torch.nan
    links[1:][~(valid[:-1, :, None] & valid[1:, None])] = torch.nan
    options = (
        () if transition_cost is None else (transition_cost,)
    )  # one half unless told otherwise
    found = best_paths(scores, links, weights, *options)
    assert found.tubes.shape == (q, c)
    for sentence in range(q):
        values = naive_paths(
            scores[sentence], links, weights, 0.5 if not options else transition_cost
        )
        path = tuple(found.tubes[sentence].tolist())
        assert values[path] == max(values.values())
        score = naive_score(scores[sentence], path, weights)
        assert found.scores[sentence].item() == pytest.approx(score)
    own = clip_winners(scores, weights)
    for sentence in range(q):
        path, clips = own.tubes[sentence].tolist(), scores[sentence].tolist()
        chosen = [NO if t == -1 else clip[t] for clip, t in zip(clips, path, strict=True)]
        assert chosen == [max(clip) for clip in clips]
        assert own.scores[sentence].item() == pytest.approx(
            naive_score(scores[sentence], path, weights)
        )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("transition_cost", [0.0, 0.5, 3.0])
def test_paths_are_the_best_of_all(seed, transition_cost):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, 5, 4, generator=g)
    links = torch.rand(5, 4, 4, generator=g)
    weights = torch.rand(5, generator=g) + 0.1
    scores[:, torch.rand(5, 4, generator=g) < 0.3] = NO  # their links are worth nothing
    if seed % 2:
        scores[:, seed // 2] = NO  # a clip without any tube, the first one too
    found = best_paths(scores, links, weights, transition_cost)
    for sentence in range(3):
        values = naive_paths(scores[sentence], links, weights, transition_cost)
        assert tuple(found.tubes[sentence].tolist()) == max(values, key=values.get)


def test_what_a_link_costs_by_hand():
    """Tube 0 goes on as 1 (0.9), tube 1 as 0 (0.7); tube 2 ends, and its links count for nobody."""
    links = torch.tensor([[9.0] * 3] * 3)
    onwards = torch.tensor([[0.3, 0.9, 7.0], [0.7, 0.4, 7.0], [8.0, 8.0, 8.0]])
    valid = torch.tensor([[True, True, False]] * 2)
    costs = link_costs(torch.stack([links, onwards]), valid)
    wanted = [[(0.9 + 0.7) / 2 - 0.3, 0.0, 0.0], [0.0, (0.7 + 0.9) / 2 - 0.4, 0.0], [0.0] * 3]
    torch.testing.assert_close(costs[1], torch.tensor(wanted))
    assert not costs[0].any()


def test_without_links_every_clip_chooses_for_itself():
    scores = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(1))
    weights = torch.ones(7)
    free = best_paths(scores, torch.rand(7, 3, 3), weights, 0.0)
    own = clip_winners(scores, weights)
    assert torch.equal(free.tubes, own.tubes)
    assert torch.allclose(own.scores, scores.amax(-1).mean(-1))


def test_a_clip_without_tubes_has_no_winner():
    found = clip_winners(torch.tensor([[[0.5, 1.0], [NO, NO]]]), torch.ones(2))
    assert (found.tubes.tolist(), found.scores.tolist()) == ([[1, -1]], [1.0])


def test_a_strong_link_keeps_the_identity_through_a_doubtful_clip():
    scores = torch.tensor([[[1.0, 0.0], [0.4, 0.5], [1.0, 0.0]]])
    links = torch.eye(2).expand(3, 2, 2)
    weights = torch.ones(3)
    assert clip_winners(scores, weights).tubes.tolist() == [[0, 1, 0]]
    found = best_paths(scores, links, weights, 0.5)
    assert found.tubes.tolist() == [[0, 0, 0]]
    assert found.scores.item() == pytest.approx((1.0 + 0.4 + 1.0) / 3)


def test_whoever_is_easily_followed_is_not_favoured():
    scores = torch.tensor([[[0.4, 0.5]] * 4])  # the second actor is meant, and moves fast
    links = torch.tensor([[1.9, 0.1], [0.1, 0.6]]).expand(4, 2, 2)
    for weight in (0.5, 5.0, 50.0):
        assert best_paths(scores, links, torch.ones(4), weight).tubes.tolist() == [[1, 1, 1, 1]]
    costs = link_costs(links, torch.ones(4, 2, dtype=torch.bool))
    assert not costs[0].any()
    torch.testing.assert_close(costs[2], torch.tensor([[0.0, 1.15], [1.15, 0.0]]))


def test_a_video_played_backwards_has_the_same_paths():
    g = torch.Generator().manual_seed(3)
    scores, links = torch.randn(4, 6, 3, generator=g), torch.rand(6, 3, 3, generator=g)
    weights = torch.rand(6, generator=g)
    backwards = torch.cat([links[:1], links[1:].flip(0).transpose(1, 2)])
    for weight in (0.5, 2.0):
        found = best_paths(scores, links, weights, weight)
        again = best_paths(scores.flip(1), backwards, weights.flip(0), weight)
        assert torch.equal(again.tubes.flip(1), found.tubes)


def test_a_path_counts_its_clips_by_their_frames():
    scores = torch.tensor([[[0.2], [0.8], [NO]]])
    tubes = torch.tensor([[0, 0, -1]])
    assert path_scores(scores, tubes, torch.tensor([3.0, 1.0, 5.0])).item() == pytest.approx(0.35)
    both = path_scores(scores.expand(2, 3, 1), torch.tensor([[-1] * 3, [-1, 0, -1]]), torch.ones(3))
    assert both.tolist() == [NO, pytest.approx(0.8)], "each sentence by itself"
    nobody = best_paths(torch.full((1, 2, 3), NO), torch.rand(2, 3, 3), torch.ones(2))
    assert nobody.tubes.tolist() == [[-1, -1]] and nobody.scores.item() == NO


@pytest.mark.parametrize(
    ("present", "absent", "threshold", "accuracy"),
    [
        ([0.9, 0.8], [0.1, 0.4], 0.6, 1.0),
        ([0.9, 0.3], [0.1, 0.5], 0.2, 0.75),
        ([0.5], [0.5], 0.5, 0.5),
        ([1.0], [NO], 1.0, 1.0),
        ([NO], [0.5, 0.2], 0.5, 0.5),  # just above: all absent ones are refused
    ],
)
def test_the_threshold_separates_best(present, absent, threshold, accuracy):
    found = calibrate_absence(present, absent)
    shares = shares_at(found.threshold, present, absent)
    assert (shares.kept + shares.refused) / 2 == found.balanced_accuracy
    assert found.threshold == pytest.approx(threshold, abs=1e-5)
    assert found.balanced_accuracy == pytest.approx(accuracy)


def naive_accuracy(threshold, present, absent):
    kept = sum(score >= threshold for score in present) / len(present)
    refused = sum(score < threshold for score in absent) / len(absent)
    return (kept + refused) / 2


SCORES = st.lists(st.sampled_from([NO, -3.0, -0.5, 0.0, 0.1, 0.25, 2.0]), min_size=1, max_size=6)


@given(present=SCORES, absent=SCORES)
def test_no_threshold_separates_better(present, absent):
    found = calibrate_absence(present, absent)
    values = sorted({score for score in present + absent if score > NO})
    assert found.balanced_accuracy == pytest.approx(
        naive_accuracy(found.threshold, present, absent)
    )
    everywhere = [-9.0, *(v + e for v in values for e in (-1e-3, 1e-3))]
    best = max(naive_accuracy(cut, present, absent) for cut in everywhere)
    assert found.balanced_accuracy >= best - 1e-9
    middles = [(a + b) / 2 for a, b in itertools.pairwise(values)]
    ends = [values[0] - 1e-6, values[-1] + 1e-6] if values else [0.0]
    assert any(found.threshold == pytest.approx(cut, abs=1e-9) for cut in middles + ends)


def test_scores_of_nobody_alone_give_no_threshold():
    found = calibrate_absence([NO, NO], [NO])
    assert (found.threshold, found.balanced_accuracy) == (0.0, 0.5)


def test_shares_count_who_is_kept_and_who_is_refused():
    shares = shares_at(0.5, [0.5, 0.4, 0.9, 0.6], [0.1, 0.5, NO])
    assert (shares.kept, shares.refused) == (0.75, pytest.approx(2 / 3))


def test_shares_tell_near_equal_scores_apart():
    below = 0.1 - 1e-12
    shares = shares_at(0.1, [below, 0.1, 0.1], [below, below, 0.1])
    assert (shares.kept, shares.refused) == (2 / 3, 2 / 3)


@pytest.mark.parametrize(("present", "absent"), [([0.1], []), ([], [0.1])])
def test_a_threshold_needs_both_sides(present, absent):
    with pytest.raises(ValueError, match="both"):
        calibrate_absence(present, absent)


def shifted(*offsets):
    """Boxes (3, 4), each 10 x 10, so many pixels to the right of the first."""
    return torch.tensor([[x, 0.0, x + 10, 10.0] for x in offsets])


@pytest.mark.parametrize(
    ("boxes", "paths"),
    [
        # (the one at rest) two tubes apart: both are found; IoU of 10 x 10 boxes 5 apart: 1/3
        ([shifted(0, 20), shifted(5, 20)], [[0, 1], [1, 0]]),
        # 3 apart: IoU 7/13 = 0.54, in the second clip tube 1 shows the same actor as tube 0
        ([shifted(0, 20), shifted(0, 3)], [[0, 1], [1, -1]]),
        ([shifted(0, 0), shifted(4, 4)], [[0, 1]]),
        # 4 apart: 6/14 = 0.43
        ([shifted(0, 4), shifted(0, 4)], [[0, 1], [1, 0]]),
    ],
)
def test_actors_of_one_sentence_by_hand(boxes, paths):
    scores = torch.tensor([[[3.0, 1.0], [1.0, 2.0]]])
    weights = torch.ones(2)
    found = distinct_paths(
        scores, torch.stack(boxes)[:, None], lambda s: clip_winners(s, weights), 5
    )
    assert [path.tubes[0].tolist() for path in found if path.scores.isfinite()] == paths
    wanted = [2.5, {-1: 1.0, 0: 1.0}[paths[1][1]]] if len(paths) > 1 else [2.5]
    assert [float(p.scores) for p in found if p.scores.isfinite()] == wanted


def test_the_overlap_is_the_mean_of_the_clip_s_frames():
    scores, weights = torch.tensor([[[2.0, 1.0]]]), torch.ones(1)
    find = lambda s: clip_winners(s, weights)  # noqa: E731
    for apart, count in (((0, 0, 10), 1), ((0, 10, 10), 2)):  # two of three frames, one of three
        boxes = torch.stack([shifted(0, x) for x in apart])[None]
        found = [p for p in distinct_paths(scores, boxes, find, 2) if p.scores.isfinite()]
        assert len(found) == count


def test_no_more_paths_than_wanted_and_the_first_one_always():
    boxes = torch.stack([shifted(0, 20, 40)])[None]
    scores, weights = torch.tensor([[[1.0, 3.0, 2.0]]]), torch.ones(1)
    find = lambda s: clip_winners(s, weights)  # noqa: E731
    found = distinct_paths(scores, boxes, find, 2)
    assert [path.tubes.tolist() for path in found] == [[[1]], [[2]]]
    nobody = distinct_paths(torch.full((1, 1, 3), -torch.inf), boxes, find, 2)
    assert [path.tubes.tolist() for path in nobody] == [[[-1]]]


def test_what_a_link_costs_does_not_depend_on_who_was_found_before():
    """Tube 1 goes on as tube 1, from which a dear link leads to tube 2: that stays dear when tube 0
    is taken, and when another sentence is asked beside it."""
    links = torch.zeros(2, 3, 3)
    links[1] = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]])
    boxes = torch.stack([shifted(0, 20, 40)] * 2)[:, None]
    scores = torch.tensor([[[9.0, 2.0, 1.0], [9.0, 1.0, 2.0]]])
    weights, valid = torch.ones(2), torch.ones(2, 3, dtype=torch.bool)
    find = lambda s: best_paths(s, links, weights, 0.5, valid)  # noqa: E731
    for asked in (scores, torch.cat([scores, scores.flip(2)])):
        found = distinct_paths(asked, boxes, find, 3)
        assert sorted(path.tubes[0].tolist() for path in found) == [[0, 0], [1, 1], [2, 2]]


@given(
    clips=st.integers(1, 6),
    line=st.tuples(st.sampled_from([0.5, 2.0]), st.sampled_from([-1.0, 0.0, 3.0])),
    leaving_cost=st.sampled_from([0.0, 1.5, 8.0]),
    data=st.data(),
)
def test_nobody_is_there_in_the_clips_that_speak_most_against_it(clips, line, leaving_cost, data):
    """Against all ways of coming and leaving."""
    values = st.floats(-5, 5, width=32)
    scores = torch.tensor(data.draw(arrays("float32", (1, clips, 2), elements=values)))
    tubes = torch.tensor([data.draw(st.lists(st.integers(-1, 1), min_size=clips, max_size=clips))])
    weights = torch.tensor(data.draw(arrays("float32", clips, elements=st.sampled_from([0.5, 1]))))
    slope, intercept = line

    def value(there):
        known = [
            float(weights[c]) * (slope * float(scores[0, c, tubes[0, c]]) + intercept)
            for c in range(clips)
            if there[c] and tubes[0, c] >= 0
        ]
        changes = sum(a != b for a, b in itertools.pairwise(there))
        return sum(known) - leaving_cost * changes

    before = VideoPaths(tubes, path_scores(scores, tubes, weights))
    found = without_absence(before, scores, weights, slope, intercept, leaving_cost)
    assert torch.equal(found.scores, before.scores)
    kept = found.tubes == tubes
    assert (found.tubes[~kept] == -1).all()
    best = max(value(there) for there in itertools.product([True, False], repeat=clips))
    if kept.all():  # nobody anywhere is the score's to say
        assert max(value([True] * clips), value([False] * clips)) == pytest.approx(best, abs=1e-4)
    else:
        free = [
            [True, False] if tube < 0 else [bool(k)]
            for tube, k in zip(tubes[0], kept[0], strict=True)
        ]
        assert max(map(value, itertools.product(*free))) == pytest.approx(best, abs=1e-4)


def test_one_bad_clip_is_no_absence_but_several_are():
    weights, tubes = torch.ones(8), torch.zeros(1, 8, dtype=torch.long)
    for low, gone in ((1, 0), (4, 4)):
        scores = torch.full((1, 8, 1), 3.0)
        scores[0, 8 - low :] = -3.0
        found = without_absence(VideoPaths(tubes, torch.ones(1)), scores, weights, 1.0, 0.0)
        assert (found.tubes[0, 8 - gone :] == -1).all() and (found.tubes[0, : 8 - gone] == 0).all()
