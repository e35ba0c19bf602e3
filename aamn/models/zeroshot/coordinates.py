"""Where tubes are and how they move, as numbers about -1 to 1 that rules for words can weigh."""

from __future__ import annotations

import torch
from torch import Tensor

from aamn.models.zeroshot.sentences import MOTION, PLACE

STEPS = {"still": 0.01, "slow": 0.05, "fast": 0.15}  # of the box's side a frame: typical of each
ALIKE = 0.3  # of the best confidence: boxes below it are nobody's neighbours


def places(boxes: Tensor, sizes: Tensor, classes: Tensor, valid: Tensor) -> Tensor:
    """(B, K, 8), in the order of PLACE: boxes (B, K, 4) of the mean frame and sizes (B, 2) in the
    same pixels, height first; classes (B, K, C) say who is of one class, valid (B, K)."""
    height, width = sizes[:, :1], sizes[:, 1:]
    x = (boxes[..., 0] + boxes[..., 2]) / width - 1
    y = (boxes[..., 1] + boxes[..., 3]) / height - 1
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1).prod(-1).sqrt()
    size = 2 * sides / (height * width).sqrt() - 1
    alike = _alike(classes, valid)
    near = {name: among(values, alike) for name, values in (("x", x), ("y", y), ("size", size))}
    found = {
        "x": x,
        "y": y,
        "near_x": near["x"],
        "near_y": near["y"],
        "middle": 1 - 2 * x.abs(),
        "near_middle": _between(x, alike),
        "size": size.clamp(-1, 1),
        "near_size": near["size"],
    }
    return torch.stack([found[name] for name in PLACE], -1)


def _alike(classes: Tensor, valid: Tensor) -> Tensor:
    """(B, K, K) bool: whether tube j is of tube i's class, and sure enough to be a neighbour."""
    confidence, label = classes.max(-1)
    same = (label[:, :, None] == label[:, None, :]) & valid[:, None, :]
    best = (confidence[:, None, :] * same).amax(-1, keepdim=True)
    own = torch.eye(label.shape[1], dtype=torch.bool, device=label.device)
    return (same & (confidence[:, None, :] >= ALIKE * best)) | own


def among(values: Tensor, alike: Tensor) -> Tensor:
    """Where values (B, K) lie between the least, -1, and the greatest, 1, of those alike
    (B, K, K); 0 where all are equal."""
    far = torch.finfo(values.dtype).max
    others = values[:, None, :].expand_as(alike)
    low = others.masked_fill(~alike, far).amin(-1)
    high = others.masked_fill(~alike, -far).amax(-1)
    spread = high - low
    return torch.where(spread > 1e-3, 2 * (values - low) / spread.clamp(min=1e-3) - 1, 0.0)


def _between(x: Tensor, alike: Tensor) -> Tensor:
    """1 in the middle of those alike, -1 at their ends; 0 where there are fewer than three."""
    place = 1 - 2 * among(x, alike).abs()
    return torch.where(alike.sum(-1) > 2, place, 0.0)


def motions(boxes: Tensor, camera: Tensor, energy: Tensor) -> Tensor:
    """(B, K, 6), in the order of MOTION: boxes (B, K, T, 4) and the camera's own motion (B, T, 2)
    in network pixels a frame; energy (B, K), the length of the flow inside the tube beside the
    camera's, in sides of the box."""
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1).prod(-1).sqrt()  # (B, K, T)
    if boxes.shape[2] > 1:
        steps = centres.diff(dim=2) - camera[:, None, :-1]
        way = (steps / sides[..., :-1, None]).mean(2)
        grows = sides.log().diff(dim=2).mean(2)
    else:
        way, grows = torch.zeros_like(centres[:, :, 0]), torch.zeros_like(sides[..., 0])
    speed = torch.maximum(energy, way.norm(dim=-1))
    steps_of = torch.tensor([*STEPS.values()], device=boxes.device).log()
    near = (-2 * (speed.clamp(min=1e-4).log()[..., None] - steps_of).square()).softmax(-1)
    found = {
        "right": (way[..., 0] / STEPS["slow"]).tanh(),
        "down": (way[..., 1] / STEPS["slow"]).tanh(),
        "grows": (grows / STEPS["still"]).tanh(),
        **{name: near[..., place] for place, name in enumerate(STEPS)},
    }
    return torch.stack([found[name] for name in MOTION], -1)
