"""What an index by the zero-shot system costs, by how many frames of a tube are described; random
weights of the published sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import cast

import torch

from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.experiments.benchmark import BenchmarkOptions, Noise
from aamn.experiments.growth import ROUNDS, Measured, measure_index
from aamn.index.box_source import detected_boxes
from aamn.index.job import IndexJob
from aamn.index.query_encoder import QueryEncoder
from aamn.inference.checkpoint import Loaded
from aamn.models.zeroshot.image_text import ImageTextModel, untrained_image_text
from aamn.zeroshot.assemble import NAME, assemble
from proposals.build import best_device, build_detector
from proposals.config import DetectorConfig
from proposals.detector import TorchDetector
from proposals.errors import InputError
from proposals.torchvision_rcnn import MASKED, TorchvisionRCNN

DESCRIBED = (1, 2, 4, 8)  # --describe-every


def print_zeroshot_costs(options: BenchmarkOptions) -> None:
    """Prints the table; rounds go through all rows in turn, the first one warms up.

    Raises:
        InputError: a recipe of another system, or one without an image-text model or mask head;
            transformers is not installed.
    """
    config = load_config(Config, options.config or NAME, options.overrides)
    own = config.zeroshot
    if config.system != NAME or own.masks != "rcnn" or "image_text" not in own.describers:
        raise InputError(f"--zeroshot: wanted the recipe {NAME}, or one with its parts")
    torch.manual_seed(0)
    settings = DetectorConfig(
        name=MASKED, weights="", classes=own.classes, square=own.size, score_threshold=0.0
    )
    network = cast(TorchvisionRCNN, build_detector(settings).to(best_device()).eval())
    rows = dict(_jobs(options, config, network, untrained_image_text()))
    found = {every: Measured() for every in rows}
    for number in range(ROUNDS + 1):
        for every, (loaded, job) in rows.items():
            index, sentence = measure_index(loaded, job)
            if number:
                found[every].index.append(index)
                found[every].sentence.append(sentence)
    print(_table(options, found))


def _jobs(
    options: BenchmarkOptions, config: Config, network: TorchvisionRCNN, model: ImageTextModel
) -> Iterator[tuple[int, tuple[Loaded, IndexJob]]]:
    size = (options.height, options.width)
    for every in DESCRIBED:
        own = replace(config, zeroshot=replace(config.zeroshot, describe_every=every))
        loaded = assemble(own, network, (model, "random")).loaded
        encoder = QueryEncoder(replace(loaded, segmenter=loaded.segmenter.to(best_device())))
        boxes = detected_boxes(TorchDetector(network, options.precision), encoder.segmenter)
        frames = Noise(options.frames, size)
        yield every, (loaded, encoder.job("noise", frames, boxes, precision=options.precision))


def _table(options: BenchmarkOptions, found: dict[int, Measured]) -> str:
    lines = [
        f"{options.frames} frames of {options.width}x{options.height}, {options.precision}, "
        f"medians of {ROUNDS} rounds",
        f"{'':<40}{'s a frame':>12}{'/ every frame':>15}{'sentence, ms':>14}",
    ]
    first = median(found[DESCRIBED[0]].index)
    for every, own in found.items():
        index, sentence = median(own.index), 1000 * median(own.sentence)
        name = f"zero-shot, --describe-every {every}"
        lines.append(f"{name:<40}{index:12.4f}{index / first:15.3f}{sentence:14.2f}")
    return "\n".join(lines)
