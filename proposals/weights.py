"""Files that torch.save wrote: read as tensors and plain values alone, so that no code in them
runs, and with one line that says what is wrong with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from proposals.errors import InputError


def read_tensor_file(path: str | Path, kind: str = "weight file", advice: str = "") -> Any:
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
