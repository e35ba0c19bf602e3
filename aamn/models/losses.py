"""The losses of AAMN (10)-(12) as pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aamn.models.assignment import Assignment


@dataclass(frozen=True)
class Mismatches:
    """For each of Q sentences M other sentences that do not name its actor: index (Q, M) and
    whether there is one (Q, M) bool."""

    index: Tensor
    valid: Tensor

    def of_first(self, count: int) -> Mismatches:
        """Those of the first sentences."""
        return Mismatches(self.index[:count], self.valid[:count])


def sample_mismatches(videos: Tensor, actors: Tensor, count: int) -> Mismatches:
    """Draws up to `count` mismatched sentences for each sentence of a batch: those about other
    actors of the same video come first, the rest of the batch after them, each group in random
    order. The paper asks for K - 1 and leaves open which.

    Args:
        videos: (Q,) int64, equal where two sentences come from one video.
        actors: (Q,) int64, equal where two sentences of one video name one actor.
        count: K - 1.
    """
    same_video = videos[:, None] == videos[None]
    other = ~(same_video & (actors[:, None] == actors[None]))
    priority = same_video.float() * 2 + torch.rand(other.shape, device=videos.device)
    priority = priority.masked_fill(~other, -1)
    best, index = priority.topk(min(count, len(videos)), dim=1)
    return Mismatches(index, best >= 0)


def matching_loss(
    scores: Tensor,
    valid: Tensor,
    clips: Tensor,
    matched: Tensor,
    mismatches: Mismatches,
    margin: float,
) -> Tensor:
    """The hinge loss (12), summed over mismatches and averaged over sentences.

    Args:
        scores: (Q + S, B, K) of every sentence for every tube of every clip; the last S are about
            none of the clips.
        valid: (B, K) bool, tubes that exist.
        clips: (Q,) the clip each sentence belongs to.
        matched: (Q,) the tube that holds its actor.
        mismatches: other sentences to compare with.
        margin: epsilon.
    """
    rows = torch.arange(len(clips), device=scores.device)
    own = scores[rows, clips]  # (Q, K)
    match = own[rows, matched]  # (Q,)
    other_tubes = valid[clips] & (torch.arange(own.shape[1], device=own.device) != matched[:, None])
    tube_terms = (margin - match[:, None] + own).clamp(min=0) * other_tubes
    other_sentences = scores[mismatches.index, clips[:, None], matched[:, None]]  # (Q, M)
    sentence_terms = (margin - match[:, None] + other_sentences).clamp(min=0) * mismatches.valid
    return (tube_terms.sum(1) + sentence_terms.sum(1)).mean()


def softmax_loss(
    scores: Tensor, valid: Tensor, held: Assignment, least_iou: float, across: float
) -> Tensor:
    """Beyond the paper: the cross-entropy of sentences over tubes and of tubes over sentences.

    Each sentence picks its actor among its clip's tubes; each matched tube picks its sentences
    among those about its clip, by the mean over them; with the factor `across`, each sentence also
    picks its actor among the tubes of all clips. A tube that overlaps the actor as much as a match
    has to counts for neither side.

    Args:
        scores: (Q, B, K) of every sentence for every tube of every clip.
        valid: (B, K) bool, tubes that exist.
        held: the sentences' tubes.
        least_iou: from which overlap on a tube is no mismatch.
        across: factor of the loss over all clips.
    """
    rows = torch.arange(len(scores), device=scores.device)
    matched = F.one_hot(held.tube, scores.shape[2]).bool()  # (Q, K)
    rivals = valid[held.clip] & (matched | (held.overlap < least_iou))
    own = scores[rows, held.clip].masked_fill(~rivals, -torch.inf)
    loss = F.cross_entropy(own, held.tube)
    loss = loss + _among_sentences(scores, held)
    if across:
        everywhere = valid.expand(len(scores), -1, -1).clone()
        everywhere[rows, held.clip] = rivals
        everything = scores.masked_fill(~everywhere, -torch.inf).flatten(1)
        wanted = held.clip * scores.shape[2] + held.tube
        loss = loss + across * F.cross_entropy(everything, wanted)
    return loss


def _among_sentences(scores: Tensor, held: Assignment) -> Tensor:
    """The cross-entropy of each sentence among those of its clip, for its own tube; the others
    about the same actor do not count."""
    columns = scores[:, held.clip, held.tube].T  # (Q, Q): tube of sentence i, sentence j
    clip = held.clip[:, None] == held.clip
    same = clip & (held.actor[:, None] == held.actor)
    one = torch.eye(len(columns), dtype=torch.bool, device=columns.device)
    columns = columns.masked_fill(~(clip & (~same | one)), -torch.inf)
    return F.cross_entropy(columns, torch.arange(len(columns), device=columns.device))


def segmentation_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy (11) of logits (N, g, g) and targets in {0, 1}."""
    return F.binary_cross_entropy_with_logits(logits.float(), targets.float())
