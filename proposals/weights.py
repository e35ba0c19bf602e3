"""Files of tensors: written whole or not at all, and read as tensors and plain values alone, so
that no code in them runs, with one line that says what is wrong with a file.

What is read is what was written: the zip archive's checksums are compared (torch writes them, but
does not), no record unpacks to more than the file holds, and every number is finite.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
        InputError: no such file, one that cannot be read, was changed since it was written, or
            holds numbers that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no {kind} at {path}{advice}")
    try:
        fault = _fault_of_records(path)
        content = None if fault else torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged pickle raises whatever it stumbles over
        raise InputError(f"{path} is no {kind}, or a damaged one{advice}") from None
    fault = fault or _fault_of_tensors(content, path.stat().st_size)
    if fault:
        raise InputError(f"{path} is a damaged {kind}: {fault}{advice}")
    return content


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


def check_state(own: Mapping[str, Tensor], state: Any, source: str | Path) -> None:
    """Compares a module's entries with those of a file, by names and shapes.

    Raises:
        InputError: an entry that is missing, unknown or of another shape; names it.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"{source}: wanted weights by their names, got {type(state).__name__}")
    shapes, found = (
        {k: tuple(getattr(v, "shape", ())) for k, v in s.items()} for s in (own, state)
    )
    names = [name for name in {**shapes, **found} if shapes.get(name) != found.get(name)]
    if names:
        wanted, got = (str(s.get(names[0], "nothing")) for s in (shapes, found))
        raise InputError(
            f"{source}: its weights do not fit the configuration: {names[0]} is {got}, wanted "
            f"{wanted} ({len(names)} such)"
        )


def load_state(module: nn.Module, state: Any, source: str | Path) -> None:
    """Gives a module all its weights, none more.

    Raises:
        InputError: as `check_state`.
    """
    check_state(module.state_dict(), state, source)
    module.load_state_dict(state)


def _fault_of_records(path: Path) -> str:
    """What is wrong with a zip archive's records, "" where nothing is or it is none."""
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(record.file_size for record in archive.infolist())
        if unpacked > path.stat().st_size:
            return f"its records would unpack to {unpacked} bytes"
        try:
            changed = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
            changed = "a record"
    return f"{changed} has changed since it was written" if changed else ""


def _fault_of_tensors(content: Any, size: int) -> str:
    """What is wrong with the tensors of a file of `size` bytes; "" when nothing is."""
    for name, tensor in _tensors(content):
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            return f"{name} is no dense tensor"
        stored = min(size, tensor.untyped_storage().nbytes())
        if tensor.numel() * tensor.element_size() > stored:
            return f"{name} would be larger than what the file holds of it"
        if not is_finite(tensor):
            return f"{name} holds numbers that are not finite"
    return ""


def is_finite(tensor: Tensor) -> bool:
    """Whether no number is infinite or none. The sum shows it at a fraction of the cost, unless it
    is too large a number itself."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested dictionaries, lists and tuples, each with its keys."""
    waiting: list[tuple[str, Any]] = [("", content)]
    seen: set[int] = set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            yield name or "the tensor", value.detach()
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{name}.{key}" if name else str(key), inner) for key, inner in items]
