"""A training run from its configuration: data, words, model and where they start from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch.utils.data import DataLoader

from aamn.config.schema import Config
from aamn.data.datasets.registry import open_source, validation_split
from aamn.data.flow.store import stored_flow
from aamn.data.samples import SampleDataset
from aamn.data.words import Vocabulary, load_vectors, words_kind
from aamn.evaluation.key_frames import evaluate
from aamn.evaluation.metrics import summarise
from aamn.inference.checkpoint import load_segmenter, save_checkpoint, words_of
from aamn.models.build import build_segmenter, start_backbones
from aamn.models.segmenter import Segmenter
from aamn.models.zeroshot.adapted import Adapted
from aamn.models.zeroshot.segmenter import ZeroShot
from aamn.structures import InputSpec
from aamn.training.loop import Progress, train
from aamn.zeroshot.assemble import put_together
from proposals.errors import InputError
from proposals.outputs import check_output
from proposals.store import ProposalStore

log = logging.getLogger("aamn")

# What the comparison systems' words are in their papers (CSTM: in its released model).
PUBLISHED_VECTORS = {
    "gavrilyuk": "word2vec of Google News",
    "acga": "word2vec of Google News",
    "cstm": "GloVe of 840 billion words",
}


def _word_vectors(config: Config, vocabulary: Vocabulary) -> torch.Tensor | None:
    """The vocabulary's pretrained vectors; None where they are learned from nothing, which is said
    of a comparison system."""
    if not config.words.vectors:
        if config.system in PUBLISHED_VECTORS:
            log.warning(
                "words.vectors names no file: %s learns word vectors from random ones, where its "
                "authors took %s",
                config.system,
                PUBLISHED_VECTORS[config.system],
            )
        return None
    return torch.from_numpy(
        load_vectors(config.words.vectors, vocabulary.words, config.words.allow_pickle).vectors
    )


def _dataset(
    config: Config, split: str, input_spec: InputSpec, vocabulary: Vocabulary, learning: bool
) -> SampleDataset:
    """The samples of one split, augmented where they are learned from."""
    return SampleDataset(
        open_source(config.data, split),
        input_spec,
        vocabulary,
        ProposalStore.read(config.data.proposals) if input_spec.proposals else None,
        stored_flow(config.data.flow, input_spec, config.flow),
        config.augment if learning else None,
        config.seed,
        config.flow,
    )


def _validation(
    config: Config, input_spec: InputSpec, vocabulary: Vocabulary
) -> Callable[[Segmenter], float] | None:
    """Mean IoU on the validation split, where the configuration asks for it."""
    if not config.train.evaluate_every:
        return None
    split = validation_split(config.data)
    dataset = _dataset(config, split, input_spec, vocabulary, False)
    if not len(dataset):
        raise InputError(
            f"{config.data.root}: the split {split!r} is empty, so that nothing can be validated; "
            "raise data.validation_share, name another data.validation_split, or set "
            "train.evaluate_every=0"
        )
    samples = DataLoader(dataset, batch_size=None)

    def mean_iou(segmenter: Segmenter) -> float:
        report = evaluate(segmenter, samples, system="validation", data=split, total=len(samples))
        return summarise(report.rows)["Mean IoU"]

    return mean_iou


def start_from(path: str, segmenter: Segmenter) -> None:
    """Gives the segmenter all weights of a checkpoint of the same form and vocabulary.

    Raises:
        InputError: no checkpoint, other words, or weights that do not fit.
    """
    found = load_segmenter(path)
    if found.vocabulary.state() != words_of(segmenter).vocabulary.state():
        raise InputError(f"train.start: {path} was trained on other words than this training split")
    try:
        segmenter.load_state_dict(found.segmenter.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:200]
        raise InputError(f"train.start: {path} is of another form: {reason}") from None


def _built(config: Config) -> tuple[Segmenter, Config]:
    """The segmenter with the words of the training split, and random weights but for theirs; on
    public parts where it stands on such, with the configuration as these complete it."""
    parts = put_together(config) if config.system == "adapted" else None
    if parts is not None:
        config = _without_folder(parts.loaded.config)
    torch.manual_seed(config.seed)
    source = open_source(config.data, config.data.train_split)
    vocabulary = Vocabulary.build(source.texts(), config.words.max_words)
    settings = config.words
    words = words_kind(config)(
        vocabulary, settings.dimension, settings.vectors, settings.allow_pickle
    )
    segmenter = build_segmenter(config, words, _word_vectors(config, vocabulary))
    if isinstance(segmenter, Adapted) and parts is not None:
        segmenter.attach(cast(ZeroShot, parts.loaded.segmenter))
    return segmenter, config


def _without_folder(config: Config) -> Config:
    """Where the public weights lie is no part of what is trained."""
    published = replace(config.zeroshot.published, folder="")
    return replace(config, zeroshot=replace(config.zeroshot, published=published))


def _start(config: Config, segmenter: Segmenter) -> None:
    """The weights that a training begins with."""
    if config.train.start:
        start_from(config.train.start, segmenter)
    else:
        start_backbones(segmenter, config)


def write_start(config: Config, out: Path) -> Path:
    """Writes a checkpoint of the weights that a training would begin with, such as those of a
    released model, to `out`/start.pt."""
    segmenter, config = _built(config)
    _start(config, segmenter)
    save_checkpoint(out / "start.pt", segmenter, config, 0)
    return out / "start.pt"


def train_from(config: Config, out: Path, restart: bool = False) -> Progress:
    """Trains what the configuration says on the data it names, or goes on with it, in `out`."""
    check_output(out, folder=True)
    segmenter, config = _built(config)
    vocabulary = words_of(segmenter).vocabulary
    dataset = _dataset(config, config.data.train_split, segmenter.input_spec, vocabulary, True)
    validate = _validation(config, segmenter.input_spec, vocabulary)
    if restart or not (out / "last.pt").is_file():
        _start(config, segmenter)
    return train(config, segmenter, dataset, out, restart=restart, validate=validate)
