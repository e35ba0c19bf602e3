"""What response maps are trained towards, and the masks that are read from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aamn.structures import Geometry


def weighted_cross_entropy(responses: Tensor, targets: Tensor, foreground: float) -> Tensor:
    """Mean of -P Y log sigma(R) - (1 - Y) log(1 - sigma(R)): ACGA (14), (15), CSTM suppl. (1), (2).

    Args:
        responses: R (S, h, w) logits.
        targets: Y (S, h, w) in [0, 1].
        foreground: P, the weight of foreground pixels.
    """
    weight = responses.new_tensor(foreground)
    return F.binary_cross_entropy_with_logits(responses, targets, pos_weight=weight)


def network_mask(mask: Tensor, geometry: Geometry) -> Tensor:
    """A mask (H0, W0) of the original frame as (H, W) float32 of the network's input; the padding
    is background."""
    (height, width), (h, w) = geometry.network_size, geometry.content_size
    content = F.interpolate(mask[None, None].float(), (h, w), mode="nearest-exact")[0, 0]
    return F.pad(content, (0, width - w, 0, height - h))


def resize_targets(targets: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """Y (S, H, W) at another size, by "bilinear" (ACGA, Sec. 3.4) or "nearest" (CSTM suppl.,
    Sec. 2) interpolation."""
    corners = False if mode == "bilinear" else None
    return F.interpolate(targets[:, None], tuple(size), mode=mode, align_corners=corners)[:, 0]


@dataclass(frozen=True)
class ResponseLoss:
    """Weighted cross-entropy at several sizes: ACGA (16), CSTM suppl. (3).

    `weights` has one entry a response, in their order; `foreground` is P; `resize` says how the
    coarse targets are made.
    """

    weights: Mapping[str, float]
    foreground: float
    resize: str

    def __call__(self, responses: Sequence[Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Losses of responses (S, 1, h, w), coarse to fine, towards targets (S, H, W), each by its
        name and their weighted sum as "total"."""
        losses = {
            name: weighted_cross_entropy(
                response[:, 0].float(),
                resize_targets(targets, response.shape[-2:], self.resize),
                self.foreground,
            )
            for name, response in zip(self.weights, responses, strict=True)
        }
        total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
        return {"total": total, **losses}


def content_probabilities(response: Tensor, geometry: Geometry) -> Tensor:
    """sigmoid(R) of a response (H, W), where the frame lies: (h, w) of its content size."""
    h, w = geometry.content_size
    return response[:h, :w].float().sigmoid()


def half_maximum_mask(probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels above half of the map's maximum (ACGA, Sec. 3.4), the mask then resized to `size`:
    (h, w) -> (H0, W0) bool."""
    mask = (probabilities > probabilities.max() / 2).float()
    return F.interpolate(mask[None, None], size, mode="nearest-exact")[0, 0].bool()
