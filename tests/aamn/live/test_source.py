"""Clips of a stream that waits for nobody: what is held, and what is dropped and counted."""

import threading

import numpy as np
import pytest

from aamn.live.source import LiveSource, paced
from proposals.errors import InputError


class Stream:
    """Frames 0, 1, ... that come when they are let, and a word when the source asks for the next
    one, so that what came before is dealt with."""

    def __init__(self, count=10**9, error=None):
        self.count, self.error = count, error
        self.let, self.asked = threading.Semaphore(0), threading.Semaphore(0)

    def __iter__(self):
        for number in range(self.count):
            self.asked.release()
            self.let.acquire()
            yield np.full((2, 2, 3), number, np.uint8)
        if self.error:
            raise self.error

    def come(self, count):
        for _ in range(count):
            self.let.release()
            assert self.asked.acquire(timeout=10)


def numbers(clip):
    return clip.first, [int(frame[0, 0, 0]) for frame in clip.frames]


def started(stream, length=3, clock=lambda: 0.0):
    source = LiveSource(stream, length, clock)
    assert stream.asked.acquire(timeout=10)
    return source


def test_who_is_quick_misses_no_frame():
    """The frame to which the last one's flow leads is the next clip's first one."""
    stream = Stream()
    source = started(stream)
    for first in (0, 3, 6):
        stream.come(4 if not first else 3)
        assert numbers(source.clip()) == (first, [first, first + 1, first + 2, first + 3])
    assert (source.seen, source.dropped) == (10, 0)
    stream.let.release(5)
    source.stop()


def test_what_comes_while_nobody_takes_a_clip_is_dropped_and_counted():
    stream = Stream()
    source = started(stream)
    stream.come(9)  # 0 1 2 3 wait
    assert (source.seen, source.dropped) == (9, 5)
    assert numbers(source.clip()) == (0, [0, 1, 2, 3])
    stream.come(4)
    assert numbers(source.clip()) == (9, [9, 10, 11, 12])
    stream.come(3)
    assert numbers(source.clip()) == (12, [12, 13, 14, 15])
    assert (source.seen, source.dropped) == (16, 6), "4, too: it begins no clip"
    stream.let.release(5)
    source.stop()


@pytest.mark.parametrize(
    ("count", "clips", "dropped"),
    [
        (0, [], 0),
        (2, [], 2),
        (3, [(0, [0, 1, 2])], 0),
        (4, [(0, [0, 1, 2, 3])], 1),
        (6, [(0, [0, 1, 2, 3]), (3, [3, 4, 5])], 0),
        (8, [(0, [0, 1, 2, 3]), (3, [3, 4, 5, 6])], 2),
    ],
)
def test_at_the_end_the_frames_of_no_whole_clip_are_dropped(count, clips, dropped):
    stream, found = Stream(count), []
    source = LiveSource(stream, 3)
    for number in range(count):
        stream.let.release()
        if number >= 3 and number % 3 == 0:
            found.append(numbers(source.clip()))
    while (clip := source.clip()) is not None:
        found.append(numbers(clip))
    assert found == clips
    assert (source.seen, source.dropped) == (count, dropped)


def test_a_source_that_breaks_off_says_so_after_its_last_clip():
    stream = Stream(3, InputError("camera-0: gone"))
    source = LiveSource(stream, 3)
    stream.let.release(3)
    assert numbers(source.clip()) == (0, [0, 1, 2])
    with pytest.raises(InputError, match="camera-0: gone"):
        source.clip()


def test_a_file_is_played_at_its_own_rate():
    """Ten frames a second; the third takes half a second to decode, then nobody waits."""
    now, waits = [100.0], []

    def wait(seconds):
        waits.append(round(seconds, 6))
        now[0] += seconds

    def frames():
        for number in range(8):
            now[0] += 0.5 if number == 2 else 0.0
            yield number

    assert list(paced(frames(), 10.0, lambda: now[0], wait)) == list(range(8))
    # frame 2 comes at 0.1 + 0.5, when frames up to 6 are due
    assert waits == [0.1, 0.1]
    assert now[0] == pytest.approx(100.7)
