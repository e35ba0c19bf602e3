"""`aamn train`."""

from __future__ import annotations

from pathlib import Path

import click

from aamn.cli.command_line import (
    FLOW,
    PATH,
    log,
    out_option,
    recipe_options,
    subcommand,
    weights_option,
)
from proposals.errors import InputError


@subcommand(
    "train",
    "aamn train --config aamn_vgg16_a2d --data datasets/a2d --proposals runs/a2d/proposals.h5 "
    "\\\n    --flow runs/a2d/flow.h5 --out runs/a2d/aamn",
)
@click.option("--data", metavar="ROOT", help="the data set; default: data.root")
@click.option("--proposals", type=PATH, metavar="HDF5", help="default: data.proposals")
@click.option("--flow", type=FLOW, metavar="HDF5", help="default: data.flow; none: on the fly")
@weights_option
@click.option("--restart", is_flag=True, help="ignore an existing checkpoint")
@click.option(
    "--only-start",
    is_flag=True,
    help="write what the training would begin with, such as a released model, to start.pt, and end",
)
@recipe_options
@out_option("the run's folder; default: runs/NAME", folder=True)
def command(
    data: str | None,
    proposals: Path | None,
    flow: Path | None,
    weights: Path | None,
    restart: bool,
    only_start: bool,
    config: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
) -> None:
    """Trains a segmenter. Run again after an interruption: it goes on from the last checkpoint, on
    the same curve. Several GPUs: the same under torchrun."""
    from dataclasses import replace

    from aamn.config.loading import load_config, refuse_without_inputs
    from aamn.config.schema import Config

    recipe = load_config(Config, config, overrides)
    recipe.data = replace(
        recipe.data,
        root=data or recipe.data.root,
        proposals=str(proposals or recipe.data.proposals),
        flow=str(flow or recipe.data.flow),
    )
    refuse_without_inputs(recipe)
    if weights:
        if recipe.system != "adapted":
            raise InputError("--weights: wanted with --config adapted, else it does nothing")
        recipe.zeroshot.published.folder = str(weights)

    from aamn.training.run import train_from, write_start

    out = out or Path("runs") / recipe.name
    if only_start:
        return log.info("wrote %s", write_start(recipe, out))
    progress = train_from(recipe, out, restart)
    log.info("%s: %d iterations done; checkpoint in %s", recipe.name, progress.iteration, out)
