"""Temporal proposal aggregation, first half: boxes of adjacent frames become tubes (1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aamn.config.schema import Linking
from aamn.ops.boxes import pairwise_iou


@dataclass(frozen=True)
class LinkedTubes:
    """K tubes of each of B clips.

    members (B, K, T) int64: the place among the frame's proposals, -1 where a frame has none;
    boxes (B, K, T, 4): a tube keeps its last box in such a frame; valid (B, K) bool;
    link_scores (B, K, T): the score (1) behind each choice, 0 at the key frame and in empty frames.
    """

    members: Tensor
    boxes: Tensor
    valid: Tensor
    link_scores: Tensor

    @property
    def linked(self) -> Tensor:
        """(B, K, T) bool: where a tube rests on a proposal of that very frame."""
        return (self.members >= 0) & self.valid[..., None]


def link_scores(
    boxes_a: Tensor, boxes_b: Tensor, features_a: Tensor, features_b: Tensor, balance: float
) -> Tensor:
    """s_link (1): IoU plus balance / (1 + Euclidean distance of the features), (..., N, M).

    Boxes (..., N, 4) and (..., M, 4), features (..., N, C) and (..., M, C).
    """
    # The matrix-product form of cdist is too coarse for near-equal features.
    distance = torch.cdist(
        features_a.float(), features_b.float(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    return pairwise_iou(boxes_a, boxes_b) + balance / (1 + distance)


def _gather(values: Tensor, indices: Tensor) -> Tensor:
    """values (B, K, C) at indices (B, K) -> (B, K, C)."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[-1]))


@torch.no_grad()
def link_tubes(
    boxes: Tensor,
    features: Tensor,
    valid: Tensor,
    key: int,
    balance: float = 1.0,
    mode: Linking = "chain",
) -> LinkedTubes:
    """One tube for each proposal of the key frame, grown outwards with the best score (1).

    The paper leaves open which frames are compared. "chain" goes from frame to frame: each next
    box is the best match of the previous one; "anchor" compares every frame with the key frame.
    Several tubes may share a box. All clips and tubes move together; only frames are stepped
    through.

    Args:
        boxes: (B, T, K, 4) proposals in original pixels.
        features: (B, T, K, C) their features v_k^n.
        valid: (B, T, K) bool, False for padding.
        key: the key frame's place, 0..T-1.
        balance: rho of (1).
    """
    b, t, k, _ = boxes.shape
    own = torch.arange(k, device=boxes.device).expand(b, k)
    members = torch.full((b, k, t), -1, dtype=torch.long, device=boxes.device)
    tube_boxes = boxes.new_zeros(b, k, t, 4)
    scores = boxes.new_zeros(b, k, t)
    members[:, :, key] = torch.where(valid[:, key], own, -1)
    tube_boxes[:, :, key] = boxes[:, key]
    for steps in (range(key + 1, t), range(key - 1, -1, -1)):
        box, feature = boxes[:, key], features[:, key]
        anchor = (box, feature)
        for n in steps:
            last = (box, feature) if mode == "chain" else anchor
            score = link_scores(last[0], boxes[:, n], last[1], features[:, n], balance)
            score = score.masked_fill(~valid[:, n, None, :], -torch.inf)
            best, place = score.max(-1)  # (B, K)
            some = torch.isfinite(best)
            box = torch.where(some[..., None], _gather(boxes[:, n], place), box)
            feature = torch.where(some[..., None], _gather(features[:, n], place), feature)
            members[:, :, n] = torch.where(some & valid[:, key], place, -1)
            tube_boxes[:, :, n] = box
            scores[:, :, n] = torch.where(some & valid[:, key], best, 0.0)
    return LinkedTubes(members, tube_boxes, valid[:, key], scores)
