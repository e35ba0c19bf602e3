"""What describers look at: crops of tubes in some frames of their clips, with their masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

SMALL = 28  # pixels a side of the crops whose colours are named


@dataclass(frozen=True)
class Crops:
    """N boxes (N, 4), network pixels, of frames (N,) of images (F, 3, H, W), with their masks
    (N, g, g) in [0, 1]."""

    images: Tensor
    frames: Tensor
    boxes: Tensor
    masks: Tensor

    def parts(self, most: int) -> Iterator[Crops]:
        """The same, so many at a time."""
        for start in range(0, len(self.frames), most):
            part = slice(start, start + most)
            yield Crops(self.images, self.frames[part], self.boxes[part], self.masks[part])

    def surroundings(self, context: float, side: int, dimmed: float) -> tuple[Tensor, Tensor]:
        """Square crops (N, 3, side, side) with some context, as they are and with all but the mask
        dimmed."""
        squares = squared(self.boxes, context)
        crops = cut(self.images, self.frames, squares, side)
        masks = moved(self.masks, self.boxes, squares, side)[:, None]
        return crops, crops * (dimmed + (1 - dimmed) * masks)


@dataclass(frozen=True)
class TubeViews:
    """K tubes of each of B clips in M frames of each: images (F, 3, H, W) in [0, 1] of all frames,
    frames (B, K, M) places in them, boxes (B, K, M, 4) in network pixels, masks (B, K, M, g, g) in
    [0, 1] over these boxes; classes (B, K, C), the mean over the tube's boxes of what the detector
    takes them for; there (B, K, M) whether a box was detected in that frame."""

    images: Tensor
    frames: Tensor
    boxes: Tensor
    masks: Tensor
    classes: Tensor
    there: Tensor

    def crops(self, side: int) -> Tensor:
        """(B * K * M, 3, side, side): the boxes alone."""
        return cut(self.images, self.frames.flatten(), self.boxes.flatten(0, 2), side)

    def grids(self, side: int) -> Tensor:
        """The masks (B * K * M, side, side) of these crops."""
        return F.interpolate(
            self.masks.flatten(0, 2)[:, None], (side, side), mode="bilinear", align_corners=False
        )[:, 0]

    def at(self, chosen: Tensor) -> Crops:
        """Those of the views, counted in a row, where chosen (B * K * M,) is true."""
        boxes, masks = (value.flatten(0, 2)[chosen] for value in (self.boxes, self.masks))
        return Crops(self.images, self.frames.flatten()[chosen], boxes, masks)

    def mean(self, values: Tensor) -> Tensor:
        """(B, K, C) of values (B * K * M, C): over the frames in which the tube is, or over all
        where it is in none."""
        shape = self.there.shape
        nowhere = ~self.there.any(-1, keepdim=True)
        weights = (self.there | nowhere).to(values.dtype)[..., None]
        return (values.unflatten(0, shape) * weights).sum(2) / weights.sum(2)


def cut(images: Tensor, frames: Tensor, boxes: Tensor, side: int) -> Tensor:
    """(N, C, side, side) of boxes (N, 4), network pixels, of frames (N,) of images (F, C, H, W)."""
    rois = torch.cat([frames[:, None].to(boxes.dtype), boxes], 1).float()
    with torch.autocast(images.device.type, enabled=False):
        return roi_align(images.float(), rois, side, 1.0, 2, aligned=True)


def squared(boxes: Tensor, context: float) -> Tensor:
    """Squares (N, 4) around boxes (N, 4), larger than the longer side by `context` each way."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True).clamp(min=2) * (0.5 + context)
    return torch.cat([centres - half, centres + half], 1)


def moved(masks: Tensor, boxes: Tensor, squares: Tensor, side: int) -> Tensor:
    """Masks (N, g, g) over boxes (N, 4) as they lie in squares (N, 4): (N, side, side), 0 outside
    the boxes."""
    steps = (torch.arange(side, device=boxes.device) + 0.5) / side
    corner, extent = squares[:, :2], squares[:, 2:] - squares[:, :2]
    points = corner[:, None] + steps[:, None] * extent[:, None]  # (N, side, 2)
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    own = 2 * (points - boxes[:, None, :2]) / sides[:, None] - 1
    x, y = own[..., 0], own[..., 1]
    grid = torch.stack([x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], -1)
    return F.grid_sample(masks[:, None].float(), grid, align_corners=False)[:, 0]
