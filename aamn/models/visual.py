"""The video's side: backbones, the two streams, RoI features of proposals (Sec. III-A)."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import vgg
from torchvision.ops import FrozenBatchNorm2d, roi_align

from aamn.config.schema import BackboneConfig
from aamn.models.pretrained import read_weights
from proposals.backbones import (
    MOBILE_STAGES,
    PYRAMIDS,
    SmallBackbone,
    build_pyramid,
    weights_hash,
)
from proposals.errors import InputError

log = logging.getLogger("aamn")

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TubeFeatures:
    """What the two modules see of B clips with K tubes each.

    streams: "rgb" -> v_k and "flow" -> f_k, each (B, K, C_v'); whole (B, C_v') is v_0; location
    (B, K, 5) is l_k; boxes (B, K, 4) of the key frame; valid (B, K) bool; statistics: name ->
    (B, K, C_s), what the tubes' pixels say.
    """

    streams: dict[str, Tensor]
    whole: Tensor
    location: Tensor
    boxes: Tensor
    valid: Tensor
    statistics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class DescribedTubes:
    """B clips' tubes before anything that matching learns: computed once, it can be kept.

    aggregated: stream -> (B, K, C_v), (2); whole (B, C_v), (2) of the whole frames; location
    (B, K, 5); boxes (B, K, 4) of the key frame in original pixels; valid (B, K) bool; numbers:
    statistic -> (B, K, ...).
    """

    aggregated: dict[str, Tensor]
    whole: Tensor
    location: Tensor
    boxes: Tensor
    valid: Tensor
    numbers: dict[str, Tensor]

    @classmethod
    def cat(cls, parts: Sequence[DescribedTubes]) -> DescribedTubes:
        """The clips of several batches in a row."""
        names, numbers = parts[0].aggregated, parts[0].numbers
        return cls(
            {name: torch.cat([one.aggregated[name] for one in parts]) for name in names},
            torch.cat([one.whole for one in parts]),
            torch.cat([one.location for one in parts]),
            torch.cat([one.boxes for one in parts]),
            torch.cat([one.valid for one in parts]),
            {name: torch.cat([one.numbers[name] for one in parts]) for name in numbers},
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> DescribedTubes:
        """The same with every tensor changed."""
        return DescribedTubes(
            {name: change(value) for name, value in self.aggregated.items()},
            change(self.whole),
            change(self.location),
            change(self.boxes),
            change(self.valid),
            {name: change(value) for name, value in self.numbers.items()},
        )


class Backbone(nn.Module):
    """Convolutions from normalised images (N, 3, H, W) to a map (N, channels, H/stride, W/stride).

    The normalisation is part of it: images come in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        stages: nn.Sequential,
        channels: Sequence[int],
        strides: Sequence[int],
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.stages = stages
        self.level_channels, self.level_strides = tuple(channels), tuple(strides)
        self.channels, self.stride = channels[-1], strides[-1]
        self.pooled = (len(channels) - 1,)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    @property
    def network(self) -> nn.Module:
        return self

    def maps(self, images: Tensor, stages: Sequence[int]) -> list[Tensor]:
        """The maps behind the stages with these numbers, in rising order."""
        x, kept = (images - self.mean) / self.std, []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            kept += [x] * (number in stages)
        return kept


class _Small(SmallBackbone):
    """The demo detector's own light network, so that its weights can start a stream."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config.widths, config.strides)
        self.level_channels = tuple(config.widths)
        self.level_strides = tuple(accumulate(config.strides, operator.mul))
        self.channels, self.stride = self.out_channels, self.level_strides[-1]
        self.pooled = (len(config.widths) - 1,)

    @property
    def network(self) -> nn.Module:
        return self


class _Pyramid(nn.Module):
    """A ResNet or MobileNetV3 with a feature pyramid, the same network as below a detector's heads;
    ROIs are pooled from the level that fits their size."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.network = build_pyramid(config.name)
        self.mobile = config.name.startswith("mobilenet")
        self.channels, self.stride = self.network.out_channels, 32
        self.level_strides = (8, 16, 32) if self.mobile else (4, 8, 16, 32)
        self.level_channels = (self.channels,) * len(self.level_strides)
        self.pooled = tuple(range(len(self.level_strides)))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, -1, 1, 1))

    @property
    def stages(self) -> list[nn.Module]:
        """What can be frozen one after another: stem, four layers, the pyramid."""
        body = self.network.body
        if self.mobile:
            layers = list(body.children())
            parts = [nn.Sequential(*layers[a:b]) for a, b in pairwise(MOBILE_STAGES)]
            return [*parts, self.network.fpn]
        stem = nn.Sequential(body.conv1, body.bn1)
        return [stem, body.layer1, body.layer2, body.layer3, body.layer4, self.network.fpn]

    def maps(self, images: Tensor, levels: Sequence[int]) -> list[Tensor]:
        """The pyramid's levels with these numbers, 0 the finest."""
        found = list(self.network((images - self.mean) / self.std).values())
        return [found[level] for level in levels]


def _vgg16_layers() -> nn.Sequential:
    """VGG-16 without its classifier, which holds nine tenths of the weights, and its last pool."""
    layers = vgg.make_layers(vgg.cfgs["D"])[:30]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):  # as torchvision starts them
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.get_parameter("bias"))
    return layers


def _vgg16(config: BackboneConfig) -> Backbone:
    """VGG-16 up to and with the ReLU of conv5_3; the pools divide it into stages."""
    parts: list[list[nn.Module]] = [[]]
    for layer in _vgg16_layers():
        if isinstance(layer, nn.MaxPool2d):
            parts.append([])
        parts[-1].append(layer)
    stages = nn.Sequential(*(nn.Sequential(*part) for part in parts))
    return Backbone(stages, (64, 128, 256, 512, 512), (1, 2, 4, 8, 16))


def _resnet(config: BackboneConfig) -> Backbone:
    """A ResNet's stem and layers 1 to 3 (stride 16) with frozen batch statistics."""
    net = getattr(torchvision.models, config.name)(weights=None, norm_layer=FrozenBatchNorm2d)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    stages = nn.Sequential(stem, net.layer1, net.layer2, net.layer3)
    return Backbone(stages, (64, 256, 512, 1024), (4, 4, 8, 16))


BACKBONES: dict[str, Callable[[BackboneConfig], Backbone | _Small | _Pyramid]] = {
    "small": _Small,
    "vgg16": _vgg16,
    "resnet50": _resnet,
    "resnet101": _resnet,
    **dict.fromkeys(PYRAMIDS, _Pyramid),
}


def _fully_connected(config: BackboneConfig, channels: int) -> nn.Sequential:
    """FC6 and FC7."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * config.roi_size**2, config.fc),
        nn.ReLU(inplace=True),
        nn.Dropout(config.dropout),
        nn.Linear(config.fc, config.fc),
        nn.ReLU(inplace=True),
    )


class Stream(nn.Module):
    """One of the two CNNs: maps of frames, and features of ROIs unless only maps are wanted.

    `features` gives v_k^n (or f_k^n) (R, C_v) from RoIAlign, FC6 and FC7; `grids` gives the
    mask head's input, `details` that of a detailed one. ROIs are rows (image, x1, y1, x2, y2)
    in network pixels.
    """

    def __init__(
        self,
        config: BackboneConfig,
        described: bool = True,
        detail_stride: int = 0,
    ) -> None:
        """Raises:
        InputError: the network has no map of `detail_stride`.
        """
        super().__init__()
        name = self.network(config)
        self.backbone: Backbone | _Small | _Pyramid = BACKBONES[name](config)
        self.roi_size, self.roi_samples = config.roi_size, config.roi_samples
        self.detail = _detail_stages(self.backbone.level_strides, detail_stride)
        self.kept = tuple(sorted({*self.backbone.pooled, *self.detail}))
        self.head = _fully_connected(config, self.backbone.channels) if described else None
        for stage in list(self.backbone.stages)[: self.frozen_stages(config)]:
            stage.requires_grad_(False)

    @staticmethod
    def network(config: BackboneConfig) -> str:
        """The name of this stream's network."""
        return config.name

    @staticmethod
    def frozen_stages(config: BackboneConfig) -> int:
        """How many leading stages do not learn."""
        return config.frozen_stages

    @property
    def detail_channels(self) -> int:
        """Channels of the map that a detailed mask head sees."""
        return sum(self.backbone.level_channels[stage] for stage in self.detail)

    @property
    def backbone_hash(self) -> str:
        """A hash of the backbone's weights; a detector with the same backbone has the same one."""
        return weights_hash(self.backbone.network)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, C, H/stride, W/stride), the finest first, of images (N, 3, H, W)."""
        return tuple(self.backbone.maps(self.prepare(images), self.kept))

    def prepare(self, images: Tensor) -> Tensor:
        """What the backbone sees of the stream's input."""
        return images

    def shared(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Those of the maps that a detector on the same backbone looks at."""
        return [maps[self.kept.index(stage)] for stage in self.backbone.pooled]

    def grids(self, maps: Sequence[Tensor], rois: Tensor, resolution: int) -> Tensor:
        """(R, C, resolution, resolution) of rois (R, 5), each from the level of its size."""
        pooled = self.backbone.pooled
        if len(pooled) == 1:
            return self._align(maps, pooled[0], rois, resolution)
        levels = pyramid_levels(rois, len(pooled), self.backbone.level_strides[pooled[0]])
        indices = [torch.nonzero(levels == level)[:, 0] for level in range(len(pooled))]
        parts = [  # those of no region, too: all levels take part in every gradient
            self._align(maps, stage, rois[place], resolution)
            for stage, place in zip(pooled, indices, strict=True)
        ]
        return torch.cat(parts)[torch.cat(indices).argsort()]

    def details(self, maps: Sequence[Tensor], rois: Tensor, resolution: int) -> list[Tensor]:
        """The same on the map of the detail stride, where there is one."""
        return [self._align(maps, stage, rois, resolution) for stage in self.detail]

    def _align(self, maps: Sequence[Tensor], stage: int, rois: Tensor, resolution: int) -> Tensor:
        """RoIAlign of rois (R, 5) on the map behind one stage, in full precision: in half
        precision, indices in the frame would be off by a pixel."""
        values, scale = maps[self.kept.index(stage)], 1.0 / self.backbone.level_strides[stage]
        with torch.autocast(values.device.type, enabled=False):
            pooled = roi_align(
                values.float(), rois.float(), resolution, scale, self.roi_samples, aligned=True
            )
        return pooled.to(values.dtype)

    def features(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """(R, C_v) of rois (R, 5)."""
        assert self.head is not None, "this stream makes only maps"
        return self.head(self.grids(maps, rois, self.roi_size))


def _detail_stages(strides: Sequence[int], stride: int) -> tuple[int, ...]:
    """The last stage before the final one whose map has a stride; none for stride 0.

    Raises:
        InputError: there is none.
    """
    found = [stage for stage, own in enumerate(strides[:-1]) if own == stride]
    if stride and not found:
        raise InputError(
            f"aamn.mask_head.detail_stride: 0 or one of {sorted(set(strides[:-1]))}, got {stride}"
        )
    return tuple(found[-1:])


def pyramid_levels(rois: Tensor, levels: int, finest: int = 4) -> Tensor:
    """The level (R,), 0 the one of stride `finest`, for each region (R, 5): as (1) of Lin et al.
    (CVPR 2017), a region of 224 x 224 pixels is pooled at stride 16."""
    sides = (rois[:, 3:] - rois[:, 1:3]).clamp(min=0).prod(1).sqrt()
    level = (4 - math.log2(finest) + torch.log2(sides / 224) + 1e-6).floor()
    return level.clamp(0, levels - 1).long()


class FlowStream(Stream):
    """The stream of flow frames: (x, y) in network pixels become (x, y, magnitude), brought to the
    range of an image, so that weights learned on images can start it."""

    def __init__(
        self,
        config: BackboneConfig,
        described: bool = True,
        detail_stride: int = 0,
    ) -> None:
        super().__init__(config, described, detail_stride)
        self.pixels: Tensor
        self.register_buffer("pixels", torch.tensor(config.flow_range))

    @staticmethod
    def network(config: BackboneConfig) -> str:
        """The name of this stream's network."""
        return config.flow_name or config.name

    @staticmethod
    def frozen_stages(config: BackboneConfig) -> int:
        """How many leading stages do not learn."""
        return config.flow_frozen_stages

    def prepare(self, images: Tensor) -> Tensor:
        flow = images / self.pixels  # (N, 2, H, W)
        magnitude = flow.square().sum(1, keepdim=True).sqrt()
        return torch.cat([flow, magnitude], 1) / 2 + 0.5


def _torchvision_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights from torchvision's cache or the network."""
    model = {"vgg16": "VGG16_Weights", "resnet50": "ResNet50_Weights"}.get(name, "")
    model = model or {"resnet101": "ResNet101_Weights"}.get(name, "")
    if not model:
        raise InputError(f"backbone.weights: there are no ImageNet weights for {name!r}")
    try:
        return getattr(torchvision.models, model).IMAGENET1K_V1.get_state_dict(progress=False)
    except OSError as error:
        raise InputError(
            f"backbone.weights: ImageNet weights of {name} cannot be downloaded ({error}); give a "
            "file with weights, or '' to start at random"
        ) from None


def _torchvision_names(backbone: Backbone | _Small | _Pyramid, name: str) -> dict[str, str]:
    """Our parameter names -> torchvision's, for its classification and detection models."""
    if name == "vgg16":
        convolutions = [key for key in backbone.state_dict() if key.startswith("stages")]
        layers = _vgg16_layers().state_dict()
        return dict(zip(convolutions, (f"features.{key}" for key in layers), strict=True))
    if name in PYRAMIDS:
        return {f"network.{key}": key for key in backbone.network.state_dict()}
    if name == "small":
        return {key: key for key in backbone.state_dict() if key.startswith("stages")}
    parts = {"0.0": "conv1", "0.1": "bn1", "1": "layer1", "2": "layer2", "3": "layer3"}
    names = {}
    for key in backbone.state_dict():
        for ours, theirs in parts.items():
            if key.startswith(f"stages.{ours}."):
                names[key] = theirs + key.removeprefix(f"stages.{ours}")
    return names


def load_backbone(stream: Stream, name: str, weights: str) -> None:
    """Starts a stream's backbone from "imagenet" or a file, and its FC6 and FC7 too where the
    source has layers of their sizes (VGG-16's classifier, a detector's box head).

    Files of torchvision's classifiers and detectors and of this project's detectors are understood;
    what their names begin with does not matter.

    Raises:
        InputError: no such file, or it lacks a layer or holds one of another shape.
    """
    if weights == "imagenet":
        source = _torchvision_weights(name)
    else:
        source = read_weights(weights, "; backbone.weights names it")
    names = _torchvision_names(stream.backbone, name)
    first = next(iter(names.values()))
    prefixes = [key.removesuffix(first) for key in source if key.endswith(first)]
    if not prefixes:
        raise InputError(f"backbone.weights: {weights} holds no {name} (looked for {first})")
    prefix = min(prefixes, key=len)
    own = stream.backbone.state_dict()
    for ours, theirs in names.items():
        found = source.get(prefix + theirs)
        if found is None or found.shape != own[ours].shape:
            got = "nothing" if found is None else tuple(found.shape)
            raise InputError(
                f"backbone.weights: {weights}: wanted {prefix + theirs} of shape "
                f"{tuple(own[ours].shape)}, got {got}"
            )
        own[ours] = found
    stream.backbone.load_state_dict(own)
    if stream.head is not None:
        _load_fully_connected(stream.head, source, weights)


FULLY_CONNECTED = (("classifier.0", "classifier.3"), ("box_head.fc6", "box_head.fc7"))


def _load_fully_connected(head: nn.Sequential, source: dict[str, Tensor], weights: str) -> None:
    """FC6 and FC7, where the source has both at our sizes; says so."""
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    for names in FULLY_CONNECTED:
        found = [_layer(source, name) for name in names]
        fitting = [
            (layer, state)
            for state, layer in zip(found, linear, strict=True)
            if state is not None and state["weight"].shape == layer.weight.shape
        ]
        if len(fitting) == len(linear):
            for layer, state in fitting:
                layer.load_state_dict(state)
            log.info("FC6 and FC7 start from %s too", weights)


def _layer(source: dict[str, Tensor], name: str) -> dict[str, Tensor] | None:
    """Weight and bias of the layer whose name ends so, or None."""
    for key, value in source.items():
        if key == f"{name}.weight" or key.endswith(f".{name}.weight"):
            return {"weight": value, "bias": source[key.removesuffix("weight") + "bias"]}
    return None
