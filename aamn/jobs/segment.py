"""Segments whole videos by sentences and writes what was found."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from aamn.data.datasets.registry import open_source
from aamn.index.file import NO_END, WHOLE, IndexFile, Selection, index_path
from aamn.index.indexed_video import video_of
from aamn.index.job import is_indexable
from aamn.index.video_index import VideoIndex
from aamn.inference.checkpoint import Loaded
from aamn.inference.clip_by_clip import segment_video
from aamn.inference.results import OutputOptions, write_results
from aamn.inference.track import answers
from aamn.inference.verdict import JudgedAnswers, Verdict
from aamn.jobs.inputs import Inputs
from aamn.predictor import VideoSegmenter
from aamn.tubes.video_linking import TRANSITION_COST
from proposals.decoding import Video
from proposals.errors import InputError
from proposals.extract import JobOptions, extract
from proposals.files import escaped
from proposals.frames import open_frames
from proposals.outputs import check_output
from proposals.store import ProposalStore

log = logging.getLogger("aamn")


@dataclass(frozen=True)
class SegmentOptions:
    """What to segment by which sentences, and what of it is written; see `aamn segment --help`."""

    video: Path | None = None
    texts: tuple[str, ...] = ()
    video_id: str = ""
    data: str = ""
    split: str = ""
    count: int = 0
    index: Path | None = None
    linking: str = "video"
    transition_cost: float = TRANSITION_COST
    absent_threshold: float | str | None = None
    start: int = 0
    end: int | None = None
    stride: int = 1
    every: int = 1
    palette: bool = False
    out: Path | None = None


@dataclass(frozen=True)
class Job:
    """A video and the sentences to segment it by."""

    video: Video
    texts: tuple[str, ...]


def _jobs(options: SegmentOptions, loaded: Loaded) -> list[Job]:
    """The named or indexed video with the given sentences, or a data set's videos with their own
    (or with the given ones)."""
    if options.data and not options.video:
        data = replace(loaded.config.data, root=options.data)
        source = open_source(data, options.split or data.test_split)
        return [
            Job(
                Video(video_id, source.video_path(video_id)),
                options.texts or tuple(e.text for e in source.sentences(video_id)),
            )
            for video_id in source.video_ids[: options.count or None]
        ]
    if options.video:
        video = Video.at(options.video, options.video_id)
    elif options.index:
        index = IndexFile.read(options.index)
        video = Video(index.header.video_id, video_of(index))
    else:
        raise InputError("wanted VIDEO (or --video PATH), or --data ROOT for its videos")
    if not options.texts:
        raise InputError('wanted at least one --query "SENTENCE"')
    return [Job(video, options.texts)]


def _proposals(inputs: Inputs, video: Video, out: Path) -> ProposalStore:
    """The given proposals file, or one that the given detector writes into the result folder."""
    if inputs.store is not None:
        return inputs.store
    path = out / "proposals.h5"
    report = extract(inputs.detector, [video], path, JobOptions(replace=True))
    if report.failures:
        raise InputError(report.failures[video.video_id])
    return ProposalStore.read(path)


def _selection(options: SegmentOptions, loaded: Loaded) -> Selection:
    """The clips that start, end and stride leave."""
    frames = _wanted(options, NO_END).frames
    if frames.step <= len(loaded.segmenter.input_spec.offsets):  # every clip has one of them
        frames = range(frames.start, frames.stop)
    return WHOLE if frames == range(NO_END) else Selection(frames)


def _index(
    options: SegmentOptions, segmenter: VideoSegmenter, video: Video, out: Path
) -> VideoIndex:
    """The given index, or one of the wanted frames that is built in the result folder."""
    selection = _selection(options, segmenter.query_encoder.loaded)
    if options.index:
        index = segmenter.read_index(options.index)
        held = index.header.selection
        if not held.covers(selection):
            raise InputError(
                f"{options.index} is an index of {held} alone; choose among these by --start, "
                "--end and --stride, or index the whole video"
            )
        return index
    path = index_path(out / "index", video.video_id)
    segmenter.build(video, path, selection, again=True, every=options.every)
    return segmenter.read_index(path)


def _wanted(options: SegmentOptions, count: int) -> OutputOptions:
    """The frames of start, end and stride in a video of `count` frames."""
    stop = count if options.end is None else min(options.end, count)
    if options.stride < 1 or not 0 <= options.start < stop:
        known = f"; the video has {count} frames" if count < NO_END else ""
        raise InputError(
            f"--start {options.start} --end {options.end} --stride {options.stride}: wanted "
            f"0 <= start < end and stride above 0{known}"
        )
    return OutputOptions(range(options.start, stop, options.stride), options.palette)


def _clip_by_clip(
    options: SegmentOptions, loaded: Loaded, inputs: Inputs, job: Job, out: Path
) -> str:
    """Any system, clip by clip; returns what lacks in the video, or ""."""
    queries = loaded.words.queries(job.texts)
    video, input_spec = job.video, loaded.segmenter.input_spec
    frames = open_frames(video.path)
    wanted = _wanted(options, len(frames))
    store = None
    if input_spec.proposals:
        store = _proposals(inputs, video, out)
        store.check(video.video_id, frames)
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
    judged = JudgedAnswers(queries, found)
    folders = write_results(out, video.video_id, frames, queries, judged, wanted, judged.facts)
    _say(folders, video.video_id, judged.verdicts)
    return frames.lacking()


def _by_index(
    options: SegmentOptions,
    segmenter: VideoSegmenter,
    threshold: float | None,
    job: Job,
    out: Path,
) -> str:
    """Through the video's index; returns what lacks in the video, or ""."""
    segmenter.query_encoder.queries(job.texts)  # a mistake is found before the work
    frames = open_frames(job.video.path)
    index = _index(options, segmenter, job.video, out)
    index.check(frames)
    wanted = _wanted(options, index.header.frames)
    tracks = index.query(
        job.texts,
        linking=options.linking,
        absent_threshold=threshold,
        transition_cost=options.transition_cost,
    )
    facts = [track.facts for track in tracks]
    queries = [track.query for track in tracks]
    found = answers(tracks, wanted.frames)
    folders = write_results(out, index.video_id, frames, queries, found, wanted, facts)
    _say(folders, index.video_id, [track.verdict for track in tracks])
    whole = index.header.selection.whole
    return frames.lacking(index.header.frames if whole else None)


def _say(folders: Sequence[Path], video_id: str, verdicts: Sequence[Verdict]) -> None:
    """The folders of the sentences' results, and what each came to."""
    for folder, verdict in zip(folders, verdicts, strict=True):
        print(folder)
        log.info("%r in %s: %s", verdict.query.text, video_id, verdict)


def _refuse_useless(options: SegmentOptions, loaded: Loaded) -> None:
    """Refuses what the checkpoint's system would not look at.

    Raises:
        InputError: names the option.
    """
    system, other = loaded.config.system, options.transition_cost != TRANSITION_COST
    if other and options.linking == "clip":
        raise InputError("--transition-cost: wanted with --linking video")
    of_indexes = {
        "--index": options.index is not None,
        "--absent-threshold": options.absent_threshold is not None,
        "--transition-cost": other,
        "--every": options.every != 1,
    }
    given = next((name for name, is_given in of_indexes.items() if is_given), None)
    if given and not is_indexable(loaded.segmenter):
        raise InputError(f"{given}: for aamn and zeroshot alone, the checkpoint is of {system}")


def segment_videos(inputs: Inputs, options: SegmentOptions) -> int:
    """Segments one video, or a data set's videos one after another; the exit code: 1 where some of
    several failed or cannot be decoded to their end, which are listed at the end.

    Raises:
        InputError: options that cannot be; the only video failed.
    """
    if options.out is None:
        check_output(Path("runs"), folder=True)
    threshold = inputs.absent_threshold(options.absent_threshold)
    loaded = inputs.loaded
    _refuse_useless(options, loaded)
    jobs = _jobs(options, loaded)
    if is_indexable(loaded.segmenter):
        segmenter = inputs.video_segmenter(boxes_needed=options.index is None)
        segment = partial(_by_index, options, segmenter, threshold)
    else:
        segment = partial(_clip_by_clip, options, loaded, inputs)
    failures = {}
    for job in jobs:
        name = escaped(job.video.video_id)
        out = (options.out or Path("runs/videos")) / name
        if len(jobs) == 1:
            out = options.out or Path("runs") / name
        try:
            lacking = segment(job, out)
        except InputError as error:
            if len(jobs) == 1:
                raise
            lacking = str(error)
        if lacking:
            failures[job.video.video_id] = lacking
    for video_id, failure in failures.items():
        log.error("%s: %s", video_id, failure)
    return 1 if failures else 0
