"""Training in phases (Table VII): each minimises its own losses over its share of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from aamn.config.schema import Shown, TrainConfig
from proposals.errors import InputError

JOINT = {"total": 1.0}


@dataclass(frozen=True)
class Phase:
    """Iterations start..stop-1 (0-based): factors of the named losses to minimise, the parts that
    do not learn meanwhile, and what an iteration is shown, how many samples of it."""

    start: int
    stop: int
    losses: Mapping[str, float]
    freeze: tuple[str, ...]
    shown: Shown
    batch: int

    def in_schedule(self, iteration: int, length: int) -> int:
        """The iteration of a schedule of `length` iterations that falls on one of this phase: each
        phase runs through the whole schedule, because the paper trains each until convergence."""
        return (iteration - self.start) * length // max(1, self.stop - self.start)

    def begin(self, segmenter: nn.Module, learning: set[str]) -> None:
        """Lets the parameters named in `learning` learn, but for the frozen parts.

        Raises:
            InputError: a part that the segmenter does not have.
        """
        frozen = {id(p) for part in self.freeze for p in part_of(segmenter, part).parameters()}
        for name, parameter in segmenter.named_parameters():
            parameter.requires_grad_(name in learning and id(parameter) not in frozen)


def part_of(segmenter: nn.Module, name: str) -> nn.Module:
    """A part by its name, such as "mask_head" or "streams.flow".

    Raises:
        InputError: no such part.
    """
    try:
        return segmenter.get_submodule(name)
    except AttributeError:
        known = ", ".join(child for child, _ in segmenter.named_children())
        raise InputError(f"freeze: there is no part {name!r}; the parts are {known}") from None


def check_phases(phases: Sequence[Phase], segmenter: nn.Module, learning: set[str]) -> None:
    """Raises InputError where a phase names a part that is not there, or leaves nothing to learn;
    `learning` are the names of the parameters that learn in all others."""
    if not learning:
        raise InputError("train.freeze: nothing is left that learns; leave a part out")
    for number, phase in enumerate(phases):
        frozen = {id(p) for part in phase.freeze for p in part_of(segmenter, part).parameters()}
        if all(id(p) in frozen for name, p in segmenter.named_parameters() if name in learning):
            raise InputError(
                f"train.phases[{number}].freeze: {', '.join(phase.freeze)} are all that learns; "
                "leave one out"
            )


def plan_phases(config: TrainConfig) -> list[Phase]:
    """The run's phases in their order; one joint phase where none is configured.

    Raises:
        InputError: shares that are not positive or do not add up to 1.
    """
    end = config.optimiser.iterations
    if not config.phases:
        return [Phase(0, end, JOINT, (), "clips", config.batch)]
    shares = [phase.share for phase in config.phases]
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"train.phases: wanted positive shares that add up to 1, got {shares}")
    ends = [round(end * sum(shares[: place + 1])) for place in range(len(shares))]
    starts = [0, *ends[:-1]]
    return [
        Phase(
            start,
            stop,
            dict(phase.losses) or JOINT,
            tuple(phase.freeze),
            phase.shown,
            phase.batch or config.batch,
        )
        for start, stop, phase in zip(starts, ends, config.phases, strict=True)
    ]


def phase_at(phases: list[Phase], iteration: int) -> Phase:
    """The phase of one iteration; the last one beyond the end."""
    return next((phase for phase in phases if iteration < phase.stop), phases[-1])
