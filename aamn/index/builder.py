"""Builds a video's index: every frame goes through every network once, whatever the clip's length.

Frames stream through in blocks of whole clips: while the networks look at one, a thread decodes the
next and computes its flow. These two blocks, the features of one, and the few frames that the last
clip shares with the one before it, are all that is kept in memory. Finished blocks wait on the disk
until the index is whole.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from dataclasses import replace as replace_fields
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from aamn.index.ahead import ahead
from aamn.index.encoder import EncodedFrames, Encoder
from aamn.index.file import ClipBlock, Header, IndexFile, new_index, only_writer
from aamn.index.growing import GrowingIndex
from aamn.index.job import IndexJob
from aamn.index.planner import ClipPlanner
from aamn.index.reader import FrameReader
from aamn.index.timer import WAITING, Timer
from aamn.index.unfinished import Place, UnfinishedIndex
from proposals.errors import CannotWrite, InputError
from proposals.identity import Identity, identity_of, is_outdated
from proposals.progress import progress

PRECISIONS = ("float32", "bfloat16")
FRAMES_AT_ONCE = {"cpu": 16, "cuda": 96}
BYTES_AT_ONCE = 1 << 30  # of a block's decoded frames, as far as that is a clip or more


def build_index(
    job: IndexJob, path: Path, timer: Timer | None = None, replace: bool = False
) -> bool:
    """Writes the index of a video to `path`; False when it is there already. One of another part
    of the video makes way, and one of a video whose place another one has taken; with `replace`
    also one of another origin, and of another video of the same id. After an interruption the
    same job goes on where it stopped.

    Raises:
        InputError: the video cannot be decoded or has no frame of the selection, boxes or flow are
            lacking or another video's, the file is there but of another origin, another process
            writes it, the disk is full.
    """
    header = _checked_header(job)
    if path.exists() and _serves(path, header, replace):
        return False
    timer = timer or Timer()
    with only_writer(path):
        unfinished = UnfinishedIndex(path, _depends_on(job, header))
        try:
            _compute(job, unfinished, timer)
        except CannotWrite:  # finished blocks wait for more room
            raise
        except InputError:  # the same would happen again
            unfinished.remove()
            raise
        with timer.of("writing"), new_index(path, header) as writer:
            for block in unfinished.blocks():
                writer.add(_within(job, block))
        unfinished.remove()
    return True


def _within(job: IndexJob, block: ClipBlock) -> ClipBlock:
    """The block of a video that has been read, whose last clip does not answer for frames that
    would only follow the last one, where frames are left out."""
    if job.every == 1:
        return block
    windows = block.windows.copy()
    windows[:, 2] = windows[:, 2].clip(max=len(job.frames))
    return replace_fields(block, windows=windows)


def grow_index(job: IndexJob) -> Generator[GrowingIndex, None, None]:
    """The index in memory after each block of clips, the last one whole: it answers for the clips
    so far as `build_index` would for a video that ends there, save that its last clip may lie
    otherwise.

    Raises:
        InputError: as `build_index`, of what is not about files.
    """
    header, blocks = _checked_header(job), list[ClipBlock]()
    with closing(_blocks(job, Timer())) as found:
        for block, _ in found:
            blocks.append(block)
            yield GrowingIndex(header, blocks)
    if not blocks:
        raise InputError(f"{job.frames.path} has none of the wanted {job.selection}")


def _checked_header(job: IndexJob) -> Header:
    """What the index of a job will say of itself.

    Raises:
        InputError: the job cannot be.
    """
    if job.precision not in PRECISIONS:
        raise InputError(f"precision {job.precision!r}: wanted one of {', '.join(PRECISIONS)}")
    job.check()
    job.segmenter.eval()
    return header_of(job, identity_of(job.frames))


def header_of(job: IndexJob, identity: Identity) -> Header:
    """What an index of the job says of itself, before it is known how many frames there are."""
    return Header(
        video_id=job.video_id,
        path=identity.path,
        size=job.frames.size,
        fps=job.frames.fps,
        heads=job.segmenter.head_widths,
        origin=job.origin,
        selection=job.selection,
        identity=identity,
    )


def _serves(path: Path, wanted: Header, replace: bool) -> bool:
    """Whether the index that is there is the wanted one, or holds more.

    Raises:
        InputError: it is of another origin or video, which must not make way.
    """
    found = IndexFile.read(path).header
    assert wanted.identity is not None
    outdated = is_outdated(found.identity, wanted.identity, path, "the index", replace)
    difference = found.origin.difference(wanted.origin)
    if difference and not replace:
        raise InputError(
            f"{path} (the one) was not made as this run (the other) would: {difference}; "
            "choose another --out, or remove the file"
        )
    return not outdated and not difference and found.selection.covers(wanted.selection)


def _depends_on(job: IndexJob, header: Header) -> dict[str, Any] | None:
    """All that the numbers of an index depend on; None where it is not known which video it is."""
    identity = header.identity
    if identity is None or identity.kind == "unknown":
        return None
    return {
        "video": [header.video_id, identity.kind, identity.bytes, identity.blocks],
        "origin": asdict(header.origin),
        "selection": header.selection.to_json(),
        "frames_at_once": _frames_at_once(job),
        "device": str(job.segmenter.device.type),
    }


def _compute(job: IndexJob, unfinished: UnfinishedIndex, timer: Timer) -> None:
    """Adds the blocks that lack.

    Raises:
        InputError: the video cannot be decoded, or has no frame of the selection.
    """
    span = _span(job)
    at = max(span.start, unfinished.place.frame if unfinished.place else 0)
    with (
        progress(len(span), job.video_id, "frame", at - span.start) as bar,
        closing(_blocks(job, timer, unfinished.place)) as blocks,  # before the frames are closed
    ):
        for block, place in blocks:
            with timer.of("writing"):
                unfinished.add(block, place)
            bar.update(max(0, place.frame - at))
            at = place.frame
    if not len(unfinished):
        raise InputError(f"{job.frames.path} has none of the wanted {job.selection}")


def _span(job: IndexJob) -> range:
    """The frames between which the selection lies, as far as the video's header tells."""
    count, selection = -(-job.frames.announced // job.every), job.selection.thinned(job.every)
    if selection.frames is not None:
        return range(selection.frames.start, min(selection.frames.stop, count))
    return range(max(selection.key_frames) + 1 if selection.key_frames else count)


def _frames_at_once(job: IndexJob) -> int:
    """How many frames are in memory at a time: whole clips, as many as fit, and at least one."""
    length, (height, width) = len(job.segmenter.input_spec.offsets), job.frames.size
    most = min(FRAMES_AT_ONCE[job.segmenter.device.type], BYTES_AT_ONCE // (3 * height * width))
    return length * max(1, most // length)


@torch.inference_mode()
def _blocks(
    job: IndexJob, timer: Timer, done: Place | None = None
) -> Generator[tuple[ClipBlock, Place], None, None]:
    """The wanted clips of the video, some at a time, and where each block ends; those up to `done`
    are left out."""
    if done is not None and done.ended:
        return
    reader = FrameReader(job, timer)
    planner = ClipPlanner(job.selection.thinned(job.every), job.segmenter.input_spec)
    encoder = Encoder(job, reader, timer)
    if done is not None:
        encoder.go_on_after(done.boxes, done.features)
    first = 0 if done is None else done.run
    for number, run in islice(enumerate(planner.runs()), first, None):
        work = _Run(number, run, reader, planner, encoder)
        if (yield from work.blocks(done if number == first else None)):
            return


@dataclass(frozen=True)
class _Run:
    """A run of frames without a gap, the `number`-th of the video's."""

    number: int
    frames: range
    reader: FrameReader
    planner: ClipPlanner
    encoder: Encoder

    def blocks(self, done: Place | None) -> Generator[tuple[ClipBlock, Place], None, bool]:
        """Its clips, and where each block of them ends; returns whether the video ended in it."""
        length = len(self.encoder.input_spec.offsets)
        run, encoder, planner = self.frames, self.encoder, self.planner
        at_once = _frames_at_once(encoder.job)
        total, ended = run.start, False
        known: EncodedFrames | None = None
        before: EncodedFrames | None = None
        planner.begin(run)
        if done is not None:
            total, planner.planned = done.frame, done.planned
            known = self._encoded(range(max(run.start, total - at_once), total))
        with closing(ahead(self.reader.pictures(range(total, run.stop)), at_once)) as pictures:
            while total < run.stop and not ended:
                wanted = min(at_once, run.stop - total)
                with encoder.timer.of(WAITING):
                    block = list(islice(pictures, wanted))
                ended = len(block) < wanted
                if block:
                    before = known.last(length - 1) if known else None
                    known = encoder.encode(block, total)
                    total += len(block)
                windows = planner.ready(total, ended)
                if windows and known is not None:
                    if encoder.numbers(windows, total).min() < known.start:
                        known = known.after(before)
                    if run.start and known.start > windows[-1].stop - length:
                        # the video's last clip begins before the frames of the run
                        known = self._encoded(range(max(0, total - length), total))
                    clips = encoder.clips(known, windows, total)
                    yield clips, self._place(total, ended)
        return ended

    def _encoded(self, span: range) -> EncodedFrames:
        """What the networks make of these frames, in one go, as before an interruption."""
        return self.encoder.encode(list(self.reader.pictures(span)), span.start)

    def _place(self, total: int, ended: bool) -> Place:
        edge = self.encoder.edge
        assert edge is not None  # a clip was encoded
        boxes, features = (part.cpu().numpy() for part in (edge.boxes, edge.features))
        return Place(self.number, total, self.planner.planned, ended, boxes, features)
