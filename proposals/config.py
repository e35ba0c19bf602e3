"""The detectors' configuration."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal

from proposals.errors import InputError
from proposals.ranges import (
    Batch,
    Cells,
    Channels,
    Count,
    CountOrNone,
    Length,
    NotNegative,
    Pixels,
    Positive,
    Processes,
    Range,
    Seed,
    Share,
    ShareBelowOne,
    Stages,
    Strides,
    Widths,
    faults,
)

Boxes = Annotated[int, Range(1, 100_000)]
Side = Annotated[int, Range(1, 8192)]  # of an anchor


@dataclass
class FineTuneConfig:
    """Fine-tuning on the annotated frames of a manifest."""

    iterations: Count = 10_000
    batch: Batch = 8  # frames an iteration
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.005
    momentum: ShareBelowOne = 0.9
    weight_decay: NotNegative = 1e-4
    warmup: CountOrNone = 500  # iterations of linear warm-up, then a cosine to zero
    clip_norm: NotNegative = 10.0  # 0: no gradient clipping
    flip: Share = 0.5  # probability of a mirror image
    average: ShareBelowOne = 0.0  # decay of the weights' running average; 0: the last weights
    # as the detector's `candidates`, in training; 0: twice `proposals`
    candidates: Annotated[int, Range(0, 100_000)] = 0
    # as the detector's `proposals`, in training; 0: twice as many as these
    proposals: Annotated[int, Range(0, 100_000)] = 0
    rois: Count = 256  # sampled proposals a frame that the box head learns from
    trainable_stages: Stages = 3  # of a ResNet's five, from the top (`small` learns all); 0: the
    # heads alone, so that the backbone stays what it is
    workers: Processes = 2  # decoding processes, when the frames are not cached
    cache_mb: CountOrNone = 2048  # decoded frames are kept in memory when they fit into this
    checkpoint_every: Count = 500  # iterations
    seed: Seed = 0


@dataclass(frozen=True)
class RPNLimits:
    """Boxes a level before the RPN's NMS, and boxes a frame behind it, in training and in use."""

    training_candidates: int
    training_proposals: int
    candidates: int
    proposals: int


@dataclass
class DetectorConfig:
    """A Faster R-CNN and what it keeps of each frame."""

    # small | resnet50_fpn | resnet50_fpn_gn | resnet50_fpn_v2 | mask_resnet50_fpn_v2
    # | resnet101_fpn | mobilenet_fpn | mobilenet_fpn_gn
    name: str = "resnet50_fpn"
    # | detectron2_faster_rcnn_R_101_FPN_3x and its siblings in detectron2's COCO-Detection
    weights: str = "coco"  # coco | imagenet | a file | "" random
    classes: tuple[str, ...] = ()  # () those of the COCO weights or of the manifest
    min_size: Pixels = 320  # pixels of the frame's shorter side inside the network
    max_size: Pixels = 576  # bound of its longer side
    # Above 0, frames are fitted into a square of so many pixels as stage two's are, instead: what
    # a shared backbone wants (docs/indexes.md).
    square: Annotated[int, Range(0, 8192)] = 0
    # a segmenter's checkpoint, whose RGB stream's backbone replaces that of `weights`
    backbone_from: str = ""
    proposals: Boxes = 300  # boxes a frame that the RPN hands to the box head
    # boxes a level that the RPN's NMS chooses them from; 0: twice `proposals`
    candidates: Annotated[int, Range(0, 100_000)] = 0
    score_threshold: Share = 0.01  # of the best class; lower boxes are not kept
    nms_iou: Share = 0.5  # class-agnostic: of two boxes that overlap more the better one stays
    boxes_per_frame: Boxes = 100
    widths: Widths = (24, 48, 96, 128)  # of `small`: channels of its stages
    strides: Strides = (2, 2, 2, 1)
    # of `small`: pixels; of resnet50_fpn_gn and MobileNet: of the five, or four, levels
    anchors: Annotated[tuple[Side, ...], Length(1, 16)] = (16, 28, 44, 64)
    # of both: height / width
    ratios: Annotated[tuple[Positive, ...], Length(1, 16)] = (0.5, 1.0, 2.0)
    head: Channels = 256  # of `small` and MobileNet: channels of the box head's two layers
    pool: Cells = 7  # of both: RoIAlign's output
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)

    def __post_init__(self) -> None:
        for key in ("classes", "widths", "strides", "anchors", "ratios"):
            setattr(self, key, tuple(getattr(self, key)))

    @property
    def rpn(self) -> RPNLimits:
        """How many boxes the RPN keeps.

        Raises:
            InputError: a negative number.
        """
        keys = {"candidates": self.candidates, "proposals": self.proposals}
        keys |= {f"finetune.{key}": getattr(self.finetune, key) for key in keys}
        for key, number in keys.items():
            if number < 0:
                raise InputError(f"{key}: wanted 0 or more boxes, got {number}")
        learning = self.finetune.proposals or 2 * self.proposals
        return RPNLimits(
            training_candidates=self.finetune.candidates or 2 * learning,
            training_proposals=learning,
            candidates=self.candidates or 2 * self.proposals,
            proposals=self.proposals,
        )

    def settings(self) -> dict[str, str | int | float]:
        """What decides the boxes besides the weights; stored with them."""
        keys = ("min_size", "max_size", "proposals", "score_threshold", "nms_iou")
        found = {key: getattr(self, key) for key in (*keys, "boxes_per_frame")}
        chosen = {key: getattr(self, key) for key in ("candidates", "square")}
        return found | {key: value for key, value in chosen.items() if value}


def config_to_dict(config: DetectorConfig) -> dict[str, Any]:
    """Plain values, for a checkpoint and for YAML."""
    return json.loads(json.dumps(asdict(config)))


def config_from_dict(values: dict[str, Any]) -> DetectorConfig:
    """The inverse of `config_to_dict`.

    Raises:
        InputError: when another version of this library wrote the values.
    """
    values = dict(values)
    if "trunk" in values:  # the name in version 0.1
        values["backbone_from"] = values.pop("trunk")
    finetune = dict(values.pop("finetune"))
    known = {f.name for f in fields(DetectorConfig)} | {f.name for f in fields(FineTuneConfig)}
    unknown = (values.keys() | finetune.keys()) - known
    if unknown:
        raise InputError(f"the detector's configuration has unknown keys: {sorted(unknown)}")
    config = DetectorConfig(**values, finetune=FineTuneConfig(**finetune))
    for key, fault in faults(config):
        raise InputError(f"the detector's configuration: {key}: {fault}")
    return config
