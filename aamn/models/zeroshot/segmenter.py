"""The zero-shot system: tubes of a COCO detector, described by pretrained parts, behind the same
inner product. Nothing here learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aamn.config.loading import to_dict
from aamn.config.zeroshot import ZeroShotConfig
from aamn.models.encoded import ClipBatch, EncodedClips, EncodedSentences, FrameFeatures
from aamn.models.indexable import IndexableSegmenter
from aamn.models.matching import TubeSide
from aamn.models.modules import Modules
from aamn.models.statistics import camera_motion
from aamn.models.statistics import crop as crop_flow
from aamn.models.zeroshot.attributes import attributes_width
from aamn.models.zeroshot.colours import colour_shares
from aamn.models.zeroshot.coordinates import motions, places
from aamn.models.zeroshot.masks import COLOUR_MASKS, MaskSource, RCNNParts, ellipse
from aamn.models.zeroshot.sentences import MOTION, PLACE, Asked, read_sentence
from aamn.models.zeroshot.views import TubeViews, cut
from aamn.structures import InputSpec, Query, Sample
from aamn.tubes.aggregation import average, gather_members
from aamn.tubes.linking import LinkedTubes, link_tubes
from proposals.errors import InputError

TEXT_OPTIONS = ("gains", "likeness", "prompts", "generic", "absent_threshold", "published", "crops")
UNSURE = 0.5  # of a detector's confidence: a surer box has an advantage
COARSE = 7  # cells a side of the crops by whose colours boxes are linked


class Describer(Protocol):
    """One of the parts that say what tubes show, and what sentences want of it."""

    width: int

    def tubes(self, views: TubeViews) -> Tensor:
        """(B, K, width), which no sentence has touched."""

    def sentences(self, queries: Sequence[Query], asked: Sequence[Asked]) -> tuple[Tensor, Tensor]:
        """(Q, width), which no video has touched, and each word's part in it (Q, L)."""


def side_widths(config: ZeroShotConfig) -> dict[str, int]:
    """The heads by name, with the widths of their vectors."""
    own = {
        "image_text": config.published.image_text_width,
        "attributes": attributes_width(config.classes),
    }
    described = sum(own[name] for name in config.describers.split("+"))
    return {"actor": described + len(PLACE) + 1, "action": len(MOTION)}


class ZeroShot(IndexableSegmenter):
    """Boxes of a detector, linked by (1) with their classes and colours; the "actor" head holds
    the describers' vectors, then place, confidence; the "action" head the motion."""

    text_side = ("words.", "describers.")  # these models' files are named in the options

    def __init__(
        self,
        config: ZeroShotConfig,
        words: nn.Embedding,
        describers: dict[str, nn.Module],
        rcnn: RCNNParts | None = None,
    ) -> None:
        """Raises:
        InputError: the detector's mask head is wanted, but there is none.
        """
        super().__init__()
        if (config.masks == "rcnn") != (rcnn is not None):
            raise InputError(
                f"zeroshot.masks is {config.masks!r}: rcnn goes with a detector that has a mask "
                "head, grabcut and ellipse with boxes of any other"
            )
        self.config, self.words, self.rcnn = config, words, rcnn
        self.link_balance = config.link_balance
        self.classes = tuple(config.classes)
        self.describers: Modules[Any] = Modules(describers)
        self.input_spec = InputSpec(
            offsets=tuple(range(-config.radius, config.radius + 1)),
            network_size=(config.size, config.size),
            flow=True,
            proposals=config.proposals,
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        return "rgb", "flow"

    @property
    def head_widths(self) -> dict[str, int]:
        described = sum(part.width for part in self.describers.values())
        return {"actor": described + len(PLACE) + 1, "action": len(MOTION)}

    @property
    def backbone_hash(self) -> str:
        return self.rcnn.backbone_hash if self.rcnn is not None else ""

    def video_options(self) -> dict[str, Any]:
        """All but those of the sentence's side; of the image-text model its fingerprint."""
        options = {k: v for k, v in to_dict(self.config).items() if k not in TEXT_OPTIONS}
        models = {n: getattr(p, "fingerprint", "") for n, p in self.describers.items()}
        return {"system": "zeroshot", **options, "models": models}

    def check_classes(self, classes: Sequence[str], source: str) -> None:
        """The box head names what is in a box of any origin; without it the labels count."""
        if self.rcnn is None and tuple(classes) != self.classes:
            raise InputError(
                f"the boxes of {source} are of {len(classes)} classes ({', '.join(classes[:3])} "
                f"...), zeroshot.classes of {len(self.classes)} ({', '.join(self.classes[:3])} "
                "...); name the boxes' own by --set zeroshot.classes=[...]"
            )

    # The video's side

    def encode_maps(self, images: dict[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
        """The detector's maps, if it is ours, then the frames; the flow at half the size."""
        levels = () if self.rcnn is None else self.rcnn.maps(images["rgb"])
        return {"rgb": (*levels, images["rgb"]), "flow": (F.avg_pool2d(images["flow"], 2),)}

    def shared_maps(self, maps: dict[str, tuple[Tensor, ...]]) -> list[Tensor]:
        return list(maps["rgb"][:-1])

    def describe_rois(self, maps: dict[str, tuple[Tensor, ...]], batch: ClipBatch) -> FrameFeatures:
        """Of every box what the detector takes it for, and the colours in its middle."""
        b, t, k, _ = batch.boxes.shape
        boxes = (batch.boxes * batch.factors[:, None, None]).reshape(b * t * k, 4)
        frames = torch.arange(b * t, device=boxes.device).repeat_interleave(k)
        valid = batch.valid.reshape(b * t, k, 1)
        classes = self._classes(maps, batch, frames, boxes).view(b * t, k, -1) * valid
        crops = cut(maps["rgb"][-1], frames, boxes, COARSE)
        middle = F.adaptive_avg_pool2d(ellipse((), frames, boxes).sigmoid(), COARSE)
        colours = colour_shares(crops, middle).view(b * t, k, -1) * valid
        whole = {"classes": classes[:, :1] * 0, "colours": colours[:, :1] * 0}
        features = {"classes": classes, "colours": colours}
        return FrameFeatures(
            maps, {name: torch.cat([whole[name], features[name]], 1) for name in features}
        )

    def _classes(
        self, maps: dict[str, tuple[Tensor, ...]], batch: ClipBatch, frames: Tensor, boxes: Tensor
    ) -> Tensor:
        """(B * T * K, C): the box head's probabilities, or the label's confidence."""
        if self.rcnn is not None:
            return self.rcnn.classify(maps["rgb"], frames, boxes)
        assert batch.labels is not None and batch.confidence is not None
        labels = F.one_hot(batch.labels.flatten(), len(self.classes))
        return labels * batch.confidence.flatten()[:, None].float()

    def link_features(self, roi_features: dict[str, Tensor]) -> Tensor:
        features = torch.cat([roi_features["classes"], roi_features["colours"]], -1)
        return features[..., 1:, :]

    def encode_tubes(self, batch: ClipBatch, frames: FrameFeatures) -> EncodedClips:
        """Tubes and what is said of them."""
        shape = batch.boxes.shape[:2]
        features = {name: value.unflatten(0, shape) for name, value in frames.roi_features.items()}
        link = self.link_features(features)
        tubes = link_tubes(batch.boxes, link, batch.valid, self.input_spec.key, self.link_balance)
        views = self._views(tubes, features, batch, frames.maps)
        described = [part.tubes(views).float() for part in self.describers.values()]
        confidence = views.classes.amax(-1, keepdim=True) - UNSURE
        where = places(tubes.boxes.mean(2), batch.sizes, views.classes, tubes.valid)
        sides = {
            "actor": TubeSide(torch.cat([*described, where, confidence], -1)),
            "action": TubeSide(self._motions(tubes, batch, frames.maps)),
        }
        return EncodedClips(tubes, sides, frames.maps, batch.factors)

    def _views(
        self,
        tubes: LinkedTubes,
        features: dict[str, Tensor],
        batch: ClipBatch,
        maps: dict[str, tuple[Tensor, ...]],
    ) -> TubeViews:
        """The tubes in the key frame and every so many frames before and behind it."""
        b, k, t, _ = tubes.boxes.shape
        key, step = self.input_spec.key, self.config.describe_every
        chosen = torch.arange(key % step, t, step, device=tubes.boxes.device)
        boxes = tubes.boxes[:, :, chosen] * batch.factors[:, None, None]
        frames = torch.arange(b, device=boxes.device)[:, None] * t + chosen  # (B, M)
        frames = frames[:, None].expand(-1, k, -1)
        masks = self.find_masks(maps["rgb"], frames.flatten(), boxes.flatten(0, 2)).sigmoid()
        own = gather_members(features["classes"][:, :, 1:], tubes.members)
        return TubeViews(
            images=maps["rgb"][-1],
            frames=frames,
            boxes=boxes,
            masks=masks.unflatten(0, boxes.shape[:3]),
            classes=average(own, tubes.linked, key),
            there=tubes.linked[:, :, chosen],
        )

    def _motions(
        self, tubes: LinkedTubes, batch: ClipBatch, maps: dict[str, tuple[Tensor, ...]]
    ) -> Tensor:
        b, k, t, _ = tubes.boxes.shape
        boxes = tubes.boxes * batch.factors[:, None, None]
        flow = maps["flow"][0].float()
        camera = camera_motion(flow, batch.content.repeat_interleave(t, 0))  # (B * T, 2)
        frames = torch.arange(b * t, device=boxes.device).view(b, 1, t).expand(b, k, t)
        own = crop_flow(flow - camera[..., None, None], frames.flatten(), boxes.flatten(0, 2))
        length = own.norm(dim=1).flatten(1).quantile(0.75, dim=1).view(b, k, t)
        sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1).prod(-1).sqrt()
        return motions(boxes, camera.view(b, t, 2), (length / sides).mean(-1))

    def find_masks(self, maps: Sequence[Tensor], frames: Tensor, boxes: Tensor) -> Tensor:
        """Logits (N, g, g) over boxes (N, 4), network pixels, of frames (N,) of the maps."""
        source: MaskSource = COLOUR_MASKS[self.config.masks] if self.rcnn is None else self.rcnn
        return source(maps, frames, boxes)

    def mask_logits(self, clips: EncodedClips, frames: Tensor, boxes: Tensor) -> Tensor:
        t = clips.tubes.boxes.shape[2]
        return self.find_masks(clips.maps["rgb"], frames, boxes * clips.factors[frames // t])

    # The sentence's side

    @torch.no_grad()
    def encode_sentences(self, queries: Sequence[Query]) -> EncodedSentences:
        """What the describers make of the sentences, and what the rules weigh."""
        asked = [read_sentence(query.tokens) for query in queries]
        length = max(len(query.tokens) for query in queries)
        parts, shares = [], torch.zeros(len(queries), length)
        for describer in self.describers.values():
            vectors, contributed = describer.sentences(queries, asked)
            parts.append(vectors)
            shares += contributed
        gains = self.config.gains
        place, place_shares = weighed(asked, PLACE, gains.place, length)
        motion, motion_shares = weighed(asked, MOTION, gains.motion, length)
        sure = torch.full((len(queries), 1), gains.confidence)
        device, dtype = self.device, torch.float32
        sides = {"actor": torch.cat([*parts, place, sure], -1), "action": motion}
        attention = {"actor": shares + place_shares, "action": motion_shares}
        nothing = torch.zeros((), device=device)
        return EncodedSentences(
            {name: value.to(device, dtype) for name, value in sides.items()},
            dict.fromkeys(sides, nothing),
            {name: _shared(value, queries).to(device) for name, value in attention.items()},
        )

    def forward(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Raises:
        InputError: nothing here learns.
        """
        raise InputError("the system zeroshot has nothing to train")

    @property
    def device(self) -> torch.device:
        return self.words.weight.device


def weighed(
    asked: Sequence[Asked], names: Sequence[str], gain: float, length: int
) -> tuple[Tensor, Tensor]:
    """The weights (Q, n) of the coordinates with these names, and each word's part (Q, L)."""
    rows, shares = torch.zeros(len(asked), len(names)), torch.zeros(len(asked), length)
    for row, one in enumerate(asked):
        for place, values in one.coordinates.items():
            own = {name: gain * value for name, value in values.items() if name in names}
            for name, value in own.items():
                rows[row, names.index(name)] += value
            shares[row, place] = max(map(abs, own.values()), default=0.0)
    return rows, shares


def _shared(parts: Tensor, queries: Sequence[Query]) -> Tensor:
    """Parts (Q, L) as shares that add up to 1; where no word has one, all have the same."""
    lengths = torch.tensor([len(query.tokens) for query in queries])[:, None]
    inside = torch.arange(parts.shape[1]) < lengths
    total = parts.sum(1, keepdim=True)
    return torch.where(total > 0, parts / total.clamp(min=1e-9), inside / lengths)
