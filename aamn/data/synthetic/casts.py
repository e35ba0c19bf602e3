"""Who plays in a video: distractors that one attribute tells apart, and bystanders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aamn.data.synthetic.actors import BUILDS
from aamn.data.synthetic.labels import ACTIONS_OF, COLOURS

# Actions of those who come in from outside the picture.
_ENTERING = ("walking", "running", "rolling", "flying", "leftward", "rightward")

# Kinds of consecutive videos. Sentences about bystanders are of the appearance kind, so fewer
# videos have to be.
PROGRAMME = ("motion", "location", "appearance", "motion", "location", "motion", "location")


@dataclass(frozen=True)
class Repertoire:
    """Who can be shown: each actor's actions, and the colours; "" is the actor's own colour, of
    which no sentence speaks."""

    actions: Mapping[str, Sequence[str]]
    colours: Sequence[str]


DRAWN = Repertoire(ACTIONS_OF, tuple(COLOURS))


@dataclass(frozen=True)
class Cast:
    """A member of the cast, which has no place yet: `lane` is the part of the picture it keeps to
    ("" for all of it), a `late` one comes in after the first annotated frame."""

    name: str
    colour: str
    action: str
    lane: str = ""
    late: bool = False

    @property
    def look(self) -> tuple[str, str]:
        return self.name, self.colour


def _any_colour(shown: Repertoire, rng: np.random.Generator) -> str:
    return str(rng.choice(list(shown.colours)))


def _motion(name: str, shown: Repertoire, rng: np.random.Generator) -> list[Cast]:
    """Two or three of the same look who do different things."""
    colour = _any_colour(shown, rng)
    actions = rng.permutation(shown.actions[name])[: 2 + (rng.random() < 0.25)]
    return [Cast(name, colour, str(action)) for action in actions]


def _lanes(name: str, action: str, rng: np.random.Generator) -> tuple[str, ...]:
    """Parts of the picture that leave the action enough room."""
    if action in ("running", "flying", "leftward", "rightward"):
        side_by_side = False
    elif action in ("climbing", "jumping"):
        side_by_side = True
    else:
        side_by_side = rng.random() < 0.5
    if not side_by_side:
        return "top", "bottom"
    slim = 2 * BUILDS[name].half_width * BUILDS[name].largest < 0.4
    return ("far left", "middle", "far right") if slim and rng.random() < 0.6 else ("left", "right")


def _location(name: str, shown: Repertoire, rng: np.random.Generator) -> list[Cast]:
    """Two or three of the same look who do the same thing in different places."""
    colour, action = _any_colour(shown, rng), str(rng.choice(shown.actions[name]))
    return [Cast(name, colour, action, lane) for lane in _lanes(name, action, rng)]


def _appearance(name: str, shown: Repertoire, rng: np.random.Generator) -> list[Cast]:
    """Two or three who do the same thing and differ in class, colour or both."""
    cast = [Cast(name, _any_colour(shown, rng), str(rng.choice(shown.actions[name])))]
    for _ in range(1 + (rng.random() < 0.4)):
        cast.append(_bystander(cast, cast[0], shown, rng))
    if cast[0].action in _ENTERING and rng.random() < 0.8:
        cast[-1] = replace(cast[-1], late=True)
    return cast


_GROUPS: dict[str, Callable[[str, Repertoire, np.random.Generator], list[Cast]]] = {
    "appearance": _appearance,
    "location": _location,
    "motion": _motion,
}


def _free(name: str, colour: str, cast: Sequence[Cast]) -> bool:
    """Whether nobody of the cast could be taken for this look; an actor in its own colour could be
    of any."""
    taken = {member.colour for member in cast if member.name == name}
    return not taken or ("" not in {colour, *taken} and colour not in taken)


def _bystander(
    cast: Sequence[Cast], beside: Cast, shown: Repertoire, rng: np.random.Generator
) -> Cast:
    """Someone who does what `beside` does and looks like nobody of the cast, preferably sharing
    its class or its colour."""
    looks = [
        (name, colour)
        for name, actions in shown.actions.items()
        for colour in shown.colours
        if beside.action in actions and _free(name, colour, cast)
    ]
    shared = int(rng.choice(3, p=(0.45, 0.3, 0.25)))
    if shared < 2:
        looks = [look for look in looks if look[shared] == beside.look[shared]] or looks
    return Cast(*looks[rng.integers(len(looks))], beside.action)


def choose_cast(index: int, rng: np.random.Generator, shown: Repertoire = DRAWN) -> list[Cast]:
    """Two to four members; the first of them are the distractors of the video's kind."""
    rounds, turn = divmod(index, len(PROGRAMME))
    names = list(shown.actions)
    cast = _GROUPS[PROGRAMME[turn]](names[(rounds + turn) % len(names)], shown, rng)
    if PROGRAMME[turn] != "appearance":
        extras = int(rng.choice(3, p=(0.4, 0.45, 0.15)))
        for _ in range(min(extras, 4 - len(cast))):
            cast.append(_bystander(cast, cast[rng.integers(len(cast))], shown, rng))
    return cast


def kind_of(index: int, cast: Sequence[Cast], member: Cast) -> str:
    """What the sentence about a member rests on: bystanders are told apart by their looks."""
    return PROGRAMME[index % len(PROGRAMME)] if member.look == cast[0].look else "appearance"
