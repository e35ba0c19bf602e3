"""One video -> one file that is whole or not there: many videos, in this process, in several of
this machine, or on a cluster. What is done to a video is a `Work`; where, an `Engine`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Protocol

from tqdm import tqdm

from proposals.decoding import Video
from proposals.errors import Busy, CannotWrite, InputError
from proposals.progress import progress
from proposals.workers import WorkerProcess

log = logging.getLogger("aamn")

WORTH_A_PROCESS = 4  # videos: below, a process takes longer to start than it saves
TRIES = 4  # of a video whose worker dies: once, and thrice again


@dataclass(frozen=True)
class Outcome:
    """What became of a video: a line about what was written, what lacks in it or "", and why
    nothing was written."""

    said: str = ""
    lacking: str = ""
    error: Exception | None = None


class Call(Protocol):
    """Makes a video's file; `patient` waits where another process is writing it."""

    def __call__(self, video: Video, patient: bool) -> Outcome:
        """Raises:
        InputError: nothing was written: Busy for now, CannotWrite as for any other video.
        """


class Work(Protocol):
    """What is done to each video; it is pickled to where it is done."""

    def open(self) -> Call:
        """Loads what all videos share, once in each worker.

        Raises:
            InputError: it cannot be used.
        """


class Worker(Protocol):
    """One at a time: first `ready`, then videos."""

    def ready(self) -> Future[Outcome]:
        """Ends when the work is open."""

    def submit(self, video: Video, patient: bool) -> Future[Outcome]:
        """Ends when the video is done; raises an error of the engine's `died` where the worker is
        no more."""

    def end(self) -> None:
        """Ends it, whatever it is at."""


class Engine(Protocol):
    """Where workers come from."""

    @property
    def died(self) -> tuple[type[BaseException], ...]:
        """What a future of a worker that is no more raises."""

    def count(self, videos: int) -> int:
        """How many workers there are for so many videos."""

    def start(self, work: Work) -> Worker:
        """A new worker."""


def attempt(function: Callable[[], Outcome]) -> Outcome:
    """What goes wrong is an outcome, too, which travels as data."""
    try:
        return function()
    except InputError as error:
        return Outcome(error=error)
    except Exception as error:  # whatever one video provokes is its failure, not the job's
        return Outcome(error=InputError(f"{type(error).__name__}: {' '.join(str(error).split())}"))


class Opened:
    """A work in the process that does it."""

    def __init__(self, work: Work) -> None:
        self.call = work.open()

    def __call__(self, video: Video, patient: bool) -> Outcome:
        return attempt(lambda: self.call(video, patient))


@dataclass(frozen=True)
class Here:
    """The engine that is this process; its futures are over when they are there."""

    @property
    def died(self) -> tuple[type[BaseException], ...]:
        return ()

    def count(self, videos: int) -> int:
        return 1

    def start(self, work: Work) -> Worker:
        return _HereWorker(work)


class _HereWorker:
    def __init__(self, work: Work) -> None:
        self.opened = Opened(work)

    def ready(self) -> Future[Outcome]:
        return _over(Outcome())

    def submit(self, video: Video, patient: bool) -> Future[Outcome]:
        return _over(self.opened(video, patient))

    def end(self) -> None:
        """There is nothing to end."""


def _over(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future


@dataclass(frozen=True)
class Local:
    """Processes of this machine, each with its share of the cores as threads; none is begun for
    less than `each` videos."""

    processes: int
    each: int = 1

    @property
    def died(self) -> tuple[type[BaseException], ...]:
        return (WorkerProcess.died,)

    def count(self, videos: int) -> int:
        return max(1, min(self.processes, videos // self.each))

    def start(self, work: Work) -> Worker:
        return _LocalWorker(work, max(1, cores() // self.processes))


class _LocalWorker:
    def __init__(self, work: Work, threads: int) -> None:
        self.work, self.threads, self.process = work, threads, WorkerProcess()

    def ready(self) -> Future[Outcome]:
        return self.process.submit(open_work, self.work, self.threads)

    def submit(self, video: Video, patient: bool) -> Future[Outcome]:
        return self.process.submit(do_video, video, patient)

    def end(self) -> None:
        self.process.end()


_opened: list[Opened] = []  # the work of this process


def open_work(work: Work, threads: int) -> Outcome:
    """Opens a work to which this process will do videos; for the process of a worker."""

    def opened() -> Outcome:
        _opened.append(Opened(work))
        use_threads(threads)
        return Outcome()

    return attempt(opened)


def do_video(video: Video, patient: bool) -> Outcome:
    """Does the opened work to one video; for the process of a worker."""
    return _opened[-1](video, patient)


def use_threads(count: int) -> None:
    """How many threads this process computes with, in what it has imported to compute."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(count)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def local_engine(processes: int | None = None) -> Engine:
    """The engine of this machine; by default one process on a GPU, else one for two cores, which
    two threads keep as busy as two processes would (`make cluster` compares)."""
    each = 1
    if processes is None:
        import torch

        processes, each = 1 if torch.cuda.is_available() else cores() // 2, WORTH_A_PROCESS
    return Local(processes, each) if processes > 1 else Here()


def run(
    work: Work, videos: Sequence[Video], engine: Engine, title: str, strict: bool = False
) -> dict[str, str]:
    """Does the work to all videos; what failed or lacks, by video.

    A video whose worker dies is tried again, thrice; one that fails does not keep the others.

    Raises:
        InputError: a video failed and `strict`, the work cannot be opened, the disk is full.
    """
    if isinstance(engine, Local) and engine.count(len(videos)) == 1:
        engine = Here()
    with _counter(len(videos), title) as bar:
        job = _Job(work, videos, engine, title, strict, bar)
        try:
            job.run()
        finally:
            for video_id, failure in job.failures.items():
                log.error("%s: %s", video_id, failure)
    return job.failures


def _counter(videos: int, title: str) -> tqdm:
    """A bar of videos; one video has a bar of its own."""
    return progress(videos, title, "video") if videos > 1 else tqdm(disable=True)


class _Job:
    """The videos that wait, and the workers that are busy with others."""

    def __init__(
        self,
        work: Work,
        videos: Sequence[Video],
        engine: Engine,
        title: str,
        strict: bool,
        bar: tqdm,
    ) -> None:
        self.work, self.engine, self.title, self.bar = work, engine, title, bar
        self.strict = strict
        self.waiting, self.left = deque(videos), len(videos)
        self.put_off: set[Video] = set()
        self.deaths: Counter[Video | None] = Counter()
        self.workers: set[Worker] = set()
        self.idle: list[Worker] = []
        self.busy: dict[Future[Outcome], tuple[Worker, Video | None]] = {}
        self.failures: dict[str, str] = {}

    def run(self) -> None:
        try:
            for _ in range(self.engine.count(self.left)):
                self._start()
            while self.left:
                self._hand_out()
                for future in wait(self.busy, return_when=FIRST_COMPLETED).done:
                    self._take(future)
        finally:
            for worker in self.workers:
                worker.end()

    def _start(self) -> None:
        worker = self.engine.start(self.work)
        self.workers.add(worker)
        self.busy[worker.ready()] = (worker, None)

    def _hand_out(self) -> None:
        """Gives the workers that wait the videos that wait."""
        while self.idle and self.waiting:
            worker, video = self.idle.pop(), self.waiting.popleft()
            patient = video in self.put_off
            self.busy[worker.submit(video, patient)] = (worker, video)

    def _take(self, future: Future[Outcome]) -> None:
        worker, video = self.busy.pop(future)
        try:
            outcome = future.result()
        except self.engine.died:
            self._bury(worker, video)
            return
        self.idle.append(worker)
        if video is not None:
            self._note(video, outcome)
        elif outcome.error is not None:
            raise outcome.error

    def _bury(self, worker: Worker, video: Video | None) -> None:
        """Puts another worker in a dead one's place, and its video back to the others."""
        self.workers.discard(worker)
        worker.end()
        self.deaths[video] += 1
        hopeless = self.deaths[video] >= TRIES
        if video is None and hopeless:
            raise InputError(
                f"{TRIES} workers died before their first video (out of memory?); have fewer"
            )
        if video is not None and hopeless:
            error = InputError(f"{video.path}: {TRIES} workers died of it (out of memory?)")
            self._note(video, Outcome(error=error))
        elif video is not None:
            log.warning("%s: its worker died; it is tried again", video.video_id)
            self.waiting.appendleft(video)
        self._start()

    def _note(self, video: Video, outcome: Outcome) -> None:
        if isinstance(outcome.error, Busy):
            log.warning("%s", outcome.error)
            self.put_off.add(video)
            self.waiting.append(video)
            return
        if outcome.error is not None and (self.strict or isinstance(outcome.error, CannotWrite)):
            raise outcome.error
        if outcome.said:
            tqdm.write(outcome.said)
        failure = str(outcome.error) if outcome.error is not None else outcome.lacking
        if failure:
            self.failures[video.video_id] = failure
            self.bar.set_description(f"{self.title}, {len(self.failures)} failed", refresh=False)
        self.left -= 1
        self.bar.update()
