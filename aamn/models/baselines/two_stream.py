"""What the systems over I3D's features share: a network a stream, the losses of three sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import nn

from aamn.config.baselines import ACGAConfig, GavrilyukConfig
from aamn.models.baselines.one_stage import OneStage, ResponseNetwork, clip_needs
from aamn.models.baselines.responses import ResponseLoss
from aamn.models.baselines.video_encoder import STRIDE

SIZES = {"small": 1.0, "medium": 1.0, "large": 1.0}  # of the responses, with their loss weights


class TwoStream(OneStage):
    """One or two streams, each a `network` of the configuration, the stream's name and the number
    of channels of a word's vector; its `video` is a `VideoEncoder`."""

    network: ClassVar[Callable[..., ResponseNetwork]]

    def __init__(
        self, config: ACGAConfig | GavrilyukConfig, embedding: nn.Embedding, max_words: int = 20
    ) -> None:
        streams, dimension = config.streams.split("+"), embedding.embedding_dim
        super().__init__(
            {stream: self.network(config, stream, dimension) for stream in streams},
            embedding,
            clip_needs(config.size, STRIDE, config.frames, 1, "flow" in streams),
            ResponseLoss(SIZES, config.foreground_weight, "bilinear"),
            max_words,
        )
