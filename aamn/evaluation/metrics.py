"""The metrics of text-based video segmentation, as pure functions of rows (one definition each).

A row is one (sample, sentence). For single frames a sample is an annotated frame, for full videos
a whole video, whose pixels of all frames are counted together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from aamn.structures import Row

PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
MEAN_PRECISION_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


def precision_at(ious: Sequence[float], threshold: float) -> float:
    """P@X: the share of samples whose IoU is greater than X."""
    return float(np.mean(np.asarray(ious, dtype=np.float64) > threshold))


def mean_precision(ious: Sequence[float]) -> float:
    """The papers' "mAP 0.5:0.95": the mean of P@X over X = 0.50, 0.55, ..., 0.95.

    Not COCO's average precision, which later papers report under the same name.
    """
    return float(np.mean([precision_at(ious, x) for x in MEAN_PRECISION_THRESHOLDS]))


def overall_iou(rows: Iterable[Row]) -> float:
    """All samples' intersections over all samples' unions: large actors count for more."""
    counts = np.array([(row.intersection, row.union) for row in rows], dtype=np.int64)
    intersection, union = counts.sum(0)
    return float(intersection / union) if union else 1.0


def mean_iou(ious: Sequence[float]) -> float:
    """The mean over samples: every actor counts the same."""
    return float(np.mean(np.asarray(ious, dtype=np.float64)))


def video_precision(rows: Iterable[Row], threshold: float) -> float:
    """VP@X (CSTM supplement): the share of (video, sentence) pairs all of whose annotated frames
    have an IoU greater than X."""
    worst: dict[tuple[str, int, str], float] = defaultdict(lambda: math.inf)
    for row in rows:
        pair = (row.video_id, row.instance, row.text)
        worst[pair] = min(worst[pair], row.iou)
    return precision_at(list(worst.values()), threshold)


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """Every metric of one set of rows, as fractions of 1, by its name in the papers.

    "Loc P@X" (Table I) is there when the system chose boxes; "chance" is the precision of drawing
    one of the distractors at random, there when the data set counts them for every row.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("no rows to summarise")
    ious = [row.iou for row in rows]
    result = {f"P@{x}": precision_at(ious, x) for x in PRECISION_THRESHOLDS}
    result["mAP 0.5:0.95"] = mean_precision(ious)
    result["Overall IoU"] = overall_iou(rows)
    result["Mean IoU"] = mean_iou(ious)
    result |= {f"VP@{x}": video_precision(rows, x) for x in PRECISION_THRESHOLDS}
    boxes = [row.box_iou for row in rows]
    if not any(map(math.isnan, boxes)):
        result |= {f"Loc P@{x}": precision_at(boxes, x) for x in PRECISION_THRESHOLDS}
    if all(row.distractors for row in rows):
        result["chance"] = float(np.mean([1 / row.distractors for row in rows]))
    return result


def summarise_kinds(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """`summarise` of all rows under "all", and of each kind of sentence under its own name."""
    kinds: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.kind:
            kinds[row.kind].append(row)
    return {"all": summarise(rows)} | {kind: summarise(kinds[kind]) for kind in sorted(kinds)}
