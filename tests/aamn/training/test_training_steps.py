"""The steps of a run on two straight lines, against SGD written out in plain numbers: rates, decay,
clipping, freezing and phases where they act, in the weights; and what a run writes when."""

import json
import logging
import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_models import tiny_config
from torch import nn
from torch.utils.data import Dataset

from aamn.config.loading import load_config, to_dict
from aamn.config.schema import Config, OptimiserConfig
from aamn.data.words import Vocabulary, Words
from aamn.inference.checkpoint import read_checkpoint
from aamn.training import loop as training
from aamn.training.loop import choose_precision, train
from aamn.training.optimiser import build_optimiser, learning_rate
from aamn.training.phases import plan_phases
from aamn.training.sampler import IterationSampler
from proposals import inference_form
from proposals.errors import InputError

POINTS = [(1.0, 0.5), (-0.3, 2.0), (0.7, -1.0), (2.0, 0.1), (-1.5, -0.4)]
START = {"left": [0.2, -0.4, 0.1], "right": [-0.6, 0.3, 0.5]}  # two weights and a bias
WANTED = {"left": 1.0, "right": 2.0}  # of every point
LOSS = {"left": "matching", "right": "mask"}
JOINT = {"left": 1.0, "right": 3.0}  # factors of the total
LR = 0.1
RUN = (
    "data.workers=0",
    "train.batch=2",
    "train.log_every=1",
    "train.evaluate_every=1",
    f"train.optimiser.lr={LR}",
    "train.optimiser.iterations=6",
    "train.optimiser.milestones=[]",
    "train.optimiser.momentum=0",
    "train.optimiser.weight_decay=0",
)


class Lines(nn.Module):
    """Two linear layers that learn a constant each, by half the squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn, self.kinds = [], []
        for name, values in START.items():
            layer = nn.Linear(2, 1)
            with torch.no_grad():
                layer.weight.copy_(torch.tensor([values[:2]]))
                layer.bias.copy_(torch.tensor(values[2:]))
            self.add_module(name, layer)
        self.words = Words(Vocabulary(["red", "dog"]), 1).requires_grad_(False)
        self.eval()

    def forward(self, samples):
        assert self.training, "neither the caller nor a validation leaves it in evaluation mode"
        self.drawn.append(torch.rand(()).item())
        points = torch.tensor(samples)
        losses = {}
        for name, wanted in WANTED.items():
            answer = getattr(self, name)(points)
            losses[LOSS[name]] = 0.5 * (answer.float() - wanted).square().mean()
        self.kinds.append(answer.dtype)
        losses["total"] = losses["matching"] + 3 * losses["mask"]
        far = points[:, 0] > 0.9
        return losses | {
            "count/sentences": torch.tensor(float(len(samples))),
            "count/unmatched": far.sum().float(),
        }

    def numbers(self):
        """Both layers' weights and biases."""
        return {
            name: [*getattr(self, name).weight[0].tolist(), getattr(self, name).bias.item()]
            for name in START
        }


class Points(Dataset):
    """The five points, and which of them were asked for."""

    def __init__(self, points=POINTS):
        self.points, self.asked = points, []

    def __len__(self):
        return len(self.points)

    def __getitem__(self, place):
        self.asked.append(place)
        return self.points[place[1]]


@dataclass
class Run:
    """What a call of `train` left."""

    out: object
    lines: Lines = field(default_factory=Lines)
    points: Points = field(default_factory=Points)
    weights: list = field(default_factory=list)  # after each iteration that was validated

    def train(self, *overrides, scores=None, **options):
        def validate(segmenter):
            self.weights.append(segmenter.eval().numbers())
            return next(scores) if scores else 0.0

        config = tiny_config(*RUN, *overrides)
        return train(config, self.lines, self.points, self.out, validate=validate, **options)

    @property
    def log(self):
        return [json.loads(line) for line in (self.out / "log.jsonl").read_text().splitlines()]


def by_hand(
    rates, factors=None, frozen=None, decay=0.0, momentum=0.0, clip=math.inf, batch=2, seed=0
):
    """The weights after each iteration, and the loss before it.

    Args:
        rates: of each iteration.
        factors: of each iteration, by which parts have a loss.
        frozen: of each iteration, the part that does not learn.
    """
    now = {name: list(values) for name, values in START.items()}
    speed = {name: [0.0] * 3 for name in START}
    places = IterationSampler(len(POINTS), batch, seed, 0, len(rates))
    factors, frozen = factors or [JOINT] * len(rates), frozen or [""] * len(rates)
    weights, totals = [], []
    for rate, active, still, chosen in zip(rates, factors, frozen, places, strict=True):
        gradients, total = {name: [0.0] * 3 for name in START}, 0.0
        for name, factor in active.items():
            for _, index in chosen:
                inputs = (*POINTS[index], 1.0)
                off = sum(w * x for w, x in zip(now[name], inputs, strict=True)) - WANTED[name]
                total += factor * 0.5 * off**2 / batch
                for i in range(3):
                    gradients[name][i] += factor * off * inputs[i] / batch
        learning = [name for name in active if name != still]
        norm = math.sqrt(sum(g * g for name in learning for g in gradients[name]))
        for name in learning:
            for i in range(3):
                step = gradients[name][i] * min(1.0, clip / norm)
                step += decay * now[name][i] if i < 2 else 0.0  # the bias is not decayed
                speed[name][i] = momentum * speed[name][i] + step
                now[name][i] -= rate * speed[name][i]
        weights.append({name: list(values) for name, values in now.items()})
        totals.append(total)
    return weights, totals


def same(found, wanted):
    assert len(found) == len(wanted)
    for mine, hand in zip(found, wanted, strict=True):
        for name in START:
            assert mine[name] == pytest.approx(hand[name], abs=2e-6)


PHASES = (
    "train.phases=[{share: 0.5, losses: {matching: 2.0}}, {share: 0.5, losses: {mask: 0.5}}]",
    "train.optimiser.milestones=[3]",
)
HOLD = "train.phases=[{share: 0.5, freeze: [right]}, {share: 0.5}]"
TENTHS = [1, 1, 0.1, 0.1, 0.01, 0.01]


@pytest.mark.parametrize(
    ("overrides", "rates", "how"),
    [
        ((), [1] * 6, {}),
        (("train.batch=3", "seed=4"), [1] * 6, {"batch": 3, "seed": 4}),
        (("train.optimiser.milestones=[2,4]",), TENTHS, {}),
        (("train.optimiser.milestones=[2,4]",), TENTHS, {"momentum": 0.9, "decay": 0.3}),
        (("train.optimiser.warmup=3",), [0.25, 0.5, 0.75, 1, 1, 1], {}),
        (
            ("train.optimiser.warmup=1", "train.optimiser.milestones=[1,5]"),
            [0.5, 0.1, 0.1, 0.1, 0.1, 0.01],
            {"momentum": 0.9},
        ),
        (
            ("train.optimiser.schedule=cosine",),
            [1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873],
            {},
        ),
        (
            ("train.optimiser.schedule=cosine", "train.optimiser.warmup=2"),
            [1 / 3, 2 / 3, 1, 0.8535534, 0.5, 0.1464466],
            {},
        ),
        ((), [1] * 6, {"clip": 1.5}),
        ((), [1] * 6, {"clip": 0.4, "momentum": 0.5, "decay": 0.3}),
        (("train.freeze=[left]",), [1] * 6, {"frozen": ["left"] * 6, "decay": 0.3, "clip": 1.5}),
        # Each phase runs through the whole schedule: its iterations are 0, 2 and 4 of six.
        (
            PHASES,
            [1, 1, 0.1] * 2,
            {"factors": [{"left": 2.0}] * 3 + [{"right": 0.5}] * 3, "decay": 0.3, "momentum": 0.9},
        ),
        ((HOLD,), [1] * 6, {"frozen": ["right"] * 3 + [""] * 3, "momentum": 0.9}),
        (
            (
                "train.phases=[{share: 0.5, losses: {mask: 1.0}}, {share: 0.5}]",
                "train.freeze=[left]",
            ),
            [1] * 6,
            {"factors": [{"right": 1.0}] * 3 + [JOINT] * 3, "frozen": ["left"] * 6},
        ),
    ],
)
def test_every_step_is_sgd_by_hand(tmp_path, overrides, rates, how):
    names = {"momentum": "momentum", "decay": "weight_decay", "clip": "clip_norm"}
    more = [f"train.optimiser.{names[k]}={v}" for k, v in how.items() if k in names]
    rates = [LR * rate for rate in rates]
    run = Run(tmp_path)
    assert run.train(*overrides, *more).iteration == 6
    weights, totals = by_hand(rates, **how)
    same(run.weights, weights)
    assert [line["iteration"] for line in run.log] == [1, 2, 3, 4, 5, 6]
    assert [line["learning_rate"] for line in run.log] == pytest.approx(rates, abs=1e-7)
    assert [line["total"] for line in run.log] == pytest.approx(totals, rel=1e-5)


def test_a_run_that_was_stopped_goes_on_with_its_speed_and_rate(tmp_path):
    values = ("train.optimiser.momentum=0.9", "train.optimiser.milestones=[2,4]")
    first, then = Run(tmp_path), Run(tmp_path)
    assert first.train(*values, stop_after=3).iteration == 3
    assert then.train(*values).iteration == 6
    weights, totals = by_hand([LR * tenth for tenth in TENTHS], momentum=0.9)
    same([*first.weights, *then.weights], weights)
    assert [line["iteration"] for line in then.log] == [1, 2, 3, 4, 5, 6]
    assert [line["total"] for line in then.log] == pytest.approx(totals, rel=1e-5)


def test_a_run_may_go_on_with_another_rate_momentum_and_decay(tmp_path):
    """All of `train` may change; what the configuration says is what is done."""
    first, then = Run(tmp_path), Run(tmp_path)
    early = ("train.optimiser.momentum=0.9", "train.optimiser.weight_decay=9")
    first.train(*early, stop_after=1)
    then.train("train.optimiser.lr=0.01", "train.optimiser.momentum=0.5", stop_after=1)
    # A first step's speed is its gradient; the second's, half of that and its own gradient, which
    # the step of another run shows that has neither momentum nor decay.
    plain = Run(tmp_path / "plain")
    plain.train(*early, stop_after=1)
    plain.train(stop_after=1)
    for name, start in START.items():
        one, two, other = first.weights[0][name], then.weights[0][name], plain.weights[1][name]
        for i in range(3):
            speed, gradient = (start[i] - one[i]) / LR, (one[i] - other[i]) / LR
            assert one[i] - two[i] == pytest.approx(0.01 * (0.5 * speed + gradient), abs=2e-6)
    assert read_checkpoint(tmp_path / "last.pt")["config"]["train"]["optimiser"]["lr"] == 0.01


def test_adamw_decays_weights_apart_from_its_step_and_no_bias(tmp_path):
    """Its first step is the sign of the gradient, whatever the gradient's size."""
    run = Run(tmp_path)
    run.train("train.optimiser.name=adamw", "train.optimiser.weight_decay=0.5", stop_after=1)
    (sgd, *_), _ = by_hand([LR] * 6)
    for name, before in START.items():
        for i in range(3):
            sign = math.copysign(1, before[i] - sgd[name][i])
            kept = before[i] * (1 - LR * 0.5 * (i < 2))
            assert run.weights[0][name][i] == pytest.approx(kept - LR * sign, abs=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_vectors_and_scalars_are_not_decayed_and_frozen_ones_not_held(name):
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 1))
    model[2].weight.requires_grad_(False)
    optimiser = build_optimiser(OptimiserConfig(name=name, weight_decay=0.25), model)
    decays = {
        id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]
    }
    found = {key: decays.get(id(p)) for key, p in model.named_parameters()}
    vectors = dict.fromkeys(("0.bias", "1.weight", "1.bias", "2.bias"), 0.0)
    assert found == {"0.weight": 0.25, "2.weight": None, **vectors}


@pytest.mark.parametrize(
    ("config", "iteration", "rate"),
    [
        (OptimiserConfig(lr=2.0, schedule="cosine", iterations=4), 4, 0.0),
        (OptimiserConfig(lr=2.0, schedule="cosine", iterations=4), 9, 0.0),
        (OptimiserConfig(lr=2.0, schedule="cosine", iterations=3, warmup=3), 3, 2.0),
        (OptimiserConfig(lr=2.0, warmup=1, iterations=4), 0, 1.0),
        (OptimiserConfig(lr=2.0, warmup=4, milestones=(2,), iterations=9), 2, 1.2),
        (OptimiserConfig(lr=2.0, milestones=(5, 5), iterations=9), 5, 0.02),
        (OptimiserConfig(), 99_999, 1e-4),
        (OptimiserConfig(), 100_000, 1e-5),
    ],
)
def test_rates_at_the_ends_of_warm_up_and_schedule(config, iteration, rate):
    assert learning_rate(config, iteration) == pytest.approx(rate, abs=1e-12)


# What is written, and when


def test_a_line_of_the_log_is_the_mean_of_losses_and_the_sum_of_counts_since_the_last(tmp_path):
    run = Run(tmp_path)
    done = run.train("train.log_every=4", "train.optimiser.milestones=[5]", "seed=3")
    rates = [LR] * 5 + [LR / 10]
    _, totals = by_hand(rates, seed=3)
    chosen = list(IterationSampler(5, 2, 3, 0, 6))
    far = [sum(POINTS[index][0] > 0.9 for _, index in batch) for batch in chosen]
    first, second = run.log
    assert (first["iteration"], second["iteration"]) == (4, 6), "the last line is a rest"
    assert first["total"] == pytest.approx(sum(totals[:4]) / 4, rel=1e-5)
    assert second["total"] == pytest.approx(sum(totals[4:]) / 2, rel=1e-5)
    assert (first["count/sentences"], second["count/sentences"]) == (8, 4)
    assert (first["count/unmatched"], second["count/unmatched"]) == (sum(far[:4]), sum(far[4:]))
    assert (first["learning_rate"], second["learning_rate"]) == pytest.approx(
        (0.1, 0.01), abs=1e-12
    )
    assert done.losses == {key: value for key, value in second.items() if key != "iteration"}
    for line in run.log:
        assert line["total"] == pytest.approx(line["matching"] + 3 * line["mask"], rel=1e-5)


def test_the_curves_of_tensorboard_are_those_of_the_log(tmp_path):
    run = Run(tmp_path)
    scores = iter([0.25, 0.75])
    run.train("train.log_every=2", "train.evaluate_every=3", scores=scores)
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in ("total", "learning_rate", "count/unmatched"):
        found = {point.step: point.value for point in curves.Scalars(name)}
        assert found == pytest.approx({line["iteration"]: line[name] for line in run.log})
    assert [(p.step, p.value) for p in curves.Scalars("validation")] == [(3, 0.25), (6, 0.75)]


@pytest.mark.parametrize(
    ("every", "stop", "at"),
    [(0, 0, [6]), (0, 4, []), (2, 0, [2, 4, 6]), (4, 0, [4, 6]), (4, 5, [4]), (1, 2, [1, 2])],
)
def test_a_validation_is_due_every_so_many_iterations_and_at_the_end(tmp_path, every, stop, at):
    run = Run(tmp_path)
    run.train(f"train.evaluate_every={every}", stop_after=stop)
    weights, _ = by_hand([LR] * 6)
    same(run.weights, [weights[iteration - 1] for iteration in at])


def test_the_best_checkpoint_holds_the_weights_of_the_best_validation(tmp_path):
    run = Run(tmp_path)
    run.train(scores=iter([0.1, 0.3, 0.3, math.nan, 0.2, 0.25]))
    best, last = (read_checkpoint(tmp_path / name) for name in ("best.pt", "last.pt"))
    assert (best["iteration"], best["best"]) == (2, 0.3), "the first of equals"
    assert (last["iteration"], last["best"]) == (6, 0.3)
    assert best["model"]["left.weight"][0].tolist() == pytest.approx(run.weights[1]["left"][:2])
    assert last["model"]["left.weight"][0].tolist() == pytest.approx(run.weights[5]["left"][:2])


def test_without_a_validation_there_is_no_best(tmp_path):
    train(tiny_config(*RUN), Lines(), Points(), tmp_path)
    assert not (tmp_path / "best.pt").exists()
    assert read_checkpoint(tmp_path / "last.pt")["best"] == -math.inf


class Interrupted(Exception):
    """What comes from outside while a batch is loaded."""


class Unlucky(Points):
    """Loading the fourteenth point, in the seventh batch of two, is interrupted."""

    def __getitem__(self, place):
        if len(self.asked) == 13:
            raise Interrupted
        return super().__getitem__(place)


@pytest.mark.parametrize(("every", "kept"), [(1, 6), (4, 4), (5, 5)])
def test_what_an_interruption_leaves_is_the_last_due_checkpoint(tmp_path, every, kept):
    values = (f"train.checkpoint_every={every}", "train.optimiser.iterations=9")
    values += ("train.optimiser.momentum=0.9",)
    run = Run(tmp_path, points=Unlucky())
    with pytest.raises(Interrupted):
        run.train(*values)
    stored = read_checkpoint(tmp_path / "last.pt")
    weights, totals = by_hand([LR] * 9, momentum=0.9)
    assert stored["iteration"] == kept
    assert stored["model"]["right.bias"].item() == pytest.approx(weights[kept - 1]["right"][2])
    again = Run(tmp_path)
    again.train(*values)
    same(again.weights, weights[kept:])
    assert [line["iteration"] for line in again.log] == list(range(1, 10))
    assert [line["total"] for line in again.log] == pytest.approx(totals, rel=1e-5)


def test_beginning_anew_forgets_the_run_that_was_there(tmp_path):
    Run(tmp_path).train(scores=iter([0.9] * 6))
    anew = Run(tmp_path)
    anew.train(restart=True, stop_after=2, scores=iter([0.1, 0.2]))
    weights, _ = by_hand([LR] * 6)
    same(anew.weights, weights[:2])
    assert [line["iteration"] for line in anew.log] == [1, 2]
    assert read_checkpoint(tmp_path / "best.pt")["best"] == 0.2


def test_a_run_ends_at_its_last_iteration_however_many_are_allowed(tmp_path):
    assert Run(tmp_path).train(stop_after=4).iteration == 4
    then = Run(tmp_path)
    assert then.train(stop_after=4).iteration == 6
    assert len(then.points.asked) == 4, "two iterations of two points"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("seed=1", "seed = 0 there, 1 here"),
        ("words.max_words=7", r"words\.max_words = 20 there, 7 here"),
        ("augment.flip=0.5", r"augment\.flip = 0\.0 there, 0\.5 here"),
        ("flow.preset=fast", r"flow\.preset = 'medium' there, 'fast' here"),
        ("system=acga", "system = 'aamn' there, 'acga' here"),
        ("aamn.backbone.fc=5", r"aamn\.backbone\.fc = 12 there, 5 here"),
        ("train.optimiser.name=adamw", r"train\.optimiser\.name = 'sgd' there, 'adamw' here"),
        ("train.freeze=[left]", r"train\.freeze = .* there, .*left.* here"),
        ("aamn.radius=2", r"aamn\.radius = 1 there, 2 here"),
        ("name=other", ""),
        ("data.root=elsewhere", ""),
        ("train.optimiser.iterations=3", ""),
    ],
)
def test_what_a_run_is_about_may_not_change_when_it_goes_on(resumable, tmp_path, change, where):
    (tmp_path / "last.pt").write_bytes(resumable)
    run = Run(tmp_path)
    if where:
        with pytest.raises(InputError, match=rf"last\.pt was trained with other values: {where}"):
            run.train(change)
        assert not run.weights
    else:
        done = run.train(change)
        assert done.iteration == (3 if "iterations" in change else 6)
        key, value = change.split("=")
        written = (tmp_path / "config.yaml").read_text()
        assert f"{key.split('.')[-1]}: {value}\n" in written


def test_a_part_that_an_older_checkpoint_lacks_is_named(resumable, tmp_path):
    (tmp_path / "last.pt").write_bytes(resumable)
    stored = read_checkpoint(tmp_path / "last.pt")
    del stored["config"]["cstm"]
    torch.save(stored, tmp_path / "last.pt")
    with pytest.raises(InputError, match="values: cstm = None there"):
        Run(tmp_path).train()


@pytest.fixture(scope="module")
def resumable(tmp_path_factory):
    """The checkpoint of a run after one iteration."""
    out = tmp_path_factory.mktemp("run")
    Run(out).train(stop_after=1)
    return (out / "last.pt").read_bytes()


@pytest.mark.parametrize("at", [1, 3])
def test_a_loss_that_is_no_number_ends_the_run_before_it_reaches_the_weights(tmp_path, at):
    chosen = list(IterationSampler(5, 1, 0, 0, 5))
    (_, broken), points = chosen[at - 1][0], list(POINTS)
    points[broken] = (math.nan, 0.0)
    run = Run(tmp_path, points=Points(points))
    with pytest.raises(InputError, match=f"the loss is nan at iteration {at};"):
        run.train("train.batch=1", "train.checkpoint_every=1")
    assert len(run.weights) == at - 1
    if at > 1:
        stored = read_checkpoint(tmp_path / "last.pt")
        assert stored["iteration"] == at - 1
        assert all(value.isfinite().all() for value in stored["model"].values())


def test_nothing_to_train_on_names_the_data_and_the_split(tmp_path):
    run = Run(tmp_path / "out", points=Points([]))
    with pytest.raises(InputError, match=r"corpus: the split 'dev' is empty"):
        run.train("data.root=corpus", "data.train_split=dev")
    assert not (tmp_path / "out").exists()


def test_an_unknown_frozen_part_is_named(tmp_path):
    with pytest.raises(InputError, match="no part 'middle'; the parts are left, right"):
        Run(tmp_path).train("train.freeze=[middle]")


def test_sentences_that_taught_nothing_are_counted_over_the_whole_call(tmp_path, caplog):
    caplog.set_level(logging.INFO, "aamn")
    Run(tmp_path).train("train.log_every=2", "train.batch=5", "aamn.match_iou=0.25")
    assert "12 of 30 sentences had no proposal with IoU >= 0.25" in caplog.text


def test_no_word_is_said_of_sentences_where_all_taught(tmp_path, caplog):
    caplog.set_level(logging.INFO, "aamn")
    Run(tmp_path, points=Points([(0.1, 0.2)])).train()
    assert "taught nothing" not in caplog.text


def test_the_configuration_lies_beside_and_in_the_checkpoint(tmp_path):
    Run(tmp_path).train("train.batch=3", stop_after=1)
    stored = read_checkpoint(tmp_path / "last.pt")
    wanted = to_dict(tiny_config(*RUN, "train.batch=3"))
    assert stored["config"] == wanted
    assert to_dict(load_config(Config, tmp_path / "config.yaml")) == wanted
    assert stored["vocabulary"] == {"words": ["red", "dog"], "max_words": 20}


# Randomness, processes and precision


def test_the_randomness_of_an_iteration_is_that_of_seed_and_iteration(tmp_path):
    whole, first, then, other = (Run(tmp_path / name) for name in ("a", "b", "b", "c"))
    whole.train()
    first.train(stop_after=2)
    torch.rand(5)
    then.train()
    other.train("seed=1")
    assert first.lines.drawn + then.lines.drawn == whole.lines.drawn
    assert len({*whole.lines.drawn, *other.lines.drawn}) == 12, "no two are alike"


def step_of(rank):
    """What one process draws in its first iteration."""
    lines = Lines()
    door = training._Door(lines)
    fabric = SimpleNamespace(global_rank=rank, backward=lambda loss: loss.backward())
    batch = training._Batch(POINTS[:2])
    config = tiny_config(*RUN)
    optimiser = build_optimiser(config.train.optimiser, lines)
    training._step(fabric, door, optimiser, batch, 0.0, config, 1)
    return lines.drawn


def test_processes_draw_different_numbers():
    assert step_of(0) != step_of(1)
    assert step_of(1) == step_of(1)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_learn_from_different_samples_and_together_from_all(world):
    config = tiny_config(*RUN, "train.batch=2")
    shares = []
    for rank in range(world):
        fabric = SimpleNamespace(global_rank=rank, world_size=world)
        points = Points([(float(n), 0.0) for n in range(12)])
        (phase,) = plan_phases(config.train)
        loader = training._loader(config, points, phase, 0, 6, fabric)
        shares.append([[int(x) for x, _ in batch.samples] for batch in loader])
    assert {len(batch) for share in shares for batch in share} == {2}
    flat = [index for batches in zip(*shares, strict=True) for batch in batches for index in batch]
    epochs = [flat[at : at + 12] for at in range(0, len(flat), 12)]
    assert len(epochs) == world
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)


def test_another_seed_and_another_epoch_are_other_orders():
    orders = [
        tuple(index for ((_, index),) in IterationSampler(40, 1, seed, 40 * epoch, 40 * epoch + 40))
        for seed in range(3)
        for epoch in range(3)
    ]
    assert len(set(orders)) == 9
    assert all(sorted(order) == list(range(40)) for order in orders)


def test_a_batch_larger_than_the_corpus_runs_into_the_next_epochs():
    (batch,) = IterationSampler(2, 5, seed=0, start=0, stop=1)
    assert [epoch for epoch, _ in batch] == [0, 0, 1, 1, 2]
    assert len(IterationSampler(2, 5, seed=0, start=3, stop=10)) == 7


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)]
)
def test_the_networks_compute_in_the_precision_that_is_asked_for(tmp_path, precision, dtype):
    run = Run(tmp_path)
    run.train(f"train.precision={precision}", stop_after=1)
    assert run.lines.kinds == [dtype]
    assert run.lines.left.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("precision", "flags", "chosen"),
    [
        ("auto", "flags : sse avx512_bf16 avx2", "bf16-mixed"),
        ("auto", "model : \udcff\nflags : amx_bf16", "bf16-mixed"),
        ("auto", "flags : sse avx512f", "32-true"),
        ("auto", None, "32-true"),
        ("16-mixed", "flags : amx_bf16", "16-mixed"),
        ("32-true", "flags : amx_bf16", "32-true"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_instructions_for_it(
    tmp_path, monkeypatch, precision, flags, chosen
):
    asked = []
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(flags, errors="surrogateescape")
    monkeypatch.setattr(
        inference_form, "Path", lambda path: asked.append(path) or tmp_path / "cpuinfo"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision(precision) == chosen
    assert asked == ["/proc/cpuinfo"] * (precision == "auto")


@pytest.mark.parametrize(("knows", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_asks_the_gpu_where_there_is_one(monkeypatch, knows, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked = lambda including_emulation=True: knows or including_emulation  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", asked)
    assert choose_precision("auto") == chosen


@pytest.mark.parametrize(
    ("environment", "phases", "devices", "nodes", "strategy"),
    [
        ({}, "[]", 1, 1, "auto"),
        ({"WORLD_SIZE": "1"}, "[]", 1, 1, "auto"),
        ({"WORLD_SIZE": "2"}, "[]", 2, 1, "ddp"),
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, "[]", 4, 2, "ddp"),
        ({"WORLD_SIZE": "2"}, "[{}]", 2, 1, "ddp_find_unused_parameters_true"),
        ({}, "[{}]", 1, 1, "auto"),
    ],
)
def test_as_many_processes_as_torchrun_started(
    tmp_path, monkeypatch, environment, phases, devices, nodes, strategy
):
    made = {}

    class Recorded:
        def __init__(self, **options):
            made.update(options)

        def launch(self):
            made["launched"] = True

    monkeypatch.setattr(training, "Fabric", Recorded)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = tiny_config("train.precision=16-mixed", f"train.phases={phases}")
    training.make_fabric(config, tmp_path)
    found = [made[key] for key in ("devices", "num_nodes", "strategy", "precision", "launched")]
    assert found == [devices, nodes, strategy, "16-mixed", True]
