"""Planning a video: who is in it, what they do where, and what is said about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aamn.data.synthetic.actors import BUILDS, extents
from aamn.data.synthetic.config import SyntheticConfig
from aamn.data.synthetic.labels import ACTIONS_OF, ACTORS, COLOURS
from aamn.data.synthetic.motions import Stage, Territory, enter, perform
from aamn.data.synthetic.rendering import (
    Actor,
    Camera,
    Occluder,
    Rendering,
    frame_layers,
    make_camera,
    make_occluder,
    render,
    visible_masks,
)
from aamn.data.synthetic.sentences import Sentence, describe
from proposals.errors import InputError

# Kinds of consecutive videos: sentences about bystanders, which are of the appearance kind, make
# up for its rarity.
_PROGRAMME = ("motion", "location", "appearance", "motion", "location", "motion", "location")
_ATTEMPTS = 400
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True)
class Cast:
    """An actor before it has a place: `lane` is the part of the picture it keeps to."""

    name: str
    colour: str
    action: str
    lane: str = ""
    late: bool = False


@dataclass(frozen=True)
class Scene:
    """A planned video: everything but its pixels. `actors` come from back to front; `annotated`
    holds 0-based frames; size is (H, W); `kind` is what most of its sentences rest on."""

    video_id: str
    seed: int
    kind: str
    size: tuple[int, int]
    annotated: tuple[int, ...]
    actors: tuple[Actor, ...]
    occluders: tuple[Occluder, ...]
    camera: Camera
    sentences: tuple[Sentence, ...]

    @property
    def frames(self) -> int:
        return len(self.camera.shake)


def video_seed(seed: int, split: str, index: int) -> int:
    """The seed of one video, 64 bits of a hash, so that no two videos share one."""
    digest = hashlib.sha256(f"{seed}/{split}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def video_id(seed: int, index: int) -> str:
    """Eleven letters like YouTube's; every ninth id begins with a dash, every fourth has a _."""
    rng = np.random.default_rng((seed, 1))
    letters = [_LETTERS[i] for i in rng.integers(len(_LETTERS), size=11)]
    if index % 9 == 2:
        letters[0] = "-"
    if index % 4 == 1:
        letters[rng.integers(1, 11)] = "_"
    return "".join(letters)


def _same_look(name: str, rng: np.random.Generator) -> tuple[str, str]:
    return name, str(rng.choice(list(COLOURS)))


def _motion_cast(name: str, rng: np.random.Generator) -> list[Cast]:
    """Two or three of the same look who do different things."""
    name, colour = _same_look(name, rng)
    actions = rng.permutation(ACTIONS_OF[name])[: 2 + (rng.random() < 0.25)]
    return [Cast(name, colour, str(action)) for action in actions]


def _location_cast(name: str, rng: np.random.Generator) -> list[Cast]:
    """Two or three of the same look who do the same thing in different places."""
    name, colour = _same_look(name, rng)
    action = str(rng.choice(ACTIONS_OF[name]))
    if action in ("running", "flying"):
        across = False
    elif action in ("climbing", "jumping"):
        across = True
    else:
        across = rng.random() < 0.6
    lanes = ("top", "bottom") if not across else ("left", "right")
    if across and rng.random() < 0.5 and BUILDS[name].half_width * BUILDS[name].largest < 0.24:
        lanes = ("left", "middle", "right")
    return [Cast(name, colour, action, lane) for lane in lanes]


def _appearance_cast(name: str, rng: np.random.Generator) -> list[Cast]:
    """Two or three who do the same thing and differ in class, colour or both."""
    action = str(rng.choice(ACTIONS_OF[name]))
    first = Cast(name, str(rng.choice(list(COLOURS))), action)
    cast = [first]
    for _ in range(1 + (rng.random() < 0.4)):
        same = rng.choice(("name", "colour", "neither"), p=(0.45, 0.3, 0.25))
        cast.append(_bystander(cast, first, same, rng))
    if len(cast) == 2 and action in ("walking", "running") and rng.random() < 0.5:
        cast[1] = replace(cast[1], late=True)
    return cast


_CASTS = {"motion": _motion_cast, "location": _location_cast, "appearance": _appearance_cast}


def _bystander(cast: Sequence[Cast], beside: Cast, same: str, rng: np.random.Generator) -> Cast:
    """Someone who does what `beside` does and looks like nobody of the cast."""
    names = [n for n in ACTORS if beside.action in ACTIONS_OF[n]]
    looks = [
        (name, colour)
        for name in names
        for colour in COLOURS
        if (name, colour) not in {(c.name, c.colour) for c in cast}
        and (same != "name" or name == beside.name)
        and (same != "colour" or (colour == beside.colour and name != beside.name))
    ]
    name, colour = looks[rng.integers(len(looks))]
    return Cast(name, colour, beside.action)


def _choose_cast(kind: str, name: str, rng: np.random.Generator) -> list[Cast]:
    cast = _CASTS[kind](name, rng)
    if kind != "appearance":
        for _ in range(min(4 - len(cast), int(rng.choice((0, 1, 2), p=(0.4, 0.45, 0.15))))):
            beside = cast[rng.integers(len(cast))]
            same = rng.choice(("name", "colour", "neither"), p=(0.3, 0.2, 0.5))
            if same == "colour" and sum(beside.action in a for a in ACTIONS_OF.values()) < 2:
                same = "name"
            cast.append(_bystander(cast, beside, same, rng))
    return cast


# Bounds of the centre as shares of the width or height.
_LANES = {
    "": (0.0, 0.0, 1.0, 1.0),
    "left": (0.0, 0.0, 0.38, 1.0),
    "right": (0.62, 0.0, 1.0, 1.0),
    "middle": (0.44, 0.0, 0.56, 1.0),
    "top": (0.0, 0.0, 1.0, 0.40),
    "bottom": (0.0, 0.60, 1.0, 1.0),
}


def _place(cast: Cast, size: tuple[int, int], annotated, frames: int, rng) -> Actor | None:
    """The cast member with a size and a motion, or None when it finds no room."""
    height, width = size
    build = BUILDS[cast.name]
    unit = rng.uniform(build.smallest, build.largest) * height
    half_width, half_height = (half * unit for half in extents(cast.name, cast.action))
    left, top, right, bottom = _LANES[cast.lane]
    room = Territory(
        max(left * width, half_width),
        max(top * height, half_height),
        min(right * width, width - half_width),
        min(bottom * height, height - half_height),
    )
    if room.empty:
        return None
    track = perform(cast.action, Stage(room, frames, height, rng))
    if cast.late:
        track = enter(track, annotated[0] + 1, half_width, width)
    return Actor(0, cast.name, cast.colour, cast.action, unit, track)


def _annotated(frames: int, rng: np.random.Generator) -> tuple[int, ...]:
    """3 to 5 evenly spaced frames, 0-based; mostly 3, as in A2D."""
    count = int(rng.choice((3, 4, 5), p=(0.8, 0.08, 0.12)))
    step = frames // (count + 1)
    return tuple(step * k - 1 for k in range(1, count + 1))


def centre_of(mask: np.ndarray) -> np.ndarray:
    """The middle (x, y) of a mask's bounding box, in pixels."""
    ys, xs = np.nonzero(mask)
    return np.array(((xs.min() + xs.max() + 1) / 2, (ys.min() + ys.max() + 1) / 2))


def _seen(actors, occluders, camera, annotated, size) -> dict[int, np.ndarray] | None:
    """The centres (A, 2) of all actors, or None when one is hidden too much to be meant.

    An actor that has not come in yet has nan there.
    """
    centres = {actor.instance: np.full((len(annotated), 2), np.nan) for actor in actors}
    for place, frame in enumerate(annotated):
        layers = frame_layers(actors, occluders, camera, frame)
        masks = visible_masks(layers, len(actors), *size)
        for actor, layer, mask in zip(actors, layers, masks, strict=False):
            share = mask.sum() / max(1, (layer.cover >= 0.5).sum())
            late = not 0 < actor.track.x[0] < size[1]
            if late and share == 0:
                continue
            if share < 0.6:
                return None
            centres[actor.instance][place] = centre_of(mask)
    return centres


def _say(actors, core: int, kind: str, centres, size, rng) -> list[Sentence] | None:
    """At least one sentence about every actor, or None when one of them is impossible."""
    sentences = []
    for actor in sorted(actors, key=lambda a: a.instance):
        own = kind if actor.instance < core else "appearance"
        sentence = describe(actor, own, actors, centres, size, rng)
        if sentence is None:
            return None
        sentences.append(sentence)
    return sentences


def plan_scene(config: SyntheticConfig, split: str, index: int) -> Scene:
    """The scene of one video of a split, the same on every call.

    Raises:
        InputError: when the picture is too small for its actors.
    """
    seed = video_seed(config.seed, split, index)
    rng = np.random.default_rng(seed)
    kind = _PROGRAMME[index % len(_PROGRAMME)]
    name = ACTORS[(index + index // len(_PROGRAMME)) % len(ACTORS)]
    size = config.height, config.width
    frames = int(rng.integers(config.min_frames, config.max_frames + 1))
    annotated = _annotated(frames, rng)
    for attempt in range(_ATTEMPTS):
        cast = _choose_cast(kind, name, rng)
        core = (
            len(cast)
            if kind == "appearance"
            else sum(c.name == cast[0].name and c.colour == cast[0].colour for c in cast)
        )
        placed = [_place(member, size, annotated, frames, rng) for member in cast]
        if any(actor is None for actor in placed):
            continue
        actors = [replace(actor, instance=i) for i, actor in enumerate(placed)]
        actors.sort(key=lambda actor: actor.track.y.max() + actor.size / 2)
        camera = make_camera(rng, frames, config.height, config.shake, config.drift)
        most = max(0, config.max_occluders - attempt // 40)
        occluders = [make_occluder(rng, *size) for _ in range(rng.integers(most + 1))]
        centres = _seen(actors, occluders, camera, annotated, size)
        sentences = centres and _say(actors, core, kind, centres, size, rng)
        if sentences:
            return Scene(
                video_id(seed, index),
                seed,
                kind,
                size,
                annotated,
                tuple(actors),
                tuple(occluders),
                camera,
                tuple(sentences),
            )
    raise InputError(
        f"{config.width} x {config.height} pixels leave no room for the actors of video {index} of "
        f"{split}: choose a larger width or height"
    )


def render_scene(scene: Scene, noise: float) -> Rendering:
    """The scene's pixels and visible masks, the same on every call."""
    rng = np.random.default_rng((scene.seed, 2))
    return render(scene.actors, scene.occluders, scene.camera, scene.size, rng, noise)
