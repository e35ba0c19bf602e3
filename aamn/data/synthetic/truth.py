"""Of which videos of a synthetic corpus a sentence is true, whoever it was written about."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from aamn.data.synthetic.config import SyntheticConfig
from aamn.data.synthetic.scenes import Scene, plan_scene
from aamn.data.synthetic.sentences import Description, fits
from proposals.errors import InputError


def videos_by_sentence(root: Path, split: str) -> dict[str, set[str]] | None:
    """Sentence -> the ids of all videos of the split with an actor that it describes; None for what
    is no synthetic corpus.

    Raises:
        InputError: the corpus' note is damaged.
    """
    note = Path(root) / "synthetic.json"
    if not note.exists():
        return None
    try:
        config = SyntheticConfig(**json.loads(note.read_text(encoding="utf-8"))["config"])
        count = {"train": config.train_videos, "test": config.test_videos}[split]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{note} cannot be read, or has no split {split}") from None
    return true_of([plan_scene(config, split, index) for index in range(count)])


def true_of(scenes: Sequence[Scene]) -> dict[str, set[str]]:
    """Sentence -> the ids of the scenes with an actor that it describes.

    Where an actor is, such as on the left, is known of those of whom a sentence of their own video
    says so.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for scene in scenes:
        for sentence in scene.sentences:
            found[sentence.text] |= {
                other.video_id for other in scenes if _holds(sentence.description, other)
            }
    return dict(found)


def _holds(said: Description, scene: Scene) -> bool:
    """Whether the scene has an actor of this description."""
    return any(
        fits(said, actor) and said.place in (None, *_places(scene, actor.instance))
        for actor in scene.actors
    )


def _places(scene: Scene, instance: int) -> list[str | None]:
    return [one.description.place for one in scene.sentences if one.instance == instance]
