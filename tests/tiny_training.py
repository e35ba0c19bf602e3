"""Training runs of a tiny model on a few clips of noise; under torchrun, one of their processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tiny_models import random_sample, tiny_config, tiny_segmenter
from torch.utils.data import Dataset

from aamn.models.segmenter import Segmenter
from aamn.structures import Sample
from aamn.training.loop import train

RUN = (
    "train.batch=2",
    "train.log_every=1",
    "train.checkpoint_every=3",
    "train.optimiser.name=adamw",
    "train.optimiser.lr=0.01",
    "train.optimiser.iterations=7",
    "aamn.backbone.dropout=0.2",
    "data.workers=0",
)


class Samples(Dataset):
    """Clips of noise, each of a video of its own."""

    def __init__(
        self, segmenter: Segmenter, count: int = 5, lengths: tuple[int, ...] = (3, 1, 5)
    ) -> None:
        self.samples = [
            random_sample(segmenter, seed=s, video=f"v{s}", lengths=lengths) for s in range(count)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: tuple[int, int]) -> Sample:
        return self.samples[place[1]]


def curve(out: Path) -> list[dict[str, float]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def train_divisibly(out: Path, *overrides: str) -> None:
    """A run whose losses are the same however its batches are divided among processes.

    Every clip has four sentences about its four boxes: K - 1 = 3 mismatched sentences each, all of
    the clip's own video, so that (12) compares with the same sentences whatever else is there; and
    no batch of four holds one of the eight clips twice.
    """
    torch.set_num_threads(1)
    fixed = ("aamn.backbone.dropout=0", "train.optimiser.iterations=4", "train.precision=32-true")
    # Not AdamW: it divides by the gradients' size and so makes differences of rounding large.
    plain = ("train.optimiser.name=sgd", "train.optimiser.lr=0.05")
    values = (*RUN, *fixed, *plain, *overrides)
    segmenter = tiny_segmenter(*values)
    samples = Samples(segmenter, 8, (3, 1, 5, 2))
    train(tiny_config(*values), segmenter, samples, out)


if __name__ == "__main__":  # a JSON list of runs: [folder, override, ...]
    for folder, *overrides in json.loads(sys.argv[1]):
        train_divisibly(Path(folder), *overrides)
