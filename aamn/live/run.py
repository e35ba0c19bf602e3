"""A live run: a source, sentences, and where the pictures go."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TextIO

import numpy as np

from aamn.jobs.inputs import Inputs
from aamn.live.output import Output, Screen, motion_jpeg
from aamn.live.session import LiveAnswer, LiveSession
from aamn.live.source import LiveSource, TakenClip, paced
from aamn.visualization.overlays import caption_strip, highlighted, query_colours
from aamn.visualization.video_writer import written_video
from proposals.errors import InputError
from proposals.frames import FrameSource, arriving_frames, is_path

log = logging.getLogger("aamn")

SETTLED = 1000  # frames, after which memory should not grow
LATENCIES = 100_000  # of which the percentiles are said
BETWEEN = ";"  # sentences of one line


@dataclass(frozen=True)
class LiveOptions:
    """Where frames come from, which sentences are asked, and where the pictures go; see `aamn live
    --help`."""

    source: str | int
    texts: tuple[str, ...]
    window: int = 8
    precision: str = "auto"
    absent_threshold: float | str | None = None
    end: int | None = None
    out: Path | None = None
    port: int | None = None
    show: bool = False
    ask: bool = False
    rate: float | None = None


@dataclass
class LiveCounts:
    """What is said at the end: frames that came and were dropped, clips, seconds from a clip's last
    frame to its answer, MiB of memory when the run had settled and now."""

    seen: int = 0
    dropped: int = 0
    clips: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    memory: tuple[float, float] | None = None

    def add(self, source: LiveSource, clip: TakenClip) -> None:
        """One more clip, which was answered just now."""
        before, self.clips = self.seen, self.clips + 1
        self.latencies.append(source.clock() - clip.came)
        self.seen, self.dropped = source.seen, source.dropped
        if self.seen >= SETTLED:
            now = resident()
            self.memory = (now if before < SETTLED or not self.memory else self.memory[0], now)

    def __str__(self) -> str:
        said = f"{self.seen} frames came, {self.dropped} dropped; {self.clips} clips"
        if not self.latencies:
            return said
        half, most = np.percentile(self.latencies, [50, 95])
        said += f", answered in {half:.3f} s (half of them) to {most:.3f} s (95 of 100)"
        if self.memory is not None:
            first, last = self.memory
            said += f"; {first:.0f} MiB at frame {SETTLED}, {last:.0f} MiB at the end"
        return said


def resident() -> float:
    """MiB of this process that lie in memory; 0 where the system does not tell."""
    told = Path("/proc/self/statm")
    pages = int(told.read_text().split()[1]) if told.is_file() else 0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20) if pages else 0.0


def run_live(inputs: Inputs, options: LiveOptions, typed: TextIO | None = None) -> LiveCounts:
    """Answers until the source ends, `options.end` frames have come or Ctrl-C; says what it did.
    With `options.ask`, each line of `typed` (standard input) has the sentences from then on.

    Raises:
        InputError: the source cannot be opened or breaks off, or an output cannot be had.
    """
    threshold = inputs.absent_threshold(options.absent_threshold)
    session = LiveSession(
        inputs.video_segmenter(), options.texts, options.window, options.precision, threshold
    )
    if options.ask:
        reader = Thread(target=listen, args=(session, typed or sys.stdin), daemon=True)
        reader.start()
    with ExitStack() as stack:
        frames = stack.enter_context(arriving_frames(options.source, options.end))
        source = LiveSource(_coming(frames, options), session.length)
        stack.callback(source.stop)
        outputs = Outputs(stack, options, frames)
        try:
            counts = answer_all(source, session, outputs.show)
        finally:
            source.stop()
    print(counts)
    return counts


def _coming(frames: FrameSource, options: LiveOptions) -> Iterable[np.ndarray]:
    """The source's frames; a file's at its own rate, or at `options.rate`."""
    coming = frames.iterate(0, options.end)
    is_file = isinstance(options.source, str) and is_path(options.source)
    return paced(coming, options.rate or frames.fps) if is_file else coming


def answer_all(
    source: LiveSource,
    session: LiveSession,
    show: Callable[[TakenClip, LiveAnswer, LiveCounts], None],
) -> LiveCounts:
    """Answers clip after clip; Ctrl-C ends it as the source's end does."""
    counts = LiveCounts()
    try:
        while (clip := source.clip()) is not None:
            answer = session.answer(clip)
            counts.add(source, clip)
            show(clip, answer, counts)
    except KeyboardInterrupt:
        log.info("interrupted: ends here")
    counts.seen, counts.dropped = source.seen, source.dropped
    return counts


def listen(session: LiveSession, lines: Iterable[str]) -> None:
    """Each line has new sentences, with a semicolon between two; says what is wrong with one."""
    for line in lines:
        texts = [text.strip() for text in line.split(BETWEEN) if text.strip()]
        if not texts:
            continue
        try:
            session.ask(texts)
        except InputError as error:
            log.error("%s", error)


class Outputs:
    """Draws the answers, and hands the pictures to each output."""

    def __init__(self, stack: ExitStack, options: LiveOptions, frames: FrameSource) -> None:
        """Raises:
        InputError: an output cannot be had.
        """
        height, width = frames.size
        text = f" {BETWEEN} ".join(options.texts)
        self.strip = len(caption_strip(f"{text} {_status(LiveCounts())}", width, height))
        self.outputs: list[Output] = []
        if options.out is not None:
            size = (height + self.strip, width)
            self.outputs.append(stack.enter_context(written_video(options.out, frames.fps, size)))
        if options.port is not None:
            stream = stack.enter_context(motion_jpeg(options.port))
            log.info("pictures at %s", stream.address)
            self.outputs.append(stream)
        if options.show:
            self.outputs.append(Screen())

    def show(self, clip: TakenClip, answer: LiveAnswer, counts: LiveCounts) -> None:
        for picture in self.pictures(clip, answer, counts) if self.outputs else ():
            for output in self.outputs:
                output.add(picture)

    def pictures(
        self, clip: TakenClip, answer: LiveAnswer, counts: LiveCounts
    ) -> Iterator[np.ndarray]:
        """The clip's frames with the masks, and below them who is shown."""
        texts = [track.text for track in answer.tracks]
        colours = query_colours(texts)
        said = [t.text if t.present else f"({t.text})" for t in answer.tracks]
        strip = self._strip(f" {BETWEEN} ".join(said) + f" {_status(counts)}", clip)
        for place in range(len(answer.clip)):
            masks = [own[place] for own in answer.masks]
            boxes = [own[place].tolist() for own in answer.boxes]
            yield np.vstack([highlighted(clip.frames[place], masks, colours, boxes), strip])

    def _strip(self, text: str, clip: TakenClip) -> np.ndarray:
        """The text in as many lines as the pictures have had from the beginning."""
        height, width = clip.frames[0].shape[:2]
        strip = caption_strip(text, width, height)[: self.strip]
        return np.pad(strip, ((0, self.strip - len(strip)), (0, 0), (0, 0)), "edge")


def _status(counts: LiveCounts) -> str:
    return f"[dropped {counts.dropped:6d}]"


def texts_of(words: Sequence[str]) -> tuple[str, ...]:
    """The sentences, at least one.

    Raises:
        InputError: none.
    """
    if not words:
        raise InputError('wanted at least one sentence, such as "person in red"')
    return tuple(words)
