"""Parts as ONNX files; the one file that imports onnx."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from aamn.export.parts import Axes, Part
from proposals.errors import InputError

OPSET = 18


def write_onnx(part: Part, path: Path) -> None:
    """Traces a part by its example and writes its graph.

    torch's exporter of traces is used: an RPN decides by its boxes how many it keeps, which is no
    graph for the newer one.

    Raises:
        InputError: onnx is not installed, or the part holds what has no form in ONNX.
    """
    _onnx()
    try:
        with torch.no_grad(), _without_warnings():
            torch.onnx.export(
                part.network.eval(),
                tuple(part.inputs.values()),
                str(path),
                dynamo=False,
                opset_version=OPSET,
                input_names=[*part.inputs],
                output_names=[*part.outputs],
                dynamic_axes=part.axes,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{part.name} has no form in ONNX ({reason})") from None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Tracing warns of each size that it takes for a constant; the tests compare other sizes."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def described(part: Part, path: Path) -> dict[str, Any]:
    """The inputs that a part's graph has, and its outputs, each with its name, type and sizes; of a
    size that varies, the name of what it counts.

    Raises:
        InputError: onnx is not installed.
    """
    kept = {value.name for value in _onnx().load(str(path)).graph.input}
    with torch.no_grad():
        found = part.network(*part.inputs.values())
    outputs = [found] if isinstance(found, torch.Tensor) else [*found]
    inputs = {name: value for name, value in part.inputs.items() if name in kept}
    named = {"inputs": inputs, "outputs": dict(zip(part.outputs, outputs, strict=True))}
    return {
        kind: [_described(name, value, part.axes.get(name, {})) for name, value in values.items()]
        for kind, values in named.items()
    }


def _described(name: str, value: torch.Tensor, axes: Axes) -> dict[str, Any]:
    shape = [axes.get(dimension, size) for dimension, size in enumerate(value.shape)]
    return {"name": name, "type": str(value.dtype).removeprefix("torch."), "shape": shape}


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise InputError(
            "aamn export writes ONNX, for which onnx is not installed: pip install 'aamn[export]'"
        ) from None
    return onnx
