"""AAMN's joint objective (10): sentences are matched with tubes, and actors are masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aamn.config.schema import AAMNConfig
from aamn.models.assignment import Assignment, Referents, assign, mask_targets
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
    """The losses of a batch of clips, annotated in their key frames, at index `key` of each."""

    def __init__(self, config: AAMNConfig) -> None:
        self.config = config

    def __call__(
        self,
        samples: Sequence[Sample],
        clips: EncodedClips,
        scores: Tensor,
        mask_logits: MaskLogits,
        key: int,
    ) -> dict[str, Tensor]:
        """Named losses; scores (Q + S, B, K) of all the samples' sentences and their strangers."""
        found = self._assign(samples, clips, key)
        matching = self.matching(scores, clips.tubes.valid, found)
        mask = self.mask(samples, clips, found, mask_logits, key)
        total = matching + self.config.mask_loss_weight * mask
        return {"matching": matching, "mask": mask, "total": total} | _counts(found)

    def of_masks(
        self, samples: Sequence[Sample], clips: EncodedClips, mask_logits: MaskLogits, key: int
    ) -> dict[str, Tensor]:
        """(11) alone."""
        found = self._assign(samples, clips, key)
        mask = self.mask(samples, clips, found, mask_logits, key)
        return {"mask": mask, "total": self.config.mask_loss_weight * mask} | _counts(found)

    def of_matching(
        self, referents: Sequence[Referents], boxes: Tensor, valid: Tensor, scores: Tensor
    ) -> dict[str, Tensor]:
        """(12) alone; key-frame boxes (B, K, 4) and validity (B, K) of the clips' tubes."""
        found = assign(referents, boxes, valid, self.config.match_iou)
        matching = self.matching(scores, valid, found)
        return {"matching": matching, "total": matching} | _counts(found)

    def _assign(self, samples: Sequence[Sample], clips: EncodedClips, key: int) -> Assignment:
        referents = [Referents.of(sample) for sample in samples]
        tubes = clips.tubes
        return assign(referents, tubes.boxes[:, :, key], tubes.valid, self.config.match_iou)

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
        key: int,
    ) -> Tensor:
        """(11) on the key frame, once for each actor of each clip."""
        chosen = found.one_of_each_actor()
        clip, tube = found.clip[chosen], found.tube[chosen]
        boxes = clips.tubes.boxes[clip, tube, key]
        logits = mask_logits(clip * clips.tubes.boxes.shape[2] + key, boxes)
        if not len(chosen):
            return logits.sum() * 0
        targets = mask_targets(samples, chosen, boxes, logits.shape[-1])
        return segmentation_loss(logits, targets)


def _counts(found: Assignment) -> dict[str, Tensor]:
    """How many sentences there are, and how many of them no proposal's actor holds."""
    return {
        "count/sentences": torch.tensor(float(len(found.held)), device=found.held.device),
        "count/unmatched": (~found.held).sum().float(),
    }
