"""CMAM, CSTM's cross-modal adaptive modulation, and the encoders that it modulates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aamn.models.baselines import coordinates
from aamn.models.baselines.coordinates import with_coordinates

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
PADDINGS = {2: nn.ZeroPad2d, 3: nn.ZeroPad3d}
NORMALISATIONS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class CMAM(nn.Module):
    """Modulates maps (S, C, h, w) or (S, C, T, h, w), as `axes` is 2 or 3, by a sentence.

    The gate's linear layer begins at zero, so that the modulation does: the untrained encoders are
    exactly the pretrained ones.
    """

    def __init__(self, channels: int, text: int, axes: int) -> None:
        super().__init__()
        conv, norm = CONVOLUTIONS[axes], NORMALISATIONS[axes]
        # Zeros are added beforehand: in bfloat16 on CPUs, a 3D convolution that pads by itself gets
        # a wrong gradient of its weights where frames are fewer than its kernel's (torch 2.15).
        self.joint = nn.Sequential(
            PADDINGS[axes](1),
            conv(channels + coordinates.CHANNELS, channels, 3, bias=False),
            norm(channels),
            nn.ReLU(inplace=True),
        )
        self.key = nn.Sequential(conv(channels, text, 1, bias=False), norm(text))
        self.query = nn.Sequential(nn.Conv1d(text, text, 1, bias=False), nn.BatchNorm1d(text))
        self.gate = nn.Linear(text, channels)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, maps: Tensor, text: Tensor) -> Tensor:
        """Maps modulated by word features (S, D, L), in their own shape."""
        joint = self.joint(with_coordinates(maps))
        sentence = torch.einsum("sdl,sl->sd", text, self.word_weights(joint, text))
        gate = self.gate(sentence).sigmoid() - 0.5
        return maps + joint * gate.view(*gate.shape, *[1] * (maps.dim() - 2))

    def word_weights(self, joint: Tensor, text: Tensor) -> Tensor:
        """(S, L): inner products of key and query summed over positions, unit length, softmax."""
        key = self.key(joint).flatten(2).sum(2)  # summing keys first is the same sum
        affinity = torch.einsum("sd,sdl->sl", key, self.query(text))
        return F.normalize(affinity, dim=1).softmax(1)


class Unmodulated(nn.Module):
    """A stage without CMAM: maps as they are."""

    def forward(self, maps: Tensor, text: Tensor) -> Tensor:
        return maps


class ModulatedEncoder(nn.Module):
    """Stages, each followed by its modulation.

    The first stage has not met the sentence yet, so that `begin` computes it once for all
    sentences of a clip.
    """

    def __init__(self, stages: Sequence[nn.Module], modulations: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.modulations = nn.ModuleList(modulations)

    def begin(self, video: Tensor) -> Tensor:
        """The first stage's maps of N clips."""
        return self.stages[0](video)

    def forward(self, first: Tensor, text: Tensor) -> list[Tensor]:
        """The first stage's maps, one a sentence, and word features (S, D, L) to the modulated maps
        of all stages."""
        outputs = [self.modulations[0](first, text)]
        for stage, modulation in zip(self.stages[1:], self.modulations[1:], strict=True):
            outputs.append(modulation(stage(outputs[-1]), text))
        return outputs
