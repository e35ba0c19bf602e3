"""ACGA: asymmetric cross-guided attention network (Wang et al., ICCV 2019).

Equation numbers are the paper's; what the variants of its tables leave out is another part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aamn.config.baselines import ACGAConfig
from aamn.models.baselines import coordinates
from aamn.models.baselines.coordinates import with_coordinates
from aamn.models.baselines.decoder import MultiResolutionDecoder
from aamn.models.baselines.guidance import CellAttention, MeanWords, PlainCells, WordAttention
from aamn.models.baselines.one_stage import ResponseNetwork
from aamn.models.baselines.released import load_released
from aamn.models.baselines.text_encoder import ConvText, LSTMText
from aamn.models.baselines.two_stream import TwoStream
from aamn.models.baselines.video_encoder import VideoEncoder
from aamn.structures import Clip, Query
from proposals.errors import InputError

TEXT_ENCODERS: dict[str, Callable[[int, int], ConvText | LSTMText]] = {
    "conv": lambda dimension, kernel: ConvText(dimension, kernel),
    "lstm": lambda dimension, kernel: LSTMText(dimension),
}
TEXT_GUIDANCE: dict[str, type[WordAttention | MeanWords]] = {
    "attention": WordAttention,
    "mean": MeanWords,
}
# Each from the channels of F_V, V = [F_V, C] and F_T.
VISION_GUIDANCE: dict[str, Callable[[int, int, int], CellAttention | PlainCells]] = {
    "attention": lambda video, both, text: CellAttention(both, text, both),
    "attention_cut": lambda video, both, text: CellAttention(both, text, video),
    "none": lambda video, both, text: PlainCells(both, text, video),
}


@dataclass(frozen=True)
class CrossAttention:
    """What Figure 1 of the supplement shows: `words` (L, h, w), how much each cell listens to each
    word, padding words included; `cells` (h, w, h, w), where each cell looks."""

    words: Tensor
    cells: Tensor


@dataclass(frozen=True)
class Guided:
    """F_VA (S, D, h, w) and F_TA (S, C_e, h, w) of (9) with the weights behind them."""

    vision: Tensor
    text: Tensor
    cell_weights: Tensor
    word_weights: Tensor


class ACGANetwork(ResponseNetwork):
    """One stream of ACGA."""

    def __init__(self, config: ACGAConfig, stream: str, dimension: int) -> None:
        super().__init__()
        if config.weights and "+" in config.streams:
            raise InputError("acga.weights: a released checkpoint is of one stream, rgb or flow")
        self.weights = config.weights
        self.video = VideoEncoder(config.i3d, stream, config.backbone_cache)
        video, both = self.video.channels, self.video.channels + coordinates.CHANNELS
        self.text = TEXT_ENCODERS[config.text_encoder](dimension, config.text_kernel)
        self.word_guidance = TEXT_GUIDANCE[config.text_guidance](both, dimension)
        self.cell_guidance = VISION_GUIDANCE[config.vision_guidance](video, both, dimension)
        self.decoder = MultiResolutionDecoder(
            self.cell_guidance.out_channels, dimension, config.channels, config.fusion
        )

    def encode(self, video: Tensor) -> Tensor:
        """F_V (N, 832, h, w) of clips (N, C, T, H, W)."""
        return self.video(self.video.frozen(video))

    def guide(self, encoded: Tensor, owner: Tensor, words: Tensor) -> Guided:
        """Att of (9) for each sentence and its clip."""
        vision, text = with_coordinates(encoded)[owner], self.text(words)
        attended_text, word_weights = self.word_guidance(vision, text)
        attended_vision, cell_weights = self.cell_guidance(vision, text)
        return Guided(attended_vision, attended_text, cell_weights, word_weights)

    def respond(self, encoded: Tensor, owner: Tensor, words: Tensor) -> list[Tensor]:
        guided = self.guide(encoded, owner, words)
        return self.decoder(guided.vision, guided.text)

    def load_pretrained(self) -> None:
        """The authors' weights where the configuration names them, else as
        `VideoEncoder.load_pretrained`.

        Raises:
            InputError: as `load_released` or `VideoEncoder.load_pretrained`.
        """
        if not self.weights:
            return self.video.load_pretrained()
        load_released(self, "acga", self.weights)
        self.video.backbone.forget()


class ACGA(TwoStream):
    """The asymmetric cross-guided attention network over one or two streams."""

    network = ACGANetwork

    @torch.no_grad()
    def attention(self, clip: Clip, query: Query, stream: str = "rgb") -> CrossAttention:
        """The weights of both attentions for one sentence about one clip."""
        encoded = self.encode(stream, [clip])
        owner = torch.zeros(1, dtype=torch.long, device=self.device)
        network = self.networks[stream]
        assert isinstance(network, ACGANetwork)
        guided = network.guide(encoded, owner, self.word_vectors([query]))
        h, w = encoded.shape[-2:]
        return CrossAttention(guided.word_weights[0], guided.cell_weights[0].view(h, w, h, w))
