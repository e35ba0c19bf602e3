"""`aamn benchmark`."""

from __future__ import annotations

from typing import Any

import click

from aamn.cli.command_line import recipe_options, subcommand

SIDE = click.IntRange(16, 8192)


@subcommand(
    "benchmark",
    "aamn benchmark --config aamn_r50fpn_shared --detector detector_r50fpn_shared --frames 120",
    unread=("name", "seed", "data", "augment", "train", "words.vectors", "words.trainable"),
)
@click.option("--detector", metavar="YAML", help="recipe of one to index with; none: given boxes")
@click.option("--frames", type=click.IntRange(1, 100_000), default=120)
@click.option("--width", type=SIDE, default=320, metavar="PIXELS")
@click.option("--height", type=SIDE, default=240, metavar="PIXELS")
@click.option("--compile", is_flag=True, help="torch.compile on CPU, too")
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", help="of all"
)
@click.option("--no-memory", is_flag=True, help="leave out the longer videos")
@click.option("--only-index", is_flag=True, help="print the peak memory in MiB")
@recipe_options
def command(no_memory: bool, **values: Any) -> None:
    """Prints a table: indexing by part, against the forward passes it cannot avoid; the first and
    each further sentence; the paper's way; the forward passes in other number formats and memory
    layouts; operations a frame beside the paper's system, and each part's share of what the
    machine does at most; peak memory of longer videos. Weights are random, videos noise."""
    from aamn.experiments.benchmark import BenchmarkOptions, benchmark

    benchmark(BenchmarkOptions(memory=not no_memory, **values))
