"""How good a detector is for stage two: the annotated boxes that its K best boxes find, and AP."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np

from proposals.detector import FrameDetections
from proposals.manifest import AnnotatedFrame

RECALL_AT = (*range(2, 13), 100)  # K of Tables I and II, and all that is stored


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU (n, m) of boxes (n, 4) and (m, 4), xyxy."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    return shared / np.maximum(union, 1e-9)


def recall(
    frames: Sequence[AnnotatedFrame], found: Sequence[FrameDetections], top: int, iou: float = 0.5
) -> float:
    """Share of the annotated boxes that one of their frame's `top` boxes overlaps by `iou`."""
    hits = [
        iou_matrix(frame.boxes, boxes.boxes[:top]).max(1, initial=0.0) >= iou
        for frame, boxes in zip(frames, found, strict=True)
    ]
    every = np.concatenate([np.zeros(0, bool), *hits])
    return float(every.mean()) if len(every) else float("nan")


def average_precision(
    frames: Sequence[AnnotatedFrame], found: Sequence[FrameDetections], classes: Sequence[str]
) -> dict[str, float]:
    """COCO's AP (over IoU 0.5..0.95), AP50 and AP75, by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, answers = COCO(), []
    truth.dataset = {
        "info": {},
        "images": [{"id": place} for place in range(len(frames))],
        "categories": [{"id": place, "name": name} for place, name in enumerate(classes)],
        "annotations": [
            {**_coco_box(box), "image_id": place, "category_id": int(label), "iscrowd": 0}
            for place, frame in enumerate(frames)
            for box, label in zip(frame.boxes, frame.labels, strict=True)
        ],
    }
    for number, annotation in enumerate(truth.dataset["annotations"], start=1):
        annotation["id"] = number
    for place, boxes in enumerate(found):
        for box, score, label in zip(boxes.boxes, boxes.scores, boxes.labels, strict=True):
            answer = {"image_id": place, "category_id": int(label), "score": float(score)}
            answers.append({**_coco_box(box), **answer})
    if not answers:
        return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(evaluation.stats[i]) for i, name in enumerate(("AP", "AP50", "AP75"))}


def _coco_box(box: np.ndarray) -> dict[str, object]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}


def measure(
    frames: Sequence[AnnotatedFrame], found: Sequence[FrameDetections], classes: Sequence[str]
) -> dict[str, float]:
    """AP, and recall at IoU 0.5 and 0.7 for each K of the paper's tables."""
    measured = average_precision(frames, found, classes)
    for iou in (0.5, 0.7):
        for top in RECALL_AT:
            measured[f"recall@{top} IoU {iou}"] = recall(frames, found, top, iou)
    return measured
