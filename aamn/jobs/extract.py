"""The proposals of many videos in one file: one whole part a video, joined at the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aamn.jobs.detector_choice import DetectorChoice, worker_device
from aamn.jobs.engine import Call, Engine, Outcome, run
from proposals import places
from proposals.decoding import Video
from proposals.detector import TorchDetector
from proposals.errors import InputError
from proposals.extract import JobOptions, Report, extract
from proposals.identity import identity_of
from proposals.store import PARTS, part_path, parts_of
from proposals.store_writer import ProposalWriter, write_proposals


def extract_by_videos(
    choice: DetectorChoice,
    videos: Sequence[Video],
    out: Path,
    batch: int,
    fresh: bool,
    engine: Engine,
) -> Report:
    """As `extract`, each video by one of an engine's workers; frames of different videos never
    share a batch.

    Raises:
        InputError: as `extract`, or the engine cannot do the work.
    """
    a, report, begin = choice.load(worker_device()).attributes, Report(), time.perf_counter()
    with write_proposals(out, a.detector, a.weights, a.classes, a.settings, fresh) as store:
        lacking = [video for video in videos if not _is_there(store, video, report)]
        report.there = len(videos) - len(lacking) - len(report.failures)
        work = ExtractWork(choice, out, batch)
        told = run(work, lacking, engine, "extracting")
        parts = {video.video_id: part_path(out, video.video_id) for video in lacking}
        for video_id, part in parts.items():
            places.fetch(part, missing_ok=True)
            stored = part.exists()
            report.stored += stored
            if video_id in told:
                (report.shortened if stored else report.failures)[video_id] = told[video_id]
        for left in parts_of(out).glob(f"*{PARTS}"):  # by workers that died
            shutil.rmtree(left)
    places.put(out)
    for part in parts.values():  # they are joined
        places.remove(part)
    report.seconds = time.perf_counter() - begin
    return report


def _is_there(store: ProposalWriter, video: Video, report: Report) -> bool:
    """Whether the file holds this very video; what cannot be told is a failure in the report."""
    try:
        return store.holds(video.video_id, identity_of(video.path))
    except InputError as error:
        report.failures[video.video_id] = str(error)
    return True


@dataclass(frozen=True)
class ExtractWork:
    """The proposals of a video, in the folder of parts of `out`."""

    choice: DetectorChoice
    out: Path
    batch: int

    def open(self) -> Call:
        device = worker_device()
        options = JobOptions.for_device(device, self.batch, workers=0)
        return _Extractor(self.choice.load(device), self.out, options)


@dataclass(frozen=True)
class _Extractor:
    detector: TorchDetector
    out: Path
    options: JobOptions

    def __call__(self, video: Video, patient: bool) -> Outcome:
        part = part_path(self.out, video.video_id)
        with places.fetched(video.path):
            report = extract(self.detector, [video], part, self.options)
        if report.failures:
            raise InputError(report.failures[video.video_id])
        places.put(part)
        return Outcome(lacking=report.shortened.get(video.video_id, ""))
