"""What a library of many tubes costs: random vectors in clusters, not those of videos."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from aamn.index.file import Header, Origin
from aamn.search.library import RECALL_OF, ROWS_AT_ONCE, Library, recall
from aamn.search.rows import VideoRows
from proposals.errors import InputError

TUBES_A_VIDEO, CLUSTERS, QUERIES = 35, 1000, 20


def _videos(rows: int, dimension: int, rng: np.random.Generator) -> Iterator[VideoRows]:
    """Videos of TUBES_A_VIDEO tubes each, around CLUSTERS points."""
    centres = rng.standard_normal((CLUSTERS, dimension), np.float32)
    spans = np.stack([np.arange(TUBES_A_VIDEO) * 9, np.arange(1, TUBES_A_VIDEO + 1) * 9], 1)
    origin = Origin("random", {}, {})
    for number in range(-(-rows // TUBES_A_VIDEO)):
        chosen = centres[rng.integers(0, CLUSTERS, TUBES_A_VIDEO)]
        noise = 0.5 * rng.standard_normal(chosen.shape, np.float32)
        header = Header(f"video-{number}", "", (240, 320), 25.0, {"all": dimension}, origin)
        levels = np.zeros(TUBES_A_VIDEO, np.int8)
        yield VideoRows(header, f"video-{number}.h5", chosen + noise, spans, levels)


def _blocks(videos: Iterator[VideoRows]) -> Iterator[list[VideoRows]]:
    block: list[VideoRows] = []
    for video in videos:
        block.append(video)
        if len(block) * TUBES_A_VIDEO >= ROWS_AT_ONCE:
            yield block
            block = []
    if block:
        yield block


def _milliseconds(work: Callable[[np.ndarray], object], sides: np.ndarray) -> float:
    """The median over the sides."""
    taken = []
    for side in sides:
        begin = time.perf_counter()
        work(side)
        taken.append(1000 * (time.perf_counter() - begin))
    return statistics.median(taken)


def measure_library(place: Path, rows: int, dimension: int = 256) -> None:
    """Fills a new library with about so many tubes and prints what it costs.

    Raises:
        InputError: something is at `place` already.
    """
    if place.exists():
        raise InputError(f"{place} is there; wanted a new folder for the benchmark's library")
    rng = np.random.default_rng(0)
    begin, made = time.perf_counter(), Library(place)
    for block in _blocks(_videos(rows, dimension, rng)):
        made.insert(block)
    inserted = time.perf_counter() - begin
    begin = time.perf_counter()
    library = Library(place)
    count = len(library)
    opened = 1000 * (time.perf_counter() - begin)
    sides = rng.standard_normal((QUERIES, dimension), np.float32)
    exact = _milliseconds(lambda side: library.best(side, 10), sides)
    before = _peak()
    begin = time.perf_counter()
    library.cluster()
    clustered = time.perf_counter() - begin
    near = _milliseconds(lambda side: library.best(side, 10, approximate=True), sides)
    share = recall(library.table, sides)
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    for name, value in (
        ("tubes", f"{count:,} of {dimension} numbers"),
        ("insert", f"{inserted:.1f} s"),
        ("on disk, with the approximate index", f"{size / 2**20:.0f} MiB"),
        ("open and count", f"{opened:.0f} ms"),
        ("exact query, ten videos", f"{exact:.0f} ms"),
        ("approximate index, built", f"{clustered:.1f} s"),
        ("approximate query, ten videos", f"{near:.0f} ms"),
        (f"its recall@{RECALL_OF}", f"{share:.3f}"),
        ("peak memory up to exact queries", f"{before:.0f} MiB"),
        ("peak memory with the approximate index", f"{_peak():.0f} MiB"),
    ):
        print(f"{name:<42}{value}")


def _peak() -> float:
    """Of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
