"""Detectors by name, and from their checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from proposals.config import DetectorConfig, config_from_dict
from proposals.detector import (
    CHECKPOINT_FORMAT,
    CHECKPOINT_VERSION,
    DETECTRON2,
    TorchDetector,
    TrainableDetector,
)
from proposals.errors import InputError
from proposals.weights import check_state, load_state, read_mapping


def best_device() -> str:
    """The name of the GPU where there is one, else of the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def checked_device(device: torch.device | str) -> torch.device:
    """A device that is there.

    Raises:
        InputError: no device's name, or a GPU that this machine lacks.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cpu", *(f"cuda:{number}" for number in range(count))]
    if found is None or (str(found)) not in {*there, "cuda" if count else "cpu"}:
        raise InputError(f"device {str(device)!r}: this machine has {', '.join(there)}")
    return found


def build_detector(config: DetectorConfig) -> TrainableDetector:
    """The network that the configuration names, with its weights.

    Raises:
        InputError: an unknown name, weights that cannot be had, detectron2 not installed.
    """
    return _family(config.name)(config)


def _family(name: str) -> Callable[[DetectorConfig], TrainableDetector]:
    if name.startswith(DETECTRON2):
        from proposals.detectron2_rcnn import Detectron2RCNN

        return Detectron2RCNN
    from proposals.torchvision_rcnn import TorchvisionRCNN

    return TorchvisionRCNN


def load_network(path: Path | str, device: torch.device | str = "cpu") -> TrainableDetector:
    """The network of a checkpoint that `save_detector` wrote.

    Raises:
        InputError: no file, another kind of file, or another version's.
    """
    content = read_mapping(Path(path), "detector", "; `aamn train-detector` writes one")
    if content.get("format") != CHECKPOINT_FORMAT:
        raise InputError(f"{path} is no detector checkpoint; `aamn train-detector` writes one")
    if content.get("version") != CHECKPOINT_VERSION:
        raise InputError(
            f"{path} has version {content.get('version')} of the detector checkpoint, this library"
            f" reads {CHECKPOINT_VERSION}: train it again"
        )
    config = _config(path, content)
    if not config.name.startswith(DETECTRON2):  # whose sizes are its recipes'
        with torch.device("meta"):  # sizes are compared before memory is taken for them
            sizes = build_detector(replace(config)).state_dict()
        check_state(sizes, content.get("state"), path)
    network = build_detector(config)
    load_state(network, content.get("state"), path)
    return network.to(device).eval()


def _config(path: Path | str, content: Mapping[str, Any]) -> DetectorConfig:
    """A checkpoint's configuration, without the files that its weights once came from."""
    try:
        found = config_from_dict(content["config"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: its configuration is damaged: {error}") from None
    return replace(found, weights="", backbone_from="")


def load_detector(
    path: Path | str, device: torch.device | str = "cpu", precision: str = "float32"
) -> TorchDetector:
    """The detector of a checkpoint, ready to detect.

    Raises:
        InputError: as `load_network`, and as `TorchDetector`.
    """
    return TorchDetector(load_network(path, device), precision)
