"""From a configuration to a segmenter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from aamn.config.schema import Config
from aamn.models.aamn import AAMN, MostConfident
from aamn.models.baselines.acga import ACGA
from aamn.models.baselines.cstm import CSTM
from aamn.models.baselines.gavrilyuk import Gavrilyuk
from aamn.models.baselines.one_stage import OneStage
from aamn.models.segmenter import Segmenter
from aamn.models.visual import load_backbone
from aamn.models.zeroshot.adapted import Adapted
from proposals.errors import InputError

SYSTEMS: dict[str, Callable[[Config, nn.Embedding], Segmenter]] = {
    "aamn": lambda config, embedding: AAMN(config.aamn, embedding),
    "most_confident": lambda config, embedding: MostConfident(config.aamn, embedding),
    "gavrilyuk": lambda config, embedding: Gavrilyuk(
        config.gavrilyuk, embedding, config.words.max_words
    ),
    "acga": lambda config, embedding: ACGA(config.acga, embedding, config.words.max_words),
    "adapted": lambda config, embedding: Adapted(config.zeroshot, config.aamn, embedding),
    "cstm": lambda config, embedding: CSTM(config.cstm, embedding, config.words.max_words),
}


def build_segmenter(
    config: Config, words: nn.Embedding | int, vectors: Tensor | None = None
) -> Segmenter:
    """The system `config.system` names, with random weights.

    Args:
        words: the rows of its words, or how many to make where nobody asks for words by name; the
            first two are padding and the unknown word.
        vectors: (words, C_e) pretrained word vectors, or None to learn them.

    Raises:
        InputError: contradicting choices, vectors of another dimension, the system zeroshot.
    """
    if config.system not in SYSTEMS:
        raise InputError(
            f"the system {config.system} is put together of pretrained parts, not trained: "
            "--bundle zeroshot"
        )
    embedding = words
    if isinstance(embedding, int):
        embedding = nn.Embedding(embedding, config.words.dimension, padding_idx=0)
    if vectors is not None:
        if vectors.shape != embedding.weight.shape:
            count, dimension = embedding.weight.shape
            raise InputError(
                f"words.dimension is {dimension} for {count} words, but the vectors "
                f"in {config.words.vectors} have shape {tuple(vectors.shape)}"
            )
        with torch.no_grad():
            embedding.weight.copy_(vectors)
        embedding.weight.requires_grad_(config.words.trainable)
    return SYSTEMS[config.system](config, embedding)


def start_backbones(segmenter: Segmenter, config: Config) -> None:
    """Loads the weights a fresh training starts from, as the configuration names them.

    Raises:
        InputError: weights that cannot be had or do not fit.
    """
    if isinstance(segmenter, OneStage):
        segmenter.load_pretrained()
    if not isinstance(segmenter, AAMN):
        return
    backbone = config.aamn.backbone
    starts = {"rgb": backbone.weights, "flow": backbone.flow_weights}
    for name, stream in segmenter.streams.items():
        if starts[name]:
            load_backbone(stream, stream.network(backbone), starts[name])
