"""Decoding ahead of the detector, in processes of their own: a broken codec takes one video down,
not the job."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from proposals.errors import InputError
from proposals.frames import open_frames

_CHUNK_BYTES = 32 << 20  # frames travel in chunks of about this size
_CHUNK_FRAMES = 16
_AHEAD = 3  # chunks that wait for the detector, a process


@dataclass(frozen=True)
class Video:
    """A video file or folder of images, and the id its boxes are stored under."""

    video_id: str
    path: Path

    @classmethod
    def at(cls, path: Path | str, video_id: str = "") -> Video:
        """The video at a path; its id is its name without the suffix where none is given."""
        path = Path(path)
        return cls(video_id or (path.name if path.is_dir() else path.stem), path)


@dataclass(frozen=True)
class Chunk:
    """Some frames (n, H0, W0, 3) uint8 of a video, in order."""

    video: Video
    frames: np.ndarray


@dataclass(frozen=True)
class Finished:
    """A video's end: its header promised `announced` frames; `error` says why it failed, `lacking`
    what cannot be decoded of one that did not, or ""."""

    video: Video
    announced: int = 0
    error: str = ""
    lacking: str = ""


Event = Chunk | Finished


def decode(video: Video) -> Iterator[Event]:
    """A video's frames in chunks, then its end."""
    try:
        with open_frames(video.path) as source:
            size = 3 * source.size[0] * source.size[1]
            longest = max(1, min(_CHUNK_FRAMES, _CHUNK_BYTES // size))
            waiting: list[np.ndarray] = []
            for frame in source.iterate():
                waiting.append(frame)
                if len(waiting) == longest:
                    yield Chunk(video, np.stack(waiting))
                    waiting = []
            if waiting:
                yield Chunk(video, np.stack(waiting))
            yield Finished(video, source.announced, lacking=source.lacking())
    except InputError as error:
        yield Finished(video, error=str(error))
    except Exception as error:  # whatever a damaged file provokes is this video's failure
        yield Finished(video, error=f"{video.path}: {type(error).__name__} {error}")


def decode_ahead(videos: Sequence[Video], processes: int) -> Generator[Event, None, None]:
    """All videos' frames, video after video in the given order, whatever the number of processes;
    0 decodes in this one."""
    if processes == 0:
        for video in videos:
            yield from decode(video)
        return
    readers = [_Reader(list(videos[n::processes])) for n in range(min(processes, len(videos)))]
    try:
        for place in range(len(videos)):
            yield from readers[place % len(readers)].next_video()
    finally:
        for reader in readers:
            reader.stop()


class _Reader:
    """Some of the videos, decoded by one process, which is started again when it dies."""

    def __init__(self, videos: list[Video]) -> None:
        self._videos = videos
        self._start()

    def _start(self) -> None:
        receiver, sender = Pipe(duplex=False)
        command = [sys.executable, "-c", "from proposals.decoding import serve; serve()"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)}
        self._process = subprocess.Popen(
            [*command, str(sender.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[sender.fileno()],
            env=environment,
        )
        sender.close()
        self._ready: queue.Queue[Event | None] = queue.Queue(_AHEAD)
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._receive, args=(receiver, self._ready), daemon=True
        )
        self._thread.start()
        # a process that dies at once is noticed when its first video is asked for
        assert self._process.stdin is not None  # for type checkers: it is a pipe
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pickle.dump(self._videos, pipe)

    def _receive(self, receiver: Connection, ready: queue.Queue[Event | None]) -> None:
        """Takes what the process sends until it ends, waiting while the queue is full."""
        with receiver:
            while not self._stopping.is_set():
                try:
                    event = receiver.recv()
                except (EOFError, OSError):
                    event = None
                ready.put(event)
                if event is None:
                    return

    def next_video(self) -> Iterator[Event]:
        """The events of this reader's next video."""
        video = self._videos.pop(0)
        while True:
            event = self._ready.get()
            if event is None:
                code = self._process.wait()
                if self._videos:
                    self._start()
                event = Finished(video, error=f"{video.path}: the decoder died (exit code {code})")
            yield event
            if isinstance(event, Finished):
                return

    def stop(self) -> None:
        self._stopping.set()
        self._process.kill()
        self._process.wait()
        while self._thread.is_alive():  # it may wait for room in the queue
            with contextlib.suppress(queue.Empty):
                self._ready.get(timeout=0.01)


def serve() -> None:
    """The process's side: reads the videos from stdin, writes events to the pipe it was given."""
    videos = pickle.load(sys.stdin.buffer)
    with Connection(int(sys.argv[-1]), readable=False) as sender:
        try:
            for video in videos:
                for event in decode(video):
                    sender.send(event)
        except BrokenPipeError:
            sys.exit(1)  # the job is gone
