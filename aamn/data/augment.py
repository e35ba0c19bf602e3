"""Random changes of a training sample: mirror image, colours, smaller frames."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aamn.config.schema import AugmentConfig
from aamn.data.words import Vocabulary
from aamn.structures import Clip, Proposals, Query, Sample, Target
from proposals.errors import InputError

_SIDE_WORD = re.compile(r"\b(left|right)(?=(most|wards?|side|hand)?\b)", re.IGNORECASE)


@dataclass(frozen=True)
class Change:
    """One draw: whether to mirror, factors of brightness, contrast and saturation, and how much
    smaller the frame lies in the network's square (1: as large as fits)."""

    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    shrink: float = 1.0


UNCHANGED = Change()


def check_augmentation(config: AugmentConfig) -> None:
    """Raises InputError for a strength outside its range."""
    for name, limit in (("flip", 1.0), ("colour", 1.0), ("scale", 0.9)):
        value = getattr(config, name)
        if not 0 <= value <= limit:
            raise InputError(f"augment.{name}: wanted 0 to {limit}, got {value}")


def draw_change(config: AugmentConfig, seed: tuple[int, ...]) -> Change:
    """The change that `seed` (run, epoch, sample) stands for, always the same one."""
    uniform = np.random.default_rng(seed).random(5).tolist()
    brightness, contrast, saturation = (
        1 + config.colour * (2 * value - 1) for value in uniform[1:4]
    )
    shrink = 1 - config.scale * uniform[4]
    return Change(uniform[0] < config.flip, brightness, contrast, saturation, shrink)


def change_sample(sample: Sample, change: Change, vocabulary: Vocabulary) -> Sample:
    """The sample with new colours and, where the change says so, mirrored: frames, flow, boxes,
    masks, and left and right in its sentences. `shrink` is the loader's affair."""
    sample = replace(sample, clip=_coloured(sample.clip, change))
    if not change.flip:
        return sample
    width = sample.clip.geometry.original_size[1]
    return replace(
        sample,
        clip=_mirrored_clip(sample.clip),
        proposals=sample.proposals and _mirrored_proposals(sample.proposals, width),
        queries=tuple(_mirrored_query(query, vocabulary) for query in sample.queries),
        targets=tuple(_mirrored_target(target, width) for target in sample.targets),
    )


def swap_sides(text: str) -> str:
    """The sentence as it is said of the mirror image: left and right change places."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        swapped = "right" if word.lower() == "left" else "left"
        return swapped.upper() if word.isupper() else _like(word, swapped)

    return _SIDE_WORD.sub(other, text)


def _like(word: str, swapped: str) -> str:
    return swapped.capitalize() if word[0].isupper() else swapped


def _coloured(clip: Clip, change: Change) -> Clip:
    if (change.brightness, change.contrast, change.saturation) == (1.0, 1.0, 1.0):
        return clip
    h, w = clip.geometry.content_size
    rgb = clip.rgb.clone()
    content = rgb[..., :h, :w] * change.brightness
    mean = content.mean()
    content = (content - mean) * change.contrast + mean
    grey = content.mean(1, keepdim=True)
    rgb[..., :h, :w] = ((content - grey) * change.saturation + grey).clamp(0, 1)
    return replace(clip, rgb=rgb)


def _mirrored_clip(clip: Clip) -> Clip:
    h, w = clip.geometry.content_size
    rgb = clip.rgb.clone()
    rgb[..., :h, :w] = rgb[..., :h, :w].flip(-1)
    flow = clip.flow
    if flow is not None:
        flow = flow.clone()
        flow[..., :h, :w] = flow[..., :h, :w].flip(-1)
        flow[:, 0].neg_()
    return replace(clip, rgb=rgb, flow=flow)


def mirror_boxes(boxes: Tensor, width: int) -> Tensor:
    """Boxes (..., 4) of the mirror image of a frame `width` pixels wide."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], -1)


def _mirrored_proposals(proposals: Proposals, width: int) -> Proposals:
    boxes = mirror_boxes(proposals.boxes, width) * proposals.valid[..., None]
    return replace(proposals, boxes=boxes)


def _mirrored_query(query: Query, vocabulary: Vocabulary) -> Query:
    return vocabulary.encode(swap_sides(query.text))


def _mirrored_target(target: Target, width: int) -> Target:
    return replace(target, box=mirror_boxes(target.box, width), mask=target.mask.flip(-1))
