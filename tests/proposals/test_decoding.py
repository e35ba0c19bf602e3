"""Decoding: what a video gives, in which chunks, and what is said of one that breaks."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proposals import decoding
from proposals.decoding import Chunk, Finished, Video, decode, decode_ahead
from proposals.errors import InputError
from proposals.frames import FrameSource


class Broken(FrameSource):
    """Grey frames 0, 1, 2, ..., whose decoder raises at one of them."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error = count, error
        self.path, self.size, self.fps = Path("b.mp4"), (4, 6), 25.0
        self.announced, self.closed = 99, False

    def __len__(self) -> int:
        return self.count

    def _frame(self, index: int) -> np.ndarray | None:
        if index < self.count:
            return np.full((*self.size, 3), index, np.uint8)
        if self.error:
            raise self.error
        return None

    def close(self) -> None:
        self.closed = True


def events_of(monkeypatch, source: FrameSource) -> tuple[list[np.ndarray], Finished]:
    """The chunks and the end of a video that is read from `source`."""
    monkeypatch.setattr(decoding, "open_frames", lambda _: source)
    video = Video("b", source.path)
    *chunks, end = decode(video)
    assert all(isinstance(chunk, Chunk) and chunk.video == video for chunk in chunks)
    assert isinstance(end, Finished) and end.video == video and source.closed
    return [chunk.frames for chunk in chunks], end


@pytest.mark.parametrize(
    ("count", "lengths"),
    [(1, [1]), (15, [15]), (16, [16]), (17, [16, 1]), (35, [16, 16, 3])],
)
def test_chunks_are_all_frames_in_order(monkeypatch, count, lengths):
    chunks, end = events_of(monkeypatch, Broken(count))
    assert [len(chunk) for chunk in chunks] == lengths
    assert np.concatenate(chunks)[:, 0, 0, 0].tolist() == list(range(count))
    assert (end.announced, end.error) == (99, "")


@pytest.mark.parametrize(("room", "longest"), [(5 * 72, 5), (6 * 72 - 1, 5), (71, 1), (1, 1)])
def test_chunks_of_large_frames_are_short(monkeypatch, room, longest):
    """A frame of 4 x 6 pixels has 72 bytes."""
    monkeypatch.setattr(decoding, "_CHUNK_BYTES", room)
    chunks, _ = events_of(monkeypatch, Broken(11))
    assert max(len(chunk) for chunk in chunks) == len(chunks[0]) == longest
    assert np.concatenate(chunks)[:, 0, 0, 0].tolist() == list(range(11))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("bad macroblock"), ("b.mp4", "RuntimeError", "bad macroblock")),
        (MemoryError(), ("b.mp4", "MemoryError")),
        (InputError("b.mp4: frame 20 is wrong"), ("b.mp4: frame 20 is wrong",)),
    ],
)
def test_a_decoder_that_raises_is_a_failure_not_the_video_s_end(monkeypatch, error, words):
    _, end = events_of(monkeypatch, Broken(20, error))
    assert all(word in end.error for word in words)


def test_a_video_that_cannot_be_opened_is_named(tmp_path):
    (end,) = decode(Video("x", tmp_path / "x.mp4"))
    assert str(tmp_path / "x.mp4") in end.error and end.video.video_id == "x"


@pytest.fixture
def folders(tmp_path) -> list[Video]:
    """Videos of n + 1 images; the colour is the video's and the frame's number."""
    videos = []
    for number in range(5):
        folder = tmp_path / f"v{number}"
        folder.mkdir()
        for frame in range(number + 1):
            Image.new("RGB", (6, 4), (number, frame, 0)).save(folder / f"{frame}.png")
        videos.append(Video(folder.name, folder))
    return videos


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_videos_come_in_the_given_order_from_any_number_of_processes(folders, processes):
    got = []
    for event in decode_ahead(folders, processes):
        if isinstance(event, Chunk):
            got += [(event.video.video_id, *frame[0, 0, :2].tolist()) for frame in event.frames]
        else:
            got.append((event.video.video_id, event.error))
    wanted = []
    for n in range(5):
        wanted += [*((f"v{n}", n, f) for f in range(n + 1)), (f"v{n}", "")]
    assert got == wanted


@pytest.fixture
def started(monkeypatch) -> list[subprocess.Popen]:
    """The processes that decoding starts."""
    processes, real = [], subprocess.Popen

    def start(*words, **options):
        processes.append(real(*words, **options))
        return processes[-1]

    monkeypatch.setattr(decoding.subprocess, "Popen", start)
    return processes


def test_no_decoding_process_outlives_its_job(folders, started):
    events = decode_ahead(folders, 2)
    next(events)
    events.close()
    assert len(started) == 2 and all(process.poll() is not None for process in started)


def test_there_are_no_more_processes_than_videos(folders, started):
    assert len(list(decode_ahead(folders[:1], 4))) == 2
    assert list(decode_ahead([], 4)) == []
    assert len(started) == 1
