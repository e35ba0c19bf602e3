"""`aamn attention`."""

from __future__ import annotations

from pathlib import Path

import click

from aamn.cli.command_line import CHECKPOINT, FLOW, VIDEO, out_option, recipe_options, subcommand
from aamn.config.schema import ONLY_TRAINING

NUMBER = click.IntRange(0)


@subcommand(
    "attention",
    """aamn attention --checkpoint runs/acga/last.pt --video clip.mp4 --query "dog walking" """
    "\\\n    --frame 12 --pixel 80 60 --out runs/attention",
    unread=(*ONLY_TRAINING, "data"),
)
@click.option(
    "--checkpoint", type=CHECKPOINT, required=True, metavar="PT", help="from `aamn train`"
)
@click.option("--video", type=VIDEO, required=True, help="a video file or a folder of frames")
@click.option("--query", required=True, help="the sentence")
@click.option("--frame", type=NUMBER, metavar="N", help="from 0; default: the middle one")
@click.option("--pixel", type=NUMBER, nargs=2, metavar="X Y", help="default: the frame's centre")
@click.option("--flow", type=FLOW, metavar="HDF5", help="extracted flow; else on the fly")
@click.option("--video-id", default="", help="the video's id in the flow file; default: its name")
@recipe_options
@out_option("the pictures' folder; default: runs/attention", folder=True, default="runs/attention")
def command(
    checkpoint: Path,
    video: Path,
    query: str,
    frame: int | None,
    pixel: tuple[int, int] | None,
    flow: Path | None,
    video_id: str,
    config: str | None,
    overrides: tuple[str, ...],
    out: Path,
) -> None:
    """Draws what a comparison system attends to in one frame. ACGA: each word's weight at every
    place, and where the chosen pixel looks. CSTM: LGFS's weights and the maps they weigh."""
    from aamn.jobs.attention import draw_attention
    from aamn.jobs.inputs import InputOptions, Inputs
    from proposals.decoding import Video

    options = InputOptions(checkpoint=checkpoint, flow=flow, config=config, overrides=overrides)
    draw_attention(Inputs(options), Video.at(video, video_id), query, out, frame, pixel)
