"""`aamn manifest`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aamn.cli.command_line import Finite, out_option, subcommand


@subcommand("manifest", "aamn manifest --data datasets/a2d --split train --out runs/train.json")
@click.option("--data", required=True, metavar="ROOT", help="root of the data set")
@click.option(
    "--kind",
    type=click.Choice(["a2d", "folder", "jhmdb", "refvos"]),
    default="a2d",
    help="the data set's layout; default: a2d",
)
@click.option("--split", default="train", help="default: train")
@click.option(
    "--validation-share",
    type=Finite(0, 1, max_open=True),
    default=0.0,
    metavar="SHARE",
    help="of the training videos that make the split validation, as data.validation_share",
)
@out_option("the JSON file to write", required=True)
def command(data: str, kind: Any, split: str, validation_share: float, out: Path) -> None:
    """Writes a COCO JSON of the annotated frames of one split of a data set; its images name a
    video and a frame in it, no picture is written. A2D's actors are classes; the objects of other
    data sets are all of one."""
    from aamn.config.schema import DataConfig
    from aamn.data.datasets.manifest import write_manifest

    source = DataConfig(kind=kind, root=data, validation_share=validation_share)
    manifest = write_manifest(source, split, out)
    print(f"{out}: {len(manifest['images'])} frames, {len(manifest['annotations'])} boxes")
