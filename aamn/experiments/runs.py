"""Runs of a table's rows, one after another or several side by side."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import as_completed
from pathlib import Path

import torch
from tqdm import tqdm

from aamn.config.schema import Config
from proposals.errors import InputError
from proposals.workers import worker_pool

log = logging.getLogger("aamn")

Work = Callable[[Config, Path], object]  # trains and evaluates one recipe in one folder


def run_rows(work: Work, runs: Mapping[Path, Config], jobs: int) -> dict[Path, str]:
    """Does all runs, `jobs` of them at a time, and returns what failed: folder -> why.

    A run that fails does not keep the others from being done. Where several are done at a time,
    each has its share of the CPU's cores and writes what it says to output.log in its folder.
    """
    if jobs == 1:
        return dict(_one_by_one(work, runs))
    return dict(_side_by_side(work, runs, jobs))


def _one_by_one(work: Work, runs: Mapping[Path, Config]) -> Iterator[tuple[Path, str]]:
    for folder, config in runs.items():
        try:
            work(config, folder)
        except InputError as error:
            log.error("%s: %s", folder, error)
            yield folder, str(error)


def _side_by_side(work: Work, runs: Mapping[Path, Config], jobs: int) -> Iterator[tuple[Path, str]]:
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    own = worker_pool(jobs, torch.set_num_threads, threads)
    with own as pool, tqdm(total=len(runs), desc="runs", unit="run") as bar:
        tasks = {pool.submit(_run_aside, work, c, folder): folder for folder, c in runs.items()}
        try:
            for task in as_completed(tasks):
                bar.update()
                error = task.exception()
                if isinstance(error, InputError):
                    log.error("%s: %s", tasks[task], error)
                    yield tasks[task], str(error)
                elif error is not None:
                    raise error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _run_aside(work: Work, config: Config, folder: Path) -> None:
    """One run in a process of its own, whose output goes to a file."""
    folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with (folder / "output.log").open("a", encoding="utf-8") as output:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(output.fileno(), stream.fileno())
        work(config, folder)
