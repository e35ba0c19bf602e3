"""Whether results can be written where they shall be: found out before hours of work."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from tempfile import TemporaryFile

from proposals.asides import aside_of
from proposals.errors import InputError, cannot_write

_PROBE = bytes(1 << 12)


def check_output(path: Path, folder: bool = False) -> None:
    """Finds out, before hours of work, whether a file (a `folder` of files) can be written at
    `path`, whose parents need not be there; nothing is left behind.

    Raises:
        InputError: as `cannot_write`; a folder, or a device, is where a file is wanted, or a file
            where a folder is.
    """
    try:
        there = _mode(path)
        if there is not None and stat.S_ISDIR(there) != folder:
            raise OSError(errno.ENOTDIR if folder else errno.EISDIR, "")
        if there is not None and not folder and not stat.S_ISREG(there):
            raise InputError(f"cannot write {path}: it is no file; choose another name")
        _probe(path if folder else aside_of(path), folder)
    except OSError as error:
        raise cannot_write(path, error) from None


def _mode(path: Path) -> int | None:
    """What is at a path, as os.stat says it; None for nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _probe(path: Path, folder: bool) -> None:
    """Writes a little into the folder, or the nearest one above, under no name."""
    new = [path]
    while not new[-1].exists() and new[-1] != new[-1].parent:
        new.append(new[-1].parent)
    nearest = new.pop() if new[-1].exists() else Path()
    longest = os.pathconf(nearest, "PC_NAME_MAX")
    if any(len(os.fsencode(one.name)) > longest for one in new):
        raise OSError(errno.ENAMETOOLONG, "")
    with TemporaryFile(dir=nearest) as probe:
        probe.write(_PROBE)
