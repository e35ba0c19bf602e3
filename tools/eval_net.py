"""Evaluates a trained segmenter on a data set's test split."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch
from command_line import make_parser, run
from torch.utils.data import DataLoader

from aamn.checkpoint import extend_words, load_segmenter
from aamn.data.clips import SampleDataset
from aamn.data.flow_store import FlowStore
from aamn.data.readers import open_source
from aamn.evaluation import evaluate, format_table, write_metrics
from aamn.structures import Report
from proposals.store import ProposalStore

log = logging.getLogger("aamn")


def _report(args: argparse.Namespace, system: str) -> Report:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    change = [f"system={system}"] if system else []
    loaded = load_segmenter(args.checkpoint, device, args.config, [*args.overrides, *change])
    options = {"root": args.data, "proposals": args.proposals, "flow": args.flow}
    data = replace(loaded.config.data, **{k: v for k, v in options.items() if v})
    needs = loaded.segmenter.needs
    source = open_source(data, args.split or data.test_split)
    loaded = extend_words(loaded, source.texts())
    dataset = SampleDataset(
        source,
        needs,
        loaded.vocabulary,
        ProposalStore.read(data.proposals) if needs.proposals else None,
        FlowStore.read(data.flow) if needs.flow and data.flow else None,
        flow_config=loaded.config.flow,
    )
    samples = DataLoader(dataset, batch_size=None, num_workers=data.workers)
    name = f"{data.root} ({args.split or data.test_split})"
    return evaluate(
        loaded.segmenter,
        samples,
        system=loaded.config.system,
        data=name,
        total=len(dataset),
    )


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
        choices=["most_confident"],
        help="also evaluate the same masks on the detector's most confident box",
    )
    args = parser.parse_args()
    reports = [_report(args, system) for system in ["", *args.compare]]
    print(format_table(reports))
    out = Path(args.out or Path(args.checkpoint).with_name("metrics.json"))
    write_metrics(reports, out)
    log.info("wrote %s", out)


if __name__ == "__main__":
    run(main)
