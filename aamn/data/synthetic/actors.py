"""The shapes of the seven actors, as polygons that follow a pose.

Unit of length: the actor's size (an upright figure's height, an animal's or car's length); origin
at its centre, x towards where it looks, y down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from aamn.data.synthetic.labels import COLOURS
from aamn.data.synthetic.layers import Layer, rasterise
from aamn.data.synthetic.motions import Track


class Figure(Protocol):
    """What an actor looks like: the one thing in which drawings and cut-outs differ."""

    def extents(self, actor: str, action: str) -> tuple[float, float]:
        """Half width and half height in units of the actor's size, over the whole action."""

    def layer(self, actor: Actor, frame: int, shift: np.ndarray) -> Layer:
        """The actor in one frame, moved by `shift` (2,) pixels, as if nothing were before it."""


class Drawing:
    """The figure of a class's polygons, painted in the actor's colour."""

    def extents(self, actor: str, action: str) -> tuple[float, float]:
        return extents(actor, action)

    def layer(self, actor: Actor, frame: int, shift: np.ndarray) -> Layer:
        parts = shape(actor, frame)
        rgb = COLOURS[actor.colour]
        return rasterise([p.points for p in parts], [paint(p.paint, rgb) for p in parts], shift)


DRAWING = Drawing()


@dataclass(frozen=True, eq=False)
class Actor:
    """An actor of a scene; `instance` is its id in the annotation, `name` one of A2D's actors,
    `colour` "" where no word names it, `size` the unit of its shape in pixels."""

    instance: int
    name: str
    colour: str
    action: str
    size: float
    track: Track
    figure: Figure = DRAWING


@dataclass(frozen=True)
class Part:
    """A polygon (n, 2) and its paint: base, dark or light (shades of the actor's own colour), or
    one of the fixed paints skin, hair, glass, ink, chalk, beak."""

    points: np.ndarray
    paint: str


@dataclass(frozen=True)
class Build:
    """Size in frame heights (smallest, largest) and the half extents of an upright actor in units
    of its size."""

    smallest: float
    largest: float
    half_width: float
    half_height: float


BUILDS = {
    "adult": Build(0.38, 0.46, 0.26, 0.50),
    "baby": Build(0.27, 0.32, 0.32, 0.50),
    "ball": Build(0.20, 0.26, 0.50, 0.50),
    "bird": Build(0.28, 0.36, 0.50, 0.42),
    "car": Build(0.36, 0.46, 0.50, 0.28),
    "cat": Build(0.32, 0.40, 0.52, 0.40),
    "dog": Build(0.34, 0.44, 0.52, 0.40),
}

# Animals that climb with the whole body upright.
_HEAD_FIRST = ("cat", "bird")

_FIXED_PAINTS = {
    "skin": (232, 190, 160),
    "hair": (70, 45, 30),
    "glass": (175, 205, 215),
    "ink": (15, 15, 15),
    "chalk": (250, 250, 250),
    "beak": (245, 165, 40),
}


def paint(name: str, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """The RGB of a part's paint on an actor of the given colour."""
    if name in _FIXED_PAINTS:
        return _FIXED_PAINTS[name]
    rgb = np.asarray(colour, float)
    if name == "dark":
        rgb = rgb * 0.78 + (18 if rgb.max() < 60 else 0)
    elif name == "light":
        rgb = rgb + (255 - rgb) * 0.22
    red, green, blue = rgb.astype(int).tolist()
    return red, green, blue


def extents(actor: str, action: str) -> tuple[float, float]:
    """Half width and half height in units of the size, over all poses of the action."""
    build = BUILDS[actor]
    if action == "rolling" or (action == "climbing" and actor in _HEAD_FIRST):
        longest = max(build.half_width, build.half_height)
        return longest, longest
    if action == "crawling" and actor in ("adult", "baby"):
        return 0.50, 0.30
    return build.half_width, build.half_height


def _ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> np.ndarray:
    angle = np.linspace(0, 2 * math.pi, 28, endpoint=False)
    dx, dy = rx * np.cos(angle), ry * np.sin(angle)
    cos, sin = math.cos(tilt), math.sin(tilt)
    return np.stack((x + dx * cos - dy * sin, y + dx * sin + dy * cos), 1)


def _capsule(x0: float, y0: float, x1: float, y1: float, r0: float, r1: float) -> np.ndarray:
    """A thick stroke with round ends of radii r0 and r1."""
    along = math.atan2(y1 - y0, x1 - x0)
    half = np.linspace(math.pi / 2, 3 * math.pi / 2, 9) + along
    back = np.stack((x0 + r0 * np.cos(half), y0 + r0 * np.sin(half)), 1)
    front = np.stack((x1 - r1 * np.cos(half), y1 - r1 * np.sin(half)), 1)
    return np.concatenate((back, front))


def _limb(x: float, y: float, angle: float, length: float, radius: float) -> np.ndarray:
    """A limb that hangs from (x, y); a positive angle swings it forward."""
    x1, y1 = x + length * math.sin(angle), y + length * math.cos(angle)
    return _capsule(x, y, x1, y1, radius, radius * 0.8)


def _polygon(*points: tuple[float, float]) -> np.ndarray:
    return np.asarray(points, float)


@dataclass(frozen=True)
class Pose:
    """One frame of a track, without its place."""

    phase: float
    swing: float
    dip: float
    flap: float
    posture: str


@dataclass(frozen=True)
class _Figure:
    """Proportions of a human: radius of the head, hip and shoulder heights, radii, leg length."""

    head: float
    shoulder: float
    hip: float
    torso: float
    limb: float
    leg: float
    arm: float


_ADULT = _Figure(head=0.115, shoulder=-0.22, hip=0.07, torso=0.125, limb=0.062, leg=0.37, arm=0.29)
_BABY = _Figure(head=0.225, shoulder=-0.06, hip=0.18, torso=0.17, limb=0.085, leg=0.24, arm=0.22)


def _head(x: float, y: float, radius: float, baby: bool) -> list[Part]:
    face = Part(_ellipse(x, y, radius, radius), "skin")
    if baby:
        tuft = _capsule(x - 0.02, y - radius, x + 0.05, y - radius * 1.1, 0.03, 0.02)
        eye = _ellipse(x + radius * 0.45, y - 0.02, 0.035, 0.04)
        return [face, Part(tuft, "hair"), Part(eye, "ink")]
    angle = np.linspace(math.pi * 0.75, math.pi * 1.95, 14)
    cap = np.stack((x + radius * 1.08 * np.cos(angle), y + radius * 1.08 * np.sin(angle)), 1)
    return [face, Part(cap, "hair")]


def _arm_angles(pose: Pose) -> tuple[float, float]:
    """(far arm, near arm), radians from hanging down."""
    wave = math.sin(pose.phase) * pose.swing
    if pose.posture == "climbing":
        return math.pi - 0.5 + 0.5 * wave, math.pi - 0.5 - 0.5 * wave
    if pose.posture == "leaping":
        return -0.5 - 1.9 * pose.swing, 0.5 + 1.9 * pose.swing
    return -0.8 * wave - 0.15, 0.8 * wave + 0.15


def _upright(figure: _Figure, pose: Pose, baby: bool) -> list[Part]:
    wave = math.sin(pose.phase) * pose.swing
    stride = 0.75 * wave
    far, near = _arm_angles(pose)
    r, leg = figure.limb, figure.leg
    legs = [0.06 + stride, -0.06 - stride]
    if pose.posture == "leaping":
        legs = [0.15 + 0.6 * pose.swing, -0.15 - 0.6 * pose.swing]
    if pose.posture == "climbing":
        legs = [0.6 + 0.5 * wave, 0.6 - 0.5 * wave]
    nod = 0.5 * figure.head * pose.dip
    top = figure.shoulder - figure.head * 0.95
    if pose.dip > 0:  # eating: the near hand goes from the plate to the mouth and back
        near = 0.5 + 1.7 * pose.dip
    torso = _capsule(0, figure.shoulder + 0.06, 0, figure.hip, figure.torso, figure.torso * 0.85)
    parts = [
        Part(_limb(0.01, figure.shoulder + 0.03, far, figure.arm, r * 0.8), "dark"),
        Part(_limb(0.02, figure.hip, legs[0], leg, r), "dark"),
        Part(torso, "base"),
        Part(_limb(-0.02, figure.hip, legs[1], leg, r), "base"),
    ]
    if baby:
        parts.append(Part(_ellipse(0.06, figure.shoulder + 0.16, 0.09, 0.07), "chalk"))
    parts += _head(nod, top + nod, figure.head, baby)
    parts.append(Part(_limb(0, figure.shoulder + 0.04, near, figure.arm, r * 0.85), "light"))
    return parts


def _on_all_fours(figure: _Figure, pose: Pose, baby: bool) -> list[Part]:
    wave = math.sin(pose.phase) * pose.swing
    r, reach = figure.limb, 0.22
    back, chest = -0.20, 0.16
    torso = _capsule(back, -0.02, chest, -0.04, figure.torso * 0.9, figure.torso * 0.9)
    parts = []
    for paint_name, sign in (("dark", 1), ("base", -1)):
        thigh = _limb(back, 0.0, 0.5 * sign * wave, 0.2, r)
        knee = back + 0.2 * math.sin(0.5 * sign * wave)
        shin = _capsule(knee, 0.22, knee - 0.2, 0.24, r, r * 0.8)
        arm = _limb(chest, 0.0, -0.7 * sign * wave, reach, r)
        group = [Part(thigh, paint_name), Part(shin, paint_name), Part(arm, paint_name)]
        parts += group if sign == 1 else [Part(torso, "base"), *group]
    if baby:
        parts.append(Part(_ellipse(chest + 0.04, 0.05, 0.09, 0.07), "chalk"))
    return parts + _head(chest + figure.head * 0.95, -0.10, figure.head, baby)


def _adult(pose: Pose) -> list[Part]:
    draw = _on_all_fours if pose.posture == "prone" else _upright
    return draw(_ADULT, pose, baby=False)


def _baby(pose: Pose) -> list[Part]:
    draw = _on_all_fours if pose.posture == "prone" else _upright
    return draw(_BABY, pose, baby=True)


def _ball(pose: Pose) -> list[Part]:
    band = _polygon((-0.46, -0.16), (0.46, -0.16), (0.49, 0.08), (-0.49, 0.08))
    spots = [_ellipse(0.26 * math.cos(a), 0.03 + 0.3 * math.sin(a), 0.09, 0.09) for a in (1.0, 2.6)]
    return [
        Part(_ellipse(0, 0, 0.5, 0.5), "base"),
        Part(band, "dark"),
        Part(_ellipse(0.16, -0.3, 0.12, 0.09), "light"),
        *(Part(spot, "light") for spot in spots),
    ]


def _legs(pose: Pose, hips: tuple[float, float], y: float, length: float, r: float) -> list[Part]:
    """The four legs of an animal, the far pair first."""
    wave = math.sin(pose.phase) * pose.swing
    stretch = 0.9 * pose.swing if pose.posture == "leaping" else 0.0
    parts = []
    for shade, sign in (("dark", 1), ("base", -1)):
        parts.append(Part(_limb(hips[0], y, 0.8 * sign * wave - stretch, length, r), shade))
        parts.append(Part(_limb(hips[1], y, -0.8 * sign * wave + stretch, length, r), shade))
    return parts


def _dog(pose: Pose) -> list[Part]:
    low = pose.posture == "prone"
    leg = 0.14 if low else 0.27
    hx, hy = 0.33 + 0.07 * pose.dip, -0.20 + 0.32 * pose.dip + (0.12 if low else 0)
    wag = 0.35 * math.sin(2 * pose.phase) * pose.swing
    tail = _capsule(-0.28, -0.06, -0.42 + 0.05 * wag, -0.30 + 0.1 * wag, 0.045, 0.03)
    legs = _legs(pose, (-0.22, 0.20), 0.06, leg, 0.06)
    body = _capsule(-0.22, 0.0, 0.20, -0.02, 0.13, 0.14)
    return [
        Part(tail, "dark"),
        *legs[:2],
        Part(body, "base"),
        *legs[2:],
        Part(_capsule(0.20, -0.05, hx, hy, 0.09, 0.08), "base"),
        Part(_ellipse(hx, hy, 0.12, 0.11), "base"),
        Part(_capsule(hx + 0.08, hy + 0.03, hx + 0.19, hy + 0.05, 0.06, 0.05), "light"),
        Part(_ellipse(hx + 0.22, hy + 0.03, 0.03, 0.03), "ink"),
        Part(_ellipse(hx - 0.07, hy + 0.04, 0.05, 0.12, 0.2), "dark"),
        Part(_ellipse(hx + 0.05, hy - 0.03, 0.022, 0.022), "chalk"),
    ]


def _cat(pose: Pose) -> list[Part]:
    hx, hy = 0.31 + 0.05 * pose.dip, -0.14 + 0.28 * pose.dip
    sway = 0.06 * math.sin(pose.phase) * pose.swing
    bend = (-0.44, -0.16)
    tip = (-0.36 + sway, -0.38)
    legs = _legs(pose, (-0.20, 0.18), 0.06, 0.24, 0.045)
    ears = [
        _polygon((hx + d - 0.065, hy - 0.08), (hx + d, hy - 0.25), (hx + d + 0.065, hy - 0.08))
        for d in (-0.075, 0.075)
    ]
    return [
        Part(_capsule(-0.26, 0.0, *bend, 0.035, 0.03), "dark"),
        Part(_capsule(*bend, *tip, 0.03, 0.025), "dark"),
        *legs[:2],
        Part(_capsule(-0.20, 0.02, 0.20, 0.0, 0.10, 0.10), "base"),
        *legs[2:],
        Part(_capsule(-0.08, -0.07, -0.06, 0.08, 0.022, 0.022), "dark"),
        Part(_capsule(0.06, -0.08, 0.08, 0.07, 0.022, 0.022), "dark"),
        *(Part(ear, "dark") for ear in ears),
        Part(_ellipse(hx, hy, 0.145, 0.125), "base"),
        Part(_ellipse(hx + 0.08, hy + 0.05, 0.06, 0.045), "light"),
        Part(_ellipse(hx + 0.05, hy - 0.03, 0.025, 0.025), "ink"),
    ]


def _bird(pose: Pose) -> list[Part]:
    hx, hy = 0.25 + 0.08 * pose.dip, -0.17 + 0.34 * pose.dip
    wave = math.sin(pose.phase) * pose.swing
    parts = []
    if pose.posture != "airborne":
        for sign in (1, -1):
            parts.append(Part(_limb(0.02, 0.12, 0.7 * sign * wave, 0.24, 0.028), "beak"))
    up = -0.40 * pose.flap
    wing = _polygon((0.14, -0.04), (-0.04, up - 0.03), (-0.22, up), (-0.20, 0.02), (-0.06, 0.06))
    return [
        *parts,
        Part(_polygon((-0.20, -0.02), (-0.50, -0.10), (-0.47, 0.08), (-0.18, 0.10)), "dark"),
        Part(_ellipse(0.0, 0.02, 0.26, 0.16, -0.25), "base"),
        Part(_capsule(0.16, -0.05, hx, hy, 0.10, 0.09), "base"),
        Part(
            _polygon((hx + 0.07, hy - 0.06), (hx + 0.25, hy + 0.02), (hx + 0.07, hy + 0.07)), "beak"
        ),
        Part(_ellipse(hx, hy, 0.11, 0.11), "base"),
        Part(_ellipse(hx + 0.035, hy - 0.025, 0.025, 0.025), "ink"),
        Part(wing, "dark"),
    ]


def _car(pose: Pose) -> list[Part]:
    body = _polygon(
        (-0.49, -0.02), (-0.44, -0.08), (0.36, -0.07), (0.48, 0.0), (0.50, 0.13), (-0.50, 0.13)
    )
    cabin = _polygon((-0.34, -0.06), (-0.24, -0.26), (0.10, -0.26), (0.26, -0.06))
    panes = (
        _polygon((-0.26, -0.08), (-0.20, -0.21), (-0.08, -0.21), (-0.08, -0.08)),
        _polygon((-0.03, -0.08), (-0.03, -0.21), (0.08, -0.21), (0.18, -0.08)),
    )
    parts = [Part(body, "base"), Part(cabin, "base"), *(Part(pane, "glass") for pane in panes)]
    parts.append(Part(_polygon((-0.49, 0.06), (0.49, 0.06), (0.49, 0.10), (-0.49, 0.10)), "dark"))
    for x in (-0.28, 0.28):
        spoke = pose.phase
        dx, dy = 0.05 * math.cos(spoke), 0.05 * math.sin(spoke)
        parts.append(Part(_ellipse(x, 0.14, 0.115, 0.115), "ink"))
        parts.append(Part(_capsule(x - dx, 0.14 - dy, x + dx, 0.14 + dy, 0.03, 0.03), "chalk"))
    return parts


_SHAPES: dict[str, Callable[[Pose], list[Part]]] = {
    "adult": _adult,
    "baby": _baby,
    "ball": _ball,
    "bird": _bird,
    "car": _car,
    "cat": _cat,
    "dog": _dog,
}


def shape(actor: Actor, frame: int) -> list[Part]:
    """The actor's parts in pixels of the picture, the farthest first."""
    track = actor.track
    pose = Pose(
        float(track.phase[frame]),
        float(track.swing[frame]),
        float(track.dip[frame]),
        float(track.flap[frame]),
        track.posture,
    )
    heading, angle = track.heading[frame], track.rotation[frame]
    if track.posture == "climbing" and actor.name in _HEAD_FIRST:
        angle = angle - heading * 1.2
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array(((cos, -sin), (sin, cos)))
    centre = np.array((track.x[frame], track.y[frame]))
    size = actor.size * track.scale[frame]
    mirror = np.array((heading * size, size))
    return [
        Part((part.points * mirror) @ turn.T + centre, part.paint)
        for part in _SHAPES[actor.name](pose)
    ]
