"""The files that others are first written to: nobody can guess their names, so that no link waits
there, and what dead processes left of them is removed."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

_STRAY = re.compile(r"\..+\.([0-9a-f]{6})-(\d+)-[0-9a-f]{16}\.tmp[^/]*")
_swept: set[Path] = set()


def aside_of(path: Path, suffix: str = "") -> Path:
    """A hidden name beside `path` that says which process writes there."""
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{token_hex(8)}.tmp{suffix}")


def claim(aside: Path) -> None:
    """Makes the empty file, of an age that tells whether it is ever written to; it is not one that
    was there, nor what a link leads to. Sweeps its folder when this process first writes there.

    Raises:
        OSError: it cannot be made.
    """
    _sweep_dead(aside.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(aside, flags, 0o666))
    os.utime(aside, ns=(0, 0))


def check_written(aside: Path) -> None:
    """Raises FileNotFoundError where nobody wrote to the file."""
    if not aside.stat().st_mtime_ns:
        raise FileNotFoundError(errno.ENOENT, "nothing was written to", str(aside))


def _machine() -> str:
    """Six hexadecimal digits of what numbers this process: the machine, or its container."""
    with suppress(OSError):
        return hashlib.sha256(
            f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}".encode()
        ).hexdigest()[:6]
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]


def _sweep_dead(folder: Path) -> None:
    """Removes the asides of this machine's dead processes."""
    if folder in _swept:
        return
    _swept.add(folder)
    own = _machine()
    with os.scandir(folder) as entries:
        found = [(entry.path, _STRAY.fullmatch(entry.name)) for entry in entries]
    for path, name in found:
        if name and name[1] == own and not _alive(int(name[2])):
            with suppress(OSError):
                os.unlink(path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
