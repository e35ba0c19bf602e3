"""Beyond the paper: one matching head that sees a tube among the frame's other tubes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aamn.config.schema import RelationConfig
from aamn.models.matching import Matching, TubeSide
from aamn.models.visual import TubeFeatures
from aamn.ops.boxes import pairwise_iou
from proposals.errors import InputError

PLACES = 5  # numbers of l_k
GEOMETRY = 6  # numbers that relate one box to another


class TubeLayer(nn.Module):
    """One layer of a transformer, norms first: tokens (B, K, C), bias (B, heads, K, K)."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(size), nn.LayerNorm(size)
        self.project, self.join = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)
        self.feed = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        parts = self.project(self.first(tokens)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (B, heads, K, c) each
        seen = F.scaled_dot_product_attention(query, key, value, bias)
        tokens = tokens + self.dropout(self.join(seen.transpose(1, 2).flatten(2)))
        return tokens + self.dropout(self.feed(self.second(tokens)))


class RelationModule(nn.Module):
    """Everything that is known of each tube, related to the other tubes by a transformer whose
    attention knows how their boxes lie to each other."""

    def __init__(
        self, config: RelationConfig, channels: int, known: int, words: int, width: int
    ) -> None:
        """For `known` numbers about a tube beside its place, and `channels` about the whole frame.

        Raises:
            InputError: the channels cannot be divided among the heads.
        """
        super().__init__()
        size = config.channels
        if size % config.heads:
            raise InputError(
                f"aamn.relation: {size} channels cannot be divided among {config.heads} heads"
            )
        self.whole = nn.Linear(channels, size)
        self.tokens = nn.Sequential(
            nn.Linear(known + PLACES, size),
            nn.LayerNorm(size),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.geometry = nn.Sequential(
            nn.Linear(GEOMETRY, 32), nn.ReLU(inplace=True), nn.Linear(32, config.heads)
        )
        self.layers = nn.ModuleList(
            TubeLayer(size, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.matching = Matching(size, words, width, config.scale)

    def represent(self, tubes: TubeFeatures) -> Tensor:
        """(B, K, C) of all tubes."""
        known = [*tubes.streams.values(), *tubes.statistics.values(), 4 * tubes.location - 2]
        tokens = self.tokens(torch.cat(known, -1)) + self.whole(tubes.whole)[:, None]
        bias = self.geometry(relative_geometry(tubes.boxes)).permute(0, 3, 1, 2)  # (B, heads, K, K)
        number = torch.arange(tokens.shape[1], device=tokens.device)
        own = number[:, None] == number
        hidden = ~tubes.valid[:, None, None, :] & ~own  # a missing tube sees itself alone
        bias = bias.masked_fill(hidden, -torch.inf).to(tokens.dtype)
        for layer in self.layers:
            tokens = layer(tokens, bias)
        return tokens

    def forward(self, tubes: TubeFeatures) -> TubeSide:
        """The tube side of the score."""
        return TubeSide(self.matching.tubes(self.represent(tubes)))


def relative_geometry(boxes: Tensor) -> Tensor:
    """(B, K, K, GEOMETRY): how box j of boxes (B, K, 4) lies to box i: the way between the centres
    in sides of i, bounded, the logarithm of the sizes' ratios, the IoU, and whether j is i."""
    centres, sizes = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    sizes = sizes.clamp(min=1)
    way = (centres[:, None] - centres[:, :, None]) / sizes.prod(-1).sqrt()[:, :, None, None]
    ratio = sizes.log()[:, None] - sizes.log()[:, :, None]
    same = torch.eye(boxes.shape[1], device=boxes.device).expand(boxes.shape[0], -1, -1)
    parts = [way.tanh(), ratio, pairwise_iou(boxes, boxes)[..., None], same[..., None]]
    return torch.cat(parts, -1)
