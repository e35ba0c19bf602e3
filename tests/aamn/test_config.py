"""Recipes: bases, overrides, and one clear line for each mistake."""

from pathlib import Path

import pytest

from aamn.config import Config, from_dict, load_config, to_dict
from aamn.models.build import build_segmenter
from proposals.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_base_then_file_then_overrides(tmp_path):
    write(tmp_path, "a.yaml", "name: a\ntrain: {batch: 2, log_every: 7}\n")
    b = write(tmp_path, "b.yaml", "base: a.yaml\nname: b\ntrain: {batch: 3}\n")
    config = load_config(Config, b, ["train.optimiser.lr=0.5"])
    assert (config.name, config.train.batch, config.train.log_every) == ("b", 3, 7)
    assert config.train.optimiser.lr == 0.5
    assert load_config(Config, b, ["data.root=x", "data.root="]).data.root == ""


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("trian: {}", [], r"c\.yaml.*trian"),
        ("train: {bach: 3}", [], r"c\.yaml.*bach"),
        ("train: {batch: many}", [], r"c\.yaml.*many"),
        ("- 1", [], r"c\.yaml: wanted a mapping"),
        ("a: [", [], r"c\.yaml is no readable YAML"),
        ("base: c.yaml", [], "leads back to itself"),
        ("base: d.yaml", [], r"no config file at .*d\.yaml"),
        ("", ["train.bach=3"], r"--set train\.bach=3"),
        ("", ["train.batch"], "wanted key=value"),
        ("", ["aamn.radius=two"], "two"),
    ],
)
def test_mistakes_name_their_place(tmp_path, text, overrides, message):
    path = write(tmp_path, "c.yaml", text)
    with pytest.raises(InputError, match=message) as error:
        load_config(Config, path, overrides)
    assert "\n" not in str(error.value)


def test_plain_values_round_trip():
    config = load_config(Config, CONFIGS / "aamn_demo.yaml")
    assert from_dict(Config, to_dict(config)) == config
    with pytest.raises(InputError, match="does not fit"):
        from_dict(Config, {"nmae": "x"})


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("aamn_*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_builds_its_model(path):
    import torch

    config = load_config(Config, path)
    with torch.device("meta"):
        segmenter = build_segmenter(config, 100)
    assert segmenter.needs.proposals == config.aamn.proposals


def test_the_papers_recipe_has_the_papers_sizes():
    import torch

    config = load_config(Config, CONFIGS / "aamn_vgg16_a2d.yaml")
    with torch.device("meta"):
        aamn = build_segmenter(config, 100)
    assert len(aamn.needs.offsets) == 9 and aamn.needs.proposals == 6
    assert aamn.needs.network_size == (512, 512)
    for stream in aamn.streams.values():
        convolutions = [m for m in stream.backbone.modules() if isinstance(m, torch.nn.Conv2d)]
        assert len(convolutions) == 13 and (stream.backbone.channels, stream.backbone.stride) == (
            512,
            16,
        )
        assert stream.head[1].weight.shape == (4096, 512 * 7 * 7)
        assert stream.head[4].weight.shape == (4096, 4096)
    assert aamn.tube_layers["rgb"][1].weight.shape == (1024, 4096)
    assert aamn.language.embedding.embedding_dim == 300
    assert aamn.language.attention.weights["actor"].in_features == 2048
    assert aamn.parts["actor"].matching.visual.in_features == 1024 + 5
    assert aamn.parts["action"].context.lstm.hidden_size == 512
    assert aamn.parts["action"].fusion.appearance.weight.shape == (300, 1024 + 512)
    assert aamn.parts["action"].fusion.motion.weight.shape == (300, 1024)
    body = [m for m in aamn.mask_head.body if isinstance(m, torch.nn.Conv2d)]
    assert [tuple(m.kernel_size) for m in body] == [(1, 1), (3, 3), (3, 3), (3, 3)]
    assert body[0].in_channels == 1024 and {m.out_channels for m in body} == {256}
    optimiser = config.train.optimiser
    assert (optimiser.lr, optimiser.momentum, optimiser.weight_decay) == (1e-4, 0.95, 5e-4)
    assert (optimiser.iterations, optimiser.milestones) == (150_000, (100_000,))
    assert (config.aamn.margin, config.aamn.balance, config.aamn.link_balance) == (0.1, 5.0, 1.0)
