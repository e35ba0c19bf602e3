"""The optimiser of both stages."""

from __future__ import annotations

import torch
from torch import nn


def build_optimiser(
    name: str, network: nn.Module, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """ "adamw", or else SGD with momentum, over all parameters that learn; vectors and scalars
    (norms, biases) do not decay."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr)
    return torch.optim.SGD(groups, lr, momentum)
