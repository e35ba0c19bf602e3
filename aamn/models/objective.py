"""AAMN's joint objective (10): sentences are matched with tubes, and actors are masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aamn.config.schema import AAMNConfig
from aamn.models.assignment import Assignment, assign, mask_targets
from aamn.models.encoded import EncodedClips
from aamn.models.losses import (
    matching_loss,
    sample_mismatches,
    segmentation_loss,
    softmax_loss,
)
from aamn.structures import Sample

MaskLogits = Callable[[Tensor, Tensor], Tensor]  # frames (N,), boxes (N, 4) -> (N, g, g)


class JointObjective:
    """The losses of a batch whose key frames, at index `key` of each clip, are annotated."""

    def __init__(self, config: AAMNConfig, key: int) -> None:
        self.config, self.key = config, key

    def __call__(
        self,
        samples: Sequence[Sample],
        clips: EncodedClips,
        scores: Tensor,
        mask_logits: MaskLogits,
    ) -> dict[str, Tensor]:
        """Named losses; scores (Q + S, B, K) of all the samples' sentences and their strangers."""
        found = assign(
            samples, clips.tubes.boxes[:, :, self.key], clips.tubes.valid, self.config.match_iou
        )
        losses = {
            "matching": self.matching(scores, clips.tubes.valid, found),
            "mask": self.mask(samples, clips, found, mask_logits),
        }
        losses["total"] = losses["matching"] + self.config.mask_loss_weight * losses["mask"]
        losses["count/sentences"] = scores.new_tensor(float(len(found.held)))
        losses["count/unmatched"] = (~found.held).sum().float()
        return losses

    def matching(self, scores: Tensor, valid: Tensor, found: Assignment) -> Tensor:
        """(12) over the sentences whose actor a proposal holds; valid (B, K)."""
        if not found.held.any():
            return scores.sum() * 0
        held = found.of_held()
        if self.config.objective.loss == "softmax":
            least, across = self.config.match_iou, self.config.objective.across
            return softmax_loss(scores[: len(found.held)][found.held], valid, held, least, across)
        strangers = scores[len(found.held) :]
        compared = torch.cat([scores[: len(found.held)][found.held], strangers])
        nowhere = held.video.new_full((len(strangers),), -1)
        mismatches = sample_mismatches(
            torch.cat([held.video, nowhere]),
            torch.cat([held.actor, nowhere]),
            self.config.proposals - 1,
        ).of_first(len(held.clip))
        return matching_loss(compared, valid, held.clip, held.tube, mismatches, self.config.margin)

    def mask(
        self,
        samples: Sequence[Sample],
        clips: EncodedClips,
        found: Assignment,
        mask_logits: MaskLogits,
    ) -> Tensor:
        """(11) on the key frame, once for each actor of each clip."""
        chosen = found.one_of_each_actor()
        clip, tube = found.clip[chosen], found.tube[chosen]
        boxes = clips.tubes.boxes[clip, tube, self.key]
        logits = mask_logits(clip * clips.tubes.boxes.shape[2] + self.key, boxes)
        if not len(chosen):
            return logits.sum() * 0
        targets = mask_targets(samples, chosen, boxes, logits.shape[-1])
        return segmentation_loss(logits, targets)
