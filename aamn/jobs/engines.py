"""Which engine a command's options mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aamn.jobs.engine import Engine, local_engine

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class EngineOptions:
    """The engine's name; processes of this machine (None: as many as are fastest); the address of a
    cluster, and the cores of each of its workers."""

    engine: str = "local"
    processes: int | None = None
    address: str = "auto"
    cores: int = 1


@contextmanager
def open_engine(options: EngineOptions) -> Iterator[Engine]:
    """The engine, as long as the block lasts.

    Raises:
        InputError: there is no such cluster, or its package is missing.
    """
    if options.engine == "ray":
        from aamn.jobs.ray_cluster import ray_cluster

        with ray_cluster(options.address, options.cores) as engine:
            yield engine
    else:
        yield local_engine(options.processes)
