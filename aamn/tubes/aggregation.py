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


def reading_ranks(boxes: Tensor, valid: Tensor) -> Tensor:
    """The places (B, K) of key-frame boxes (B, K, 4) from top to bottom, then from left to right,
    by their top-left corners; of equal ones the first comes first, and invalid ones come last. The
    paper says no more than "from top to down and left to right"."""
    far = torch.finfo(boxes.dtype).max
    x, y = (boxes[..., side].masked_fill(~valid, far) for side in range(2))
    number = torch.arange(boxes.shape[1], device=boxes.device).expand_as(x)
    before = number[:, None] < number[:, :, None]  # of box j: whether it comes before box i
    for values in (x, y):
        own, other = values[:, :, None], values[:, None]
        before = (other < own) | ((other == own) & before)
    return before.sum(-1)


def reading_order(boxes: Tensor, valid: Tensor) -> Tensor:
    """The indices (B, K) that sort boxes by their `reading_ranks`."""
    return reading_ranks(boxes, valid).argsort(dim=-1)


def context_order(boxes: Tensor, valid: Tensor) -> Tensor:
    """For each tube the other tubes in reading order: (B, K, K - 1) indices."""
    rank = reading_ranks(boxes, valid)  # (B, K)
    order, k = rank.argsort(dim=-1), rank.shape[-1]
    steps = torch.arange(k - 1, device=boxes.device)
    skip = steps + (steps >= rank[..., None]).long()  # (B, K, K - 1): jumps over the tube itself
    return order[:, None, :].expand(-1, k, -1).gather(-1, skip)
