"""`aamn flow`."""

from __future__ import annotations

from pathlib import Path

import click

from aamn.cli.command_line import (
    WORKERS,
    all_but,
    engine_options,
    log,
    out_option,
    recipe_options,
    subcommand,
)
from proposals.errors import InputError


@subcommand(
    "flow",
    "aamn flow --data data/a2d --out data/a2d/flow.h5 --set flow.longest_side=256",
    apart=[("--workers", "--processes")],
    unread=all_but("data", "flow"),
)
@click.argument("paths", nargs=-1, metavar="[VIDEOS]...")
@click.option("--videos", "videos_too", multiple=True, help="the same as VIDEOS")
@click.option("--data", metavar="ROOT", help="a data set; data.kind names its layout")
@click.option("--workers", type=WORKERS, help="as --processes; default: data.workers")
@engine_options
@recipe_options
@out_option("the HDF5 file to write; default: data.flow, or flow.h5")
def command(
    paths: tuple[str, ...],
    videos_too: tuple[str, ...],
    data: str | None,
    workers: int | None,
    engine: str,
    processes: int | None,
    address: str,
    cores: int,
    config: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
) -> int:
    """Computes the flow from each frame to the next.

    VIDEOS are files, folders, quoted patterns, or .txt lists of them. Run again after an
    interruption: what is done is kept. Videos that fail are listed at the end; the exit code is
    then 1.
    """
    from dataclasses import replace

    from aamn.config.loading import load_config
    from aamn.config.schema import Config
    from aamn.data.datasets.registry import all_videos
    from aamn.jobs.engines import EngineOptions, open_engine
    from aamn.jobs.flow import flow_of_videos
    from proposals.extract import find_videos
    from proposals.outputs import check_output

    recipe = load_config(Config, config, overrides)
    paths = (*videos_too, *paths)
    if paths and data:
        raise InputError("wanted one of --data ROOT and VIDEOS")
    if not (paths or data or recipe.data.root):
        raise InputError("wanted --data ROOT (a data set) or VIDEOS (a folder, pattern or list)")
    if paths:
        videos = {video.video_id: video.path for video in find_videos(paths)}
    else:
        videos = all_videos(replace(recipe.data, root=data or recipe.data.root))
    out = out or Path(recipe.data.flow or "flow.h5")
    check_output(out)
    workers = recipe.data.workers if workers is None else workers
    options = EngineOptions(engine, processes or max(1, workers), address, cores)
    with open_engine(options) as found:
        code = flow_of_videos(videos, out, recipe.flow, found)
    log.info("wrote %s", out)
    return code
