"""Every file the project writes is there whole or not at all: written under another name, then
renamed. One way to do that, to keep two processes apart, to name a file after a video, and to open
HDF5."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import unquote

import h5py
from filelock import FileLock, Timeout

from proposals.errors import InputError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PATIENCE = 0.2  # seconds that a lock is waited for: its file may just be going away


@contextmanager
def written_aside(path: Path, durable: bool = False, suffix: str = "") -> Iterator[Path]:
    """A new file beside `path` to write to, which becomes `path` when the block ends well; after an
    error it is removed and what was at `path` before is still there.

    Args:
        durable: content and name are on the disk when the block has ended, whatever happens then.
        suffix: of the name to write to, where the writer goes by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{token_hex(4)}.tmp{suffix}")  # nobody can guess it
    try:
        yield aside
        if durable:
            _sync(aside, os.O_RDWR)
        os.replace(aside, path)
        if durable:
            _sync(path.parent, os.O_RDONLY)
    finally:
        aside.unlink(missing_ok=True)


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
    """The rows of a CSV.

    Raises:
        InputError: as `read_text`, or it is no CSV.
        OSError: it cannot be read.
    """
    try:
        return list(csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise InputError(f"{path} is no CSV ({error})") from None


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, a line a value."""
    write_text(path, json.dumps(content, indent=1))


@contextmanager
def hdf5_aside(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file that takes the name `path`, durably, when the block ends well.

    Raises:
        OSError: the disk is full or read-only; `cannot_write` says so in one line.
    """
    with written_aside(path, durable=True) as aside, h5py.File(aside, "w", locking=False) as file:
        yield file
        file.close()  # before it gets its name


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


def cannot_write(path: Path, error: OSError) -> InputError:
    """A full or read-only disk as one line."""
    full = error.errno in _NO_ROOM or "No space left" in str(error)
    reason = "no space left on the device" if full else " ".join(str(error).split())
    return InputError(f"cannot write {path}: {reason}; make room and run the same command again")


@contextmanager
def locked(lock: Path, target: Path, advice: str = "wait for it") -> Iterator[None]:
    """Holds the lock file `lock` of `target`, which is removed at the end, against other processes.

    Raises:
        InputError: another process holds it (named in it), or it cannot be written.
    """
    held = FileLock(lock, timeout=_PATIENCE)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout:
        raise InputError(f"{target} is being written by {_holder(lock)}; {advice}") from None
    except OSError as error:
        raise cannot_write(target, error) from None
    try:
        try:
            lock.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        except OSError as error:
            raise cannot_write(target, error) from None
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        held.release()


def _holder(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"


def escaped(video_id: str) -> str:
    """A video's id as one name in a folder or an HDF5 file."""
    return video_id.replace("%", "%25").replace("/", "%2F")


def unescaped(name: str) -> str:
    """The inverse of `escaped`."""
    return unquote(name)
