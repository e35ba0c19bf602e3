"""Two processes under torchrun against one process with the double batch, on the CPU with gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import curve, train_divisibly

from aamn.inference.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[3]
PHASES = "train.phases=[{share: 0.5, losses: {mask: 5.0}}, {share: 0.5, losses: {matching: 1.0}}]"


RUNS = {"joint": (), "phases": (PHASES,)}


def torchrun(*runs):
    """Trains one run after another in two processes, which end with torchrun whatever happens."""
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    started = subprocess.Popen(
        [*command, "-m", "tiny_training", json.dumps(runs)],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, errors = started.communicate(timeout=1800)
    finally:
        if started.poll() is None:
            started.terminate()  # unlike SIGKILL, torchrun hands it on
            started.communicate()
    assert started.returncode == 0, errors[-2000:]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder of both runs by two processes, which take seconds to start."""
    folder = tmp_path_factory.mktemp("two")
    torchrun(*((str(folder / name), "train.batch=2", *more) for name, more in RUNS.items()))
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
