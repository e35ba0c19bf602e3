"""The motions that stand for A2D's actions, and those of cut-outs, which have no pose of their own:
where an actor is in every frame, and its pose."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Territory:
    """The rectangle that an actor's centre may not leave, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def empty(self) -> bool:
        return self.left > self.right or self.top > self.bottom


@dataclass(frozen=True)
class Track:
    """An actor's motion; every array is (N,) float64, one entry a frame.

    x, y: its centre in pixels; heading: 1 looks right, -1 looks left; rotation: radians, clockwise
    on the screen; phase: of the limbs, radians; swing: how far the limbs swing, 0..1; dip: how far
    the head is lowered, 0..1; flap: of the wings, -1 down to 1 up; scale: share of its size, above
    0 to 1; posture: upright, prone, climbing, leaping, airborne or tucked.
    """

    x: np.ndarray
    y: np.ndarray
    heading: np.ndarray
    rotation: np.ndarray
    phase: np.ndarray
    swing: np.ndarray
    dip: np.ndarray
    flap: np.ndarray
    scale: np.ndarray
    posture: str


@dataclass(frozen=True)
class Stage:
    """What a motion is drawn from: the room of the centre, N, the frame's height in pixels."""

    territory: Territory
    frames: int
    height: int
    rng: np.random.Generator

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def spot(self) -> tuple[float, float]:
        """A random place of the territory."""
        room = self.territory
        return self.between(room.left, room.right), self.between(room.top, room.bottom)

    def still(self) -> Track:
        """Standing somewhere without any motion."""
        x, y = self.spot()
        n, facing = self.frames, self.rng.choice((-1.0, 1.0))
        zero = np.zeros(n)
        return Track(
            np.full(n, x),
            np.full(n, y),
            np.full(n, facing),
            rotation=zero,
            phase=zero,
            swing=zero,
            dip=zero,
            flap=np.full(n, -0.3),
            scale=np.ones(n),
            posture="upright",
        )

    def clock(self, period: float) -> np.ndarray:
        """Angles (N,) that turn once in `period` frames, from a random start."""
        return 2 * math.pi * (np.arange(self.frames) / period + self.between(0, 1))


def bounce(start: float, speed: float, frames: int, low: float, high: float) -> np.ndarray:
    """Positions (N,) that move at constant speed and turn at `low` and at `high`."""
    span = high - low
    if span <= 0:
        return np.full(frames, low)
    way = np.mod(start - low + speed * np.arange(frames), 2 * span)
    return low + np.minimum(way, 2 * span - way)


def _travel(stage: Stage, slow: float, fast: float) -> Track:
    """Horizontal motion at a speed between `slow` and `fast` frame heights a frame."""
    track, room = stage.still(), stage.territory
    speed = stage.between(slow, fast) * stage.height * track.heading[0]
    x = bounce(track.x[0], speed, stage.frames + 1, room.left, room.right)
    step = np.diff(x)
    turned = np.where(step == 0, track.heading, np.sign(step))
    return replace(track, x=x[:-1], heading=turned)


def _walking(stage: Stage) -> Track:
    track = _travel(stage, 0.017, 0.021)
    clock = stage.clock(stage.between(9, 11))
    return replace(track, phase=clock, swing=np.full(stage.frames, 0.6))


def _running(stage: Stage) -> Track:
    track = _travel(stage, 0.042, 0.052)
    clock = stage.clock(stage.between(5, 6))
    return replace(track, phase=clock, swing=np.ones(stage.frames))


def _crawling(stage: Stage) -> Track:
    track = _travel(stage, 0.008, 0.011)
    clock = stage.clock(stage.between(9, 11))
    return replace(track, phase=clock, swing=np.full(stage.frames, 0.6), posture="prone")


def _rolling(stage: Stage) -> Track:
    track = _travel(stage, 0.018, 0.026)
    rate = stage.between(0.5, 0.7)
    rotation = stage.between(0, 2 * math.pi) + np.cumsum(rate * track.heading)
    facing = np.full(stage.frames, track.heading[0])
    return replace(track, heading=facing, rotation=rotation, posture="tucked")


def _eating(stage: Stage) -> Track:
    nod = 0.5 - 0.5 * np.cos(stage.clock(stage.between(7, 9)))
    return replace(stage.still(), dip=nod)


def _jumping(stage: Stage) -> Track:
    track, room = stage.still(), stage.territory
    hop = np.abs(np.sin(stage.clock(2 * stage.between(8, 10))))
    rise = stage.between(0.18, 0.24) * stage.height
    ground = min(room.bottom, max(track.y[0], room.top + rise))
    flap = 2 * hop - 1
    return replace(track, y=ground - rise * hop, swing=hop, flap=flap, posture="leaping")


def _climbing(stage: Stage) -> Track:
    track, room = stage.still(), stage.territory
    rise = stage.between(0.014, 0.018) * stage.height
    rise = min(rise, (room.bottom - room.top) / stage.frames)
    way = rise * stage.frames
    start = room.bottom - stage.between(0, 1) * (room.bottom - room.top - way)
    clock = stage.clock(stage.between(7, 9))
    return replace(
        track,
        y=start - rise * np.arange(stage.frames),
        phase=clock,
        swing=np.full(stage.frames, 0.8),
        posture="climbing",
    )


def _flying(stage: Stage) -> Track:
    track, room = _travel(stage, 0.030, 0.038), stage.territory
    clock = stage.clock(stage.between(16, 20))
    arc = min(stage.between(0.08, 0.12) * stage.height, (room.bottom - room.top) / 2)
    middle = np.clip(track.y[0], room.top + arc, room.bottom - arc)
    pitch = 0.35 * np.cos(clock) * track.heading
    return replace(
        track,
        y=middle + arc * np.sin(clock),
        rotation=pitch,
        flap=np.sin(stage.clock(stage.between(4, 5))),
        posture="airborne",
    )


def _sideways(stage: Stage, heading: float) -> Track:
    """Steadily to one side, without a turn."""
    track, room = stage.still(), stage.territory
    span = room.right - room.left
    way = min(span, stage.between(0.010, 0.024) * stage.height * stage.frames)
    start = room.left + stage.between(0, 1) * (span - way)
    x = start + way * np.arange(stage.frames) / stage.frames
    return replace(track, x=x if heading > 0 else x[::-1], heading=np.full(stage.frames, heading))


def _leftward(stage: Stage) -> Track:
    return _sideways(stage, -1.0)


def _rightward(stage: Stage) -> Track:
    return _sideways(stage, 1.0)


def _growing(stage: Stage) -> Track:
    scale = np.geomspace(stage.between(0.5, 0.6), 1, stage.frames)
    return replace(stage.still(), scale=scale)


def _shrinking(stage: Stage) -> Track:
    track = _growing(stage)
    return replace(track, scale=track.scale[::-1])


def _spinning(stage: Stage) -> Track:
    track = stage.still()
    rate = stage.between(0.18, 0.32) * stage.rng.choice((-1.0, 1.0))
    rotation = stage.between(0, 2 * math.pi) + rate * np.arange(stage.frames)
    return replace(track, rotation=rotation, posture="tucked")


_MOTIONS: dict[str, Callable[[Stage], Track]] = {
    "climbing": _climbing,
    "crawling": _crawling,
    "eating": _eating,
    "flying": _flying,
    "jumping": _jumping,
    "rolling": _rolling,
    "running": _running,
    "walking": _walking,
    "leftward": _leftward,
    "rightward": _rightward,
    "growing": _growing,
    "shrinking": _shrinking,
    "spinning": _spinning,
    "none": Stage.still,
}


def perform(action: str, stage: Stage) -> Track:
    """A random performance of `action` that keeps the centre inside the stage's territory."""
    return _MOTIONS[action](stage)


def enter(track: Track, frame: int, half_width: float, width: int) -> Track:
    """The same motion, but out of the picture until `frame` and then coming in at walking or
    running speed from the side that the actor turns its back to."""
    speed = float(np.abs(np.diff(track.x)).max())
    heading = track.heading[0]
    gone = half_width + speed
    edge = -gone if heading > 0 else width + gone
    x = edge + heading * speed * (np.arange(track.x.size) - frame)
    return replace(track, x=x, heading=np.full(track.x.size, heading))
