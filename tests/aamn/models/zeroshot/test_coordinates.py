import pytest
import torch

from aamn.models.zeroshot.coordinates import among, motions, places
from aamn.models.zeroshot.sentences import MOTION, PLACE


def test_places_by_hand():
    # a frame of 100 x 50: two dogs and a cat, the cat between them and above
    boxes = torch.tensor([[[0, 20, 20, 40], [80, 20, 90, 30], [40, 0, 60, 20.0]]])
    classes = torch.tensor([[[0.9, 0], [0.8, 0], [0, 0.7]]])
    found = places(boxes, torch.tensor([[50.0, 100.0]]), classes, torch.ones(1, 3, dtype=bool))[0]
    by_name = dict(zip(PLACE, found.T.tolist(), strict=True))
    assert by_name["x"] == pytest.approx([-0.8, 0.7, 0])
    assert by_name["y"] == pytest.approx([0.2, 0, -0.6])
    assert by_name["near_x"] == pytest.approx([-1, 1, 0])  # the cat has nobody alike
    assert by_name["near_size"] == pytest.approx([1, -1, 0])
    assert by_name["middle"] == pytest.approx([-0.6, -0.4, 1])
    assert by_name["near_middle"] == [0, 0, 0]  # fewer than three are alike
    side = 2 * 20 / 5000**0.5 - 1
    assert by_name["size"][0] == pytest.approx(side)


def test_a_box_that_nobody_is_sure_of_is_no_neighbour():
    boxes = torch.tensor([[[10, 0, 20, 10], [50, 0, 60, 10], [90, 0, 100, 10.0]]])
    classes = torch.tensor([[[0.9], [0.8], [0.1]]])
    valid = torch.ones(1, 3, dtype=bool)
    found = places(boxes, torch.tensor([[10.0, 100.0]]), classes, valid)[0]
    assert found[:2, PLACE.index("near_x")].tolist() == [-1, 1]


def test_among_those_alike():
    alike = torch.tensor([[[1, 1, 0], [1, 1, 0], [0, 0, 1]]], dtype=torch.bool)
    assert among(torch.tensor([[3.0, 7.0, 100.0]]), alike).tolist() == [[-1, 1, 0]]


@pytest.mark.parametrize(
    ("step", "camera", "energy", "wanted"),
    [
        (0.0, 0.0, 0.0, {"right": 0, "still": 1}),
        (5.0, 5.0, 0.0, {"right": 0, "still": 1}),  # the camera goes with it
        (3.0, 0.0, 0.0, {"right": 1, "fast": 1}),
        (-3.0, 0.0, 0.3, {"right": -1, "fast": 1}),
        (0.5, 0.0, 0.05, {"slow": 1}),
    ],
)
def test_motions(step, camera, energy, wanted):
    left = torch.arange(4) * step
    zero = torch.zeros(4)
    boxes = torch.stack([left, zero, left + 10, zero + 10], -1)[None, None]
    moves = torch.tensor([camera, 0.0]).expand(1, 4, 2)
    found = dict(zip(MOTION, motions(boxes, moves, torch.tensor([[energy]]))[0, 0], strict=True))
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(value, abs=0.25), name
    assert float(found["still"] + found["slow"] + found["fast"]) == pytest.approx(1)
    assert float(found["grows"]) == pytest.approx(0)


def test_what_comes_nearer_grows():
    sides = torch.tensor([10.0, 10.2, 10.4])
    boxes = torch.stack([-sides, -sides, sides, sides], -1)[None, None]
    found = motions(boxes, torch.zeros(1, 3, 2), torch.zeros(1, 1))[0, 0]
    assert float(found[MOTION.index("grows")]) > 0.9
