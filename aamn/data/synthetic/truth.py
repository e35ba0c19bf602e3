"""Of which videos of a synthetic corpus a sentence is true, whoever it was written about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from aamn.data.synthetic.corpus import Entry, plan_video, read_note
from aamn.data.synthetic.scenes import Scene
from aamn.data.synthetic.sentences import Description, fits
from proposals.errors import InputError


def videos_by_sentence(root: Path, split: str) -> dict[str, set[str]] | None:
    """Sentence -> the ids of all videos of the split with an actor that it describes; None for what
    is no synthetic corpus.

    Raises:
        InputError: the corpus' note is damaged.
    """
    config = read_note(root)
    if config is None:
        return None
    counts = {"train": config.train_videos, "test": config.test_videos}
    if split not in counts:
        raise InputError(f"{root}: the corpus has no split {split}; wanted {' or '.join(counts)}")
    entries = (Entry(split, index) for index in range(counts[split]))
    return true_of([plan_video(Path(root), config, entry) for entry in entries])


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
