"""`aamn table`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aamn.cli.command_line import out_option, recipe_options, subcommand


@subcommand(
    "table",
    "aamn table 4 --data runs/demo/corpus --proposals runs/demo/proposals.h5 "
    "\\\n    --flow runs/demo/flow.h5 --out runs/tables",
    apart=[("--base", "--config")],
)
@click.argument("name")
@click.option("--base", default="aamn_demo", help="the recipe that rows vary; the same as --config")
@click.option("--data", default="", metavar="ROOT", help="default: data.root")
@click.option("--proposals", default="", metavar="HDF5", help="default: data.proposals")
@click.option("--flow", default="", metavar="HDF5", help="default: data.flow")
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, metavar="N", help="runs a row")
@click.option("--jobs", type=click.IntRange(1, 1024), default=1, metavar="N", help="runs at a time")
@click.option(
    "--test-set",
    multiple=True,
    metavar="KEY=VALUE",
    help="evaluate with this value, such as data.kind=jhmdb for table 11; may be repeated",
)
@recipe_options
@out_option("the tables' folder; default: runs/tables", folder=True, default="runs/tables")
def command(base: str, config: str | None, out: Path, **values: Any) -> int:
    """Trains and evaluates what a table of the paper needs (NAME: 1 to 13, masks, systems, or
    acga-parameters) and writes it beside the paper's numbers, as Markdown, CSV and SVG.

    Run again after an interruption: finished rows are kept, and rows of several tables that are the
    same recipe are run once. A --set of a system's own part, such as acga.size=96, reaches that
    system's rows alone.
    """
    from aamn.experiments.reproduce import TableOptions, reproduce

    return reproduce(TableOptions(config=config or base, out=out, **values))
