"""What runs an export's graphs: tensors in and out by their names, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import Tensor

from aamn.export.onnx_runtime import OnnxRuntimeGraph
from proposals.errors import InputError

ONNXRUNTIME = "onnxruntime"


class Graph(Protocol):
    """One part, ready to run."""

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name; inputs that the graph does not have are left out."""


BACKENDS: dict[str, Callable[[Path], Graph]] = {ONNXRUNTIME: OnnxRuntimeGraph}


def open_graphs(files: dict[str, Path], backend: str) -> dict[str, Graph]:
    """The parts of an export by name.

    Raises:
        InputError: an unknown backend, one that is not installed, or a file that it cannot read.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend {backend!r}: wanted one of {', '.join(BACKENDS)}")
    return {name: BACKENDS[backend](path) for name, path in files.items()}
