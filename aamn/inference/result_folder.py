"""A result folder holds one run: what an earlier one of ours left there goes when the new one is
whole, and what is the user's own stays."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from proposals.files import locked, write_json

log = logging.getLogger("aamn")

RECORD = "run.json"  # lists the files of a run, itself left out


@contextmanager
def one_run(folder: Path) -> Iterator[Path]:
    """A new folder to write a run into, and into its RECORD what there is to say of it; when the
    block of code is left without an error, what it holds moves into `folder`, and what an earlier
    run's record lists is gone.

    Raises:
        InputError: another process writes there.
    """
    with locked(folder / ".run.lock", folder, "wait for it, or choose another --out"):
        for stray in folder.glob(".run.*.tmp"):
            shutil.rmtree(stray)
        aside = folder / f".run.{token_hex(4)}.tmp"
        aside.mkdir()
        try:
            yield aside
            _replace(folder, aside)
        finally:
            shutil.rmtree(aside)


def _replace(folder: Path, aside: Path) -> None:
    """Whenever this is interrupted, the record lists all files of both runs that are there."""
    record = _read(aside / RECORD)
    new = sorted(str(p.relative_to(aside)) for p in aside.rglob("*") if p.is_file())
    new = [name for name in new if name != RECORD]
    old = _listed(folder)
    write_json(folder / RECORD, {**record, "files": [*new, *sorted({*old} - {*new})]})
    for name in old - {*new}:
        _remove(folder, folder / name)
    for name in new:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (aside / name).replace(folder / name)
    write_json(folder / RECORD, {**record, "files": new})
    _tell_strangers(folder, new)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _listed(folder: Path) -> set[str]:
    """The files of an earlier run; names that lead out of the folder are nobody's."""
    files = _read(folder / RECORD).get("files", [])
    names = {name for name in files if isinstance(name, str)} if isinstance(files, list) else set()
    whole = folder.resolve()
    return {n for n in names if n and (folder / n).parent.resolve().is_relative_to(whole)}


def _remove(folder: Path, file: Path) -> None:
    """A file, and the folders that it leaves empty."""
    with suppress(IsADirectoryError, PermissionError):
        file.unlink(missing_ok=True)
    for parent in file.parents:
        if parent == folder:
            return
        with suppress(OSError):  # not empty, or not there
            parent.rmdir()


def _tell_strangers(folder: Path, own: list[str]) -> None:
    """Says where masks lie among the run's that are not of it, as an older version left them."""
    places = {folder / name for name in own}
    folders = {place.parent for place in places if place.suffix == ".png"} - {folder}
    strangers = [f for one in sorted(folders) for f in sorted(one.glob("*.png")) if f not in places]
    if strangers:
        log.warning(
            "%s: %d pictures beside the run's are not of it, such as %s",
            folder,
            len(strangers),
            strangers[0].relative_to(folder),
        )
