"""Graphs by OpenVINO, in 8 bits by NNCF; the one file that imports both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proposals.errors import InputError

Inputs = dict[str, Tensor]
TYPES = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoGraph:
    """An ONNX file on the CPU, with as many threads as torch has, computing in float32 or
    bfloat16; with `examples` of its inputs, its convolutions and products in 8 bits, whose ranges
    are those of the examples."""

    def __init__(
        self, path: Path, precision: str = "float32", examples: Sequence[Inputs] = ()
    ) -> None:
        """Raises:
        InputError: OpenVINO, or NNCF where it is wanted, is not installed.
        """
        core = _openvino().Core()
        model = core.read_model(str(path))
        self.inputs = [next(iter(port.get_names())) for port in model.inputs]
        self.outputs = [next(iter(port.get_names())) for port in model.outputs]
        if examples:
            model = self._in_8_bits(model, examples)
        settings = {
            "INFERENCE_PRECISION_HINT": TYPES[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        self.compiled = core.compile_model(model, "CPU", settings)

    def _in_8_bits(self, model: Any, examples: Sequence[Inputs]) -> Any:
        nncf = _nncf()
        data = nncf.Dataset([self._arrays(one) for one in examples])
        return nncf.quantize(model, data, subset_size=len(examples))

    def _arrays(self, inputs: Inputs) -> list[Any]:
        return [inputs[name].contiguous().numpy() for name in self.inputs]

    def __call__(self, inputs: Inputs) -> Inputs:
        """The outputs by name; inputs that the graph does not have are left out."""
        found = self.compiled(self._arrays(inputs))
        # its memory is used again by the next call
        return {
            name: torch.from_numpy(found[place].copy()) for place, name in enumerate(self.outputs)
        }


def _openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise InputError(
            "this backend wants OpenVINO, which is not installed: pip install 'aamn[openvino]'"
        ) from None
    return openvino


def _nncf() -> Any:
    try:
        import nncf
    except ImportError:
        raise InputError(
            "8 bits want NNCF, which is not installed: pip install 'aamn[openvino]'"
        ) from None
    return nncf
