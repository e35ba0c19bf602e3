"""Videos in, one proposals file out: the batch job around a detector.

The same bytes come out however often the job was killed: which frames share a batch is decided by
the list of videos alone, never by what an earlier run had finished.
"""

from __future__ import annotations

import glob
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from proposals import places
from proposals.decoding import Chunk, Event, Finished, Video, decode_ahead
from proposals.detector import Detector, FrameDetections
from proposals.errors import InputError
from proposals.files import read_text
from proposals.frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES, natural_key, open_frames
from proposals.identity import Identity, identity_of
from proposals.store import shard_path
from proposals.store_writer import ProposalWriter, write_proposals

log = logging.getLogger("proposals")


@dataclass(frozen=True)
class JobOptions:
    """How the job runs; none of it changes a box by more than rounding.

    batch is in frames; the frames of `group` neighbouring videos share batches, which keeps a GPU
    full; workers are decoding processes; fresh begins anew whatever is there already; replace lets
    a video take the place of another one of its id that still lies where it lay.
    """

    batch: int = 1
    group: int = 1
    workers: int = 1
    fresh: bool = False
    replace: bool = False

    @classmethod
    def for_device(cls, device: str, batch: int = 0, workers: int = -1) -> JobOptions:
        """Suitable values; batch 0 and workers -1 leave the choice to this function."""
        gpu = device.startswith("cuda")
        free = max(1, (os.cpu_count() or 1) // 2)
        return cls(
            batch=batch or (16 if gpu else 4),
            group=8 if gpu else 1,
            workers=workers if workers >= 0 else min(free, 6 if gpu else 1),
        )


@dataclass
class Report:
    """What a job did; times in seconds, `detecting` the part inside the detector; `shortened` are
    videos of which it could not decode all frames as they should be."""

    stored: int = 0
    there: int = 0
    frames: int = 0
    shortened: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    detecting: float = 0.0

    def lines(self) -> Iterator[str]:
        """The summary, failures last."""
        rate = self.frames / max(self.seconds, 1e-9)
        share = self.detecting / max(self.seconds, 1e-9)
        yield (
            f"{self.stored} videos stored, {self.there} were there; {self.frames} frames in"
            f" {self.seconds:.1f} s, {rate:.1f} frames/s; {self.detecting:.1f} s ({share:.1%})"
            " inside the detector"
        )
        if self.shortened:
            yield f"{len(self.shortened)} videos are stored as far as they can be decoded:"
            yield from (f"  {video_id}: {text}" for video_id, text in self.shortened.items())
        if self.failures:
            yield f"{len(self.failures)} videos failed:"
            yield from (f"  {video_id}: {text}" for video_id, text in self.failures.items())


def extract(
    detector: Detector, videos: Sequence[Video], out: Path, options: JobOptions | None = None
) -> Report:
    """Writes every frame's boxes of `videos` into `out`, skipping those that are there. A video
    whose file was replaced since is extracted again.

    A video that cannot be decoded, or whose id another one has in `out`, is a failure in the
    report, not the end of the job.

    Raises:
        InputError: another process writes `out`, it is of another detector, the disk is full.
    """
    options = options or JobOptions()
    if min(options.batch, options.group) < 1 or options.workers < 0:
        raise InputError(f"wanted batch and group above 0 and workers not below, got {options}")
    a = detector.attributes
    report, begin = Report(), time.perf_counter()
    with write_proposals(out, a.detector, a.weights, a.classes, a.settings, options.fresh) as store:
        job = _Job(detector, store, options, report)
        job.run(videos)
    report.seconds = time.perf_counter() - begin
    return report


@dataclass
class _OpenVideo:
    """A video on its way through the detector: size (H0, W0), the frames that were decoded, the
    boxes of those that have been looked at, and why the detector cannot take them, or ""."""

    size: tuple[int, int] = (0, 0)
    decoded: int = 0
    found: list[FrameDetections | None] = field(default_factory=list)
    end: Finished | None = None
    refused: str = ""


class _Job:
    """One run over a list of videos."""

    def __init__(
        self, detector: Detector, store: ProposalWriter, options: JobOptions, report: Report
    ) -> None:
        self.detector, self.store = detector, store
        self.options, self.report = options, report
        self._open: dict[str, _OpenVideo] = {}
        self._identities: dict[str, Identity] = {}

    def run(self, videos: Sequence[Video]) -> None:
        groups = list(self._unfinished(videos))
        wanted = [video for group in groups for video in group]
        done = self.report.there + len(self.report.failures)
        with (
            closing(decode_ahead(wanted, self.options.workers)) as events,
            tqdm(total=len(videos), initial=done, desc="extracting", unit="video") as bar,
        ):
            for group in groups:
                self._extract_group(_of_videos(events, len(group)), bar)

    def _unfinished(self, videos: Sequence[Video]) -> Iterator[list[Video]]:
        """The groups that lack a video, with all their videos, since these share batches."""
        for first in range(0, len(videos), self.options.group):
            group = videos[first : first + self.options.group]
            there = [video for video in group if self._is_there(video)]
            self.report.there += len(there)
            lacking = [video for video in group if self._lacks(video)]
            if there and lacking:
                lacking = [video for video in lacking if self._opens(video)]
            if lacking:
                broken = self.report.failures
                yield [video for video in group if video.video_id not in broken]

    def _lacks(self, video: Video) -> bool:
        return video.video_id not in self.store and video.video_id not in self.report.failures

    def _is_there(self, video: Video) -> bool:
        """Whether the file holds this very video."""
        try:
            identity = self._identities[video.video_id] = identity_of(video.path)
            return self.store.holds(video.video_id, identity, self.options.replace)
        except InputError as error:
            self.report.failures[video.video_id] = str(error)
        return False

    def _opens(self, video: Video) -> bool:
        """Whether the video has a first frame; else it is not worth its group's repetition."""
        try:
            open_frames(video.path).close()
        except InputError as error:
            self.report.failures[video.video_id] = str(error)
        return video.video_id not in self.report.failures

    def _extract_group(self, events: Iterator[Event], bar: tqdm) -> None:
        batches = _Batches(self.options.batch)
        for event in events:
            video = self._open.setdefault(event.video.video_id, _OpenVideo())
            if isinstance(event, Chunk):
                video.size = event.frames.shape[1:3]
                video.decoded += len(event.frames)
                self._detect(batches.add(event.video.video_id, event.frames))
            else:
                video.end = event
                bar.update(event.video.video_id not in self.store)
            self._store_finished()
            bar.set_postfix_str(f"{self._rate(bar):.1f} frames/s", refresh=False)
        self._detect(batches.rest())
        self._store_finished()

    def _detect(self, batches: Iterable[list[tuple[str, np.ndarray]]]) -> None:
        for batch in batches:
            begin = time.perf_counter()
            results: Sequence[FrameDetections | None]
            try:
                results = self.detector.detect([frame for _, frame in batch])
            except InputError as error:
                results = [None] * len(batch)
                for video_id, _ in batch:
                    self._open[video_id].refused = str(error)
            except torch.cuda.OutOfMemoryError:
                raise InputError(
                    f"no GPU memory for {len(batch)} frames at once; give a smaller --batch"
                ) from None
            self.report.detecting += time.perf_counter() - begin
            self.report.frames += len(batch)
            for (video_id, _), boxes in zip(batch, results, strict=True):
                self._open[video_id].found.append(boxes)

    def _store_finished(self) -> None:
        """Stores the videos that have ended and whose frames have all been looked at."""
        for video_id, video in list(self._open.items()):
            if video.end is None or len(video.found) < video.decoded:
                continue
            del self._open[video_id]
            failure = video.end.error or video.refused
            if failure:
                self.report.failures[video_id] = failure
            elif video_id not in self.store:
                self._store(video_id, video, video.end.lacking)

    def _store(self, video_id: str, video: _OpenVideo, lacking: str) -> None:
        found = [boxes for boxes in video.found if boxes is not None]
        self.store.add(
            video_id,
            [boxes.boxes for boxes in found],
            [boxes.scores for boxes in found],
            [boxes.labels for boxes in found],
            frame_size=video.size,
            identity=self._identities[video_id],
        )
        self.report.stored += 1
        if lacking:
            self.report.shortened[video_id] = lacking

    def _rate(self, bar: tqdm) -> float:
        return self.report.frames / max(bar.format_dict["elapsed"], 1e-9)


def _of_videos(events: Iterator[Event], count: int) -> Iterator[Event]:
    """The events up to the end of the next `count` videos."""
    while count:
        event = next(events)
        count -= isinstance(event, Finished)
        yield event


class _Batches:
    """Collects frames, of one size together, until they fill a batch."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._waiting: dict[tuple[int, ...], list[tuple[str, np.ndarray]]] = {}

    def add(self, video_id: str, frames: np.ndarray) -> Iterator[list[tuple[str, np.ndarray]]]:
        """Takes frames (n, H0, W0, 3) and gives the batches that are full now."""
        waiting = self._waiting.setdefault(frames.shape[1:3], [])
        for frame in frames:
            waiting.append((video_id, frame))
            if len(waiting) == self.size:
                yield waiting.copy()
                waiting.clear()

    def rest(self) -> list[list[tuple[str, np.ndarray]]]:
        """The batches that are not full."""
        return [waiting for waiting in self._waiting.values() if waiting]


def find_videos(given: Iterable[str | Path]) -> list[Video]:
    """The videos that are given, sorted by id: files, folders of videos, folders of images,
    patterns, and .txt lists of any of these (one a line); URLs of all but folders of images. A
    video's id is its name without the suffix.

    Raises:
        InputError: nothing at a place, or two videos with one id.
    """
    videos: dict[str, Video] = {}
    for place in given:
        for video in map(Video.at, _paths_at(place)):
            first = videos.setdefault(video.video_id, video)
            if first != video:
                raise InputError(
                    f"{first.path} and {video.path} have the same video id {video.video_id!r};"
                    " give each --out one of them"
                )
    return [videos[video_id] for video_id in sorted(videos)]


def _paths_at(place: str | Path) -> list[Path]:
    if places.is_url(place):
        return _paths_at_url(str(place))
    place = Path(place)
    if place.is_dir():
        return _in_folder(place)
    if place.suffix.lower() == ".txt" and place.is_file():
        return [path for line in _lines(place) for path in _paths_at(_beside(place, line))]
    if place.exists():
        return [place]
    matches = sorted(glob.glob(str(place)))
    if not matches:
        raise InputError(f"no video at {place}")
    return [path for match in matches for path in _paths_at(Path(match))]


def _paths_at_url(url: str) -> list[Path]:
    names = places.listed(url)
    if names == [url] and url.endswith(".txt"):
        lines = _lines(places.fetch(places.local_name(url)))
        folder = url.rpartition("/")[0]
        whole = [line if places.is_url(line) else f"{folder}/{line}" for line in lines]
        return [path for line in whole for path in _paths_at_url(line)]
    videos = [name for name in names if Path(name).suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise InputError(f"{url}: no video there; wanted video files, or a .txt list of them")
    return [places.local_name(name) for name in videos]


def _lines(file: Path) -> list[str]:
    try:
        lines = read_text(file).splitlines()
    except (OSError, InputError) as error:
        raise InputError(f"{file} is no readable list of videos: {error}") from None
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise InputError(f"{file}: the list names no video")
    return lines


def _beside(file: Path, line: str) -> str | Path:
    """A path in a list may be relative to the list or to the working folder."""
    if places.is_url(line):
        return line
    return file.parent / line if (file.parent / line).exists() else Path(line)


def _in_folder(folder: Path) -> list[Path]:
    """The folder itself when it holds images, else the videos and folders of images in it."""
    inside = sorted(
        (path for path in folder.iterdir() if not path.name.startswith(".")),
        key=lambda path: natural_key(path.name),
    )
    if any(path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() for path in inside):
        return [folder]
    videos = [path for path in inside if path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise InputError(f"{folder}: the folder holds no video and no image")
    others = len(inside) - len(videos)
    if others:
        log.info("%s: %d files are no videos by their suffixes, left out", folder, others)
    return videos


def shard_of(text: str | None, environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """(i, n) of a worker: from "i/n", else from torchrun's or SLURM's variables, else (0, 1).

    Raises:
        InputError: text that is no i/n with 0 <= i < n.
    """
    if text is not None:
        first, _, second = text.partition("/")
        if first.isdecimal() and second.isdecimal() and int(first) < int(second):
            return int(first), int(second)
        raise InputError(f"--shard {text}: wanted i/n with 0 <= i < n, such as 0/4")
    environment = os.environ if environment is None else environment
    for rank, count, first in (
        ("RANK", "WORLD_SIZE", ""),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", ""),
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ):
        if int(environment.get(count, 1)) > 1 and rank in environment:
            index = int(environment[rank]) - int(environment.get(first, 0))
            log.info("shard %d of %s, by %s and %s", index, environment[count], rank, count)
            return index, int(environment[count])
    return 0, 1


def shard(videos: Sequence[Video], out: Path, index: int, count: int) -> tuple[list[Video], Path]:
    """A worker's share of the videos and the file it writes; all files are read as `out`.

    Raises:
        InputError: a file of the whole job is there already.
    """
    if count == 1:
        return list(videos), out
    if out.is_file():
        raise InputError(f"{out} is there, shards beside it would not be read: move it away")
    return list(videos[index::count]), shard_path(out, index, count)
