"""A thread that works ahead, and no further than it may."""

import threading
from contextlib import closing

import pytest

from aamn.index.ahead import ahead
from aamn.index.timer import Timer
from proposals.errors import InputError


class Counted:
    """0, 1, ... and how many of them were made; says when it is asked for one more than `limit`."""

    def __init__(self, limit):
        self.made, self.limit, self.reached = 0, limit, threading.Event()

    def __iter__(self):
        while True:
            if self.made == self.limit:
                self.reached.set()
            self.made += 1
            yield self.made - 1


def running():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_items_come_in_order_and_the_thread_ends():
    assert list(ahead(iter("abc"), 2)) == ["a", "b", "c"]
    assert list(ahead([], 1)) == [] and not running()


def test_it_runs_ahead_as_far_as_there_is_room():
    """Three wait; the fourth is made and held."""
    items = Counted(3)
    found = ahead(items, 3)
    assert next(found) == 0
    assert items.reached.wait(10)
    assert next(found) == 1
    found.close()
    assert 4 <= items.made <= 6 and not running()


def test_an_error_comes_where_its_item_would_have_come():
    def broken():
        yield 1
        raise InputError("frame 1 cannot be decoded")

    found = ahead(broken(), 5)
    assert next(found) == 1
    with pytest.raises(InputError, match="frame 1"):
        next(found)
    assert not running()


def test_the_thread_ends_with_who_stops_in_the_middle():
    with pytest.raises(KeyboardInterrupt), closing(ahead(Counted(10**9), 2)) as found:
        assert next(found) == 0
        raise KeyboardInterrupt
    assert not running()


def test_threads_do_not_count_for_each_other(monkeypatch):
    """Both are inside a part at the same time: 10 seconds here, 4 there."""
    now = [0.0]
    monkeypatch.setattr("aamn.index.timer.time.perf_counter", lambda: now[0])
    costs = Timer()

    def other():
        with costs.of("flow"):
            now[0] += 4

    with costs.of("streams"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        now[0] += 6
    assert costs.seconds == {"streams": 10.0, "flow": 4.0}
    assert (costs.ahead, costs.working, costs.bound) == (4.0, 10.0, "the networks")
    with costs.of("decoding"):
        now[0] += 7
    assert costs.bound == "decoding and flow"
