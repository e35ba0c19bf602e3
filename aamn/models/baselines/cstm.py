"""CSTM: collaborative spatial-temporal modelling (Hui et al., CVPR 2021).

A 2D encoder for the annotated frame and a 3D one for the clip, both modulated by the sentence after
each of their five stages. Equation numbers are the supplement's; what the paper leaves open is the
authors' released model, and LGFS, which that lacks, is ours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn

from aamn.config.baselines import CSTMConfig
from aamn.models.baselines.i3d import build_i3d, layer_index, out_channels
from aamn.models.baselines.modulation import CMAM, ModulatedEncoder, Unmodulated
from aamn.models.baselines.one_stage import OneStage, ResponseNetwork, clip_needs
from aamn.models.baselines.released import load_released
from aamn.models.baselines.responses import ResponseLoss
from aamn.models.baselines.stage_decoder import LGFS, StageDecoder, StageFusion, Unselected
from aamn.models.baselines.video_encoder import RGBInput, load_stream
from aamn.models.pretrained import load_weights, read_weights
from aamn.structures import Clip, Query
from proposals.errors import InputError

STRIDE = 32  # pixels of the input a cell of the last stage
STAGES = (1, 2, 3, 4, 5)
# The last layer of each temporal stage.
TEMPORAL_STAGES = ("conv3d_1a_7x7", "conv3d_2c_3x3", "mixed_3c", "mixed_4f", "mixed_5c")
# name: (builder, channels of the five stages, torchvision's name of its weights)
SPATIAL = {
    "resnet50": (torchvision.models.resnet50, (64, 256, 512, 1024, 2048), "ResNet50_Weights"),
    "resnet18": (torchvision.models.resnet18, (64, 64, 128, 256, 512), "ResNet18_Weights"),
}
CMAM_ENCODERS = {
    "both": ("spatial", "temporal"),
    "spatial": ("spatial",),
    "temporal": ("temporal",),
}
AXES = {"spatial": 2, "temporal": 3}


class GRUText(nn.Module):
    """A GRU without bias, layer normalisation, tanh: words (S, L, C_e) -> (S, D, L)."""

    def __init__(self, dimension: int, channels: int) -> None:
        super().__init__()
        self.gru = nn.GRU(dimension, channels, bias=False, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(self, words: Tensor) -> Tensor:
        return self.norm(self.gru(words)[0]).tanh().transpose(1, 2)


def spatial_stages(net: torchvision.models.ResNet) -> list[nn.Sequential]:
    """A ResNet's five stages: stem without its pool, pool and layer1, layer2, layer3, layer4."""
    return [
        nn.Sequential(net.conv1, net.bn1, net.relu),
        nn.Sequential(net.maxpool, net.layer1),
        net.layer2,
        net.layer3,
        net.layer4,
    ]


def load_spatial(stages: Iterable[nn.Module], name: str, weights: str) -> None:
    """Loads "imagenet" or a file in torchvision's keys into the stages of the ResNet `name`.

    Raises:
        InputError: weights that cannot be had, or those of another network.
    """
    net = SPATIAL[name][0]()
    if weights == "imagenet":
        content = _imagenet_weights(name)
    else:
        content = read_weights(weights)
    load_weights(net, content, weights, ignored=("fc.weight", "fc.bias"))
    for stage, pretrained in zip(stages, spatial_stages(net), strict=True):
        stage.load_state_dict(pretrained.state_dict())


def _imagenet_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights from torchvision's cache or the network."""
    try:
        return torchvision.models.get_weight(f"{SPATIAL[name][2]}.IMAGENET1K_V1").get_state_dict()
    except OSError as error:
        raise InputError(
            f"cstm.spatial_weights: ImageNet weights of {name} cannot be downloaded ({error}); "
            "give a weight file, or '' to start at random"
        ) from None


def temporal_stages(layers: nn.Sequential) -> list[nn.Sequential]:
    """I3D's five stages, each beginning with the pool that follows the one before."""
    ends = [layer_index(name) + 1 for name in TEMPORAL_STAGES]
    return [layers[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


@dataclass(frozen=True)
class FirstStages:
    """What the sentences of N clips share: the first stage of the spatial encoder (N, C, h, w) and
    of the temporal one (N, C, T, h, w)."""

    spatial: Tensor
    temporal: Tensor


@dataclass(frozen=True)
class Stages:
    """The modulated maps of all stages, the finest first: `spatial` (S, C, h, w) and `temporal`
    (S, C, T, h, w) each."""

    spatial: list[Tensor]
    temporal: list[Tensor]


@dataclass(frozen=True)
class StageSelection:
    """What LGFS does at one stage (Figure 1): the weights (C,) of each channel of the spatial and
    of the temporal map, which sum to one, and these maps (C, h, w) before they are weighed."""

    stage: int
    spatial: Tensor
    temporal: Tensor
    spatial_map: Tensor
    temporal_map: Tensor


class CSTMNetwork(ResponseNetwork):
    """CSTM's encoders and decoder."""

    def __init__(self, config: CSTMConfig, dimension: int) -> None:
        super().__init__()
        _check(config)
        text = config.text_channels
        build_spatial, spatial_channels, _ = SPATIAL[config.spatial]
        i3d = build_i3d(3, TEMPORAL_STAGES[-1], config.i3d.width, config.i3d.norm_eps)
        temporal = temporal_stages(i3d)
        channels = {
            "spatial": spatial_channels,
            "temporal": tuple(map(out_channels, temporal)),
        }
        modulations = {
            encoder: [
                CMAM(n, text, AXES[encoder])
                if encoder in CMAM_ENCODERS[config.cmam]
                else Unmodulated()
                for n in widths
            ]
            for encoder, widths in channels.items()
        }
        self.config = config
        self.key = config.frames // 2
        self.input = RGBInput(config.i3d)
        self.text = GRUText(dimension, text)
        self.spatial = ModulatedEncoder(spatial_stages(build_spatial()), modulations["spatial"])
        self.temporal = ModulatedEncoder(temporal, modulations["temporal"])
        self.fusions = nn.ModuleList(
            StageFusion(
                channels["spatial"][i],
                channels["temporal"][i],
                config.channels,
                (LGFS if stage in config.lgfs else Unselected)(text, config.channels),
            )
            for i, stage in enumerate(STAGES)
        )
        self.decoder = StageDecoder(len(STAGES), config.channels)

    def encode(self, video: Tensor) -> FirstStages:
        """The first stages of clips (N, 3, T, H, W)."""
        video = self.input(video)
        return FirstStages(self.spatial.begin(video[:, :, self.key]), self.temporal.begin(video))

    def respond(self, encoded: FirstStages, owner: Tensor, words: Tensor) -> list[Tensor]:
        text = self.text(words)
        stages = self.modulate(encoded, owner, text)
        fused = [
            fusion(frame, clip, text)
            for fusion, frame, clip in zip(
                self.fusions, stages.spatial, stages.temporal, strict=True
            )
        ]
        return self.decoder(fused)

    def modulate(self, encoded: FirstStages, owner: Tensor, text: Tensor) -> Stages:
        """Both encoders' maps under word features (S, D, L)."""
        return Stages(
            self.spatial(encoded.spatial[owner], text),
            self.temporal(encoded.temporal[owner], text),
        )

    def load_pretrained(self) -> None:
        """Loads the weights a fresh training starts from, as the configuration names them.

        Raises:
            InputError: weights that cannot be had, or those of another network.
        """
        if self.config.weights:
            return load_released(self, "cstm", self.config.weights)
        if self.config.spatial_weights:
            load_spatial(self.spatial.stages, self.config.spatial, self.config.spatial_weights)
        named = [child for stage in self.temporal.stages for child in stage.named_children()]
        load_stream(nn.Sequential(OrderedDict(named)), self.config.i3d, "rgb")


def _check(config: CSTMConfig) -> None:
    """Raises InputError for a stage that is not there, or a frozen encoder."""
    if not set(config.lgfs) <= set(STAGES):
        raise InputError(f"cstm.lgfs: stages are 1 to 5, got {list(config.lgfs)}")
    if config.i3d.frozen_until:
        raise InputError("cstm.i3d.frozen_until: both encoders of CSTM learn as a whole")


class CSTM(OneStage):
    """Collaborative spatial-temporal modelling; one network over RGB."""

    def __init__(self, config: CSTMConfig, embedding: nn.Embedding, max_words: int = 20) -> None:
        coarse = {f"stage{stage}": config.coarse_weight for stage in reversed(STAGES)}
        super().__init__(
            {"rgb": CSTMNetwork(config, embedding.embedding_dim)},
            embedding,
            clip_needs(config.size, STRIDE, config.frames, config.stride, flow=False),
            ResponseLoss({**coarse, "full": 1.0}, config.foreground_weight, "nearest"),
            max_words,
        )
        self.lgfs = tuple(config.lgfs)

    @torch.no_grad()
    def selection(self, clip: Clip, query: Query) -> list[StageSelection]:
        """LGFS's weights and maps at each stage that has it, the deepest first; the sentence alone
        decides the weights."""
        network = self.networks["rgb"]
        assert isinstance(network, CSTMNetwork)
        text = network.text(self.word_vectors([query]))
        owner = torch.zeros(1, dtype=torch.long, device=self.device)
        stages = network.modulate(self.encode("rgb", [clip]), owner, text)
        found = []
        for stage in sorted(self.lgfs, reverse=True):
            place = stage - 1
            fusion = network.fusions[place]
            assert isinstance(fusion, StageFusion)
            maps = fusion.pair(stages.spatial[place], stages.temporal[place])[0]
            found.append(StageSelection(stage, *fusion.selection(text)[0], *maps))
        return found
