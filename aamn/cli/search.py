"""`aamn search`."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aamn.cli.command_line import (
    CHECKPOINT,
    OUT_FILE,
    PATH,
    out_option,
    public_parts_options,
    recipe_options,
    subcommand,
    threshold_option,
)
from aamn.config.schema import ONLY_TRAINING
from proposals.errors import InputError
from proposals.terminal import printable

if TYPE_CHECKING:
    from aamn.search.folder import Hit


def _line(place: int, hit: Hit) -> str:
    frames = f"frames {hit.frames.start} to {hit.frames.stop - 1}"
    seconds = "" if hit.seconds is None else ", {:.1f} to {:.1f} s".format(*hit.seconds)
    found = "match" if hit.matched else "no match"
    return f"{place:3d}  {hit.score:8.3f}  {found:<8}  {printable(hit.video_id)}, {frames}{seconds}"


def _record(hit: Hit) -> dict[str, Any]:
    from proposals import places

    frames = [hit.frames.start, hit.frames.stop]
    return {
        "video_id": hit.video_id,
        "path": places.url_of(hit.path) or str(hit.path),
        "score": hit.score,
        "matched": hit.matched,
        "frames": frames,
    }


@subcommand(
    "search",
    """aamn search runs/a2d/index "man in red jumping" --bundle runs/a2d/bundle --top 5""",
    unread=(*ONLY_TRAINING, "data", "flow"),
)
@click.argument("folder")
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@click.option("--query", multiple=True, help="the same as QUERY; may be repeated")
@click.option("--bundle", type=PATH, metavar="DIR", help="a segmenter with its detector")
@public_parts_options
@click.option("--checkpoint", type=CHECKPOINT, metavar="PT", help="the segmenter, without bundle")
@click.option("--top", type=click.IntRange(1), default=10, metavar="N", help="videos a sentence")
@click.option("--in", "within", metavar="VIDEO", help="of a library: the best parts of this video")
@click.option("--since", type=click.DateTime(), help="of a library: videos added from then on")
@click.option(
    "--level",
    type=click.Choice(["tubes", "paths"]),
    default="tubes",
    help="of a library: a video's best clip, or an actor's mean over the video",
)
@click.option("--approximate", is_flag=True, help="of a library: by its approximate index")
@click.option("--sheet", type=OUT_FILE, metavar="PNG", help="also draw the hits there")
@threshold_option
@recipe_options
@out_option("also write what was found there, as JSON")
def command(
    folder: str,
    queries: tuple[str, ...],
    query: tuple[str, ...],
    top: int,
    within: str | None,
    since: datetime | None,
    level: str,
    approximate: bool,
    sheet: Path | None,
    absent_threshold: float | str | None,
    out: Path | None,
    **values: Any,
) -> None:
    """Prints, for each sentence, the videos whose best tube fits it best, and the frames in which
    that tube is. FOLDER holds indexes, or is a library (`aamn library`)."""
    texts = (*queries, *query)
    if not texts:
        raise InputError('wanted at least one QUERY: "SENTENCE"')

    from aamn.inference.verdict import Verdict
    from aamn.jobs.inputs import InputOptions, Inputs
    from aamn.visualization.overlays import write_picture
    from proposals.files import write_json

    inputs = Inputs(InputOptions(**values))
    threshold = inputs.absent_threshold(absent_threshold)
    segmenter = inputs.video_segmenter(boxes_needed=False)
    indexes = segmenter.open_indexes(folder)
    narrowed = {"level": level, "within": within, "since": since, "approximate": approximate}
    asked = {name: value for name, value in narrowed.items() if value not in (None, False, "tubes")}
    if asked and not indexes.narrows:
        option = {"within": "in"}.get(name := next(iter(asked)), name)
        raise InputError(f"--{option}: wanted a library, {folder} is a folder of indexes")
    search: Callable[..., list[list[Hit]]] = indexes.search
    found = dict(zip(texts, search(texts, top, threshold, **asked), strict=True))
    limit = "no threshold" if threshold is None else f"threshold {threshold:.3f}"
    for text, hits in found.items():
        print(f"{printable(text)} ({indexes.size}, {limit})")
        if not hits:
            (nobody,) = segmenter.query_encoder.queries(text)
            print(Verdict.of(nobody, -math.inf))
        for place, hit in enumerate(hits, start=1):
            print(_line(place, hit))
    if out:
        write_json(out, {text: [_record(hit) for hit in hits] for text, hits in found.items()})
    shown = [hit for hits in found.values() for hit in hits]
    if sheet and shown:
        from aamn.jobs.hits import sheet_of

        write_picture(sheet, sheet_of(indexes, shown))
