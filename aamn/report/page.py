"""The evaluation as one page: tables, curves, and answers as pictures.

The page is a single HTML file with its pictures inside; it needs no server and no network. The
pictures are those of the paper's Figures 5 to 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from aamn.evaluation.metrics import PRECISION_THRESHOLDS, precision_at
from aamn.evaluation.systems import Evaluation
from aamn.report.cases import (
    LEGEND,
    Case,
    Contrast,
    case_article,
    contrast_article,
    contrast_summary,
)
from aamn.report.scenes import Scene, scene_article
from aamn.structures import Row
from aamn.visualization.charts import Series, column_chart, line_chart
from proposals.files import write_text

BINS = 20

# Column heads and the metrics behind them, in the page's order.
COLUMNS = {
    **{f"P@{x}": f"P@{x}" for x in PRECISION_THRESHOLDS},
    "mAP 0.5:0.95<br><small>mean of P@X</small>": "mAP 0.5:0.95",
    "coco_ap<br><small>COCO AP</small>": "coco_ap",
    "coco_ap50": "coco_ap50",
    "Overall IoU": "Overall IoU",
    "Mean IoU": "Mean IoU",
    "VP@0.5": "VP@0.5",
    "Loc P@0.5": "Loc P@0.5",
    "chance": "chance",
}


@dataclass(frozen=True)
class Pictures:
    """The page's answers as pictures: the best (Figure 5), the same with words weighted at random
    (Figure 6), all systems' on frames of several sentences (Figure 7), the worst (Figure 8)."""

    best: Sequence[Case] = ()
    contrasts: Sequence[Contrast] = ()
    scenes: Sequence[Scene] = ()
    worst: Sequence[Case] = ()


def subsets(rows: Sequence[Row], non_trivial: Sequence[bool] = ()) -> dict[str, list[int]]:
    """The rows that the tables summarise: all, each kind of sentence, and those whose referent is
    or is not the only object of its actor class in the video (where `non_trivial` says so)."""
    places = range(len(rows))
    found = {"all": list(places)}
    for kind in sorted({row.kind for row in rows if row.kind}):
        found[kind] = [i for i in places if rows[i].kind == kind]
    if non_trivial:
        found["non-trivial"] = [i for i in places if non_trivial[i]]
        found["trivial"] = [i for i in places if not non_trivial[i]]
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
    sections = [
        _section("Metrics", _metrics_table(evaluations, parts)),
        _section("Distribution", _charts(evaluations)),
    ]
    if any(actors):
        sections.append(_section("By actor class", _actor_table(evaluations[0], actors)))
    sections += _picture_sections(pictures)
    title = f"{escape(first.system)} on {escape(first.data)}"
    count = len({(row.video_id, row.frame) for row in first.rows})
    videos = len({row.video_id for row in first.rows})
    head = (
        f"<h1>{title}</h1><p>{len(first.rows)} sentences in {count} annotated frames of "
        f"{videos} videos</p>"
    )
    page = PAGE.format(title=title, style=STYLE, body=head + "".join(sections))
    write_text(path, page)


def _picture_sections(pictures: Pictures) -> list[str]:
    """A section a kind of picture; none where there is no such picture."""
    contents = {
        "Best answers": (LEGEND, map(case_article, pictures.best)),
        "Word weights, predicted and random": (
            contrast_summary(pictures.contrasts) if pictures.contrasts else "",
            map(contrast_article, pictures.contrasts),
        ),
        "Several sentences about one video": ("", map(scene_article, pictures.scenes)),
        "Worst answers": (LEGEND, map(case_article, pictures.worst)),
    }
    articles = {title: (head, "".join(each)) for title, (head, each) in contents.items()}
    return [_section(title, head + body) for title, (head, body) in articles.items() if body]


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _cell(value: float | None) -> str:
    """A per cent on a ground that deepens with it."""
    if value is None or value != value:
        return "<td class='none'>-</td>"
    return f"<td style='background:rgba(37,99,235,{0.03 + 0.3 * value:.2f})'>{100 * value:.1f}</td>"


def _metrics_table(evaluations: Sequence[Evaluation], parts: Mapping[str, list[int]]) -> str:
    heads = "".join(f"<th>{head}</th>" for head in COLUMNS)
    lines = [f"<tr><th class='l'>system</th><th class='l'>sentences</th><th>n</th>{heads}</tr>"]
    for evaluation in evaluations:
        for name, places in parts.items():
            metrics = evaluation.metrics(places)
            cells = "".join(_cell(metrics.get(metric)) for metric in COLUMNS.values())
            lines.append(
                f"<tr class='{'first' if name == 'all' else ''}'>"
                f"<td class='l'>{escape(evaluation.report.system) if name == 'all' else ''}</td>"
                f"<td class='l'>{escape(name)}</td><td>{len(places)}</td>{cells}</tr>"
            )
    return f"<div class='wide'><table>{''.join(lines)}</table></div>{METRIC_NOTES}"


def _charts(evaluations: Sequence[Evaluation]) -> str:
    """The histogram of IoU and the precision curve, P@X over X."""
    edges = np.linspace(0, 1, BINS + 1)
    histograms, curves = [], []
    thresholds = np.linspace(0, 1, 101)
    for evaluation in evaluations:
        ious = np.array([row.iou for row in evaluation.report.rows])
        name = evaluation.report.system
        histograms.append(Series(name, np.histogram(ious, edges)[0].tolist()))
        precision = [100 * precision_at(ious, x) for x in thresholds]
        curves.append(Series(name, precision, thresholds.tolist()))
    labels = [f"{edge:.2g}" for edge in edges[:-1]]
    return (
        "<div class='charts'>"
        f"<figure>{column_chart(histograms, labels, 'IoU', 'sentences')}"
        "<figcaption>How many sentences reach which IoU</figcaption></figure>"
        f"<figure>{line_chart(curves, 'X', 'P@X, %')}"
        "<figcaption>Share of sentences with an IoU above X</figcaption></figure></div>"
    )


def _actor_table(evaluation: Evaluation, actors: Sequence[str]) -> str:
    rows = evaluation.report.rows
    heads = "".join(f"<th>P@{x}</th>" for x in PRECISION_THRESHOLDS)
    lines = [f"<tr><th class='l'>actor</th><th>n</th>{heads}<th>Mean IoU</th></tr>"]
    for actor in sorted({actor for actor in actors if actor}):
        ious = [row.iou for row, own in zip(rows, actors, strict=True) if own == actor]
        values = [precision_at(ious, x) for x in PRECISION_THRESHOLDS] + [float(np.mean(ious))]
        cells = "".join(map(_cell, values))
        lines.append(f"<tr><td class='l'>{escape(actor)}</td><td>{len(ious)}</td>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


METRIC_NOTES = """<p class='notes'>All in per cent. <b>mAP 0.5:0.95</b> is the mean of P@X over
X = 0.50, 0.55, ..., 0.95, as the paper and those before it use the name. <b>coco_ap</b> is COCO's
average precision of the scored masks, which later papers report as mAP: the two are different
numbers. VP@0.5: all annotated frames of a video and sentence above 0.5. Loc P@0.5: the chosen box
against the true one. chance: the precision of drawing one of the look-alikes.</p>"""

STYLE = """
body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif;color:#0f172a;background:#f1f5f9;
margin:0;padding:28px}
body>*{max-width:1260px;margin-left:auto;margin-right:auto}
h1{font-size:26px;margin-bottom:0}h1+p{margin-top:4px;color:#475569}
section{background:#fff;border-radius:12px;padding:8px 24px 20px;margin-top:20px;
box-shadow:0 1px 3px #0f172a1a}
h2{font-size:18px;margin:12px 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}
td,th{padding:5px 5px;text-align:right;white-space:nowrap}th{vertical-align:bottom;color:#475569;
font-weight:600;border-bottom:2px solid #cbd5e1}th small{font-weight:400}
td{border-bottom:1px solid #eef2f7}.l{text-align:left}tr.first td{border-top:2px solid #cbd5e1;
font-weight:600}.none{color:#94a3b8}.wide{overflow-x:auto}
.notes,.legend,.facts,figcaption{color:#475569;font-size:13px}
.charts{display:flex;flex-wrap:wrap;gap:24px}figure{margin:0}figcaption{text-align:center}
svg{max-width:100%;height:auto}
.legend i{display:inline-block;width:18px;height:11px;margin:0 6px 0 18px;vertical-align:-1px}
article{border-top:1px solid #e2e8f0;padding:16px 0 4px}
article header{display:flex;gap:14px;align-items:baseline;color:#475569;font-size:13px}
.iou{font-size:16px;color:#0f172a}
.words{margin:6px 0;font-size:17px}.words em{display:inline-block;width:58px;font-size:13px;
color:#64748b}.words span{display:inline-block;padding:0 6px;margin-right:3px;border-radius:5px}
.three{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:10px;margin-top:8px}
.four{display:grid;grid-template-columns:repeat(4,1fr);gap:8px;margin-top:8px}
.three .words{font-size:14px}.queries span{margin-right:18px}
.strip{display:grid;grid-template-columns:repeat(5,1fr);gap:8px;margin-top:8px}
img{width:100%;border-radius:6px;display:block}
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>{style}</style></head>
<body>{body}</body></html>
"""
