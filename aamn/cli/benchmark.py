"""`aamn benchmark`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from aamn.cli.command_line import OUT_FILE, PATH, recipe_options, subcommand

SIDE = click.IntRange(16, 8192)
NOT_OF_A_BUNDLE = (
    *("--config", "--set", "--detector", "--precision", "--width", "--height", "--compile"),
    *("--no-memory", "--only-index", "--library", "--table", "--growth"),
)


@subcommand(
    "benchmark",
    "aamn benchmark --config aamn_r50fpn_shared --detector detector_r50fpn_shared --frames 120",
    apart=[
        *(("--table", option) for option in ("--config", "--detector", "--precision")),
        *(("--zeroshot", option) for option in ("--table", "--detector", "--growth")),
        *((option, "--backends") for option in NOT_OF_A_BUNDLE),
    ],
    only_with={"--data": "--backends", "--videos": "--backends"},
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
@click.option(
    "--library",
    type=click.IntRange(1000, 100_000_000),
    metavar="TUBES",
    help="instead: what a library of so many tubes costs (docs/scale.md)",
)
@click.option(
    "--zeroshot",
    is_flag=True,
    help="instead: the zero-shot system, by how many frames it describes (--describe-every)",
)
@click.option("--table", is_flag=True, help="demo, mobile and shared ResNet-50-FPN in one run")
@click.option(
    "--growth",
    type=OUT_FILE,
    metavar="SVG",
    help="how cost grows with frames, proposals, sentences and the network's square",
)
@click.option(
    "--backends",
    type=PATH,
    metavar="BUNDLE",
    help="instead: its networks by torch, onnxruntime and OpenVINO on the test videos that its "
    "configuration names (docs/export.md)",
)
@click.option("--data", type=PATH, metavar="DIR", help="with --backends: where the data set lies")
@click.option("--videos", type=click.IntRange(1, 100_000), default=10, help="with --backends")
@recipe_options
def command(
    no_memory: bool,
    library: int | None,
    zeroshot: bool,
    table: bool,
    growth: Path | None,
    backends: Path | None,
    data: Path | None,
    videos: int,
    **values: Any,
) -> None:
    """Prints a table: indexing by part, against the forward passes it cannot avoid; the first and
    each further sentence; the paper's way; the forward passes in other number formats and memory
    layouts; operations a frame beside the paper's system, and each part's share of what the
    machine does at most; peak memory of longer videos. Weights are random, videos noise."""
    if library is not None:
        from aamn.experiments.library_costs import measure_library

        with TemporaryDirectory(prefix="aamn-library-") as folder:
            return measure_library(Path(folder) / "library", library)

    if backends:
        from aamn.experiments.backends import compare_backends

        return compare_backends(backends, data, values["frames"], videos)

    from aamn.experiments.benchmark import BenchmarkOptions, benchmark

    options = BenchmarkOptions(memory=not no_memory, **values)
    if zeroshot:
        from aamn.experiments.zeroshot_costs import print_zeroshot_costs

        return print_zeroshot_costs(options)
    if not (table or growth):
        return benchmark(options)

    from aamn.experiments import growth as growing

    if table:
        growing.speed_table(options)
    if growth:
        growing.growth(options, growth)
