"""Aggregation (2), and the order in which tubes are read."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aamn.tubes.aggregation import (
    AGGREGATIONS,
    average,
    context_order,
    gather_members,
    key_plus_context,
    reading_order,
)


def test_key_plus_context_by_hand():
    features = torch.tensor([[1.0], [10.0], [2.0], [6.0]])  # T = 4, key = 1
    linked = torch.ones(4, dtype=torch.bool)
    assert key_plus_context(features, linked, 1).item() == pytest.approx(10 + (1 + 2 + 6) / 3)
    assert average(features, linked, 1).item() == pytest.approx(19 / 4)


def test_frames_without_a_proposal_do_not_count():
    features = torch.tensor([[1.0], [10.0], [1e6], [6.0]])
    linked = torch.tensor([True, True, False, True])
    assert key_plus_context(features, linked, 1).item() == pytest.approx(10 + (1 + 6) / 2)
    assert average(features, linked, 1).item() == pytest.approx(17 / 3)


def test_the_names_of_the_ablation_are_those_of_the_formulas():
    assert {"key_plus_context": key_plus_context, "average": average} == AGGREGATIONS


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        # Tube 0 is seen in frames 0 and 2 (key), tube 1 in the key frame alone, tube 2 nowhere:
        # its key frame counts all the same.
        (key_plus_context, [[5 + 1.0, 50 + 10.0], [6.0, 60.0], [7.0 + 6.0, 70.0 + 60.0]]),
        (average, [[(1 + 5) / 2, (10 + 50) / 2], [6.0, 60.0], [(3 + 9 + 7) / 3, 190 / 3]]),
    ],
)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_tubes_are_aggregated_each_over_its_own_frames(aggregate, expected, kind):
    values = torch.tensor([[1.0, 8.0, 5.0], [2.0, 4.0, 6.0], [3.0, 9.0, 7.0]], dtype=kind)
    features = torch.stack([values, 10 * values], -1)[None]  # (1, K, T, C)
    linked = torch.tensor([[[True, False, True], [False, False, True], [True, True, False]]])
    before = linked.clone()
    found = aggregate(features, linked, 2)
    torch.testing.assert_close(found, torch.tensor([expected], dtype=kind))
    assert torch.equal(linked, before), "what is linked stays as it was"


@pytest.mark.parametrize("aggregate", [key_plus_context, average])
def test_one_frame_is_its_own_aggregate(aggregate):
    features = torch.randn(3, 1, 5)
    linked = torch.ones(3, 1, dtype=torch.bool)
    torch.testing.assert_close(aggregate(features, linked, 0), features[:, 0])


def test_gather_members_is_plain_indexing():
    features = torch.randn(2, 3, 4, 5)
    members = torch.randint(0, 4, (2, 4, 3))
    gathered = gather_members(features, members)
    for b in range(2):
        for k in range(4):
            for t in range(3):
                torch.testing.assert_close(gathered[b, k, t], features[b, t, members[b, k, t]])


def test_a_frame_without_a_member_may_be_gathered():
    features = torch.arange(12.0).view(1, 3, 2, 2)
    gathered = gather_members(features, torch.tensor([[[1, -1, 0], [-1, 1, 1]]]))
    assert gathered[0, 0, [0, 2]].tolist() == [[2, 3], [8, 9]]
    assert gathered[0, 1, 1:].tolist() == [[6, 7], [10, 11]]
    assert gathered.isfinite().all()


@given(
    corners=arrays(
        int, st.tuples(st.just(2), st.integers(1, 40), st.just(2)), elements=st.integers(-2, 2)
    ),
    data=st.data(),
)
def test_the_reading_order_is_that_of_sorted(corners, data):
    """By y, then x, then the order they came in; invalid ones last, wherever they lie."""
    b, k, _ = corners.shape
    valid = data.draw(arrays(bool, (b, k)))
    boxes = torch.cat(
        [
            torch.from_numpy(corners),
            torch.rand(b, k, 2, generator=torch.Generator().manual_seed(0)),
        ],
        -1,
    ).float()
    order = reading_order(boxes, torch.from_numpy(valid))
    others = context_order(boxes, torch.from_numpy(valid))
    for clip in range(b):
        x, y = corners[clip].T.tolist()
        wanted = sorted(
            range(k), key=lambda i: (0, y[i], x[i], i) if valid[clip, i] else (1, 0, 0, i)
        )
        assert order[clip].tolist() == wanted
        for tube in range(k):
            assert others[clip, tube].tolist() == [i for i in wanted if i != tube]


def test_others_come_top_to_bottom_then_left_to_right():
    corners = [(50, 10), (0, 30), (20, 10), (9, 9), (0, 0)]
    boxes = torch.tensor([[x, y, x + 5, y + 5] for x, y in corners], dtype=torch.float32)[None]
    valid = torch.tensor([[True, True, True, True, False]])
    order = context_order(boxes, valid)[0]
    # Sorted by y, then x: 3 (9), 2 (10, 20), 0 (10, 50), 1 (30); the invalid one comes last.
    assert order[0].tolist() == [3, 2, 1, 4]
    assert order[3].tolist() == [2, 0, 1, 4]
    assert order[1].tolist() == [3, 2, 0, 4]


def test_a_single_tube_has_no_others():
    assert context_order(torch.zeros(2, 1, 4), torch.ones(2, 1, dtype=torch.bool)).shape == (
        2,
        1,
        0,
    )
