"""Two processes under torchrun against one process with the double batch, on the CPU with gloo."""

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


def torchrun(*words):
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "-m", "tiny_training", *map(str, words)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("more", [(), (PHASES,)], ids=["joint", "phases"])
def test_two_processes_train_as_one_with_the_double_batch(more, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train_divisibly(one, "train.batch=4", *more)
    torchrun(two, "train.batch=2", *more)
    lines = list(zip(curve(one), curve(two), strict=True))
    assert len(lines) == 4
    for alone, together in lines:
        assert together == pytest.approx(alone, rel=1e-4)
    assert lines[0][0]["total"] != pytest.approx(lines[3][0]["total"], rel=1e-2), "it has learned"
    a, b = (read_checkpoint(out / "last.pt")["model"] for out in (one, two))
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, atol=2e-4, rtol=1e-3, msg=name)
