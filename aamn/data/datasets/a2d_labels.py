"""A2D's vocabulary of actors and actions; number 1 is the first of each."""

from __future__ import annotations

ACTORS = ("adult", "baby", "ball", "bird", "car", "cat", "dog")
ACTIONS = (
    "climbing",
    "crawling",
    "eating",
    "flying",
    "jumping",
    "rolling",
    "running",
    "walking",
    "none",
)
