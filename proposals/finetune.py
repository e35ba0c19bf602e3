"""Fine-tuning a detector on the annotated frames of a manifest, and measuring it on others."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from proposals.config import FineTuneConfig, config_to_dict
from proposals.detector import (
    FrameDetections,
    TorchDetector,
    TrainableDetector,
    save_detector,
)
from proposals.errors import InputError
from proposals.files import write_json
from proposals.manifest import Manifest, ManifestFrames
from proposals.measures import measure
from proposals.optimiser import build_optimiser
from proposals.weights import read_mapping, save_tensors
from proposals.workers import end_with_parent, loaded

log = logging.getLogger("proposals")


class _Samples(Dataset):
    """`[(frame, mirrored)]` -> the frame (3, H0, W0) uint8, its boxes and labels."""

    def __init__(self, pictures: ManifestFrames) -> None:
        self.pictures = pictures

    def __getitem__(self, at: tuple[int, bool]) -> tuple[Tensor, Tensor, Tensor]:
        place, mirrored = at
        frame = self.pictures.frames[place]
        picture = torch.from_numpy(self.pictures[place].copy()).permute(2, 0, 1)
        boxes, labels = torch.from_numpy(frame.boxes.copy()), torch.from_numpy(frame.labels)
        if mirrored:
            picture = picture.flip(2)
            boxes[:, 0::2] = frame.size[1] - boxes[:, 0::2].flip(1)
        return picture, boxes, labels


class _Order:
    """The batches from iteration `start` on: every frame once an epoch, in an order and with
    mirror images that the seed and the iteration decide, so that a resumed run goes on alike."""

    def __init__(self, frames: int, config: FineTuneConfig, start: int) -> None:
        self.frames, self.config, self.start = frames, config, start

    def __len__(self) -> int:
        return self.config.iterations - self.start

    def __iter__(self) -> Iterator[list[tuple[int, bool]]]:
        for iteration in range(self.start, self.config.iterations):
            yield [
                self._sample(iteration * self.config.batch + k) for k in range(self.config.batch)
            ]

    def _sample(self, number: int) -> tuple[int, bool]:
        epoch, place = divmod(number, self.frames)
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            chance = random.Random(f"{self.config.seed}/{epoch}")
            self._places = chance.sample(range(self.frames), self.frames)
            self._mirrored = [chance.random() < self.config.flip for _ in range(self.frames)]
        return self._places[place], self._mirrored[place]


def finetune(network: TrainableDetector, manifest: Manifest, out: Path) -> TrainableDetector:
    """Trains the network on the manifest's annotated frames and writes out/detector.pt; goes on
    from out/last.pt when there is one.

    Raises:
        InputError: classes that are not the manifest's, frames that cannot be decoded, a
            checkpoint of another configuration, a loss that is no longer finite.
    """
    config = network.config.finetune
    if network.config.classes != manifest.classes:
        raise InputError(
            f"{manifest.path} has the classes {', '.join(manifest.classes)}, the detector"
            f" {', '.join(network.config.classes)}"
        )
    torch.manual_seed(config.seed)
    trainer = _Trainer(network, out / "last.pt")
    trainer.resume()
    frames = [frame for frame in manifest.frames if len(frame.boxes)]
    log.info("%d annotated frames, iterations %d", len(frames), config.iterations)
    pictures = ManifestFrames(frames, config.cache_mb)
    loader = DataLoader(
        _Samples(pictures),
        batch_sampler=_Order(len(frames), config, trainer.iteration),
        num_workers=0 if pictures.cached else config.workers,
        collate_fn=lambda batch: tuple(zip(*batch, strict=True)),
        worker_init_fn=end_with_parent,
        generator=torch.Generator(),  # its own: the loader must not draw from the saved state
    )
    with tqdm(
        total=config.iterations, initial=trainer.iteration, desc="fine-tuning", unit="it"
    ) as bar:
        for batch in loaded(loader):
            loss = trainer.step(*batch)
            bar.update()
            if trainer.iteration % 20 == 0:
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if trainer.iteration % config.checkpoint_every == 0:
                trainer.save()
    trainer.save()
    best = trainer.result()
    save_detector(best, out / "detector.pt")
    return best


class _Trainer:
    """The network, its optimiser and schedule, and the running average of its weights."""

    def __init__(self, network: TrainableDetector, checkpoint: Path) -> None:
        self.network, self.checkpoint = network.train(), checkpoint
        self.config = config = network.config.finetune
        network.freeze(self.config.trainable_stages)
        self.optimiser = build_optimiser(
            config.optimiser, network, config.lr, config.momentum, config.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda iteration: self._rate(iteration)
        )
        self.average = _running_average(network, self.config.average)
        self.iteration = 0

    def _rate(self, iteration: int) -> float:
        """Linear warm-up, then a cosine to zero."""
        warm = min(1.0, (iteration + 1) / max(1, self.config.warmup))
        return warm * 0.5 * (1 + math.cos(math.pi * iteration / self.config.iterations))

    def step(
        self, frames: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> float:
        """One iteration; its loss."""
        device = self.network.device
        half = device.type == "cuda"
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            losses = self.network.losses(
                *([value.to(device) for value in part] for part in (frames, boxes, labels))
            )
            loss = sum(losses.values(), torch.zeros((), device=device))
        if not torch.isfinite(loss):
            raise InputError(
                f"iteration {self.iteration}: the loss is {loss.item()}; lower finetune.lr"
            )
        self.optimiser.zero_grad()
        loss.backward()
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimiser.step()
        self.schedule.step()
        self.iteration += 1
        if self.average:
            self.average.update_parameters(self.network)
        return loss.item()

    def result(self) -> TrainableDetector:
        if not self.average:
            return self.network.eval()
        return cast(TrainableDetector, self.average.module).eval()

    def save(self) -> None:
        content: dict[str, Any] = {
            "iteration": self.iteration,
            "config": config_to_dict(self.network.config),
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average else {},
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self.network.device.type == "cuda":  # which RoIs are sampled is drawn there
            content["random_gpu"] = torch.cuda.get_rng_state(self.network.device)
        save_tensors(content, self.checkpoint)

    def resume(self) -> None:
        if not self.checkpoint.exists():
            return
        content = read_mapping(self.checkpoint)
        if content.get("config") != config_to_dict(self.network.config):
            raise InputError(
                f"{self.checkpoint} was written with another configuration; choose another --out,"
                " or remove it to begin anew"
            )
        self.network.load_state_dict(content["network"])
        if self.average:
            self.average.load_state_dict(_average_of(content))
        self.optimiser.load_state_dict(content["optimiser"])
        self.schedule.load_state_dict(content["schedule"])
        torch.set_rng_state(content["random"])
        if self.network.device.type == "cuda" and "random_gpu" in content:
            torch.cuda.set_rng_state(content["random_gpu"], self.network.device)
        self.iteration = content["iteration"]
        log.info("resuming at iteration %d", self.iteration)


def _average_of(content: dict[str, Any]) -> dict[str, Any]:
    """The running average's state, also of version 0.1, which counted it by the iteration."""
    average = content["average"]
    if "n_averaged" in average:
        return average
    count = torch.tensor(content["iteration"] + 1)
    return {"n_averaged": count} | {f"module.{key}": value for key, value in average.items()}


def _running_average(network: nn.Module, decay: float) -> AveragedModel | None:
    """The running average of a network's weights, none where `decay` is 0. In the beginning it
    moves faster, lest it remember the random weights."""
    if not decay:
        return None

    def moved(mean: Tensor, value: Tensor, updates: Tensor | int) -> Tensor:
        return mean.lerp(value, 1 - min(decay, int(updates) / (int(updates) + 10)))

    average = AveragedModel(network, avg_fn=moved)
    average.n_averaged.fill_(1)  # else the first update would be a copy
    return average


def evaluate(detector: TorchDetector, manifest: Manifest, cache_mb: int = 0) -> dict[str, float]:
    """AP and recall@K of the detector on the manifest's frames.

    Raises:
        InputError: frames that cannot be decoded.
    """
    pictures = ManifestFrames(manifest.frames, cache_mb)
    found: list[FrameDetections] = []
    for place in tqdm(range(len(pictures)), "measuring", unit="frame", leave=False):
        found.extend(detector.detect([pictures[place]]))
    return measure(manifest.frames, found, manifest.classes)


def write_measures(measured: dict[str, float], path: Path) -> None:
    """The measures as JSON."""
    rounded = {key: round(value, 4) for key, value in measured.items() if np.isfinite(value)}
    write_json(path, rounded)
