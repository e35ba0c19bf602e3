"""The networks below the boxes, in one place because both stages have them: a detector's backbone
may also be that of stage two's RGB stream, and then one pass a frame serves both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from proposals.errors import InputError

GROUPS = 8  # of every GroupNorm; unlike batch statistics it does not mind batches of one frame


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity; (B, C, H, W) in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        nn.init.zeros_(self.norm2.weight)  # begins as the identity, which trains faster

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu()
        return (x + self.norm2(self.conv2(y))).relu()


class _Stage(nn.Sequential):
    """Convolution, norm, block, with a ReLU before the block."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(GROUPS, channels),
            ResidualBlock(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, block = self
        return block(norm(conv(x)).relu())


class SmallBackbone(nn.Module):
    """RGB (B, 3, H, W) in [0, 1] -> features (B, widths[-1], H / s, W / s), s the strides' product.

    Raises:
        InputError: widths and strides of different lengths, or a width that GroupNorm cannot split.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 128),
        strides: Sequence[int] = (2, 2, 2, 1),
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        if len(widths) != len(strides) or not widths or any(w % GROUPS for w in widths):
            raise InputError(
                "backbone: wanted as many strides as widths, and widths that are multiples of"
                f" {GROUPS}; got widths {tuple(widths)}, strides {tuple(strides)}"
            )
        inputs = (3, *widths[:-1])
        self.stages = nn.ModuleList(
            _Stage(*sizes) for sizes in zip(inputs, widths, strides, strict=True)
        )
        self.out_channels = widths[-1]
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((3, 1, 1), 0.25))

    def forward(self, rgb: Tensor) -> Tensor:
        return self.maps(rgb, (len(self.stages) - 1,))[0]

    def maps(self, rgb: Tensor, stages: Sequence[int]) -> list[Tensor]:
        """The maps behind the stages with these numbers, in rising order."""
        # channels last: half as fast again on CPU
        x = ((rgb - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        kept = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            kept += [x] * (number in stages)
        return kept


PYRAMIDS = (
    *("resnet50_fpn", "resnet50_fpn_gn", "resnet101_fpn"),
    *("mobilenet_fpn", "mobilenet_fpn_gn"),
)
# Of MobileNetV3-Large: the layers at which its stages begin, which of them a pyramid is built on,
# and how many channels these have.
MOBILE_STAGES = (0, 2, 4, 7, 13, 16)
_MOBILE_LEVELS, _MOBILE_CHANNELS = {"6": "0", "12": "1", "15": "2"}, [40, 112, 160]
MOBILE_WIDTH = 128  # channels of its pyramid


def build_pyramid(name: str) -> BackboneWithFPN:
    """A ResNet with a feature pyramid, random weights: normalised RGB (B, 3, H, W) -> maps "0" to
    "3" and "pool" of strides 4 to 64, 256 channels each; or MobileNetV3-Large (Howard et al., ICCV
    2019) with maps "0" to "2" and "pool" of strides 8 to 64, `MOBILE_WIDTH` channels each.

    Norms are frozen batch statistics with an eps of 0, that of torchvision's COCO weights; weights
    of another eps hold it in their variances. Of a name that ends in _gn, they are group norms,
    with which a network learns from nothing (He et al., ICCV 2019).
    """
    groups, mobile = name.endswith("_gn"), name.startswith("mobilenet")
    norm: Callable[..., nn.Module] = partial(FrozenBatchNorm2d, eps=0.0)
    if groups:
        norm = partial(nn.GroupNorm, GROUPS if mobile else 32)
    backbone = _mobile_pyramid(norm) if mobile else _resnet_pyramid(name, norm)
    backbone.register_forward_pre_hook(_channels_last)
    return backbone


def _resnet_pyramid(name: str, norm: Callable[..., nn.Module]) -> BackboneWithFPN:
    return resnet_fpn_backbone(
        backbone_name=name.split("_")[0], weights=None, norm_layer=norm, trainable_layers=5
    )


def _mobile_pyramid(norm: Callable[..., nn.Module]) -> BackboneWithFPN:
    """torchvision's own begins its pyramid at stride 32, which loses small actors and outlines."""
    layers = mobilenet_v3_large(weights=None, norm_layer=norm).features
    return BackboneWithFPN(layers, _MOBILE_LEVELS, _MOBILE_CHANNELS, MOBILE_WIDTH)


def _channels_last(backbone: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """A tenth faster on CPU, and half as fast again in bfloat16."""
    (images,) = inputs
    return (images.contiguous(memory_format=torch.channels_last),)


def weights_hash(network: nn.Module) -> str:
    """A short hash of all weights and buffers: two networks that differ have different ones."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
