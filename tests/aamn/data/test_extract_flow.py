"""tools/extract_flow.py as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aamn.data.flow_store import FlowStore


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


def test_mistakes_are_one_line(tmp_path: Path, run_tool: Callable[..., Any]) -> None:
    nothing = run_tool("extract_flow", "--out", tmp_path / "flow.h5")
    assert nothing.code == 2 and nothing.errors.startswith("error: wanted --data ROOT")
    unknown = run_tool("extract_flow", "--data", tmp_path, "--set", "flow.speed=3")
    assert unknown.code == 2 and "flow.speed=3" in unknown.errors
