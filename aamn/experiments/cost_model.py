"""How near the parts of an index are to what the machine can do, and how cost grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from aamn.index.timer import AHEAD, WAITING, Timer

PRODUCT = 1536  # rows and columns of the matrices that are multiplied
COPIED = 1 << 28  # bytes that are copied
REPEATS = 3
PARTS: dict[str, tuple[str, ...]] = {  # part of an index -> parts of a frame's costs
    "streams": ("rgb backbone", "flow backbone", "rgb regions", "flow regions"),
    "boxes": ("detector's backbone", "detector's proposals", "detector's boxes"),
    "tubes": ("matching",),
    "masks": ("mask head",),
}


@dataclass(frozen=True)
class Machine:
    """What it does in a second at most: floating-point operations of a matrix product, bytes that a
    copy reads and writes."""

    flops: float
    bytes: float


def measure_machine(
    half: bool = False, device: torch.device | None = None, clock: Callable[[], float] | None = None
) -> Machine:
    """The best of a few matrix products, in bfloat16 with `half`, and of a few copies."""
    kind = torch.bfloat16 if half else torch.float32
    one, two = (torch.ones(PRODUCT, PRODUCT, dtype=kind, device=device) for _ in range(2))
    source, target = (torch.ones(COPIED, dtype=torch.uint8, device=device) for _ in range(2))
    clock = clock or time.perf_counter
    product = _least(lambda: one @ two, clock)
    copy = _least(lambda: target.copy_(source), clock)
    return Machine(2 * PRODUCT**3 / product, 2 * COPIED / copy)


def _least(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of the fastest of some calls, the first of which warms up."""
    work()
    taken = []
    for _ in range(REPEATS):
        begin = clock()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(clock() - begin)
    return min(taken)


@dataclass(frozen=True)
class PartCost:
    """One part of an index, a frame: operations, bytes that its layers read and write at least, and
    seconds."""

    flops: float
    bytes: float
    seconds: float

    def shares(self, machine: Machine) -> tuple[float, float]:
        """Of the machine's operations and bytes a second."""
        if not self.seconds:
            return 0.0, 0.0
        of_flops = self.flops / self.seconds / machine.flops
        return of_flops, self.bytes / self.seconds / machine.bytes

    def least(self, machine: Machine) -> float:
        """Seconds below which the machine cannot do it."""
        return max(self.flops / machine.flops, self.bytes / machine.bytes)


def part_costs(
    timer: Timer, frames: int, flops: Mapping[str, float], moved: Mapping[str, float]
) -> dict[str, PartCost]:
    """The parts of an index of so many frames, by the operations and bytes of a frame's parts."""
    return {
        part: PartCost(
            sum(flops.get(name, 0.0) for name in names),
            sum(moved.get(name, 0.0) for name in names),
            timer.seconds.get(part, 0.0) / frames,
        )
        for part, names in PARTS.items()
    }


def cost_table(costs: Mapping[str, PartCost], machine: Machine) -> str:
    """A line a part: GFLOP, MB, ms a frame, and the shares of the machine's peaks."""
    heads = ("GFLOP", "MB", "ms", "of peak", "of copy", "least ms")
    lines = [f"{'part':<24}" + "".join(f"{head:>10}" for head in heads)]
    for name, cost in costs.items():
        peak, copy = cost.shares(machine)
        lines.append(
            f"{name + ', a frame':<24}{cost.flops / 1e9:10.3f}{cost.bytes / 1e6:10.1f}"
            f"{1000 * cost.seconds:10.2f}{peak:10.2f}{copy:10.2f}{1000 * cost.least(machine):10.2f}"
        )
    lines.append(
        f"the machine at most: {machine.flops / 1e9:.0f} GFLOP/s in a matrix product, "
        f"{machine.bytes / 1e9:.1f} GB/s in a copy"
    )
    return "\n".join(lines)


def chain_line(timer: Timer, wall: float) -> str:
    """What bounds an index, and how much longer it took."""
    chain = max(timer.working, timer.ahead)
    alone = {name: timer.seconds.get(name, 0.0) for name in (*AHEAD, WAITING)}
    said = ", ".join(f"{name} {1000 * value:.1f}" for name, value in alone.items())
    return (
        f"bounded by {timer.bound}: {1000 * chain:.1f} ms; the index took {wall / chain:.3f} of it"
        f" (ms in a thread ahead, and waited for: {said})"
    )


def exponent(factors: Sequence[float], seconds: Sequence[float]) -> float:
    """p of seconds ~ factor ** p, by least squares of the logarithms: 1 grows in proportion."""
    x, y = torch.tensor(factors).log(), torch.tensor(seconds).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())
