"""Names of colours: how much of a region has each of the eleven basic ones."""

from __future__ import annotations

import torch
from torch import Tensor

from aamn.models.zeroshot.sentences import COLOURS

# Hue circle in degrees: up to where a name reaches, for colours that are neither grey nor dark.
_HUES = (
    *((14, "red"), (40, "orange"), (68, "yellow"), (165, "green"), (258, "blue")),
    *((300, "purple"), (345, "pink"), (360, "red")),
)
_GREY, _BLACK, _WHITE = 0.18, 0.22, 0.78  # saturation below, value below and above
_BROWN, _FAINT = 0.6, 0.6  # value below which orange, and red of less saturation, is brown
_PINK = 0.55  # saturation below which red is pink


def name_pixels(pixels: Tensor) -> Tensor:
    """The place (...) in `COLOURS` of RGB values (..., 3) in [0, 1]."""
    high, low = pixels.amax(-1), pixels.amin(-1)
    saturation = (high - low) / high.clamp(min=1e-6)
    names = _by_hue(_hue(pixels, high, low))
    place = {name: COLOURS.index(name) for name in COLOURS}
    warm = (names == place["orange"]) | ((names == place["red"]) & (saturation < _FAINT))
    names = names.where(~(warm & (high < _BROWN)), torch.tensor(place["brown"]))
    rosy = (names == place["red"]) & (saturation < _PINK) & (high >= _BROWN)
    names = names.where(~rosy, torch.tensor(place["pink"]))
    grey = (saturation < _GREY) | (high < _BLACK)
    shades = torch.where(high < _BLACK + 0.06, place["black"], place["grey"])
    shades = torch.where(high > _WHITE, place["white"], shades)
    return torch.where(grey, shades, names)


def _hue(pixels: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """Degrees (...), of RGB values (..., 3) with their largest and smallest channel (...)."""
    red, green, blue = pixels.unbind(-1)
    spread = (high - low).clamp(min=1e-6)
    angle = torch.where(
        high == red,
        (green - blue) / spread % 6,
        torch.where(high == green, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    return 60 * angle


def _by_hue(hue: Tensor) -> Tensor:
    ends = torch.tensor([end for end, _ in _HUES], device=hue.device, dtype=hue.dtype)
    names = torch.tensor([COLOURS.index(name) for _, name in _HUES], device=hue.device)
    return names[torch.bucketize(hue, ends).clamp(max=len(_HUES) - 1)]


def colour_shares(crops: Tensor, weights: Tensor) -> Tensor:
    """(N, 11): the share that each colour has of crops (N, 3, g, g), by weights (N, g, g)."""
    names = name_pixels(crops.permute(0, 2, 3, 1).float().cpu()).to(crops.device)
    chosen = torch.nn.functional.one_hot(names.flatten(1), len(COLOURS)).to(weights.dtype)
    found = torch.einsum("npc,np->nc", chosen, weights.flatten(1))
    return found / weights.sum((1, 2)).clamp(min=1e-6)[:, None]
