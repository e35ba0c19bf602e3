"""What a fault must come to: its exit code, one line that names it, and files as they were."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from aamn.cli.main import run


def contents(*paths: Path) -> dict[Path, str]:
    """A hash of every file of these files and folders."""
    files = [f for path in paths for f in ([path] if path.is_file() else path.rglob("*"))]
    return {f: hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}


@dataclass(frozen=True)
class Outcome:
    """What a call of the command came to."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error:")]


def called(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    """The command run in this process with these words."""
    capsys.readouterr()
    code = run([str(word) for word in words])
    out, err = capsys.readouterr()
    return Outcome(code, out, err)


def refused(
    capsys: pytest.CaptureFixture[str],
    words: tuple[object, ...],
    said: str,
    unchanged: tuple[Path, ...] = (),
    code: int = 2,
) -> Outcome:
    """A call that must end with `code` and say why in one line, which the pattern `said` fits;
    nothing in the files and folders `unchanged` may differ afterwards."""
    before = contents(*unchanged)
    found = called(capsys, *words)
    assert found.code == code, (found.code, found.err[-2000:])
    assert "Traceback" not in found.err
    lines = found.errors if code == 2 else found.err.splitlines()
    assert any(re.search(said, line) for line in lines), (said, found.err[-2000:])
    assert code != 2 or len(lines) == 1, lines
    assert contents(*unchanged) == before, "a refused call changed files"
    return found
