"""The optimiser and its learning rate (Sec. IV-B)."""

from __future__ import annotations

import math

import torch
from torch import nn

from aamn.config.schema import OptimiserConfig
from proposals.optimiser import build_optimiser as decayed


def learning_rate(config: OptimiserConfig, iteration: int) -> float:
    """The rate of one iteration: linear warm-up, then steps of a tenth or half a cosine."""
    if iteration < config.warmup:
        return config.lr * (iteration + 1) / (config.warmup + 1)
    if config.schedule == "cosine":
        progress = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
        return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.lr * 0.1 ** sum(iteration >= milestone for milestone in config.milestones)


def build_optimiser(config: OptimiserConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all parameters that learn; vectors and scalars are not decayed."""
    return decayed(config.name, model, config.lr, config.momentum, config.weight_decay)
