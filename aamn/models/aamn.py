"""The actor and action modular network (Yang et al., IEEE TIP 2022).

The video's side (tubes, their embeddings, their masks) never sees a sentence, and the sentence's
side never sees a video; they meet in one inner product. So `encode` is done once a clip, and
`embed_queries`, `scores` and `mask_probabilities` answer any sentence from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aamn.config.loading import to_dict
from aamn.config.schema import AAMNConfig
from aamn.models.action import ActionModule
from aamn.models.actor import ActorModule, JointModule
from aamn.models.encoded import (
    ClipBatch,
    EncodedClips,
    EncodedSentences,
    FrameFeatures,
    TubeSample,
)
from aamn.models.indexable import IndexableSegmenter, all_given
from aamn.models.language import LANGUAGES
from aamn.models.mask_head import DetailedMaskHead, MaskHead
from aamn.models.matching import TubeSide
from aamn.models.modules import Modules
from aamn.models.objective import JointObjective
from aamn.models.relation import RelationModule
from aamn.models.segmenter import Segmenter
from aamn.models.statistics import (
    GRID,
    Statistic,
    TubePixels,
    build_statistics,
    camera_motion,
    crop,
)
from aamn.models.visual import DescribedTubes, FlowStream, Stream, TubeFeatures
from aamn.ops.boxes import location_features
from aamn.structures import (
    Clip,
    InputSpec,
    Proposals,
    Query,
    QueryEmbedding,
    Sample,
    TubeScores,
)
from aamn.tubes.aggregation import AGGREGATIONS, gather_members
from aamn.tubes.linking import LinkedTubes, link_tubes
from proposals.errors import InputError

TEXT_OPTIONS = ("language", "margin", "mask_loss_weight", "match_iou")  # not in an index


class AAMN(IndexableSegmenter):
    """Both streams, both modules and the mask head; see the module's docstring."""

    text_side = ("language.", ".matching.textual.", ".matching.score.")

    def __init__(self, config: AAMNConfig, embedding: nn.Embedding) -> None:
        super().__init__()
        _refuse_contradictions(config)
        self.config, self.link_balance = config, config.link_balance
        radius = config.radius
        self.input_spec = InputSpec(
            offsets=tuple(range(-radius, radius + 1)),
            network_size=(config.size, config.size),
            flow="flow" in config.streams,
            proposals=config.proposals,
            strangers=_strangers(config),
        )
        kinds = {"rgb": Stream, "flow": FlowStream}
        names = config.streams.split("+")
        # Table IV: where a stream is absent, the other one's features take its place.
        self.source = {name: name if name in names else names[0] for name in kinds}
        wanted = {self.source[name] for name in _matched_streams(config)}
        self.described = [name for name in names if name in wanted]
        # whose features the whole frame is known by
        self.appearance = next(n for n in (self.source["rgb"], *names) if n in self.described)
        self.mask_sources = tuple(config.mask_head.features.split("+"))
        detail = {self.mask_sources[0]: config.mask_head.detail_stride}
        self.streams: Modules[Stream] = Modules(
            {
                name: kinds[name](
                    config.backbone, name in wanted, detail.get(name, 0), bool(config.statistics)
                )
                for name in names
            }
        )
        self.tube_layers = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Dropout(config.backbone.dropout),
                    nn.Linear(config.backbone.fc, config.tube_channels),
                    nn.ReLU(inplace=True),
                )
                for name in self.described
            }
        )
        self.aggregate = AGGREGATIONS[config.aggregation]
        self.statistics = build_statistics(config.statistics, 2 * radius + 1)
        language = LANGUAGES[config.language.values]
        words = language.channels(config.language, embedding.embedding_dim)
        self.heads: Modules[ActorModule | ActionModule | RelationModule] = Modules(
            _heads(config, words, self.statistics)
        )
        self.language = language(config.language, embedding, tuple(self.heads))
        grid_channels = sum(self.streams[name].backbone.channels for name in self.mask_sources)
        if config.mask_head.detail_stride:
            channels = self.streams[self.mask_sources[0]].detail_channels
            head: nn.Module = DetailedMaskHead(config.mask_head, grid_channels, channels)
        else:
            head = MaskHead(config.mask_head, grid_channels)
        self.mask_head = head
        self.objective = JointObjective(config)

    @property
    def backbone_hash(self) -> str:
        """A hash of the RGB stream's backbone; "" without this stream."""
        return self.streams["rgb"].backbone_hash if "rgb" in self.streams else ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The streams."""
        return tuple(self.streams)

    @property
    def head_widths(self) -> dict[str, int]:
        """Those of the matching heads' common space."""
        return {name: head.matching.visual.out_features for name, head in self.heads.items()}

    def video_options(self) -> dict[str, Any]:
        """All but those of the language side and of training."""
        options = {k: v for k, v in to_dict(self.config).items() if k not in TEXT_OPTIONS}
        for name in ("weights", "flow_weights", "frozen_stages", "dropout"):  # training's
            options["backbone"].pop(name)
        return options

    # The video's side

    def encode_maps(self, images: dict[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
        """Stream name -> its maps of frames (N, C, H, W)."""
        return {name: stream(images[name]) for name, stream in self.streams.items()}

    def shared_maps(self, maps: dict[str, tuple[Tensor, ...]]) -> list[Tensor]:
        """Those of the RGB stream's backbone."""
        return self.streams["rgb"].shared(maps["rgb"])

    def describe_rois(self, maps: dict[str, tuple[Tensor, ...]], batch: ClipBatch) -> FrameFeatures:
        """The features of the batch's boxes, whose frames the maps are of."""
        roi_features = {
            name: self._roi_features(name, maps[name], batch) for name in self.described
        }
        return FrameFeatures(maps, roi_features)

    def link_features(self, roi_features: dict[str, Tensor]) -> Tensor:
        """What (1) compares (..., K, C) of ROI features (..., 1 + K, C_v)."""
        names = self.config.link_features.split("+")
        return torch.cat([roi_features[name][..., 1:, :] for name in names], -1)

    def encode_tubes(self, batch: ClipBatch, frames: FrameFeatures) -> EncodedClips:
        """Tubes and their embeddings of B clips, from the features of their B * T frames."""
        tubes, described = self.link_and_describe(batch, frames)
        return EncodedClips(tubes, self.embed_tubes(described), frames.maps, batch.factors)

    def link_and_describe(
        self, batch: ClipBatch, frames: FrameFeatures
    ) -> tuple[LinkedTubes, DescribedTubes]:
        """The tubes (1) of B clips, and what of them comes before anything that matching learns."""
        shape = batch.boxes.shape[:2]
        features = {name: value.unflatten(0, shape) for name, value in frames.roi_features.items()}
        tubes = link_tubes(
            batch.boxes,
            self.link_features(features),
            batch.valid,
            self.input_spec.key,
            self.link_balance,
            self.config.linking,
        )
        return tubes, self._describe(tubes, features, batch, frames.maps)

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

    def _numbers(
        self, tubes: LinkedTubes, batch: ClipBatch, maps: dict[str, tuple[Tensor, ...]]
    ) -> dict[str, Tensor]:
        if not len(self.statistics):
            return {}
        pixels = self._pixels(tubes, batch, maps)
        return {name: part.numbers(pixels) for name, part in self.statistics.items()}

    @torch.no_grad()
    def _pixels(
        self, tubes: LinkedTubes, batch: ClipBatch, maps: dict[str, tuple[Tensor, ...]]
    ) -> TubePixels:
        """What the tubes show: colours and mask of the key frame, flow of all frames."""
        b, k, t, _ = tubes.boxes.shape
        frames = torch.arange(b * t, device=tubes.boxes.device).view(b, 1, t).expand(b, k, t)
        boxes = tubes.boxes * batch.factors[:, None, None]
        key = self.input_spec.key
        keys, own = frames[..., key].flatten(), boxes[:, :, key].flatten(0, 1)
        logits = self.roi_mask_logits(maps, torch.cat([keys[:, None].to(own.dtype), own], 1))
        masks = F.adaptive_avg_pool2d(logits.float().sigmoid(), GRID)
        flow = maps["flow"][-1].float()
        flow = flow - camera_motion(flow, batch.content.repeat_interleave(t, 0))[..., None, None]
        return TubePixels(
            crop(maps["rgb"][-1], keys, own).unflatten(0, (b, k)),
            masks.unflatten(0, (b, k)),
            crop(flow, frames.flatten(), boxes.flatten(0, 2)).unflatten(0, (b, k, t)),
            boxes,
            tubes.linked,
        )

    def _roi_features(self, name: str, maps: Sequence[Tensor], batch: ClipBatch) -> Tensor:
        """(B * T, 1 + K, C_v): the whole frame first, then its proposals."""
        b, t, k, _ = batch.boxes.shape
        whole = batch.content[:, None, None].expand(-1, t, 1, -1)
        boxes = torch.cat([whole, batch.boxes * batch.factors[:, None, None]], 2)
        rois = _rois(boxes.reshape(b * t, 1 + k, 4))
        return self.region_features(name, maps, rois).view(b * t, 1 + k, -1)

    def region_features(self, name: str, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """(R, C_v) of rois (R, 5) of a stream's maps."""
        return self.streams[name].features(maps, rois)

    def _describe(
        self,
        tubes: LinkedTubes,
        features: dict[str, Tensor],
        batch: ClipBatch,
        maps: dict[str, tuple[Tensor, ...]],
    ) -> DescribedTubes:
        """Aggregation (2) for both streams and for the whole clip, and what the pixels say."""
        key = self.input_spec.key
        aggregated = {
            name: self.aggregate(
                gather_members(values[:, :, 1:], tubes.members), tubes.linked, key
            )  # of (B, K, T, C_v)
            for name, values in features.items()
        }
        frames = features[self.appearance][:, :, 0]  # (B, T, C_v)
        everywhere = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        height, width = batch.sizes[:, :1], batch.sizes[:, 1:]
        boxes = batch.boxes[:, key]
        return DescribedTubes(
            aggregated,
            self.aggregate(frames, everywhere, key),
            location_features(boxes, width, height),
            boxes,
            tubes.valid,
            self._numbers(tubes, batch, maps),
        )

    # The sentence's side

    def encode_sentences(self, queries: Sequence[Query]) -> EncodedSentences:
        """Word attention and the sentences' side of the score, for Q sentences at once."""
        encoded = self.language([query.words for query in queries])
        sides = {
            name: head.matching.queries(encoded.vectors[name]) for name, head in self.heads.items()
        }
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

    # Masks

    def mask_logits(self, clips: EncodedClips, frames: Tensor, boxes: Tensor) -> Tensor:
        """Logits (N, g, g) over boxes (N, 4), original pixels, of frames (N,) counted over all
        clips' frames in a row; one batch, whatever N is."""
        t = clips.tubes.boxes.shape[2]
        factors = clips.factors[frames // t]
        rois = torch.cat([frames[:, None].to(boxes.dtype), boxes * factors], 1)
        return self.roi_mask_logits(clips.maps, rois)

    def roi_mask_logits(self, maps: dict[str, tuple[Tensor, ...]], rois: Tensor) -> Tensor:
        """Logits (N, g, g) of ROIs (N, 5) of the maps."""
        resolution = self.config.mask_head.resolution
        grids = [
            self.streams[name].grids(maps[name], rois, resolution) for name in self.mask_sources
        ]
        first = self.mask_sources[0]
        details = self.streams[first].details(maps[first], rois, 2 * resolution)
        return self.mask_head(torch.cat(grids, 1), *details)

    # The door

    def forward(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Joint loss (10) with its parts; counts the sentences whose actor no proposal holds."""
        clips = self.encode([s.clip for s in samples], _proposals(samples))
        scores = self._total(clips.sides, samples)
        return self.objective(
            samples, clips, scores, partial(self.mask_logits, clips), self.input_spec.key
        )

    def mask_losses(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The mask loss (11) of samples whose clips are their key frames alone."""
        batch = self._batch([s.clip for s in samples], _proposals(samples))
        boxes = batch.boxes.transpose(1, 2)  # (B, K, 1, 4): every proposal is its own tube
        members = torch.arange(boxes.shape[1], device=boxes.device).expand(len(boxes), -1)[
            ..., None
        ]
        valid = batch.valid[:, 0]
        tubes = LinkedTubes(members, boxes, valid, torch.zeros_like(boxes[..., 0]))
        clips = EncodedClips(tubes, {}, self.encode_maps(batch.images), batch.factors)
        return self.objective.of_masks(samples, clips, partial(self.mask_logits, clips), 0)

    def matching_losses(self, samples: Sequence[TubeSample]) -> dict[str, Tensor]:
        """The matching loss (12) of tubes that were described before."""
        tubes = DescribedTubes.cat([sample.tubes for sample in samples])
        tubes = tubes.map(lambda value: value.to(self.device))
        scores = self._total(self.embed_tubes(tubes), samples)
        referents = [sample.referents for sample in samples]
        return self.objective.of_matching(referents, tubes.boxes, tubes.valid, scores)

    def describe_clips(
        self, clips: Sequence[Clip], proposals: Sequence[Proposals]
    ) -> DescribedTubes:
        """The tubes of B clips, before anything that matching learns."""
        batch = self._batch(clips, proposals)
        frames = self.encode_frames(batch)
        _, described = self.link_and_describe(batch, frames)
        return described

    def _total(
        self, sides: dict[str, TubeSide], samples: Sequence[Sample] | Sequence[TubeSample]
    ) -> Tensor:
        """Scores (Q + S, B, K), the modules' sums, of all samples' sentences, then of strangers."""
        queries = [query for sample in samples for query in sample.queries]
        queries += [query for sample in samples for query in sample.strangers]
        modules = self.scores(sides, self.encode_sentences(queries))
        return torch.stack(list(modules.values())).sum(0)


def as_aamn(segmenter: Segmenter) -> AAMN:
    """The segmenter, whose parts are AAMN's.

    Raises:
        InputError: it is another system.
    """
    if not isinstance(segmenter, AAMN):
        raise InputError(f"wanted a recipe of the system aamn, got {type(segmenter).__name__}")
    return segmenter


class MostConfident(AAMN):
    """The same masks on the detector's most confident box: what the sentence is worth is what AAMN
    gains over this."""

    def choose(self, scores: TubeScores) -> int:
        """The first tube: proposals come most confident first."""
        return int(torch.isfinite(scores.total).float().argmax())


def _strangers(config: AAMNConfig) -> int:
    """How many sentences about other videos (12) may need of a sample."""
    objective = config.objective
    needed = objective.loss == "margin" and objective.mismatches == "training"
    return (config.proposals - 1) * needed


def _proposals(samples: Sequence[Sample]) -> list[Proposals]:
    return all_given([sample.proposals for sample in samples], "proposals")


def _rois(boxes: Tensor) -> Tensor:
    """Boxes (N, R, 4) of N images as rows (N * R, 5) with the image's number first."""
    n, r, _ = boxes.shape
    image = torch.arange(n, device=boxes.device, dtype=boxes.dtype).repeat_interleave(r)
    return torch.cat([image[:, None], boxes.reshape(n * r, 4)], 1)


def _matched_streams(config: AAMNConfig) -> set[str]:
    """The streams whose ROI features something is computed from."""
    wanted: str = config.link_features
    if config.matching != "modules":
        return {"rgb", "flow"}
    if config.actor.enabled:
        wanted += "+" + config.actor.features
    if config.action.enabled:
        wanted += "+" + config.action.features
    return set(wanted.split("+"))


def _head_names(config: AAMNConfig) -> tuple[str, ...]:
    """The names of the matching heads whose scores are summed."""
    if config.matching != "modules":
        return (config.matching,)
    enabled = {"actor": config.actor.enabled, "action": config.action.enabled}
    return tuple(name for name, there in enabled.items() if there)


def _heads(
    config: AAMNConfig, words: int, statistics: Modules[Statistic]
) -> dict[str, ActorModule | ActionModule | RelationModule]:
    """The matching heads, by name."""
    channels, width = config.tube_channels, config.match_channels
    more = sum(part.channels for part in statistics.values())
    kinds: dict[str, Callable[[], ActorModule | ActionModule | RelationModule]] = {
        "actor": lambda: ActorModule(config.actor, channels, words, width),
        "action": lambda: ActionModule(config.action, channels, words, width),
        "joint": lambda: JointModule(channels, words, width),
        "relation": lambda: RelationModule(config.relation, channels, more, words, width),
    }
    return {name: kinds[name]() for name in _head_names(config)}


def _refuse_contradictions(config: AAMNConfig) -> None:
    """Raises InputError where two choices exclude each other."""
    streams = set(config.streams.split("+"))
    for key, value in (
        ("link_features", config.link_features),
        ("mask_head.features", config.mask_head.features),
    ):
        if not set(value.split("+")) <= streams:
            raise InputError(f"aamn.{key} is {value!r}, but aamn.streams is {config.streams!r}")
    if config.statistics and (config.matching != "relation" or streams != {"rgb", "flow"}):
        raise InputError(
            "aamn.statistics is for aamn.matching 'relation', with both streams; got "
            f"{config.matching!r} and {config.streams!r}"
        )
    if config.matching == "modules" and not (config.actor.enabled or config.action.enabled):
        raise InputError("aamn: at least one of actor.enabled and action.enabled is needed")
