"""Indexes many videos: one whole file a video, those that are there are left alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from aamn.index.file import IndexFile, index_path
from aamn.jobs.inputs import Inputs
from aamn.predictor import VideoSegmenter
from proposals.decoding import Video
from proposals.errors import InputError

log = logging.getLogger("aamn")


def index_videos(inputs: Inputs, videos: Sequence[Video], out: Path, precision: str) -> int:
    """Writes the videos' indexes into the folder `out`; the exit code: 1 where some of several
    failed, which are listed at the end.

    Raises:
        InputError: the only video failed, or what all share cannot be used.
    """
    segmenter = inputs.video_segmenter()
    log.info("segmenter %s (hash of its video side)", segmenter.query_encoder.model)
    failures = {}
    for video in tqdm(videos, desc="indexing", unit="video", disable=len(videos) == 1 or None):
        try:
            _index(segmenter, video, index_path(out, video.video_id), precision)
        except InputError as error:
            if len(videos) == 1:
                raise
            failures[video.video_id] = str(error)
    for video_id, failure in failures.items():
        log.error("%s: %s", video_id, failure)
    return 1 if failures else 0


def _index(segmenter: VideoSegmenter, video: Video, path: Path, precision: str) -> None:
    """Indexes one video and says how large the index is."""
    new = segmenter.build(video, path, precision=precision)
    header = IndexFile.read(path).header
    tqdm.write(
        f"{path}: {header.frames} frames, {path.stat().st_size / header.frames / 1024:.1f} KiB "
        f"each{'' if new else ', was there'}"
    )
