"""Fine-tunes a detector on the annotated frames of a manifest."""

from __future__ import annotations

import logging
from pathlib import Path

import yaml

from aamn.cli.command_line import make_parser, run
from aamn.config.loading import load_config
from proposals.build import best_device, build_detector, load_network
from proposals.config import DetectorConfig, config_to_dict
from proposals.detector import TorchDetector, TrainableDetector
from proposals.errors import InputError
from proposals.finetune import evaluate, finetune, write_measures
from proposals.manifest import Manifest, read_manifest

log = logging.getLogger("proposals")


def main() -> None:
    parser = make_parser(
        "Fine-tune a detector on a COCO JSON of annotated frames (tools/make_manifest.py); writes"
        " detector.pt and metrics.json into --out. The same command again resumes.",
        "python tools/train_detector.py --config configs/detector_demo.yaml"
        " --manifest runs/train.json --validation runs/test.json --out runs/detector",
    )
    parser.add_argument("--manifest", required=True, metavar="JSON", help="frames to learn from")
    parser.add_argument("--validation", metavar="JSON", help="frames to measure AP and recall on")
    options = parser.parse_args()
    if not options.out:
        raise InputError("--out: name the folder for the detector")
    device = best_device()
    train = read_manifest(options.manifest)
    validation = read_manifest(options.validation) if options.validation else None
    config = load_config(DetectorConfig, options.config, options.overrides)
    config.classes = config.classes or train.classes
    network = _trained(config, train, Path(options.out), device)
    if validation:
        _measure(network, validation, Path(options.out))


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
    out.mkdir(parents=True, exist_ok=True)
    values = yaml.safe_dump(config_to_dict(config), sort_keys=False)
    (out / "config.yaml").write_text(values, encoding="utf-8")
    return finetune(network, manifest, out)


def _measure(network: TrainableDetector, validation: Manifest, out: Path) -> None:
    measured = evaluate(TorchDetector(network), validation, network.config.finetune.cache_mb)
    write_measures(measured, out / "metrics.json")
    for name, value in measured.items():
        print(f"{name:<22}{value:.3f}")


if __name__ == "__main__":
    run(main)
