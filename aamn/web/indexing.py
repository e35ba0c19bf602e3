"""The visual work for one video, done in a thread beside the answers: how far it is, how long it
will still take, and how it is given up."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from aamn.index.video_index import VideoIndex
from proposals.errors import InputError
from proposals.progress import watched

log = logging.getLogger("aamn")

YIELDS = 5  # niceness that the work adds to its thread, so that answers come first


class Cancelled(Exception):
    """Nobody waits for the index any more."""


@dataclass
class Step:
    """How far the work is: frames done of `total` (0: not known yet), since `begun` (seconds of
    the monotonic clock; 0: it waits for its turn)."""

    done: int = 0
    total: int = 0
    begun: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far; None while there is none."""
        if not (self.done and self.total):
            return None
        return (time.monotonic() - self.begun) * max(0, self.total - self.done) / self.done


class Indexing:
    """One index on its way; `index` is there when `state` is "ready", `error` when "failed".

    `check` is told how many frames are done, and refuses those that are too many.
    """

    def __init__(
        self, build: Callable[[], VideoIndex], check: Callable[[int], None] = lambda done: None
    ) -> None:
        self.step, self.error = Step(), ""
        self.index: VideoIndex | None = None
        self._build, self._check = build, check
        self._cancelled = threading.Event()
        self._future: Future[None] | None = None

    @classmethod
    def finished(cls, index: VideoIndex) -> Indexing:
        """One that was there before."""
        work = cls(lambda: index)
        work.index = index
        return work

    def start(self, workers: Executor) -> None:
        self._future = workers.submit(self._run)

    def when_ended(self, do: Callable[[], None]) -> None:
        """Does something when no thread is at work any more."""
        if self._future is None:
            do()
        else:
            self._future.add_done_callback(lambda _: do())

    @property
    def state(self) -> str:
        """waiting, indexing, ready, failed or cancelled."""
        if self.index is not None:
            return "ready"
        if self.error:
            return "failed"
        if self._cancelled.is_set():
            return "cancelled"
        return "indexing" if self.step.begun else "waiting"

    def cancel(self) -> None:
        """The work ends after its next step."""
        self._cancelled.set()
        if self._future is not None:
            self._future.cancel()  # where it has not begun

    def progress(self) -> dict[str, Any]:
        """For the page."""
        left = self.step.seconds_left
        return {
            "state": self.state,
            "done": self.step.done,
            "total": self.step.total,
            "seconds_left": None if left is None else round(left, 1),
            "error": self.error,
        }

    def _run(self) -> None:
        if self._cancelled.is_set():
            return
        _yield_to_answers()
        self.step.begun = time.monotonic()
        try:
            with watched(self._count):
                self.index = self._build()
        except Cancelled:
            log.info("an index was given up")
        except InputError as error:
            self.error = str(error)
        except Exception:
            log.exception("an index failed")
            self.error = "the video cannot be indexed; the log of the server says why"

    def _count(self, done: int, total: int) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        self.step.done, self.step.total = done, max(done, total)
        self._check(done)


def _yield_to_answers() -> None:
    """Lowers the priority of this thread, where a thread has one of its own."""
    if hasattr(os, "setpriority") and threading.current_thread() is not threading.main_thread():
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), YIELDS)
