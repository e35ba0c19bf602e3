"""Backends side by side: the shares by hand, and on a tiny bundle a row for every part and way."""

import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tiny_bundle import save_parts

from aamn.cli.main import run
from aamn.experiments import backends
from aamn.experiments.backends import BASE, EXAMPLES, Recorder
from aamn.predictor import write_bundle


def test_the_share_of_same_tubes_by_hand():
    """Overlaps of 1, 0.6, exactly 0.5 and 0: two of four pairs are above 0.5."""
    wanted = np.array([[[0, 0, 10, 10], [0, 0, 10, 10]], [[0, 0, 10, 10], [0, 0, 10, 10]]])
    found = np.array([[[0, 0, 10, 10], [0, 0, 10, 6]], [[0, 0, 10, 5], [20, 20, 30, 30]]])
    assert backends._same([wanted.astype(np.float32)], [found.astype(np.float32)]) == 0.5


def test_ratios_are_those_within_a_round():
    """The second round met a busy machine."""
    assert backends._ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == 2.0


def test_a_recorder_keeps_copies_of_its_first_calls():
    recorder, value = Recorder(lambda inputs: {"y": inputs["x"] + 1}), torch.zeros(1)
    for _ in range(EXAMPLES + 2):
        assert recorder({"x": value})["y"].item() == value.item() + 1
        value += 1
    assert [call["x"].item() for call in recorder.calls] == list(range(EXAMPLES))


def test_examples_are_spread_over_all_images():
    calls = [
        {"images": torch.arange(40.0).view(40, 1, 1, 1)},
        {"images": torch.tensor([[[[99.0]]]])},
    ]
    found = [one["images"].flatten().tolist() for one in backends._examples(calls)]
    assert len(found) == EXAMPLES and found[0] == [0.0] and found[-1] == [99.0]


@pytest.mark.slow
def test_every_part_and_way_has_its_row(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx", reason="onnx is not installed (extra export)")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra export)")
    save_parts(tmp_path)
    write_bundle(tmp_path / "b", tmp_path / "d.pt", tmp_path / "s.pt")
    rng = np.random.default_rng(0)
    for video in ("v1", "v2"):
        (tmp_path / video).mkdir()
        for number in range(4):
            picture = rng.integers(0, 255, (40, 50, 3), np.uint8)
            cv2.imwrite(str(tmp_path / video / f"{number}.png"), picture)
    source = SimpleNamespace(
        video_ids=["v1", "v2"],
        video_path=lambda video: tmp_path / video,
        sentences=lambda video: [SimpleNamespace(text="w3 w4"), SimpleNamespace(text="w5")],
    )
    monkeypatch.setattr(backends, "open_source", lambda data, split: source)
    assert (
        run(["benchmark", "--backends", str(tmp_path / "b"), "--frames", "4", "--data", "x"]) == 0
    )
    said = capsys.readouterr().out
    parts = re.findall(r"^(\w+) +\d+\.\d+ \(\d+\.\d+\)", said, re.M)
    assert len(parts) == 9 and {"sentences", "tubes", "detector_heads"} <= {*parts}
    rows = dict(re.findall(r"^(torch, \w+|onnxruntime) +\d+\.\d+ +([\d. ]+)$", said, re.M))
    assert rows["torch, float32"].split()[1] == "100.00"
    assert rows["onnxruntime"].split()[1] == "100.00" and float(rows[BASE].split()[0]) == 1.0
