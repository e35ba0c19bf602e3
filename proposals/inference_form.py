"""Networks as they are used when they learn no more: the same answers, with fewer passes over
memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

Network = TypeVar("Network", bound=nn.Module)

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_CHANNELS_LAST = (nn.Conv2d, nn.ConvTranspose2d)
_HALVED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16, so that it is faster with it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    known = {"avx512_bf16", "amx_bf16"}
    return flags.is_file() and bool(known & set(flags.read_text(errors="replace").split()))


def inference_form(network: Network) -> Network:
    """What answers as the network does in `eval`, to rounding, in less time: norms of fixed
    statistics are part of the convolutions before them, the weights of 2D convolutions lie channels
    last, and dropout is gone. The network stays as it is; what does not differ, hooks among it,
    belongs to both.

    A norm follows the convolution that its module registers just before it, as in torchvision's
    networks and in ours.
    """
    return _formed(network)


def _formed(module: Any) -> Any:
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return nn.Identity()
    if type(module) in _CHANNELS_LAST:
        return _with_weights(module, _channels_last(module.weight), module.bias)
    parts = {
        name: None if part is None else _formed(part) for name, part in module._modules.items()
    }
    _fold_norms(parts)
    if all(part is module._modules[name] for name, part in parts.items()):
        return module
    return _with(module, _modules=parts)


def _fold_norms(parts: dict[str, Any]) -> None:
    """Makes each norm of fixed statistics a part of the convolution before it."""
    for before, name in pairwise([*parts]):
        conv, norm = parts[before], parts[name]
        if type(conv) in _CONVOLUTIONS and _is_fixed(norm, conv.out_channels):
            parts[before], parts[name] = _folded(conv, norm), nn.Identity()


def _is_fixed(norm: Any, channels: int) -> bool:
    """Whether it is a norm of so many channels whose statistics do not depend on the input."""
    fixed = isinstance(norm, FrozenBatchNorm2d)
    if isinstance(norm, _BatchNorm):
        fixed = not norm.training and norm.running_mean is not None
    return fixed and len(norm.running_mean) == channels


def _folded(conv: nn.Module, norm: Any) -> nn.Module:
    """The convolution and the norm behind it as one convolution."""
    with torch.no_grad():
        weight, bias = fuse_conv_bn_weights(
            conv.get_parameter("weight").detach(),
            None if conv.bias is None else conv.get_parameter("bias").detach(),
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
    return _with_weights(conv, weight, bias)


def _channels_last(weight: Tensor) -> Tensor:
    return weight.detach().contiguous(memory_format=torch.channels_last)


def _with_weights(module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """The module with other weights, which do not learn."""
    given = {"weight": weight, "bias": bias}
    held = {
        name: None if value is None else nn.Parameter(value.detach(), requires_grad=False)
        for name, value in given.items()
    }
    return _with(module, _parameters=held)


def _with(module: Network, **attributes: Any) -> Network:
    """Another module of the same kind with these attributes, in `eval`."""
    changed = module.__new__(type(module))
    changed.__dict__ = {**module.__dict__, **attributes, "training": False}
    return changed


def with_part(network: Network, path: str, change: Callable[[nn.Module], nn.Module]) -> Network:
    """A network whose part at a dotted path is what `change` makes of it; the rest belongs to
    both."""
    name, _, rest = path.partition(".")
    part = network.get_submodule(name)
    changed = with_part(part, rest, change) if rest else change(part)
    return _with(network, _modules={**network._modules, name: changed})


class InBFloat16(nn.Module):
    """A network's inference form, which computes in bfloat16 and answers with float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = _halved(inference_form(network))

    def forward(self, *inputs: Any) -> Any:
        device = next(self.network.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            found = self.network(*inputs)
        if isinstance(found, Tensor):
            return found.float()
        return {name: value.float() for name, value in found.items()}


def _halved(module: Any) -> Any:
    """The module with the weights of its convolutions and linear layers in bfloat16, else autocast
    would convert them with every call."""
    if type(module) in _HALVED:
        bias = None if module.bias is None else module.bias.bfloat16()
        return _with_weights(module, module.weight.bfloat16(), bias)
    parts = {
        name: None if part is None else _halved(part) for name, part in module._modules.items()
    }
    return _with(module, _modules=parts) if parts else module
