"""The evaluation as one page: tables, curves, and answers as pictures.

The page is a single HTML file with its pictures inside; it needs no server and no network. The
pictures are those of the paper's Figures 5 to 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aamn.evaluation.metrics import PRECISION_THRESHOLDS, mean_iou, precision_at
from aamn.evaluation.systems import Evaluation
from aamn.report.cases import Case, Contrast
from aamn.report.render import render
from aamn.report.scenes import Scene
from aamn.structures import Row
from aamn.visualization.charts import Figure, Series, histogram, line_chart
from proposals.files import write_text

BINS = 20
PRECISIONS = tuple(f"P@{x}" for x in PRECISION_THRESHOLDS)
COLUMNS = (
    *(*PRECISIONS, "mAP 0.5:0.95", "coco_ap", "coco_ap50", "coco_ap_nonempty"),
    *("Overall IoU", "Mean IoU", "VP@0.5", "Loc P@0.5", "chance"),
)
NOTES = {  # below the heads
    "mAP 0.5:0.95": "mean of P@X",
    "coco_ap": "COCO AP, MTTR's protocol",
    "coco_ap_nonempty": "COCO AP without empty answers",
}


@dataclass(frozen=True)
class Pictures:
    """The page's answers as pictures: the best (Figure 5), the same with words weighted at random
    (Figure 6), all systems' on frames of several sentences (Figure 7), the worst (Figure 8)."""

    best: Sequence[Case] = ()
    contrasts: Sequence[Contrast] = ()
    scenes: Sequence[Scene] = ()
    worst: Sequence[Case] = ()


@dataclass(frozen=True)
class Line:
    """A line of a table: the metrics, as fractions of 1, of so many rows of an evaluation."""

    name: str
    count: int
    metrics: Mapping[str, float]


def subsets(rows: Sequence[Row], non_trivial: Sequence[bool] = ()) -> dict[str, list[int]]:
    """The rows that the tables summarise: all, each kind of sentence, and those whose referent is
    or is not the only object of its actor class in the video (where `non_trivial` says so)."""
    indices = range(len(rows))
    found = {"all": list(indices)}
    for kind in sorted({row.kind for row in rows if row.kind}):
        found[kind] = [i for i in indices if rows[i].kind == kind]
    if non_trivial:
        found["non-trivial"] = [i for i in indices if non_trivial[i]]
        found["trivial"] = [i for i in indices if not non_trivial[i]]
    return {name: chosen for name, chosen in found.items() if chosen}


def write_report(
    path: Path,
    evaluations: Sequence[Evaluation],
    pictures: Pictures,
    *,
    actors: Sequence[str] = (),
    non_trivial: Sequence[bool] = (),
) -> None:
    """Writes the page at `path`.

    Args:
        evaluations: the system, and those it is compared with, on the same sentences.
        actors: the actor class of each row's referent; none: no such table.
        non_trivial: whether each row's referent has company of its actor class.
    """
    first = evaluations[0].report
    parts = subsets(first.rows, non_trivial)
    page = render(
        "page.html",
        title=f"{first.system} on {first.data}",
        sentences=len(first.rows),
        frames=len({(row.video_id, row.frame) for row in first.rows}),
        videos=len({row.video_id for row in first.rows}),
        columns=COLUMNS,
        notes=NOTES,
        systems={
            own.report.system: [
                Line(name, len(indices), own.metrics(indices)) for name, indices in parts.items()
            ]
            for own in evaluations
        },
        actors=_actor_lines(first.rows, actors),
        charts=charts(evaluations),
        pictures=pictures,
    )
    write_text(path, page)


def charts(evaluations: Sequence[Evaluation]) -> dict[str, Figure]:
    """The histogram of IoU and the precision curve, P@X over X, by their captions."""
    ious = {own.report.system: [row.iou for row in own.report.rows] for own in evaluations}
    thresholds = np.linspace(0, 1, 101).tolist()
    curves = [
        Series(name, [100 * precision_at(own, x) for x in thresholds], thresholds)
        for name, own in ious.items()
    ]
    return {
        "How many sentences reach which IoU": histogram(ious, BINS, "IoU", "sentences"),
        "Share of sentences with an IoU above X": line_chart(curves, "X", "P@X, %"),
    }


def _actor_lines(rows: Sequence[Row], actors: Sequence[str]) -> list[Line]:
    """A line an actor class, sorted; rows without one ("") are in none."""
    lines = []
    for actor in sorted({actor for actor in actors if actor}):
        ious = [row.iou for row, own in zip(rows, actors, strict=True) if own == actor]
        precisions = {f"P@{x}": precision_at(ious, x) for x in PRECISION_THRESHOLDS}
        lines.append(Line(actor, len(ious), {**precisions, "Mean IoU": mean_iou(ious)}))
    return lines
