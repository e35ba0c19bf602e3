"""Evaluates a trained segmenter on a data set's test split."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from aamn.cli.command_line import make_parser, run
from aamn.cli.options import open_segmenter
from aamn.evaluation.absence import write_videos
from aamn.evaluation.key_frames import format_table, write_metrics
from aamn.evaluation.systems import (
    MOST_CONFIDENT,
    Run,
    System,
    evaluate_system,
    open_system,
    through_indexes,
)
from aamn.report.assemble import write_page
from proposals.errors import InputError

log = logging.getLogger("aamn")


def _runs(args: argparse.Namespace) -> list[Run]:
    """The checkpoint's run, and those of the systems it is compared with on the same samples."""
    places = {"root": args.data, "proposals": args.proposals, "flow": args.flow}
    first = open_system(args.checkpoint, args.overrides, args.config, args.split or "", places)
    if args.index:
        first = through_indexes(first, Path(args.index) / "key_frames")
    runs = [evaluate_system(first)]
    places = {key: getattr(first.data, key) for key in ("kind", *places)}
    for other in args.compare:
        own = (other, (), None)
        if other == MOST_CONFIDENT:
            own = (args.checkpoint, [*args.overrides, f"system={other}"], args.config)
        system = open_system(*own, first.split, places)
        name = system.loaded.config.system
        taken = {run.evaluation.report.system for run in runs}
        runs.append(evaluate_system(system, f"{name} ({other})" if name in taken else name))
    return runs


def _shuffled(args: argparse.Namespace, first: System) -> System | None:
    """The checkpoint with words weighted at random; None where it has learned no weights."""
    config = first.loaded.config
    if config.system != "aamn" or config.aamn.language.attention != "learned":
        return None
    overrides = [*args.overrides, "aamn.language.attention=random"]
    places = {"root": args.data, "proposals": args.proposals, "flow": args.flow}
    return open_system(args.checkpoint, overrides, args.config, first.split, places)


def main() -> None:
    parser = make_parser(
        "Prints and writes the metrics of a checkpoint, over all sentences and by kind.",
        "python tools/eval_net.py --checkpoint runs/a2d/aamn/last.pt --data datasets/a2d "
        "--out runs/a2d/metrics.json",
    )
    parser.add_argument("--checkpoint", required=True, metavar="PT", help="from train_net")
    parser.add_argument("--data", metavar="ROOT", help="default: the data it was trained on")
    parser.add_argument("--split", help="default: the configuration's data.test_split")
    parser.add_argument("--proposals", metavar="HDF5", help="default: as in training")
    parser.add_argument("--flow", metavar="HDF5", help="default: as in training")
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        metavar="SYSTEM",
        help="also evaluate most_confident, the same masks on the detector's most confident box, "
        "or another checkpoint; may be repeated",
    )
    parser.add_argument(
        "--report", metavar="DIR", help="also write DIR/index.html: tables, curves, pictures"
    )
    parser.add_argument(
        "--pictures", type=int, default=6, metavar="N", help="answers of each kind on the page"
    )
    parser.add_argument(
        "--full-video", action="store_true", help="whole videos: bbox and pixel protocols, VP@X"
    )
    parser.add_argument(
        "--calibrate",
        metavar="SPLIT",
        help="with --full-video: find on this split, such as train, the score below which a "
        "sentence means nobody, and say what it does on the evaluated one",
    )
    parser.add_argument(
        "--index",
        metavar="DIR",
        help="ask indexes, of which those that DIR lacks are made; --full-video always does, by "
        "default in a folder beside its metrics",
    )
    args = parser.parse_args()
    if args.calibrate and not args.full_video:
        raise InputError("--calibrate: wanted with --full-video")
    if args.full_video:
        evaluate_videos(args)
        return
    runs = _runs(args)
    reports = [run.evaluation.report for run in runs]
    print(format_table(reports))
    out = Path(args.out or Path(args.checkpoint).with_name("metrics.json"))
    write_metrics(reports, out)
    log.info("wrote %s", out)
    if args.report:
        shuffled = _shuffled(args, runs[0].system)
        log.info("wrote %s", write_page(Path(args.report), runs, shuffled, args.pictures))


log = logging.getLogger("aamn")


def evaluate_videos(args: argparse.Namespace) -> None:
    """Prints and writes the metrics of whole videos; with --calibrate also the threshold of
    absence, found on another split, and what it does on this one."""
    loaded = open_segmenter(args)
    options = {"root": args.data, "proposals": args.proposals, "flow": args.flow}
    data = replace(loaded.config.data, **{k: v for k, v in options.items() if v})
    split = args.split or data.test_split
    if args.calibrate == split:
        raise InputError(f"--calibrate {split}: wanted another split than the evaluated one")
    out = Path(args.out or Path(args.checkpoint).with_name("full_video.json"))
    folder = Path(args.index or out.with_suffix(".index"))
    write_videos(loaded, data, split, out, folder, args.calibrate)
    log.info("wrote %s", out)


if __name__ == "__main__":
    run(main)
