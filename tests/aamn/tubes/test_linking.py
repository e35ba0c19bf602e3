"""Tubes: the score (1) and the chains it builds, against plain loops."""

import numpy as np
import pytest
import torch

from aamn.tubes.linking import link_scores, link_tubes


def naive_iou(a, b):
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / union if union > 0 else 0.0


def naive_score(box_a, box_b, feature_a, feature_b, rho):
    return naive_iou(box_a, box_b) + rho / (1 + np.linalg.norm(feature_a - feature_b))


def naive_tubes(boxes, features, valid, key, rho, mode):
    """Boxes of one clip, tube by tube and frame by frame."""
    t, k = boxes.shape[:2]
    members = np.full((k, t), -1)
    for tube in range(k):
        if not valid[key, tube]:
            continue
        members[tube, key] = tube
        for steps in (range(key + 1, t), range(key - 1, -1, -1)):
            last = (key, tube)
            for n in steps:
                scores = [
                    naive_score(boxes[last], boxes[n, j], features[last], features[n, j], rho)
                    if valid[n, j]
                    else -np.inf
                    for j in range(k)
                ]
                if np.isfinite(scores).any():
                    members[tube, n] = int(np.argmax(scores))
                    if mode == "chain":
                        last = (n, members[tube, n])
    return members


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


@pytest.mark.parametrize("mode", ["chain", "anchor"])
@pytest.mark.parametrize("key", [0, 3, 6])
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_tubes_are_those_of_plain_loops(mode, key, missing):
    clips = [random_clip(seed, missing=missing) for seed in range(4)]
    tubes = link_tubes(*batched(*clips), key=key, balance=1.0, mode=mode)
    for clip, members in zip(clips, tubes.members, strict=True):
        np.testing.assert_array_equal(members.numpy(), naive_tubes(*clip, key, 1.0, mode))


def test_chain_follows_what_anchor_loses():
    """A box that glides away stays in the chain; the anchor prefers the box that stays put."""
    still, t = [0.0, 0.0, 10.0, 10.0], 5
    boxes = torch.tensor([[[2.5 * n, 0.0, 10 + 2.5 * n, 10.0], [*still]] for n in range(t)])[None]
    boxes[:, 0, 1] = torch.tensor([100.0, 100.0, 110.0, 110.0])
    features, valid = torch.zeros(1, t, 2, 3), torch.ones(1, t, 2, dtype=torch.bool)
    valid[:, 1:2, 1] = False
    chain = link_tubes(boxes, features, valid, key=0, mode="chain")
    anchor = link_tubes(boxes, features, valid, key=0, mode="anchor")
    assert chain.members[0, 0].tolist() == [0, 0, 0, 0, 0]
    assert anchor.members[0, 0].tolist() == [0, 0, 1, 1, 1]


def test_permuting_proposals_permutes_tubes():
    boxes, features, valid = batched(random_clip(3))
    order = torch.tensor([2, 0, 4, 1, 3])
    one = link_tubes(boxes, features, valid, key=3)
    two = link_tubes(boxes[:, :, order], features[:, :, order], valid[:, :, order], key=3)
    torch.testing.assert_close(two.boxes, one.boxes[:, order])
    torch.testing.assert_close(two.link_scores, one.link_scores[:, order])


def test_a_frame_without_proposals_keeps_the_last_box():
    boxes, features, valid = batched(random_clip(5))
    valid[:, 4] = False
    tubes = link_tubes(boxes, features, valid, key=3)
    assert (tubes.members[:, :, 4] == -1).all()
    torch.testing.assert_close(tubes.boxes[:, :, 4], tubes.boxes[:, :, 3])
    assert not tubes.linked[:, :, 4].any() and tubes.linked[:, :, 3].all()


def test_one_frame_is_its_own_tube():
    boxes, features, valid = batched(random_clip(6, t=1))
    tubes = link_tubes(boxes, features, valid, key=0)
    torch.testing.assert_close(tubes.boxes[:, :, 0], boxes[:, 0])


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'chain' or 'anchor'"):
        link_tubes(*batched(random_clip(0)), key=0, mode="nearest")
