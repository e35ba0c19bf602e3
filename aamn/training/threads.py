"""How many threads the networks compute with beside the processes that load."""

from __future__ import annotations

import os

import torch


def share_cores(workers: int) -> None:
    """Leaves a core to each of so many loading processes: threads that wait for each other on a
    busy core are slower than fewer threads. Never more threads than there were, and at least one;
    what the user has set, OMP_NUM_THREADS, stays."""
    if "OMP_NUM_THREADS" not in os.environ:
        free = len(os.sched_getaffinity(0)) - workers
        torch.set_num_threads(max(1, min(torch.get_num_threads(), free)))
