"""Every file the project writes is there whole or not at all: written under another name, then
renamed. One way to do that, to say what kept a file from being written, to keep two processes
apart, to name a file after a video, and to open HDF5."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import h5py
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from proposals.asides import aside_of, check_written, claim
from proposals.errors import Busy, InputError, cannot_write

log = logging.getLogger("proposals")

_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}
_PATIENCE = 0.2  # seconds that a lock is waited for: its file may just be going away
FOR_EVER = -1.0  # a patience


@contextmanager
def written_aside(path: Path, durable: bool = False, suffix: str = "") -> Iterator[Path]:
    """A new file beside `path` to write to, which becomes `path` when the block ends well; after an
    error it is removed and what was at `path` before is still there.

    Args:
        durable: content and name are on the disk when the block has ended, whatever happens then.
        suffix: of the name to write to, where the writer goes by it.

    Raises:
        InputError: as `cannot_write`.
    """
    aside = aside_of(path, suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        claim(aside)
        yield aside
        check_written(aside)
        if durable:
            _sync(aside, os.O_RDWR)
        os.replace(aside, path)
        if durable:
            _sync(path.parent, os.O_RDONLY)
    except OSError as error:
        if not _concerns(error, aside, path):
            raise
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _concerns(error: OSError, *paths: Path) -> bool:
    """Whether an error is about one of these, or a folder they are in, and not about a file that
    was read meanwhile."""
    if error.filename is None:
        return error.errno is not None
    return any(Path(error.filename) in (path, *path.parents) for path in paths)


class _Sink(io.FileIO):
    """A file to write to that takes a full disk without a word: libraries in C crash when they
    cannot close what they have begun. `check` raises it."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        with self._noticed():
            while self.error is None and len(rest):
                rest = rest[super().write(rest) :]
        return size

    def truncate(self, size: int | None = None) -> int:
        with self._noticed():
            return super().truncate(size)
        return size or 0

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error

    def check(self) -> None:
        if self.error is not None:
            raise self.error


@contextmanager
def binary_aside(path: Path, durable: bool = False) -> Iterator[_Sink]:
    """`written_aside` for a writer in C that takes an open file.

    Raises:
        InputError: as `cannot_write`, when the block ends.
    """
    with written_aside(path, durable) as aside, _Sink(aside, "w+") as sink:
        try:
            yield sink
        finally:
            sink.check()  # in place of what it led to
        sink.flush()


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(path: Path) -> None:
    """Removes what killed writers of `path` have left beside it; only for who holds its lock."""
    for stray in path.parent.glob(f".{escape(path.name)}.*.tmp*"):
        stray.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """UTF-8 text, without the byte order mark that it may begin with; line ends as they are.

    Raises:
        InputError: it is no UTF-8, or holds a NUL, which would hide in a name.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: no UTF-8; save the file as UTF-8 text") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{path}, line {line}: holds a NUL; save the file as UTF-8 text")
    return text


def read_rows(path: Path, delimiter: str = ",") -> list[list[str]]:
    """The rows of a CSV; raises as `numbered_csv`."""
    return [row for _, row in numbered_csv(path, delimiter)]


def numbered_csv(path: Path, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """The rows of a CSV with the numbers of their lines in the file.

    Raises:
        InputError: as `read_text`, or it is no CSV.
        OSError: it cannot be read.
    """
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter)
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path} is no CSV ({error})") from None


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Writes UTF-8 text."""
    with written_aside(path, durable) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, durable: bool = False) -> None:
    """Writes JSON, a line a value."""
    write_text(path, json.dumps(content, indent=1), durable)


def file_hash(path: Path) -> str:
    """A file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class _Hdf5(h5py.File):
    """A new HDF5 file whose writer learns of a full disk when it next takes a part of it."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__(sink, "w")
        self._sink = sink

    def __getitem__(self, name: Any) -> Any:
        self._sink.check()
        return super().__getitem__(name)


@contextmanager
def hdf5_aside(path: Path, durable: bool = True) -> Iterator[h5py.File]:
    """A new HDF5 file that takes the name `path`, durably, when the block ends well.

    Raises:
        InputError: as `cannot_write`.
    """
    with binary_aside(path, durable) as sink, _Hdf5(sink) as file:
        yield file


def open_hdf5(path: Path, kind: str, advice: str) -> h5py.File:
    """An HDF5 file to read.

    Args:
        kind: what the file should be, such as "index", and
        advice: what to do where it is not, for the error's line.

    Raises:
        InputError: no such file, or one that is no HDF5.
    """
    try:
        return h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise InputError(f"no {kind} at {path}; {advice}") from None
    except OSError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is no {kind}, or a damaged one ({reason}); {advice}") from None


@contextmanager
def locked(
    lock: Path, target: Path, advice: str = "wait for it", patience: float = _PATIENCE
) -> Iterator[None]:
    """Holds the lock file `lock` of `target`, which is removed at the end, against other processes.
    Where the file system has no locks a file with the process's number stands in.

    Args:
        patience: seconds to wait for another process, or FOR_EVER.

    Raises:
        Busy: another process holds it (named in it).
        InputError: it cannot be written.
    """
    if lock.is_symlink():
        raise InputError(f"{lock} is a link, wanted a lock file; remove it")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = _acquired(lock, target, patience)
    except Timeout as error:
        by = _holder(Path(error.lock_file))
        raise Busy(f"{target} is being written by {by}; {advice}") from None
    except OSError as error:
        raise cannot_write(target, error) from None
    try:
        yield
    finally:
        try:
            with suppress(OSError):
                lock.unlink()
        finally:
            held.release()


def _acquired(lock: Path, target: Path, patience: float) -> BaseFileLock:
    held: BaseFileLock = FileLock(lock, timeout=patience, fallback_to_soft=False)
    try:
        held.acquire()
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning(
            "%s: no file locks here (%s); a file beside it stands in, which a process that dies "
            "on another machine leaves behind",
            target,
            error.strerror,
        )
        held = SoftFileLock(lock.with_name(f"{lock.name}.soft"), timeout=patience)
        held.acquire()
        return held
    try:
        lock.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
    except OSError:
        lock.unlink(missing_ok=True)
        held.release()
        raise
    return held


def _holder(lock: Path) -> str:
    """The process that a lock file names, as filelock's own do, by its number and machine."""
    with suppress(OSError, UnicodeDecodeError):
        lines = lock.read_text(encoding="utf-8").split("\n")
        if len(lines) > 1 and lines[0].isdecimal():
            return f"process {lines[0]} on {lines[1]} ({lock})"
    return f"another process ({lock})"


def escaped(video_id: str) -> str:
    """A video's id, whatever it holds, as one visible name in a folder or an HDF5 file.

    Raises:
        InputError: the id is empty.
    """
    if not video_id:
        raise InputError("a video's id is empty; give it one")
    name = "".join(
        c if c.isprintable() and c not in "%/" else quote(c, safe="", errors="surrogatepass")
        for c in video_id
    )
    return name if name[0] != "." else f"%2E{name[1:]}"


def unescaped(name: str) -> str:
    """The inverse of `escaped`."""
    return unquote(name, errors="surrogatepass")


def inside(folder: Path, *names: str) -> Path:
    """The path of files whose names others chose, such as a data set's ids, below `folder`.

    Raises:
        InputError: a name that is none of one file: empty, "..", or with "/" or a NUL in it.
    """
    for name in names:
        if name in ("", ".", "..") or not {*name}.isdisjoint("/\\\0"):
            raise InputError(f"{folder}: wanted the name of a file or folder in it, got {name!r}")
    return folder.joinpath(*names)
