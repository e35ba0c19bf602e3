"""Tubes: the score (1) and the chains it builds, against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aamn.tubes.linking import LinkedTubes, link_scores, link_tubes


def naive_iou(a, b):
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / union if union > 0 else 0.0


def naive_score(box_a, box_b, feature_a, feature_b, rho):
    return naive_iou(box_a, box_b) + rho / (1 + np.linalg.norm(feature_a - feature_b))


def naive_tubes(boxes, features, valid, key, rho, mode):
    """Tube by tube and frame by frame: members (K, T), boxes (K, T, 4), scores (K, T). In a frame
    without proposals a tube stays where it is, with the feature it last had."""
    t, k = boxes.shape[:2]
    members, scores = np.full((k, t), -1), np.zeros((k, t))
    tubes = np.zeros((k, t, 4))
    for tube in range(k):
        if not valid[key, tube]:
            continue
        members[tube, key] = tube
        tubes[tube, key] = boxes[key, tube]
        for steps in (range(key + 1, t), range(key - 1, -1, -1)):
            last = (key, tube)
            held = boxes[key, tube]
            for n in steps:
                found = {
                    j: naive_score(boxes[last], boxes[n, j], features[last], features[n, j], rho)
                    for j in range(k)
                    if valid[n, j]
                }
                if found:
                    best = max(found, key=found.get)
                    members[tube, n], scores[tube, n] = best, found[best]
                    held = boxes[n, best]
                    if mode == "chain":
                        last = (n, best)
                tubes[tube, n] = held
    return members, tubes, scores


def assert_naive(clips, key, rho, mode):
    tubes = link_tubes(*batched(*clips), key=key, balance=rho, mode=mode)
    for place, clip in enumerate(clips):
        members, boxes, scores = naive_tubes(*clip, key, rho, mode)
        exist = clip[2][key]
        np.testing.assert_array_equal(tubes.valid[place], exist)
        np.testing.assert_array_equal(tubes.members[place], members)
        np.testing.assert_array_equal(tubes.linked[place], members >= 0)
        np.testing.assert_allclose(tubes.boxes[place][exist], boxes[exist])
        np.testing.assert_allclose(tubes.link_scores[place], scores, atol=1e-5)


def random_clip(seed, t=7, k=5, c=11, missing=0.0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (t, k, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 50, (t, k, 2))], -1)
    features = rng.normal(size=(t, k, c))
    valid = rng.random((t, k)) >= missing
    return boxes, features, valid


def batched(*clips):
    return [torch.from_numpy(np.stack(values)) for values in zip(*clips, strict=True)]


def test_link_score_by_hand():
    a = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    b = torch.tensor([[5.0, 0.0, 15.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    features_a, features_b = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    scores = link_scores(a, b, features_a, features_b, balance=2.0)
    torch.testing.assert_close(scores, torch.tensor([[1 / 3 + 2 / 6, 0.0 + 2 / 1]]))


def test_the_first_term_is_the_overlap_and_the_second_the_features():
    """One clip of three frames around the key frame, two boxes each, by hand."""
    far = [50.0, 50.0, 60.0, 60.0]
    boxes = torch.tensor([[[0.0, 5.0, 10.0, 15.0], far], [[0.0, 0.0, 10.0, 10.0], far], [far, far]])
    features = torch.tensor([[[3.0], [0.0]], [[0.0], [3.0]], [[7.0], [1.0]]])
    valid = torch.ones(1, 3, 2, dtype=torch.bool)
    tubes = link_tubes(boxes[None], features[None], valid, key=1)  # rho is 1
    assert tubes.members[0].tolist() == [[1, 0, 1], [1, 1, 1]]
    wanted = torch.tensor([[1.0, 0.0, 1 / 2], [1 + 1 / 4, 0.0, 1 + 1 / 3]])
    torch.testing.assert_close(tubes.link_scores[0], wanted)
    light = link_tubes(boxes[None], features[None], valid, key=1, balance=0.1)
    assert light.members[0].tolist() == [[0, 0, 1], [1, 1, 1]]
    assert light.link_scores[0, 0, 0].item() == pytest.approx(1 / 3 + 0.1 / 4)


def test_near_equal_features_are_told_apart():
    """Far from the origin, the differences of squares would leave little of small distances."""
    n = 40
    a = torch.full((n, 2), 300.0)
    b = a + torch.arange(n)[:, None] * torch.tensor([0.03, 0.04])
    nowhere = torch.zeros(n, 4)
    scores = link_scores(nowhere, nowhere, a, b, balance=1.0)
    wanted = 1 / (1 + 0.05 * torch.arange(n))
    torch.testing.assert_close(scores[7], wanted, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_features_are_compared_in_full(kind):
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    scores = link_scores(boxes, boxes, torch.zeros(1, 2).to(kind), torch.ones(1, 2).to(kind), 1.0)
    assert scores.dtype == torch.float32
    assert scores.item() == pytest.approx(1 + 1 / (1 + 2**0.5), abs=1e-6)


@pytest.mark.parametrize("mode", ["chain", "anchor"])
@pytest.mark.parametrize("key", [0, 3, 6])
@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("rho", [0.1, 2.5])
def test_tubes_are_those_of_plain_loops(mode, key, missing, rho):
    assert_naive([random_clip(seed, missing=missing) for seed in range(4)], key, rho, mode)


@pytest.mark.parametrize("mode", ["chain", "anchor"])
@pytest.mark.parametrize("empty", [(2,), (4,), (1, 2), (4, 5), (0, 6), (0, 2, 4, 6)], ids=str)
def test_after_an_empty_frame_a_tube_goes_on_from_where_it_was(mode, empty):
    """Backwards and forwards; the second clip has all its proposals in those frames."""
    clips = [random_clip(seed, missing=0.2) for seed in range(8)]
    for _, _, valid in clips[::2]:
        valid[list(empty)] = False
    assert_naive(clips, 3, 5.0, mode)


@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    rho=st.sampled_from([0.1, 4.0]),
    mode=st.sampled_from(["chain", "anchor"]),
    data=st.data(),
)
def test_tubes_are_those_of_plain_loops_whichever_proposals_there_are(seed, shape, rho, mode, data):
    t, k = shape
    boxes, features, _ = random_clip(seed, t, k, 3)
    valid = data.draw(arrays(bool, shape))
    assert_naive([(boxes, features, valid)], data.draw(st.integers(0, t - 1)), rho, mode)


@given(seed=st.integers(0, 99), data=st.data())
def test_permuting_proposals_permutes_tubes(seed, data):
    """Each frame's proposals in an order of their own; tubes follow those of the key frame."""
    t, k, key = 4, 3, data.draw(st.integers(0, 3))
    boxes, features, _ = random_clip(seed, t, k, 3)
    valid = data.draw(arrays(bool, (t, k)))
    orders = np.stack([data.draw(st.permutations(range(k))) for _ in range(t)])
    frames = np.arange(t)[:, None]
    one = link_tubes(*batched((boxes, features, valid)), key=key)
    moved = (boxes[frames, orders], features[frames, orders], valid[frames, orders])
    two = link_tubes(*batched(moved), key=key)
    order = torch.from_numpy(orders[key])
    torch.testing.assert_close(two.valid, one.valid[:, order])
    torch.testing.assert_close(two.link_scores, one.link_scores[:, order])
    exist = two.valid[0]
    torch.testing.assert_close(two.boxes[0, exist], one.boxes[0, order][exist])
    old = one.members[0, order]
    back = torch.from_numpy(orders).T[two.members[0].clamp(min=0), torch.arange(t)]
    assert torch.equal(torch.where(two.linked[0], back, -1), old)


def test_chain_follows_what_anchor_loses():
    """A box that glides away stays in the chain; the anchor prefers the box that stays put."""
    still, t = [0.0, 0.0, 10.0, 10.0], 5
    boxes = torch.tensor([[[2.5 * n, 0.0, 10 + 2.5 * n, 10.0], [*still]] for n in range(t)])[None]
    boxes[:, 0, 1] = torch.tensor([100.0, 100.0, 110.0, 110.0])
    features, valid = torch.zeros(1, t, 2, 3), torch.ones(1, t, 2, dtype=torch.bool)
    valid[:, 1:2, 1] = False
    chain = link_tubes(boxes, features, valid, key=0)  # as the default
    anchor = link_tubes(boxes, features, valid, key=0, mode="anchor")
    assert chain.members[0, 0].tolist() == [0, 0, 0, 0, 0]
    assert anchor.members[0, 0].tolist() == [0, 0, 1, 1, 1]


def test_a_frame_without_proposals_keeps_the_last_box():
    boxes, features, valid = batched(random_clip(5))
    valid[:, 4] = False
    tubes = link_tubes(boxes, features, valid, key=3)
    assert (tubes.members[:, :, 4] == -1).all()
    torch.testing.assert_close(tubes.boxes[:, :, 4], tubes.boxes[:, :, 3])
    assert not tubes.linked[:, :, 4].any() and tubes.linked[:, :, 3].all()


def test_a_tube_that_is_none_is_linked_nowhere():
    members, valid = torch.tensor([[[0, -1, 0], [1, 0, 0]]]), torch.tensor([[True, False]])
    tubes = LinkedTubes(members, torch.zeros(1, 2, 3, 4), valid, torch.zeros(1, 2, 3))
    assert tubes.linked.tolist() == [[[True, False, True], [False, False, False]]]


def test_one_frame_is_its_own_tube():
    boxes, features, valid = batched(random_clip(6, t=1))
    tubes = link_tubes(boxes, features, valid, key=0)
    torch.testing.assert_close(tubes.boxes[:, :, 0], boxes[:, 0])
