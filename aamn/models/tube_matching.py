"""What learns to match described tubes with sentences, whoever describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aamn.config.loading import to_dict
from aamn.config.schema import AAMNConfig
from aamn.models.action import ActionModule
from aamn.models.actor import ActorModule, JointModule
from aamn.models.encoded import ClipBatch, EncodedSentences, FrameFeatures, TubeSample
from aamn.models.indexable import IndexableSegmenter, all_given
from aamn.models.language import LANGUAGES
from aamn.models.matching import TubeSide
from aamn.models.modules import Modules
from aamn.models.objective import JointObjective
from aamn.models.relation import RelationModule
from aamn.models.statistics import (
    BoxLogits,
    RawMaps,
    Statistic,
    build_statistics,
    tube_pixels,
)
from aamn.models.visual import DescribedTubes, TubeFeatures
from aamn.structures import Clip, Proposals, Query, QueryEmbedding, Sample
from aamn.tubes.linking import LinkedTubes

TEXT_OPTIONS = ("language", "margin", "mask_loss_weight", "match_iou")  # not in an index
MATCHING = ("tube_layers", "statistics", "heads", "language", "objective")  # what tubes teach
Head = ActorModule | ActionModule | RelationModule


class TubeMatching(IndexableSegmenter):
    """Layers on described tubes, the matching heads and the language side.

    A subclass describes tubes (`link_and_describe`), and calls `build_matching` when it knows how
    wide the descriptions are. `described` are the names of what is aggregated, `source` says which
    of them stands for the RGB and which for the flow stream, `appearance` by which the whole frame
    is known.
    """

    text_side: tuple[str, ...] = ("language.", ".matching.textual.", ".matching.score.")
    config: AAMNConfig
    described: list[str]
    source: dict[str, str]
    appearance: str

    def build_matching(
        self,
        config: AAMNConfig,
        widths: Mapping[str, int],
        embedding: nn.Embedding,
        told: int = 0,
    ) -> None:
        """Makes all that matching learns, with random weights.

        Args:
            widths: name of a description -> C_v.
            told: numbers that the subclass says of a sentence beside the language side's.
        """
        self.tube_layers = nn.ModuleDict(
            {name: self.tube_layer(config, width) for name, width in widths.items()}
        )
        self.statistics = build_statistics(config.statistics, 2 * config.radius + 1)
        language = LANGUAGES[config.language.values]
        words = language.channels(config.language, embedding.embedding_dim) + told
        streams = sum(name in widths for name in self.source.values())
        self.heads: Modules[Head] = Modules(_heads(config, words, streams, self.statistics))
        self.language = language(config.language, embedding, tuple(self.heads))
        self.objective = JointObjective(config)

    def tube_layer(self, config: AAMNConfig, width: int) -> nn.Sequential:
        """From a description (..., C_v) to v_k or f_k (..., C_v')."""
        return nn.Sequential(
            nn.Dropout(config.backbone.dropout),
            nn.Linear(width, config.tube_channels),
            nn.ReLU(inplace=True),
        )

    @property
    def head_widths(self) -> dict[str, int]:
        """Those of the matching heads' common space."""
        return {name: head.matching.visual.out_features for name, head in self.heads.items()}

    def describing(self) -> tuple[str, dict[str, Tensor]]:
        """What descriptions depend on: options, and the weights that matching does not teach."""
        weights = {k: v for k, v in self.state_dict().items() if not k.startswith(MATCHING)}
        return str(self.config), weights

    # The video's side

    def link_and_describe(
        self, batch: ClipBatch, frames: FrameFeatures
    ) -> tuple[LinkedTubes, DescribedTubes]:
        """The tubes (1) of B clips, and what of them comes before anything that matching learns."""
        raise NotImplementedError

    def describe_clips(
        self, clips: Sequence[Clip], proposals: Sequence[Proposals]
    ) -> DescribedTubes:
        """The tubes of B clips, before anything that matching learns."""
        batch = self._batch(clips, proposals)
        frames = self.encode_frames(batch)
        _, described = self.link_and_describe(batch, frames)
        return described

    def measure(
        self, tubes: LinkedTubes, batch: ClipBatch, raw: RawMaps | None, logits: BoxLogits
    ) -> dict[str, Tensor]:
        """Statistic -> what is measured of the tubes; `raw` may lack where there is none."""
        if raw is None:
            return {}
        pixels = tube_pixels(tubes, batch, raw, self.input_spec.key, logits)
        return {name: part.numbers(pixels) for name, part in self.statistics.items()}

    def embed_tubes(self, tubes: DescribedTubes) -> dict[str, TubeSide]:
        """Module name -> the module's side of the score."""
        layers = self.tube_layers
        described = {name: layers[name](tubes.aggregated[name]) for name in self.described}
        whole = layers[self.appearance](tubes.whole)
        known = TubeFeatures(
            streams={
                name: described[source]
                for name, source in self.source.items()
                if source in described
            },
            whole=whole,
            location=tubes.location.to(whole.dtype),
            boxes=tubes.boxes,
            valid=tubes.valid,
            statistics={n: part(tubes.numbers[n]) for n, part in self.statistics.items()},
        )
        return {name: head(known) for name, head in self.heads.items()}

    # The sentence's side

    def encode_sentences(self, queries: Sequence[Query]) -> EncodedSentences:
        """Word attention and the sentences' side of the score, for Q sentences at once."""
        return self.match_sentences(queries)

    def match_sentences(
        self, queries: Sequence[Query], told: Tensor | None = None
    ) -> EncodedSentences:
        """The heads' sides of Q sentences; `told` (Q, n) as `build_matching` was told."""
        encoded = self.language([query.words for query in queries])
        vectors = encoded.vectors
        if told is not None:
            vectors = {n: torch.cat([own, told.to(own.dtype)], -1) for n, own in vectors.items()}
        sides = {name: head.matching.queries(vectors[name]) for name, head in self.heads.items()}
        biases = {name: head.matching.bias for name, head in self.heads.items()}
        return EncodedSentences(sides, biases, encoded.attention)

    def embed_queries(self, queries: Sequence[Query]) -> list[QueryEmbedding]:
        """One (D,) vector a sentence, whose inner product with a tube's vector, plus the bias, is
        the tube's score."""
        sentences = self.encode_sentences(queries)
        vectors = torch.cat(list(sentences.sides.values()), -1)
        bias = torch.stack(list(sentences.biases.values())).sum()
        first, last = sentences.ends()
        return [
            QueryEmbedding(
                vectors[i], bias, first[i, : len(query.tokens)], last[i, : len(query.tokens)]
            )
            for i, query in enumerate(queries)
        ]

    # Learning

    def matching_losses(self, samples: Sequence[TubeSample]) -> dict[str, Tensor]:
        """The matching loss (12) of tubes that were described before."""
        tubes = DescribedTubes.cat([sample.tubes for sample in samples])
        tubes = tubes.map(lambda value: value.to(self.device))
        scores = self.total(self.embed_tubes(tubes), samples)
        referents = [sample.referents for sample in samples]
        return self.objective.of_matching(referents, tubes.boxes, tubes.valid, scores)

    def total(
        self, sides: dict[str, TubeSide], samples: Sequence[Sample] | Sequence[TubeSample]
    ) -> Tensor:
        """Scores (Q + S, B, K), the modules' sums, of all samples' sentences, then of strangers."""
        queries = [query for sample in samples for query in sample.queries]
        queries += [query for sample in samples for query in sample.strangers]
        modules = self.scores(sides, self.encode_sentences(queries))
        return torch.stack(list(modules.values())).sum(0)


def visual_options(config: AAMNConfig) -> dict[str, Any]:
    """All options but those of the language side and of training."""
    options = {k: v for k, v in to_dict(config).items() if k not in TEXT_OPTIONS}
    for name in ("weights", "flow_weights", "frozen_stages", "dropout"):  # training's
        options["backbone"].pop(name)
    return options


def strangers_needed(config: AAMNConfig) -> int:
    """How many sentences about other videos (12) may need of a sample."""
    objective = config.objective
    needed = objective.loss == "margin" and objective.mismatches == "training"
    return (config.proposals - 1) * needed


def proposals_of(samples: Sequence[Sample]) -> list[Proposals]:
    """The samples' proposals.

    Raises:
        ValueError: a sample has none.
    """
    return all_given([sample.proposals for sample in samples], "proposals")


def _head_names(config: AAMNConfig) -> tuple[str, ...]:
    """The names of the matching heads whose scores are summed."""
    if config.matching != "modules":
        return (config.matching,)
    enabled = {"actor": config.actor.enabled, "action": config.action.enabled}
    return tuple(name for name, there in enabled.items() if there)


def _heads(
    config: AAMNConfig, words: int, streams: int, statistics: Modules[Statistic]
) -> dict[str, Head]:
    """The matching heads, by name."""
    channels, width = config.tube_channels, config.match_channels
    known = streams * channels + sum(part.channels for part in statistics.values())
    kinds: dict[str, Callable[[], Head]] = {
        "actor": lambda: ActorModule(config.actor, channels, words, width),
        "action": lambda: ActionModule(config.action, channels, words, width),
        "joint": lambda: JointModule(channels, words, width),
        "relation": lambda: RelationModule(config.relation, channels, known, words, width),
    }
    return {name: kinds[name]() for name in _head_names(config)}
