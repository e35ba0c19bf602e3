"""`aamn index`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aamn.cli.command_line import (
    engine_options,
    every_option,
    inputs_options,
    out_option,
    recipe_options,
    split_inputs,
    subcommand,
)
from aamn.config.schema import ONLY_TRAINING


@subcommand(
    "index",
    "aamn index clips/ --bundle runs/a2d/bundle --out runs/a2d/index",
    apart=[("--detector", "--proposals")],
    unread=(*ONLY_TRAINING, "data"),
)
@click.argument("videos", nargs=-1, required=True)
@inputs_options
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "auto"]),
    default="float32",
    help="bfloat16 halves the networks' time where the machine has instructions for it; auto "
    "takes it there",
)
@click.option("--library", metavar="PLACE", help="also put them there (`aamn library`)")
@engine_options
@every_option
@recipe_options
@out_option("the folder for the indexes", required=True, folder=True)
def command(
    videos: tuple[str, ...],
    precision: str,
    library: str | None,
    every: int,
    out: Path,
    **values: Any,
) -> int:
    """Computes once all that videos contribute to any sentence's answer: tubes, their vectors,
    masks and links, one HDF5 file a video (docs/indexes.md).

    VIDEOS are files, folders, quoted patterns, or .txt lists of them. The same command again goes
    on with the videos that lack.
    """
    from aamn.jobs.engines import EngineOptions, open_engine
    from aamn.jobs.index import IndexWork, index_videos
    from aamn.jobs.inputs import InputOptions, Inputs
    from proposals.extract import find_videos

    options = InputOptions(**split_inputs(values))
    Inputs(options)  # a mistake is found before the engine starts
    work = IndexWork(options, out, precision, every)
    with open_engine(EngineOptions(**values)) as engine:
        return index_videos(work, find_videos(videos), engine, library)
