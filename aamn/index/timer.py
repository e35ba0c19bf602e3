"""How long the parts of a piece of work take."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

AHEAD = ("decoding", "flow")  # parts that a thread does while the networks compute
WAITING = "waiting"  # for these


class _Nested(threading.local):
    """Seconds of the parts inside the one that a thread is in."""

    seconds = 0.0


@dataclass
class Timer:
    """Seconds by part of the work; a part inside another one of the same thread counts for itself
    alone."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    synchronise: bool = False  # wait for the GPU at the end of each part
    _nested: _Nested = field(default_factory=_Nested, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        outer, self._nested.seconds = self._nested.seconds, 0.0
        begin = time.perf_counter()
        try:
            yield
        finally:
            if self.synchronise:
                torch.cuda.synchronize()
            taken = time.perf_counter() - begin
            with self._lock:
                self.seconds[part] += taken - self._nested.seconds
            self._nested.seconds = outer + taken

    @property
    def working(self) -> float:
        """Seconds of all parts but those that run ahead, and without waiting for them."""
        return sum(v for part, v in self.seconds.items() if part not in (*AHEAD, WAITING))

    @property
    def ahead(self) -> float:
        """Seconds of the parts that run ahead."""
        return sum(self.seconds.get(part, 0.0) for part in AHEAD)

    @property
    def bound(self) -> str:
        """Which of the two chains takes longer, in words."""
        return "decoding and flow" if self.ahead > self.working else "the networks"
