"""`aamn manifest`."""

from __future__ import annotations

from pathlib import Path

import click

from aamn.cli.command_line import out_option, subcommand


@subcommand("manifest", "aamn manifest --data datasets/a2d --split train --out runs/train.json")
@click.option("--data", required=True, metavar="ROOT", help="root of the data set")
@click.option("--split", type=click.Choice(["train", "test", "validation"]), default="train")
@click.option(
    "--validation-share",
    default=0.0,
    metavar="SHARE",
    help="of the training videos that make the split validation, as data.validation_share",
)
@out_option("the JSON file to write", required=True)
def command(data: str, split: str, validation_share: float, out: Path) -> None:
    """Writes a COCO JSON of the annotated frames of one split of A2D Sentences; its images name a
    video and a frame in it, no picture is written."""
    from aamn.data.datasets.manifest import write_manifest

    manifest = write_manifest(Path(data), split, out, validation_share)
    print(f"{out}: {len(manifest['images'])} frames, {len(manifest['annotations'])} boxes")
