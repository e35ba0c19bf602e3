"""Every ablation file: it loads, changes its own keys only, and every part of it learns."""

from pathlib import Path

import pytest
import torch
import yaml
from tiny_models import TINY, random_sample

from aamn.config.loading import load_config, to_dict
from aamn.config.schema import Config
from aamn.models.build import build_segmenter

FOLDER = Path(__file__).parents[3] / "configs" / "ablations"
FILES = sorted(FOLDER.glob("*.yaml"))
SIZES = {"aamn.radius", "aamn.proposals"}  # what TINY sets too: the file's own value is kept


def flat(tree, prefix=""):
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")
        else:
            yield name, value


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_it_changes_exactly_its_own_keys(path):
    own = yaml.safe_load(path.read_text())
    base = load_config(Config, (path.parent / own.pop("base")).resolve())
    before, after = dict(flat(to_dict(base))), dict(flat(to_dict(load_config(Config, path))))
    changed = {key for key in after if after[key] != before[key]}
    assert changed == {key for key, _ in flat(own)}, "a key that says what the base says is noise"
    assert own["name"] == path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_no_parameter_is_without_a_gradient(path):
    own = dict(flat(yaml.safe_load(path.read_text())))
    tiny = [value for value in TINY if value.split("=")[0] not in SIZES & set(own)]
    config = load_config(Config, path, [*tiny, "words.vectors=", "aamn.backbone.weights="])
    torch.manual_seed(0)
    segmenter = build_segmenter(config, 23).train()
    samples = [random_sample(segmenter, seed=s, video=f"v{s}") for s in range(3)]
    segmenter(samples)["total"].backward()
    still = {name for name, p in segmenter.named_parameters() if p.grad is None}
    if path.stem == "table9_random_attention":  # for the test of a trained model only
        assert still and all(name.startswith("language.attention") for name in still)
    else:
        assert not still
