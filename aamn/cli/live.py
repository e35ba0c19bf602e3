"""`aamn live`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aamn.cli.command_line import (
    Finite,
    inputs_options,
    out_option,
    recipe_options,
    split_inputs,
    subcommand,
    threshold_option,
)
from aamn.config.schema import ONLY_TRAINING


@subcommand(
    "live",
    """aamn live --camera 0 "person in red" --bundle runs/demo/bundle --port 8090""",
    apart=[("--camera", "--source")],
    unread=(*ONLY_TRAINING, "data"),
)
@click.argument("source_and_queries", nargs=-1, metavar="[SOURCE] [QUERY]...")
@click.option("--camera", type=click.IntRange(0), metavar="N", help="the camera with this number")
@click.option("--source", metavar="SOURCE", help="the same as SOURCE")
@inputs_options
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "auto"]),
    default="auto",
    help="auto: bfloat16 where the machine has instructions for it",
)
@click.option(
    "--window",
    type=click.IntRange(1, 10_000),
    default=8,
    metavar="CLIPS",
    help="how many of the last clips decide who is meant",
)
@click.option(
    "--rate", type=Finite(0.01, 1000), metavar="FPS", help="of a file, instead of its own"
)
@click.option("--end", type=click.IntRange(1), metavar="N", help="stop after so many frames")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="moving pictures for browsers of this machine; 0: any free port",
)
@click.option("--show", is_flag=True, help="a window, where OpenCV has them")
@click.option(
    "--ask",
    is_flag=True,
    help="each line of standard input has the sentences from then on, with ; between two",
)
@threshold_option
@recipe_options
@out_option("an mp4 of the pictures, which is there when the run ends")
def command(
    source_and_queries: tuple[str, ...],
    camera: int | None,
    source: str | None,
    out: Path | None,
    **values: Any,
) -> None:
    """Masks what sentences mean in what a camera shows now, clip after clip.

    SOURCE is a file, which is played at its own rate, a folder of pictures, or an address (rtsp,
    http) that OpenCV opens. What comes while the machine is busy is dropped and counted; memory
    does not grow.
    """
    from aamn.jobs.inputs import InputOptions, Inputs
    from aamn.live.run import LiveOptions, run_live, texts_of

    words, options = list(source_and_queries), split_inputs(values)
    taken: str | int | None = source if camera is None else camera
    if taken is None and words:
        taken = words.pop(0)
    if taken is None:
        raise click.UsageError("wanted SOURCE, or --camera N")
    live = LiveOptions(taken, texts_of(words), out=out, **values)
    run_live(Inputs(InputOptions(**options)), live)
