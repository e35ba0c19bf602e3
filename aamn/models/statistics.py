"""Beyond the paper: what a tube's pixels say without a network, its colours and how it moves.

Both look at the tube's mask rather than its box, and neither at a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from aamn.models.encoded import ClipBatch
from aamn.models.modules import Modules
from aamn.tubes.linking import LinkedTubes

GRID = 14  # cells a side of the pixels that are looked at
LEVELS = 4  # of each colour channel in the histogram
RAW_STRIDE = 2  # network pixels a cell of a raw map
# what is looked at -> the name of its raw map
PIXELS = {"rgb": "pixels:rgb", "flow": "pixels:flow"}


@dataclass(frozen=True)
class TubePixels:
    """What B clips' tubes show: colours (B, K, 3, g, g) in [0, 1] of the key frame's box, `masks`
    (B, K, g, g) in [0, 1] of the same box, `flow` (B, K, T, 2, g, g) in network pixels, the
    camera's left out, boxes (B, K, T, 4) in network pixels, linked (B, K, T) whether a proposal is
    there."""

    colours: Tensor
    masks: Tensor
    flow: Tensor
    boxes: Tensor
    linked: Tensor


def raw_map(images: Tensor) -> Tensor:
    """(N, C, H / 2, W / 2) of images or flow (N, C, H, W): the pixels themselves."""
    return F.avg_pool2d(images, RAW_STRIDE)


def crop(maps: Tensor, frames: Tensor, boxes: Tensor) -> Tensor:
    """(N, C, g, g) of boxes (N, 4), network pixels, of frames (N,) of a raw map (F, C, h, w)."""
    rois = torch.cat([frames[:, None].to(boxes.dtype), boxes], 1).float()
    with torch.autocast(maps.device.type, enabled=False):
        return roi_align(maps.float(), rois, GRID, 1 / RAW_STRIDE, 1, aligned=True)


@dataclass(frozen=True)
class RawMaps:
    """What statistics are measured on: frames (F, 3, h, w) in [0, 1] and flow (F, 2, h, w) in
    network pixels, both at 1 / RAW_STRIDE of the network's size."""

    colours: Tensor
    flow: Tensor


BoxLogits = Callable[[Tensor, Tensor], Tensor]  # frames (N,), network boxes (N, 4) -> (N, g, g)


@torch.no_grad()
def tube_pixels(
    tubes: LinkedTubes, batch: ClipBatch, raw: RawMaps, key: int, logits: BoxLogits
) -> TubePixels:
    """What the tubes show: colours and mask of the key frame, flow of all frames; `logits` of the
    masks."""
    b, k, t, _ = tubes.boxes.shape
    frames = torch.arange(b * t, device=tubes.boxes.device).view(b, 1, t).expand(b, k, t)
    boxes = tubes.boxes * batch.factors[:, None, None]
    keys, own = frames[..., key].flatten(), boxes[:, :, key].flatten(0, 1)
    masks = F.adaptive_avg_pool2d(logits(keys, own).float().sigmoid(), GRID)
    flow = raw.flow.float()
    flow = flow - camera_motion(flow, batch.content.repeat_interleave(t, 0))[..., None, None]
    return TubePixels(
        crop(raw.colours, keys, own).unflatten(0, (b, k)),
        masks.unflatten(0, (b, k)),
        crop(flow, frames.flatten(), boxes.flatten(0, 2)).unflatten(0, (b, k, t)),
        boxes,
        tubes.linked,
    )


def camera_motion(flow: Tensor, content: Tensor) -> Tensor:
    """(F, 2): the median of raw flow maps (F, 2, h, w) where the frame lies, which covers the box
    content (F, 4) in network pixels."""
    x = torch.arange(flow.shape[-1], device=flow.device) * RAW_STRIDE
    y = torch.arange(flow.shape[-2], device=flow.device) * RAW_STRIDE
    inside = (x < content[:, 2:3])[:, None, :] & (y < content[:, 3:4])[:, :, None]
    return flow.masked_fill(~inside[:, None], torch.nan).flatten(2).nanmedian(-1).values


def colour_histogram(colours: Tensor, weights: Tensor) -> Tensor:
    """(N, LEVELS ** 3), adding up to 1: the shares of colours (N, 3, g, g) in [0, 1], each shared
    between the levels next to it, by weights (N, g, g)."""
    levels = torch.arange(LEVELS, device=colours.device)
    offset = (colours.clamp(0, 1) * (LEVELS - 1))[:, :, None] - levels[:, None, None]
    near = (1 - offset.abs()).clamp(min=0)  # (N, 3, LEVELS, g, g)
    red, green, blue = near.flatten(3).unbind(1)
    found = torch.einsum("nap,nbp,ncp,np->nabc", red, green, blue, weights.flatten(1))
    return found.flatten(1) / weights.sum((1, 2)).clamp(min=1e-6)[:, None]


def _weighted(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (..., C) of values (..., C, g, g) by weights (..., 1, g, g)."""
    total = weights.sum((-2, -1)).clamp(min=1e-6)
    mean = (values * weights).sum((-2, -1)) / total
    spread = ((values - mean[..., None, None]).square() * weights).sum((-2, -1)) / total
    return mean, spread.clamp(min=1e-12).sqrt()


class Colours(nn.Module):
    """Histogram, mean and spread of the colours under the mask: (B, K, channels)."""

    channels = LEVELS**3 + 6

    def __init__(self, frames: int) -> None:
        super().__init__()

    @staticmethod
    def numbers(pixels: TubePixels) -> Tensor:
        """What is measured: (B, K, channels)."""
        colours, weights = pixels.colours.flatten(0, 1), pixels.masks.flatten(0, 1)
        mean, spread = _weighted(colours, weights[:, None])
        found = torch.cat([4 * colour_histogram(colours, weights), 2 * mean - 1, spread], -1)
        return found.unflatten(0, pixels.masks.shape[:2])

    def forward(self, numbers: Tensor) -> Tensor:
        """The numbers as they are."""
        return numbers


class Motion(nn.Module):
    """The tube's way and the flow under its mask, frame by frame: (B, K, channels)."""

    channels, hidden, measured = 64, 128, 22  # of what comes out, between, of a frame

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(frames * self.measured, self.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(self.hidden, self.channels),
        )

    @staticmethod
    def numbers(pixels: TubePixels) -> Tensor:
        """What is measured: (B, K, T, measured), zeros in a frame without the tube."""
        frames = torch.cat([_flow_numbers(pixels), _way_numbers(pixels)], -1)
        return frames * pixels.linked[..., None]

    def forward(self, numbers: Tensor) -> Tensor:
        """(B, K, channels) of what is measured."""
        return self.layers(numbers.flatten(2))


def _side(boxes: Tensor) -> Tensor:
    """The geometric mean (...) of the sides of boxes (..., 4), pixels."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=1).prod(-1).sqrt()


def _flow_numbers(pixels: TubePixels) -> Tensor:
    """(B, K, T, 15): mean, spread and length of the flow, and its mean in each half of the box, in
    tenths of the box's side, and the mean in pixels; a root brings all to one range."""
    weights = pixels.masks[:, :, None, None] + 1e-3
    mean, spread = _weighted(pixels.flow, weights)
    half = GRID // 2
    halves = [
        _weighted(pixels.flow[part], weights[part])[0]
        for part in (
            (..., slice(half), slice(None)),
            (..., slice(half, None), slice(None)),
            (..., slice(None), slice(half)),
            (..., slice(None), slice(half, None)),
        )
    ]
    relative = torch.cat([mean, spread, mean.norm(dim=-1, keepdim=True), *halves], -1)
    scaled = relative * 10 / _side(pixels.boxes)[..., None]
    return _root(torch.cat([scaled, mean], -1))


def _way_numbers(pixels: TubePixels) -> Tensor:
    """(B, K, T, 7): where the box's centre lies from the one of the tube's middle frame, relative
    to its side and in tens of pixels, its width and height beside that one's, and a 1."""
    boxes = pixels.boxes
    key = boxes[:, :, boxes.shape[2] // 2, None]
    way = ((boxes[..., :2] + boxes[..., 2:]) - (key[..., :2] + key[..., 2:])) / 2
    sizes = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1)
    grown = (sizes / (key[..., 2:] - key[..., :2]).clamp(min=1)).log()
    one = torch.ones_like(grown[..., :1])
    return torch.cat([4 * way / _side(key)[..., None], way / 10, 4 * grown, one], -1)


def _root(values: Tensor) -> Tensor:
    """The square root of the size, with its sign; its slope stays finite at zero."""
    return values / (values.abs() + 0.05).sqrt()


Statistic = Colours | Motion
STATISTICS: dict[str, type[Statistic]] = {"colour": Colours, "motion": Motion}


def build_statistics(names: str, frames: int) -> Modules[Statistic]:
    """The statistics of these names, such as "colour+motion", of tubes of so many frames."""
    return Modules({name: STATISTICS[name](frames) for name in names.split("+") if name})
