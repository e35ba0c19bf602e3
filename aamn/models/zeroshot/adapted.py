"""The zero-shot system with matching learned beside it, from sentences of the user's own.

The frozen parts find and link tubes, mask them, and say of either side what they say without
training; from that, a learned head makes vectors of its own beside theirs, and each coordinate's
weight is learned. The score is still one inner product: before training it is the zero-shot one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from aamn.config.schema import AAMNConfig
from aamn.config.zeroshot import ZeroShotConfig
from aamn.models.assignment import Referents
from aamn.models.encoded import ClipBatch, EncodedClips, EncodedSentences, FrameFeatures
from aamn.models.matching import TubeSide
from aamn.models.statistics import RawMaps, raw_map
from aamn.models.tube_matching import (
    TubeMatching,
    proposals_of,
    strangers_needed,
    visual_options,
)
from aamn.models.visual import DescribedTubes
from aamn.models.zeroshot.attributes import NamedWords
from aamn.models.zeroshot.segmenter import ZeroShot, side_widths
from aamn.ops.boxes import location_features
from aamn.structures import InputSpec, Query, Sample
from aamn.tubes.linking import LinkedTubes
from proposals.backbones import weights_hash
from proposals.errors import InputError
from proposals.inference_form import inference_form

LEARNED = "relation"  # the head that learns
SENTENCES = 20_000  # of which is kept what the frozen parts say
AT_ONCE = 64  # sentences that go through the text model

Self = TypeVar("Self", bound="Adapted")


@dataclass(frozen=True)
class _Frozen:
    """The zero-shot system in the form in which it is used, and what tells it from others: of its
    weights and of its backbone, which the detector shares."""

    system: ZeroShot
    weights: str
    backbone: str


@dataclass(frozen=True)
class _Told:
    """What the frozen parts say of one sentence: their sides (D_m,) and its words' parts (L,)."""

    sides: dict[str, Tensor]
    attention: dict[str, Tensor]


class Adapted(TubeMatching):
    """A zero-shot system that never changes, and the matching that learns; see the module's
    docstring. The frozen parts are no submodule: nothing of them learns, is saved or counted; they
    are put in with `attach`.

    Of the description (2), the zero-shot system's two sides stand in the place of the streams'
    features: appearance and place for RGB, motion for flow. `shifts` change what the coordinates
    weigh in the zero-shot score.
    """

    text_side = (*TubeMatching.text_side, "shifts.")

    def __init__(
        self, zeroshot: ZeroShotConfig, config: AAMNConfig, embedding: nn.Embedding
    ) -> None:
        """Raises:
        InputError: another matching than the relation head's.
        """
        super().__init__()
        if config.matching != LEARNED:
            raise InputError(
                f"aamn.matching: the system adapted learns by {LEARNED!r}, got {config.matching!r}"
            )
        size, radius = zeroshot.size, zeroshot.radius
        self.config = replace(config, radius=radius, size=size, proposals=zeroshot.proposals)
        self.link_balance = zeroshot.link_balance
        self.input_spec = InputSpec(
            offsets=tuple(range(-radius, radius + 1)),
            network_size=(size, size),
            flow=True,
            proposals=zeroshot.proposals,
            strangers=strangers_needed(self.config),
        )
        self.widths = side_widths(zeroshot)
        self.described = [*self.widths]
        self.source = {"rgb": "actor", "flow": "action"}
        self.appearance = "actor"
        told = sum(self.widths.values())
        self.build_matching(self.config, self.widths, embedding, told)
        nn.init.zeros_(self.heads[LEARNED].matching.score.weight)  # nothing is added at first
        self.shifts = nn.ParameterDict({n: torch.zeros(w) for n, w in self.widths.items()})
        self._frozen: list[_Frozen] = []
        self._kept: dict[str, _Told] = {}

    def tube_layer(self, config: AAMNConfig, width: int) -> nn.Sequential:
        """The same behind a norm: an image-text vector's numbers are small beside the others."""
        return nn.Sequential(nn.LayerNorm(width), *super().tube_layer(config, width))

    # The frozen parts

    def attach(self, frozen: ZeroShot) -> None:
        """Puts the zero-shot system in, whose sides this one was made for.

        Raises:
            InputError: its sides are of other widths.
        """
        if frozen.head_widths != self.widths:
            raise InputError(
                f"zeroshot.published.image_text_width: the parts' sides have {frozen.head_widths} "
                f"numbers, wanted {self.widths}; name the width of this image-text model's vectors"
            )
        system = inference_form(frozen.eval().requires_grad_(False))
        weights = "" if frozen.rcnn is None else weights_hash(frozen.rcnn)
        self._frozen = [_Frozen(system, weights, frozen.backbone_hash)]
        self._kept.clear()

    @property
    def frozen(self) -> ZeroShot:
        """The zero-shot system.

        Raises:
            InputError: none was put in.
        """
        return self._attached.system

    @property
    def _attached(self) -> _Frozen:
        if not self._frozen:
            raise InputError(
                "the system adapted stands on public parts, which this does not load: use its "
                "bundle or checkpoint with `aamn segment`, `aamn evaluate` or aamn.load"
            )
        return self._frozen[0]

    def _apply(self: Self, fn: Any, recurse: bool = True) -> Self:
        """The frozen parts go where the others go."""
        for part in self._frozen:
            part.system._apply(fn, recurse)
        self._kept.clear()
        return super()._apply(fn, recurse)

    # What the index asks before it begins

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both: RGB and flow."""
        return "rgb", "flow"

    @property
    def head_widths(self) -> dict[str, int]:
        """The zero-shot ones, and the learned vector beside the first."""
        learned = super().head_widths[LEARNED]
        return {**self.widths, "actor": self.widths["actor"] + learned}

    @property
    def backbone_hash(self) -> str:
        """As the zero-shot system's."""
        return self._attached.backbone

    def video_options(self) -> dict[str, Any]:
        """The learned part's, and all that tells the frozen parts from others."""
        return {"system": "adapted", "learned": visual_options(self.config), **self._identity()}

    def describing(self) -> tuple[str, dict[str, Tensor]]:
        """The frozen parts, and what is measured beside them."""
        return f"{self._identity()} {self.config.statistics}", {}

    def _identity(self) -> dict[str, Any]:
        return {"frozen": self.frozen.video_options(), "weights": self._attached.weights}

    def check_classes(self, classes: Sequence[str], source: str) -> None:
        """As the zero-shot system."""
        self.frozen.check_classes(classes, source)

    # The video's side

    def encode_maps(self, images: dict[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
        """As the zero-shot system."""
        return self.frozen.encode_maps(images)

    def shared_maps(self, maps: dict[str, tuple[Tensor, ...]]) -> list[Tensor]:
        """As the zero-shot system."""
        return self.frozen.shared_maps(maps)

    def describe_rois(self, maps: dict[str, tuple[Tensor, ...]], batch: ClipBatch) -> FrameFeatures:
        """As the zero-shot system."""
        return self.frozen.describe_rois(maps, batch)

    def link_features(self, roi_features: dict[str, Tensor]) -> Tensor:
        """As the zero-shot system."""
        return self.frozen.link_features(roi_features)

    def encode_tubes(self, batch: ClipBatch, frames: FrameFeatures) -> EncodedClips:
        """The zero-shot system's tubes, with both systems' vectors."""
        clips = self._clips(batch, frames)
        return replace(clips, sides=self.embed_tubes(self._describe(clips, batch)))

    def link_and_describe(
        self, batch: ClipBatch, frames: FrameFeatures
    ) -> tuple[LinkedTubes, DescribedTubes]:
        """The tubes of B clips, and what the frozen parts say of them."""
        clips = self._clips(batch, frames)
        return clips.tubes, self._describe(clips, batch)

    @torch.no_grad()
    def _clips(self, batch: ClipBatch, frames: FrameFeatures) -> EncodedClips:
        return self.frozen.encode_tubes(batch, frames)

    @torch.no_grad()
    def _describe(self, clips: EncodedClips, batch: ClipBatch) -> DescribedTubes:
        """Both sides of the zero-shot system; the whole clip is the mean of its tubes."""
        tubes, maps, key = clips.tubes, clips.maps, self.input_spec.key
        aggregated = {name: side.vectors for name, side in clips.sides.items()}
        there = tubes.valid[..., None].to(aggregated["actor"].dtype)
        whole = (aggregated["actor"] * there).sum(1) / there.sum(1).clamp(min=1)
        raw = None
        if len(self.statistics):
            raw = RawMaps(raw_map(maps["rgb"][-1].float()), maps["flow"][0])
        boxes = batch.boxes[:, key]
        return DescribedTubes(
            aggregated,
            whole,
            location_features(boxes, batch.sizes[:, 1:], batch.sizes[:, :1]),
            boxes,
            tubes.valid,
            self.measure(tubes, batch, raw, partial(self.frozen.find_masks, maps["rgb"])),
        )

    def embed_tubes(self, tubes: DescribedTubes) -> dict[str, TubeSide]:
        """The zero-shot sides, with the learned vector beside the first."""
        learned = super().embed_tubes(tubes)[LEARNED].vectors * self.config.relation.scale
        actor = torch.cat([tubes.aggregated["actor"].to(learned.dtype), learned], -1)
        return {"actor": TubeSide(actor), "action": TubeSide(tubes.aggregated["action"])}

    def mask_logits(self, clips: EncodedClips, frames: Tensor, boxes: Tensor) -> Tensor:
        """As the zero-shot system."""
        return self.frozen.mask_logits(clips, frames, boxes)

    # The sentence's side

    def encode_sentences(self, queries: Sequence[Query]) -> EncodedSentences:
        """What the frozen parts say, and what was learned, beside each other; the attention shown
        is the mean of both."""
        told = self._tell(queries)
        vectors = torch.cat([*told.sides.values()], -1)
        own = self.match_sentences(queries, vectors)
        learned = own.sides[LEARNED]
        weighed = {n: side * (1 + self.shifts[n]) for n, side in told.sides.items()}
        actor = torch.cat([weighed["actor"], learned], -1)
        attention = (told.attention["actor"] + own.attention[LEARNED]) / 2
        return EncodedSentences(
            {**weighed, "actor": actor},
            {**told.biases, "actor": told.biases["actor"] + own.biases[LEARNED]},
            {**told.attention, "actor": attention},
        )

    def _tell(self, queries: Sequence[Query]) -> EncodedSentences:
        """The frozen parts' sides; what was said of a sentence once is kept."""
        kept = {q.text: self._kept[q.text] for q in queries if q.text in self._kept}
        lacking = iter(dict.fromkeys(q.text for q in queries if q.text not in kept))
        while some := list(islice(lacking, AT_ONCE)):
            kept |= self._ask(some)
        if len(self._kept) > SENTENCES:
            self._kept.clear()
        self._kept |= kept
        rows = [kept[query.text] for query in queries]
        pad = partial(nn.utils.rnn.pad_sequence, batch_first=True)
        names = self.described
        zero = torch.zeros((), device=self.device)
        return EncodedSentences(
            {name: torch.stack([row.sides[name] for row in rows]) for name in names},
            dict.fromkeys(names, zero),
            {name: pad([row.attention[name] for row in rows]) for name in names},
        )

    def _ask(self, texts: Sequence[str]) -> dict[str, _Told]:
        with torch.inference_mode(False), torch.no_grad():  # also what learns will use them
            own = cast(NamedWords, self.frozen.words).encoded(texts)
            found = self.frozen.encode_sentences(own)
        return {
            query.text: _Told(
                {name: side[row] for name, side in found.sides.items()},
                {name: of[row, : len(query.tokens)] for name, of in found.attention.items()},
            )
            for row, query in enumerate(own)
        }

    # Learning

    def forward(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The matching loss (12); masks are the detector's, and learn nothing."""
        clips = self.encode([sample.clip for sample in samples], proposals_of(samples))
        tubes, key = clips.tubes, self.input_spec.key
        return self.objective.of_matching(
            [Referents.of(sample) for sample in samples],
            tubes.boxes[:, :, key],
            tubes.valid,
            self.total(clips.sides, samples),
        )

    def mask_losses(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Raises:
        InputError: the masks are the detector's.
        """
        raise InputError("train.phases: masks of the system adapted do not learn; show tubes")
