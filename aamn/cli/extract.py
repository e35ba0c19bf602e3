"""`aamn extract`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aamn.cli.command_line import DETECTOR, engine_options, out_option, recipe_options, subcommand
from proposals.errors import InputError
from proposals.terminal import printable

if TYPE_CHECKING:
    from proposals.decoding import Video


@subcommand(
    "extract",
    "aamn extract clips/ --detector runs/detector/detector.pt --out boxes.h5",
    only_with={"--kind": "--data"},
    apart=[("--config", "--detector"), ("--set", "--detector")],
    unread=("finetune",),
)
@click.argument("paths", nargs=-1, metavar="[VIDEOS]...")
@click.option("--videos", "videos_too", multiple=True, help="the same as VIDEOS")
@click.option("--data", metavar="ROOT", help="all videos of a data set")
@click.option(
    "--kind",
    type=click.Choice(["a2d", "folder", "jhmdb", "refvos"]),
    default="a2d",
    help="the data set's layout; default: a2d",
)
@click.option("--detector", type=DETECTOR, metavar="PT", help="a fine-tuned one; else --config's")
@click.option("--shard", metavar="I/N", help="only every N-th video, from I on")
@click.option(
    "--batch", type=click.IntRange(0, 65536), default=0, help="frames; 0: fits the device"
)
@click.option(
    "--workers", type=click.IntRange(-1, 1024), default=-1, help="decoding processes; -1: fits"
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="default: half on a GPU",
)
@engine_options
@click.option("--fresh", is_flag=True, help="remove what is in --out first")
@recipe_options
@out_option("the HDF5 file to write", required=True)
def command(
    paths: tuple[str, ...],
    videos_too: tuple[str, ...],
    data: str | None,
    kind: str,
    detector: Path | None,
    shard: str | None,
    batch: int,
    workers: int,
    precision: str | None,
    engine: str,
    processes: int | None,
    address: str,
    cores: int,
    fresh: bool,
    config: str | None,
    overrides: tuple[str, ...],
    out: Path,
) -> int:
    """Detects boxes in every frame of many videos and writes them to one HDF5 file
    (proposals/FORMAT.md).

    VIDEOS are files, folders, quoted patterns, or .txt lists of them. The same command again goes
    on where the last one stopped. With --shard, torchrun or SLURM many workers write shards, which
    are read as one file.
    """
    paths = (*videos_too, *paths)
    if bool(paths) == bool(data):
        raise InputError("wanted either VIDEOS (files, folders, patterns) or --data ROOT")

    from dataclasses import replace

    from aamn.jobs.detector_choice import DetectorChoice, worker_device
    from aamn.jobs.engines import EngineOptions, open_engine
    from aamn.jobs.extract import extract_by_videos
    from proposals.extract import JobOptions, extract, find_videos, shard_of
    from proposals.extract import shard as shard_videos

    videos = find_videos(paths) or _data_set(data or "", kind)
    index, count = shard_of(shard)
    videos, out = shard_videos(videos, out, index, count)
    choice = DetectorChoice(detector, config, overrides, precision)
    device = worker_device()
    if engine == "local" and processes is None:  # this process is fed by others that decode
        job = JobOptions.for_device(device, batch, workers)
        report = extract(choice.load(device), videos, out, replace(job, fresh=fresh))
    else:
        with open_engine(EngineOptions(engine, processes, address, cores)) as found:
            report = extract_by_videos(choice, videos, out, batch, fresh, found)
    print(printable("\n".join((f"{out}:", *report.lines())), "\n"))
    return 1 if report.failures or report.shortened else 0


def _data_set(root: str, kind: str) -> list[Video]:
    """The videos that have sentences, of all splits."""
    from aamn.config.loading import load_config
    from aamn.config.schema import Config
    from aamn.data.datasets.registry import all_videos
    from proposals.decoding import Video

    recipe = load_config(Config, None, [f"data.kind={kind}", f"data.root={root}"])
    return [Video(video_id, path) for video_id, path in sorted(all_videos(recipe.data).items())]
