"""`aamn bundle`."""

from __future__ import annotations

from pathlib import Path

import click

from aamn.cli.command_line import CHECKPOINT, DETECTOR, Existing, Finite, out_option, subcommand

METRICS = Existing("metrics", "; `aamn evaluate --full-video --calibrate` writes them")


@subcommand(
    "bundle",
    "aamn bundle --checkpoint runs/a2d/aamn/last.pt --detector runs/a2d/detector/detector.pt "
    "\\\n    --out runs/a2d/bundle",
    apart=[("--absent-threshold", "--metrics")],
)
@click.option(
    "--checkpoint", type=CHECKPOINT, required=True, metavar="PT", help="from `aamn train`"
)
@click.option("--detector", type=DETECTOR, required=True, metavar="PT", help="from train-detector")
@click.option("--absent-threshold", type=Finite(), metavar="SCORE", help="below it: no match")
@click.option(
    "--metrics",
    type=METRICS,
    metavar="JSON",
    help="of `aamn evaluate --full-video --calibrate`, which finds that score",
)
@out_option("the folder for the bundle", required=True)
def command(
    checkpoint: Path,
    detector: Path,
    absent_threshold: float | None,
    metrics: Path | None,
    out: Path,
) -> None:
    """Puts a detector and a segmenter into one folder, which aamn.load() and --bundle of the other
    subcommands read."""
    from aamn.evaluation.absence import read_threshold
    from aamn.predictor import write_bundle

    if absent_threshold is None and metrics:
        absent_threshold = read_threshold(metrics)
    write_bundle(out, detector, checkpoint, absent_threshold)
    print(out)
