"""How far long work is, and how long it will still take: a bar on a terminal, else now and then a
line of the log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm import tqdm

log = logging.getLogger("proposals")

SECONDS = 30  # between two lines of the log
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {remaining} left, {rate_fmt}"


Watcher = Callable[[int, int], None]
_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Within it, and in this thread, `watcher` is told how many units are done and of how many (0:
    nobody knows) after each step of the work; an exception that it raises ends the work."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


class _Bar(tqdm):
    def update(self, n: float | None = 1) -> bool | None:
        shown: bool | None = super().update(n)
        watcher = _WATCHER.get()
        if watcher is not None:
            watcher(int(self.n), int(self.total or 0))
        return shown


class _LogLines:
    """What a bar is written to where nobody could see it move."""

    def write(self, text: str) -> None:
        if text.strip():
            log.info("%s", text.strip())

    def flush(self) -> None:
        """Each line is complete."""


def progress(total: int, what: str, unit: str, done: int = 0) -> tqdm:
    """A counter of `total` units (0: nobody knows), of which `done` were there before; used as a
    context manager, `update(n)` counts on."""
    if sys.stderr.isatty():
        return _Bar(total=total or None, initial=done, desc=what, unit=unit, leave=False)
    return _Bar(
        total=total or None,
        initial=done,
        desc=what,
        unit=unit,
        leave=False,
        file=_LogLines(),
        mininterval=SECONDS,
        delay=SECONDS,
        miniters=1,
        bar_format=LINE,
    )
