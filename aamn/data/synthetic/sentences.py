"""Sentences that refer to one actor of a scene, in the manner of A2D Sentences' annotators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aamn.data.synthetic.actors import Actor

KINDS = ("appearance", "motion", "location")

NOUNS = {
    "adult": ("man", "person", "guy", "adult", "human"),
    "baby": ("baby", "toddler", "infant", "little child"),
    "ball": ("ball", "toy ball", "rubber ball"),
    "bird": ("bird", "parrot", "little bird", "pigeon"),
    "car": ("car", "vehicle", "toy car", "automobile"),
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

OWN_VERBS = {
    ("ball", "jumping"): ("bouncing", "bouncing up and down", "jumping"),
    ("car", "running"): ("driving", "driving fast", "racing", "running"),
    ("car", "none"): ("parked", "parking", "standing still", "not moving"),
    ("ball", "none"): ("lying still", "not moving", "resting"),
}

PLACES = {
    "left": ("on the left", "on the left side", "at the left", "at left"),
    "right": ("on the right", "on the right side", "at the right", "at right"),
    "top": ("at the top", "on the top", "in the upper part"),
    "bottom": ("at the bottom", "on the bottom", "in the lower part"),
    "middle": ("in the middle", "in the center", "in the centre"),
}

_CLOTHES = ("in", "wearing", "dressed in", "with clothes in")
FILLERS = ("on the ground", "on the floor", "in the video", "outside", "in the park")


@dataclass(frozen=True)
class Wording:
    """The words for actors, for actions, and for those of single actors; fillers say nothing."""

    nouns: Mapping[str, Sequence[str]]
    verbs: Mapping[str, Sequence[str]]
    own_verbs: Mapping[tuple[str, str], Sequence[str]]
    fillers: Sequence[str]


DRAWN = Wording(NOUNS, VERBS, OWN_VERBS, FILLERS)


@dataclass(frozen=True)
class Description:
    """What a sentence says of an actor; None where it says nothing."""

    name: str
    colour: str | None = None
    action: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Sentence:
    """A sentence of the annotation. `distractors` counts the actors, the one meant included, that
    fit once the kind's own attribute is left out of the description."""

    instance: int
    text: str
    kind: str
    description: Description
    distractors: int


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
    """Whether the description may be true of the actor, its place left aside: an actor in a colour
    that no word names may be of any."""
    wanted = (description.name, description.colour if actor.colour else None, description.action)
    given = (actor.name, actor.colour, actor.action)
    return all(w is None or w == g for w, g in zip(wanted, given, strict=True))


def distractors(description: Description, kind: str, actors: Sequence[Actor]) -> list[Actor]:
    """The actors that fit once the attribute that `kind` rests on is left out."""
    if kind == "appearance":
        return [a for a in actors if description.action in (None, a.action)]
    action = None if kind == "motion" else description.action
    loose = replace(description, place=None, action=action)
    return [a for a in actors if fits(loose, a)]


def _variants(actor: Actor, kind: str, place: str | None) -> list[Description]:
    """All that a sentence of this kind could say, from the fullest to the shortest."""
    full = Description(actor.name, actor.colour or None, actor.action, place)
    short = replace(full, colour=None)
    if kind == "motion":
        return [full, short]
    return [full, replace(full, action=None), short, replace(short, action=None)]


@dataclass(frozen=True)
class View:
    """What an annotator sees: all actors, their centres (A, 2) in pixels in the annotated frames
    by instance, and the picture's size (H, W)."""

    actors: Sequence[Actor]
    centres: dict[int, np.ndarray]
    size: tuple[int, int]
    wording: Wording = DRAWN

    def places(self, actor: Actor, among: Sequence[Actor]) -> frozenset[str]:
        """The words for a place that tell `actor` from the others of `among`."""
        found = places(np.stack([self.centres[a.instance] for a in among]), self.size)
        return found[[a.instance for a in among].index(actor.instance)]

    def decides(self, description: Description, kind: str, actor: Actor) -> bool:
        """Whether the description fits `actor` alone, because of what `kind` rests on."""
        alike = distractors(description, kind, self.actors)
        if len(alike) < 2:
            return False
        if kind == "location":
            return description.place in self.places(actor, alike)
        if kind == "appearance":
            description = replace(description, action=None)
        return [a.instance for a in self.actors if fits(description, a)] == [actor.instance]


def describe(actor: Actor, kind: str, view: View, rng: np.random.Generator) -> Sentence | None:
    """A sentence of the given kind that fits `actor` alone, or None when there is none."""
    place = None
    if kind == "location":
        look = Description(actor.name, actor.colour or None, actor.action)
        words = sorted(view.places(actor, [a for a in view.actors if fits(look, a)]))
        if not words:
            return None
        place = words[rng.integers(len(words))]
    variants = _variants(actor, kind, place)
    for number in rng.permutation(len(variants)):
        description = variants[number]
        if view.decides(description, kind, actor):
            count = len(distractors(description, kind, view.actors))
            text = word(description, rng, view.wording)
            return Sentence(actor.instance, text, kind, description, count)
    return None


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    """One of the options; the first one, the usual word, in half of the cases."""
    return options[0] if rng.random() < 0.5 else options[int(rng.integers(len(options)))]


@dataclass(frozen=True)
class _Words:
    """The pieces of a sentence, "" where there is none; `adjective` is the place as one word."""

    noun: str
    colour: str
    verb: str
    place: str
    adjective: str
    filler: str


def _choose_words(description: Description, rng: np.random.Generator, wording: Wording) -> _Words:
    name, action, place = description.name, description.action, description.place
    verbs: Sequence[str] = ("",)
    if action is not None:
        verbs = wording.own_verbs.get((name, action), wording.verbs.get(action, verbs))
    filler = ""
    if not place and action not in ("climbing", "flying") and rng.random() < 0.15:
        filler = _pick(wording.fillers, rng)
    return _Words(
        _pick(wording.nouns[name], rng),
        description.colour or "",
        _pick(verbs, rng),
        _pick(PLACES[place], rng) if place else "",
        place or "",
        filler,
    )


def _noun_first(words: _Words, wears: str) -> tuple[str, str]:
    """'the dog in red' 'running on the left'."""
    return f"{words.noun} {wears} {words.colour}", f"{words.verb} {words.place or words.filler}"


def _colour_first(words: _Words) -> tuple[str, str]:
    """'the red dog' 'running on the left'."""
    return f"{words.colour} {words.noun}", f"{words.verb} {words.place or words.filler}"


def _verb_first(words: _Words) -> tuple[str, str]:
    """'the running red dog on the left' ''."""
    rest = words.place or words.filler
    return f"{words.verb} {words.colour} {words.noun} {rest}", ""


def _place_inside(words: _Words) -> tuple[str, str]:
    """'the red dog on the left' 'running'."""
    return f"{words.colour} {words.noun} {words.place}", words.verb


def _place_first(words: _Words) -> tuple[str, str]:
    """'the left red dog' 'running'."""
    return f"{words.adjective} {words.colour} {words.noun}", words.verb


def _arrange(name: str, words: _Words, rng: np.random.Generator) -> tuple[str, str]:
    """Who is meant, and what is said of it after "is"."""
    people = name in ("adult", "baby")
    order = rng.random()
    if words.colour and order < (0.45 if people else 0.12):
        wears = _pick(_CLOTHES, rng) if people else "in"
        return _noun_first(words, wears)
    if words.place and order > 0.8:
        return _place_first(words)
    if words.place and order > 0.65:
        return _place_inside(words)
    if words.verb and " " not in words.verb and order > 0.8:
        return _verb_first(words)
    return _colour_first(words)


def _article(who: str, definite: bool, rng: np.random.Generator) -> str:
    article = _pick(("the", "") if definite else ("the", "a", ""), rng)
    return "an" if article == "a" and who[0] in "aeiou" else article


def word(description: Description, rng: np.random.Generator, wording: Wording = DRAWN) -> str:
    """The description in words, with the annotators' liberties of order, case and blanks."""
    words = _choose_words(description, rng, wording)
    who, what = (" ".join(part.split()) for part in _arrange(description.name, words, rng))
    article = _article(who, bool(description.place), rng)
    be = "is" if article and what and rng.random() < 0.85 else ""
    text = " ".join(piece for piece in (article, who, be, what) if piece)
    if rng.random() < 0.15:
        text = text[0].upper() + text[1:]
    before, after = (" " if chance < 0.03 else "" for chance in rng.random(2))
    return before + text + after
