"""The folder of a run: one process at a time writes it, and an earlier run stays there whole until
the one that takes its place has a checkpoint."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proposals.files import locked
from proposals.outputs import check_output

CONFIG, LOG, BEST, LAST = "config.yaml", "log.jsonl", "best.pt", "last.pt"


class RunFolder:
    """Where a run's files are written: `path` is `out`, or, as long as a run that begins anew has
    no checkpoint, a folder inside it."""

    def __init__(self, out: Path, anew: bool = False) -> None:
        self.out = out
        self.path = _beside(out) if anew else out

    def settle(self) -> None:
        """The run has a checkpoint: it takes the place of the earlier one."""
        if self.path != self.out:
            _settle(self.out)
            self.path = self.out


@contextmanager
def run_folder(out: Path, restart: bool) -> Iterator[RunFolder]:
    """The folder of a run for the one process that writes it.

    Args:
        restart: an earlier run there is to be replaced.

    Raises:
        InputError: it cannot be written, or another process trains there (named in it).
    """
    for name in (CONFIG, LOG, BEST, LAST):
        check_output(out / name)
    with locked(out / ".lock", out, "wait for it, or choose another --out"):
        _settle(out)
        yield RunFolder(out, restart and (out / LAST).is_file())


def _beside(out: Path) -> Path:
    return out / ".restarted"


def _settle(out: Path) -> None:
    """Moves a run that was begun anew to its place, where it has a checkpoint, else removes it.
    Whatever ends this on its way, the next call goes on with it."""
    new = _beside(out)
    if (new / LAST).exists():
        if (new / CONFIG).exists():  # nothing was moved yet: what is there is the earlier run's
            (out / BEST).unlink(missing_ok=True)
        for name in (CONFIG, LOG, BEST, LAST):
            if (new / name).exists():
                os.replace(new / name, out / name)
    shutil.rmtree(new, ignore_errors=True)
