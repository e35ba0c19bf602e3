"""`aamn parameters`."""

from __future__ import annotations

from pathlib import Path

import click

from aamn.cli.command_line import out_option, recipe_options, subcommand

STEPS = click.Choice(["train", "infer"])


@subcommand(
    "parameters",
    "aamn parameters --config aamn_vgg16_a2d --steps train infer",
    unread=("name", "seed", "data", "augment", "flow", "words.vectors"),
)
@click.argument("more_steps", nargs=-1, type=STEPS, metavar="")
@click.option("--steps", multiple=True, type=STEPS, help="also the seconds of these, on noise")
@click.option("--depth", type=click.IntRange(0), default=2, help="how deep parts are listed")
@recipe_options
@out_option("also write the table there")
def command(
    more_steps: tuple[str, ...],
    steps: tuple[str, ...],
    depth: int,
    config: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
) -> None:
    """Prints the parameters of every part of a recipe's model, counted without making them, and
    with --steps the seconds of single steps on noise."""
    from aamn.config.loading import load_config
    from aamn.config.schema import Config
    from aamn.experiments.parameters import parameters_table, time_steps
    from proposals.files import write_text

    recipe = load_config(Config, config or "aamn_vgg16_a2d", overrides)
    text = parameters_table(recipe, depth)
    print(text, end="")
    if out:
        write_text(out, text)
    steps = (*steps, *more_steps)
    for name, seconds in time_steps(recipe, steps).items() if steps else ():
        print(f"{name}: {seconds:.1f} s")
