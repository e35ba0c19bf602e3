"""The videos that visitors have open. Each opened one has a token that nobody can guess: who does
not have it neither sees the video nor knows of it. Equal files share one index."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from aamn.index.file import SUFFIX, IndexFile
from aamn.index.video_index import VideoIndex
from aamn.predictor import VideoSegmenter
from aamn.web.indexing import Indexing
from aamn.web.limits import Limits
from aamn.web.pictures import Pictures
from proposals.decoding import Video
from proposals.errors import InputError
from proposals.frames import open_frames

WORKERS = 2  # indexes that are computed at once


class NotOpen(InputError):
    """No video is open under this token."""


@dataclass(frozen=True)
class Example:
    """A video that every visitor may open, and sentences to try on it."""

    video: Video
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Content:
    """What equal files share: their index, and the folder that goes when nobody has them open."""

    key: str
    work: Indexing
    place: Path | None = None


@dataclass
class OpenVideo:
    """A video that one visitor has open, with the sentences it suggests."""

    name: str
    content: Content
    suggestions: tuple[str, ...] = ()
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)  # one answer at a time

    @property
    def index(self) -> VideoIndex:
        """Raises:
        InputError: it is not ready.
        """
        if self.content.work.index is None:
            raise InputError(f"{self.name} is not indexed yet")
        return self.content.work.index

    @cached_property
    def pictures(self) -> Pictures:
        return Pictures(self.index.video(), len(self.index))

    def close(self) -> None:
        if "pictures" in self.__dict__:
            self.pictures.close()


class Videos:
    """Opens videos, indexes those that have no index yet, and closes them when they are not used;
    what visitors bring lies in `folder` as long as one has it open."""

    def __init__(
        self,
        segmenter: VideoSegmenter,
        folder: Path,
        limits: Limits,
        examples: Iterable[Example] = (),
        indexes: Iterable[IndexFile] = (),
    ) -> None:
        """`indexes` are there already, and serve whoever opens their videos."""
        self.segmenter, self.folder, self.limits = segmenter, folder, limits
        self.examples = tuple(examples)
        self.indexes: Mapping[Path, IndexFile] = {
            Path(index.header.path).resolve(): index for index in indexes
        }
        self._open: dict[str, OpenVideo] = {}
        self._contents: dict[str, Content] = {}
        self._lock = threading.RLock()
        self._workers = ThreadPoolExecutor(WORKERS, "indexing")

    def __len__(self) -> int:
        return len(self._open)

    def example(self, number: int) -> str:
        """Opens an example; its token.

        Raises:
            InputError: there is no such example, or too many videos are open.
        """
        if not 0 <= number < len(self.examples):
            raise InputError(f"there is no example {number}")
        video, sentences = self.examples[number].video, self.examples[number].sentences
        known = self.indexes.get(video.path.resolve())
        if known is not None:
            return self.of_index(known, sentences)
        path = self.folder / f"example-{number}{SUFFIX}"  # which stays for the next visitor
        content = self._content(f"example-{number}", lambda: self._built(video, path))
        return self._add(OpenVideo(video.path.name, content, sentences))

    def of_index(self, file: IndexFile, suggestions: tuple[str, ...] = ()) -> str:
        """Opens the video of an index that is there; its token.

        Raises:
            InputError: the index is damaged, another segmenter's or of a part of the video, or too
                many videos are open.
        """
        index = self.segmenter.read_index(file.path)
        held = index.header.selection
        if not held.whole:
            raise InputError(f"{index.video_id} is indexed in part ({held}); index it whole")
        content = Content(str(file.path), Indexing.finished(index))
        return self._add(OpenVideo(Path(index.header.path).name, content, suggestions))

    async def upload(self, name: str, chunks: AsyncIterator[bytes]) -> str:
        """Opens a video that a visitor brings, of which only the name's last part counts; its
        token. If an equal one is open, its index is there at once.

        Raises:
            InputError: it is too large, no video, or too many videos are open.
        """
        name = Path(name.replace("\\", "/")).name[:120] or "video"
        self._make_room()
        received = self.folder / f"upload-{secrets.token_hex(8)}"
        try:
            key = await self._receive(received, chunks)
            await asyncio.to_thread(self._check, received, name)
            with self._lock:
                return self._add(OpenVideo(name, self._of_upload(key, received, name)))
        finally:
            received.unlink(missing_ok=True)

    async def _receive(self, path: Path, chunks: AsyncIterator[bytes]) -> str:
        """Writes what comes; a hash of it."""
        digest, count = hashlib.sha256(), 0
        with path.open("wb") as file:
            async for chunk in chunks:
                count += len(chunk)
                self.limits.check_bytes(count)
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def _check(self, path: Path, name: str) -> None:
        try:
            with open_frames(path) as frames:
                self.limits.check_video(frames)
        except InputError as error:
            raise InputError(_by_name(str(error), path, name)) from None

    def _of_upload(self, key: str, received: Path, name: str) -> Content:
        """The content of a received file: that of an equal one that is open, or a new one."""
        if self._is_alive(key):
            return self._contents[key]
        place = Path(tempfile.mkdtemp(prefix="video-", dir=self.folder))
        video = Video(Path(name).stem or name, place / "video")
        received.replace(video.path)
        return self._content(key, lambda: self._built(video, place / f"index{SUFFIX}"), place)

    def _is_alive(self, key: str) -> bool:
        return key in self._contents and self._contents[key].work.state not in (
            "failed",
            "cancelled",
        )

    def _content(
        self, key: str, build: Callable[[], VideoIndex], place: Path | None = None
    ) -> Content:
        """The open content of this key; where there is none it is begun."""
        with self._lock:
            if not self._is_alive(key):
                work = Indexing(build, self.limits.check_frames)
                self._contents[key] = Content(key, work, place)
                work.start(self._workers)
            return self._contents[key]

    def _built(self, video: Video, path: Path) -> VideoIndex:
        try:
            self.segmenter.build(video, path)
        except InputError as error:
            raise InputError(_by_name(str(error), video.path, video.video_id)) from None
        return self.segmenter.read_index(path)

    def _add(self, video: OpenVideo) -> str:
        self._make_room()
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._open[token] = video
        return token

    def _make_room(self) -> None:
        """Raises:
        InputError: too many videos are open, all of them used a short while ago.
        """
        self.close_unused()
        if len(self._open) >= self.limits.videos:
            raise InputError("too many videos are open just now; try again in some minutes")

    def of(self, token: str) -> OpenVideo:
        """Raises:
        NotOpen: the token is unknown, or the video was closed.
        """
        video = self._open.get(token)
        if video is None:
            raise NotOpen("this video is not open any more; open it again")
        video.used = time.monotonic()
        return video

    def close(self, token: str) -> None:
        """Closes a video. When nobody else has it open, work on its index is given up, and what
        was brought is removed."""
        with self._lock:
            video = self._open.pop(token, None)
            if video is None:
                return
            content = video.content
            if any(other.content is content for other in self._open.values()):
                return
            if self._contents.get(content.key) is content:
                del self._contents[content.key]
        video.close()
        content.work.cancel()
        if content.place is not None:
            content.work.when_ended(lambda: shutil.rmtree(str(content.place), ignore_errors=True))

    def close_unused(self) -> None:
        """Closes the videos that nobody has used for a while."""
        oldest = time.monotonic() - 60 * self.limits.minutes
        for token in [token for token, video in self._open.items() if video.used < oldest]:
            self.close(token)

    def stop(self) -> None:
        """Closes everything; work that is going on ends after its next step."""
        for token in [*self._open]:
            self.close(token)
        self._workers.shutdown(cancel_futures=True)


def _by_name(line: str, path: Path, name: str) -> str:
    """An error's line with the visitor's name of a file, not the place it lies in."""
    return line.replace(str(path.resolve()), name).replace(str(path), name)
