"""Arithmetic of boxes and masks on cases that fit on paper, and against plain loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aamn.boxes import area, location_features, pairwise_iou
from aamn.masks import (
    boxes_of_masks,
    crop_masks,
    filled_boxes,
    overlap,
    paste_binary_masks,
    paste_masks,
)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1.0),
        ((0, 0, 4, 4), (2, 0, 6, 4), 8 / 24),
        ((0, 0, 4, 4), (4, 0, 8, 4), 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
        ((5, 5, 1, 1), (0, 0, 9, 9), 0.0),
    ],
)
def test_iou_by_hand(a, b, iou):
    got = pairwise_iou(
        torch.tensor([a], dtype=torch.float32), torch.tensor([b], dtype=torch.float32)
    )
    assert got.item() == pytest.approx(iou)


def test_iou_broadcasts_over_clips():
    a, b = torch.rand(3, 1, 4, 4).sort(-1).values, torch.rand(1, 2, 5, 4).sort(-1).values
    got = pairwise_iou(a, b)
    torch.testing.assert_close(got[2, 1], pairwise_iou(a[2, 0], b[0, 1]))


def test_location_feature_by_hand():
    got = location_features(
        torch.tensor([[10.0, 20.0, 50.0, 40.0]]), torch.tensor(100.0), torch.tensor(50.0)
    )
    np.testing.assert_allclose(got[0].numpy(), [0.1, 0.4, 0.5, 0.8, 40 * 20 / 5000], atol=1e-6)
    assert area(torch.tensor([10.0, 20.0, 50.0, 40.0])).item() == 800


def test_pasting_is_bilinear_sampling_of_the_box():
    """Against torch's own grid sampler, as Mask R-CNN pastes."""
    torch.manual_seed(0)
    grids, size = torch.rand(4, 28, 28), (40, 56)
    boxes = torch.tensor(
        [[3.2, 4.7, 30.1, 33.3], [-5.0, -6.0, 20.0, 70.0], [10, 10, 11, 30], [50, 30, 56, 40]]
    )
    y, x = torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5
    u = (x[None] - boxes[:, 0, None]) / (boxes[:, 2] - boxes[:, 0])[:, None] * 2 - 1
    v = (y[None] - boxes[:, 1, None]) / (boxes[:, 3] - boxes[:, 1])[:, None] * 2 - 1
    places = torch.stack(
        [u[:, None].expand(-1, size[0], -1), v[:, :, None].expand(-1, -1, size[1])], -1
    )
    expected = F.grid_sample(grids[:, None], places, align_corners=False)[:, 0]
    torch.testing.assert_close(paste_masks(grids, boxes, size), expected, atol=1e-5, rtol=0)


def test_cropping_and_pasting_back_keeps_a_mask():
    y, x = torch.meshgrid(torch.arange(80), torch.arange(90), indexing="ij")
    mask = ((y - 40.0) / 25) ** 2 + ((x - 45.0) / 30) ** 2 < 1
    box = boxes_of_masks(mask[None])
    back = paste_binary_masks(crop_masks(mask[None], box, 28), box, (80, 90))
    intersection, union = overlap(back[0], mask)
    assert intersection / union > 0.95


def test_an_empty_box_pastes_nothing_and_no_masks_are_no_masks():
    assert not paste_binary_masks(torch.ones(1, 28, 28), torch.zeros(1, 4), (10, 10)).any()
    assert paste_binary_masks(torch.ones(0, 28, 28), torch.zeros(0, 4), (10, 12)).shape == (
        0,
        10,
        12,
    )


def test_tight_and_filled_boxes_are_inverse():
    boxes = torch.tensor([[2.0, 3.0, 7.0, 9.0], [0, 0, 1, 1], [0, 0, 0, 0]])
    masks = filled_boxes(boxes, (12, 10))
    assert masks.flatten(1).sum(1).tolist() == [30, 1, 0]
    torch.testing.assert_close(boxes_of_masks(masks), boxes)


def test_overlap_counts_pixels():
    a, b = filled_boxes(torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6]]), (8, 8))
    assert overlap(a, b) == (4, 28)
    with pytest.raises(ValueError, match="different shapes"):
        overlap(a, b[:4])


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.9])
def test_masks_pasted_inside_their_boxes_are_those_of_whole_frames(threshold):
    g = torch.Generator().manual_seed(3)
    corner = torch.rand(40, 2, generator=g) * torch.tensor([70.0, 50.0]) - 10
    boxes = torch.cat([corner, corner + torch.rand(40, 2, generator=g) * 60], 1)
    boxes[0] = 0  # no box at all
    boxes[1] = torch.tensor([-40.0, -40, -10, -5])  # beside the frame
    boxes[2] = torch.tensor([-5.0, -5, 90, 70])  # larger than it
    grids = torch.rand(40, 7, 9, generator=g)
    wanted = paste_masks(grids, boxes, (48, 64)) >= threshold
    assert torch.equal(paste_binary_masks(grids, boxes, (48, 64), threshold), wanted)


def test_a_threshold_of_zero_would_fill_the_frame_and_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        paste_binary_masks(torch.ones(1, 2, 2), torch.zeros(1, 4), (4, 4), 0.0)
