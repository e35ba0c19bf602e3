"""The actor and action modular network (Yang et al., IEEE TIP 2022).

The video's side (tubes, their embeddings, their masks) never sees a sentence, and the sentence's
side never sees a video; they meet in one inner product. So `encode` is done once a clip, and
`embed_queries`, `scores` and `mask_probabilities` answer any sentence from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from aamn.config.schema import AAMNConfig
from aamn.models.encoded import ClipBatch, EncodedClips, FrameFeatures
from aamn.models.mask_head import DetailedMaskHead, MaskHead
from aamn.models.modules import Modules
from aamn.models.segmenter import Segmenter
from aamn.models.statistics import PIXELS, RawMaps, raw_map
from aamn.models.tube_matching import (
    TubeMatching,
    proposals_of,
    strangers_needed,
    visual_options,
)
from aamn.models.visual import DescribedTubes, FlowStream, Stream
from aamn.ops.boxes import location_features
from aamn.structures import InputSpec, Sample, TubeScores
from aamn.tubes.aggregation import AGGREGATIONS, gather_members
from aamn.tubes.linking import LinkedTubes, link_tubes
from proposals.errors import InputError


class AAMN(TubeMatching):
    """Both streams, both modules and the mask head; see the module's docstring."""

    def __init__(self, config: AAMNConfig, embedding: nn.Embedding) -> None:
        super().__init__()
        _refuse_contradictions(config)
        self.config, self.link_balance = config, config.link_balance
        radius = config.radius
        self.input_spec = InputSpec(
            offsets=tuple(range(-radius, radius + 1)),
            network_size=(config.size, config.size),
            flow="flow" in config.streams or bool(config.statistics),
            proposals=config.proposals,
            strangers=strangers_needed(config),
        )
        kinds = {"rgb": Stream, "flow": FlowStream}
        names = config.streams.split("+")
        # Table IV: where a stream is absent, the other one's features take its place.
        self.source = {name: name if name in names else names[0] for name in kinds}
        wanted = {self.source[name] for name in _matched_streams(config)}
        self.described = [name for name in names if name in wanted]
        if config.matching == "relation":  # which takes what there is
            self.source = {name: name for name in self.described}
        # whose features the whole frame is known by
        self.appearance = "rgb" if "rgb" in self.described else self.described[0]
        self.mask_sources = tuple(config.mask_head.features.split("+"))
        detail = {self.mask_sources[0]: config.mask_head.detail_stride}
        self.streams: Modules[Stream] = Modules(
            {
                name: kinds[name](config.backbone, name in wanted, detail.get(name, 0))
                for name in names
            }
        )
        self.build_matching(config, dict.fromkeys(self.described, config.backbone.fc), embedding)
        self.aggregate = AGGREGATIONS[config.aggregation]
        grid_channels = sum(self.streams[name].backbone.channels for name in self.mask_sources)
        if config.mask_head.detail_stride:
            channels = self.streams[self.mask_sources[0]].detail_channels
            head: nn.Module = DetailedMaskHead(config.mask_head, grid_channels, channels)
        else:
            head = MaskHead(config.mask_head, grid_channels)
        self.mask_head = head

    @property
    def backbone_hash(self) -> str:
        """A hash of the RGB stream's backbone; "" without this stream."""
        return self.streams["rgb"].backbone_hash if "rgb" in self.streams else ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The streams, and what statistics look at."""
        return tuple(dict.fromkeys([*self.streams, *(PIXELS if len(self.statistics) else ())]))

    def video_options(self) -> dict[str, Any]:
        """All but those of the language side and of training."""
        return visual_options(self.config)

    # The video's side

    def encode_maps(self, images: dict[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
        """Stream name -> its maps of frames (N, C, H, W); for statistics also what they look at."""
        maps = {name: self.stream_maps(name, images[name]) for name in self.streams}
        seen = PIXELS if len(self.statistics) else {}
        return maps | {own: (raw_map(images[name]),) for name, own in seen.items()}

    def stream_maps(self, name: str, images: Tensor) -> tuple[Tensor, ...]:
        """One stream's maps of its frames (N, C, H, W)."""
        return self.streams[name](images)

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

    def _numbers(
        self, tubes: LinkedTubes, batch: ClipBatch, maps: dict[str, tuple[Tensor, ...]]
    ) -> dict[str, Tensor]:
        raw = self._raw(maps) if len(self.statistics) else None
        return self.measure(tubes, batch, raw, partial(self._box_logits, maps))

    def _raw(self, maps: dict[str, tuple[Tensor, ...]]) -> RawMaps:
        return RawMaps(*(maps[PIXELS[name]][0] for name in ("rgb", "flow")))

    def _box_logits(
        self, maps: dict[str, tuple[Tensor, ...]], frames: Tensor, boxes: Tensor
    ) -> Tensor:
        """Logits (N, g, g) over boxes (N, 4), network pixels, of frames (N,) of the maps."""
        return self.roi_mask_logits(maps, torch.cat([frames[:, None].to(boxes.dtype), boxes], 1))

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
        clips = self.encode([s.clip for s in samples], proposals_of(samples))
        scores = self.total(clips.sides, samples)
        return self.objective(
            samples, clips, scores, partial(self.mask_logits, clips), self.input_spec.key
        )

    def mask_losses(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The mask loss (11) of samples whose clips are their key frames alone."""
        batch = self._batch([s.clip for s in samples], proposals_of(samples))
        boxes = batch.boxes.transpose(1, 2)  # (B, K, 1, 4): every proposal is its own tube
        members = torch.arange(boxes.shape[1], device=boxes.device).expand(len(boxes), -1)[
            ..., None
        ]
        valid = batch.valid[:, 0]
        tubes = LinkedTubes(members, boxes, valid, torch.zeros_like(boxes[..., 0]))
        clips = EncodedClips(tubes, {}, self.encode_maps(batch.images), batch.factors)
        return self.objective.of_masks(samples, clips, partial(self.mask_logits, clips), 0)


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


def _refuse_contradictions(config: AAMNConfig) -> None:
    """Raises InputError where two choices exclude each other."""
    streams = set(config.streams.split("+"))
    for key, value in (
        ("link_features", config.link_features),
        ("mask_head.features", config.mask_head.features),
    ):
        if not set(value.split("+")) <= streams:
            raise InputError(f"aamn.{key} is {value!r}, but aamn.streams is {config.streams!r}")
    if config.statistics and config.matching != "relation":
        raise InputError(
            f"aamn.statistics is for aamn.matching 'relation', got {config.matching!r}"
        )
    if config.matching == "modules" and not (config.actor.enabled or config.action.enabled):
        raise InputError("aamn: at least one of actor.enabled and action.enabled is needed")
