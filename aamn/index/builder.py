"""Builds a video's index: every frame goes through every network once, whatever the clip's length.

Frames stream through in blocks of whole clips; a block's features, and the few frames that the
last clip shares with the one before it, are all that is kept.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path

import torch

from aamn.index.encoder import EncodedFrames, Encoder
from aamn.index.file import ClipBlock, Header, IndexFile, written_index
from aamn.index.job import IndexJob
from aamn.index.planner import ClipPlanner
from aamn.index.reader import FrameReader
from aamn.index.timer import Timer
from proposals.errors import InputError

PRECISIONS = ("float32", "bfloat16")
FRAMES_AT_ONCE = {"cpu": 16, "cuda": 96}
BYTES_AT_ONCE = 1 << 30  # of decoded frames, as far as that is a clip or more


def build_index(
    job: IndexJob, path: Path, timer: Timer | None = None, replace: bool = False
) -> bool:
    """Writes the index of a video to `path`; False when it is there already. One of another part
    of the video makes way, and with `replace` also one of another origin.

    Raises:
        InputError: the video cannot be decoded or has no frame of the selection, boxes or flow are
            lacking, the file is there but of another origin, another process writes it, the disk
            is full.
    """
    if job.precision not in PRECISIONS:
        raise InputError(f"precision {job.precision!r}: wanted one of {', '.join(PRECISIONS)}")
    origin = job.origin
    if path.exists():
        found = IndexFile.read(path).header
        difference = found.origin.difference(origin)
        if difference and not replace:
            raise InputError(
                f"{path} (the one) was not made as this run (the other) would: {difference}; "
                "choose another --out, or remove the file"
            )
        if not difference and found.selection.covers(job.selection):
            return False
    heads = {name: head.matching.visual.out_features for name, head in job.segmenter.heads.items()}
    header = Header(
        video_id=job.video_id,
        path=str(job.frames.path),
        size=job.frames.size,
        fps=job.frames.fps,
        heads=heads,
        origin=origin,
        selection=job.selection,
    )
    job.segmenter.eval()
    timer = timer or Timer()
    with written_index(path, header) as writer:
        for block in _blocks(job, timer):
            with timer.of("writing"):
                writer.add(block)
        if not writer.clips:
            raise InputError(f"{job.frames.path} has none of the wanted {job.selection}")
    return True


@torch.inference_mode()
def _blocks(job: IndexJob, timer: Timer) -> Iterator[ClipBlock]:
    """The wanted clips of the video, some at a time."""
    reader = FrameReader(job, timer)
    planner = ClipPlanner(job.selection, job.segmenter.input_spec)
    encoder = Encoder(job, reader, timer)
    for run in planner.runs():
        if (yield from _run(run, reader, planner, encoder)):
            return


def _run(
    run: range, reader: FrameReader, planner: ClipPlanner, encoder: Encoder
) -> Generator[ClipBlock, None, bool]:
    """The clips of one run of frames; returns whether the video ended in it."""
    length = len(encoder.input_spec.offsets)
    most = _frames_at_once(encoder.device.type, encoder.job.frames.size)
    at_once = length * max(1, most // length)
    pictures, total, ended = reader.pictures(run), run.start, False
    known: EncodedFrames | None = None
    planner.begin(run)
    while total < run.stop and not ended:
        wanted = min(at_once, run.stop - total)
        with encoder.timer.of("decoding"):
            block = list(islice(pictures, wanted))
        ended = len(block) < wanted
        if block:
            encoded = encoder.encode(block, total)
            known = encoded.after(known.last(length - 1) if known else None)
            total += len(block)
        windows = planner.ready(total, ended)
        if windows and known is not None:
            if run.start and known.start > windows[-1].stop - length:
                # the video's last clip begins before the frames of the run
                span = range(max(0, total - length), total)
                known = encoder.encode(list(reader.pictures(span)), span.start)
            yield encoder.clips(known, windows, total)
    return ended


def _frames_at_once(device: str, size: tuple[int, int]) -> int:
    """How many frames of `size` (H0, W0) are in memory at a time, if a clip is not longer."""
    return min(FRAMES_AT_ONCE[device], BYTES_AT_ONCE // (3 * size[0] * size[1]))
