"""Two processes under torchrun, on one node and on two, against one process with the double batch;
on the CPU with gloo."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from tiny_training import curve, train_divisibly

from aamn.inference.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[3]
PHASES = "train.phases=[{share: 0.5, losses: {mask: 5.0}}, {share: 0.5, losses: {matching: 1.0}}]"


RUNS = {"joint": (), "phases": (PHASES,)}


# torchrun's words, one process of it a node: how the two that train find each other
ONE_NODE = [["--standalone", "--nproc-per-node=2"]]


def two_nodes():
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    shared = [
        "--nnodes=2",
        "--nproc-per-node=1",
        "--master-addr=127.0.0.2",
        f"--master-port={port}",
    ]
    return [[*shared, f"--node-rank={n}", f"--local-addr=127.0.0.{2 + n}"] for n in (0, 1)]


def torchrun(nodes, *runs):
    """Trains one run after another in two processes, which end with torchrun whatever happens."""
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    }
    with ExitStack() as ends:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *words]
                + ["-m", "tiny_training", json.dumps(runs)],
                env=environment,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for words in nodes
        ]
        for one in started:
            ends.callback(ended, one)
        for one in started:
            _, errors = one.communicate(timeout=1800)
            assert one.returncode == 0, errors[-2000:]


def ended(process):
    if process.poll() is None:
        process.terminate()  # unlike SIGKILL, torchrun hands it on
        process.communicate()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder of both runs by two processes, which take seconds to start: one by a torchrun with
    two, the other by two of one each, as on two machines."""
    folder = tmp_path_factory.mktemp("two")
    for nodes, (name, more) in zip((ONE_NODE, two_nodes()), RUNS.items(), strict=True):
        torchrun(nodes, (str(folder / name), "train.batch=2", *more))
    return folder


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.slow
def test_two_processes_train_as_one_with_the_double_batch(name, together, tmp_path):
    one, two = tmp_path / "one", together / name
    train_divisibly(one, "train.batch=4", *RUNS[name])
    lines = list(zip(curve(one), curve(two), strict=True))
    assert len(lines) == 4
    for alone, together in lines:
        assert together == pytest.approx(alone, rel=1e-4)
    assert lines[0][0]["total"] != pytest.approx(lines[3][0]["total"], rel=1e-2), "it has learned"
    a, b = (read_checkpoint(out / "last.pt")["model"] for out in (one, two))
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, atol=2e-4, rtol=1e-3, msg=name)
