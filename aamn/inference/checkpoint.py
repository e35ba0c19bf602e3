"""Checkpoints that rebuild their model: configuration, vocabulary, weights and training state.

They hold tensors and plain Python values only and load with weights_only=True. Writing is atomic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aamn.config.loading import from_dict, load_config, to_dict
from aamn.config.schema import Config
from aamn.config.untrusted import restricted
from aamn.data.words import Vocabulary, Words, words_kind
from aamn.models.build import build_segmenter
from aamn.models.segmenter import Segmenter
from proposals.errors import InputError
from proposals.weights import check_state, load_state, read_tensors, save_tensors

FORMAT = 2


@dataclass(frozen=True)
class Loaded:
    """A segmenter in evaluation mode with what it was trained as."""

    segmenter: Segmenter
    config: Config
    iteration: int

    @property
    def words(self) -> Words:
        """The words it knows, which are asked for queries."""
        return words_of(self.segmenter)

    @property
    def vocabulary(self) -> Vocabulary:
        """The words' numbers, as they are now."""
        return self.words.vocabulary


def words_of(segmenter: nn.Module) -> Words:
    """The words of a segmenter that was built with their names."""
    return next(module for module in segmenter.modules() if isinstance(module, Words))


def save_checkpoint(
    path: Path,
    segmenter: Segmenter,
    config: Config,
    iteration: int,
    optimiser: dict[str, Any] | None = None,
    best: float = -math.inf,
) -> None:
    """Writes everything needed to use the segmenter and, with `optimiser`, to go on training;
    `best` is the highest validation score of the run so far."""
    save_tensors(
        {
            "format": FORMAT,
            "config": to_dict(config),
            "vocabulary": words_of(segmenter).vocabulary.state(),
            "model": segmenter.state_dict(),
            "iteration": iteration,
            "optimiser": optimiser or {},
            "best": best,
        },
        path,
    )


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """A checkpoint's content on the CPU.

    Raises:
        InputError: no such file, not a checkpoint, or one of another format.
    """
    content = read_tensors(path, "checkpoint", "; train one with `aamn train`")
    if not isinstance(content, dict) or "vocabulary" not in content:
        raise InputError(f"{path} is no checkpoint of a segmenter")
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path} has checkpoint format {content.get('format')}; this version reads {FORMAT}"
        )
    missing = {"config", "model", "iteration"} - content.keys()
    if missing:
        raise InputError(f"{path} is a damaged checkpoint: it lacks {min(missing)}")
    return content


def load_segmenter(
    path: Path | str,
    device: torch.device | str = "cpu",
    config_file: Path | str | None = None,
    overrides: Sequence[str] = (),
) -> Loaded:
    """Rebuilds the segmenter of a checkpoint, in evaluation mode.

    What it was trained with can be changed by a config file and overrides, as far as the weights
    still fit: "data.root=...", "aamn.language.attention=random", "system=most_confident". Its own
    configuration is `restricted`.

    Raises:
        InputError: as `read_checkpoint` and `load_config`, or weights that do not fit.
    """
    content = read_checkpoint(path)
    trained = restricted(from_dict(Config, content["config"], str(path)), str(path))
    config = load_config(Config, config_file, overrides, trained)
    vocabulary = _vocabulary(path, content)
    words = config.words
    with torch.device("meta"):  # sizes are compared before memory is taken for them
        sizes = build_segmenter(config, len(vocabulary)).state_dict()
    check_state(sizes, content["model"], path)
    vectors = beside(Path(path), words.vectors)
    own = words_kind(config)(vocabulary, words.dimension, vectors, words.allow_pickle)
    segmenter = build_segmenter(config, own)
    load_state(segmenter, content["model"], path)
    return Loaded(segmenter.to(device).eval(), config, content["iteration"])


def _vocabulary(path: Path | str, content: dict[str, Any]) -> Vocabulary:
    try:
        return Vocabulary.from_state(content["vocabulary"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its vocabulary is damaged: {error}") from None


def beside(checkpoint: Path, name: str) -> Path | str:
    """A file that a bundle's checkpoint names without folder lies in its own."""
    own = checkpoint.parent / name
    return own if name and name == own.name and own.is_file() else name
