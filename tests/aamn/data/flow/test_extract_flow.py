"""`aamn flow` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aamn.data.flow.store import FlowStore
from aamn.jobs import flow as flow_job
from aamn.jobs.engine import Here, Local


def test_a_data_set_then_videos_that_fail(
    a2d_root: Path, tmp_path: Path, run_tool: Callable[..., Any]
) -> None:
    out = tmp_path / "flow.h5"
    options = ("--out", out, "--workers", 0, "--set", "flow.preset=fast")
    assert run_tool("extract_flow", "--data", a2d_root, *options).code == 0
    store = FlowStore.read(out)
    assert store.video_ids == ["--first", "sec_ond", "third-3"]
    assert store.attributes["preset"] == "fast"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    clips = a2d_root / "Release" / "clips320H"
    failed = run_tool("extract_flow", "--videos", broken, clips, *options)
    assert failed.code == 1 and f"broken: {broken}" in failed.log
    assert len(FlowStore.read(out).video_ids) == 3


def test_the_recipe_names_the_file_and_the_grid(
    a2d_root: Path, tmp_path: Path, run_tool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("--set", "flow.preset=ultrafast", "--set", "flow.longest_side=16")
    root = ("--set", f"data.root={a2d_root}", "--set", "data.workers=0")
    named = ("--set", f"data.flow={tmp_path / 'named.h5'}")
    found = run_tool("extract_flow", *settings, *root, *named)
    assert found.code == 0 and f"wrote {tmp_path / 'named.h5'}" in found.log
    store = FlowStore.read(tmp_path / "named.h5")
    assert store.video_ids == ["--first", "sec_ond", "third-3"]  # of both splits
    assert store.attributes["longest_side"] == 16
    assert store.window("--first", np.array([0])).shape == (1, 2, 12, 16)
    monkeypatch.chdir(tmp_path)
    video = a2d_root / "Release" / "clips320H" / "sec_ond.mp4"
    assert run_tool("extract_flow", "--videos", video, *settings, "--workers", 0).code == 0
    assert FlowStore.read(tmp_path / "flow.h5").video_ids == ["sec_ond"]


def test_processes_are_those_of_the_option_or_the_recipe(
    a2d_root: Path, tmp_path: Path, run_tool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(flow_job, "flow_of_videos", lambda *a: asked.append(a[3]) or 0)
    options = ("--data", a2d_root, "--out", tmp_path / "f.h5", "--set", "data.workers=3")
    for workers in ((), ("--workers", 0), ("--workers", 2)):
        assert run_tool("extract_flow", *options, *workers).code == 0
    assert run_tool("extract_flow", *options, "--processes", 4).code == 0
    assert asked == [Local(3), Here(), Local(2), Local(4)]


def test_mistakes_are_one_line(tmp_path: Path, run_tool: Callable[..., Any]) -> None:
    nothing = run_tool("extract_flow", "--out", tmp_path / "flow.h5")
    assert nothing.code == 2 and nothing.errors.startswith("error: wanted --data ROOT")
    unknown = run_tool("extract_flow", "--data", tmp_path, "--set", "flow.speed=3")
    assert unknown.code == 2 and "flow.speed=3" in unknown.errors
