"""The engine that is a Ray cluster: one actor a GPU, or so many cores."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aamn.jobs.engine import Engine, Outcome, Work, Worker, do_video, open_work
from proposals.decoding import Video
from proposals.errors import InputError

try:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its warning
    import ray
except ImportError:
    raise InputError("--engine ray needs Ray: pip install 'aamn[cluster]'") from None

PATIENCE = 10  # seconds that a cluster has to answer


class _Actor:
    """What runs on the cluster: one work, one video at a time."""

    def __init__(self, folder: str, cache: str | None) -> None:
        with suppress(OSError):  # a machine with its own disks has no such folder
            os.chdir(folder)
        if cache is not None:
            os.environ["AAMN_CACHE"] = cache

    def open(self, work: Work, threads: int) -> Outcome:
        return open_work(work, threads)

    def do(self, video: Video, patient: bool) -> Outcome:
        return do_video(video, patient)


class _RayWorker:
    def __init__(self, work: Work, threads: int, resources: dict[str, int]) -> None:
        self.work, self.threads = work, threads
        remote: Any = ray.remote  # whose types know no options by their names
        kind = remote(max_restarts=0, **resources)(_Actor)
        self.actor: Any = kind.remote(str(Path.cwd()), os.environ.get("AAMN_CACHE"))

    def ready(self) -> Future[Outcome]:
        return self.actor.open.remote(self.work, self.threads).future()

    def submit(self, video: Video, patient: bool) -> Future[Outcome]:
        return self.actor.do.remote(video, patient).future()

    def end(self) -> None:
        ray.kill(self.actor)


class RayCluster:
    """Workers of a cluster; those of a machine that is gone wait for another one."""

    @property
    def died(self) -> tuple[type[BaseException], ...]:
        return (ray.exceptions.RayError,)  # what an actor raises itself is an outcome

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.gpus = int(ray.cluster_resources().get("GPU", 0))

    def count(self, videos: int) -> int:
        room = int(ray.cluster_resources().get("CPU", 0)) // self.cores
        return max(1, min(self.gpus or room, videos))

    def start(self, work: Work) -> Worker:
        resources = {"num_cpus": self.cores, "num_gpus": 1 if self.gpus else 0}
        return _RayWorker(work, self.cores, resources)


def _knock(address: str) -> None:
    """Raises OSError at once where nothing answers, for which Ray would wait a minute."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()


@contextmanager
def ray_cluster(address: str, cores: int) -> Iterator[Engine]:
    """The cluster at an address; "auto" is the one that this machine is part of.

    Raises:
        InputError: there is none.
    """
    try:
        _knock(address)
        ray.init(address=address, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"--address {address}: no Ray cluster answers ({reason}); `ray start --head` starts one"
        ) from None
    try:
        yield RayCluster(cores)
    finally:
        ray.shutdown()
