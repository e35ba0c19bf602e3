"""How long the parts of a piece of work take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class Timer:
    """Seconds by part of the work; a part inside another counts for itself alone."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    synchronise: bool = False  # wait for the GPU at the end of each part

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        begin, inner = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            if self.synchronise:
                torch.cuda.synchronize()
            nested = sum(self.seconds.values()) - inner
            self.seconds[part] += time.perf_counter() - begin - nested
