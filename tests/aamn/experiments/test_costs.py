"""What stands below the table of all systems: costs, kept and written, and what they start from."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from torch import nn

from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.experiments import costs as costs_module
from aamn.experiments.costs import HEADS, Costs, budget_text, measure_costs, start_of, to_markdown
from aamn.experiments.reproduce import _count_parameters
from aamn.experiments.speed import VideoSeconds
from aamn.inference.checkpoint import Loaded

COSTS = Costs("a CPU with 1 thread(s)", 1234567, 70.96, 20.28, 0.371, "5 frames", "random weights")


def test_rows_by_hand():
    text = to_markdown({"AAMN": COSTS, "ACGA": replace(COSTS, further=None)})
    assert "medians on a CPU with 1 thread(s), one sentence" in text
    assert f"| model | {' | '.join(HEADS)} |" in text
    assert "| AAMN | 1,234,567 | 71.0 | 20.3 | 0.37 | 5 frames | random weights |" in text
    assert "| ACGA | 1,234,567 | 71.0 | 20.3 | - | 5 frames | random weights |" in text


def test_costs_are_kept_until_the_device_changes(tmp_path, monkeypatch):
    measured = []

    def costs(checkpoint):
        measured.append(checkpoint)
        return replace(COSTS, device=costs_module.device_name())

    monkeypatch.setattr(costs_module, "_costs", costs)
    monkeypatch.setattr(costs_module, "device_name", lambda: "a CPU with 1 thread(s)")
    first = measure_costs({"AAMN": tmp_path})
    assert measure_costs({"AAMN": tmp_path}) == first == {"AAMN": COSTS}
    assert measured == [tmp_path / "last.pt"]
    assert json.loads((tmp_path / "costs.json").read_text())["pair"] == 70.96
    monkeypatch.setattr(costs_module, "device_name", lambda: "a GPU")
    assert measure_costs({"AAMN": tmp_path})["AAMN"].device == "a GPU"
    assert len(measured) == 2


class Samples:
    """Thirty samples of three videos, with two sentences each."""

    def __init__(self):
        self.input_spec = SimpleNamespace(network_size=(48, 64), offsets=(-1, 0, 1))
        self.store, self.flow = "its boxes", "its flow"
        self.source = self
        self.video_ids = ["a", "b", "c", "d"]
        self.closed = []

    def __len__(self):
        return 30

    def __getitem__(self, place):
        return f"sample {place}"

    def sentences(self, video_id):
        return [SimpleNamespace(text=f"{video_id} {n}") for n in range(2)]

    def frames(self, video_id):
        return SimpleNamespace(video=video_id, close=lambda: self.closed.append(video_id))


@pytest.mark.parametrize("keeps", [True, False])
def test_costs_are_medians_in_milliseconds(monkeypatch, tmp_path, keeps):
    samples, asked = Samples(), []
    segmenter = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    segmenter[0].requires_grad_(False)
    loaded = Loaded(segmenter, load_config(Config), 0)
    system = SimpleNamespace(dataset=samples, loaded=loaded)
    monkeypatch.setattr(costs_module, "open_system", lambda checkpoint: system)

    def pair_seconds(segmenter, chosen):
        asked.extend(chosen)
        return 0.25

    def video_seconds(loaded, video_id, frames, texts, store, flow, folder):
        assert (store, flow) == ("its boxes", "its flow")
        assert frames.video == video_id and list(texts) == [f"{video_id} 0", f"{video_id} 1"]
        seconds = {"a": 0.01, "b": 0.05, "c": 0.03}[video_id]
        return VideoSeconds(seconds, seconds / 10 if keeps else None)

    monkeypatch.setattr(costs_module, "pair_seconds", pair_seconds)
    monkeypatch.setattr(costs_module, "video_seconds", video_seconds)
    costs = costs_module._costs(tmp_path / "last.pt")
    assert asked == [f"sample {n}" for n in range(21)], "one to warm up and twenty"
    assert samples.closed == ["a", "b", "c"]
    assert (costs.pair, costs.frame) == (pytest.approx(250), pytest.approx(30))
    assert costs.further == (pytest.approx(3) if keeps else None)
    assert costs.parameters == 2 * 2 + 2, "what is frozen is not counted"
    assert (costs.input, costs.start) == ("3 frames of 64x48", "random weights")


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (["aamn.backbone.weights=a/d.pt"], "d.pt (rgb)"),
        (["aamn.backbone.flow_weights=e.pt"], "e.pt (flow)"),
        (["aamn.backbone.flow_weights=e.pt", "aamn.streams=rgb"], "random weights"),
        (["system=acga"], "random weights"),
        (["system=gavrilyuk", "gavrilyuk.i3d.rgb_weights=k/i.pt"], "i.pt (rgb)"),
        (
            ["system=cstm", "cstm.i3d.rgb_weights=i.pt", "cstm.spatial_weights=imagenet"],
            "i.pt (rgb), imagenet (spatial)",
        ),
    ],
)
def test_what_a_training_started_from(overrides, start):
    assert start_of(load_config(Config, None, overrides)) == start


def test_the_budget_is_the_recipes():
    base = load_config(Config, None, ["train.batch=4", "train.optimiser.iterations=30"])
    assert "30 iterations of 4 clips" in budget_text(base)


def test_parameters_counted_and_printed_agree_in_every_row():
    lines = _count_parameters().splitlines()[2:]
    found = {}
    for line in lines:
        label, counted, printed = re.fullmatch(r"\| (.+) \| ([\d,]+) \| ([\d,]+) \|", line).groups()
        assert counted == printed, label
        found[label] = counted
    assert len(found) == 8
    assert found["ACGA (released)"] == "25,463,559"
    assert found["CSTM (released)"] == "184,376,198"
