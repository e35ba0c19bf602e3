"""Writes the synthetic corpus."""

from __future__ import annotations

import os
from pathlib import Path

from aamn.cli.command_line import make_parser, run
from aamn.config.loading import load_config
from aamn.data.synthetic import SyntheticConfig, write_corpus
from proposals.errors import InputError


def main() -> None:
    parser = make_parser(
        "Write a small synthetic corpus in A2D Sentences' file layout.",
        "python tools/make_synthetic.py --config configs/synthetic_demo.yaml --out runs/corpus",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that draw videos"
    )
    options = parser.parse_args()
    if not options.out:
        raise InputError("--out: name the folder that the corpus goes to")
    config = load_config(SyntheticConfig, options.config, options.overrides)
    summary = write_corpus(Path(options.out), config, options.workers)
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary.sentences.items())
    print(f"{options.out}: {summary.train_videos} train and {summary.test_videos} test videos")
    print(f"{sum(summary.sentences.values())} sentences ({kinds})")
    print(f"{summary.annotated_frames} annotated frames, {summary.written} videos drawn just now")


if __name__ == "__main__":
    run(main)
