"""COCO's average precision over scored masks, under its own name: `coco_ap`.

Papers after MTTR report it where earlier ones report the mean of P@X (`metrics.mean_precision`),
both as "mAP". Here every (sample, sentence) is an image of its own with one true mask and one
scored answer, the mask that the segmenter chose. Systems that answer with several masks a
sentence are helped by this measure; ours gives one.

MTTR's protocol (Botach et al., CVPR 2022) hands every answer to COCO's evaluation, an empty mask
too, which is a false positive of its score: that is `coco_ap`. Where an empty mask is no answer, it
costs recall and not precision: that is `coco_ap_nonempty`, never smaller and not comparable.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from aamn.structures import MaskTrack, Sample

AVERAGES = ("coco_ap", "coco_ap50", "coco_ap75")  # COCOeval's first three numbers
NONEMPTY = "_nonempty"  # what the names of the second reading end in


@dataclass(frozen=True)
class ScoredMask:
    """The answer to one sentence beside the truth, both run-length coded, and its score."""

    truth: dict[str, Any]
    answer: dict[str, Any]
    score: float


def _coded(mask: Tensor) -> dict[str, Any]:
    return rle.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))


def scored_masks(sample: Sample, tracks: Sequence[MaskTrack], key: int) -> list[ScoredMask]:
    """The key-frame masks of all sentences of a sample; `key` is its place in the tracks."""
    return [
        ScoredMask(_coded(target.mask), _coded(track.masks[key]), track.score)
        for target, track in zip(sample.targets, tracks, strict=True)
    ]


def average_precision(masks: Iterable[ScoredMask]) -> dict[str, float]:
    """COCO's AP over IoU 0.50:0.95, at 0.50 and at 0.75, by pycocotools, as fractions of 1: with
    empty answers as false positives (MTTR's protocol), and, by names that end in NONEMPTY, without.

    Raises:
        ValueError: no masks.
    """
    masks = list(masks)
    if not masks:
        raise ValueError("no masks to average over")
    answered = [bool(rle.area(mask.answer)) for mask in masks]
    every = _averages(masks, [True] * len(masks))
    nonempty = every if all(answered) else _averages(masks, answered)
    return every | {f"{name}{NONEMPTY}": value for name, value in nonempty.items()}


def _averages(masks: Sequence[ScoredMask], answered: Sequence[bool]) -> dict[str, float]:
    """AVERAGES where the masks' answers count that are `answered`."""
    numbered = list(enumerate(masks, 1))
    answers = [
        _record(number, mask.answer) | {"score": mask.score}
        for (number, mask), counts in zip(numbered, answered, strict=True)
        if counts
    ]
    if not answers:
        return dict.fromkeys(AVERAGES, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [
                {"id": number, "height": mask.truth["size"][0], "width": mask.truth["size"][1]}
                for number, mask in numbered
            ],
            "categories": [{"id": 1, "name": "referent"}],
            "annotations": [_record(n, mask.truth) | {"iscrowd": 0} for n, mask in numbered],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(answers), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(AVERAGES, map(float, evaluation.stats), strict=False))


def _record(number: int, mask: dict[str, Any]) -> dict[str, Any]:
    """COCO's record of the one mask in image `number`."""
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "segmentation": mask,
        "area": float(rle.area(mask)),
        "bbox": rle.toBbox(mask).tolist(),
    }
