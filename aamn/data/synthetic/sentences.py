"""Sentences that refer to one actor of a scene, in the manner of A2D Sentences' annotators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aamn.data.synthetic.rendering import Actor

KINDS = ("appearance", "motion", "location")

NOUNS = {
    "adult": ("man", "person", "guy", "adult", "human"),
    "baby": ("baby", "toddler", "infant", "little child"),
    "ball": ("ball", "toy ball", "rubber ball"),
    "bird": ("bird", "parrot", "little bird", "pigeon"),
    "car": ("car", "racing car", "vehicle", "toy car"),
    "cat": ("cat", "kitty", "kitten", "pussycat"),
    "dog": ("dog", "puppy", "doggy", "pet dog"),
}

VERBS = {
    "climbing": ("climbing", "climbing up", "climbing the wall", "clambering up"),
    "crawling": ("crawling", "creeping", "crawling slowly"),
    "eating": ("eating", "eating food", "feeding", "having a meal"),
    "flying": ("flying", "flying in the air", "soaring", "flying around"),
    "jumping": ("jumping", "hopping", "jumping up and down", "leaping"),
    "rolling": ("rolling", "rolling over", "tumbling", "rolling around"),
    "running": ("running", "running fast", "sprinting", "racing"),
    "walking": ("walking", "walking around", "strolling", "taking a walk"),
    "none": ("standing still", "not moving", "staying", "resting"),
}

_OWN_VERBS = {
    ("ball", "jumping"): ("bouncing", "bouncing up and down", "jumping"),
    ("car", "running"): ("driving", "driving fast", "racing", "running"),
    ("car", "none"): ("parked", "parking", "standing still", "not moving"),
    ("ball", "none"): ("lying still", "not moving", "resting"),
}

PLACES = {
    "left": ("on the left", "on the left side", "to the left", "at left"),
    "right": ("on the right", "on the right side", "to the right", "at right"),
    "top": ("at the top", "on the top", "in the upper part"),
    "bottom": ("at the bottom", "on the bottom", "in the lower part"),
    "middle": ("in the middle", "in the center", "in the centre"),
}

_FILLERS = ("on the ground", "on the floor", "in the video", "outside", "in the park")


@dataclass(frozen=True)
class Description:
    """What a sentence says of an actor; None where it says nothing."""

    name: str
    colour: str | None = None
    action: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Sentence:
    """A sentence of the annotation. `look_alikes` counts the actors, the one meant included, that
    fit once the kind's own attribute is left out of the description."""

    instance: int
    text: str
    kind: str
    description: Description
    look_alikes: int


def places(centres: np.ndarray, size: tuple[int, int]) -> list[frozenset[str]]:
    """The words for a place that are true of each of n actors, and of no other, in all frames.

    centres (n, A, 2) x and y in pixels; size (H, W). An actor is on the left when its centre lies
    in the picture's left 45 % and at least 15 % of the width left of everyone else's.
    """
    at = centres / np.array((size[1], size[0]))
    found = []
    for place, own in enumerate(at):
        away = np.delete(at, place, axis=0) - own
        words = set()
        for axis, low, high in ((0, "left", "right"), (1, "top", "bottom")):
            if (away[..., axis] >= 0.15).all() and (own[:, axis] <= 0.45).all():
                words.add(low)
            if (away[..., axis] <= -0.15).all() and (own[:, axis] >= 0.55).all():
                words.add(high)
        sides = away[..., 0]
        between = (sides >= 0.15).all(1).any() and (sides <= -0.15).all(1).any()
        apart = (np.abs(sides) >= 0.15).all()
        if between and apart and (np.abs(own[:, 0] - 0.5) <= 0.15).all():
            words.add("middle")
        found.append(frozenset(words))
    return found


def fits(description: Description, actor: Actor) -> bool:
    """Whether the description is true of the actor, its place left aside."""
    wanted = (description.name, description.colour, description.action)
    given = (actor.name, actor.colour, actor.action)
    return all(w is None or w == g for w, g in zip(wanted, given, strict=True))


def look_alikes(description: Description, kind: str, actors: Sequence[Actor]) -> list[Actor]:
    """The actors that fit once the attribute that `kind` rests on is left out."""
    if kind == "appearance":
        return [a for a in actors if description.action in (None, a.action)]
    left_out = {"action": None} if kind == "motion" else {}
    loose = replace(description, place=None, **left_out)
    return [a for a in actors if fits(loose, a)]


def _descriptions(actor: Actor, kind: str, place: str | None, rng) -> list[Description]:
    """What a sentence of this kind could say, what is said more often first."""
    with_colour = Description(actor.name, actor.colour, actor.action, place)
    variants = [with_colour]
    if kind == "motion":
        variants.append(replace(with_colour, colour=None))
    else:
        variants.append(replace(with_colour, action=None))
        variants.append(replace(with_colour, colour=None))
        variants.append(replace(with_colour, colour=None, action=None))
    return [variants[i] for i in rng.permutation(len(variants))]


def describe(
    actor: Actor,
    kind: str,
    actors: Sequence[Actor],
    centres: dict[int, np.ndarray],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Sentence | None:
    """A sentence of the given kind that fits `actor` alone, or None when there is none.

    centres: instance -> (A, 2) centres in pixels in the annotated frames.
    """
    own_places: list[str | None] = [None]
    if kind == "location":
        twins = [a for a in actors if fits(Description(actor.name, actor.colour, actor.action), a)]
        known = places(np.stack([centres[a.instance] for a in twins]), size)
        own_places = sorted(known[twins.index(actor)])
        if len(twins) < 2 or not own_places:
            return None
    place = own_places[rng.integers(len(own_places))]
    for description in _descriptions(actor, kind, place, rng):
        alike = look_alikes(description, kind, actors)
        if len(alike) < 2 or not _unique(description, kind, actor, actors, alike, centres, size):
            continue
        return Sentence(actor.instance, word(description, rng), kind, description, len(alike))
    return None


def _unique(description, kind, actor, actors, alike, centres, size) -> bool:
    """Whether the description fits `actor` alone, and through what its kind rests on."""
    if kind == "location":
        known = places(np.stack([centres[a.instance] for a in alike]), size)
        return description.place in known[alike.index(actor)]
    if kind == "appearance":
        description = replace(description, action=None)
    return [a.instance for a in actors if fits(description, a)] == [actor.instance]


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    """One of the options; the first, most usual one half of the time."""
    if rng.random() < 0.5:
        return options[0]
    return options[rng.integers(len(options))]


def word(description: Description, rng: np.random.Generator) -> str:
    """The description in words, with the annotators' liberties of order, case and blanks."""
    noun = _pick(NOUNS[description.name], rng)
    verb = ""
    if description.action:
        own = _OWN_VERBS.get((description.name, description.action))
        verb = _pick(own or VERBS[description.action], rng)
    colour = description.colour or ""
    place = _pick(PLACES[description.place], rng) if description.place else ""
    if not place and rng.random() < 0.15 and description.action not in ("climbing", "flying"):
        place = _pick(_FILLERS, rng)
    article = _pick(("the", "a", ""), rng) if not description.place else _pick(("the", ""), rng)
    be = "is" if article and (verb or place) and rng.random() < 0.85 else ""
    people = description.name in ("adult", "baby")
    order = rng.random()
    if colour and (order < 0.45 if people else order < 0.12):
        clothes = _pick(("in", "wearing"), rng) if people else "in"
        words = (article, noun, clothes, colour, be, verb, place)
    elif description.place and order > 0.8 and description.place not in noun:
        words = (article, description.place, colour, noun, be, verb)
    elif description.place and order > 0.65:
        words = (article, colour, noun, place, be, verb)
    elif verb and " " not in verb and order > 0.85:
        words = (article, verb, colour, noun, place)
    else:
        words = (article, colour, noun, be, verb, place)
    text = " ".join(w for w in words if w)
    if rng.random() < 0.15:
        text = text[0].upper() + text[1:]
    blanks = rng.random()
    return f" {text}" if blanks < 0.03 else f"{text} " if blanks < 0.06 else text
