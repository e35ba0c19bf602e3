"""Arithmetic of boxes: (..., 4) float tensors of x1, y1, x2, y2 in one frame of reference."""

from __future__ import annotations

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4); a box with crossed corners has none."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU (..., N, M) of every box of a (..., N, 4) with every box of b (..., M, 4); the leading
    dimensions broadcast, two empty boxes have IoU 0."""
    top_left = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    bottom_right = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(-1)
    union = area(a)[..., :, None] + area(b)[..., None, :] - intersection
    return torch.where(union > 0, intersection / union.clamp(min=1e-9), torch.zeros_like(union))


def location_features(boxes: Tensor, width: Tensor, height: Tensor) -> Tensor:
    """l_k = [x1/W, y1/H, x2/W, y2/H, wh/(WH)] of AAMN, Sec. III-C1: (..., 5) from boxes (..., 4).

    `width` and `height` are those of the original frame and broadcast over the leading dimensions.
    """
    width, height = width.expand(boxes.shape[:-1]), height.expand(boxes.shape[:-1])
    scale = torch.stack([width, height, width, height], -1)
    return torch.cat([boxes / scale, (area(boxes) / (width * height))[..., None]], -1)
