"""Indexes many videos: one whole file a video, those that are there are left alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from aamn.index.file import IndexFile, index_path, wait_for_writer
from aamn.jobs.inputs import Inputs
from aamn.predictor import VideoSegmenter
from proposals.decoding import Video
from proposals.errors import Busy, CannotWrite, InputError
from proposals.frames import open_frames

log = logging.getLogger("aamn")


def index_videos(
    inputs: Inputs, videos: Sequence[Video], out: Path, precision: str, every: int = 1
) -> int:
    """Writes the videos' indexes into the folder `out`; the exit code: 1 where some of several
    failed or cannot be decoded to their end, which are listed at the end. What another process is
    writing there comes last, and is waited for: several share the work.

    Raises:
        InputError: the only video failed, what all share cannot be used, or the disk is full.
    """
    segmenter = inputs.video_segmenter()
    log.info("segmenter %s (hash of its video side)", segmenter.query_encoder.model)
    failures: dict[str, str] = {}
    waiting, put_off = list(videos), set()
    hidden = len(videos) == 1 or None  # one video has a bar of its own
    with tqdm(total=len(videos), desc="indexing", unit="video", disable=hidden) as bar:
        try:
            while waiting:
                video = waiting.pop(0)
                try:
                    path = index_path(out, video.video_id)
                    lacking = _index(segmenter, video, path, precision, every)
                except Busy as error:
                    log.warning("%s", error)
                    if not waiting or video in put_off:
                        wait_for_writer(index_path(out, video.video_id))
                    waiting.append(video)
                    put_off.add(video)
                    continue
                except InputError as error:
                    if len(videos) == 1 or isinstance(error, CannotWrite):
                        raise
                    lacking = str(error)
                if lacking:
                    failures[video.video_id] = lacking
                bar.update()
        finally:
            for video_id, failure in failures.items():
                log.error("%s: %s", video_id, failure)
    return 1 if failures else 0


def _index(segmenter: VideoSegmenter, video: Video, path: Path, precision: str, every: int) -> str:
    """Indexes one video and says how large the index is; returns what lacks in it, or ""."""
    new = segmenter.build(video, path, precision=precision, every=every)
    header = IndexFile.read(path).header
    tqdm.write(
        f"{path}: {header.frames} frames, {path.stat().st_size / header.frames / 1024:.1f} KiB "
        f"each{'' if new else ', was there'}"
    )
    with open_frames(video.path) as frames:
        return frames.lacking(header.frames)
