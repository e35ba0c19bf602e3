"""A tiny detector and segmenter, as files that a bundle is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_models import FROM_NOUGHT, tiny_config, tiny_segmenter

from aamn.inference.checkpoint import save_checkpoint
from aamn.inference.verdict import Probability
from aamn.predictor import write_bundle
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.detector import save_detector


def save_parts(folder: Path, training: dict[str, Any] | None = None) -> None:
    """Writes d.pt and s.pt, random ones that are always the same, with this training state."""
    torch.manual_seed(0)
    small = {"widths": (8, 8), "strides": (4, 2), "head": 16, "min_size": 40, "max_size": 60}
    config = DetectorConfig(name="small", weights="", classes=("a", "b"), score_threshold=0.0,
                            proposals=8, **small)  # fmt: skip
    save_detector(build_detector(config), folder / "d.pt")
    segmenter = tiny_segmenter(vocabulary=FROM_NOUGHT)
    save_checkpoint(folder / "s.pt", segmenter, tiny_config(), 7, training)


def save_bundle(folder: Path, absent_threshold: float, training: dict[str, Any]) -> Path:
    """Writes the same as a calibrated bundle; where it lies."""
    save_parts(folder, training)
    line, parts = Probability(0.5, -1.0), (folder / "d.pt", folder / "s.pt")
    write_bundle(folder / "b", *parts, absent_threshold=absent_threshold, probability=line)
    return folder / "b"
