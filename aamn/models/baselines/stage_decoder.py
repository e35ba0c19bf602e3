"""CSTM's decoder: one map from the two encoders at each stage, then from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aamn.models.baselines.decoder import ResponseHead


def conv_unit(channels: int, out_channels: int, bias: bool) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, padding=1, bias=bias),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class LGFS(nn.Module):
    """Language-guided feature selection: a pair of weights a channel from the sentence, softmaxed
    over the pair, for the spatial and the temporal map.

    The main text's form is not at hand; here a linear layer on the mean of the word features,
    because the supplement (Sec. 4.1) shows pairs that sum to one.
    """

    def __init__(self, text: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(text, 2 * channels)

    def forward(self, text: Tensor) -> Tensor:
        """Word features (S, D, L) -> weights (S, 2, C): spatial, temporal."""
        return self.linear(text.mean(2)).unflatten(1, (2, -1)).softmax(1)


class Unselected(nn.Module):
    """Both maps as they are: weights of one, in the shape of `LGFS`."""

    def __init__(self, text: int, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, text: Tensor) -> Tensor:
        return text.new_ones(len(text), 2, self.channels)


class StageFusion(nn.Module):
    """One stage's spatial and temporal maps to one: both to the decoder's channels, weighed by
    `selection`, concatenated, convolved."""

    def __init__(self, spatial: int, temporal: int, channels: int, selection: nn.Module) -> None:
        super().__init__()
        self.spatial = conv_unit(spatial, channels, bias=False)
        self.temporal = conv_unit(temporal, channels, bias=False)
        self.selection = selection
        self.fuse = conv_unit(2 * channels, channels, bias=True)

    def forward(self, spatial: Tensor, temporal: Tensor, text: Tensor) -> Tensor:
        """(S, C_s, h, w) and (S, C_t, T, h, w), of which the middle time step counts, with word
        features (S, D, L) -> (S, C, h, w)."""
        weighed = self.pair(spatial, temporal) * self.selection(text)[..., None, None]
        return self.fuse(weighed.flatten(1, 2))

    def pair(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        """The two maps (S, 2, C, h, w) that `selection` weighs."""
        middle = temporal[:, :, temporal.shape[2] // 2]
        return torch.stack((self.spatial(spatial), self.temporal(middle)), 1)


def double(maps: Tensor) -> Tensor:
    """Maps (S, C, h, w) twice as fine, bilinearly, corner on corner."""
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)


class StageDecoder(nn.Module):
    """From the fused maps of the stages, the finest first, to one response a stage, the coarsest
    first, and one twice as fine as the finest stage."""

    def __init__(self, stages: int, channels: int) -> None:
        super().__init__()
        merges = (conv_unit(2 * channels, channels, bias=True) for _ in range(stages - 1))
        self.merges = nn.ModuleList(merges)
        self.heads = nn.ModuleList(ResponseHead(channels, channels) for _ in range(stages + 1))

    def forward(self, fused: Sequence[Tensor]) -> list[Tensor]:
        *finer, deepest = fused
        decoded = [deepest]
        for merge, lateral in zip(self.merges, reversed(finer), strict=True):
            decoded.append(merge(torch.cat([double(decoded[-1]), lateral], 1)))
        decoded.append(double(decoded[-1]))
        return [head(maps) for head, maps in zip(self.heads, decoded, strict=True)]
