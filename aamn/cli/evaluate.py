"""`aamn evaluate`, and what it shares with `aamn report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aamn.cli.command_line import (
    CHECKPOINT,
    OUT_FOLDER,
    PATH,
    PICTURES,
    Function,
    every_option,
    log,
    out_option,
    recipe_options,
    subcommand,
)
from aamn.config.schema import ONLY_TRAINING


def samples_options(function: Function) -> Function:
    """--checkpoint, the data it is asked about, and what it is compared with."""
    for option in (
        click.option(
            "--index",
            type=PATH,
            metavar="DIR",
            help="ask indexes, of which those that DIR lacks are made; --full-video always does, "
            "by default in a folder beside its metrics",
        ),
        click.option(
            "--compare",
            multiple=True,
            metavar="SYSTEM",
            help="also evaluate most_confident, the same masks on the detector's most confident "
            "box, or another checkpoint; may be repeated",
        ),
        click.option("--flow", default="", metavar="HDF5", help="default: as in training"),
        click.option("--proposals", default="", metavar="HDF5", help="default: as in training"),
        click.option("--split", default="", help="default: the configuration's data.test_split"),
        click.option("--data", default="", metavar="ROOT", help="default: as in training"),
        click.option(
            "--checkpoint", type=CHECKPOINT, required=True, metavar="PT", help="from `aamn train`"
        ),
    ):
        function = option(function)
    return function


def evaluate(values: dict[str, Any], out: Path | None, report: Path | None, pictures: int) -> None:
    """Prints and writes the metrics of a checkpoint and of what it is compared with, and the page
    where `report` names its folder."""
    from aamn.evaluation.key_frames import format_table, write_metrics
    from aamn.evaluation.systems import EvaluateOptions, evaluate_all, shuffled_system
    from aamn.report.assemble import write_page
    from proposals.outputs import check_output

    options = EvaluateOptions(**values)
    out = out or options.checkpoint.with_name("metrics.json")
    check_output(out)
    runs = evaluate_all(options)
    reports = [run.evaluation.report for run in runs]
    print(format_table(reports))
    write_metrics(reports, out)
    log.info("wrote %s", out)
    if report:
        shuffled = shuffled_system(options, runs[0].system)
        log.info("wrote %s", write_page(report, runs, shuffled, pictures))


@subcommand(
    "evaluate",
    "aamn evaluate --checkpoint runs/a2d/aamn/last.pt --data datasets/a2d --out runs/metrics.json",
    only_with={
        "--calibrate": "--full-video",
        "--every": "--full-video",
        "--pictures": "--report",
    },
    apart=[
        *((option, "--full-video") for option in ("--compare", "--report", "--retrieval")),
        *((option, "--retrieval") for option in ("--compare", "--report")),
    ],
    unread=ONLY_TRAINING,
)
@samples_options
@click.option(
    "--report", type=OUT_FOLDER, metavar="DIR", help="also write a page, as `aamn report`"
)
@click.option(
    "--pictures", type=PICTURES, default=6, metavar="N", help="answers of each kind on the page"
)
@click.option("--full-video", is_flag=True, help="whole videos: box and pixel protocols, VP@X")
@click.option(
    "--retrieval",
    is_flag=True,
    help="search: whether a sentence finds a video that it is true of, and when in it",
)
@click.option(
    "--calibrate",
    default="",
    metavar="SPLIT",
    help="with --full-video: find on this split, such as train, the score below which a sentence "
    "means nobody, and say what it does on the evaluated one",
)
@every_option
@recipe_options
@out_option("the JSON file for the metrics; default: beside the checkpoint")
def command(
    report: Path | None,
    pictures: int,
    full_video: bool,
    retrieval: bool,
    calibrate: str,
    out: Path | None,
    **values: Any,
) -> None:
    """Prints and writes the metrics of a checkpoint, over all sentences and by kind."""
    if not full_video:
        del values["every"]
    if not (full_video or retrieval):
        return evaluate(values, out, report, pictures)
    del values["compare"]

    from aamn.evaluation.absence import VideoEvaluation, evaluate_videos
    from aamn.evaluation.retrieval import evaluate_retrieval
    from aamn.jobs.inputs import InputOptions, Inputs

    checkpoint, config = values.pop("checkpoint"), values.pop("config")
    options = InputOptions(checkpoint=checkpoint, config=config, overrides=values.pop("overrides"))
    found = VideoEvaluation(calibrate=calibrate, out=out, **values)
    work = evaluate_retrieval if retrieval else evaluate_videos
    return work(Inputs(options).loaded, checkpoint, found)
