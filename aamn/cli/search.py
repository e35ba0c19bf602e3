"""`aamn search`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aamn.cli.command_line import (
    CHECKPOINT,
    PATH,
    out_option,
    recipe_options,
    subcommand,
    threshold_option,
    weights_option,
)
from aamn.config.schema import ONLY_TRAINING
from proposals.errors import InputError
from proposals.terminal import printable

if TYPE_CHECKING:
    from aamn.search.folder import Hit


def _line(place: int, hit: Hit) -> str:
    frames = f"frames {hit.frames.start} to {hit.frames.stop - 1}"
    found = "match" if hit.matched else "no match"
    return f"{place:3d}  {hit.score:8.3f}  {found:<8}  {printable(hit.video_id)}, {frames}"


def _record(hit: Hit) -> dict[str, Any]:
    frames = [hit.frames.start, hit.frames.stop]
    return {
        "video_id": hit.video_id,
        "path": str(hit.path),
        "score": hit.score,
        "matched": hit.matched,
        "frames": frames,
    }


@subcommand(
    "search",
    """aamn search runs/a2d/index "man in red jumping" --bundle runs/a2d/bundle --top 5""",
    unread=(*ONLY_TRAINING, "data", "flow"),
)
@click.argument("folder", type=PATH)
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@click.option("--query", multiple=True, help="the same as QUERY; may be repeated")
@click.option("--bundle", type=PATH, metavar="DIR", help="a segmenter with its detector")
@weights_option
@click.option("--checkpoint", type=CHECKPOINT, metavar="PT", help="the segmenter, without bundle")
@click.option("--top", type=click.IntRange(1), default=10, metavar="N", help="videos a sentence")
@threshold_option
@recipe_options
@out_option("also write what was found there, as JSON")
def command(
    folder: Path,
    queries: tuple[str, ...],
    query: tuple[str, ...],
    top: int,
    absent_threshold: float | str | None,
    out: Path | None,
    **values: Any,
) -> None:
    """Prints, for each sentence, the videos of a folder of indexes whose best tube fits it best,
    and the frames in which that tube is."""
    texts = (*queries, *query)
    if not texts:
        raise InputError('wanted at least one QUERY: "SENTENCE"')

    from aamn.inference.verdict import Verdict
    from aamn.jobs.inputs import InputOptions, Inputs
    from proposals.files import write_json

    inputs = Inputs(InputOptions(**values))
    threshold = inputs.absent_threshold(absent_threshold)
    segmenter = inputs.video_segmenter(boxes_needed=False)
    indexes = segmenter.open_indexes(folder)
    found = dict(zip(texts, indexes.search(texts, top, threshold), strict=True))
    limit = "no threshold" if threshold is None else f"threshold {threshold:.3f}"
    for text, hits in found.items():
        print(f"{printable(text)} ({len(indexes)} videos, {limit})")
        if not hits:
            (asked,) = segmenter.query_encoder.queries(text)
            print(Verdict.of(asked, -math.inf))
        for place, hit in enumerate(hits, start=1):
            print(_line(place, hit))
    if out:
        write_json(out, {text: [_record(hit) for hit in hits] for text, hits in found.items()})
