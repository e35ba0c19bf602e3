"""tools/extract_flow.py as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from aamn.data.flow_store import FlowStore

TOOLS = Path(__file__).resolve().parents[3] / "tools"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / "extract_flow.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(TOOLS.parent)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_data_set_then_videos_that_fail(a2d_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "flow.h5"
    options = ("--out", out, "--workers", 0, "--set", "flow.preset=fast")
    done = run("--data", a2d_root, *options)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert FlowStore.read(out).video_ids == ["--first", "sec_ond", "third-3"]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    failed = run("--videos", broken, a2d_root / "Release" / "clips320H", *options)
    assert failed.returncode == 1
    assert f"broken: {broken}" in failed.stderr and "Traceback" not in failed.stderr
    assert len(FlowStore.read(out).video_ids) == 3


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    nothing = run("--out", tmp_path / "flow.h5")
    assert nothing.returncode == 2
    assert nothing.stderr.strip().splitlines()[-1].startswith("error: wanted --data ROOT")
    unknown = run("--data", tmp_path, "--set", "flow.speed=3")
    assert unknown.returncode == 2 and "flow.speed=3" in unknown.stderr
