"""Trains a segmenter on a data set's training split."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from aamn.cli.command_line import make_parser, run
from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.training.run import train_from
from proposals.errors import InputError

log = logging.getLogger("aamn")


def main() -> None:
    parser = make_parser(
        "Trains a segmenter. Run again after an interruption: it goes on from the last checkpoint, "
        "on the same curve.",
        "python tools/train_net.py --config configs/aamn_vgg16_a2d.yaml --data datasets/a2d "
        "--proposals runs/a2d/proposals.h5 --flow runs/a2d/flow.h5 --out runs/a2d/aamn",
    )
    parser.add_argument("--data", metavar="ROOT", help="the data set; default: data.root")
    parser.add_argument("--proposals", metavar="HDF5", help="default: data.proposals")
    parser.add_argument("--flow", metavar="HDF5", help="default: data.flow; none: on the fly")
    parser.add_argument("--restart", action="store_true", help="ignore an existing checkpoint")
    args = parser.parse_args()
    config = load_config(Config, args.config, args.overrides)
    config.data = replace(
        config.data,
        root=args.data or config.data.root,
        proposals=args.proposals or config.data.proposals,
        flow=args.flow or config.data.flow,
    )
    if not config.data.root:
        raise InputError("wanted --data ROOT, the data set to train on")
    out = Path(args.out or f"runs/{config.name}")
    progress = train_from(config, out, args.restart)
    log.info("%s: %d iterations done; checkpoint in %s", config.name, progress.iteration, out)


if __name__ == "__main__":
    run(main)
