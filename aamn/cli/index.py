"""Indexes videos, so that any sentence can be asked of them."""

from __future__ import annotations

import logging
from pathlib import Path

from tqdm import tqdm

from aamn.cli.command_line import make_parser, run
from aamn.cli.inputs import Indexer, Inputs
from aamn.cli.options import open_segmenter, take_bundle
from aamn.index.builder import PRECISIONS
from aamn.index.file import IndexFile, index_path
from aamn.index.query_encoder import Asker
from proposals.decoding import Video
from proposals.errors import InputError
from proposals.extract import find_videos

log = logging.getLogger("aamn")


def _index(indexer: Indexer, video: Video, path: Path, precision: str) -> None:
    """Indexes one video and says how large the index is."""
    new = indexer.index(video, path, precision=precision)
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
    if args.proposals and args.detector:
        raise InputError("wanted one of --proposals HDF5 and --detector PT: the boxes")
    loaded = open_segmenter(args)
    indexer = Indexer(Inputs(args, loaded.segmenter), Asker(loaded))
    log.info("segmenter %s (hash of its video side)", indexer.asker.model)
    indexer.open()
    videos, failures = find_videos(args.videos), {}
    for video in tqdm(videos, desc="indexing", unit="video"):
        try:
            _index(indexer, video, index_path(args.out, video.video_id), args.precision)
        except InputError as error:
            if len(videos) == 1:
                raise
            failures[video.video_id] = error
    for video_id, error in failures.items():
        log.error("%s: %s", video_id, error)
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
