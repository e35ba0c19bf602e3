"""ACGA's asymmetric cross-guided attention (3)-(9), and what stands in for each half without it."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn


class WordAttention(nn.Module):
    """Vision-guided language attention (3), (4): every cell weighs the words by itself.

    Padding words take part, as in the paper (its Figure 1 shows their weights).
    """

    def __init__(self, vision: int, text: int) -> None:
        super().__init__()
        self.align = nn.Linear(vision, text)

    def forward(self, vision: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """V = [F_V, C] (S, D_V, h, w) and F_T (S, D_T, L) -> F_TA (S, D_T, h, w) and the words'
        weights (S, L, h, w)."""
        h, w = vision.shape[-2:]
        cells = self.align(vision.flatten(2).transpose(1, 2))  # (S, hw, D_T)
        weights = (cells @ text / sqrt(text.shape[1])).softmax(-1)  # (S, hw, L)
        attended = weights @ text.transpose(1, 2)  # (S, hw, D_T)
        return (
            attended.transpose(1, 2).unflatten(2, (h, w)),
            weights.transpose(1, 2).unflatten(2, (h, w)),
        )


class MeanWords(nn.Module):
    """The mean of the words in every cell, in the shapes of `WordAttention`."""

    def __init__(self, vision: int, text: int) -> None:
        super().__init__()

    def forward(self, vision: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        h, w = vision.shape[-2:]
        weights = text.new_full((len(text), text.shape[2], h, w), 1 / text.shape[2])
        return text.mean(2)[:, :, None, None].expand(-1, -1, h, w), weights


class CellAttention(nn.Module):
    """Language-guided vision attention (5)-(8): self-attention of the cells, its queries and keys
    gated by the sentence.

    `out_channels` of the result's first channels are handed on: all of V's in the paper, without
    the coordinates' 8 in the authors' released model.
    """

    def __init__(self, vision: int, text: int, out_channels: int) -> None:
        super().__init__()
        self.gate = nn.Linear(text, vision)
        self.query = nn.Linear(vision, vision)
        self.key = nn.Linear(vision, vision)
        self.value = nn.Linear(vision, vision)
        self.out_channels = out_channels

    def forward(self, vision: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """V = [F_V, C] (S, D_V, h, w) and F_T (S, D_T, L) -> F_VA (S, out_channels, h, w) and the
        weights (S, hw, hw): row i says where cell i looks."""
        h, w = vision.shape[-2:]
        cells = vision.flatten(2).transpose(1, 2)  # (S, hw, D_V)
        gate = self.gate(text.amax(2))[:, None]
        query, key = self.query(cells) * gate, self.key(cells) * gate
        weights = (query @ key.transpose(1, 2) / sqrt(cells.shape[2])).softmax(-1)
        attended = (weights @ self.value(cells)).transpose(1, 2).unflatten(2, (h, w))
        return attended[:, : self.out_channels], weights


class PlainCells(nn.Module):
    """F_V itself, in the shapes of `CellAttention`: every cell looks at itself."""

    def __init__(self, vision: int, text: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, vision: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        cells = vision.shape[-2] * vision.shape[-1]
        weights = torch.eye(cells, dtype=vision.dtype, device=vision.device)
        return vision[:, : self.out_channels], weights.expand(len(vision), -1, -1)
