"""Which samples an iteration learns from."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


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
            indices = range(iteration * whole, (iteration + 1) * whole)[self.rank :: self.world]
            chosen = []
            for place in indices:
                if place // self.samples != epoch:
                    epoch = place // self.samples
                    generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                    order = torch.randperm(self.samples, generator=generator).tolist()
                chosen.append((epoch, order[place % self.samples]))
            yield chosen
