"""`aamn train-detector`."""

from __future__ import annotations

from pathlib import Path

import click

from aamn.cli.command_line import Existing, out_option, recipe_options, subcommand

MANIFEST = Existing("manifest", "; `aamn manifest` writes one")


@subcommand(
    "train-detector",
    "aamn train-detector --config detector_demo --manifest runs/train.json "
    "\\\n    --validation runs/test.json --out runs/detector",
)
@click.option(
    "--manifest", type=MANIFEST, required=True, metavar="JSON", help="frames to learn from"
)
@click.option(
    "--validation", type=MANIFEST, metavar="JSON", help="frames to measure AP and recall on"
)
@recipe_options
@out_option("the detector's folder", required=True, folder=True)
def command(
    manifest: Path,
    validation: Path | None,
    config: str | None,
    overrides: tuple[str, ...],
    out: Path,
) -> None:
    """Fine-tunes a detector on a COCO JSON of annotated frames (`aamn manifest`); writes
    detector.pt and metrics.json into OUT. The same command again resumes."""
    from aamn.config.loading import load_config
    from aamn.jobs.detector import train_detector
    from proposals.config import DetectorConfig

    recipe = load_config(DetectorConfig, config, overrides)
    for name, value in train_detector(recipe, manifest, validation, out).items():
        print(f"{name:<22}{value:.3f}")
