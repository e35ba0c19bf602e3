"""Arithmetic of masks: pasting a box's grid into a frame, cutting a frame's mask to a box, masks
from run lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align

from proposals.errors import InputError
from proposals.limits import check_pixels

PIXELS_AT_ONCE = 1 << 25  # bounds the memory of one step of `paste_masks`


def _tent(start: Tensor, stop: Tensor, cells: int, first: Tensor, pixels: int) -> Tensor:
    """Weights (N, pixels, cells) of linear interpolation along one axis: the value of the centres
    of the pixels first (N,), first + 1, ... between the centres of `cells` equal cells of [start,
    stop], zero beyond them."""
    centres = first[:, None] + (torch.arange(pixels, device=start.device, dtype=start.dtype) + 0.5)
    size = (stop - start).clamp(min=1e-6)[:, None]
    indices = (centres - start[:, None]) / size * cells - 0.5
    grid = torch.arange(cells, device=start.device, dtype=start.dtype)
    return (indices[..., None] - grid).abs_().neg_().add_(1).clamp_(min=0)


def paste_masks(grids: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks of whole frames, as Mask R-CNN pastes them: bilinear inside the box, zero outside.

    Bilinear interpolation is separable, so a whole batch is two matrix products.

    Args:
        grids: (N, g, g) float probabilities over each box.
        boxes: (N, 4) in pixels of the frame.
        size: (H0, W0) of the frame.

    Returns:
        (N, H0, W0) float probabilities.
    """
    first = boxes.new_zeros(len(boxes))
    rows = _tent(boxes[:, 1], boxes[:, 3], grids.shape[1], first, size[0])  # (N, H0, g)
    columns = _tent(boxes[:, 0], boxes[:, 2], grids.shape[2], first, size[1])  # (N, W0, g)
    return torch.bmm(torch.bmm(rows, grids), columns.transpose(1, 2))


def paste_binary_masks(
    grids: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """`paste_masks` cut at `threshold`, which must be above 0: (N, H0, W0) bool.

    On a GPU all masks are computed at once, in steps of bounded memory; on a CPU one by one and
    only where the box is, which is several times faster.
    """
    if threshold <= 0:
        raise ValueError(f"threshold: wanted a number above 0, got {threshold}")
    if not grids.is_cuda:
        return _paste_inside_boxes(grids, boxes, size, threshold)
    step = max(1, PIXELS_AT_ONCE // (size[0] * size[1]))
    parts = [
        paste_masks(grids[i : i + step], boxes[i : i + step], size) >= threshold
        for i in range(0, len(grids), step)
    ]
    return torch.cat(parts) if parts else grids.new_zeros((0, *size), dtype=torch.bool)


def _paste_inside_boxes(
    grids: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float
) -> Tensor:
    masks = np.zeros((len(grids), *size), bool)
    for mask, crop in zip(masks, paste_crops(grids, boxes, size, threshold), strict=True):
        height, width = crop.mask.shape
        mask[crop.top : crop.top + height, crop.left : crop.left + width] = crop.mask
    return torch.from_numpy(masks)


@dataclass(frozen=True)
class MaskCrop:
    """The part (h, w) bool of a frame's mask from row `top` and column `left` on; all else is
    False."""

    top: int
    left: int
    mask: np.ndarray


def paste_crops(
    grids: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5
) -> Iterator[MaskCrop]:
    """The masks of `paste_binary_masks`, one by one and only where their boxes are; frames of any
    size cost what their boxes cost. Of the tents that `paste_masks` adds up, two reach a pixel:
    it is interpolated between these, along the columns' axis first.
    """
    if not len(grids):
        return
    values = np.pad(grids.detach().float().numpy(), ((0, 0), (1, 1), (1, 1))).transpose(0, 2, 1)
    values = np.ascontiguousarray(values)  # (N, columns, rows), with zeros around
    steps, corners = np.diff(values, axis=1), boxes.detach().float().numpy()
    cells = np.array([grids.shape[2], grids.shape[1]], np.float32)
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 1e-6)
    reach = sides / (2 * cells) + 1  # a cell's tail
    ends = np.array([size[1], size[0]], np.float32)
    first = np.floor(corners[:, :2] - reach).clip(0, ends)
    last = np.ceil(corners[:, 2:] + reach).clip(first, ends)
    columns, rows = (
        _between_cells(corners[:, axis], sides[:, axis], cells[axis], first[:, axis], most)
        for axis, most in enumerate((last - first).max(0).astype(int).tolist())
    )
    spans = np.concatenate([first, last], 1).astype(int).tolist()
    for n, (x1, y1, x2, y2) in enumerate(spans):
        across = _interpolated(values[n], steps[n], columns, n, x2 - x1)
        across = np.ascontiguousarray(across.T)
        inside = _interpolated(across, np.diff(across, axis=0), rows, n, y2 - y1)
        yield MaskCrop(y1, x1, inside >= threshold)


def _between_cells(
    start: np.ndarray, side: np.ndarray, cells: np.ndarray, first: np.ndarray, pixels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of the pixels first (N,), first + 1, ... the cell (N, pixels) before each centre, counted
    with a cell of zeros at either end, and how far it lies on the way to the next, 0 to 1."""
    centres = first[:, None] + (np.arange(pixels, dtype=np.float32) + 0.5)
    places = (centres - start[:, None]) / side[:, None] * cells + 0.5
    places = places.clip(0, cells + 1)
    before = np.minimum(places.astype(np.int64), int(cells))
    return before, (places - before).astype(np.float32)


def _interpolated(
    values: np.ndarray,
    steps: np.ndarray,
    places: tuple[np.ndarray, np.ndarray],
    n: int,
    pixels: int,
) -> np.ndarray:
    """(pixels, C) between the rows of `values` (cells, C), whose differences are `steps`."""
    before, share = places[0][n, :pixels], places[1][n, :pixels, None]
    found = steps.take(before, 0)
    found *= share
    found += values.take(before, 0)
    return found


def runs_of(crop: np.ndarray, top: int, left: int, size: tuple[int, int]) -> np.ndarray:
    """COCO's runs (n,) int64 of a mask (H0, W0) that is False but for the part `crop` (h, w) from
    row `top` and column `left` on: lengths of False, True, False, ... down the columns."""
    padded = np.zeros((crop.shape[1], crop.shape[0] + 2), np.int8)
    padded[:, 1:-1] = crop.T
    columns, rows = np.nonzero(np.diff(padded, axis=1))  # where runs of True begin and end, in turn
    ends = (left + columns) * size[0] + top + rows
    joined = np.flatnonzero(ends[1:-1:2] == ends[2::2]) * 2 + 1  # over the edge of a column
    ends = np.delete(ends, np.concatenate([joined, joined + 1]))
    pixels = size[0] * size[1]
    runs = np.diff(ends, prepend=0, append=pixels)
    return runs[:-1] if len(ends) and ends[-1] == pixels else runs


def crop_masks(masks: Tensor, boxes: Tensor, resolution: int) -> Tensor:
    """What a perfect mask head would answer: masks (N, H0, W0) cut to boxes (N, 4) and averaged to
    (N, resolution, resolution), then binarised at one half; float32."""
    rois = torch.cat([torch.arange(len(boxes), device=boxes.device)[:, None], boxes], 1)
    cut = roi_align(
        masks[:, None].to(boxes.dtype), rois.to(boxes.dtype), resolution, 1.0, aligned=True
    )
    return (cut[:, 0] >= 0.5).float()


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Tight boxes (N, 4) float32 of masks (N, H0, W0) bool, right and bottom edge exclusive; zeros
    for an empty mask."""
    rows, columns = masks.any(2), masks.any(1)

    def span(hits: Tensor) -> tuple[Tensor, Tensor]:
        indices = torch.arange(hits.shape[1], device=hits.device)
        first = torch.where(hits, indices, hits.shape[1]).amin(1)
        last = torch.where(hits, indices, -1).amax(1)
        return first, last + 1

    (y1, y2), (x1, x2) = span(rows), span(columns)
    boxes = torch.stack([x1, y1, x2, y2], 1).float()
    return torch.where(masks.flatten(1).any(1)[:, None], boxes, torch.zeros_like(boxes))


def filled_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (N, H0, W0) bool of the pixels whose centres lie inside boxes (N, 4)."""
    y = torch.arange(size[0], device=boxes.device) + 0.5
    x = torch.arange(size[1], device=boxes.device) + 0.5
    rows = (y >= boxes[:, 1, None]) & (y < boxes[:, 3, None])
    columns = (x >= boxes[:, 0, None]) & (x < boxes[:, 2, None])
    return rows[:, :, None] & columns[:, None, :]


def overlap(a: Tensor, b: Tensor) -> tuple[int, int]:
    """Pixels in both and in either of two masks of one shape."""
    if a.shape != b.shape:
        raise ValueError(f"masks of different shapes: {tuple(a.shape)} and {tuple(b.shape)}")
    return int((a & b).sum()), int((a | b).sum())


def decode_run_lengths(code: Any, what: str) -> np.ndarray:
    """A mask (H0, W0) bool of COCO's run lengths, {"size": [H0, W0], "counts": numbers or text};
    `what` begins the error's line. Nothing is decoded whose runs do not fill the mask.

    Raises:
        InputError: it is none, too large, or its runs are not those of its size.
    """
    try:
        height, width = (int(value) for value in code["size"])
        counts = code["counts"]
        runs = _unpacked(counts) if isinstance(counts, str | bytes) else np.array(counts, np.int64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{what}: a segmentation is no COCO RLE ({error})") from None
    check_pixels((height, width), f"{what}: a segmentation")
    pixels = height * width
    if runs.ndim != 1 or ((runs < 0) | (runs > pixels)).any() or runs.sum() != pixels:
        raise InputError(f"{what}: a segmentation's runs are not of {width}x{height} pixels")
    return np.repeat(np.arange(len(runs)) % 2 > 0, runs).reshape(width, height).T


def _unpacked(text: str | bytes) -> np.ndarray:
    """The runs of COCO's text, (n,) int64: five bits a character, the lowest first; from the fourth
    run on, what it is longer than the run two before it."""
    raw = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8) - 48
    if not len(raw) or (raw > 63).any() or raw[-1] & 32:
        raise ValueError("its text is of other characters")
    ends = np.flatnonzero(raw & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 6:
        raise ValueError("a run of more than 2**34 pixels")
    shifts = 5 * (np.arange(len(raw)) - np.repeat(starts, ends - starts + 1))
    runs = np.add.reduceat((raw & 31).astype(np.int64) << shifts, starts)
    runs -= np.where(raw[ends] & 16, 1 << (shifts[ends] + 5), 0)
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    return runs
