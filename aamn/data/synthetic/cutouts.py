"""Actors cut out of real sequences, and what is left of the sequences without them.

Both are made once, small, into one HDF5 file, which is then all that a collage needs:

    actors/SEQUENCE.OBJECT    rgba (F, h, w, 4) uint8, the actor's anchor in the middle; time (F,);
                              half (F, 2) and reach (F,) in units of the actor's size
    backgrounds/SEQUENCE      rgb (B, h, w, 3) uint8; real (B, h, w) bool, where no actor was;
                              time (B,)

Times are shares of what is used of a sequence, 0 to below 1, so that spans can be kept apart.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import h5py
import numpy as np

from aamn.data.synthetic.davis import DavisSequence
from proposals.files import hdf5_aside, open_hdf5
from proposals.workers import worker_pool

log = logging.getLogger("aamn")

GREY_WEIGHTS = np.array((0.299, 0.587, 0.114), np.float32)  # of R, G, B

_UNIT = 0.6  # an actor's size in the file, in heights of the corpus' pictures
_BACKGROUND = 1.9  # a background's height in the file, likewise
_BACKGROUNDS = 16  # frames of a sequence that become backgrounds, at most
_LEAST_SIDE = 40  # the longer side of the smallest actor worth cutting out, in pixels
_THIN = 0.045  # what is thinner is cut off (ropes, wires), in roots of the mask's area
_LEAST_KEPT = 0.75  # the least share of a mask, after that, that hangs together
_NEIGHBOURS = 7  # frames to either side by whose areas an actor's distance is judged
_LEAST_AREA = 0.8  # of those before and after; less is an actor half hidden
_MOST_HIDDEN = 0.4  # the largest share of a background that may be painted over


@dataclass(frozen=True, eq=False)
class Cutout:
    """An actor in F frames of a sequence, all at one size: rgba (F, h, w, 4) uint8, its anchor in
    the middle; time (F,); half (F, 2), the largest distance of its pixels from the anchor in x and
    in y, and reach (F,), in any direction, in units of its size, which is `unit` pixels of rgba."""

    actor: str
    sequence: str
    unit: float
    rgba: np.ndarray
    time: np.ndarray
    half: np.ndarray
    reach: np.ndarray

    @cached_property
    def light(self) -> tuple[float, float]:
        """The grey levels of its dark and its light parts over all frames."""
        grey = self.rgba[..., :3] @ GREY_WEIGHTS
        low, high = np.percentile(grey[self.rgba[..., 3] > 127], (4, 96))
        return float(low), float(high)

    def during(self, start: float, end: float) -> Cutout:
        """What of it lies in a span of time, the end left out."""
        inside = (self.time >= start) & (self.time < end)
        chosen = (values[inside] for values in (self.rgba, self.time, self.half, self.reach))
        return Cutout(self.actor, self.sequence, self.unit, *chosen)


@dataclass(frozen=True, eq=False)
class Background:
    """B frames of a sequence without its actors: rgb (B, h, w, 3) uint8; real (B, h, w) bool, False
    where something is painted over; time (B,)."""

    sequence: str
    rgb: np.ndarray
    real: np.ndarray
    time: np.ndarray

    def during(self, start: float, end: float) -> Background:
        """What of it lies in a span of time, the end left out."""
        inside = (self.time >= start) & (self.time < end)
        return Background(self.sequence, self.rgb[inside], self.real[inside], self.time[inside])


@dataclass(frozen=True)
class Cutouts:
    """All that collages are made of."""

    actors: tuple[Cutout, ...]
    backgrounds: tuple[Background, ...]


def _solid(mask: np.ndarray) -> np.ndarray | None:
    """The mask (H, W) bool without ropes and crumbs; None where the actor is too small, in pieces,
    or cut by the picture's edge."""
    area = int(mask.sum())
    if not area:
        return None
    side = max(3, int(_THIN * area**0.5) | 1)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    padded = np.pad(mask.astype(np.uint8), side)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, brush)[side:-side, side:-side]
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(opened)
    if count < 2:
        return None
    best = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, w, h, whole = stats[best]
    inside = x > 0 and y > 0 and x + w < mask.shape[1] and y + h < mask.shape[0]
    if not inside or max(w, h) < _LEAST_SIDE or whole < _LEAST_KEPT * opened.sum():
        return None
    return pieces == best


@dataclass(frozen=True, eq=False)
class _Sight:
    """An actor in one frame: its pixels in the box (x, y, w, h) around it."""

    index: int
    rgb: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int]

    @property
    def area(self) -> float:
        return float(self.mask.sum())


def _sight(index: int, frame: np.ndarray, mask: np.ndarray) -> _Sight | None:
    solid = _solid(mask)
    if solid is None:
        return None
    x, y, w, h = cv2.boundingRect(solid.astype(np.uint8))
    inside = slice(y, y + h), slice(x, x + w)
    return _Sight(index, frame[inside], solid[inside], (x, y, w, h))


def _usual(area: np.ndarray) -> np.ndarray:
    """Each area's median over its neighbours in time, as many before as after."""
    last = len(area) - 1
    reach = [min(i, last - i, _NEIGHBOURS) for i in range(len(area))]
    return np.array([np.median(area[i - n : i + n + 1]) for i, n in enumerate(reach)])


def _unhidden(area: np.ndarray) -> np.ndarray:
    """Which areas (n,) do not fall short both of what was before and of what comes after."""
    reach = _NEIGHBOURS
    before = [np.quantile(area[max(0, i - reach) : i + 1], 0.8) for i in range(len(area))]
    after = [np.quantile(area[i : i + reach + 1], 0.8) for i in range(len(area))]
    return area >= _LEAST_AREA * np.minimum(before, after)


def _pasted(sight: _Sight, scale: float, half: tuple[int, int]) -> np.ndarray:
    """rgba (2 * half height, 2 * half width, 4) uint8 of an actor, its box's centre in the middle;
    colours come from the actor's own pixels alone."""
    h, w = max(1, round(sight.box[3] * scale)), max(1, round(sight.box[2] * scale))
    weight = sight.mask.astype(np.float32)
    cover = cv2.resize(weight, (w, h), interpolation=cv2.INTER_AREA)
    paint = cv2.resize(sight.rgb * weight[..., None], (w, h), interpolation=cv2.INTER_AREA)
    rgb = paint / np.maximum(cover, 1e-3)[..., None]
    picture = np.zeros((2 * half[1], 2 * half[0], 4), np.uint8)
    top, left = half[1] - h // 2, half[0] - w // 2
    inside = picture[top : top + h, left : left + w]
    inside[..., :3] = np.clip(np.round(rgb), 0, 255)
    inside[..., 3] = np.round(255 * cover)
    return picture


def _distances(picture: np.ndarray, unit: float) -> tuple[float, float, float]:
    """The farthest pixel from the middle in x, in y and in any direction, in units."""
    ys, xs = np.nonzero(picture[..., 3])
    x = np.abs(xs + 0.5 - picture.shape[1] / 2) + 0.5
    y = np.abs(ys + 0.5 - picture.shape[0] / 2) + 0.5
    return float(x.max() / unit), float(y.max() / unit), float(np.hypot(x, y).max() / unit)


def _cutout(sequence: DavisSequence, actor: str, sights: Sequence[_Sight], unit: int) -> Cutout:
    """The actor at one size, however far from the camera it was: the root of the usual area is the
    same in all frames, and the usual longer side is the unit."""
    whole = _unhidden(np.array([sight.area for sight in sights]))
    kept = [sight for sight, fine in zip(sights, whole, strict=True) if fine]
    root = np.sqrt(_usual(np.array([sight.area for sight in kept])))
    sides = np.array([sight.box[2:] for sight in kept], float)
    scale = unit * np.median(root / sides.max(1)) / root
    widest = np.ceil((sides * scale[:, None]).max(0) / 2).astype(int) + 2
    half = int(widest[0]), int(widest[1])
    rgba = np.stack([_pasted(sight, s, half) for sight, s in zip(kept, scale, strict=True)])
    far = np.array([_distances(picture, unit) for picture in rgba])
    time = np.arange(len(kept)) / len(kept)
    return Cutout(actor, sequence.name, unit, rgba, time, far[:, :2], far[:, 2])


def _without_actors(
    frame: np.ndarray, mask: np.ndarray, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """The frame at `height` pixels, painted over where objects are, and where it is real."""
    width = max(1, round(frame.shape[1] * height / frame.shape[0]))
    small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    side = max(3, height // 20 | 1)
    share = cv2.resize((mask > 0).astype(np.float32), (width, height))
    brush = np.ones((side, side), np.uint8)
    hidden = cv2.dilate((np.asarray(share) > 0.05).astype(np.uint8), brush)
    return cv2.inpaint(small, hidden, 3, cv2.INPAINT_TELEA), np.asarray(hidden) == 0


def _background(
    sequence: DavisSequence, views: Sequence[tuple[int, np.ndarray, np.ndarray]]
) -> Background:
    """The sequence without its actors; views hold index, picture and where it is real."""
    shown = [view for view in views if view[2].mean() >= 1 - _MOST_HIDDEN]
    rgb, real = (np.array([view[part] for view in shown]) for part in (1, 2))
    time = np.array([view[0] for view in shown], float) / len(sequence)
    return Background(sequence.name, rgb, real, time)


def cut(sequence: DavisSequence, height: int) -> Cutouts:
    """What a sequence gives for collages of `height` pixels: its actors and its background.

    Raises:
        InputError: as `DavisSequence.read`.
    """
    cv2.setNumThreads(1)
    step = max(1, -(-len(sequence) // _BACKGROUNDS))
    sights: dict[int, list[_Sight]] = {one.number: [] for one in sequence.objects}
    views = []
    for index in range(len(sequence)):
        frame, mask = sequence.read(index)
        for number, seen in sights.items():
            sight = _sight(index, frame, mask == number)
            seen += [sight] if sight is not None else []
        if index % step == 0:
            views.append((index, *_without_actors(frame, mask, round(_BACKGROUND * height))))
    actors = tuple(
        _cutout(sequence, one.actor, sights[one.number], round(_UNIT * height))
        for one in sequence.objects
        if sights[one.number]
    )
    return Cutouts(actors, (_background(sequence, views),))


def _write(file: h5py.File, where: str, arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        packed = "gzip" if array.ndim > 2 else None
        file.create_dataset(f"{where}/{name}", data=array, compression=packed, track_times=False)


def _cut_all(sequences: Sequence[DavisSequence], height: int, workers: int) -> list[Cutouts]:
    if workers < 2:
        return [cut(sequence, height) for sequence in sequences]
    with worker_pool(workers) as pool:
        return list(pool.map(cut, sequences, [height] * len(sequences)))


def write_cutouts(
    path: Path, sequences: Sequence[DavisSequence], height: int, workers: int
) -> None:
    """Writes what all sequences give for collages of `height` pixels into one file.

    Raises:
        InputError: as `cut`.
    """
    found = _cut_all(sequences, height, min(workers, len(sequences)))
    with hdf5_aside(path, durable=False) as file:
        for sequence, cuts in zip(sequences, found, strict=True):
            for one in cuts.actors:
                where = f"actors/{sequence.name}.{one.actor}"
                _write(file, where, {k: getattr(one, k) for k in ("rgba", "time", "half", "reach")})
                file[where].attrs.update(actor=one.actor, sequence=one.sequence, unit=one.unit)
            (background,) = cuts.backgrounds
            arrays = {k: getattr(background, k) for k in ("rgb", "real", "time")}
            _write(file, f"backgrounds/{sequence.name}", arrays)


def read_cutouts(path: Path) -> Cutouts:
    """The file's content.

    Raises:
        InputError: no such file, or a damaged one.
    """
    advice = "delete the corpus and write it again"
    with open_hdf5(path, "file of cut-outs", advice) as file:
        actors = tuple(
            Cutout(
                str(group.attrs["actor"]),
                str(group.attrs["sequence"]),
                float(group.attrs["unit"]),
                *(group[key][()] for key in ("rgba", "time", "half", "reach")),
            )
            for group in file["actors"].values()
        )
        backgrounds = tuple(
            Background(name, *(group[key][()] for key in ("rgb", "real", "time")))
            for name, group in file["backgrounds"].items()
        )
    return Cutouts(actors, backgrounds)
