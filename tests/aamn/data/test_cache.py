"""What is kept in memory, how much it counts for, and when it is given up."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from aamn.data import cache
from aamn.data.cache import ByteLimitedCache, MemoryFrames, bytes_of, in_memory
from proposals.frames import FrameSource


class Video(FrameSource):
    """Frames of 5x4 pixels; every pixel of frame n is n. `announced` may be another number."""

    def __init__(self, count: int, announced: int | None = None) -> None:
        self.path, self.size, self.fps = Path("some/video.mp4"), (4, 5), 12.5
        self.announced = count if announced is None else announced
        self.count, self.closed = count, False

    def __len__(self) -> int:
        return self.count

    def _frame(self, index: int) -> np.ndarray | None:
        return np.full((4, 5, 3), index, np.uint8) if index < self.count else None

    def close(self) -> None:
        self.closed = True


def test_a_small_video_is_decoded_and_closed() -> None:
    video = Video(3, announced=4)
    kept = in_memory(video)
    assert isinstance(kept, MemoryFrames) and video.closed
    assert (kept.path, kept.size, kept.fps, kept.announced) == (video.path, (4, 5), 12.5, 4)
    assert len(kept) == 3 and bytes_of(kept) == 3 * 60
    assert kept.read([2, 0])[:, 3, 4, 2].tolist() == [2, 0]
    assert len(list(kept.iterate())) == 3  # and then ends


@pytest.mark.parametrize(("announced", "whole"), [(9, True), (10, True), (11, False)])
def test_a_large_video_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch, announced: int, whole: bool
) -> None:
    monkeypatch.setattr(cache, "WHOLE_VIDEO", 600)  # ten frames
    monkeypatch.setattr(cache, "OPEN_DECODER", 77)
    video = Video(9, announced)
    kept = in_memory(video)
    assert isinstance(kept, MemoryFrames) == whole == video.closed
    assert (kept is video) != whole
    assert bytes_of(kept) == (540 if whole else 77)


@pytest.mark.parametrize("count", [10, 11])
def test_a_video_that_announces_nothing_is_kept_as_far_as_it_is_small(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(cache, "WHOLE_VIDEO", 600)  # ten frames
    video = Video(count, announced=0)
    kept = in_memory(video)
    assert isinstance(kept, MemoryFrames) == (count == 10) and len(kept) == count


def test_values_go_when_the_bytes_exceed_the_limit() -> None:
    kept: ByteLimitedCache[str] = ByteLimitedCache(limit=6)
    made: list[str] = []

    def get(key: str, value: str) -> str:
        return kept.get(key, lambda: made.append(key) or value, len)

    assert [get("a", "xxx"), get("b", "yyy"), get("a", "other")] == ["xxx", "yyy", "xxx"]
    assert made == ["a", "b"] and kept.used == 6 and len(kept) == 2  # the limit itself is allowed
    get("c", "z")
    get("a", "xxx")
    get("b", "yyy")  # was the one unused for longest
    assert made == ["a", "b", "c", "b"]


def test_a_copy_in_another_process_starts_empty_with_the_same_limit() -> None:
    kept: ByteLimitedCache[str] = ByteLimitedCache(limit=6)
    kept.get("a", lambda: "xxxx", len)
    copy = pickle.loads(pickle.dumps(kept))
    assert (copy.limit, copy.used, len(copy)) == (6, 0, 0)
    assert copy.get("a", lambda: "yyyy", len) == "yyyy"
    assert kept.get("a", lambda: "other", len) == "xxxx"
