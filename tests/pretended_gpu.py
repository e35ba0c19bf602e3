"""A GPU that is only pretended, for machines without one: the CPU computes everything, and a tensor
that should have been moved raises as on a real one.

PyTorch's own fake tensors have no values, so they end at the first mask, `nonzero` or `.tolist()`;
these have, so that whole answers can be compared with the CPU's. There are no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

GPU = "cuda:0"
MOVES = ("_to_copy", "copy_")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")  # indices may be on the CPU


class OnGPU(Tensor):
    """A tensor that says it lies on the GPU, and the one on the CPU that it really is."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGPU:
        place = (held.size(), held.stride(), held.storage_offset())
        with torch.inference_mode(False):  # else it could not be a view of a parameter
            return Tensor._make_wrapper_subclass(cls, *place, dtype=held.dtype, device=GPU)

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"{self.held!r} as if on {GPU}"

    def tolist(self) -> list:
        return self.held.tolist()

    def numpy(self, **_: object) -> None:
        raise TypeError("can't convert a CUDA tensor to numpy; use .cpu() first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None) -> Any:
        if _is_composite(function):
            return function.decompose(*args, **kwargs or {})
        return _compute(function, args, kwargs or {})


class _EveryOperation(TorchDispatchMode):
    """Also those that have no tensor yet, as `torch.zeros(3, device="cuda:0")`."""

    def __init__(self) -> None:
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # PyTorch then looks for no driver

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # spares the import of the compiler

    def __torch_dispatch__(self, function, types, args=(), kwargs=None) -> Any:
        if _is_composite(function):
            with self:
                return function.decompose(*args, **kwargs or {})
        return _compute(function, args, kwargs or {})


@contextmanager
def pretended_gpu() -> Iterator[str]:
    """Within it modules and tensors can be moved to the device whose name it gives."""
    lift = torch._C._only_lift_cpu_tensors()
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)  # of `torch.tensor`: made on the CPU, then moved
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=False), _EveryOperation():
            yield GPU
    finally:
        torch._C._set_only_lift_cpu_tensors(lift)
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)


@cache
def _is_composite(function: Any) -> bool:
    """Whether it is others put together, as which inference mode leaves it."""
    key = "CompositeImplicitAutograd"
    return torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), key)


def _each(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same with every tensor in it changed."""
    if isinstance(value, tuple | list):
        return type(value)(_each(one, change) for one in value)
    return change(value) if isinstance(value, Tensor) else value


def _compute(function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The CPU's answer, on the device where the GPU's would be."""
    name = function.overloadpacket.__name__
    given: list[Tensor] = []

    def hold(one: Tensor) -> Tensor:
        given.append(one)
        return one.held if isinstance(one, OnGPU) else one

    plain_args = _each(args, hold)
    plain = {key: _each(value, hold) for key, value in kwargs.items()}
    known = {id(one.held): one for one in given if isinstance(one, OnGPU)}
    if known and not _is_allowed(name, args, given):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")
    pretended = bool(known)
    if (wanted := kwargs.get("device")) is not None:
        pretended, plain["device"] = torch.device(wanted).type == "cuda", torch.device("cpu")
    if name == "copy_":
        pretended = isinstance(args[0], OnGPU)
    found = CELLS.get(name, function)(*plain_args, **plain)
    if not pretended:
        return found
    if name == "_pack_padded_sequence":  # the batch sizes stay on the CPU
        return OnGPU(found[0]), found[1]
    # What was changed in place is the tensor that was given.
    return _each(found, lambda x: known[id(x)] if id(x) in known else OnGPU(x))


def _is_allowed(name: str, args: tuple, tensors: list[Tensor]) -> bool:
    """Whether CUDA takes these tensors, at least one of which lies on the GPU."""
    if name in MOVES:
        return True
    if name == "_pack_padded_sequence":
        return not isinstance(args[1], OnGPU)
    if name in INDEXING:
        tensors = [args[0], *(one for one in args[2:3] if isinstance(one, Tensor))]
    return all(isinstance(one, OnGPU) or not one.dim() for one in tensors)


def _lstm_cell(
    ours: Tensor, theirs: Tensor, cell: Tensor, *biases: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """CUDA's fused cell, for which the CPU has no kernel."""
    gates = sum((one for one in biases if one is not None), ours + theirs)
    i, f, c, o = gates.chunk(4, 1)
    cell = f.sigmoid() * cell + i.sigmoid() * c.tanh()
    return o.sigmoid() * cell.tanh(), cell, gates


def _gru_cell(
    ours: Tensor, theirs: Tensor, state: Tensor, *biases: Tensor
) -> tuple[Tensor, Tensor]:
    if biases and biases[0] is not None:
        ours, theirs = ours + biases[0], theirs + biases[1]
    (ir, iz, i_new), (hr, hz, h_new) = ours.chunk(3, 1), theirs.chunk(3, 1)
    update = (iz + hz).sigmoid()
    new = (i_new + (ir + hr).sigmoid() * h_new).tanh()
    return new + update * (state - new), ours


CELLS = {"_thnn_fused_lstm_cell": _lstm_cell, "_thnn_fused_gru_cell": _gru_cell}
