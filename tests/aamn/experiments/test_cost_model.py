"""Shares of what a machine can do, worked out by hand."""

import pytest
import torch
from tiny_models import tiny_config
from torch import nn

from aamn.experiments import cost_model
from aamn.experiments.cost_model import (
    Machine,
    PartCost,
    chain_line,
    cost_table,
    exponent,
    measure_machine,
    part_costs,
)
from aamn.experiments.flops import _moved, frame_bytes, frame_flops
from aamn.index.timer import Timer

MACHINE = Machine(100e9, 10e9)


def test_a_part_is_compared_with_both_peaks():
    """2 GFLOP and 50 MB in 40 ms: 50 GFLOP/s and 1.25 GB/s; never in less than 20 ms."""
    cost = PartCost(2e9, 50e6, 0.04)
    assert cost.shares(MACHINE) == (0.5, 0.125)
    assert cost.least(MACHINE) == 0.02
    assert PartCost(1e9, 500e6, 1.0).least(MACHINE) == 0.05, "memory bounds it"
    assert PartCost(1.0, 1.0, 0.0).shares(MACHINE) == (0.0, 0.0)


def test_the_parts_of_an_index_are_those_of_a_frame_together():
    timer = Timer()
    timer.seconds |= {"streams": 2.0, "masks": 1.0, "flow": 5.0}
    flops = {"rgb backbone": 3.0, "flow backbone": 4.0, "flow regions": 1.0, "mask head": 2.0}
    found = part_costs(timer, 10, flops, {"rgb backbone": 7.0})
    assert found["streams"] == PartCost(8.0, 7.0, 0.2)
    assert found["masks"] == PartCost(2.0, 0.0, 0.1) and found["boxes"] == PartCost(0, 0, 0)
    table = cost_table(found, MACHINE)
    assert "100 GFLOP/s" in table and "10.0 GB/s" in table


def test_every_part_of_a_frame_belongs_to_a_part_of_an_index():
    names = {name for part in cost_model.PARTS.values() for name in part}
    counted = frame_flops(tiny_config(), None, (40, 50))
    assert counted.keys() == frame_bytes(tiny_config(), None, (40, 50)).keys() <= names


def test_bytes_of_layers_by_hand():
    """Linear: 2 x 5 in, 2 x 3 out, 15 weights, 3 biases; ReLU: 2 x 3 in and out; 4 bytes each."""
    network = nn.Sequential(nn.Linear(5, 3), nn.ReLU())
    moved, answer = _moved(network, torch.empty(2, 5))
    assert moved == 4 * (10 + 6 + 18 + 6 + 6) and answer.shape == (2, 3)
    assert _moved(network, torch.empty(2, 5))[0] == moved, "no hook is left behind"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ({"streams": 3.0, "flow": 1.0}, "bounded by the networks: 3000.0 ms; the index took 1.100"),
        ({"streams": 1.0, "flow": 2.0, "decoding": 1.0}, "bounded by decoding and flow: 3000.0"),
    ],
)
def test_the_slower_chain_bounds_an_index(seconds, said):
    timer = Timer()
    timer.seconds |= seconds | {"waiting": 0.2}
    assert chain_line(timer, 3.3).startswith(said)


def test_the_machine_is_measured_by_its_fastest_calls(monkeypatch):
    """Products of 2 x 8 x 8 x 8 operations in 4, 1, 2 s; copies of 64 bytes in 2, 4, 8 s."""
    monkeypatch.setattr(cost_model, "PRODUCT", 8)
    monkeypatch.setattr(cost_model, "COPIED", 64)
    ticks = iter([0, 4, 10, 11, 20, 22, 30, 32, 40, 44, 50, 58])
    found = measure_machine(clock=lambda: float(next(ticks)))
    assert found == Machine(2 * 8**3 / 1.0, 2 * 64 / 2.0)


def test_growth_is_a_power():
    assert exponent([1, 2, 4], [3.0, 6.0, 12.0]) == pytest.approx(1)
    assert exponent([1, 2, 4, 8], [5.0] * 4) == pytest.approx(0, abs=1e-6)
    assert exponent([1, 2, 4], [1.0, 4.0, 16.0]) == pytest.approx(2)
