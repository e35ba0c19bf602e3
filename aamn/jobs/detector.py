"""Fine-tunes and measures a detector: manifests in, detector.pt and metrics.json out."""

from __future__ import annotations

import logging
from pathlib import Path

import yaml

from proposals.build import best_device, build_detector, load_network
from proposals.config import DetectorConfig, config_to_dict
from proposals.detector import TorchDetector, TrainableDetector
from proposals.errors import InputError
from proposals.files import locked, write_text
from proposals.finetune import evaluate, finetune, write_measures
from proposals.manifest import Manifest, read_manifest
from proposals.outputs import check_output

log = logging.getLogger("proposals")


def train_detector(
    config: DetectorConfig, manifest: Path, validation: Path | None, out: Path
) -> dict[str, float]:
    """Fine-tunes a detector unless that is done, and returns what it measures on the validation
    manifest, where there is one.

    Raises:
        InputError: a manifest that cannot be used, or `out` holds a detector of another recipe.
    """
    for name in ("detector.pt", "last.pt", "metrics.json"):
        check_output(out / name)
    train = read_manifest(manifest)
    measured_on = read_manifest(validation) if validation else None
    config.classes = config.classes or train.classes
    with locked(out / ".lock", out, "wait for it, or choose another --out"):
        network = _trained(config, train, out, best_device())
    if measured_on is None:
        return {}
    measured = evaluate(TorchDetector(network), measured_on, network.config.finetune.cache_mb)
    write_measures(measured, out / "metrics.json")
    return measured


def _trained(
    config: DetectorConfig, manifest: Manifest, out: Path, device: str
) -> TrainableDetector:
    """The finished detector, from an earlier run where there is one."""
    finished = out / "detector.pt"
    if finished.exists():
        network = load_network(finished, device)
        if network.config == config:
            log.info("%s is finished already", finished)
            return network
        raise InputError(
            f"{finished} was trained with another configuration; choose another --out or remove it"
        )
    network = build_detector(config).to(device)
    if not (out / "last.pt").exists():  # else it is there, and this one may be refused
        values = yaml.safe_dump(config_to_dict(config), sort_keys=False)
        write_text(out / "config.yaml", values)
    return finetune(network, manifest, out)
