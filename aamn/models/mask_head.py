"""The actor segmentation network: RoIAlign maps of a tube to its masks (Sec. III-D)."""

from __future__ import annotations

from torch import Tensor, nn

from aamn.config import MaskHeadConfig


class MaskHead(nn.Module):
    """1x1 convolution that fuses the streams, 3x3 convolutions, one deconvolution to logits.

    (N, C, g, g) -> (N, 2g, 2g); the head never sees a sentence.
    """

    def __init__(self, config: MaskHeadConfig, channels: int) -> None:
        super().__init__()
        width = config.channels
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 1), nn.ReLU(inplace=True)]
        for _ in range(config.convolutions):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.logits = nn.ConvTranspose2d(width, 1, 2, stride=2)
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, grids: Tensor) -> Tensor:
        return self.logits(self.body(grids))[:, 0]
