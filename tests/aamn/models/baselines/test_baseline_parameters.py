"""The recipes: each loads, differs from its base in its own keys alone, has the parameters that
the papers count, and leaves none of them without a gradient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from aamn.config.loading import load_config, to_dict
from aamn.config.schema import Config
from aamn.models.baselines.one_stage import OneStage, learned_parameters
from aamn.models.build import build_segmenter

FOLDER = Path(__file__).parents[4] / "configs" / "baselines"
RECIPES = sorted(p.stem for p in FOLDER.glob("*.yaml") if "recipe" not in p.stem)
PAPERS = [name for name in RECIPES if "demo" not in name]


def load(name: str) -> Config:
    return load_config(Config, FOLDER / f"{name}.yaml")


def build(config: Config, device: str, words: int = 8) -> OneStage:
    with torch.device(device):
        return build_segmenter(config, words)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gavrilyuk", 18_945_652),
        ("gavrilyuk_rgb_flow", 37_891_304),
        ("acga_baseline", 22_749_071),
        ("acga_baseline_mrf", 22_749_099),
        ("acga_baseline_mrf_wbce", 22_749_099),
        ("acga", 25_613_063),
        ("acga_released", 25_463_559),
        ("cstm", 184_376_198),
    ],
)
@pytest.mark.parametrize("words", [8, 5000])
def test_parameters_to_the_last_digit(name, parameters, words):
    """ACGA suppl., Table 1, and the released models; the vocabulary's size has no say."""
    assert learned_parameters(build(load(name), "meta", words)) == parameters


def test_flow_has_the_same_learned_parameters():
    """The two streams differ in the first layer, which is frozen."""
    assert learned_parameters(build(load("gavrilyuk_flow"), "meta")) == 18_945_652


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_differ_from_their_base_in_their_own_keys(name):
    own = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    base = own.pop("base")
    before, after = to_dict(load(base.removesuffix(".yaml"))), to_dict(load(name))
    assert _changed(before, after) == _leaves(own)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("acga_f_ta", "vision_guidance", "none"),
        ("acga_f_va", "text_guidance", "mean"),
        ("acga_lstm", "text_encoder", "lstm"),
        ("acga_flow", "streams", "flow"),
        ("acga_rgb_flow", "streams", "rgb+flow"),
        ("acga_length8", "frames", 8),
        ("acga_length24", "frames", 24),
        ("acga_res3", "fusion", "res3"),
        ("acga_res3_res1", "fusion", "res3+res1"),
        ("acga_res3_res2", "fusion", "res3+res2"),
        ("acga_weight1", "foreground_weight", 1.0),
        ("acga_weight2", "foreground_weight", 2.0),
    ],
)
def test_rows_of_the_supplements_table_2(name, field, value):
    """Each changes one thing of the full model."""
    row, full = load(name).acga, load("acga").acga
    assert getattr(row, field) == value != getattr(full, field)
    assert replace(row, **{field: getattr(full, field)}) == full


def _leaves(tree: dict, path: str = "") -> set[str]:
    leaves = set()
    for key, value in tree.items():
        leaves |= _leaves(value, f"{path}{key}.") if isinstance(value, dict) else {path + key}
    return leaves


def _changed(before: dict, after: dict, path: str = "") -> set[str]:
    changed = set()
    for key, value in after.items():
        if isinstance(value, dict):
            changed |= _changed(before[key], value, f"{path}{key}.")
        elif value != before[key]:
            changed.add(path + key)
    return changed


def shrink(config: Config) -> Config:
    """The recipe's choices at a size that runs in a blink."""
    part = getattr(config, config.system)
    small = {"i3d": replace(part.i3d, width=0.05), "size": 64}
    if config.system == "cstm":
        small |= {"text_channels": 6, "channels": 4, "spatial": "resnet18"}
    else:
        small |= {"channels": (4, 3, 2)[: len(part.channels)], "frames": 4}
    words = replace(config.words, dimension=6)
    return replace(config, words=words, **{config.system: replace(part, **small)})


@pytest.mark.parametrize("name", PAPERS)
def test_recipes_leave_no_parameter_without_a_gradient(name, make_sample):
    torch.manual_seed(0)
    system = build(shrink(load(name)), "cpu").train()
    system([make_sample(system.input_spec, 2, 0), make_sample(system.input_spec, 1, 1)])[
        "total"
    ].backward()
    without = [n for n, p in system.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


@pytest.mark.parametrize(("system", "size"), [("acga", 128), ("gavrilyuk", 128), ("cstm", 96)])
def test_demos_are_small_and_learn_as_a_whole(system, size):
    """They start at random, so nothing may be frozen."""
    model = build(load(f"{system}_demo"), "meta")
    assert all(p.requires_grad for p in model.parameters())
    assert learned_parameters(model) < 20_000_000
    assert model.input_spec.network_size == (size, size)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("gavrilyuk", [32, 128, 512]),
        ("acga", [32, 128, 512]),
        ("acga_released", [32, 128, 512]),
        ("acga_baseline", [32, 128, 512]),
        ("cstm", [10, 20, 40, 80, 160, 320]),
    ],
)
def test_responses_at_the_papers_sizes(name, sizes):
    system = build(load(name), "meta")
    network, input_spec = system.networks["rgb"], system.input_spec
    with torch.device("meta"):
        video = torch.empty(1, 3, len(input_spec.offsets), *input_spec.network_size)
        words, owner = torch.empty(2, 20, 300), torch.zeros(2, dtype=torch.long)
        responses = network.respond(network.encode(video), owner, words)
    assert [tuple(r.shape) for r in responses] == [(2, 1, n, n) for n in sizes]
