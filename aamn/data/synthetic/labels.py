"""Which actors do what in A2D and in collages, and the colours of the synthetic actors."""

from __future__ import annotations

from aamn.data.datasets.a2d_labels import ACTIONS, ACTORS

# The pairs that occur in A2D (Xu et al., CVPR 2015).
ACTIONS_OF = {
    "adult": ("climbing", "crawling", "eating", "jumping", "rolling", "running", "walking", "none"),
    "baby": ("climbing", "crawling", "rolling", "walking", "none"),
    "ball": ("flying", "jumping", "rolling", "none"),
    "bird": ("climbing", "eating", "flying", "jumping", "rolling", "walking", "none"),
    "car": ("flying", "jumping", "rolling", "running", "none"),
    "cat": ("climbing", "eating", "jumping", "rolling", "running", "walking", "none"),
    "dog": ("crawling", "eating", "jumping", "rolling", "running", "walking", "none"),
}

# What a cut-out can do: motions of the whole picture, each with the actions of A2D that its number
# may be, the first of them that A2D knows of the actor.
MOTIONS = {
    "leftward": ("running", "flying"),
    "rightward": ("running", "flying"),
    "jumping": ("jumping",),
    "growing": ("walking", "rolling"),
    "shrinking": ("walking", "rolling"),
    "spinning": ("rolling",),
    "none": ("none",),
}

# RGB, far apart also after the codec has halved the resolution of the chroma.
COLOURS = {
    "red": (220, 25, 30),
    "green": (25, 175, 50),
    "blue": (35, 70, 235),
    "yellow": (250, 225, 25),
    "purple": (150, 35, 200),
    "orange": (250, 130, 10),
    "white": (245, 245, 245),
    "black": (22, 22, 26),
}


def label(actor: str, action: str) -> int:
    """A2D's number of a pair: 10 * actor + action, both counted from one."""
    meant = MOTIONS.get(action, (action,))
    known = next((one for one in meant if one in ACTIONS_OF[actor]), "none")
    return 10 * (ACTORS.index(actor) + 1) + ACTIONS.index(known) + 1
