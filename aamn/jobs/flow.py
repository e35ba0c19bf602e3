"""The flow of many videos in one file: one whole part a video, joined at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aamn.config.schema import FlowConfig
from aamn.data.flow.store import Job, extract_flow, extract_one, part_path
from aamn.jobs.engine import Call, Engine, Outcome, run
from proposals import places
from proposals.decoding import Video

log = logging.getLogger("aamn")


def flow_of_videos(
    videos: Mapping[str, Path], out: Path, config: FlowConfig, engine: Engine
) -> int:
    """Adds the videos' flow to `out`; the exit code: 1 where some failed or cannot be decoded to
    their end, which are listed at the end.

    Raises:
        InputError: as `extract_flow`.
    """
    told: dict[str, str] = {}
    new: list[Path] = []

    def run_jobs(jobs: list[Job]) -> Iterable[tuple[str, str]]:
        if jobs:
            lacking = [Video(video_id, path) for video_id, path, _, _ in jobs]
            told.update(run(FlowWork(jobs[0][2], config), lacking, engine, "flow"))
            new.extend(part_path(jobs[0][2], video_id) for video_id, *_ in jobs)
            for part in new:
                places.fetch(part, missing_ok=True)
        return told.items()

    failures = extract_flow(videos, out, config, run=run_jobs)
    places.put(out)
    for part in new:  # they are joined
        places.remove(part)
    for video_id in sorted(failures.keys() - told.keys()):
        log.error("%s: %s", video_id, failures[video_id])
    return 1 if failures else 0


@dataclass(frozen=True)
class FlowWork:
    """The flow of a video, in the folder of parts."""

    parts: Path
    config: FlowConfig

    def open(self) -> Call:
        return self

    def __call__(self, video: Video, patient: bool) -> Outcome:
        with places.fetched(video.path):
            _, lacking = extract_one((video.video_id, video.path, self.parts, self.config))
        places.put(part_path(self.parts, video.video_id))
        return Outcome(lacking=lacking)
