"""What a run leaves behind while it learns: lines of metrics, and its last and best checkpoint."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from aamn.config.schema import Config
from aamn.inference.checkpoint import save_checkpoint
from aamn.models.segmenter import Segmenter
from aamn.training.folder import BEST, LAST, LOG, RunFolder
from proposals.errors import cannot_write
from proposals.files import write_text

log = logging.getLogger("aamn")


class MetricLogger:
    """log.jsonl and TensorBoard: one line every `log_every` iterations, none twice; of all
    processes together."""

    def __init__(self, folder: RunFolder, fabric: Fabric, start: int) -> None:
        self.folder, self.fabric = folder, fabric
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}  # of this process, over the whole call
        self.steps = 0
        if fabric.is_global_zero:
            kept = _lines_until(folder.path / LOG, start) if start else []
            write_text(folder.path / LOG, "".join(f"{line}\n" for line in kept))

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
            if name.startswith("count/"):
                self.counts[name] = self.counts.get(name, 0.0) + float(value.detach())
        self.steps += 1

    def flush(self, iteration: int, rate: float) -> dict[str, float]:
        """Means of the losses and sums of the counts since the last line."""
        own = torch.tensor(list(self.sums.values()))
        sums = cast(Tensor, self.fabric.all_reduce(own, reduce_op="sum"))
        losses = max(1, self.steps) * self.fabric.world_size
        values = {
            name: total if name.startswith("count/") else total / losses
            for name, total in zip(self.sums, sums.tolist(), strict=True)
        }
        values["learning_rate"] = rate
        if self.fabric.is_global_zero:
            _append(self.folder.path / LOG, json.dumps({"iteration": iteration, **values}))
        self.fabric.log_dict(values, step=iteration)
        self.sums, self.steps = {}, 0
        return values


def _append(path: Path, line: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    except OSError as error:
        raise cannot_write(path, error) from None


def _lines_until(path: Path, iteration: int) -> list[str]:
    """The lines of a log up to an iteration; those that a killed run has cut are left out."""
    if not path.is_file():
        return []
    kept, damaged = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["iteration"] <= iteration:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            damaged += 1
    if damaged:
        log.warning("%s: %d cut or damaged lines are left out", path, damaged)
    return kept


class CheckpointSaver:
    """last.pt and best.pt of a run; the first of several processes writes them."""

    def __init__(
        self,
        folder: RunFolder,
        segmenter: Segmenter,
        config: Config,
        fabric: Fabric,
        best: float,
    ) -> None:
        self.folder, self.fabric, self.best = folder, fabric, best
        self.model = (segmenter, config)

    def keep_best(self, iteration: int, score: float) -> None:
        """Writes best.pt where a validation's score is the highest so far."""
        self.fabric.log_dict({"validation": score}, step=iteration)
        if score > self.best:
            self.best = score
            if self.fabric.is_global_zero:
                save_checkpoint(self.folder.path / BEST, *self.model, iteration, best=score)

    def keep_last(self, iteration: int, optimiser: torch.optim.Optimizer) -> None:
        """Writes last.pt, from which training can go on."""
        if self.fabric.is_global_zero:
            state = optimiser.state_dict()
            save_checkpoint(self.folder.path / LAST, *self.model, iteration, state, self.best)
            self.folder.settle()
