"""The detector that options name, loaded where it is used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from aamn.config.loading import load_config
from proposals import places
from proposals.build import build_detector, load_network
from proposals.config import DetectorConfig
from proposals.detector import TorchDetector


@dataclass(frozen=True)
class DetectorChoice:
    """A checkpoint, or else a recipe; precision None: half on a GPU."""

    path: Path | None = None
    config: str | None = None
    overrides: tuple[str, ...] = ()
    precision: str | None = None

    def load(self, device: str) -> TorchDetector:
        """Raises:
        InputError: no such checkpoint or recipe.
        """
        precision = self.precision or ("float16" if device.startswith("cuda") else "float32")
        if self.path:
            return TorchDetector(load_network(places.fetch(self.path), device), precision)
        network = build_detector(load_config(DetectorConfig, self.config, self.overrides))
        return TorchDetector(network.to(device), precision)


def worker_device() -> str:
    """A GPU of this worker's own, where there is one."""
    if not torch.cuda.is_available():
        return "cpu"
    local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
    return f"cuda:{local % torch.cuda.device_count()}"
