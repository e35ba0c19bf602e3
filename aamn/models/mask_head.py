"""The actor segmentation network: RoIAlign maps of a tube to its masks (Sec. III-D)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aamn.config.schema import MaskHeadConfig


def _body(config: MaskHeadConfig, channels: int) -> nn.Sequential:
    """The layers at the RoIAlign's resolution."""
    width = config.channels
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 1), nn.ReLU(inplace=True)]
    for _ in range(config.convolutions):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def _channels_last(grids: Tensor) -> Tensor:
    """A fifth faster on CPU."""
    return grids.contiguous(memory_format=torch.channels_last)


class MaskHead(nn.Module):
    """1x1 convolution that fuses the streams, 3x3 convolutions, one deconvolution to logits.

    (N, C, g, g) -> (N, 2g, 2g); the head never sees a sentence.
    """

    def __init__(self, config: MaskHeadConfig, channels: int) -> None:
        super().__init__()
        self.body = _body(config, channels)
        self.logits = nn.ConvTranspose2d(config.channels, 1, 2, stride=2)

    def forward(self, grids: Tensor) -> Tensor:
        return self.logits(self.body(_channels_last(grids)))[:, 0]


class DetailedMaskHead(nn.Module):
    """The same head up to its 2g x 2g map, which then meets an earlier, finer map of the backbone,
    two 3x3 convolutions and a second deconvolution: logits four times as fine as the grid.

    Beyond the paper, whose 28 x 28 masks lose the outlines of large actors (Sec. IV-D).
    (N, C, g, g) and (N, C', 2g, 2g) -> (N, 4g, 4g).
    """

    def __init__(self, config: MaskHeadConfig, channels: int, detail: int) -> None:
        super().__init__()
        width = config.detail_channels
        self.body = _body(config, channels)
        self.enlarge = nn.ConvTranspose2d(config.channels, width, 2, stride=2)
        self.detail = nn.Conv2d(detail, width, 1)
        self.fine = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.logits = nn.ConvTranspose2d(width, 1, 2, stride=2)

    def forward(self, grids: Tensor, details: Tensor) -> Tensor:
        coarse = self.enlarge(self.body(_channels_last(grids)))
        detail = self.detail(_channels_last(details))
        return self.logits(self.fine(torch.cat([coarse, detail], 1)))[:, 0]
