"""Files of tensors: written whole or not at all, and read as tensors and plain values alone, so
that no code in them runs, with one line that says what is wrong with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from proposals.errors import InputError
from proposals.files import binary_aside


def save_tensors(content: Any, path: Path, durable: bool = False) -> None:
    """torch.save, so that the path never holds half a file.

    Raises:
        InputError: it cannot be written.
    """
    with binary_aside(path, durable) as file:
        torch.save(content, file)


def read_tensors(path: str | Path, kind: str = "weight file", advice: str = "") -> Any:
    """What the file holds, on the CPU.

    Args:
        kind: what the file should be, and
        advice: what to do, such as "; train one", for the error's line.

    Raises:
        InputError: no such file, or one that cannot be read.
    """
    if not Path(path).is_file():
        raise InputError(f"no {kind} at {path}{advice}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged pickle raises whatever it stumbles over
        raise InputError(f"{path} is no {kind}, or a damaged one{advice}") from None


def read_mapping(path: str | Path, kind: str = "weight file", advice: str = "") -> dict[str, Any]:
    """The same of a file that holds a dictionary.

    Raises:
        InputError: as `read_tensors`, or the file holds anything else.
    """
    content = read_tensors(path, kind, advice)
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: wanted a dictionary of weights, got {type(content).__name__}{advice}"
        )
    return content
