"""Writes the optical flow of many videos into one HDF5 file."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from aamn.cli.command_line import make_parser, run
from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.data.datasets.registry import open_all
from aamn.data.flow.store import extract_flow
from proposals.errors import InputError
from proposals.extract import find_videos

log = logging.getLogger("aamn")


def _videos(args, config: Config) -> dict[str, Path]:
    """Videos by id: those of --videos, else those with sentences in any split of the data."""
    if args.videos:
        return {video.video_id: video.path for video in find_videos(args.videos)}
    if not (args.data or config.data.root):
        raise InputError("wanted --data ROOT (a data set) or --videos (a folder, pattern or list)")
    data = replace(config.data, root=args.data or config.data.root)
    return {v: source.video_path(v) for source in open_all(data) for v in source.video_ids}


def main() -> int:
    parser = make_parser(
        "Computes the flow from each frame to the next. Run again after an interruption: what is "
        "done is kept. Videos that fail are listed at the end; the exit code is then 1.",
        "python tools/extract_flow.py --data data/a2d --out data/a2d/flow.h5 "
        "--set flow.longest_side=256",
    )
    parser.add_argument("--data", metavar="ROOT", help="a data set; data.kind names its layout")
    parser.add_argument(
        "--videos", nargs="+", help="files, folders, quoted patterns, or .txt lists of them"
    )
    parser.add_argument("--workers", type=int, help="processes; default: data.workers")
    args = parser.parse_args()
    config = load_config(Config, args.config, args.overrides)
    out = Path(args.out or config.data.flow or "flow.h5")
    workers = config.data.workers if args.workers is None else args.workers
    failures = extract_flow(_videos(args, config), out, config.flow, workers)
    for video_id, error in sorted(failures.items()):
        log.error("%s: %s", video_id, error)
    log.info("wrote %s", out)
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
