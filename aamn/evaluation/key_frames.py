"""Evaluation: a segmenter and samples in, a Report out, and its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from aamn.evaluation.metrics import PRECISION_THRESHOLDS, summarise_kinds
from aamn.models.segmenter import Segmenter
from aamn.ops.boxes import pairwise_iou
from aamn.ops.masks import overlap
from aamn.structures import MaskTrack, Report, Row, Sample
from proposals.files import write_json


def key_frame_rows(sample: Sample, tracks: Sequence[MaskTrack], key: int) -> list[Row]:
    """One row a sentence of the sample; `key` is the key frame's place in the tracks."""
    rows = []
    for target, track in zip(sample.targets, tracks, strict=True):
        intersection, union = overlap(track.masks[key].cpu(), target.mask)
        box_iou = float("nan")
        if track.scores is not None or track.score == float("-inf"):  # boxes, or nobody
            box_iou = float(pairwise_iou(track.boxes[key][None], target.box[None])[0, 0])
        rows.append(
            Row(
                video_id=sample.clip.video_id,
                instance=target.instance,
                frame=int(sample.clip.frame_indices[sample.clip.key]),
                text=track.text,
                kind=target.kind,
                intersection=intersection,
                union=union,
                box_iou=box_iou,
                distractors=target.distractors,
            )
        )
    return rows


@torch.no_grad()
def evaluate(
    segmenter: Segmenter,
    samples: Iterable[Sample],
    *,
    system: str,
    data: str,
    total: int = 0,
    observe: Callable[[Sample, Sequence[MaskTrack], int], None] | None = None,
) -> Report:
    """Segments every sample's key frame and counts pixels at the original resolution.

    `observe` sees every sample with its tracks and the key frame's place in them.
    """
    segmenter.eval()
    rows: list[Row] = []
    place = segmenter.input_spec.key if segmenter.input_spec.predicts == "clip" else 0
    for sample in tqdm(samples, total=total or None, desc=f"evaluating {system}", unit="clip"):
        tracks = segmenter.segment(sample.clip, sample.proposals, sample.queries)
        rows += key_frame_rows(sample, tracks, place)
        if observe is not None:
            observe(sample, tracks, place)
    return Report(tuple(rows), system, data)


def format_table(reports: Sequence[Report]) -> str:
    """The metrics of each report, over all sentences and by kind of sentence, in per cent."""
    columns = [f"P@{x}" for x in PRECISION_THRESHOLDS] + [
        "mAP 0.5:0.95",
        "Overall IoU",
        "Mean IoU",
        "VP@0.5",
        "Loc P@0.5",
        "chance",
    ]
    heads = ["P@.5", "P@.6", "P@.7", "P@.8", "P@.9", "mAP", "Overall", "Mean", "VP@.5", "Loc@.5"]
    heads.append("chance")
    width = max(len("system"), *(len(report.system) for report in reports))
    lines = [f"{'system':<{width}}  {'sentences':<12}{'n':>6}" + "".join(f"{h:>9}" for h in heads)]
    for report in reports:
        for kind, metrics in summarise_kinds(report.rows).items():
            count = sum(kind in ("all", row.kind) for row in report.rows)
            cells = (f"{100 * metrics[c]:9.1f}" if c in metrics else f"{'-':>9}" for c in columns)
            lines.append(f"{report.system:<{width}}  {kind:<12}{count:>6}" + "".join(cells))
    return "\n".join(lines)


def write_metrics(reports: Sequence[Report], path: Path) -> None:
    """metrics.json: for each system and kind of sentence every metric, and all rows."""
    content = {
        report.system: {
            "data": report.data,
            "samples": len(report.rows),
            "metrics": summarise_kinds(report.rows),
            "rows": [
                {
                    "video_id": row.video_id,
                    "instance": row.instance,
                    "frame": row.frame,
                    "text": row.text,
                    "kind": row.kind,
                    "iou": round(row.iou, 6),
                    "box_iou": round(row.box_iou, 6) if row.box_iou == row.box_iou else None,
                }
                for row in report.rows
            ],
        }
        for report in reports
    }
    write_json(path, content)
