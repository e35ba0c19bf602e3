"""A training run of a tiny model on five clips of noise."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_models import WORDS, random_sample
from torch.utils.data import Dataset

from aamn.data.words import Vocabulary
from aamn.models.segmenter import Segmenter
from aamn.structures import Sample

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
VOCABULARY = Vocabulary([f"w{i}" for i in range(2, WORDS)])


class Samples(Dataset):
    """Five clips of noise, each of a video of its own."""

    def __init__(self, segmenter: Segmenter, lengths: tuple[int, ...] = (3, 1, 5)) -> None:
        self.samples = [
            random_sample(segmenter, seed=s, video=f"v{s}", lengths=lengths) for s in range(5)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: tuple[int, int]) -> Sample:
        return self.samples[place[1]]


def curve(out: Path) -> list[dict[str, float]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
