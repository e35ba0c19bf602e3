"""Writes every frame's proposals to HDF5."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from aamn.cli.command_line import make_parser, run
from aamn.config.loading import load_config
from aamn.config.schema import DataConfig
from aamn.data.datasets.registry import open_all
from proposals.build import build_detector, load_network
from proposals.config import DetectorConfig
from proposals.decoding import Video
from proposals.detector import TorchDetector
from proposals.errors import InputError
from proposals.extract import JobOptions, extract, find_videos, shard, shard_of


def main() -> int:
    parser = make_parser(
        "Detect boxes in every frame of many videos and write them to one HDF5 file"
        " (proposals/FORMAT.md). The same command again goes on where the last one stopped. With"
        " --shard, torchrun or SLURM many workers write shards, which are read as one file.",
        "python tools/extract_proposals.py --videos clips/ --detector runs/detector/detector.pt"
        " --out runs/proposals.h5",
    )
    parser.add_argument(
        "--videos",
        nargs="+",
        default=[],
        help="files, folders, quoted patterns, or .txt lists of them",
    )
    parser.add_argument("--data", metavar="ROOT", help="all videos of a data set")
    parser.add_argument("--kind", default="a2d", help="the data set's layout; default: a2d")
    parser.add_argument("--detector", metavar="PT", help="a fine-tuned detector; else --config's")
    parser.add_argument("--shard", metavar="I/N", help="only every N-th video, from I on")
    parser.add_argument("--batch", type=int, default=0, help="frames; 0: fits the device")
    parser.add_argument("--workers", type=int, default=-1, help="decoding processes; -1: fits")
    parser.add_argument("--precision", help="float32 | float16 | bfloat16; default: half on a GPU")
    parser.add_argument("--fresh", action="store_true", help="remove what is in --out first")
    options = parser.parse_args()
    if not options.out:
        raise InputError("--out: name the HDF5 file to write")
    if bool(options.videos) == bool(options.data):
        raise InputError("wanted either --videos (files, folders, patterns) or --data ROOT")
    videos = find_videos(options.videos) or _data_set(options.data, options.kind)
    index, count = shard_of(options.shard)
    videos, out = shard(videos, Path(options.out), index, count)
    device = _device()
    detector = _detector(options, device)
    job = JobOptions.for_device(device, options.batch, options.workers)
    report = extract(detector, videos, out, replace(job, fresh=options.fresh))
    print(f"{out}:", *report.lines(), sep="\n")
    return 1 if report.failures else 0


def _data_set(root: str, kind: str) -> list[Video]:
    """The videos that have sentences, of all splits."""
    sources = open_all(DataConfig(kind=kind, root=root))
    videos = {v: source.video_path(v) for source in sources for v in source.video_ids}
    return [Video(video_id, videos[video_id]) for video_id in sorted(videos)]


def _device() -> str:
    """A GPU of this worker's own, where there is one."""
    if not torch.cuda.is_available():
        return "cpu"
    local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
    return f"cuda:{local % torch.cuda.device_count()}"


def _detector(options, device: str) -> TorchDetector:
    precision = options.precision or ("float16" if device.startswith("cuda") else "float32")
    if options.detector:
        if options.config or options.overrides:
            raise InputError("--detector brings its own configuration: drop --config and --set")
        return TorchDetector(load_network(options.detector, device), precision)
    network = build_detector(load_config(DetectorConfig, options.config, options.overrides))
    return TorchDetector(network.to(device), precision)


if __name__ == "__main__":
    run(main)
