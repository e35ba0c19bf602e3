"""Indexes many videos: one whole file a video, those that are there are left alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aamn.index.file import IndexFile, index_path, wait_for_writer
from aamn.jobs.engine import Call, Engine, Outcome, run
from aamn.jobs.inputs import InputOptions, Inputs
from aamn.predictor import VideoSegmenter
from proposals import places
from proposals.decoding import Video
from proposals.frames import open_frames

log = logging.getLogger("aamn")


def index_videos(
    work: IndexWork, videos: Sequence[Video], engine: Engine, library: str | None = None
) -> int:
    """Writes the videos' indexes into the work's folder; the exit code: 1 where some of several
    failed or cannot be decoded to their end, which are listed at the end. What another process is
    writing there comes last, and is waited for: several share the work. What is there then goes
    into the `library`.

    Raises:
        InputError: the only video failed, what all share cannot be used, or the disk is full.
    """
    failures = run(work, videos, engine, "indexing", len(videos) == 1)
    if library is not None:
        _add(library, [index_path(work.out, video.video_id) for video in videos])
    return 1 if failures else 0


def _add(library: str, paths: Sequence[Path]) -> None:
    """Puts the indexes that are there into the library."""
    from aamn.search.library import Library

    there = [path for path in paths if places.fetch(path, missing_ok=True).exists()]
    count = sum(1 for _ in Library(library).add(there))
    log.info("%s: %d videos", library, count)


@dataclass(frozen=True)
class IndexWork:
    """The index of a video, in the folder `out`; `every` n-th frame goes through the networks."""

    options: InputOptions
    out: Path
    precision: str
    every: int = 1

    def open(self) -> Call:
        segmenter = Inputs(self.options.fetched()).video_segmenter()
        log.info("segmenter %s (hash of its video side)", segmenter.query_encoder.model)
        return _Indexer(segmenter, self.out, self.precision, self.every)


@dataclass(frozen=True)
class _Indexer:
    segmenter: VideoSegmenter
    out: Path
    precision: str
    every: int

    def __call__(self, video: Video, patient: bool) -> Outcome:
        """Indexes one video and says how large the index is."""
        path = index_path(self.out, video.video_id)
        if patient:
            wait_for_writer(path)
        places.fetch(path, missing_ok=True)
        with places.fetched(video.path):
            new = self.segmenter.build(video, path, precision=self.precision, every=self.every)
            places.put(path)
            header = IndexFile.read(path).header
            with open_frames(video.path) as frames:
                lacking = frames.lacking(header.frames)
        size = path.stat().st_size / header.frames / 1024
        was = "" if new else ", was there"
        shown = places.url_of(path) or path
        return Outcome(f"{shown}: {header.frames} frames, {size:.1f} KiB each{was}", lacking)
