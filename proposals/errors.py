"""The one exception for a user's mistake, shared by both stages; and what the operating system's
errors mean, as such lines."""

from __future__ import annotations

import errno
from pathlib import Path

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ROOM = "no space left on the device; make room and run the same command again"
_PERMISSION = "permission denied; choose another place, or change who may write there"
_FOLDER = "a file is where a folder is wanted; remove it or choose another place"
REASONS = {  # what an error of the operating system means, and what to do
    **dict.fromkeys(_NO_ROOM, _ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM), _PERMISSION),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), _FOLDER),
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EISDIR: "a folder is where a file is wanted; remove it or choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


class InputError(ValueError):
    """Something the user gave cannot be used: the message is one line that names the file, video
    or key, says what was wanted and what to do. Programs print it and exit with code 2."""


class CannotWrite(InputError):
    """The disk is full or read-only: nothing else that a job writes there would fare better."""


class Busy(InputError):
    """Another process, which the message names, writes the same thing just now."""


def reason_of(error: OSError) -> str:
    """What an error of the operating system means, and what to do about it, in one line."""
    if "No space left" in str(error):
        return _ROOM
    reason = error.strerror or str(error) or type(error).__name__
    return REASONS.get(error.errno or 0, " ".join(reason.split()))


def cannot_write(path: Path, error: OSError) -> InputError:
    """Why `path` cannot be written, as one line; CannotWrite for a full or read-only disk."""
    reason = reason_of(error)
    hopeless = reason == _ROOM or error.errno == errno.EROFS
    return (CannotWrite if hopeless else InputError)(f"cannot write {path}: {reason}")
