"""Aggregation (2), and the order in which tubes are read."""

import pytest
import torch

from aamn.tubes.aggregation import average, context_order, gather_members, key_plus_context


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
