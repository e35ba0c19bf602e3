"""One video -> one file, by this process and by others that die of some of them."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_work import Tell

from aamn.jobs import engine as engine_module
from aamn.jobs.engine import Here, Local, local_engine, run
from aamn.jobs.engines import EngineOptions, open_engine
from proposals.decoding import Video
from proposals.errors import InputError

ROOT = Path(__file__).parents[3]


def videos(*names):
    return [Video(name, Path(f"{name}.mp4")) for name in names]


def written(folder):
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


ENGINES = pytest.mark.parametrize("engine", [Here(), Local(2)], ids=["here", "local"])


@ENGINES
def test_what_fails_is_told_and_keeps_no_other_video(tmp_path, engine, caplog):
    given = videos("a", "broken", "bug", "busy", "short", "z")
    with caplog.at_level(logging.INFO):
        failures = run(Tell(tmp_path), given, engine, "telling")
    assert failures == {
        "broken": "broken.mp4 is broken",
        "bug": "KeyError: 'no such thing'",
        "short": "ends early",
    }
    assert written(tmp_path) == ["a", "busy", "short", "z"]
    assert (tmp_path / "busy").read_text() == "busy True", "at last, and patiently"
    assert (tmp_path / "a").read_text() == "a False"
    errors = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert sorted(errors) == sorted(f"{name}: {said}" for name, said in failures.items())


@ENGINES
def test_a_full_disk_or_a_work_that_cannot_be_opened_ends_the_job(tmp_path, engine):
    with pytest.raises(InputError, match="the disk is full"):
        run(Tell(tmp_path), videos("full", "a"), engine, "telling")
    with pytest.raises(InputError, match="no model"):
        run(Tell(tmp_path, "no model"), videos("a", "b"), engine, "telling")
    assert run(Tell(tmp_path), [], engine, "telling") == {}
    with pytest.raises(InputError, match="is broken"):
        run(Tell(tmp_path), videos("broken"), engine, "telling", strict=True)


def test_a_dead_worker_s_video_is_tried_thrice_again(tmp_path, caplog):
    given = videos("a", "kills-1", "kills-99", "z")
    failures = run(Tell(tmp_path), given, Local(2), "telling")
    assert written(tmp_path) == ["a", "kills-1", "z"]
    assert failures.keys() == {"kills-99"} and "4 workers died of it" in failures["kills-99"]
    assert (tmp_path / ".kills-1").stat().st_size == 2
    assert (tmp_path / ".kills-99").stat().st_size == 4
    assert sum("tried again" in one.getMessage() for one in caplog.records) == 4


def test_the_processes_are_as_many_as_are_worth_it(monkeypatch):
    assert isinstance(local_engine(1), Here) and local_engine(3) == Local(3)
    assert [Local(3, 4).count(n) for n in (1, 4, 8, 11, 12, 99)] == [1, 1, 2, 2, 3, 3]
    assert [Local(3).count(n) for n in (1, 2, 9)] == [1, 2, 3]
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5, 6, 7})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert local_engine() == Local(2, engine_module.WORTH_A_PROCESS)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert isinstance(local_engine(), Here)


def ray_installed():
    pytest.importorskip("ray", reason="the extra cluster is not installed")


def test_no_cluster_is_one_line():
    ray_installed()
    options = EngineOptions("ray", address="127.0.0.2:1")
    refused = pytest.raises(InputError, match=r"--address 127.0.0.2:1: no Ray cluster answers")
    with refused, open_engine(options):
        pass


@pytest.fixture
def cluster(tmp_path):
    """The address of a Ray cluster of this machine with two cores, in processes of its own."""
    ray_installed()
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    port = free_port()
    place = ["--node-ip-address=127.0.0.2", f"--port={port}"]  # Ray rewrites 127.0.0.1
    sizes = ["--num-cpus=2", "--num-gpus=0", "--object-store-memory=80000000"]
    quiet = ["--include-dashboard=false", "--disable-usage-stats"]
    started = subprocess.Popen(
        [*command, *place, *sizes, *quiet],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    yield f"127.0.0.2:{port}"
    started.send_signal(signal.SIGTERM)
    started.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.2", 0))
        return one.getsockname()[1]


@pytest.mark.slow
def test_a_cluster_does_the_same(tmp_path, cluster):
    """One worker is killed by its video once, another always."""
    begin = time.monotonic()
    while True:
        try:
            with open_engine(EngineOptions("ray", address=cluster)) as engine:
                assert engine.count(9) == 2 and engine.count(1) == 1
                given = videos("a", "broken", "kills-1", "kills-99", "z")
                failures = run(Tell(tmp_path), given, engine, "telling")
            break
        except InputError as error:  # it is starting
            if "no Ray cluster" not in str(error) or time.monotonic() - begin > 600:
                raise
    assert failures.keys() == {"broken", "kills-99"} and written(tmp_path) == ["a", "kills-1", "z"]
    assert (tmp_path / ".kills-99").stat().st_size == 4
