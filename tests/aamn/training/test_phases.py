"""Training in phases: what each of them changes, and where it ends."""

import pytest
import torch
from tiny_models import tiny_config, tiny_segmenter
from tiny_training import RUN, Samples, curve

from aamn.config.schema import PhaseConfig, TrainConfig
from aamn.inference.checkpoint import read_checkpoint
from aamn.training.loop import train
from aamn.training.phases import JOINT, phase_at, plan_phases
from proposals.errors import InputError

MATCHING, MASKS = "{share: 0.5, losses: {matching: 1.0}}", "{share: 0.5, losses: {mask: 5.0}}"


def planned(*phases, iterations=10):
    config = TrainConfig(phases=[PhaseConfig(*phase) for phase in phases])
    config.optimiser.iterations = iterations
    return plan_phases(config)


def run(out, phases, *overrides, **options):
    values = (*RUN, "train.optimiser.iterations=6", f"train.phases=[{phases}]", *overrides)
    segmenter = tiny_segmenter(*values)
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    train(tiny_config(*values), segmenter, Samples(segmenter), out, **options)
    return {n for n, value in segmenter.state_dict().items() if not torch.equal(value, before[n])}


def test_no_phases_is_one_joint_phase():
    (phase,) = planned(iterations=7)
    assert (phase.start, phase.stop, phase.losses) == (0, 7, JOINT)


def test_shares_become_iterations_without_a_gap():
    phases = planned((0.3, {"a": 1.0}), (0.3, {"b": 1.0}), (0.4, {}), iterations=7)
    assert [(p.start, p.stop) for p in phases] == [(0, 2), (2, 4), (4, 7)]
    assert [phases.index(phase_at(phases, i)) for i in range(8)] == [0, 0, 1, 1, 2, 2, 2, 2]


def test_each_phase_runs_through_the_whole_schedule():
    first, second = planned((0.2, {}), (0.8, {}), iterations=10)
    assert [first.in_schedule(i, 10) for i in range(2)] == [0, 5]
    assert [second.in_schedule(i, 10) for i in range(2, 10)] == [0, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize("shares", [(0.5, 0.4), (1.5, -0.5), (0.5, 0.5, 0.5)])
def test_shares_that_are_no_shares_are_refused(shares):
    with pytest.raises(InputError, match="add up to 1"):
        planned(*((share, {}) for share in shares))


@pytest.mark.parametrize(
    ("phases", "stop", "moved", "still"),
    [
        (f"{MATCHING}, {MASKS}", 3, ("heads", "language", "streams"), ("mask_head",)),
        (f"{MASKS}, {MATCHING}", 3, ("mask_head", "streams"), ("heads", "language")),
        (f"{MATCHING}, {MASKS}", 0, ("heads", "language", "streams", "mask_head"), ()),
    ],
)
def test_a_phase_moves_what_its_losses_reach(phases, stop, moved, still, tmp_path):
    changed = run(tmp_path, phases, stop_after=stop)
    assert {name.split(".")[0] for name in changed} >= set(moved)
    assert not [name for name in changed if name.startswith(still)] or not still


def test_a_phase_holds_its_frozen_parts_and_lets_go_of_them(tmp_path):
    frozen = "{share: 0.5, losses: {mask: 1.0}, freeze: [streams.rgb]}, {share: 0.5}"
    early = run(tmp_path / "a", frozen, stop_after=3)
    assert not [name for name in early if name.startswith("streams.rgb.")]
    assert [name for name in early if name.startswith("streams.flow.")]
    assert [name for name in run(tmp_path / "b", frozen) if name.startswith("streams.rgb.")]


def test_a_run_that_stopped_inside_a_phase_goes_on_in_it(tmp_path):
    phases = f"{MASKS}, {MATCHING}"
    run(tmp_path / "whole", phases)
    for stop in (2, 3, 0):
        run(tmp_path / "parts", phases, stop_after=stop)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    a, b = (read_checkpoint(tmp_path / n / "last.pt")["model"] for n in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ("{losses: {maks: 1.0}}", r"no loss 'maks'; this system has matching, mask, total"),
        ("{freeze: [backbone]}", r"no part 'backbone'; the parts are streams"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(phases, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run(tmp_path, phases)
