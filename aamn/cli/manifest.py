"""`aamn manifest`."""

from __future__ import annotations

from pathlib import Path

import click

from aamn.cli.command_line import out_option, subcommand


@subcommand("manifest", "aamn manifest --data datasets/a2d --split train --out runs/train.json")
@click.option("--data", required=True, metavar="ROOT", help="root of the data set")
@click.option("--split", type=click.Choice(["train", "test", "held_out"]), default="train")
@click.option(
    "--held-out",
    default=0.0,
    metavar="SHARE",
    help="of the training videos, as data.held_out: train without them, or the split held_out",
)
@out_option("the JSON file to write", required=True)
def command(data: str, split: str, held_out: float, out: Path) -> None:
    """Writes a COCO JSON of the annotated frames of one split of A2D Sentences; its images name a
    video and a frame in it, no picture is written."""
    from aamn.data.datasets.manifest import write_manifest

    manifest = write_manifest(Path(data), split, out, held_out)
    print(f"{out}: {len(manifest['images'])} frames, {len(manifest['annotations'])} boxes")
