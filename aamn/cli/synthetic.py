"""`aamn synthetic`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from aamn.cli.command_line import Existing, out_option, recipe_options, subcommand

CUTOUTS = Existing("folder of cut-outs", "; wanted DAVIS's layout", folders=True)


@subcommand("synthetic", "aamn synthetic --config synthetic_demo --out runs/corpus")
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    default=os.cpu_count() or 1,
    help="processes that draw videos",
)
@click.option(
    "--cutouts",
    type=CUTOUTS,
    metavar="DIR",
    help="real sequences with masks, in DAVIS's layout: cut their actors out instead of drawing",
)
@recipe_options
@out_option("the corpus's folder", required=True, folder=True)
def command(
    workers: int, cutouts: Path | None, config: str | None, overrides: tuple[str, ...], out: Path
) -> None:
    """Writes a small synthetic corpus in A2D Sentences' file layout: drawings, or with --cutouts a
    collage of real actors before real backgrounds."""
    from aamn.config.loading import load_config
    from aamn.data.synthetic.config import CollageConfig, SyntheticConfig
    from aamn.data.synthetic.corpus import write_corpus

    schema = CollageConfig if cutouts else SyntheticConfig
    summary = write_corpus(out, load_config(schema, config, overrides), workers, cutouts)
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary.sentences.items())
    print(f"{out}: {summary.train_videos} train and {summary.test_videos} test videos")
    print(f"{sum(summary.sentences.values())} sentences ({kinds})")
    print(f"{summary.annotated_frames} annotated frames, {summary.written} videos drawn just now")
