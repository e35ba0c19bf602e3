"""What the operating system's errors mean, and which of them end a whole job."""

import errno
import os
from pathlib import Path

import pytest

from proposals.errors import CannotWrite, InputError, cannot_write

PATH = Path("x.h5")
ROOM = "no space left on the device; make room and run the same command again"


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), CannotWrite, ROOM),
        (OSError("No space left on device, said by a library"), CannotWrite, ROOM),
        (OSError(errno.EFBIG, "too big"), CannotWrite, ROOM),
        (OSError(errno.EROFS, "ro"), CannotWrite, "the file system is read-only; choose another"),
        (OSError(errno.EACCES, "no"), InputError, "permission denied; choose another place"),
        (OSError(errno.EISDIR, "dir"), InputError, "a folder is where a file is wanted; remove"),
        (OSError(errno.EIO, "Input/output\n error"), InputError, "Input/output error"),
        (OSError(), InputError, "OSError"),
    ],
    ids=str,
)
def test_an_error_is_one_line_and_a_full_disk_is_no_video_s_own_fault(error, kind, reason):
    found = cannot_write(PATH, error)
    assert type(found) is kind
    assert str(found).startswith(f"cannot write x.h5: {reason}") and "\n" not in str(found)
