"""Graphs by onnxruntime; the one file that imports it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proposals.errors import InputError


class OnnxRuntimeGraph:
    """An ONNX file as a session on the CPU, with as many threads as torch has."""

    def __init__(self, path: Path) -> None:
        """Raises:
        InputError: onnxruntime is not installed, or cannot read the file.
        """
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors alone
        try:
            self.session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its classes are of a private module
            reason = str(error).partition("\n")[0]
            raise InputError(f"{path}: onnxruntime cannot read it ({reason})") from None
        self.inputs = {node.name for node in self.session.get_inputs()}
        self.outputs = [node.name for node in self.session.get_outputs()]

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name; inputs that the graph does not have are left out."""
        arrays = {
            name: value.contiguous().numpy()
            for name, value in inputs.items()
            if name in self.inputs
        }
        found = self.session.run(self.outputs, arrays)
        return {
            name: torch.from_numpy(value) for name, value in zip(self.outputs, found, strict=True)
        }


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            "exported networks are run by onnxruntime, which is not installed: "
            "pip install 'aamn[export]'"
        ) from None
    return onnxruntime
