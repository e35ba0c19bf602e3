"""The studio of collages: actors cut out of real sequences, before frames of other sequences.

Spans of time keep training, validation and test apart: no frame of an actor is in two of them, and
no sequence is a background of both the training and the test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from aamn.data.datasets.a2d_labels import ACTORS
from aamn.data.datasets.validation import in_validation
from aamn.data.synthetic.actors import Actor
from aamn.data.synthetic.casts import Cast, Repertoire
from aamn.data.synthetic.cutouts import GREY_WEIGHTS, Background, Cutout, Cutouts
from aamn.data.synthetic.labels import COLOURS, MOTIONS
from aamn.data.synthetic.layers import Layer
from aamn.data.synthetic.rendering import Backdrop
from aamn.data.synthetic.sentences import NOUNS, VERBS, Wording
from proposals.errors import InputError

# Shares of the time of an actor's sequence, and of a background's where training and validation
# share it; what lies between two spans is in neither.
SPANS = {"train": (0.0, 0.56), "validation": (0.58, 0.70), "test": (0.72, 1.0)}
_LEAST_FRAMES = 3  # of an actor in a span
_TEST_BACKGROUNDS = 3  # every third sequence, by name, is a background of test videos alone
_OWN_COLOUR = ("", "")  # one actor in five keeps its own colour
_WINDOWS = 24  # of a background, of which the one with the least painted over is shown

_SAID = {
    "leftward": ("moving to the left", "going left", "moving left", "heading to the left"),
    "rightward": ("moving to the right", "going right", "moving right", "heading to the right"),
    "growing": ("coming closer", "approaching", "getting bigger", "growing"),
    "shrinking": ("moving away", "going away", "getting smaller", "shrinking"),
    "spinning": ("spinning", "turning over", "rolling over", "tumbling"),
    "jumping": VERBS["jumping"],
    "none": VERBS["none"],
}
WORDING = Wording(
    {
        **NOUNS,
        "adult": ("man", "person", "guy", "human"),
        "ball": ("ball",),
        "bird": ("bird", "water bird"),
        "car": ("car", "automobile", "auto"),
        "dog": ("dog", "doggy", "pet dog"),
    },
    _SAID,
    {
        ("car", "leftward"): ("driving to the left", *_SAID["leftward"]),
        ("car", "rightward"): ("driving to the right", *_SAID["rightward"]),
        ("car", "none"): ("parked", "standing still", "not moving"),
    },
    ("in the video", "in the picture"),
)

# A colour's darkest and lightest tones, as shares of it: dark orange would be brown. The lightest
# parts shine.
_DARK = {"yellow": 0.72, "orange": 0.7}
_USUALLY_DARK, _BRIGHT = 0.5, 1.1
_SHINE = 0.35
_GREYS = {"black": (6, 78), "white": (150, 255)}  # grey levels of what has no hue
_KEPT = 0.12  # of an actor's own colours


def tinted(rgb: np.ndarray, light: tuple[float, float], colour: str) -> np.ndarray:
    """A picture (h, w, 3) in the shades of one of COLOURS, "" for as it is; float32 in 0..255.
    `light` are the grey levels that become the darkest and the lightest shade."""
    rgb = rgb.astype(np.float32)
    if not colour:
        return rgb
    low, high = light
    share = np.clip((rgb @ GREY_WEIGHTS - low) / max(high - low, 1), 0, 1)[..., None]
    if colour in _GREYS:
        dark, bright = _GREYS[colour]
        return np.repeat(dark + (bright - dark) * share ** (0.7 if bright > 127 else 1.3), 3, 2)
    deep = _DARK.get(colour, _USUALLY_DARK)
    paint = np.clip(np.array(COLOURS[colour]) * (deep + (_BRIGHT - deep) * share), 0, 255)
    shine = _SHINE * np.clip((share - 0.75) / 0.25, 0, 1)
    return (1 - _KEPT) * (paint + (255 - paint) * shine) + _KEPT * rgb


@dataclass(frozen=True, eq=False)
class CutoutFigure:
    """An actor of a real sequence: its frames follow each other to and fro from `start` on, in the
    colour, lightened by `gain`, out of focus by `blur` pixels of the cut-out."""

    cutout: Cutout
    colour: str
    start: int
    gain: float
    blur: float

    def extents(self, actor: str, action: str) -> tuple[float, float]:
        if action == "spinning":
            reach = float(self.cutout.reach.max())
            return reach, reach
        x, y = self.cutout.half.max(0)
        return float(x), float(y)

    def _picture(self, actor: Actor, frame: int) -> np.ndarray:
        """rgba (h, w, 4) float32 in 0..1, colours times coverage. Who does nothing holds still."""
        count = len(self.cutout.rgba)
        turn = (self.start + frame * (actor.action != "none")) % max(2 * count - 2, 1)
        rgba = self.cutout.rgba[min(turn, 2 * count - 2 - turn)]
        cover = rgba[..., 3:].astype(np.float32) / 255
        paint = tinted(rgba[..., :3], self.cutout.light, self.colour) * (self.gain / 255)
        picture = np.concatenate((np.clip(paint, 0, 1) * cover, cover), 2)
        return cv2.GaussianBlur(picture, (0, 0), self.blur) if self.blur > 0.2 else picture

    def layer(self, actor: Actor, frame: int, shift: np.ndarray) -> Layer:
        picture, track = self._picture(actor, frame), actor.track
        h, w = picture.shape[:2]
        scale = actor.size * track.scale[frame] / self.cutout.unit
        centre = np.array((track.x[frame], track.y[frame])) + shift
        side = int(np.ceil(np.hypot(h, w) * scale)) + 2
        low = np.floor(centre - side / 2).astype(int)
        cos, sin = (scale * part(track.rotation[frame]) for part in (np.cos, np.sin))
        heading = track.heading[frame]
        turn = np.array(((heading * cos, -sin), (heading * sin, cos)))
        # A pixel's middle is half a pixel from its corner, in the cut-out as in the layer.
        to = centre - low - 0.5 - turn @ np.array(((w - 1) / 2, (h - 1) / 2))
        move = np.column_stack((turn, to)).astype(np.float32)
        laid = cv2.warpAffine(picture, move, (side, side), flags=cv2.INTER_LINEAR)
        return Layer(int(low[0]), int(low[1]), laid[..., :3], laid[..., 3])


@dataclass(frozen=True, eq=False)
class Scenery:
    """Backgrounds to choose from; each call is a window of one of them, mirrored or not."""

    backgrounds: tuple[Background, ...]

    def __call__(
        self, rng: np.random.Generator, height: int, width: int, unit: float
    ) -> np.ndarray:
        chosen = self.backgrounds[rng.integers(len(self.backgrounds))]
        frame = rng.integers(len(chosen.rgb))
        rgb, real = chosen.rgb[frame], chosen.real[frame]
        size = np.array(rgb.shape[:2])
        largest = float((size / (height, width)).min())
        windows = []
        for _ in range(_WINDOWS):
            h, w = np.array((height, width)) * largest * rng.uniform(0.55, 0.9)
            y, x = rng.uniform(0, size - (h, w))
            window = slice(int(y), int(y + h)), slice(int(x), int(x + w))
            windows.append((1 - real[window].mean(), window))
        _, window = min(windows, key=lambda one: one[0])
        picture = cv2.resize(rgb[window], (width, height), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        return np.clip(picture * np.float32(rng.uniform(0.8, 1.12)), 0, 255)


class CollageStudio:
    """The actors of a span of time, each before backgrounds of sequences that are not its own.

    Raises:
        InputError: too few sequences for that.
    """

    wording = WORDING

    def __init__(self, actors: Sequence[Cutout], backgrounds: Sequence[Background]) -> None:
        self._backgrounds = [one for one in backgrounds if len(one.rgb)]
        names = {one.sequence for one in self._backgrounds}
        self._actors = [
            one for one in actors if len(one.rgba) >= _LEAST_FRAMES and names - {one.sequence}
        ]
        if not self._actors:
            raise InputError(
                "the cut-outs: too few sequences; wanted actors that can be seen whole in "
                f"{_LEAST_FRAMES} frames of each span of time, and a background of another sequence"
            )
        shown = {one.actor for one in self._actors}
        actions = {actor: tuple(MOTIONS) for actor in ACTORS if actor in shown}
        self.repertoire = Repertoire(actions, (*COLOURS, *_OWN_COLOUR))

    def figure(self, member: Cast, rng: np.random.Generator) -> CutoutFigure:
        able = [one for one in self._actors if one.actor == member.name]
        cutout = able[rng.integers(len(able))]
        start = int(rng.integers(len(cutout.rgba)))
        gain, blur = rng.uniform(0.88, 1.08), rng.uniform(0, 0.6)
        return CutoutFigure(cutout, member.colour, start, float(gain), float(blur))

    def backdrop(self, actors: Sequence[Actor]) -> Backdrop | None:
        own = {a.figure.cutout.sequence for a in actors if isinstance(a.figure, CutoutFigure)}
        free = tuple(one for one in self._backgrounds if one.sequence not in own)
        return Scenery(free) if free else None


@dataclass(frozen=True)
class Casting:
    """`validation_share` of the training videos are those that `data.validation_share` of a recipe
    keeps apart; `busy` sequences are no background, actors of `train_only` ones play in training
    videos alone."""

    validation_share: float
    busy: tuple[str, ...]
    train_only: tuple[str, ...]

    def plays(self, actor: Cutout, span: str) -> bool:
        return span == "train" or actor.sequence not in self.train_only


class Collages:
    """The studio of each video of a corpus.

    Raises:
        InputError: too few sequences for one of the splits.
    """

    def __init__(self, cutouts: Cutouts, casting: Casting) -> None:
        self._share = casting.validation_share
        usable = [one for one in cutouts.backgrounds if one.sequence not in casting.busy]
        usable.sort(key=lambda one: one.sequence)
        test = usable[1::_TEST_BACKGROUNDS]
        learned = [one for one in usable if one not in test]
        self._studios = {
            name: CollageStudio(
                [one.during(*SPANS[name]) for one in cutouts.actors if casting.plays(one, name)],
                test if name == "test" else [one.during(*SPANS[name]) for one in learned],
            )
            for name in SPANS
            if self._share or name != "validation"
        }

    def studio(self, split: str, video_id: str) -> CollageStudio:
        """The studio of a video of the split train, test or missed."""
        if split == "test":
            return self._studios["test"]
        apart = in_validation(video_id, self._share)
        return self._studios["validation" if apart else "train"]
