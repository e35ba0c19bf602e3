"""Threads beside loading processes."""

import os

import pytest
import torch

from aamn.training.threads import share_cores


@pytest.mark.parametrize(
    ("cores", "before", "workers", "wanted"),
    [(2, 2, 1, 1), (2, 2, 0, 2), (8, 8, 2, 6), (8, 1, 2, 1), (2, 2, 4, 1)],
)
def test_each_loading_process_has_a_core(monkeypatch, cores, before, workers, wanted):
    set_to = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: before)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    share_cores(workers)
    assert set_to == [wanted]


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(torch, "set_num_threads", lambda count: pytest.fail(str(count)))
    share_cores(1)
