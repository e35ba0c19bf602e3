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
@click.option(
    "--detector",
    type=DETECTOR,
    metavar="PT",
    help="from train-detector; none for the system adapted: the public one",
)
@click.option("--absent-threshold", type=Finite(), metavar="SCORE", help="below it: no match")
@click.option(
    "--metrics",
    type=METRICS,
    metavar="JSON",
    help="of `aamn evaluate --full-video --calibrate`, which finds that score "
    "and how likely others are",
)
@click.option(
    "--vectors",
    type=Existing("file of word vectors"),
    metavar="FILE",
    help="word vectors for sentences with words that training has not seen; default: the file of "
    "the training, where it is at hand",
)
@click.option(
    "--words",
    type=click.IntRange(min=0),
    default=50_000,
    metavar="N",
    help="how many of its first words go into the bundle; 0: none",
)
@out_option("the folder for the bundle", required=True, folder=True)
def command(
    checkpoint: Path,
    detector: Path | None,
    absent_threshold: float | None,
    metrics: Path | None,
    vectors: Path | None,
    words: int,
    out: Path,
) -> None:
    """Puts a detector and a segmenter into one folder, which aamn.load() and --bundle of the other
    subcommands read."""
    from aamn.evaluation.absence import read_no_match
    from aamn.inference.verdict import NoMatch
    from aamn.predictor import write_bundle

    known = read_no_match(metrics) if metrics else NoMatch(absent_threshold)
    write_bundle(
        out, detector, checkpoint, known.threshold, vectors, words, probability=known.probability
    )
    print(out)
