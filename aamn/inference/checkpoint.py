"""Checkpoints that rebuild their model: configuration, vocabulary, weights and training state.

They hold tensors and plain Python values only and load with weights_only=True. Writing is atomic.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aamn.config.loading import from_dict, load_config, to_dict
from aamn.config.schema import Config
from aamn.config.untrusted import restricted
from aamn.data.words import Vocabulary, load_vectors, tokenise
from aamn.models.build import build_segmenter
from aamn.models.segmenter import Segmenter
from proposals.errors import InputError
from proposals.weights import check_state, load_state, read_tensors, save_tensors

log = logging.getLogger("aamn")

FORMAT = 2


@dataclass(frozen=True)
class Loaded:
    """A segmenter in evaluation mode with what it was trained as."""

    segmenter: Segmenter
    vocabulary: Vocabulary
    config: Config
    iteration: int


def save_checkpoint(
    path: Path,
    segmenter: Segmenter,
    vocabulary: Vocabulary,
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
            "vocabulary": vocabulary.state(),
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
    trained = restricted(from_dict(Config, content["config"]), str(path))
    config = load_config(Config, config_file, overrides, trained)
    vocabulary = _vocabulary(path, content)
    _refuse_endless(path, config, len(content["model"]))
    with torch.device("meta"):  # sizes are compared before memory is taken for them
        sizes = build_segmenter(config, len(vocabulary)).state_dict()
    check_state(sizes, content["model"], path)
    segmenter = build_segmenter(config, len(vocabulary))
    load_state(segmenter, content["model"], path)
    return Loaded(segmenter.to(device).eval(), vocabulary, config, content["iteration"])


def _refuse_endless(path: Path | str, config: Config, entries: int) -> None:
    """Raises InputError where the configuration asks for more layers than there are weights."""
    layers = max(config.aamn.language.layers, config.aamn.mask_head.convolutions)
    if layers > entries:
        raise InputError(
            f"{path}: its weights do not fit the configuration: {layers} layers, {entries} weights"
        )


def _vocabulary(path: Path | str, content: dict[str, Any]) -> Vocabulary:
    try:
        return Vocabulary.from_state(content["vocabulary"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its vocabulary is damaged: {error}") from None


def extend_words(loaded: Loaded, texts: Iterable[str]) -> Loaded:
    """Gives words that training has not seen their pretrained vectors, where the file that
    `words.vectors` names is at hand and has them; the others stay unknown, and are logged. What
    was given stays as it is; its segmenter and the new one share all but the words' vectors.

    Raises:
        InputError: the file's vectors are of another dimension than the segmenter's.
    """
    words = sorted({word for text in texts for word in tokenise(text)} - {*loaded.vocabulary.words})
    path = loaded.config.words.vectors
    if words and path and Path(path).is_file():
        found = load_vectors(path, words, loaded.config.words.allow_pickle)
        loaded = _with_words(loaded, words, torch.from_numpy(found.vectors), found.known.tolist())
        words = [word for word in words if word not in loaded.vocabulary]
    if words:
        log.warning("words the segmenter does not know: %s", ", ".join(words))
    return loaded


def _with_words(
    loaded: Loaded, words: Sequence[str], vectors: torch.Tensor, known: Sequence[bool]
) -> Loaded:
    embedding = _embedding(loaded.segmenter)
    if vectors.shape[1] != embedding.embedding_dim:
        raise InputError(
            f"words.vectors: {loaded.config.words.vectors} has {vectors.shape[1]} numbers a word, "
            f"the segmenter was trained with {embedding.embedding_dim}"
        )
    new = vectors[torch.tensor(known)].to(embedding.weight)
    vocabulary = loaded.vocabulary.extend(w for w, k in zip(words, known, strict=True) if k)
    tensors = (*loaded.segmenter.parameters(), *loaded.segmenter.buffers())
    segmenter = copy.deepcopy(loaded.segmenter, {id(tensor): tensor for tensor in tensors})
    own = _embedding(segmenter)
    own.weight = nn.Parameter(torch.cat([embedding.weight.detach(), new]))
    own.num_embeddings = len(vocabulary)
    return replace(loaded, segmenter=segmenter, vocabulary=vocabulary)


def _embedding(segmenter: Segmenter) -> nn.Embedding:
    return next(m for m in segmenter.modules() if isinstance(m, nn.Embedding))
