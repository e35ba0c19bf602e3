"""The video encoder of Gavrilyuk et al. and ACGA (2): I3D to mixed_4f, mean over time, L2 norm."""

from __future__ import annotations

import logging
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aamn.config.baselines import I3DConfig
from aamn.models.baselines.frozen_backbone import build_frozen_backbone
from aamn.models.baselines.i3d import build_i3d, layer_index, load_i3d, out_channels
from proposals.errors import InputError

log = logging.getLogger("aamn")

CHANNELS = {"rgb": 3, "flow": 2}
LAST_LAYER = "mixed_4f"
STRIDE = 16  # pixels of the input a cell of mixed_4f


class RGBInput(nn.Module):
    """RGB in [0, 1] to the range that the weights were trained on."""

    offset: Tensor
    scale: Tensor

    def __init__(self, config: I3DConfig) -> None:
        super().__init__()
        low, high = config.rgb_range
        self.register_buffer("offset", torch.tensor(float(low)), persistent=False)
        self.register_buffer("scale", torch.tensor(float(high - low)), persistent=False)

    def forward(self, video: Tensor) -> Tensor:
        return video * self.scale + self.offset


class FlowInput(nn.Module):
    """Flow in pixels, cut at the limit and scaled to [-1, 1], as I3D's flow stream was trained."""

    limit: Tensor

    def __init__(self, config: I3DConfig) -> None:
        super().__init__()
        if config.flow_limit <= 0:
            raise InputError(f"i3d.flow_limit must be positive, got {config.flow_limit}")
        self.register_buffer("limit", torch.tensor(float(config.flow_limit)), persistent=False)

    def forward(self, video: Tensor) -> Tensor:
        return (video / self.limit).clamp(-1, 1)


INPUTS = {"rgb": RGBInput, "flow": FlowInput}


def load_stream(layers: nn.Sequential, config: I3DConfig, stream: str) -> None:
    """Loads the weights that the configuration names for a stream; without a name, layers that
    never learn keep random ones, which is said.

    Raises:
        InputError: a weight file that is not I3D's.
    """
    path = {"rgb": config.rgb_weights, "flow": config.flow_weights}[stream]
    if path:
        load_i3d(layers, path)
    elif config.frozen_until:
        log.warning(
            "i3d.%s_weights names no file: layers up to %s stay random and never learn",
            stream,
            config.frozen_until,
        )


class VideoEncoder(nn.Module):
    """One stream of clips to F_V: (N, C, T, H, W) -> (N, 832, h, w), unit length a cell.

    `frozen` is the part that does not learn; `forward` continues from its result.
    """

    def __init__(self, config: I3DConfig, stream: str, cache: str = "") -> None:
        super().__init__()
        layers = build_i3d(CHANNELS[stream], LAST_LAYER, config.width, config.norm_eps)
        cut = layer_index(config.frozen_until) + 1 if config.frozen_until else 0
        if cache and not cut:
            raise InputError("backbone_cache: nothing is frozen (i3d.frozen_until is empty)")
        if cut >= len(layers):
            raise InputError(f"i3d.frozen_until: wanted a layer before {LAST_LAYER}, which learns")
        self.config, self.stream = config, stream
        self.input = INPUTS[stream](config)
        self.backbone = build_frozen_backbone(layers[:cut], cache)
        self.tail = layers[cut:]
        self.channels = out_channels(layers)

    def frozen(self, video: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, 528, T', h, w), the input of mixed_4f in the paper's models."""
        return self.backbone(self.input(video))

    def forward(self, frozen: Tensor) -> Tensor:
        return F.normalize(self.tail(frozen).mean(2), dim=1)

    def load_pretrained(self) -> None:
        """Loads the weights a fresh training starts from, as the configuration names them.

        Raises:
            InputError: a weight file that is not I3D's.
        """
        named = [*self.backbone.layers.named_children(), *self.tail.named_children()]
        load_stream(nn.Sequential(OrderedDict(named)), self.config, self.stream)
        self.backbone.forget()
