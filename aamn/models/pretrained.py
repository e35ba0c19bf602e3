"""Files of pretrained weights, read with an error that says what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from proposals.errors import InputError
from proposals.weights import read_tensors

WRAPPERS = ("state", "model", "state_dict")  # keys under which programs store a state dict


def read_weights(path: str | Path, advice: str = "") -> dict[str, Tensor]:
    """The tensors of a checkpoint by their keys, without the WRAPPERS and the `module.` that some
    programs put around them; `advice` ends the error's line.

    Raises:
        InputError: no such file, or one that holds no mapping of names to tensors.
    """
    content = read_tensors(path, advice=advice)
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path}: wanted a state dict, names of layers with their tensors{advice}")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def load_weights(
    module: nn.Module, weights: dict[str, Tensor], path: str | Path, ignored: Iterable[str] = ()
) -> None:
    """Copies `weights` into every entry of `module`; what the file holds beyond that is left.

    `ignored` names entries that keep their values, whatever the file holds; BatchNorm's batch
    counters need not be in the file.

    Raises:
        InputError: an entry that the file lacks or has in another shape; names file and entry.
    """
    own, ignored = module.state_dict(), set(ignored)
    wanted = {n: v for n, v in own.items() if "num_batches_tracked" not in n and n not in ignored}
    missing = sorted(wanted.keys() - weights.keys())
    if missing:
        raise InputError(
            f"{path}: lacks {len(missing)} of the {len(wanted)} tensors wanted, {missing[0]} first"
        )
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape:
            raise InputError(
                f"{path}: {name} has shape {tuple(weights[name].shape)}, "
                f"wanted {tuple(tensor.shape)}"
            )
    taken = {name: weights[name] for name in own if name in weights and name not in ignored}
    module.load_state_dict(own | taken)
