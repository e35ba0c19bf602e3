"""Arithmetic of boxes and masks on cases that fit on paper, and against plain loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as rle

from aamn.ops import masks as masks_module
from aamn.ops.boxes import area, location_features, pairwise_iou
from aamn.ops.masks import (
    boxes_of_masks,
    crop_masks,
    decode_run_lengths,
    filled_boxes,
    overlap,
    paste_binary_masks,
    paste_crops,
    paste_masks,
    runs_of,
)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1.0),
        ((0, 0, 4, 4), (2, 0, 6, 4), 8 / 24),
        ((0, 0, 4, 4), (4, 0, 8, 4), 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
        ((5, 5, 1, 1), (0, 0, 9, 9), 0.0),
        ((0, 0, 4, 4), (6, 7, 9, 9), 0.0),  # apart in both directions
        ((0, 0, 4, 4), (6, 1, 9, 3), 0.0),
        ((0, 0, 8, 2), (2, 1, 4, 5), 2 / 22),
        ((0, 0, 0.5, 0.5), (0.25, 0, 0.75, 0.5), 1 / 3),  # smaller than a pixel
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


CORNERS = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(0, 8)] * 2)


@given(a=st.lists(CORNERS, min_size=1, max_size=4), b=st.lists(CORNERS, min_size=1, max_size=4))
def test_boxes_of_whole_pixels_overlap_as_the_masks_they_fill(a, b):
    a, b = torch.tensor(a).float(), torch.tensor(b).float()
    found = pairwise_iou(a, b)
    torch.testing.assert_close(pairwise_iou(b, a), found.T)
    for i, one in enumerate(filled_boxes(a, (8, 8))):
        assert area(a[i]).item() == one.sum()
        for j, other in enumerate(filled_boxes(b, (8, 8))):
            both, either = int((one & other).sum()), int((one | other).sum())
            assert found[i, j].item() == pytest.approx(both / either if either else 0.0)


def test_the_location_feature_is_a_share_of_each_boxs_own_frame():
    boxes = torch.tensor([[[0.0, 10.0, 20.0, 30.0]] * 2, [[0.0, 10.0, 20.0, 30.0]] * 2])
    width, height = torch.tensor([[40.0], [80.0]]), torch.tensor([[50.0], [100.0]])
    got = location_features(boxes, width, height)
    wanted = [[0.0, 0.2, 0.5, 0.6, 0.2], [0.0, 0.1, 0.25, 0.3, 0.05]]
    torch.testing.assert_close(got, torch.tensor(wanted)[:, None].expand(2, 2, 5))


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


def test_pasting_by_hand():
    """Two by two cells of two pixels each: a pixel's centre lies a quarter of a cell from a cell's
    own, and what lies within half a cell of the box's edge fades towards zero."""
    grids = torch.tensor([[[0.0, 1.0], [0.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]]])
    boxes = torch.tensor([[1.0, 1.0, 5.0, 5.0]] * 2)
    masks = paste_masks(grids, boxes, (6, 7))
    row = torch.tensor([0.0, 0.0, 0.25, 0.75, 0.75, 0.25, 0.0])
    torch.testing.assert_close(masks[0, 2], row)
    torch.testing.assert_close(masks[0, 1], row * 0.75)
    torch.testing.assert_close(masks[0, 0], row * 0.25)
    torch.testing.assert_close(masks[1, :, 2], row[:6])
    assert paste_binary_masks(grids[:1], boxes[:1], (6, 7))[0, 2].tolist() == [False] * 3 + [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("threshold", "columns"), [(0.25, [2, 3, 4, 5]), (0.75, [3, 4]), (0.8, [])]
)
@pytest.mark.parametrize("cuda", [False, True])
def test_a_probability_at_the_threshold_belongs_to_the_mask(threshold, columns, cuda):
    grids = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    grids = grids.as_subclass(AsOnGpu) if cuda else grids
    masks = paste_binary_masks(grids, torch.tensor([[1.0, 1.0, 5.0, 5.0]]), (6, 7), threshold)
    assert masks[0, 2].nonzero().flatten().tolist() == columns


@pytest.mark.parametrize(("probability", "inside"), [(0.51, True), (0.49, False)])
def test_a_mask_holds_what_is_likelier_than_not(probability, inside):
    masks = paste_binary_masks(
        torch.full((1, 3, 3), probability), torch.tensor([[0.0, 0, 9, 9]]), (9, 9)
    )
    assert bool(masks[0, 4, 4]) is inside


class AsOnGpu(torch.Tensor):
    """A tensor of the CPU that takes the way of those on a GPU."""

    is_cuda = True


@pytest.mark.parametrize("pixels", [1, 25 * 36, 2 * 25 * 36, 1 << 20])
def test_masks_on_a_gpu_are_pasted_in_steps_of_bounded_memory(monkeypatch, pixels):
    g = torch.Generator().manual_seed(4)
    corner = torch.rand(5, 2, generator=g) * 20
    boxes = torch.cat([corner, corner + torch.rand(5, 2, generator=g) * 15], 1)
    grids, steps = torch.rand(5, 7, 9, generator=g), []
    wanted = paste_masks(grids, boxes, (25, 36)) >= 0.4

    def paste(grids, boxes, size):
        steps.append(len(grids))
        return paste_masks(grids, boxes, size)

    monkeypatch.setattr(masks_module, "PIXELS_AT_ONCE", pixels)
    monkeypatch.setattr(masks_module, "paste_masks", paste)
    found = paste_binary_masks(grids.as_subclass(AsOnGpu), boxes, (25, 36), 0.4)
    assert torch.equal(found.as_subclass(torch.Tensor), wanted)
    assert steps == {1: [1] * 5, 900: [1] * 5, 1800: [2, 2, 1], 1 << 20: [5]}[pixels]
    nothing = paste_binary_masks(grids[:0].as_subclass(AsOnGpu), boxes[:0], (25, 36))
    assert nothing.shape == (0, 25, 36) and nothing.dtype == torch.bool


@pytest.mark.parametrize(
    ("box", "edge", "resolution", "cells"),
    [
        # Cells of half a pixel: the edge lies between two of them.
        ((10.0, 10.0, 20.0, 20.0), 15, 20, 10),
        ((10.0, 10.0, 20.0, 20.0), 12, 20, 4),
        ((10.5, 10.5, 20.5, 20.5), 15, 20, 9),
        # Cells of two pixels, of which the edge halves one: half is enough.
        ((10.0, 10.0, 20.0, 20.0), 15, 5, 3),
        ((10.0, 10.0, 20.0, 20.0), 14, 5, 2),
        # Nothing and everything.
        ((10.0, 10.0, 20.0, 20.0), 8, 5, 0),
        ((10.0, 10.0, 20.0, 20.0), 22, 5, 5),
    ],
)
def test_a_mask_is_cut_where_its_edge_is(box, edge, resolution, cells):
    """A mask of all pixels left of an edge, and one of all above it."""
    masks = torch.zeros(2, 30, 32, dtype=torch.bool)
    masks[0, :, :edge] = masks[1, :edge] = True
    cut = crop_masks(masks, torch.tensor([box, box]), resolution)
    assert cut.dtype == torch.float32
    row = [1.0] * cells + [0.0] * (resolution - cells)
    assert cut[0].tolist() == [row] * resolution
    assert cut[1].T.tolist() == [row] * resolution


def test_each_mask_is_cut_to_its_own_box():
    masks = filled_boxes(torch.tensor([[0.0, 0.0, 6.0, 6.0], [6.0, 2.0, 12.0, 8.0]]), (10, 14))
    boxes = torch.tensor([[2.0, 2.0, 10.0, 10.0], [4.0, 0.0, 12.0, 8.0]])
    cut = crop_masks(masks, boxes, 4)
    assert cut[0].tolist() == [[1, 1, 0, 0]] * 2 + [[0] * 4] * 2
    assert cut[1].tolist() == [[0] * 4] + [[0, 1, 1, 1]] * 3


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


def test_a_pixel_lies_in_the_box_that_holds_its_centre():
    masks = filled_boxes(torch.tensor([[1.5, 0.6, 3.5, 2.4], [-4.0, 1.51, 9.0, 9.0]]), (4, 5))
    assert masks[0].nonzero().tolist() == [[1, 1], [1, 2]]
    assert masks[1].sum(1).tolist() == [0, 0, 5, 5]
    on_centres = filled_boxes(torch.tensor([[0.5, 1.5, 2.5, 3.5]]), (5, 5))  # half-open
    assert on_centres[0].nonzero().tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]


def test_the_tight_box_holds_all_parts_of_a_mask():
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 1, 6] = masks[0, 4, 2] = True
    masks[1, 5, 7] = True
    boxes = boxes_of_masks(masks)
    assert boxes.dtype == torch.float32
    assert boxes.tolist() == [[2, 1, 7, 5], [7, 5, 8, 6], [0, 0, 0, 0]]


@given(masks=arrays(bool, (2, 5, 7), elements=st.sampled_from([False, False, True])))
def test_no_smaller_box_holds_the_mask(masks):
    for mask, box in zip(masks, boxes_of_masks(torch.from_numpy(masks)).tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        wanted = [0, 0, 0, 0]
        if len(rows):
            wanted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box == wanted


def test_overlap_counts_pixels():
    a, b = filled_boxes(torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6]]), (8, 8))
    assert overlap(a, b) == (4, 28)
    with pytest.raises(ValueError, match=r"\(8, 8\) and \(4, 8\)"):
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
    for threshold in (0.0, -0.5):
        with pytest.raises(ValueError, match=f"above 0, got {threshold}"):
            paste_binary_masks(torch.ones(1, 2, 2), torch.zeros(1, 4), (4, 4), threshold)


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("kind", ["noise", "block", "none", "all", "long"])
def test_run_lengths_are_read_as_pycocotools_wrote_them(kind, as_text):
    mask = np.zeros((37, 211) if kind != "long" else (900, 1300), np.uint8)
    if kind == "noise":
        mask = np.random.default_rng(0).integers(0, 2, mask.shape, np.uint8)
    mask[5:20, 30:90] |= kind in ("block", "long")
    mask |= np.uint8(kind == "all")
    code = rle.encode(np.asfortranarray(mask))
    code["counts"] = code["counts"].decode() if as_text else code["counts"]
    found = decode_run_lengths(code, "a mask")
    assert found.dtype == bool and np.array_equal(found, mask > 0)


def test_run_lengths_by_hand():
    runs = {"size": [2, 3], "counts": [1, 2, 3]}  # column by column
    assert decode_run_lengths(runs, "a mask").tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("crop", "top", "left", "runs"),
    [
        ([[1]], 1, 1, [4, 1, 4]),
        ([[1, 1]], 1, 0, [1, 1, 2, 1, 4]),
        ([[1], [1]], 1, 1, [4, 2, 3]),
        ([[1, 1], [1, 1], [1, 1]], 0, 0, [0, 6, 3]),  # whole columns are one run
        ([[0, 1], [0, 0], [1, 0]], 0, 1, [5, 2, 2]),  # over the edge of a column
        ([[1]], 2, 2, [8, 1]),
        ([[0]], 1, 1, [9]),
    ],
)
def test_runs_of_a_crop_by_hand(crop, top, left, runs):
    """Frames of 3 x 3."""
    assert runs_of(np.array(crop, bool), top, left, (3, 3)).tolist() == runs


@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))), st.data())
def test_runs_of_a_crop_are_those_of_the_frame(crop, data):
    top, below, left, beside = (data.draw(st.integers(0, 3)) for _ in range(4))
    whole = np.pad(crop, ((top, below), (left, beside)))
    runs = runs_of(crop, top, left, whole.shape).tolist()
    code = rle.frPyObjects({"size": list(whole.shape), "counts": runs}, *whole.shape)
    assert code["counts"] == rle.encode(np.asfortranarray(whole.astype(np.uint8)))["counts"]


def test_crops_are_the_masks_where_they_are_not_empty():
    generator = torch.Generator().manual_seed(0)
    grids = torch.rand(5, 6, 6, generator=generator)
    corner = torch.rand(5, 2, generator=generator) * 40 - 10
    boxes = torch.cat([corner, corner + torch.rand(5, 2, generator=generator) * 30], 1)
    masks = paste_binary_masks(grids, boxes, (30, 40))
    for mask, crop in zip(masks, paste_crops(grids, boxes, (30, 40)), strict=True):
        height, width = crop.mask.shape
        inside = mask[crop.top : crop.top + height, crop.left : crop.left + width]
        assert (inside.numpy() == crop.mask).all() and int(mask.sum()) == crop.mask.sum()
    assert not list(paste_crops(grids[:0], boxes[:0], (30, 40)))
