"""What an export's folder holds, and its record.

export.json       versions, what it was made of, the parts with their inputs and outputs, settings
vocabulary.json   the words in the order of their numbers, behind 0 for padding and 1 for unknown
<part>.onnx       one graph a part

An export that is made again gets files of other names, such as masks-5f0c12ab.onnx, which the
record names when they are whole; then those of the one before go.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proposals.errors import InputError
from proposals.files import file_hash

FORMAT, VERSION = "aamn-export", 1
RECORD = "export.json"
ADVICE = "; `aamn export` writes it again"


@dataclass(frozen=True)
class Manifest:
    """An export's record, whose files are there and are those that were written.

    files: part -> its graph; segmenter and detector: configuration, hashes and what else of them
    counts; vocabulary: its plain values.
    """

    path: Path
    files: dict[str, Path]
    backend: str
    segmenter: dict[str, Any]
    detector: dict[str, Any]
    vocabulary: dict[str, Any]
    absent_threshold: Any
    probability: Any


def is_export(folder: Path | str) -> bool:
    """Whether `aamn export` has written there."""
    return (Path(folder) / RECORD).is_file()


def read_manifest(folder: Path | str) -> Manifest:
    """An export's record, compared with its files.

    Raises:
        InputError: it is damaged or of another version, or a file lacks or is not the one that was
            written.
    """
    path = Path(folder) / RECORD
    record = _read(path)
    if record.get("format") != FORMAT or record.get("version") != VERSION:
        raise InputError(
            f"{path} is of {record.get('format')} version {record.get('version')}, this library "
            f"reads {FORMAT} version {VERSION}{ADVICE}"
        )
    try:
        files = {name: _checked(path.parent, part) for name, part in record["parts"].items()}
        vocabulary = _checked(path.parent, record["vocabulary"])
        settings = {key: dict(record[key]) for key in ("segmenter", "detector")}
        return Manifest(
            path,
            files,
            str(record["backend"]),
            settings["segmenter"],
            settings["detector"],
            _read(vocabulary),
            record["absent_threshold"],
            record.get("probability"),
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{path} is damaged{ADVICE}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        raise InputError(f"{path} is damaged{ADVICE}") from None


def _checked(folder: Path, entry: dict[str, Any]) -> Path:
    """The file of a part, which lies in the folder itself."""
    name = entry["file"]
    if Path(name).name != name:
        raise ValueError(f"{name!r} lies elsewhere")
    path = folder / name
    if not path.is_file():
        raise InputError(f"{folder} lacks {name}{ADVICE}")
    if file_hash(path) != entry["sha256"]:
        raise InputError(f"{path} has changed since it was written{ADVICE}")
    return path
