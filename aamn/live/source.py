"""Frames as they come: those of one clip wait, and what comes while nobody takes it is dropped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread

import numpy as np

PATIENCE = 5.0  # seconds for a source that may hang


def paced(
    frames: Iterable[np.ndarray],
    fps: float,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[np.ndarray]:
    """A file's frames at its own rate: frame n comes n / fps seconds after the first, or later."""
    begin = clock()
    for number, frame in enumerate(frames):
        early = begin + number / fps - clock()
        if early > 0:
            wait(early)
        yield frame


@dataclass(frozen=True)
class TakenClip:
    """Frames `first`, `first` + 1, ... of a source (H0, W0, 3) uint8 RGB; the last one came at
    `came` seconds of the clock."""

    first: int
    frames: tuple[np.ndarray, ...]
    came: float


class LiveSource:
    """Clips of a stream of frames that waits for nobody.

    A clip is `length` frames that follow each other, with the frame after them, to which the last
    one's flow leads. While one is computed the next one comes in; when it is whole and nobody has
    taken it, frames are dropped until somebody does. `seen` and `dropped` count frames.
    """

    def __init__(
        self,
        frames: Iterable[np.ndarray],
        length: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.length, self.clock = length, clock
        self.seen, self.dropped = 0, 0
        self._held: list[np.ndarray] = []
        self._first, self._came = 0, 0.0
        self._gap = False  # frames were dropped behind those that are held
        self._ended, self._stopped = False, False
        self._error: BaseException | None = None
        self._changed = Condition()
        self._thread = Thread(target=self._take_all, args=(frames,), name="live", daemon=True)
        self._thread.start()

    def _take_all(self, frames: Iterable[np.ndarray]) -> None:
        try:
            for frame in frames:
                if not self._take(frame):
                    break
        except BaseException as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, frame: np.ndarray) -> bool:
        """Holds the frame or drops it; whether any more are wanted."""
        with self._changed:
            if len(self._held) > self.length:
                self.dropped += 1
                self._gap = True
            else:
                self._first = self._first if self._held else self.seen
                self._held.append(frame)
                self._came = self.clock()
            self.seen += 1
            self._changed.notify_all()
            return not self._stopped

    def clip(self) -> TakenClip | None:
        """The next clip, as soon as it is whole; None at the source's end, where the frames of one
        that is not are dropped.

        Raises:
            InputError: the source broke off.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._held) > self.length or self._ended)
            if len(self._held) < self.length:
                self.dropped += len(self._held)
                self._held = []
                if self._error is not None:
                    raise self._error
                return None
            taken = TakenClip(self._first, tuple(self._held), self._came)
            following = self._held[self.length :]
            self.dropped += self._gap * len(following)  # it begins no clip
            self._held = [] if self._gap else following
            self._first, self._gap = self._first + self.length, False
            return taken

    def stop(self) -> None:
        """No clip is wanted any more: the thread ends with the next frame, which is waited for."""
        with self._changed:
            self._stopped = True
        self._thread.join(PATIENCE)
