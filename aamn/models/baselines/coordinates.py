"""The map C of where each cell lies, so that "left" and "in the middle" can be told."""

from __future__ import annotations

import torch
from torch import Tensor

CHANNELS = 8


def coordinates(maps: Tensor) -> Tensor:
    """C for maps (..., h, w): (8, h, w) with xmin, ymin, xmax, ymax, xctr, yctr of each cell, the
    whole map being [-1, 1], then 1/w and 1/h (ACGA, Sec. 3.1)."""
    h, w = maps.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(h, device=maps.device, dtype=maps.dtype),
        torch.arange(w, device=maps.device, dtype=maps.dtype),
        indexing="ij",
    )
    left, top = 2 * x / w - 1, 2 * y / h - 1
    right, bottom = 2 * (x + 1) / w - 1, 2 * (y + 1) / h - 1
    sides = [left, top, right, bottom, (left + right) / 2, (top + bottom) / 2]
    return torch.stack([*sides, torch.full_like(x, 1 / w), torch.full_like(x, 1 / h)])


def with_coordinates(maps: Tensor) -> Tensor:
    """Maps (N, C, h, w) or (N, C, T, h, w) with C behind their channels, the same at all times."""
    where = coordinates(maps)
    if maps.dim() == 5:
        where = where[:, None]
    return torch.cat([maps, where.expand(len(maps), -1, *maps.shape[2:])], 1)
