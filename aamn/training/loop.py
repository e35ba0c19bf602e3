"""Training: drives any Segmenter with Lightning Fabric, resumes to the same curve.

All randomness of an iteration derives from (seed, iteration), and the order of the samples from
(seed, epoch), so a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from aamn.config.loading import to_dict, with_new_names
from aamn.config.schema import Config, Precision, Shown, TrainConfig
from aamn.data.samples import SampleDataset
from aamn.inference.checkpoint import read_checkpoint
from aamn.models.segmenter import Segmenter
from aamn.models.tube_matching import TubeMatching
from aamn.training.folder import CONFIG, LAST, RunFolder, run_folder
from aamn.training.journal import CheckpointSaver, MetricLogger
from aamn.training.optimiser import build_optimiser, learning_rate
from aamn.training.phases import JOINT, Phase, check_phases, part_of, phase_at, plan_phases
from aamn.training.sampler import IterationSampler
from aamn.training.tubes import TubeDataset, keep_tubes
from proposals.errors import InputError
from proposals.files import write_text
from proposals.inference_form import computes_in_bfloat16
from proposals.workers import end_with_parent, loaded

log = logging.getLogger("aamn")

MAY_CHANGE_ON_RESUME = ("name", "data", "train")  # parts of the configuration


class _Batch:
    """Samples in a wrapper that Fabric and DDP hand through as it is; they would try to convert
    every field of a dataclass."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples


Fixed = Literal["32-true", "bf16-mixed", "16-mixed"]


LOSSES: dict[Shown, Callable[[Segmenter, list[Any]], dict[str, torch.Tensor]]] = {
    "clips": lambda segmenter, samples: segmenter(samples),
    "key_frames": lambda segmenter, samples: segmenter.mask_losses(samples),
    "tubes": lambda segmenter, samples: segmenter.matching_losses(samples),
}


class _Door(nn.Module):
    """The module whose forward DDP and autocast wrap; only the loss of the phase has a graph."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.factors: Mapping[str, float] = JOINT
        self.shown: Shown = "clips"
        # what is shown -> the losses of all phases that show it: a wrong one is found at once
        self.known: dict[str, set[str]] = {}

    def forward(self, batch: _Batch) -> dict[str, torch.Tensor]:
        losses = LOSSES[self.shown](self.segmenter, batch.samples)
        unknown = sorted(self.known.get(self.shown, set()) - losses.keys())
        if unknown:
            raise InputError(
                f"train.phases: no loss {unknown[0]!r}; this system has "
                f"{', '.join(name for name in losses if '/' not in name)}"
            )
        total = torch.stack([f * losses[name] for name, f in self.factors.items()]).sum()
        return {name: loss.detach() for name, loss in losses.items()} | {"total": total}


@dataclass(frozen=True)
class Progress:
    """Where a run stands: how many iterations are done, and the last logged losses."""

    iteration: int
    losses: dict[str, float]


def choose_precision(precision: Precision) -> Fixed:
    """What "auto" means here; any other name is itself."""
    if precision != "auto":
        return precision
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bf16-mixed" if computes_in_bfloat16(device) else "32-true"


def make_fabric(config: Config, out: Path) -> Fabric:
    """CUDA when there is one, else the CPU; processes as torchrun started them."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    fabric = Fabric(
        accelerator="auto",
        devices=local,
        num_nodes=max(1, world // local),
        strategy=("ddp_find_unused_parameters_true" if config.train.phases else "ddp")
        if world > 1
        else "auto",
        precision=choose_precision(config.train.precision),
        loggers=TensorBoardLogger(out, name="tensorboard", version=""),
    )
    fabric.launch()
    return fabric


def _resume(
    path: Path, config: Config, segmenter: Segmenter, optimiser: torch.optim.Optimizer
) -> tuple[int, float]:
    """Loads the last checkpoint into both and returns the iteration to go on with and the best
    validation score so far, that of a later best.pt included.

    Raises:
        InputError: the checkpoint belongs to another configuration.
    """
    content = read_checkpoint(path)
    stored, own = _lasting(with_new_names(content["config"])), _lasting(to_dict(config))
    if stored != own:
        raise InputError(
            f"{path} was trained with other values: {_first_difference(stored, own)}; use another "
            "--out, or --restart to begin anew"
        )
    segmenter.load_state_dict(content["model"])
    settings = [dict(group) for group in optimiser.param_groups]
    optimiser.load_state_dict(content["optimiser"])
    for group, values in zip(optimiser.param_groups, settings, strict=True):
        group.update(values)  # momentum and decay are the configuration's, not the checkpoint's
    best, beside = content.get("best", -math.inf), path.with_name("best.pt")
    if beside.is_file():
        best = max(best, read_checkpoint(beside).get("best", -math.inf))
    return content["iteration"], best


def _lasting(values: dict[str, Any]) -> dict[str, Any]:
    """What may not change on resume; of `train`, what the optimiser's state depends on."""
    kept = {part: own for part, own in values.items() if part not in MAY_CHANGE_ON_RESUME}
    train = values["train"]
    return kept | {
        "train": {"optimiser": {"name": train["optimiser"]["name"]}, "freeze": train["freeze"]}
    }


def _first_difference(stored: Any, own: Any, name: str = "") -> str:
    """The first key in which two plain trees differ, with both values."""
    if isinstance(stored, dict) and isinstance(own, dict):
        for key in [*own, *stored]:
            if stored.get(key) != own.get(key):
                return _first_difference(stored.get(key), own.get(key), f"{name}.{key}".strip("."))
    return f"{name} = {stored!r} there, {own!r} here".strip()


class _Schedule:
    """The phases of a run: what learns, from which losses, and at which rate."""

    def __init__(self, config: TrainConfig, door: _Door) -> None:
        self.config, self.door = config, door
        self.phases = plan_phases(config)
        self.phase: Phase | None = None
        parameters = door.segmenter.named_parameters()
        self.learning = {name for name, p in parameters if p.requires_grad}
        check_phases(self.phases, door.segmenter, self.learning)
        for phase in self.phases:
            door.known.setdefault(phase.shown, set()).update(phase.losses)

    def enter(self, iteration: int) -> float:
        """Begins the phase of an iteration (0-based) where another was on; its learning rate."""
        phase = phase_at(self.phases, iteration)
        if phase is not self.phase:
            phase.begin(self.door.segmenter, self.learning)
            self.phase, self.door.factors, self.door.shown = phase, phase.losses, phase.shown
        optimiser = self.config.optimiser
        return learning_rate(optimiser, phase.in_schedule(iteration, optimiser.iterations))


def train(
    config: Config,
    segmenter: Segmenter,
    dataset: SampleDataset,
    out: Path,
    *,
    restart: bool = False,
    stop_after: int = 0,
    validate: Callable[[Segmenter], float] | None = None,
) -> Progress:
    """Trains until `train.optimiser.iterations`, going on from `out/last.pt` where there is one.

    Writes config.yaml, log.jsonl, TensorBoard curves, last.pt and, with `validate` (higher is
    better), best.pt.

    Args:
        dataset: (epoch, index) -> Sample.
        restart: begin anew even if there is a checkpoint; the earlier run stays as it is until
            this one has its first checkpoint, and its best.pt no longer counts.
        stop_after: end this call after so many iterations (0: run to the end).

    Raises:
        InputError: nothing to train on, nothing that learns, a checkpoint of another
            configuration, or another process trains there.
    """
    if not len(dataset):
        raise InputError(f"{config.data.root}: the split {config.data.train_split!r} is empty")
    settings = config.train
    for part in settings.freeze:
        part_of(segmenter, part).requires_grad_(False)
    door = _Door(segmenter)
    schedule = _Schedule(settings, door)
    fabric = make_fabric(config, out)
    one = run_folder(out, restart) if fabric.is_global_zero else nullcontext(RunFolder(out))
    with one as folder:
        # Moved before anything is resumed: what the optimiser has summed up follows its parameters.
        model, optimiser = fabric.setup(door, build_optimiser(settings.optimiser, segmenter))
        start, best = 0, -math.inf
        if (out / LAST).is_file() and not restart:
            start, best = _resume(out / LAST, config, segmenter, optimiser)
            log.info("going on from %s after %d iterations", out / LAST, start)
        if fabric.is_global_zero:
            write_text(folder.path / CONFIG, yaml.safe_dump(to_dict(config)))
        end = settings.optimiser.iterations
        stop = min(end, start + stop_after) if stop_after else end
        keeper = CheckpointSaver(folder, segmenter, config, fabric, best)
        journal = MetricLogger(folder, fabric, start)
        values: dict[str, float] = {}
        feed = _Feed(config, segmenter, dataset, out, fabric)
        bar = tqdm(
            _batches(config, schedule.phases, feed, start, stop, fabric),
            initial=start,
            total=end,
            desc=f"training {config.name}",
            unit="it",
            disable=not fabric.is_global_zero,
        )
        for iteration, batch in enumerate(bar, start + 1):
            rate = schedule.enter(iteration - 1)
            journal.add(_step(fabric, model, optimiser, batch, rate, config, iteration))
            kept = iteration % settings.checkpoint_every == 0 or iteration == stop
            if iteration % settings.log_every == 0 or kept:  # who goes on from here has all lines
                values = journal.flush(iteration, rate)
                bar.set_postfix(_shown(values))
            if validate is not None and _is_due(iteration, settings.evaluate_every, end):
                keeper.keep_best(iteration, validate(segmenter))
                segmenter.train()
            if kept:
                keeper.keep_last(iteration, optimiser)
        _log_unmatched(journal.counts, config)
        fabric.logger.finalize("success")
        return Progress(stop, values)


def _is_due(iteration: int, every: int, end: int) -> bool:
    """Whether something that is done every so many iterations (0: never) and at the end is due."""
    return iteration == end or bool(every and iteration % every == 0)


def _shown(values: dict[str, float]) -> dict[str, str]:
    """The losses for the progress bar."""
    losses = ((k, v) for k, v in values.items() if "/" not in k and k != "learning_rate")
    return {name: f"{value:.3f}" for name, value in losses}


def _log_unmatched(counts: dict[str, float], config: Config) -> None:
    """Says how many sentences were not learned from, where there are such."""
    if counts.get("count/unmatched"):
        log.info(
            "%d of %d sentences had no proposal with IoU >= %.2f and taught nothing",
            counts["count/unmatched"],
            counts["count/sentences"],
            config.aamn.match_iou,
        )


def _step(
    fabric: Fabric,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: _Batch,
    rate: float,
    config: Config,
    iteration: int,
) -> dict[str, torch.Tensor]:
    """One iteration; its randomness is that of (seed, iteration, process)."""
    torch.manual_seed((config.seed * 1_000_003 + iteration) * 64 + fabric.global_rank)
    model.train()
    for group in optimiser.param_groups:
        group["lr"] = rate
    losses = model(batch)
    if not torch.isfinite(losses["total"]):
        raise InputError(
            f"the loss is {losses['total'].item()} at iteration {iteration}; lower "
            "train.optimiser.lr, or set train.optimiser.clip_norm"
        )
    if not losses["total"].requires_grad:
        raise InputError(
            f"iteration {iteration}: the losses depend on no part that learns; change "
            "train.freeze, or this phase's losses or freeze in train.phases"
        )
    optimiser.zero_grad(set_to_none=True)
    fabric.backward(losses["total"])
    if config.train.optimiser.clip_norm:
        fabric.clip_gradients(model, optimiser, max_norm=config.train.optimiser.clip_norm)
    optimiser.step()
    return losses


def _batches(
    config: Config,
    phases: Sequence[Phase],
    feed: Callable[[Shown], Dataset],
    start: int,
    stop: int,
    fabric: Fabric,
) -> Iterator[_Batch]:
    """The batches of iterations start..stop-1; what a phase shows is made when it begins."""
    for phase in phases:
        first, last = max(start, phase.start), min(stop, phase.stop)
        if first < last:
            loader = _loader(config, feed(phase.shown), phase, first, last, fabric)
            yield from loaded(loader)


def _loader(
    config: Config, dataset: Dataset, phase: Phase, start: int, stop: int, fabric: Fabric
) -> DataLoader:
    sampler = IterationSampler(
        len(dataset),  # type: ignore[arg-type]
        phase.batch,
        config.seed,
        start,
        stop,
        fabric.global_rank,
        fabric.world_size,
    )
    workers = 0 if phase.shown == "tubes" else config.data.workers
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_Batch,
        prefetch_factor=4 if workers else None,
        worker_init_fn=end_with_parent,
    )


@dataclass(frozen=True)
class _Feed:
    """What a phase shows -> its data set."""

    config: Config
    segmenter: Segmenter
    samples: SampleDataset
    out: Path
    fabric: Fabric

    def __call__(self, shown: Shown) -> Dataset:
        makers: dict[Shown, Callable[[], Dataset]] = {
            "clips": lambda: self.samples,
            "key_frames": lambda: self.samples.of_key_frames(),
            "tubes": self._tubes,
        }
        return makers[shown]()

    def _tubes(self) -> TubeDataset:
        """One process describes the tubes, the others read them."""
        if not isinstance(self.segmenter, TubeMatching):
            raise InputError("train.phases: this system learns from clips alone; it has no tubes")
        for mine in (True, False):
            if self.fabric.is_global_zero == mine:
                with self.fabric.autocast():
                    kept = keep_tubes(self.segmenter, self.samples, self.out, self.config.data)
            self.fabric.barrier()
        return TubeDataset(self.samples, kept)
