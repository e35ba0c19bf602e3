"""Training: drives any Segmenter with Lightning Fabric, resumes to the same curve.

All randomness of an iteration derives from (seed, iteration), and the order of the samples from
(seed, epoch), so a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.fabric import Fabric
from lightning.fabric.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from aamn.checkpoint import read_checkpoint, save_checkpoint
from aamn.config import Config, OptimiserConfig, TrainConfig, to_dict
from aamn.data.words import Vocabulary
from aamn.models.segmenter import Segmenter
from aamn.phases import JOINT, part_of, phase_at, plan_phases
from aamn.structures import Sample
from proposals.errors import InputError

log = logging.getLogger("aamn")

MAY_CHANGE_ON_RESUME = ("name", "data", "train")  # parts of the configuration


class IterationSampler(Sampler[list[tuple[int, int]]]):
    """The samples of each iteration as (epoch, index), in an order drawn from (seed, epoch).

    Iteration i of a run is the same whether the run began at 0 or was resumed; with several
    processes each gets its share of every batch.
    """

    def __init__(
        self,
        samples: int,
        batch: int,
        seed: int,
        start: int,
        stop: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.samples, self.batch, self.seed = samples, batch, seed
        self.start, self.stop, self.rank, self.world = start, stop, rank, world

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, []
        whole = self.batch * self.world
        for iteration in range(self.start, self.stop):
            places = range(iteration * whole, (iteration + 1) * whole)[self.rank :: self.world]
            chosen = []
            for place in places:
                if place // self.samples != epoch:
                    epoch = place // self.samples
                    generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                    order = torch.randperm(self.samples, generator=generator).tolist()
                chosen.append((epoch, order[place % self.samples]))
            yield chosen


def learning_rate(config: OptimiserConfig, iteration: int) -> float:
    """The rate of one iteration: linear warm-up, then steps of a tenth or half a cosine."""
    if iteration < config.warmup:
        return config.lr * (iteration + 1) / (config.warmup + 1)
    if config.schedule == "cosine":
        progress = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
        return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if config.schedule == "step":
        return config.lr * 0.1 ** sum(iteration >= milestone for milestone in config.milestones)
    raise InputError(f"train.optimiser.schedule: 'step' or 'cosine', got {config.schedule!r}")


def build_optimiser(config: OptimiserConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all parameters that learn; vectors and scalars are not decayed."""
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learning if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    raise InputError(f"train.optimiser.name: 'sgd' or 'adamw', got {config.name!r}")


class _Batch:
    """Samples in a wrapper that Fabric and DDP hand through as it is; they would try to convert
    every field of a dataclass."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples


class _Door(nn.Module):
    """The module whose forward DDP and autocast wrap; only the loss of the phase has a graph."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.factors = JOINT

    def forward(self, batch: _Batch) -> dict[str, torch.Tensor]:
        losses = self.segmenter(batch.samples)
        unknown = sorted(self.factors.keys() - losses.keys())
        if unknown:
            raise InputError(
                f"train.phases: no loss {unknown[0]!r}; this system has "
                f"{', '.join(name for name in losses if '/' not in name)}"
            )
        total = sum(factor * losses[name] for name, factor in self.factors.items())
        return {name: loss.detach() for name, loss in losses.items()} | {"total": total}


@dataclass(frozen=True)
class Progress:
    """Where a run stands: how many iterations are done, and the last logged losses."""

    iteration: int
    losses: dict[str, float]


def _computes_in_bfloat16() -> bool:
    """Whether the device that will be used has instructions for bfloat16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    known = {"avx512_bf16", "amx_bf16"}
    return flags.is_file() and bool(known & set(flags.read_text(errors="replace").split()))


def choose_precision(precision: str) -> str:
    """What "auto" means here; any other name is itself."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if _computes_in_bfloat16() else "32-true"


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
    stored, own = _lasting(content["config"]), _lasting(to_dict(config))
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


class _Journal:
    """log.jsonl and TensorBoard: one line every `log_every` iterations, none twice; of all
    processes together."""

    def __init__(self, path: Path, fabric: Fabric, start: int) -> None:
        self.path, self.fabric = path, fabric
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}  # of this process, over the whole call
        self.steps = 0
        if fabric.is_global_zero:
            kept = []
            if path.is_file() and start:
                lines = path.read_text(encoding="utf-8").splitlines()
                kept = [line for line in lines if json.loads(line)["iteration"] <= start]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
            if name.startswith("count/"):
                self.counts[name] = self.counts.get(name, 0.0) + float(value.detach())
        self.steps += 1

    def flush(self, iteration: int, rate: float) -> dict[str, float]:
        """Means of the losses and sums of the counts since the last line."""
        sums = self.fabric.all_reduce(torch.tensor(list(self.sums.values())), reduce_op="sum")
        losses = max(1, self.steps) * self.fabric.world_size
        values = {
            name: total if name.startswith("count/") else total / losses
            for name, total in zip(self.sums, sums.tolist(), strict=True)
        }
        values["learning_rate"] = rate
        if self.fabric.is_global_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"iteration": iteration, **values}) + "\n")
        self.fabric.log_dict(values, step=iteration)
        self.sums, self.steps = {}, 0
        return values


class _Schedule:
    """The phases of a run: what learns, from which losses, and at which rate."""

    def __init__(self, config: TrainConfig, door: _Door) -> None:
        self.config, self.door = config, door
        self.phases, self.phase = plan_phases(config), None
        parameters = door.segmenter.named_parameters()
        self.learning = {name for name, p in parameters if p.requires_grad}

    def enter(self, iteration: int) -> float:
        """Begins the phase of an iteration (0-based) where another was on; its learning rate."""
        phase = phase_at(self.phases, iteration)
        if phase is not self.phase:
            phase.begin(self.door.segmenter, self.learning)
            self.phase, self.door.factors = phase, phase.losses
        optimiser = self.config.optimiser
        return learning_rate(optimiser, phase.in_schedule(iteration, optimiser.iterations))


class _Keeper:
    """last.pt and best.pt of a run; the first of several processes writes them."""

    def __init__(
        self,
        out: Path,
        segmenter: Segmenter,
        vocabulary: Vocabulary,
        config: Config,
        fabric: Fabric,
        best: float,
    ) -> None:
        self.out, self.fabric, self.best = out, fabric, best
        self.model = (segmenter, vocabulary, config)

    def keep_best(self, iteration: int, score: float) -> None:
        """Writes best.pt where a validation's score is the highest so far."""
        self.fabric.log_dict({"validation": score}, step=iteration)
        if score > self.best:
            self.best = score
            if self.fabric.is_global_zero:
                save_checkpoint(self.out / "best.pt", *self.model, iteration, best=score)

    def keep_last(self, iteration: int, optimiser: torch.optim.Optimizer) -> None:
        """Writes last.pt, from which training can go on."""
        if self.fabric.is_global_zero:
            state = optimiser.state_dict()
            save_checkpoint(self.out / "last.pt", *self.model, iteration, state, self.best)


def train(
    config: Config,
    segmenter: Segmenter,
    dataset: Dataset,
    vocabulary: Vocabulary,
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
        restart: begin anew even if there is a checkpoint; an older best.pt no longer counts.
        stop_after: end this call after so many iterations (0: run to the end).

    Raises:
        InputError: nothing to train on, or a checkpoint of another configuration.
    """
    if not len(dataset):
        raise InputError(f"{config.data.root}: the split {config.data.train_split!r} is empty")
    out.mkdir(parents=True, exist_ok=True)
    fabric, settings = make_fabric(config, out), config.train
    for part in settings.freeze:
        part_of(segmenter, part).requires_grad_(False)
    door = _Door(segmenter)
    schedule = _Schedule(settings, door)
    # Moved before anything is resumed: what the optimiser has summed up follows its parameters.
    model, optimiser = fabric.setup(door, build_optimiser(settings.optimiser, segmenter))
    start, best = 0, -math.inf
    if (out / "last.pt").is_file() and not restart:
        start, best = _resume(out / "last.pt", config, segmenter, optimiser)
        log.info("going on from %s after %d iterations", out / "last.pt", start)
    if fabric.is_global_zero:
        (out / "config.yaml").write_text(yaml.safe_dump(to_dict(config)), encoding="utf-8")
    end = settings.optimiser.iterations
    stop = min(end, start + stop_after) if stop_after else end
    keeper = _Keeper(out, segmenter, vocabulary, config, fabric, best)
    journal = _Journal(out / "log.jsonl", fabric, start)
    values: dict[str, float] = {}
    bar = tqdm(
        _loader(config, dataset, start, stop, fabric),
        initial=start,
        total=end,
        desc=f"training {config.name}",
        unit="it",
        disable=not fabric.is_global_zero,
    )
    for iteration, batch in enumerate(bar, start + 1):
        rate = schedule.enter(iteration - 1)
        journal.add(_step(fabric, model, optimiser, batch, rate, config, iteration))
        if iteration % settings.log_every == 0 or iteration == stop:
            values = journal.flush(iteration, rate)
            bar.set_postfix(_shown(values))
        if validate is not None and _is_due(iteration, settings.evaluate_every, end):
            keeper.keep_best(iteration, validate(segmenter))
            segmenter.train()
        if iteration % settings.checkpoint_every == 0 or iteration == stop:
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
    optimiser.zero_grad(set_to_none=True)
    fabric.backward(losses["total"])
    if config.train.optimiser.clip_norm:
        fabric.clip_gradients(model, optimiser, max_norm=config.train.optimiser.clip_norm)
    optimiser.step()
    return losses


def _loader(config: Config, dataset: Dataset, start: int, stop: int, fabric: Fabric) -> DataLoader:
    sampler = IterationSampler(
        len(dataset),
        config.train.batch,
        config.seed,
        start,
        stop,
        fabric.global_rank,
        fabric.world_size,
    )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=config.data.workers,
        collate_fn=_Batch,
        prefetch_factor=4 if config.data.workers else None,
    )
