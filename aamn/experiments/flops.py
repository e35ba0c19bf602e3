"""Counts the multiplications and additions behind one frame, network by network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aamn.config.schema import Config
from aamn.models.aamn import AAMN, as_aamn
from aamn.models.build import build_segmenter
from aamn.models.visual import TubeFeatures
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.torchvision_rcnn import TorchvisionRCNN

Count = Callable[..., tuple[float, Any]]  # what a call of a network costs, and its answer
WORDS = 100  # of the vocabulary; no frame's cost depends on them


def frame_flops(
    config: Config, detector: DetectorConfig | None, size: tuple[int, int]
) -> dict[str, float]:
    """Floating-point operations of each part for one frame of a video of `size` (H0, W0) whose
    index is built, as torch.utils.flop_counter counts them on tensors without memory (matrix
    products and convolutions); a clip's own work is divided among its frames.

    A backbone that both stages have is counted once.
    """
    return _frame_parts(config, detector, size, _count)


def frame_bytes(
    config: Config, detector: DetectorConfig | None, size: tuple[int, int]
) -> dict[str, float]:
    """Bytes that the layers of each part read and write at least for one frame, weights among them,
    as if each layer ran by itself in float32; else as `frame_flops`."""
    return _frame_parts(config, detector, size, _moved)


def _frame_parts(
    config: Config, detector: DetectorConfig | None, size: tuple[int, int], count: Count
) -> dict[str, float]:
    with torch.device("meta"), torch.no_grad():
        segmenter = build_segmenter(config, WORDS).eval()
        counted = _segmenter_parts(as_aamn(segmenter), count)
        if detector is None:
            return counted
        if detector.square == config.aamn.size and detector.name == config.aamn.backbone.name:
            del counted["rgb backbone"]
        return {**_detector_parts(detector, size, count), **counted}


def _moved(network: nn.Module, *inputs: Any) -> tuple[float, Any]:
    """Bytes of one call, and its answer."""
    sizes: list[int] = []

    def add(layer: nn.Module, given: Any, answer: Any) -> None:
        tensors = [*given, answer, *layer.parameters(recurse=False)]
        sizes.extend(value.nbytes for value in tensors if isinstance(value, torch.Tensor))

    layers = [layer for layer in network.modules() if not [*layer.children()]]
    handles = [layer.register_forward_hook(add) for layer in layers]
    answer = network(*inputs)
    for handle in handles:
        handle.remove()
    return float(sum(sizes)), answer


def _count(network: nn.Module, *inputs: Any) -> tuple[float, Any]:
    """Operations of one call, and its answer."""
    with FlopCounterMode(display=False) as counter:
        answer = network(*inputs)
    return float(counter.get_total_flops()), answer


def _segmenter_parts(segmenter: AAMN, count: Count) -> dict[str, float]:
    config, backbone = segmenter.config, segmenter.config.backbone
    k, t = config.proposals, len(segmenter.input_spec.offsets)
    counted: dict[str, float] = {}
    for name, stream in segmenter.streams.items():
        frame = torch.empty(1, 3 if name == "rgb" else 2, *segmenter.input_spec.network_size)
        counted[f"{name} backbone"], _ = count(stream, frame)
        if stream.head is not None:
            regions = torch.empty(1 + k, stream.backbone.channels, *2 * (backbone.roi_size,))
            counted[f"{name} regions"], _ = count(stream.head, regions)
    counted["matching"] = _matching(segmenter, k, count) / t
    side = config.mask_head.resolution
    channels = sum(segmenter.streams[name].backbone.channels for name in segmenter.mask_sources)
    details = segmenter.streams[segmenter.mask_sources[0]].detail_channels
    finer = [torch.empty(k, details, 2 * side, 2 * side)] if details else []
    grids = torch.empty(k, channels, side, side)
    counted["mask head"], _ = count(segmenter.mask_head, grids, *finer)
    return counted


def _matching(segmenter: AAMN, k: int, count: Count) -> float:
    """The layers behind the aggregation, and both modules' side of a clip's tubes."""
    config, total = segmenter.config, 0.0
    for name in segmenter.described:
        layer, tubes = segmenter.tube_layers[name], torch.empty(k + 1, config.backbone.fc)
        total += count(layer, tubes)[0]
    channels = config.tube_channels
    features = TubeFeatures(
        streams={name: torch.empty(1, k, channels) for name in ("rgb", "flow")},
        whole=torch.empty(1, channels),
        location=torch.empty(1, k, 5),
        boxes=torch.empty(1, k, 4),
        valid=torch.ones(1, k, dtype=torch.bool),
    )
    return total + sum(count(part, features)[0] for part in segmenter.heads.values())


def _detector_parts(
    config: DetectorConfig, size: tuple[int, int], count: Count = _count
) -> dict[str, float]:
    classes = config.classes or ("anything",)
    network = build_detector(replace(config, weights="", backbone_from="", classes=classes)).eval()
    if not isinstance(network, TorchvisionRCNN):
        raise NotImplementedError(config.name)
    rcnn = network.rcnn
    backbone, maps = count(rcnn.backbone, torch.empty(1, 3, *_input_size(config, size)))
    levels = list(maps.values()) if isinstance(maps, dict) else [maps]
    proposals, _ = count(rcnn.rpn.head, levels)
    pool = rcnn.roi_heads.box_roi_pool.output_size
    regions = torch.empty(config.proposals, levels[0].shape[1], *pool)
    described, pooled = count(rcnn.roi_heads.box_head, regions)
    judged, _ = count(rcnn.roi_heads.box_predictor, pooled)
    return {
        "detector's backbone": backbone,
        "detector's proposals": proposals,
        "detector's boxes": described + judged,
    }


def _input_size(config: DetectorConfig, size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) that the detector's backbone sees of a video of `size`, padding included."""
    if config.square:
        return config.square, config.square
    scale = min(config.min_size / min(size), config.max_size / max(size))
    h, w = (-(-int(side * scale) // 32) * 32 for side in size)
    return h, w
