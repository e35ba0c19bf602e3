"""Which indexes a library takes in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aamn.index.file import SUFFIX
from proposals import places
from proposals.errors import InputError


def indexes_at(folder: str | Path) -> Iterator[Path]:
    """The indexes in a folder or at a URL, one after another, by their local names.

    Raises:
        InputError: there is none.
    """
    if places.is_url(folder):
        found = [places.local_name(url) for url in places.listed(str(folder)) if url[-3:] == SUFFIX]
    else:
        found = sorted(Path(folder).glob(f"*{SUFFIX}"))
    if not found:
        raise InputError(f"no index in {folder}; `aamn index` writes them")
    yield from found
