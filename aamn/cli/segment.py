"""Segments whole videos by sentences."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from aamn.cli.command_line import make_parser, run
from aamn.cli.inputs import Indexer, Inputs
from aamn.cli.options import open_segmenter, take_bundle, take_threshold, threshold
from aamn.data.datasets.registry import open_source
from aamn.index.file import NO_END, WHOLE, IndexFile, Selection, index_path
from aamn.index.query_encoder import Asker
from aamn.index.video_index import LINKINGS, VideoIndex, answers
from aamn.inference.checkpoint import Loaded, extend_words
from aamn.inference.clip_by_clip import segment_video, windows_of
from aamn.inference.results import Wanted, write_results
from aamn.tubes.video_linking import LINK_WEIGHT
from proposals.decoding import Video
from proposals.errors import InputError
from proposals.extract import extract
from proposals.frames import FrameSource, open_frames
from proposals.store import ProposalStore

log = logging.getLogger("aamn")


@dataclass(frozen=True)
class Job:
    """A video and the sentences to segment it by."""

    video: Video
    texts: tuple[str, ...]


def _jobs(args: argparse.Namespace, loaded: Loaded) -> list[Job]:
    """The video of --video with the given sentences, or a data set's videos with their own."""
    texts = list(args.query)
    if args.queries:
        path = Path(args.queries)
        if not path.is_file():
            raise InputError(f"no file of sentences at {path}")
        texts += [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if args.video:
        path = Path(args.video)
        video_id = args.video_id or (path.name if path.is_dir() else path.stem)
        if not texts:
            raise InputError('wanted at least one --query "SENTENCE"')
        return [Job(Video(video_id, path), tuple(texts))]
    if args.index and not args.data:
        header = IndexFile.read(args.index).header
        if not texts:
            raise InputError('wanted at least one --query "SENTENCE"')
        return [Job(Video(header.video_id, Path(header.path)), tuple(texts))]
    if not args.data:
        raise InputError("wanted --video PATH, or --data ROOT for a data set's videos")
    data = replace(loaded.config.data, root=args.data)
    source = open_source(data, args.split or data.test_split)
    chosen = source.video_ids[: args.count or None]
    return [
        Job(
            Video(video_id, source.video_path(video_id)),
            tuple(texts or [expression.text for expression in source.sentences(video_id)]),
        )
        for video_id in chosen
    ]


def _proposals(inputs: Inputs, video: Video, out: Path) -> ProposalStore:
    """The given proposals file, or one that the given detector writes into the result folder."""
    if inputs.store is not None:
        return inputs.store
    path = out / "proposals.h5"
    report = extract(inputs.detector, [video], path)
    if report.failures:
        raise InputError(report.failures[video.video_id])
    return ProposalStore.read(path)


def _refuse_other_size(video_id: str, frames: FrameSource, store: ProposalStore) -> None:
    """Raises InputError where the boxes are of a video of another size (or of none)."""
    boxes = store.frame_size(video_id)
    if boxes != tuple(frames.size):
        raise InputError(
            f"{frames.path} has frames of {frames.size[1]}x{frames.size[0]}, but the proposals of "
            f"{video_id} are of {boxes[1]}x{boxes[0]}; was another copy of the video extracted?"
        )


def _selection(args: argparse.Namespace, loaded: Loaded) -> Selection:
    """The clips that --start, --end and --stride leave."""
    frames = _wanted(args, NO_END).frames
    if frames.step <= len(loaded.segmenter.needs.offsets):  # every clip has one of them
        frames = range(frames.start, frames.stop)
    return WHOLE if frames == range(NO_END) else Selection(frames)


def _index(args: argparse.Namespace, indexer: Indexer, video: Video, out: Path) -> VideoIndex:
    """The given index, or one of the wanted frames that is built in the result folder."""
    selection = _selection(args, indexer.asker.loaded)
    if args.index:
        index = VideoIndex(IndexFile.read(args.index), indexer.asker)
        held = index.header.selection
        if not held.covers(selection):
            raise InputError(
                f"{args.index} is an index of {held} alone; choose among these by --start, --end "
                "and --stride, or index the whole video"
            )
        return index
    path = index_path(out / "index", video.video_id)
    indexer.index(video, path, selection, replace=True)
    return VideoIndex(IndexFile.read(path), indexer.asker)


def _wanted(args: argparse.Namespace, count: int) -> Wanted:
    """The frames of --start, --end and --stride in a video of `count` frames."""
    stop = count if args.end is None else min(args.end, count)
    if args.stride < 1 or not 0 <= args.start < stop:
        known = f"; the video has {count} frames" if count < NO_END else ""
        raise InputError(
            f"--start {args.start} --end {args.end} --stride {args.stride}: wanted 0 <= start < "
            f"end and stride above 0{known}"
        )
    return Wanted(range(args.start, stop, args.stride), args.palette)


def _segment(args: argparse.Namespace, loaded: Loaded, inputs: Inputs, job: Job, out: Path) -> None:
    """Any system, clip by clip."""
    queries = [loaded.vocabulary.encode(text) for text in job.texts]
    video, needs = job.video, loaded.segmenter.needs
    frames = open_frames(video.path)
    wanted = _wanted(args, len(frames))
    store = None
    if needs.proposals:
        store = _proposals(inputs, video, out)
        _refuse_other_size(video.video_id, frames, store)
    found = segment_video(
        loaded.segmenter,
        video.video_id,
        frames,
        queries,
        store,
        inputs.flow,
        loaded.config.flow,
        wanted.frames,
    )
    steps = len(windows_of(wanted.frames, len(frames), needs))
    bar = tqdm(found, total=steps, desc=video.video_id, unit="clip")
    for folder in write_results(out, video.video_id, frames, queries, bar, wanted):
        print(folder)


def _ask(args: argparse.Namespace, indexer: Indexer, job: Job, out: Path) -> None:
    """AAMN, through the video's index."""
    for text in job.texts:
        indexer.asker.loaded.vocabulary.encode(text)  # a mistake is found before the work
    frames = open_frames(job.video.path)
    index = _index(args, indexer, job.video, out)
    if tuple(frames.size) != index.size:
        raise InputError(
            f"{frames.path} has frames of {frames.size[1]}x{frames.size[0]}, the index "
            f"{index.file.path} is of a video of {index.size[1]}x{index.size[0]}"
        )
    wanted = _wanted(args, index.header.frames)
    tracks = index.query(
        job.texts,
        linking=args.linking,
        absent_threshold=args.absent_threshold,
        link_weight=args.link_weight,
    )
    facts = [
        {"linking": args.linking, "score": track.score, "present": track.present}
        for track in tracks
    ]
    queries = [track.query for track in tracks]
    found = answers(tracks, wanted.frames)
    for folder in write_results(out, index.video_id, frames, queries, found, wanted, facts):
        print(folder)
    for track in tracks:
        if not track.present:
            log.info("nobody in %s is meant by %r", index.video_id, track.text)


def main() -> int:
    parser = make_parser(
        "Writes, for each sentence, a mask PNG of every frame (0 and 255, the video's size), the "
        "masks as COCO run lengths, an overlay film, a contact sheet, a picture of the word "
        "attention and result.json. The video is indexed once; sentences asked later cost little.",
        "python tools/segment_video.py --checkpoint runs/a2d/aamn/last.pt --video clip.mp4 "
        '--detector runs/a2d/detector/detector.pt --query "man in red jumping" --out runs/clip',
    )
    parser.add_argument("--bundle", metavar="DIR", help="a segmenter with its detector")
    parser.add_argument("--checkpoint", metavar="PT", help="from train_net, without a bundle")
    parser.add_argument("--video", help="a video file or a folder of frames")
    parser.add_argument("--query", action="append", default=[], help="a sentence; may be repeated")
    parser.add_argument("--queries", metavar="TXT", help="a file with one sentence a line")
    parser.add_argument("--detector", metavar="PT", help="finds the boxes of the video now")
    parser.add_argument("--proposals", metavar="HDF5", help="boxes that were extracted before")
    parser.add_argument("--flow", metavar="HDF5", help="flow that was extracted; else on the fly")
    parser.add_argument("--video-id", help="the video's id in both files; default: its name")
    parser.add_argument("--data", metavar="ROOT", help="a data set's videos with their sentences")
    parser.add_argument("--index", metavar="HDF5", help="the video's index; else one is built")
    parser.add_argument(
        "--linking",
        choices=LINKINGS,
        default="video",
        help="video: one identity through all clips; clip: each clip chooses, as in the paper",
    )
    parser.add_argument(
        "--link-weight",
        type=float,
        default=LINK_WEIGHT,
        metavar="W",
        help="of --linking video: what it costs to change the actor between two clips, beside "
        "their scores; default %(default)s, chosen on videos for training (docs/index.md)",
    )
    parser.add_argument(
        "--absent-threshold",
        type=threshold,
        metavar="SCORE",
        help="sentences that score below get empty masks; auto: below the bundle's own score, "
        "which eval_net --full-video --calibrate finds",
    )
    parser.add_argument("--start", type=int, default=0, metavar="N", help="first frame, from 0")
    parser.add_argument("--end", type=int, metavar="N", help="the frame to stop before")
    every = parser.add_mutually_exclusive_group()
    every.add_argument("--stride", type=int, default=1, metavar="N", help="every N-th frame")
    every.add_argument(
        "--every-frame", dest="stride", action="store_const", const=1, help="the default"
    )
    parser.add_argument(
        "--palette", action="store_true", help="also one indexed PNG a frame for all sentences"
    )
    parser.add_argument("--split", help="of --data; default: the configuration's test split")
    parser.add_argument("--count", type=int, default=0, help="only the first videos of --data")
    args = parser.parse_args()
    take_threshold(args)
    take_bundle(args)
    loaded = open_segmenter(args)
    jobs = _jobs(args, loaded)
    loaded = extend_words(loaded, [text for job in jobs for text in job.texts])
    inputs = Inputs(args, loaded.segmenter)
    if loaded.config.system == "aamn":
        segment = partial(_ask, args, Indexer(inputs, Asker(loaded)))
    else:
        segment = partial(_segment, args, loaded, inputs)
    if len(jobs) == 1:
        segment(jobs[0], Path(args.out or f"runs/{jobs[0].video.video_id}"))
        return 0
    failures = {}
    for job in jobs:
        try:
            out = Path(args.out or "runs/videos") / job.video.video_id
            segment(job, out)
        except InputError as error:
            failures[job.video.video_id] = error
    for video_id, error in failures.items():
        log.error("%s: %s", video_id, error)
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
