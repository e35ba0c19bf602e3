"""`aamn web`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aamn.cli.command_line import PATH, Finite, public_parts_options, recipe_options, subcommand
from aamn.config.schema import ONLY_TRAINING

EXAMPLES = 12


@subcommand(
    "web",
    "aamn web --bundle runs/demo/bundle --library runs/index",
    unread=(*ONLY_TRAINING, "data.root", "data.proposals", "data.flow", "data.workers"),
)
@click.argument("examples", nargs=-1, metavar="[VIDEO]...")
@click.option("--bundle", type=PATH, metavar="DIR", required=True, help="segmenter and detector")
@public_parts_options
@click.option("--library", type=PATH, metavar="DIR", help="a folder of indexes to search")
@click.option(
    "--data", default="", metavar="ROOT", help="a data set's test videos, with their sentences"
)
@click.option("--host", default="127.0.0.1", help="0.0.0.0: every machine that reaches this one")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, help="0: any that is free")
@click.option("--megabytes", type=Finite(0), default=200, help="the most of an upload")
@click.option("--frames", type=click.IntRange(1), default=1800, help="the most of a video")
@click.option("--megapixels", type=Finite(0), default=2.1, help="the most of a frame")
@recipe_options
def command(
    examples: tuple[str, ...],
    bundle: Path,
    library: Path | None,
    data: str,
    host: str,
    port: int,
    megabytes: float,
    frames: int,
    megapixels: float,
    **values: Any,
) -> None:
    """Serves a page in which a video is dropped, sentences are typed, and the masks follow.

    Each VIDEO, and each one of --data, is offered as an example. The page is for this machine alone
    unless --host says otherwise; what visitors upload is removed when they leave it unused, and
    when the server ends.
    """
    from aamn.jobs.inputs import InputOptions, Inputs
    from aamn.web.limits import Limits
    from aamn.web.server import PageOptions, serve
    from aamn.web.videos import Example
    from proposals.extract import find_videos

    inputs = Inputs(InputOptions(bundle=bundle, **values))
    offered = [Example(video) for video in (find_videos(examples) if examples else ())]
    if data:
        offered += _examples_of(inputs.loaded.config.data, data)
    limits = Limits(megabytes=megabytes, frames=frames, megapixels=megapixels)
    options = PageOptions(bundle, tuple(offered), library, limits, host, port)
    serve(inputs.video_segmenter(), options)


def _examples_of(config: Any, root: str) -> list[Any]:
    """The first test videos of a data set, each with its own sentences."""
    from dataclasses import replace

    from aamn.data.datasets.registry import open_source
    from aamn.web.videos import Example
    from proposals.decoding import Video

    source = open_source(replace(config, root=root), config.test_split)
    return [
        Example(
            Video(video_id, source.video_path(video_id)),
            tuple(expression.text for expression in source.sentences(video_id)[:4]),
        )
        for video_id in source.video_ids[:EXAMPLES]
    ]
