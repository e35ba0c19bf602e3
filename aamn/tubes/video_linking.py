"""Video-level tubes: one path through the tubes of consecutive clips, and whether there is one.

Pure functions of scores and link scores; which clips and sentences they are of is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aamn.ops.boxes import pairwise_iou

# Of what a link costs beside the matching scores of two full clips. Chosen on the demo's training
# videos and on 60 more of another seed, where 0.3 to 0.8 give nearly the same (docs/indexes.md).
TRANSITION_COST = 0.5
# Of coming or leaving between two clips beside the clips' log odds of somebody being meant.
LEAVING_COST = 4.0
SAME_ACTOR = 0.5  # IoU: two tubes that overlap by more show one actor


@dataclass(frozen=True)
class VideoPaths:
    """One path a sentence: tubes (Q, C) int64, -1 in a clip without any tube, and scores (Q,), the
    weighted mean of the matching scores on the path, -inf where no clip has a tube."""

    tubes: Tensor
    scores: Tensor


def best_paths(
    scores: Tensor,
    links: Tensor,
    weights: Tensor,
    transition_cost: float = TRANSITION_COST,
    valid: Tensor | None = None,
) -> VideoPaths:
    """The paths with the greatest sum of weighted matching scores, less what their links cost.

    The paper segments every clip on its own; here one identity holds through the video, because a
    sentence means one actor.

    Args:
        scores: (Q, C, K) of every sentence for every clip's tubes, -inf for an invalid tube.
        links: (C, K, K) scores (1) from each tube of the clip before (rows) to each tube of the
            clip (columns); the first clip's are not read.
        weights: (C,) how much a clip counts, such as its share of new frames.
        transition_cost: factor on `link_costs`.
        valid: (C, K) which tubes there are; None: those with a score for some sentence.
    """
    c, k = scores.shape[1:]
    gap = torch.isinf(scores).all(-1)  # a clip without tubes is passed through state K
    state = torch.where(gap, 0.0, -torch.inf).to(scores.dtype)
    gains = torch.cat([scores * weights[:, None], state[..., None]], -1)  # (Q, C, K + 1)
    moves = scores.new_zeros(c, k + 1, k + 1)
    costs = link_costs(links, torch.isfinite(scores).any(0) if valid is None else valid)
    moves[:, :k, :k] = costs.to(scores.dtype) * -transition_cost
    tubes = torch.from_numpy(_best_states(gains.numpy(), moves.numpy()))
    tubes = tubes.masked_fill(tubes == k, -1)
    return VideoPaths(tubes, path_scores(scores, tubes, weights))


def without_absence(
    paths: VideoPaths,
    scores: Tensor,
    weights: Tensor,
    slope: float,
    intercept: float,
    leaving_cost: float = LEAVING_COST,
) -> VideoPaths:
    """The paths without their clips in which whoever is meant is not there, before coming and
    after leaving: those whose log odds are against it by more than it costs to come or to leave.
    The paths' scores stay.

    Args:
        scores: (Q, C, K), as in `best_paths`; weights: (C,).
        slope, intercept: the log odds of a match are slope * score + intercept.
    """
    chosen = scores.gather(-1, paths.tubes.clamp(min=0)[..., None])[..., 0]
    odds = ((slope * chosen + intercept) * weights).masked_fill(paths.tubes < 0, 0.0)
    gains = torch.stack([odds, torch.zeros_like(odds)], -1).double().numpy()
    moves = np.broadcast_to(-leaving_cost * (1 - np.eye(2)), (gains.shape[1], 2, 2))
    gone = torch.from_numpy(_best_states(gains, moves)) == 1
    gone &= ~gone.all(-1, keepdim=True)  # whether there is a match at all is the score's to say
    return VideoPaths(paths.tubes.masked_fill(gone, -1), paths.scores)


def _best_states(gains: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """The states (Q, C) of greatest gain (Q, C, S) and moves (C, S, S) together, from clip to clip;
    in NumPy, whose calls on so few numbers cost a fraction of torch's."""
    q, c, _ = gains.shape
    before = np.zeros(gains.shape, np.int64)
    best = gains[:, 0]
    for clip in range(1, c):
        reached = best[:, :, None] + moves[clip]
        before[:, clip] = reached.argmax(1)
        best = reached.max(1) + gains[:, clip]
    states, place = np.empty((q, c), np.int64), best.argmax(-1)
    for clip in range(c - 1, -1, -1):
        states[:, clip] = place
        place = before[np.arange(q), clip, place]
    return states


def link_costs(links: Tensor, valid: Tensor) -> Tensor:
    """How far each link (C, K, K) lies below the best ones of the tube before and of the tube after
    it, on average: at least 0 between valid tubes (C, K), 0 elsewhere.

    The scores (1) themselves would favour whoever is easily followed, such as an actor at rest,
    over whom the sentence means; here every actor's own continuation is free.
    """
    linked = torch.zeros_like(links, dtype=torch.bool)
    linked[1:] = valid[:-1, :, None] & valid[1:, None, :]
    known = links.masked_fill(~linked, -torch.inf)
    best = (known.amax(2, keepdim=True) + known.amax(1, keepdim=True)) / 2
    return torch.where(linked, best - links, 0.0)


def clip_winners(scores: Tensor, weights: Tensor) -> VideoPaths:
    """Each clip's own best tube, as in the paper: scores (Q, C, K), weights (C,)."""
    best, tubes = scores.max(-1)
    tubes = tubes.masked_fill(torch.isinf(best), -1)
    return VideoPaths(tubes, path_scores(scores, tubes, weights))


def distinct_paths(
    scores: Tensor, boxes: Tensor, find: Callable[[Tensor], VideoPaths], top: int
) -> list[VideoPaths]:
    """Up to `top` paths a sentence of different actors: each is the best one without the tubes
    that show an actor of a path before it, which are those whose boxes overlap with that path's in
    their clip by an IoU above `SAME_ACTOR` on the mean of the frames.

    Args:
        scores: (Q, C, K), -inf for an invalid tube.
        boxes: (C, T, K, 4) of all tubes.
        find: the best path for scores (Q, C, K).
    """
    same = pairwise_iou(boxes, boxes).mean(1) > SAME_ACTOR  # (C, K, K)
    clips = torch.arange(len(same))
    found = [find(scores)]
    while len(found) < top and torch.isfinite(found[-1].scores).any():
        tubes = found[-1].tubes  # (Q, C)
        taken = same[clips, tubes.clamp(min=0)] & (tubes >= 0)[..., None]  # (Q, C, K)
        scores = scores.masked_fill(taken, -torch.inf)
        found.append(find(scores))
    return found


def path_scores(scores: Tensor, tubes: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean (Q,) of scores (Q, C, K) on the paths (Q, C), clips without tube aside:
    the evidence that the sentence means somebody in the video."""
    chosen = scores.gather(-1, tubes.clamp(min=0)[..., None])[..., 0]
    weight = weights * (tubes >= 0)
    total = (chosen.masked_fill(tubes < 0, 0.0) * weight).sum(-1)
    mean = total / weight.sum(-1).clamp(min=1e-9)
    return mean.masked_fill(~(tubes >= 0).any(-1), -torch.inf)


@dataclass(frozen=True)
class Shares:
    """What a threshold does: the share of present sentences at or above it, which are kept, and of
    absent ones below it, which are refused."""

    kept: float
    refused: float


def shares_at(threshold: float, present: Sequence[float], absent: Sequence[float]) -> Shares:
    """The shares at a threshold, of path scores of at least one sentence each."""
    yes, no = (torch.tensor(scores, dtype=torch.float64) for scores in (present, absent))
    return Shares(
        float((yes >= threshold).double().mean()), float((no < threshold).double().mean())
    )


@dataclass(frozen=True)
class Calibration:
    """A threshold for "not present", and the mean of the shares of present sentences at or above
    it and of absent ones below it."""

    threshold: float
    balanced_accuracy: float


def calibrate_absence(present: Sequence[float], absent: Sequence[float]) -> Calibration:
    """The threshold on path scores with the best balanced accuracy: the middle between the scores
    it separates.

    Args:
        present: scores of sentences that mean somebody in their video.
        absent: scores of sentences that mean nobody there.

    Raises:
        ValueError: one of them is empty.
    """
    if not present or not absent:
        raise ValueError("wanted scores of both present and absent sentences")
    yes, no = (torch.tensor(sorted(s), dtype=torch.float64) for s in (present, absent))
    values = torch.cat([yes, no]).unique()
    values = values[values.isfinite()]
    if not len(values):
        return Calibration(0.0, 0.5)
    cuts = torch.cat([values[:1] - 1e-6, (values[1:] + values[:-1]) / 2, values[-1:] + 1e-6])
    kept = (yes[None] >= cuts[:, None]).double().mean(1)
    refused = (no[None] < cuts[:, None]).double().mean(1)
    accuracy = (kept + refused) / 2
    best = int(accuracy.argmax())
    return Calibration(float(cuts[best]), float(accuracy[best]))
