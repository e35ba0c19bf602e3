"""Temporal proposal aggregation, second half: a tube's frames become one feature (2)."""

from __future__ import annotations

import torch
from torch import Tensor


def gather_members(features: Tensor, members: Tensor) -> Tensor:
    """The tubes' own features: (B, T, K, C) at members (B, K, T) -> (B, K, T, C); where a member
    is -1 the value is meaningless and must be masked."""
    by_frame = members.clamp(min=0).transpose(1, 2)  # (B, T, K)
    index = by_frame[..., None].expand(-1, -1, -1, features.shape[-1])
    return features.gather(2, index).transpose(1, 2)


def _masked_mean(features: Tensor, mask: Tensor) -> Tensor:
    """Mean over T of (..., T, C) where mask (..., T); zero where the mask is empty."""
    weight = mask[..., None].to(features.dtype)
    return (features * weight).sum(-2) / weight.sum(-2).clamp(min=1)


def key_plus_context(features: Tensor, linked: Tensor, key: int) -> Tensor:
    """(2): the key frame's feature plus the mean of the other frames', (..., T, C) -> (..., C).

    `linked` (..., T) says which frames hold a proposal; a clip of one frame is its key frame.
    """
    others = linked.clone()
    others[..., key] = False
    return features[..., key, :] + _masked_mean(features, others)


def average(features: Tensor, linked: Tensor, key: int) -> Tensor:
    """Table VI's alternative: the plain mean of all frames, the key frame among them."""
    with_key = linked.clone()
    with_key[..., key] = True
    return _masked_mean(features, with_key)


AGGREGATIONS = {"key_plus_context": key_plus_context, "average": average}


def reading_order(boxes: Tensor, valid: Tensor) -> Tensor:
    """Places (B, K) that sort key-frame boxes (B, K, 4) top to bottom, then left to right, by their
    top-left corners; invalid ones come last. The paper says no more than "from top to down and
    left to right"."""
    far = torch.finfo(boxes.dtype).max
    x = boxes[..., 0].masked_fill(~valid, far)
    y = boxes[..., 1].masked_fill(~valid, far)
    by_x = x.argsort(dim=-1, stable=True)
    by_y = y.gather(-1, by_x).argsort(dim=-1, stable=True)
    return by_x.gather(-1, by_y)


def context_order(boxes: Tensor, valid: Tensor) -> Tensor:
    """For each tube the other tubes in reading order: (B, K, K - 1) indices."""
    order = reading_order(boxes, valid)  # (B, K)
    k = order.shape[-1]
    rank = order.argsort(dim=-1)  # rank[b, i] = place of tube i in the order
    steps = torch.arange(k - 1, device=boxes.device)
    skip = steps + (steps >= rank[..., None]).long()  # (B, K, K - 1): jumps over the tube itself
    return order[:, None, :].expand(-1, k, -1).gather(-1, skip)
