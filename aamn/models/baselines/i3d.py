"""I3D, Inception-v1 inflated to 3D (Carreira and Zisserman, CVPR 2017), with TensorFlow's padding.

Maps are (N, C, T, h, w). Layers are called as in the public PyTorch ports, in lower case, so that
both ports' Kinetics weights load.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from math import ceil
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aamn.models.pretrained import load_weights, read_weights
from proposals.errors import InputError

Triple = tuple[int, int, int]

NORM_EPS = 1e-3  # of TensorFlow's I3D and of both ports; see `I3DConfig.norm_eps`

# name: (kernel, stride, output channels)
CONVOLUTIONS: dict[str, tuple[Triple, Triple, int]] = {
    "conv3d_1a_7x7": ((7, 7, 7), (2, 2, 2), 64),
    "conv3d_2b_1x1": ((1, 1, 1), (1, 1, 1), 64),
    "conv3d_2c_3x3": ((3, 3, 3), (1, 1, 1), 192),
}
# name: (kernel, stride)
POOLS: dict[str, tuple[Triple, Triple]] = {
    "maxpool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "maxpool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "maxpool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "maxpool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
# name: output channels of b0, b1a, b1b, b2a, b2b, b3b
INCEPTIONS: dict[str, tuple[int, int, int, int, int, int]] = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
LAYERS = (
    "conv3d_1a_7x7",
    "maxpool3d_2a_3x3",
    "conv3d_2b_1x1",
    "conv3d_2c_3x3",
    "maxpool3d_3a_3x3",
    "mixed_3b",
    "mixed_3c",
    "maxpool3d_4a_3x3",
    "mixed_4b",
    "mixed_4c",
    "mixed_4d",
    "mixed_4e",
    "mixed_4f",
    "maxpool3d_5a_2x2",
    "mixed_5b",
    "mixed_5c",
)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: what to add before and after so that ceil(size / stride) outputs come
    out; an odd total puts the larger half after."""
    total = max((ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(maps: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """(N, C, T, h, w) padded with zeros for a SAME convolution or pooling."""
    pads = [same_padding(*axis) for axis in zip(maps.shape[2:], kernel, stride, strict=True)]
    return F.pad(maps, [n for pair in reversed(pads) for n in pair])


class ConvUnit(nn.Module):
    """SAME convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: Triple = (1, 1, 1),
        stride: Triple = (1, 1, 1),
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.conv3d = nn.Conv3d(channels, out_channels, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=norm_eps)

    def forward(self, maps: Tensor) -> Tensor:
        padded = pad_same(maps, self.conv3d.kernel_size, self.conv3d.stride)
        return F.relu(self.bn(self.conv3d(padded)))


class SamePool(nn.Module):
    """SAME max-pooling over zeros around the maps, as in both ports and in the released CSTM.

    TensorFlow leaves padding out of the maximum. Behind a ReLU that is the same; CSTM's modulated
    maps can be negative, and there the released model's border is zero.
    """

    def __init__(self, channels: int, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.out_channels = channels
        self.kernel, self.stride = kernel, stride

    def forward(self, maps: Tensor) -> Tensor:
        return F.max_pool3d(pad_same(maps, self.kernel, self.stride), self.kernel, self.stride)


class Inception(nn.Module):
    """Four parallel branches, concatenated: 1x1x1, 3x3x3, 3x3x3, pooling."""

    def __init__(self, channels: int, widths: Sequence[int], norm_eps: float = NORM_EPS) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = widths
        unit = partial(ConvUnit, norm_eps=norm_eps)
        self.out_channels = b0 + b1b + b2b + b3b
        self.b0 = unit(channels, b0)
        self.b1a = unit(channels, b1a)
        self.b1b = unit(b1a, b1b, (3, 3, 3))
        self.b2a = unit(channels, b2a)
        self.b2b = unit(b2a, b2b, (3, 3, 3))
        self.b3a = SamePool(channels, (3, 3, 3), (1, 1, 1))
        self.b3b = unit(channels, b3b)

    def forward(self, maps: Tensor) -> Tensor:
        branches = (
            self.b0(maps),
            self.b1b(self.b1a(maps)),
            self.b2b(self.b2a(maps)),
            self.b3b(self.b3a(maps)),
        )
        return torch.cat(branches, 1)


def _layer(
    name: str, channels: int, width: float, norm_eps: float
) -> ConvUnit | SamePool | Inception:
    """One layer on `channels` input channels, its own scaled by `width`."""
    if name in POOLS:
        return SamePool(channels, *POOLS[name])
    if name in CONVOLUTIONS:
        kernel, stride, out_channels = CONVOLUTIONS[name]
        return ConvUnit(channels, max(1, round(out_channels * width)), kernel, stride, norm_eps)
    return Inception(channels, [max(1, round(n * width)) for n in INCEPTIONS[name]], norm_eps)


def build_i3d(
    channels: int, until: str = "mixed_5c", width: float = 1.0, norm_eps: float = NORM_EPS
) -> nn.Sequential:
    """The layers up to and with `until`, by their names.

    Args:
        channels: of the input, 3 for RGB and 2 for flow.
        until: one of `LAYERS`.
        width: factor on every layer's channels.
        norm_eps: of every batch normalisation.

    Raises:
        InputError: no layer of the name `until`, or an eps that is not above 0.
    """
    if not norm_eps > 0:
        raise InputError(f"i3d.norm_eps must be positive, got {norm_eps}")
    layers = nn.Sequential()
    for name in LAYERS[: layer_index(until) + 1]:
        layer = _layer(name, channels, width, norm_eps)
        layers.add_module(name, layer)
        channels = layer.out_channels
    return layers


def out_channels(layers: nn.Sequential) -> int:
    """Channels of the last layer's maps."""
    last = layers[-1]
    assert isinstance(last, ConvUnit | SamePool | Inception)
    return last.out_channels


def layer_index(name: str) -> int:
    """The place of a layer in `LAYERS`.

    Raises:
        InputError: no layer of that name.
    """
    if name not in LAYERS:
        raise InputError(f"i3d: no layer {name!r}; one of {', '.join(LAYERS)}")
    return LAYERS.index(name)


# hassony2/kinetics_i3d_pytorch's names of an Inception's branches -> piergiaj/pytorch-i3d's
BRANCHES = {
    "branch_0": "b0",
    "branch_1.0": "b1a",
    "branch_1.1": "b1b",
    "branch_2.0": "b2a",
    "branch_2.1": "b2b",
    "branch_3.1": "b3b",
}


def own_key(key: str) -> str:
    """Either port's key as ours."""
    key = key.lower().replace(".batch3d.", ".bn.")
    return re.sub(r"branch_\d(\.\d(?=\.))?", lambda m: BRANCHES.get(m[0], m[0]), key)


def load_i3d(layers: nn.Sequential, path: str | Path) -> None:
    """Loads Kinetics weights in the keys of piergiaj/pytorch-i3d (`Mixed_3b.b1a.conv3d.weight`)
    or of hassony2/kinetics_i3d_pytorch (`mixed_3b.branch_1.0.conv3d.weight`) into the layers of
    `build_i3d`; the file's layers beyond the last one are left.

    Raises:
        InputError: no such file, other keys, a layer missing, or another number of channels.
    """
    weights = {own_key(key): value for key, value in read_weights(path).items()}
    first = f"{LAYERS[0]}.conv3d.weight"
    if first not in weights:
        raise InputError(
            f"{path}: no I3D weights: wanted the keys of piergiaj/pytorch-i3d "
            "(Conv3d_1a_7x7.conv3d.weight, ...) or hassony2/kinetics_i3d_pytorch "
            "(conv3d_1a_7x7.conv3d.weight, ...)"
        )
    own = layers.state_dict()[first]
    got, wanted = weights[first].shape[1], own.shape[1]
    if got != wanted:
        raise InputError(
            f"{path}: weights for {got} input channels, wanted {wanted} (RGB has 3, flow 2)"
        )
    load_weights(layers, weights, path)
