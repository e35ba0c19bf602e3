"""A segmenter whose networks are graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from aamn.config.schema import AAMNConfig
from aamn.data.words import Words
from aamn.export.graphs import Graph
from aamn.export.parts import (
    CONTEXT,
    MASKS,
    SENTENCES,
    TUBES,
    map_names,
    regions_name,
    stream_name,
    tube_inputs,
)
from aamn.models.aamn import AAMN
from aamn.models.encoded import EncodedSentences
from aamn.models.matching import Context, TubeSide
from aamn.models.visual import DescribedTubes
from aamn.structures import Query


class GraphAAMN(AAMN):
    """AAMN as `aamn export` wrote it: all that has weights is done by graphs, and what has none,
    such as linking, as ever. Its layers are there without memory, for their sizes alone."""

    def __init__(
        self,
        config: AAMNConfig,
        words: Words,
        graphs: Mapping[str, Graph],
        model: str,
        backbone: str,
        precision: str = "float32",
    ) -> None:
        """`model` and `backbone` are the hashes of the network that was exported."""
        backbones = replace(config.backbone, weights="", flow_weights="")
        with torch.device("meta"):
            super().__init__(replace(config, backbone=backbones), words)
        self.graphs, self.known_hash, self._backbone_hash = graphs, model, backbone
        self.only_precision = precision

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def backbone_hash(self) -> str:
        """That of the RGB stream's backbone that was exported."""
        return self._backbone_hash

    def stream_maps(self, name: str, images: Tensor) -> tuple[Tensor, ...]:
        """One stream's maps of its frames (N, C, H, W)."""
        return tuple(self.graphs[stream_name(name)]({"images": images}).values())

    def region_features(self, name: str, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """(R, C_v) of rois (R, 5) of a stream's maps."""
        inputs = {**_named_maps(name, maps), "rois": rois}
        return self.graphs[regions_name(name)](inputs)["features"]

    def roi_mask_logits(self, maps: dict[str, tuple[Tensor, ...]], rois: Tensor) -> Tensor:
        """Logits (N, g, g) of ROIs (N, 5) of the maps."""
        inputs = {"rois": rois}
        for name in self.mask_sources:
            inputs |= _named_maps(name, maps[name])
        return self.graphs[MASKS](inputs)["logits"]

    def embed_tubes(self, tubes: DescribedTubes) -> dict[str, TubeSide]:
        """Module name -> the module's side of the score."""
        found = self.graphs[TUBES](tube_inputs(tubes))
        context = None
        if CONTEXT[0] in found:
            attention, members = (found[name] for name in CONTEXT)
            context = Context(attention.new_empty(0), attention, members)
        return {
            name: TubeSide(found[f"vectors_{name}"], context if name == "action" else None)
            for name in self.heads
        }

    def encode_sentences(self, queries: Sequence[Query]) -> EncodedSentences:
        """Word attention and the sentences' side of the score, for Q sentences at once."""
        ids = pad_sequence([query.words for query in queries], batch_first=True)
        lengths = torch.tensor([len(query.words) for query in queries])
        found = self.graphs[SENTENCES]({"ids": ids, "lengths": lengths})
        sides, attention = (
            {name: found[f"{kind}_{name}"] for name in self.heads}
            for kind in ("vectors", "attention")
        )
        biases = {name: found[f"bias_{name}"][0] for name in self.heads}
        return EncodedSentences(sides, biases, attention)


def _named_maps(stream: str, maps: Sequence[Tensor]) -> dict[str, Tensor]:
    return dict(zip(map_names(stream, len(maps)), maps, strict=True))
