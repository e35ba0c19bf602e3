"""Files that are there whole or not at all: written under another name and then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which becomes `path` when the block ends well; after an
    error the unfinished file is removed and what was at `path` before is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def rename_durably(aside: Path, path: Path) -> None:
    """Gives a finished file its name once its content, and then the name, is on the disk.

    Raises:
        OSError: the disk is full or read-only.
    """
    with aside.open("rb+") as written:
        os.fsync(written.fileno())
    os.replace(aside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, a line a value."""
    write_text(path, json.dumps(content, indent=1))
