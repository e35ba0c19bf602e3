"""Which tube each training sentence means: the proposal that holds its actor in the key frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aamn.ops.boxes import pairwise_iou
from aamn.ops.masks import crop_masks
from aamn.structures import Sample


@dataclass(frozen=True)
class Referents:
    """Whom the Q sentences about a clip mean: their actors' numbers in the video, and boxes (Q, 4)
    in the key frame, original pixels."""

    video_id: str
    instances: tuple[int, ...]
    boxes: Tensor

    @classmethod
    def of(cls, sample: Sample) -> Referents:
        """Those of a sample's sentences."""
        return cls(
            sample.clip.video_id,
            tuple(target.instance for target in sample.targets),
            torch.stack([target.box for target in sample.targets]),
        )


@dataclass(frozen=True)
class Assignment:
    """For each of Q sentences of a batch, (Q,) each: `clip`, the clip it belongs to; `tube`, the
    tube whose key-frame box overlaps its actor most; `held`, whether by enough; `video` and
    `actor`, numbers that are equal where two sentences share a video, or name one actor in it;
    `overlap` (Q, K) the IoU of the clip's tubes with the actor, -1 for one that does not exist."""

    clip: Tensor
    tube: Tensor
    held: Tensor
    video: Tensor
    actor: Tensor
    overlap: Tensor

    def of_held(self) -> Assignment:
        """The sentences whose actor a proposal holds."""
        parts = (self.clip, self.tube, self.held, self.video, self.actor, self.overlap)
        return Assignment(*(part[self.held] for part in parts))

    def one_of_each_actor(self) -> Tensor:
        """Places of one held sentence for each (clip, actor): its sentences share a mask."""
        indices = torch.nonzero(self.held).flatten().tolist()
        first = {(int(self.clip[i]), int(self.actor[i])): i for i in reversed(indices)}
        return torch.tensor(sorted(first.values()), dtype=torch.long, device=self.clip.device)


def assign(
    referents: Sequence[Referents], boxes: Tensor, valid: Tensor, least_iou: float
) -> Assignment:
    """Matches each sentence's box with the key-frame boxes (B, K, 4) of its clip's tubes.

    A sentence whose best tube has an IoU below `least_iou` is not held by any.
    """
    videos = {v: i for i, v in enumerate(dict.fromkeys(one.video_id for one in referents))}
    rows = [
        (b, videos[one.video_id], instance)
        for b, one in enumerate(referents)
        for instance in one.instances
    ]
    clip, video, actor = torch.tensor(rows, device=boxes.device).T
    wanted = torch.cat([one.boxes for one in referents])
    iou = pairwise_iou(wanted[:, None].to(boxes.device), boxes[clip])[:, 0]  # (Q, K)
    iou = iou.masked_fill(~valid[clip], -1)
    best, tube = iou.max(1)
    return Assignment(clip, tube, best >= least_iou, video, actor, iou)


def mask_targets(
    samples: Sequence[Sample], indices: Tensor, boxes: Tensor, resolution: int
) -> Tensor:
    """The masks of the sentences at `indices` (n,), cut to boxes (n, 4) of the same sentences:
    (n, resolution, resolution), frames of one size together."""
    masks = [target.mask for sample in samples for target in sample.targets]
    chosen = [masks[place] for place in indices.tolist()]
    targets = boxes.new_zeros(len(chosen), resolution, resolution)
    for size in {mask.shape for mask in chosen}:
        same = [i for i, mask in enumerate(chosen) if mask.shape == size]
        stacked = torch.stack([chosen[i] for i in same]).to(boxes.device)
        targets[same] = crop_masks(stacked, boxes[same], resolution)
    return targets
