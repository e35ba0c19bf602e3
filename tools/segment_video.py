"""Segments whole videos by sentences."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from command_line import make_parser, run
from tqdm import tqdm

from aamn.checkpoint import Loaded, load_segmenter
from aamn.data.flow_store import FlowStore
from aamn.full_video import plan_windows, segment_video
from aamn.results import write_results
from aamn.structures import Query
from proposals.decoding import Video
from proposals.detector import load_detector
from proposals.errors import InputError
from proposals.extract import extract
from proposals.frames import FrameSource, open_frames
from proposals.store import ProposalStore

log = logging.getLogger("aamn")


def _sentences(given: Sequence[str], file: str | None, loaded: Loaded) -> list[Query]:
    """--query and the lines of --queries, encoded; an empty one is refused before any work."""
    texts = list(given)
    if file:
        path = Path(file)
        if not path.is_file():
            raise InputError(f"no file of sentences at {path}")
        texts += [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not texts:
        raise InputError('wanted at least one --query "SENTENCE"')
    return [loaded.vocabulary.encode(text) for text in texts]


def _proposals(args: argparse.Namespace, video: Video, out: Path, device: str) -> ProposalStore:
    """The given proposals file, or one that the given detector writes into the result folder."""
    if args.proposals:
        store = ProposalStore.read(args.proposals)
        store.frame_count(video.video_id)  # refuses a video that is lacking
        return store
    if not args.detector:
        raise InputError("wanted --proposals HDF5 or --detector PT: the boxes to choose among")
    path = out / "proposals.h5"
    report = extract(load_detector(args.detector, device), [video], path)
    if report.failures:
        raise InputError(report.failures[video.video_id])
    return ProposalStore.read(path)


def _warn_of_unknown_words(queries: Sequence[Query]) -> None:
    unknown = {
        token
        for query in queries
        for token, word in zip(query.tokens, query.words.tolist(), strict=True)
        if word == 1
    }
    if unknown:
        log.warning("never seen in training: %s", ", ".join(sorted(unknown)))


def _check(video_id: str, frames: FrameSource, store: ProposalStore | None) -> None:
    """Refuses boxes of a video of another size.

    Raises:
        InputError: names the video and both sizes.
    """
    if store is not None and store.frame_size(video_id) != tuple(frames.size):
        boxes = store.frame_size(video_id)
        raise InputError(
            f"{frames.path} has frames of {frames.size[1]}x{frames.size[0]}, but the proposals of "
            f"{video_id} are of {boxes[1]}x{boxes[0]}; was another copy of the video extracted?"
        )


def main() -> None:
    parser = make_parser(
        "Writes, for each sentence, a mask PNG of every frame (0 and 255, the video's size), an "
        "overlay film, a contact sheet, a picture of the word attention and result.json.",
        "python tools/segment_video.py --checkpoint runs/a2d/aamn/last.pt --video clip.mp4 "
        '--detector runs/a2d/detector/detector.pt --query "man in red jumping" --out runs/clip',
    )
    parser.add_argument("--checkpoint", required=True, metavar="PT", help="from train_net")
    parser.add_argument("--video", required=True, help="a video file or a folder of frames")
    parser.add_argument("--query", action="append", default=[], help="a sentence; may be repeated")
    parser.add_argument("--queries", metavar="TXT", help="a file with one sentence a line")
    parser.add_argument("--detector", metavar="PT", help="finds the boxes of the video now")
    parser.add_argument("--proposals", metavar="HDF5", help="boxes that were extracted before")
    parser.add_argument("--flow", metavar="HDF5", help="flow that was extracted; else on the fly")
    parser.add_argument("--video-id", help="the video's id in both files; default: its name")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    path = Path(args.video)
    frames = open_frames(path)
    video_id = args.video_id or (path.name if path.is_dir() else path.stem)
    loaded = load_segmenter(args.checkpoint, device, args.config, args.overrides)
    queries = _sentences(args.query, args.queries, loaded)
    _warn_of_unknown_words(queries)
    out, needs = Path(args.out or f"runs/{video_id}"), loaded.segmenter.needs
    store = _proposals(args, Video(video_id, path), out, device) if needs.proposals else None
    _check(video_id, frames, store)
    answers = segment_video(
        loaded.segmenter,
        video_id,
        frames,
        queries,
        store,
        FlowStore.read(args.flow) if needs.flow and args.flow else None,
        loaded.config.flow,
    )
    steps = tqdm(answers, total=len(plan_windows(len(frames), needs)), desc=video_id, unit="clip")
    for folder in write_results(out, video_id, frames, queries, steps):
        print(folder)


if __name__ == "__main__":
    run(main)
