"""What a tube's pixels say: by hand, and on flat pictures."""

import pytest
import torch

from aamn.models.statistics import (
    GRID,
    Colours,
    Motion,
    TubePixels,
    _flow_numbers,
    _way_numbers,
    camera_motion,
    colour_histogram,
    crop,
)


def pixels(b=1, k=1, t=3):
    boxes = torch.tensor([10.0, 20.0, 30.0, 40.0]).expand(b, k, t, 4).clone()
    return TubePixels(
        torch.rand(b, k, 3, GRID, GRID),
        torch.ones(b, k, GRID, GRID),
        torch.zeros(b, k, t, 2, GRID, GRID),
        boxes,
        torch.ones(b, k, t, dtype=torch.bool),
    )


def test_colours_are_shared_between_the_levels_next_to_them():
    """Four levels: 0, 1/3, 2/3, 1. Half of the weight is pure red, half is of red 0.5."""
    colours = torch.zeros(1, 3, 1, 2)
    colours[0, 0] = torch.tensor([[1.0, 0.5]])
    found = colour_histogram(colours, torch.tensor([[[1.0, 3.0]]]))[0].view(4, 4, 4)
    wanted = torch.zeros(4, 4, 4)
    wanted[3, 0, 0], wanted[1, 0, 0], wanted[2, 0, 0] = 0.25, 0.375, 0.375
    torch.testing.assert_close(found, wanted)


def test_a_histogram_adds_up_to_one_and_an_empty_mask_has_none():
    colours, weights = torch.rand(2, 3, 5, 5) * 2 - 0.5, torch.rand(2, 5, 5)
    weights[1] = 0
    sums = colour_histogram(colours, weights).sum(1)
    torch.testing.assert_close(sums, torch.tensor([1.0, 0.0]))


def test_only_what_the_mask_shows_counts():
    given = pixels()
    given.colours[..., :7, :] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    given.masks[..., 7:, :] = 0
    found = Colours.numbers(given)[0, 0]
    assert found[:64].argmax() == 48 and found[48] == 4, "pure red"
    torch.testing.assert_close(found[64:67], torch.tensor([1.0, -1.0, -1.0]))
    assert found[67:].abs().max() < 1e-4, "no spread"


def test_the_camera_is_the_median_where_the_frame_lies():
    flow = torch.zeros(2, 2, 8, 8)
    flow[:, 0, :4, :6], flow[:, 1, :4, :6] = 3.0, -1.0
    flow[:, :, 0, 0] = 99
    content = torch.tensor([[0, 0, 12, 8.0], [0, 0, 16, 16.0]])
    assert camera_motion(flow, content).tolist() == [[3, -1], [0, 0]]


def test_a_crop_is_in_network_pixels_of_its_own_frame():
    maps = torch.arange(20.0).expand(2, 1, 16, 20).clone()  # a column is two pixels wide
    maps[1] += 100
    found = crop(maps, torch.tensor([1, 0]), torch.tensor([[8, 4, 36, 32], [8, 4, 36, 32.0]]))
    assert found.shape == (2, 1, GRID, GRID)
    torch.testing.assert_close(found[0], found[1] + 100)
    torch.testing.assert_close(found[1, 0, 3], torch.arange(4.0, 18.0))


def root(value):
    return value / (abs(value) + 0.05) ** 0.5


def test_flow_is_measured_in_the_boxes_size():
    given = pixels()  # sides of 20 pixels
    given.flow[0, 0, 1, 0, :7] = 4.0  # the upper half goes to the right in the second frame
    found = _flow_numbers(given)[0, 0]
    mean, spread, length = found[1, :2], found[1, 2:4], found[1, 4]
    assert mean.tolist() == [pytest.approx(root(2 * 10 / 20)), 0]
    assert spread[0].item() == pytest.approx(root(2 * 10 / 20), abs=1e-4)
    assert length.item() == pytest.approx(root(1.0), abs=1e-4)
    upper, lower, left, right = found[1, 5:13].view(4, 2)[:, 0].tolist()
    assert upper == pytest.approx(root(2.0)) and lower == 0
    assert left == right == pytest.approx(root(1.0))
    assert found[1, 13:].tolist() == [pytest.approx(root(2.0)), 0], "pixels"
    assert found[0, :2].abs().max() == 0


def test_the_way_is_measured_from_the_middle_frame():
    given = pixels()
    given.boxes[0, 0, 2] = torch.tensor([20.0, 20.0, 40.0, 60.0])
    found = _way_numbers(given)[0, 0]
    assert found[1].tolist() == [0, 0, 0, 0, 0, 0, 1]
    wanted = [4 * 10 / 20, 4 * 10 / 20, 1.0, 1.0, 0, 4 * torch.tensor(2.0).log().item(), 1]
    assert found[2].tolist() == pytest.approx(wanted)


def test_a_frame_without_a_proposal_says_nothing():
    torch.manual_seed(0)
    motion, given = Motion(3), pixels()
    given.flow[0, 0, 2] = 5.0
    moving = motion(Motion.numbers(given))
    given.linked[0, 0, 2] = False
    gone = motion(Motion.numbers(given))
    given.flow[0, 0, 2] = 0.0
    assert not torch.allclose(moving, gone) and torch.equal(gone, motion(Motion.numbers(given)))
