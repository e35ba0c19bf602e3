"""What stands below the table of all systems: costs, kept and written, and what they start from."""

import json
import re
from dataclasses import replace

import pytest
import reproduce_table
import systems_table
from systems_table import HEADS, Costs, budget_text, measure_costs, start_of, to_markdown

from aamn.config import Config, load_config

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
        return replace(COSTS, device=systems_table.device_name())

    monkeypatch.setattr(systems_table, "_costs", costs)
    monkeypatch.setattr(systems_table, "device_name", lambda: "a CPU with 1 thread(s)")
    first = measure_costs({"AAMN": tmp_path})
    assert measure_costs({"AAMN": tmp_path}) == first == {"AAMN": COSTS}
    assert measured == [tmp_path / "last.pt"]
    assert json.loads((tmp_path / "costs.json").read_text())["pair"] == 70.96
    monkeypatch.setattr(systems_table, "device_name", lambda: "a GPU")
    assert measure_costs({"AAMN": tmp_path})["AAMN"].device == "a GPU"
    assert len(measured) == 2


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (["aamn.backbone.weights=a/d.pt"], "d.pt (rgb)"),
        (["aamn.backbone.flow_weights=e.pt"], "e.pt (flow)"),
        (["aamn.backbone.flow_weights=e.pt", "aamn.streams=rgb"], "random weights"),
        (["system=acga", "aamn.backbone.weights=d.pt"], "random weights"),
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
    lines = reproduce_table._count_parameters().splitlines()[2:]
    found = {}
    for line in lines:
        label, counted, printed = re.fullmatch(r"\| (.+) \| ([\d,]+) \| ([\d,]+) \|", line).groups()
        assert counted == printed, label
        found[label] = counted
    assert len(found) == 8
    assert found["ACGA (released)"] == "25,463,559"
    assert found["CSTM (released)"] == "184,376,198"
