"""What passes between the parts of the network, and what they make of clips and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aamn.models.assignment import Referents
from aamn.models.matching import TubeSide
from aamn.models.visual import DescribedTubes
from aamn.structures import Geometry, Query, TubeEmbedding
from aamn.tubes.linking import LinkedTubes


@dataclass(frozen=True)
class ClipBatch:
    """B clips and their proposals as tensors on the model's device.

    images: stream name -> (B * T, C, H, W); boxes (B, T, K, 4) in original pixels; valid
    (B, T, K); sizes (B, 2) original height and width; factors (B, 4) original to network pixels;
    content (B, 4) the box that the frame covers, network pixels; confidence and labels (B, T, K),
    the detector's, where frames are described.
    """

    images: dict[str, Tensor]
    boxes: Tensor
    valid: Tensor
    sizes: Tensor
    factors: Tensor
    content: Tensor
    confidence: Tensor | None = None
    labels: Tensor | None = None

    @classmethod
    def of(
        cls,
        images: dict[str, Tensor],
        boxes: Tensor,
        valid: Tensor,
        geometries: Sequence[Geometry],
        device: torch.device,
        confidence: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> ClipBatch:
        """The batch on a device; one geometry a clip."""
        contents = [geometry.content_size for geometry in geometries]
        indices = (
            [geometry.original_size for geometry in geometries],
            [geometry.scale_xyxy for geometry in geometries],
            [(0, 0, width, height) for height, width in contents],
        )
        return cls(
            {name: value.to(device, non_blocking=True) for name, value in images.items()},
            boxes.to(device),
            valid.to(device),
            *(torch.tensor(rows, dtype=torch.float32, device=device) for rows in indices),
            *(None if part is None else part.to(device) for part in (confidence, labels)),
        )


@dataclass(frozen=True)
class FrameFeatures:
    """What the streams say of N frames, one by one; a frame's part is the same in every clip.

    maps: stream name -> its maps, each (N, C, h, w), the finest first; roi_features: stream name ->
    (N, 1 + K, C_v), the whole frame first, then its proposals.
    """

    maps: dict[str, tuple[Tensor, ...]]
    roi_features: dict[str, Tensor]

    def at(self, indices: Tensor | slice) -> FrameFeatures:
        """Those of the frames at these indices (n,)."""
        return FrameFeatures(
            {name: tuple(one[indices] for one in value) for name, value in self.maps.items()},
            {name: value[indices] for name, value in self.roi_features.items()},
        )

    def after(self, before: FrameFeatures) -> FrameFeatures:
        """Those of other frames, and these behind them."""
        return FrameFeatures(
            {
                name: tuple(torch.cat(pair) for pair in zip(before.maps[name], value, strict=True))
                for name, value in self.maps.items()
            },
            {
                n: torch.cat([before.roi_features[n], value])
                for n, value in self.roi_features.items()
            },
        )


@dataclass(frozen=True)
class TubeSample:
    """A key frame to learn matching from: its tubes, of one clip (B = 1), with the sentences about
    it, whom they mean, and sentences about other videos."""

    tubes: DescribedTubes
    queries: tuple[Query, ...]
    referents: Referents
    strangers: tuple[Query, ...] = ()


@dataclass(frozen=True)
class EncodedClips:
    """All that B clips contribute to any answer; no sentence has touched it.

    sides: module name -> the module's side of the score; maps: stream name -> its maps, each
    (B * T, C, h, w).
    """

    tubes: LinkedTubes
    sides: dict[str, TubeSide]
    maps: dict[str, tuple[Tensor, ...]]
    factors: Tensor

    def embedding(self, clip: int) -> TubeEmbedding:
        """One clip's tube embedding: all modules' sides in a row, (K, D)."""
        vectors = torch.cat([side.vectors[clip] for side in self.sides.values()], -1)
        return TubeEmbedding(vectors, self.tubes.valid[clip])


@dataclass(frozen=True)
class EncodedSentences:
    """All that Q sentences contribute; no video has touched it.

    sides: module name -> (Q, D_m); biases: module name -> (); attention: module name -> (Q, L).
    """

    sides: dict[str, Tensor]
    biases: dict[str, Tensor]
    attention: dict[str, Tensor]

    def ends(self) -> tuple[Tensor, Tensor]:
        """The word attention (Q, L) that stands for the actor's, and the action's."""
        attention = list(self.attention.values())
        return attention[0], attention[-1]


@dataclass(frozen=True)
class ModuleScores:
    """Scores of tubes, each (..., K), -inf where a tube is invalid; total = actor + action. A head
    for both counts as the actor's."""

    total: Tensor
    actor: Tensor
    action: Tensor

    @classmethod
    def of(cls, scores: dict[str, Tensor], valid: Tensor) -> ModuleScores:
        """From the scores (..., K) by module name, some absent, and the tubes' validity."""
        nothing = torch.zeros_like(next(iter(scores.values())))
        whole = next((scores[name] for name in scores if name != "action"), nothing)
        actor = scores.get("actor", whole)
        action = scores.get("action", nothing)
        masked = (part.masked_fill(~valid, -torch.inf) for part in (actor + action, actor, action))
        return cls(*masked)
