"""Checkpoints that rebuild their model: configuration, vocabulary, weights and training state.

They hold tensors and plain Python values only and load with weights_only=True. Writing is atomic.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aamn.config import Config, from_dict, load_config, to_dict
from aamn.data.words import Vocabulary
from aamn.models.build import build_segmenter
from aamn.models.segmenter import Segmenter
from proposals.errors import InputError

FORMAT = 1


@dataclass(frozen=True)
class Loaded:
    """A segmenter in evaluation mode with what it was trained as."""

    segmenter: Segmenter
    vocabulary: Vocabulary
    config: Config
    iteration: int


def write_atomically(content: Any, path: Path) -> None:
    """torch.save through a temporary file, so that the path never holds half a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(content, aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def save_checkpoint(
    path: Path,
    segmenter: Segmenter,
    vocabulary: Vocabulary,
    config: Config,
    iteration: int,
    optimiser: dict[str, Any] | None = None,
) -> None:
    """Writes everything needed to use the segmenter and, with `optimiser`, to go on training."""
    write_atomically(
        {
            "format": FORMAT,
            "config": to_dict(config),
            "vocabulary": vocabulary.state(),
            "model": segmenter.state_dict(),
            "iteration": iteration,
            "optimiser": optimiser or {},
        },
        path,
    )


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """A checkpoint's content on the CPU.

    Raises:
        InputError: no such file, not a checkpoint, or one of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; train one with tools/train_net.py")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged pickle raises whatever it stumbles over
        raise InputError(f"{path} is no checkpoint, or a damaged one") from None
    if not isinstance(content, dict) or "vocabulary" not in content:
        raise InputError(f"{path} is no checkpoint of a segmenter")
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path} has checkpoint format {content.get('format')}; this version reads {FORMAT}"
        )
    return content


def load_segmenter(
    path: Path | str,
    device: torch.device | str = "cpu",
    config_file: Path | str | None = None,
    overrides: Sequence[str] = (),
) -> Loaded:
    """Rebuilds the segmenter of a checkpoint, in evaluation mode.

    What it was trained with can be changed by a config file and overrides, as far as the weights
    still fit: "data.root=...", "aamn.language.attention=random", "system=most_confident".

    Raises:
        InputError: as `read_checkpoint` and `load_config`, or weights that do not fit.
    """
    content = read_checkpoint(path)
    trained = from_dict(Config, content["config"])
    config = load_config(Config, config_file, overrides, trained)
    vocabulary = Vocabulary.from_state(content["vocabulary"])
    segmenter = build_segmenter(config, len(vocabulary))
    try:
        segmenter.load_state_dict(content["model"])
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:200]
        raise InputError(f"{path}: its weights do not fit the configuration: {reason}") from None
    return Loaded(segmenter.to(device).eval(), vocabulary, config, content["iteration"])
