"""The wall between the two stages, its writing side (contract: FORMAT.md).

A writer puts each finished video into a small file of its own beside the target, complete before
it gets its name, and joins them into the target at the end, which is also written aside and then
renamed. So whatever kills the job, a video is either there as a whole or not at all.
"""

from __future__ import annotations

import errno
import io
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from proposals.errors import CannotWrite, InputError, cannot_write
from proposals.files import hdf5_aside, locked, sweep, written_aside
from proposals.identity import Identity, is_outdated
from proposals.store import (
    ARRAYS,
    CHECKSUMS,
    FORMAT,
    PARTS,
    VERSION,
    Attributes,
    ProposalStore,
    Setting,
    StoredFile,
    StoredVideo,
    part_path,
    parts_of,
    written_files,
)
from proposals.store_validation import validated

_MARGIN = 1 << 20  # bytes that joining needs beyond the boxes themselves


def write_proposals(
    path: Path | str,
    detector: str,
    weights: str = "",
    classes: Sequence[str] = (),
    settings: Mapping[str, Setting] | None = None,
    fresh: bool = False,
) -> ProposalWriter:
    """A writer of `path`; what is there already, from the same detector, is kept, or if `fresh`
    removed.

    Raises:
        InputError: as `ProposalWriter`.
    """
    attributes = Attributes(detector, weights, tuple(classes), dict(settings or {}))
    return ProposalWriter(Path(path), attributes, fresh)


class ProposalWriter:
    """Adds videos to a proposals file, each of them whole or not at all; one process at a time.

    Used as a context manager: leaving it joins the new videos with the file's; leaving it by an
    exception keeps them for the next writer of the same file.
    """

    def __init__(self, path: Path, attributes: Attributes, fresh: bool = False) -> None:
        """Raises:
        InputError: another process writes here, the file is of another detector, or its name
            does not end in .h5.
        """
        if path.suffix != ".h5":
            raise InputError(f"{path}: wanted a proposals file's name to end in .h5")
        self.path = path
        self.attributes = attributes
        self._parts = parts_of(path)
        self._held = ExitStack()
        advice = "wait for it, or give each worker a --shard"
        self._held.enter_context(locked(self._parts / "lock", path, advice))
        self._open = True
        self._known: dict[str, Identity | None] = {}
        try:
            self._done = self._resume(fresh)
        except BaseException:
            self._release()
            raise

    def _resume(self, fresh: bool) -> set[str]:
        """What is there already; half-written files of a killed writer are swept away."""
        sweep(self.path)
        half_written = [*self._parts.glob(".*.tmp")]
        for stray in [*half_written, *(written_files(self.path) if fresh else [])]:
            stray.unlink(missing_ok=True)
        files = [StoredFile(path) for path in written_files(self.path)]
        if not files:
            return set()
        difference = files[0].attributes.difference(self.attributes)
        if difference:
            raise InputError(
                f"{self.path} was made by another detector than this run's ({difference}); choose"
                " another --out, or remove the file and its .parts folder"
            )
        store = ProposalStore(self.path, files)
        self._known = {video_id: store.identity(video_id) for video_id in store.video_ids}
        return set(store.video_ids)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._done

    def holds(self, video_id: str, identity: Identity, replace: bool = False) -> bool:
        """Whether this very video is there. Another one of its id whose place it has taken, or
        with `replace` any other, is forgotten, so that `add` can store it anew.

        Raises:
            InputError: another video of its id is, and lies where it lay.
        """
        if video_id not in self._done:
            return False
        if is_outdated(self._known[video_id], identity, self.path, repr(video_id), replace):
            self._done.remove(video_id)
        return video_id in self._done

    def add(
        self,
        video_id: str,
        boxes: Sequence[np.ndarray],
        scores: Sequence[np.ndarray],
        labels: Sequence[np.ndarray],
        frame_size: tuple[int, int],
        identity: Identity | None = None,
    ) -> None:
        """Stores a video, durably: one array a frame, boxes (n, 4) xyxy in pixels of the original
        frame of `frame_size` (H0, W0), scores (n,) falling, labels (n,) integers. With `identity`
        (`identity_of` its file) they are never taken for another video's of the same id.

        Raises:
            InputError: a value that breaks the contract (names video, frame and box), a video
                that is there already, a full disk.
        """
        if video_id in self._done:
            raise InputError(
                f"{self.path} already holds the video {video_id!r};"
                " skip it with `if video_id in store`"
            )
        try:
            classes = self.attributes.classes
            video = validated(video_id, boxes, scores, labels, frame_size, classes, identity)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            _write_file(file, self.attributes, [video])
        part = part_path(self.path, video_id)
        with self._room(), written_aside(part, durable=True) as aside:
            aside.write_bytes(content.getbuffer())
        self._done.add(video_id)

    def close(self) -> None:
        """Joins the file and the new videos into one file, in order of their ids."""
        if not self._open:
            return
        paths = written_files(self.path)
        files = [StoredFile(path) for path in paths]
        if paths != [self.path]:
            sources = ProposalStore(self.path, files) if files else None
            with self._room():
                self._join(sources)
        for file in files:
            file.close()
        for part in self._parts.glob("*.h5"):
            part.unlink()
        self._release()

    def _join(self, sources: ProposalStore | None) -> None:
        located = [sources.locate(video_id) for video_id in sources.video_ids] if sources else []
        needed = sum(_stored_bytes(file, row) for file, row in located) + _MARGIN
        if shutil.disk_usage(self.path.parent).free < needed:
            raise cannot_write(self.path, OSError(errno.ENOSPC, "no space left"))
        with hdf5_aside(self.path) as file:
            _write_joined(file, self.attributes, located)

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Says of a full disk what it has not cost."""
        try:
            yield
        except CannotWrite as error:
            raise CannotWrite(f"{error} ({len(self._done)} videos are kept)") from None

    def _release(self) -> None:
        """Lets go of the file; what was added and not joined stays for its next writer."""
        if not self._open:
            return
        self._open = False
        self._held.close()
        with suppress(OSError):  # not empty: the parts wait for the next writer
            self._parts.rmdir()

    def __enter__(self) -> ProposalWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self._release()


def _write_file(file: h5py.File, attributes: Attributes, videos: Sequence[StoredVideo]) -> None:
    """One file of the contract from videos in memory."""
    counts = np.concatenate([np.zeros(0, np.int64), *(video.counts for video in videos)])
    _write_index(
        file,
        attributes,
        [video.video_id for video in videos],
        [video.frame_size for video in videos],
        [video.identity for video in videos],
        [len(video.counts) for video in videos],
        counts,
    )
    _write_boxes(file, videos)


def _write_joined(
    file: h5py.File, attributes: Attributes, located: Sequence[tuple[StoredFile, int]]
) -> None:
    """One file of the contract from videos in other files, copied one after the other."""
    counts = [
        np.diff(source.frame_starts[source.video_starts[row] : source.video_starts[row + 1] + 1])
        for source, row in located
    ]
    _write_index(
        file,
        attributes,
        [source.video_ids[row] for source, row in located],
        [source.frame_sizes[row] for source, row in located],
        [source.identities[row] for source, row in located],
        [len(part) for part in counts],
        np.concatenate([np.zeros(0, np.int64), *counts]),
    )
    _write_boxes(file, (_taken(source, row) for source, row in located))


def _taken(source: StoredFile, row: int) -> StoredVideo:
    """A video to be copied; thousands of parts must not stay open."""
    video = source.video(row)
    if source.path.parent.suffix == PARTS:
        source.close()
    return video


def _write_boxes(file: h5py.File, videos: Iterable[StoredVideo]) -> None:
    start, checksums = 0, []
    for video in videos:
        stop = start + len(video.scores)
        for name in ARRAYS:
            file[name][start:stop] = getattr(video, name)
        checksums.append(video.checksum)
        start = stop
    file.create_dataset(CHECKSUMS, data=np.array(checksums, np.uint32))


def _write_index(
    file: h5py.File,
    attributes: Attributes,
    video_ids: Sequence[str],
    frame_sizes: Sequence[Any],
    identities: Sequence[Identity | None],
    frames: Sequence[int],
    counts: np.ndarray,
) -> None:
    """Everything but the boxes, whose arrays are made, in a layout that has no time stamps."""
    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    file.attrs["attributes"] = attributes.to_json()
    file.create_dataset("video_ids", data=_texts(video_ids))
    known = [one.to_json() if one else "" for one in identities]
    if any(known):
        file.create_dataset("identities", data=_texts(known))
    sizes = np.asarray(frame_sizes, np.int32).reshape(-1, 2)
    file.create_dataset("frame_size", data=sizes)
    file.create_dataset("video_starts", data=np.cumsum([0, *frames], dtype=np.int64))
    file.create_dataset("frame_starts", data=np.cumsum([0, *counts], dtype=np.int64))
    total = int(counts.sum())
    file.create_dataset("boxes", (total, 4), np.float32)
    file.create_dataset("scores", (total,), np.float32)
    file.create_dataset("labels", (total,), np.int32)


def _texts(texts: Sequence[str]) -> np.ndarray:
    """UTF-8 of one length."""
    encoded = [text.encode() for text in texts]
    width = max([1, *map(len, encoded)])
    return np.array(encoded, h5py.string_dtype("utf-8", width))


def _stored_bytes(file: StoredFile, row: int) -> int:
    first, last = file.video_starts[row : row + 2]
    boxes = int(file.frame_starts[last] - file.frame_starts[first])
    return 24 * boxes + 8 * int(last - first) + 1024
