"""Processes that work for another: they end with it, and what goes wrong in one is said in the
other as it was said there."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import Any, TypeVar

from proposals.errors import InputError

Item = TypeVar("Item")

_AGAIN = "(out of memory?); run the same command again to go on, with fewer workers"
_TOLD = re.compile(r"^\w[\w.]*: (.*)", re.MULTILINE | re.DOTALL)  # frames are indented


def end_with_parent(*_: object) -> None:
    """Ends this process when the one that started it is gone, however that ended; for the beginning
    of a worker process, such as `worker_init_fn`."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _begin(prepare: Callable[..., object] | None, *arguments: Any) -> None:
    end_with_parent()
    if prepare is not None:
        prepare(*arguments)


@contextmanager
def worker_pool(
    workers: int, prepare: Callable[..., object] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Processes, each of which begins with `prepare(*arguments)`.

    They are spawned, not forked: a forked child cannot use PyTorch's threads or CUDA.

    Raises:
        InputError: one of them died.
    """
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, _begin, (prepare, *arguments)) as pool:
            yield pool
    except BrokenProcessPool:
        raise InputError(f"a worker process died {_AGAIN}") from None


class WorkerProcess:
    """One process that calls functions for this one, in turn. Unlike a pool's its death tells whose
    it was, and it can be ended at once; what it writes is there whole or not at all."""

    died = BrokenProcessPool  # what a call's future raises then

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._last: Future[Any]
        self._pool = ProcessPoolExecutor(1, context, _begin, (_leave_ctrl_c,))
        self._number = self._last = self._pool.submit(os.getpid)

    def submit(self, function: Callable[..., Item], *arguments: Any) -> Future[Item]:
        """What the function will return; it and the arguments are pickled."""
        self._last = future = self._pool.submit(function, *arguments)
        return future

    def end(self) -> None:
        """Ends the process, whatever it is at."""
        if not self._last.done() and self._number.done() and not self._number.exception():
            with suppress(ProcessLookupError):
                os.kill(self._number.result(), signal.SIGKILL)
        self._pool.shutdown(cancel_futures=True)


def _leave_ctrl_c() -> None:
    """Ctrl-C goes to all processes of a terminal; it is the first one's to end the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def loaded(batches: Iterable[Item]) -> Iterator[Item]:
    """The batches of a DataLoader; what its workers found wrong is one line again, which PyTorch
    wraps in their tracebacks.

    Raises:
        InputError: as the dataset, or a worker died.
    """
    try:
        yield from batches
    except (InputError, OSError) as error:
        told = _told(str(error))
        if not told:
            raise
        raise InputError(told) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or "Traceback" in str(error):
            raise
        raise InputError(f"a process that loads data died {_AGAIN}") from None


def _told(text: str) -> str:
    """The message of the error that a worker's traceback ends with; "" for what is none."""
    _, begin, trace = text.rpartition("Traceback (most recent call last):\n")
    found = _TOLD.search(trace) if begin else None
    return found[1].strip() if found else ""
