"""The actor module (6): who is it, by appearance and place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aamn.config.schema import ActorConfig
from aamn.models.matching import Matching, TubeSide
from aamn.models.visual import TubeFeatures

LOCATION_CHANNELS = 5


class ActorModule(nn.Module):
    """v_k^actor = [v_k, l_k], matched with the actor-related words."""

    def __init__(self, config: ActorConfig, channels: int, words: int, width: int) -> None:
        super().__init__()
        self.sources = tuple(config.features.split("+"))
        self.located, self.gain = config.location, config.location_gain
        visual = len(self.sources) * channels + LOCATION_CHANNELS * config.location
        self.matching = Matching(visual, words, width)

    def represent(self, tubes: TubeFeatures) -> Tensor:
        """v_k^actor (B, K, C)."""
        parts = [tubes.streams[name] for name in self.sources]
        return torch.cat(parts + [tubes.location * self.gain] * self.located, -1)

    def forward(self, tubes: TubeFeatures) -> TubeSide:
        """The tube side of the actor score."""
        return TubeSide(self.matching.tubes(self.represent(tubes)))


class JointModule(ActorModule):
    """Table IV's baseline: [v_k, f_k] as the visual side, matched the same way as the actor."""

    def __init__(self, channels: int, words: int, width: int) -> None:
        super().__init__(ActorConfig(location=False, features="rgb+flow"), channels, words, width)
