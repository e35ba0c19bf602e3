"""Planning a video: its cast finds places, and sentences are made that are true of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aamn.data.synthetic.actors import BUILDS, Actor
from aamn.data.synthetic.casts import PROGRAMME, Cast, choose_cast, kind_of
from aamn.data.synthetic.config import SyntheticConfig
from aamn.data.synthetic.motions import Stage, Territory, enter, perform
from aamn.data.synthetic.rendering import (
    Backdrop,
    Camera,
    Occluder,
    Rendering,
    frame_layers,
    make_camera,
    make_occluder,
    render,
    visible_masks,
)
from aamn.data.synthetic.sentences import KINDS, Sentence, View, describe
from aamn.data.synthetic.studio import DRAWINGS, Studio
from proposals.errors import InputError

_ATTEMPTS = 600
_ATTEMPTS_A_CAST = 30  # patience, so that casts that need much room are not the rarer for it
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

# The least share of an actor that shows in an annotated frame; less is allowed to one that is
# just coming in.
_LEAST_VISIBLE = 0.7
_LEAST_VISIBLE_LATE = 0.3

# Bounds of the centre (left, top, right, bottom) as shares of the picture.
_LANES = {
    "": (0.0, 0.0, 1.0, 1.0),
    "left": (0.0, 0.0, 0.38, 1.0),
    "right": (0.62, 0.0, 1.0, 1.0),
    "far left": (0.0, 0.0, 0.28, 1.0),
    "far right": (0.72, 0.0, 1.0, 1.0),
    "middle": (0.44, 0.0, 0.56, 1.0),
    "top": (0.0, 0.0, 1.0, 0.40),
    "bottom": (0.0, 0.60, 1.0, 1.0),
}


@dataclass(frozen=True)
class Scene:
    """A planned video: everything but its pixels.

    size is (H, W); `annotated` holds 0-based frames; `actors` come from back to front; `kind` is
    what the sentences about its distractors rest on.
    """

    video_id: str
    seed: int
    kind: str
    size: tuple[int, int]
    annotated: tuple[int, ...]
    actors: tuple[Actor, ...]
    occluders: tuple[Occluder, ...]
    camera: Camera
    sentences: tuple[Sentence, ...]
    backdrop: Backdrop

    @property
    def frames(self) -> int:
        return len(self.camera.shake)


def video_seed(seed: int, split: str, index: int) -> int:
    """The seed of one video, 64 bits of a hash, so that no two videos of a corpus share one."""
    digest = hashlib.sha256(f"{seed}/{split}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def make_video_id(seed: int, index: int) -> str:
    """Eleven letters like YouTube's; every ninth id begins with a dash, every fourth has a _."""
    rng = np.random.default_rng((seed, 1))
    letters = [_LETTERS[i] for i in rng.integers(len(_LETTERS), size=11)]
    if index % 9 == 2:
        letters[0] = "-"
    if index % 4 == 1:
        letters[rng.integers(1, 11)] = "_"
    return "".join(letters)


def _annotated(frames: int, rng: np.random.Generator) -> tuple[int, ...]:
    """3 to 5 evenly spaced frames, 0-based; mostly 3, as in A2D."""
    count = int(rng.choice((3, 4, 5), p=(0.8, 0.08, 0.12)))
    step = frames // (count + 1)
    return tuple(step * k - 1 for k in range(1, count + 1))


@dataclass(frozen=True)
class _Set:
    """What is fixed before the cast comes: size (H, W), the annotated frames, camera, occluders,
    and what the actors may look like."""

    size: tuple[int, int]
    annotated: tuple[int, ...]
    camera: Camera
    occluders: tuple[Occluder, ...]
    studio: Studio
    rng: np.random.Generator

    def place(self, member: Cast, instance: int) -> Actor | None:
        """The member with a size and a motion, or None when its lane is too narrow."""
        height, width = self.size
        build, figure = BUILDS[member.name], self.studio.figure(member, self.rng)
        unit = self.rng.uniform(build.smallest, build.largest) * height
        half_width, half_height = (
            half * unit for half in figure.extents(member.name, member.action)
        )
        left, top, right, bottom = _LANES[member.lane]
        room = Territory(
            max(left * width, half_width),
            max(top * height, half_height),
            min(right * width, width - half_width),
            min(bottom * height, height - half_height),
        )
        if room.empty:
            return None
        stage = Stage(room, len(self.camera.shake), height, self.rng)
        track = perform(member.action, stage)
        if member.late:
            track = enter(track, self.annotated[0] + 1, half_width, width)
        return Actor(instance, member.name, member.colour, member.action, unit, track, figure)

    def centres(self, actors: Sequence[Actor], late: Sequence[bool]) -> dict[int, np.ndarray]:
        """Instance -> centres (A, 2) of the visible masks' boxes in the annotated frames, nan
        where a late actor is out of the picture; empty when somebody is hidden too much."""
        found = np.full((len(actors), len(self.annotated), 2), np.nan)
        for place, frame in enumerate(self.annotated):
            layers = frame_layers(actors, self.occluders, self.camera, frame)
            masks = visible_masks(layers, len(actors), *self.size)
            for number, mask in enumerate(masks):
                share = mask.sum() / (layers[number].cover >= 0.5).sum()
                if share >= (_LEAST_VISIBLE_LATE if late[number] else _LEAST_VISIBLE):
                    found[number, place] = _centre(mask)
                elif share > 0 or not late[number]:
                    return {}
        if np.isnan(found).all((1, 2)).any():
            return {}
        return {actor.instance: own for actor, own in zip(actors, found, strict=True)}


def _centre(mask: np.ndarray) -> np.ndarray:
    """The middle (x, y) of a mask's box in pixels."""
    ys, xs = np.nonzero(mask)
    return np.array(((xs.min() + xs.max() + 1) / 2, (ys.min() + ys.max() + 1) / 2))


def _foot(actor: Actor) -> float:
    """The lowest point of an actor's way: who stands lower stands in front."""
    return float(actor.track.y.max() + BUILDS[actor.name].half_height * actor.size)


def _tell(cast: Sequence[Cast], view: View, index: int, rng: np.random.Generator) -> list[Sentence]:
    """A sentence about every actor, in the cast's order; empty when one of them is impossible."""
    sentences = []
    for member, actor in zip(cast, view.actors, strict=True):
        kind = kind_of(index, cast, member)
        sentence = describe(actor, kind, view, rng)
        if sentence is None:
            return []
        sentences.append(sentence)
    return sentences


def _tell_more(
    view: View, said: Sequence[Sentence], count: int, rng: np.random.Generator
) -> list[Sentence]:
    """Up to `count` further sentences about every actor, of any kind, each said once."""
    texts, more = {sentence.text for sentence in said}, []
    for actor in view.actors:
        kinds = [KINDS[i] for _ in range(count) for i in rng.permutation(len(KINDS))]
        found = [describe(actor, kind, view, rng) for kind in kinds]
        new = {s.text: s for s in found if s is not None and s.text not in texts}
        texts |= new.keys()
        more += list(new.values())[:count]
    return more


def plan_scene(config: SyntheticConfig, split: str, index: int, studio: Studio = DRAWINGS) -> Scene:
    """The scene of one video of a split, the same on every call.

    Casts and places are drawn until everybody can be seen and told apart in every annotated frame.

    Raises:
        InputError: when the picture is too small for its actors.
    """
    seed = video_seed(config.seed, split, index)
    rng = np.random.default_rng(seed)
    size = config.height, config.width
    frames = int(rng.integers(config.min_frames, config.max_frames + 1))
    annotated = _annotated(frames, rng)
    camera = make_camera(rng, frames, config.height, config.shake, config.drift)
    for attempt in range(_ATTEMPTS):
        if attempt % _ATTEMPTS_A_CAST == 0:
            cast = choose_cast(index, rng, studio.repertoire)
        count = rng.integers(config.max_occluders + 1)
        occluders = tuple(make_occluder(rng, *size) for _ in range(count))
        scenery = _Set(size, annotated, camera, occluders, studio, rng)
        placed = [scenery.place(member, number) for number, member in enumerate(cast)]
        actors = [actor for actor in placed if actor is not None]
        backdrop = studio.backdrop(actors)
        if len(actors) < len(cast) or backdrop is None:
            continue
        ordered = sorted(actors, key=_foot)
        centres = scenery.centres(ordered, [cast[a.instance].late for a in ordered])
        view = View(actors, centres, size, studio.wording)
        sentences = centres and _tell(cast, view, index, rng)
        if sentences:
            if split == "train" and config.sentences > 1:
                telling = np.random.default_rng((seed, 3))
                sentences = [
                    *sentences,
                    *_tell_more(view, sentences, config.sentences - 1, telling),
                ]
            return Scene(
                make_video_id(seed, index),
                seed,
                PROGRAMME[index % len(PROGRAMME)],
                size,
                annotated,
                tuple(ordered),
                occluders,
                camera,
                tuple(sentences),
                backdrop,
            )
    raise InputError(
        f"{config.width} x {config.height} pixels leave no room for the actors of video {index} of "
        f"{split}: choose another width or height"
    )


def render_scene(scene: Scene, noise: float) -> Rendering:
    """The scene's pixels and visible masks, the same on every call."""
    rng = np.random.default_rng((scene.seed, 2))
    return render(
        scene.actors, scene.occluders, scene.camera, scene.size, rng, noise, scene.backdrop
    )
