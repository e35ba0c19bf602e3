"""Drawing a scene: textured background, actors, occluders, camera shake, and the visible masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from aamn.data.synthetic.actors import Actor
from aamn.data.synthetic.layers import Layer, rasterise


@dataclass(frozen=True)
class Occluder:
    """A post or a bush in front of the actors: polygons in pixels and their RGB."""

    polygons: tuple[np.ndarray, ...]
    colours: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Camera:
    """Offsets (N, 2) in pixels: `shake` moves everything, `drift` background and occluders."""

    shake: np.ndarray
    drift: np.ndarray


@dataclass(frozen=True)
class Rendering:
    """frames (N, H, W, 3) uint8 RGB and visible masks (n, N, H, W) bool, one row an actor."""

    frames: np.ndarray
    masks: np.ndarray


def frame_layers(
    actors: Sequence[Actor], occluders: Sequence[Occluder], camera: Camera, frame: int
) -> list[Layer]:
    """The layers of one frame from back to front: first the actors, then the occluders."""
    shake = camera.shake[frame]
    ground = shake + camera.drift[frame]
    layers = [actor.figure.layer(actor, frame, shake) for actor in actors]
    return layers + [rasterise(o.polygons, o.colours, ground) for o in occluders]


def visible_masks(layers: Sequence[Layer], count: int, height: int, width: int) -> np.ndarray:
    """Masks (count, H, W) bool of the first `count` layers: the pixels that they cover by half or
    more and no later layer does."""
    masks = np.zeros((count, height, width), bool)
    for place, layer in enumerate(layers):
        picture, inside = layer.placed(height, width)
        solid = layer.cover[inside] >= 0.5
        rows, columns = picture
        masks[:place, rows, columns] &= ~solid
        if place < count:
            masks[place, rows, columns] = solid
    return masks


def _noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth noise (H, W) of mean 0 and deviation 1 whose blobs are about `cell` pixels wide."""
    grid = rng.standard_normal((math.ceil(height / cell) + 3, math.ceil(width / cell) + 3))
    grown = cv2.resize(grid, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
    grown = grown[:height, :width]
    return (grown - grown.mean()) / grown.std()


Tones = tuple[tuple[tuple[int, int, int], tuple[int, int, int]], ...]

# Pairs of muted RGB tones for the ground, and for what may be seen above a horizon.
_GROUNDS = (
    ((98, 122, 84), (128, 138, 98)),  # meadow
    ((164, 148, 118), (142, 128, 104)),  # sand
    ((112, 112, 116), (134, 130, 128)),  # street
    ((104, 128, 146), (132, 150, 160)),  # water
    ((134, 108, 86), (156, 130, 106)),  # wooden floor
)
_BACKDROPS = (
    ((150, 142, 136), (128, 124, 126)),  # wall
    ((150, 170, 182), (172, 184, 188)),  # sky
    ((92, 108, 92), (112, 120, 100)),  # trees
)


def _patch(
    rng: np.random.Generator, tones: Tones, height: int, width: int, unit: float
) -> np.ndarray:
    """Noise at four scales between and around two tones; `unit` is a pixel at 120 pixels height."""
    first, second = (np.asarray(tone, float) for tone in tones[rng.integers(len(tones))])
    mix = np.clip(0.5 + 0.3 * _noise(rng, height, width, 30 * unit), 0, 1)[..., None]
    scales = ((9, 14), (8, 6), (6, 2.5))
    grain = np.sum([s * _noise(rng, height, width, cell * unit) for s, cell in scales], axis=0)
    return first * mix + second * (1 - mix) + grain[..., None]


def texture(rng: np.random.Generator, height: int, width: int, unit: float) -> np.ndarray:
    """A background (H, W, 3) float32 RGB in 0..255, half of the time with a horizon."""
    picture = _patch(rng, _GROUNDS, height, width, unit)
    if rng.random() < 0.5:
        horizon = rng.uniform(0.25, 0.5) * height + 2 * unit * _noise(rng, 1, width, 20 * unit)
        above = np.arange(height)[:, None] < horizon
        backdrop = _patch(rng, _BACKDROPS, height, width, unit)
        picture = np.where(above[..., None], backdrop, picture)
    return picture.astype(np.float32)


def make_occluder(rng: np.random.Generator, height: int, width: int) -> Occluder:
    """A post of the picture's full height, or a bush at its lower edge."""
    x = rng.uniform(0.1, 0.9) * width
    if rng.random() < 0.5:
        half = rng.uniform(0.015, 0.03) * height
        lean = rng.uniform(-0.05, 0.05) * height
        left, right, low = x - half, x + half, 1.2 * height
        post = np.array(((left + lean, -0.2 * height), (right + lean, -0.2 * height)))
        foot = np.array(((right, low), (left, low)))
        shade = np.array(((x + 0.3 * half + lean, -0.2 * height), (x + 0.3 * half, low)))
        edge = np.concatenate((post[1:], foot[:1], shade[::-1]))
        return Occluder((np.concatenate((post, foot)), edge), ((104, 88, 70), (80, 68, 54)))
    polygons, colours = [], []
    for _ in range(12):
        centre = np.array((x, height)) + rng.normal(0, (0.07, 0.05)) * height
        radius = rng.uniform(0.04, 0.075) * height
        angle = np.linspace(0, 2 * math.pi, 14, endpoint=False)
        rough = radius * (1 + 0.18 * rng.standard_normal(14))[:, None]
        polygons.append(centre + rough * np.stack((np.cos(angle), np.sin(angle)), 1))
        tint = int(rng.integers(-14, 15))
        colours.append((62 + tint, 86 + tint, 52 + tint))
    return Occluder(tuple(polygons), tuple(colours))


def make_camera(
    rng: np.random.Generator, frames: int, height: int, shake: float, drift: float
) -> Camera:
    """A camera that trembles by `shake` and whose background moves by up to `drift` frame heights
    a frame."""
    tremble = rng.standard_normal((frames + 4, 2)) * shake * height
    smooth = (tremble[:-4] + 2 * tremble[1:-3] + 2 * tremble[2:-2] + tremble[3:-1]) / math.sqrt(10)
    velocity = rng.uniform(-drift, drift, 2) * height * (1, 0.4)
    return Camera(smooth, np.arange(frames)[:, None] * velocity)


# A background (H, W, 3) float32 RGB in 0..255 of a height and width in pixels, random; the last
# number is a pixel at 120 pixels height.
Backdrop = Callable[[np.random.Generator, int, int, float], np.ndarray]


def render(
    actors: Sequence[Actor],
    occluders: Sequence[Occluder],
    camera: Camera,
    size: tuple[int, int],
    rng: np.random.Generator,
    noise: float,
    backdrop: Backdrop = texture,
) -> Rendering:
    """All frames of a scene of `size` (H, W) in pixels; the actors come from back to front.

    `noise` is the standard deviation of the sensor's noise in grey levels.
    """
    height, width = size
    frames = len(camera.shake)
    path = camera.shake + camera.drift
    margin = np.ceil(np.abs(path).max(0)).astype(int) + 1
    ground = backdrop(rng, height + 2 * margin[1], width + 2 * margin[0], height / 120)
    gain = rng.uniform(0.94, 1.06)
    pictures = np.empty((frames, height, width, 3), np.uint8)
    masks = np.empty((len(actors), frames, height, width), bool)
    for frame in range(frames):
        dx, dy = path[frame] - margin
        move = np.array(((1, 0, dx), (0, 1, dy)), np.float32)
        picture = cv2.warpAffine(ground, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
        layers = frame_layers(actors, occluders, camera, frame)
        for layer in layers:
            place, inside = layer.placed(height, width)
            clear = 1 - layer.cover[inside][..., None]
            picture[place] = picture[place] * clear + 255 * layer.rgb[inside]
        picture = picture * gain + rng.normal(0, noise, picture.shape)
        pictures[frame] = np.clip(np.round(picture), 0, 255)
        masks[:, frame] = visible_masks(layers, len(actors), height, width)
    return Rendering(pictures, masks)
