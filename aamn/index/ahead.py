"""Work that runs ahead of who needs it, in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from threading import Condition, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], room: int) -> Generator[T, None, None]:
    """The items in their order, which a thread makes while earlier ones are used, at most `room` of
    them before they are wanted. An error comes where its item would have come. When the
    generator is closed, the thread has ended."""
    waiting = _Bounded[T](room)
    thread = Thread(target=waiting.fill, args=(items,), name="ahead", daemon=True)
    thread.start()
    try:
        yield from waiting.emptied()
    finally:
        waiting.stop()
        thread.join()


class _Bounded(Generic[T]):
    """Items between the thread that makes them and the one that takes them."""

    def __init__(self, room: int) -> None:
        self.room, self.items = room, deque[T]()
        self.ended, self.stopped = False, False
        self.error: BaseException | None = None
        self.changed = Condition()

    def fill(self, items: Iterable[T]) -> None:
        """Puts in all items, as far as they are wanted."""
        try:
            for item in items:
                if not self._put(item):
                    break
        except BaseException as error:
            self.error = error
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _put(self, item: T) -> bool:
        """Whether any more are wanted."""
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or len(self.items) < self.room)
            self.items.append(item)
            self.changed.notify_all()
            return not self.stopped

    def emptied(self) -> Generator[T, None, None]:
        """Takes all items out."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.items or self.ended)
                if not self.items:
                    break
                item = self.items.popleft()
                self.changed.notify_all()
            yield item
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """No item is wanted any more."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
