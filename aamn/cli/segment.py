"""`aamn segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aamn.cli.command_line import (
    VIDEO,
    Existing,
    Finite,
    every_option,
    inputs_options,
    out_option,
    recipe_options,
    sentences,
    split_inputs,
    subcommand,
    threshold_option,
)
from aamn.config.schema import ONLY_TRAINING
from proposals.errors import InputError

INDEX = Existing("index", "; `aamn index` writes one")
SENTENCES = Existing("file of sentences")


@subcommand(
    "segment",
    """aamn segment clip.mp4 "man in red jumping" --bundle runs/demo/bundle --out runs/clip""",
    only_with={"--split": "--data", "--count": "--data"},
    apart=[
        *(
            (option, "--index")
            for option in ("--data", "--proposals", "--detector", "--flow", "--every")
        ),
        *(("--data", "--video"), ("--data", "--video-id"), ("--detector", "--proposals")),
    ],
    unread=(*ONLY_TRAINING, "data.root", "data.proposals", "data.flow", "data.workers"),
)
@click.argument("video_and_queries", nargs=-1, metavar="[VIDEO] [QUERY]...")
@click.option("--video", "video", type=VIDEO, help="the same as VIDEO")
@click.option("--query", multiple=True, help="the same as QUERY; may be repeated")
@click.option("--queries", type=SENTENCES, metavar="TXT", help="a file with one sentence a line")
@inputs_options
@click.option("--video-id", default="", help="the video's id in these files; default: its name")
@click.option("--data", default="", metavar="ROOT", help="a data set's videos and sentences")
@click.option("--split", default="", help="of --data; default: the configuration's test split")
@click.option("--count", type=click.IntRange(0), default=0, help="only the first videos of --data")
@click.option("--index", type=INDEX, metavar="HDF5", help="the video's index; else one is built")
@click.option(
    "--linking",
    type=click.Choice(["video", "clip"]),
    default="video",
    help="video: one identity through all clips; clip: each clip chooses, as in the paper",
)
@click.option(
    "--transition-cost",
    type=Finite(0),
    metavar="W",
    help="of --linking video: what it costs to change the actor between two clips, beside their "
    "scores (docs/indexes.md)",
)
@threshold_option
@every_option
@click.option("--start", type=click.IntRange(0), default=0, metavar="N", help="first frame, from 0")
@click.option("--end", type=click.IntRange(1), metavar="N", help="the frame to stop before")
@click.option("--stride", type=click.IntRange(1), default=1, metavar="N", help="every N-th frame")
@click.option("--every-frame", is_flag=True, hidden=True)
@click.option("--palette", is_flag=True, help="also one indexed PNG a frame for all sentences")
@recipe_options
@out_option("the result's folder", folder=True)
def command(
    video_and_queries: tuple[str, ...],
    video: Path | None,
    query: tuple[str, ...],
    queries: Path | None,
    every_frame: bool,
    transition_cost: float | None,
    **values: Any,
) -> int:
    """Writes, for each sentence, a mask PNG of every frame (0 and 255, the video's size), the
    masks as COCO run lengths, an overlay video, a contact sheet, a picture of the word attention
    and result.json.

    The video is indexed once; sentences asked later cost little.
    """
    words = list(video_and_queries)
    if words and not (video or values["data"] or values["index"]):
        video = VIDEO.convert(words.pop(0), None, None)
    elif words and Path(words[0]).exists():  # a path is no sentence
        raise InputError(f"{words[0]}: a video beside --video, --data or --index; give one of them")
    texts = (*words, *query, *sentences(queries))
    if every_frame and values["stride"] != 1:
        raise click.UsageError("wanted one of --stride and --every-frame")
    options = split_inputs(values)
    if transition_cost is not None:
        values["transition_cost"] = transition_cost

    from aamn.jobs.inputs import InputOptions, Inputs
    from aamn.jobs.segment import SegmentOptions, segment_videos

    inputs = Inputs(InputOptions(**options))
    return segment_videos(inputs, SegmentOptions(video=video, texts=texts, **values))
