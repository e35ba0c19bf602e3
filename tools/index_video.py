"""Indexes videos, so that any sentence can be asked of them."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from bundle_option import take_bundle
from command_line import make_parser, run
from tqdm import tqdm

from aamn.checkpoint import Loaded, load_segmenter
from aamn.data.flow_store import FlowStore
from aamn.index_boxes import BoxSource, StoredBoxes, detected_boxes
from aamn.index_file import IndexFile, index_path
from aamn.indexing import PRECISIONS, IndexJob, build_index, model_hash
from aamn.models.segmenter import Segmenter
from proposals.decoding import Video
from proposals.detector import load_detector
from proposals.errors import InputError
from proposals.extract import find_videos
from proposals.frames import FrameSource, open_frames
from proposals.store import ProposalStore

log = logging.getLogger("aamn")


class _Boxes:
    """Where the boxes of all videos come from."""

    def __init__(self, args: argparse.Namespace, segmenter: Segmenter) -> None:
        if bool(args.proposals) == bool(args.detector):
            raise InputError("wanted one of --proposals HDF5 and --detector PT: the boxes")
        self.store = ProposalStore.read(args.proposals) if args.proposals else None
        if not self.store:
            detector = load_detector(args.detector, segmenter.device)
            self.detected = detected_boxes(detector, segmenter)

    def of(self, video_id: str, frames: FrameSource) -> BoxSource:
        return StoredBoxes(self.store, video_id, frames.size) if self.store else self.detected


def _index(
    loaded: Loaded, video: Video, boxes: _Boxes, flow: FlowStore | None, path: Path, precision: str
) -> None:
    """Indexes one video and says how large the index is."""
    with open_frames(video.path) as frames:
        job = IndexJob(
            loaded.segmenter,
            video.video_id,
            frames,
            boxes.of(video.video_id, frames),
            flow,
            loaded.config.flow,
            precision=precision,
        )
        new = build_index(job, path)
    header = IndexFile.read(path).header
    tqdm.write(
        f"{path}: {header.frames} frames, {path.stat().st_size / header.frames / 1024:.1f} KiB "
        f"each{'' if new else ', was there'}"
    )


def main() -> int:
    parser = make_parser(
        "Computes once all that videos contribute to any sentence's answer: tubes, their vectors, "
        "masks and links, one HDF5 file a video (docs/index.md). The same command again goes on "
        "with the videos that lack.",
        "python tools/index_video.py clips/ --checkpoint runs/a2d/aamn/last.pt "
        "--detector runs/a2d/detector/detector.pt --out runs/a2d/index",
    )
    parser.add_argument(
        "videos", nargs="+", help="files, folders, quoted patterns, or .txt lists of them"
    )
    parser.add_argument("--bundle", metavar="DIR", help="a segmenter with its detector")
    parser.add_argument("--checkpoint", metavar="PT", help="from train_net, without a bundle")
    parser.add_argument("--detector", metavar="PT", help="finds the boxes while indexing")
    parser.add_argument("--proposals", metavar="HDF5", help="boxes that were extracted before")
    parser.add_argument("--flow", metavar="HDF5", help="flow that was extracted; else on the fly")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="bfloat16 halves the streams' time where the machine has instructions for it",
    )
    args = parser.parse_args()
    if not args.out:
        raise InputError("--out: name the folder for the indexes")
    take_bundle(args)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_segmenter(args.checkpoint, device, args.config, args.overrides)
    log.info("segmenter %s (hash of its video side)", model_hash(loaded.segmenter))
    boxes = _Boxes(args, loaded.segmenter)
    flow = FlowStore.read(args.flow) if args.flow and loaded.segmenter.needs.flow else None
    videos, failures = find_videos(args.videos), {}
    for video in tqdm(videos, desc="indexing", unit="video"):
        try:
            path = index_path(args.out, video.video_id)
            _index(loaded, video, boxes, flow, path, args.precision)
        except InputError as error:
            if len(videos) == 1:
                raise
            failures[video.video_id] = error
    for video_id, error in failures.items():
        log.error("%s: %s", video_id, error)
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
