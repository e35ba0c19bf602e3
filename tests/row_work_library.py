"""A process that inserts one video after another into a library, to be killed meanwhile."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from aamn.search.library import Library
from aamn.search.rows import rows_of


def insert(place: str, index: str, begin: int) -> None:
    """Prints the number of each video when its rows are there."""
    rows, library = rows_of(Path(index)), Library(place)
    for number in range(begin, begin + 1000):
        header = replace(rows.header, video_id=f"v{number}")
        library.insert([replace(rows, header=header)])
        print(number, flush=True)


if __name__ == "__main__":
    insert(sys.argv[1], sys.argv[2], int(sys.argv[3]))
