"""Processes that work for another end with it; the real thing is among the tests of faults."""

import os
import threading
from types import SimpleNamespace

import pytest

from proposals import workers
from proposals.workers import end_with_parent


@pytest.fixture
def ended(monkeypatch):
    """Set when the process would end; its code."""
    event, codes = threading.Event(), []
    stopped = SimpleNamespace(_exit=lambda code: (codes.append(code), event.set()))
    monkeypatch.setattr(workers, "os", stopped)
    return event, codes


def test_a_worker_ends_when_its_parent_is_gone_and_not_before(monkeypatch, ended):
    event, codes = ended
    sentinel, parent = os.pipe()  # readable when the parent's end is closed
    monkeypatch.setattr(
        workers.multiprocessing, "parent_process", lambda: SimpleNamespace(sentinel=sentinel)
    )
    before = set(threading.enumerate())
    end_with_parent("whatever", "it is given")
    (watch,) = set(threading.enumerate()) - before
    assert watch.daemon, "it keeps no process that has done its work"
    assert not codes
    os.close(parent)
    assert event.wait(60) and codes == [1]
    watch.join()
    os.close(sentinel)


def test_a_process_that_nobody_started_watches_nothing(monkeypatch):
    monkeypatch.setattr(workers.multiprocessing, "parent_process", lambda: None)
    before = threading.active_count()
    end_with_parent()
    assert threading.active_count() == before
