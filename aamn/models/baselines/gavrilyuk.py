"""Actor and action video segmentation from a sentence (Gavrilyuk et al., CVPR 2018): filters made
from the sentence, slid over the video's features.

The sizes are those whose parameters ACGA's supplement counts (Table 1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aamn.config.baselines import GavrilyukConfig
from aamn.models.baselines import coordinates
from aamn.models.baselines.coordinates import with_coordinates
from aamn.models.baselines.decoder import Deconv
from aamn.models.baselines.one_stage import ResponseNetwork
from aamn.models.baselines.text_encoder import ConvText
from aamn.models.baselines.two_stream import TwoStream
from aamn.models.baselines.video_encoder import VideoEncoder


class DynamicFilter(nn.Module):
    """A 1x1 filter from the sentence: tanh of a linear layer, unit length, and its inner product
    with every cell."""

    def __init__(self, text: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(text, channels)

    def forward(self, maps: Tensor, sentence: Tensor) -> Tensor:
        """Maps (S, D, h, w) and sentences (S, C_e) -> responses (S, 1, h, w)."""
        filters = F.normalize(self.linear(sentence).tanh(), dim=1)
        return torch.einsum("sdhw,sd->shw", maps, filters)[:, None]


class GavrilyukNetwork(ResponseNetwork):
    """One stream."""

    def __init__(self, config: GavrilyukConfig, stream: str, dimension: int) -> None:
        super().__init__()
        self.video = VideoEncoder(config.i3d, stream, config.backbone_cache)
        self.text = ConvText(dimension, config.text_kernel)
        small, (medium, large) = self.video.channels + coordinates.CHANNELS, config.channels
        self.to_medium = Deconv(small, medium)
        self.to_large = Deconv(medium, large)
        self.filters = nn.ModuleList(DynamicFilter(dimension, n) for n in (small, medium, large))

    def encode(self, video: Tensor) -> list[Tensor]:
        """Maps (N, D, h, w) of clips (N, C, T, H, W) at the three sizes."""
        return self.upsample(self.video(self.video.frozen(video)))

    def upsample(self, features: Tensor) -> list[Tensor]:
        """F_V (N, 832, h, w) with coordinates, then four and sixteen times finer."""
        small = with_coordinates(features)
        medium = self.to_medium(small)
        return [small, medium, self.to_large(medium)]

    def respond(self, encoded: list[Tensor], owner: Tensor, words: Tensor) -> list[Tensor]:
        sentence = self.text(words).amax(2)
        return [
            dynamic_filter(maps[owner], sentence)
            for dynamic_filter, maps in zip(self.filters, encoded, strict=True)
        ]

    def load_pretrained(self) -> None:
        """As `VideoEncoder.load_pretrained`."""
        self.video.load_pretrained()


class Gavrilyuk(TwoStream):
    """Gavrilyuk et al. over one or two streams."""

    network = GavrilyukNetwork
