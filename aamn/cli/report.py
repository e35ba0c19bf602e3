"""`aamn report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aamn.cli.command_line import PICTURES, out_option, recipe_options, subcommand
from aamn.cli.evaluate import evaluate, samples_options
from aamn.config.schema import ONLY_TRAINING


@subcommand(
    "report",
    "aamn report --checkpoint runs/a2d/aamn/last.pt --out runs/a2d/page",
    unread=ONLY_TRAINING,
)
@samples_options
@click.option(
    "--pictures", type=PICTURES, default=6, metavar="N", help="answers of each kind on the page"
)
@recipe_options
@out_option("the page's folder", required=True, folder=True)
def command(pictures: int, out: Path, **values: Any) -> None:
    """Writes OUT/index.html: the metrics by kind of sentence and by actor, curves, and pictures of
    the best and the worst answers; OUT/metrics.json beside it."""
    evaluate(values, out / "metrics.json", out, pictures)
