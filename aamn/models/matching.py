"""The score of a tube for a sentence (6), (9): linear in an element-wise product.

Because the last layer is linear, s = <v^, w * q^> + b. Everything about the tube is v^, everything
about the sentence is w * q^, so either can be computed once and kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Context:
    """What surrounds each tube: vectors (B, K, C_c), how much each of the contextual LSTM's inputs
    contributes to them, attention (B, K, S), and which tube each input is, members (B, K, S), -1
    for the whole clip."""

    vectors: Tensor
    attention: Tensor
    members: Tensor


@dataclass(frozen=True)
class TubeSide:
    """What one module says of the tubes: v^, its side of the score, vectors (B, K, D), and the
    context in it, None for a module that looks at none."""

    vectors: Tensor
    context: Context | None = None


class Matching(nn.Module):
    """Two FC layers to one width, both normalised, multiplied, and an FC layer to a score."""

    def __init__(self, visual: int, textual: int, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.visual = nn.Linear(visual, width)
        self.textual = nn.Linear(textual, width)
        self.score = nn.Linear(width, 1)
        # The score starts as the cosine times `scale`, 1 for (12)'s margin; the paper does not say.
        nn.init.constant_(self.score.weight, scale)
        nn.init.zeros_(self.score.bias)

    def tubes(self, features: Tensor) -> Tensor:
        """v^ (..., D): the tube's normalised side, from features (..., visual)."""
        return F.normalize(self.visual(features).float(), dim=-1)

    def queries(self, vectors: Tensor) -> Tensor:
        """w * q^ (..., D): the sentence's side with the last layer's weights folded in."""
        return F.normalize(self.textual(vectors).float(), dim=-1) * self.score.weight[0].float()

    @property
    def bias(self) -> Tensor:
        """b, the same for all tubes and sentences."""
        return self.score.bias[0].float()

    def forward(self, features: Tensor, vectors: Tensor) -> Tensor:
        """Scores (...) as the paper writes them: features (..., visual), vectors (..., textual)."""
        visual = F.normalize(self.visual(features), dim=-1)
        textual = F.normalize(self.textual(vectors), dim=-1)
        return self.score(visual * textual)[..., 0]
