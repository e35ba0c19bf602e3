"""Recipes: bases, overrides, and one clear line for each mistake."""

from pathlib import Path

import pytest
import yaml

from aamn.config.loading import from_dict, load_config, to_dict
from aamn.config.schema import Config, PhaseConfig
from aamn.models.baselines.i3d import ConvUnit
from aamn.models.build import build_segmenter
from proposals.config import DetectorConfig
from proposals.errors import InputError

CONFIGS = Path(__file__).parents[3] / "configs"


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


def test_bases_are_found_beside_the_file_that_names_them_and_the_nearest_wins(tmp_path):
    (tmp_path / "far").mkdir()
    write(tmp_path / "far", "a.yaml", "name: a\nseed: 1\ntrain: {batch: 2, log_every: 7}\n")
    write(tmp_path / "far", "b.yaml", "base: a.yaml\nseed: 2\ntrain: {batch: 3}\n")
    c = write(tmp_path, "c.yaml", "base: far/b.yaml\ntrain: {evaluate_every: 4}\n")
    config = load_config(Config, c)
    assert (config.name, config.seed) == ("a", 2)
    train = config.train
    assert (train.batch, train.log_every, train.evaluate_every) == (3, 7, 4)
    assert train.checkpoint_every == 1000, "what nobody says is as the program has it"


def test_the_last_override_wins_over_the_file_and_the_file_over_the_start(tmp_path):
    start = Config(name="start", seed=5)
    start.train.batch = 8
    path = write(tmp_path, "c.yaml", "seed: 6\ndata: {workers: 9}\n")
    config = load_config(Config, path, ["data.workers=1", "data.workers=3"], start)
    assert (config.name, config.seed, config.train.batch) == ("start", 6, 8)
    assert config.data.workers == 3
    assert (start.seed, start.data.workers) == (5, 2), "what it starts from stays as it is"


def test_an_empty_file_and_no_file_are_the_built_in_values(tmp_path):
    assert load_config(Config, write(tmp_path, "c.yaml", "")) == load_config(Config) == Config()


def test_a_list_takes_the_place_of_the_base_s_whole_list(tmp_path):
    write(tmp_path, "a.yaml", "train: {freeze: [a, b], optimiser: {milestones: [1, 2, 3]}}")
    path = write(tmp_path, "b.yaml", "base: a.yaml\ntrain: {freeze: [c]}")
    config = load_config(Config, path, ["train.optimiser.milestones=[7]"])
    assert (list(config.train.freeze), list(config.train.optimiser.milestones)) == (["c"], [7])


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.root=a=b", "a=b"),
        ("data.root=", ""),
        ("data.root=12", "12"),
        ("data.root=a b/ä", "a b/ä"),
        ("seed=3", 3),
        ("augment.flip=1", 1.0),
        ("train.optimiser.lr=1e-5", 1e-5),
        ("aamn.actor.enabled=false", False),
        ("aamn.backbone.widths=[1,2]", [1, 2]),
    ],
)
def test_overrides_become_values_of_the_key_s_type(override, value):
    found = load_config(Config, None, [override])
    for key in override.split("=")[0].split("."):
        found = getattr(found, key)
    assert (list(found) if isinstance(value, list) else found) == value
    assert type(found) is type(value) or isinstance(value, list)


@pytest.mark.parametrize(
    "override",
    [
        *("seed=1.5", "seed=", "train.batch=[1]", "aamn.actor.enabled=maybe", "aamn.actor=3"),
        *("augment.flip=much", "train.phases=[{shear: 1}]", "train.phases=[{share: much}]"),
    ],
)
def test_a_value_of_another_type_names_the_override(override):
    with pytest.raises(InputError) as error:
        load_config(Config, None, [override])
    assert str(error.value).startswith(f"--set {override}: ")
    assert len(str(error.value)) > len(f"--set {override}: ") + 10
    assert "\n" not in str(error.value)


def test_the_file_of_a_chain_that_has_the_mistake_is_named(tmp_path):
    write(tmp_path, "a.yaml", "train: {bach: 3}\n")
    write(tmp_path, "b.yaml", "base: a.yaml\n")
    with pytest.raises(InputError, match=r"/a\.yaml: .*bach"):
        load_config(Config, write(tmp_path, "c.yaml", "base: b.yaml\n"))


def test_a_round_of_bases_is_no_endless_one(tmp_path):
    for own, base in ("ab", "bc", "ca"):
        write(tmp_path, f"{own}.yaml", f"base: {base}.yaml\n")
    with pytest.raises(InputError, match=r"a\.yaml: its `base:` leads back to itself"):
        load_config(Config, tmp_path / "a.yaml")


def test_two_files_may_share_a_base_without_being_a_round(tmp_path):
    write(tmp_path, "a.yaml", "seed: 1\n")
    for name in "bc":
        path = write(tmp_path, f"{name}.yaml", f"base: a.yaml\nname: {name}\n")
        assert (load_config(Config, path).seed, load_config(Config, path).name) == (1, name)


@pytest.mark.parametrize("kind", ["folder", "latin-1"])
def test_what_is_no_text_is_named(tmp_path, kind):
    path = tmp_path / "c.yaml"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_bytes("name: ä".encode("latin-1"))
    with pytest.raises(InputError, match=r"c\.yaml is no readable YAML: ."):
        load_config(Config, path)


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


CHOICES = {
    "system": "aamn most_confident gavrilyuk acga cstm zeroshot adapted",
    "data.kind": "a2d jhmdb refvos folder",
    "flow.method": "dis farneback raft",
    "flow.preset": "ultrafast fast medium",
    "aamn.streams": "rgb flow rgb+flow",
    "aamn.linking": "chain anchor",
    "aamn.link_features": "rgb flow rgb+flow",
    "aamn.aggregation": "key_plus_context average",
    "aamn.matching": "modules joint relation",
    "aamn.backbone.name": "small vgg16 resnet50 resnet101 "
    "resnet50_fpn resnet50_fpn_gn resnet101_fpn mobilenet_fpn mobilenet_fpn_gn",
    "aamn.language.attention": "learned random mean",
    "aamn.actor.features": "rgb flow rgb+flow",
    "aamn.action.context": "attention mean none",
    "aamn.action.fusion": "gated concat none",
    "aamn.action.features": "rgb flow rgb+flow",
    "aamn.mask_head.features": "rgb flow rgb+flow flow+rgb",
    "train.optimiser.name": "sgd adamw",
    "train.optimiser.schedule": "step cosine",
    "train.precision": "auto 32-true bf16-mixed 16-mixed",
    "gavrilyuk.streams": "rgb flow rgb+flow",
    "acga.streams": "rgb flow rgb+flow",
    "acga.text_encoder": "conv lstm",
    "acga.text_guidance": "attention mean",
    "acga.vision_guidance": "attention attention_cut none",
    "acga.fusion": "all res3 res3+res1 res3+res2",
    "cstm.spatial": "resnet50 resnet18",
    "cstm.cmam": "both spatial temporal",
    "zeroshot.describers": "image_text attributes image_text+attributes",
    "zeroshot.masks": "rcnn grabcut ellipse",
}

SYSTEM = {part: [f"system={part}"] for part in ("gavrilyuk", "acga", "cstm", "zeroshot")}


@pytest.mark.parametrize(("key", "choices"), CHOICES.items())
def test_a_choice_that_is_none_is_answered_with_the_key_and_the_choices(tmp_path, key, choices):
    nested = "other"
    for part in reversed(key.split(".")):
        nested = {part: nested}
    path = write(tmp_path, "c.yaml", yaml.safe_dump(nested))
    wanted = f"Invalid value 'other', expected one of {choices.split()}"
    with pytest.raises(InputError) as error:
        load_config(Config, path)
    assert str(error.value) == f"{path}: {key}: {wanted}"
    with pytest.raises(InputError) as error:
        load_config(Config, None, [f"{key}=other"])
    assert str(error.value) == f"--set {key}=other: {wanted}"
    with pytest.raises(InputError) as error:
        from_dict(Config, nested)
    assert str(error.value).endswith(f"this version: {key}: {wanted}")
    for choice in choices.split():
        found = load_config(Config, None, [f"{key}={choice}", *SYSTEM.get(key.split(".")[0], ())])
        for part in key.split("."):
            found = getattr(found, part)
        assert found == choice


def test_the_flow_streams_network_may_be_left_open():
    assert load_config(Config, None, ["aamn.backbone.flow_name="]).aamn.backbone.flow_name == ""
    assert load_config(Config, None, ["aamn.backbone.flow_name=small"]).aamn.backbone.flow_name
    with pytest.raises(InputError, match=r"flow_name=alexnet: .*expected one of \['', 'small'"):
        load_config(Config, None, ["aamn.backbone.flow_name=alexnet"])


def test_the_detectors_optimiser_is_a_choice():
    with pytest.raises(InputError, match=r"finetune\.optimiser=adam: .*\['sgd', 'adamw'\]"):
        load_config(DetectorConfig, None, ["finetune.optimiser=adam"])


def test_plain_values_round_trip():
    config = load_config(Config, CONFIGS / "aamn_demo.yaml")
    assert from_dict(Config, to_dict(config)) == config
    with pytest.raises(InputError, match=r"does not fit this version: .*nmae") as error:
        from_dict(Config, {"nmae": "x"})
    assert "\n" not in str(error.value)
    phases = load_config(Config, None, ["train.phases=[{share: 1, losses: {mask: 2}}]"])
    assert yaml.safe_load(yaml.safe_dump(to_dict(phases)))["train"]["phases"] == [
        {"share": 1.0, "losses": {"mask": 2.0}, "freeze": [], "shown": "clips", "batch": 0}
    ]
    again = from_dict(Config, yaml.safe_load(yaml.safe_dump(to_dict(phases))))
    assert again.train.phases[0] == PhaseConfig(1.0, {"mask": 2.0}, [])


# Where the papers fix a value, or where the documents say what is so unless something else is said.
@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("", {"system": "aamn", "seed": 0}),
        ("data", {"train_split": "train", "test_split": "test", "validation_split": ""}),
        ("data", {"validation_share": 0.0, "kind": "a2d"}),
        ("words", {"dimension": 300, "max_words": 20, "trainable": True, "vectors": ""}),
        ("augment", {"flip": 0.0, "colour": 0.0, "scale": 0.0}),
        ("aamn", {"radius": 4, "proposals": 6, "size": 512, "streams": "rgb+flow"}),
        ("aamn", {"linking": "chain", "link_features": "rgb", "link_balance": 1.0}),
        ("aamn", {"aggregation": "key_plus_context", "tube_channels": 1024, "matching": "modules"}),
        ("aamn", {"margin": 0.1, "mask_loss_weight": 5.0, "match_iou": 0.5}),
        ("aamn.backbone", {"name": "vgg16", "fc": 4096, "dropout": 0.5, "roi_size": 7}),
        ("aamn.backbone", {"frozen_stages": 0, "flow_frozen_stages": 0, "weights": ""}),
        ("aamn.language", {"hidden": 512, "layers": 2, "attention": "learned"}),
        ("aamn.actor", {"enabled": True, "location": True, "location_gain": 1.0}),
        ("aamn.actor", {"features": "rgb"}),
        ("aamn.action", {"enabled": True, "context": "attention", "fusion": "gated"}),
        ("aamn.action", {"features": "rgb+flow"}),
        ("aamn.mask_head", {"features": "rgb+flow", "resolution": 14, "detail_stride": 0}),
        ("gavrilyuk", {"streams": "rgb", "size": 512, "frames": 16, "foreground_weight": 1.0}),
        ("acga", {"streams": "rgb", "size": 512, "frames": 16, "foreground_weight": 1.5}),
        ("acga", {"fusion": "all", "vision_guidance": "attention", "text_guidance": "attention"}),
        ("acga.i3d", {"frozen_until": "mixed_4e", "rgb_range": (-1.0, 1.0), "flow_limit": 20.0}),
        ("cstm", {"size": 320, "frames": 8, "stride": 2, "cmam": "both", "lgfs": ()}),
        ("cstm", {"foreground_weight": 1.5, "coarse_weight": 0.1, "spatial": "resnet50"}),
        ("acga.i3d", {"norm_eps": 1e-3}),  # TensorFlow's I3D and both public ports
        ("gavrilyuk.i3d", {"norm_eps": 1e-3}),
        ("cstm.i3d", {"frozen_until": "", "rgb_range": (0.0, 1.0)}),
        ("cstm.i3d", {"norm_eps": 1e-5}),  # the released model's
        ("train", {"batch": 1, "start": "", "precision": "auto", "evaluate_every": 0}),
        ("train", {"freeze": (), "phases": []}),
        ("train.optimiser", {"name": "sgd", "lr": 1e-4, "momentum": 0.95, "weight_decay": 5e-4}),
        ("train.optimiser", {"schedule": "step", "warmup": 0, "clip_norm": 0.0}),
        ("train.optimiser", {"iterations": 150_000, "milestones": (100_000,)}),
    ],
)
def test_what_nobody_sets_is_the_papers_value_or_off(part, values):
    found = Config()
    for key in filter(None, part.split(".")):
        found = getattr(found, key)
    assert {key: getattr(found, key) for key in values} == values


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("aamn_*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_builds_its_model(path):
    import torch

    config = load_config(Config, path)
    with torch.device("meta"):
        segmenter = build_segmenter(config, 100)
    assert segmenter.input_spec.proposals == config.aamn.proposals


def test_what_the_papers_own_recipe_says():
    """Yang et al., Sec. IV-B; both CNNs start from ImageNet, the paper's from COCO."""
    config = load_config(Config, CONFIGS / "aamn_vgg16_a2d.yaml")
    assert config.train.optimiser == Config().train.optimiser  # as the table above
    backbone = config.aamn.backbone
    assert (backbone.name, backbone.weights, backbone.flow_weights) == (
        "vgg16", "imagenet", "imagenet",
    )  # fmt: skip
    assert "glove.840B.300d" in config.words.vectors and config.words.dimension == 300


@pytest.mark.parametrize("name", ["gavrilyuk", "acga", "acga_released", "cstm"])
def test_one_stage_systems_learn_for_the_papers_epochs(name):
    """Wang et al., Sec. 4.2: Adam, 5e-4, batches of 4, 12 epochs, a tenth after 8; the released
    code makes 15741 // 4 updates an epoch."""
    config = load_config(Config, CONFIGS / f"baselines/{name}.yaml")
    optimiser, epoch = config.train.optimiser, 15741 // 4
    assert (optimiser.name, optimiser.lr, optimiser.weight_decay) == ("adamw", 5e-4, 0.0)
    assert (config.train.batch, epoch) == (4, 3935)
    assert (optimiser.iterations, optimiser.milestones) == (12 * epoch, (8 * epoch,))
    assert (optimiser.schedule, optimiser.warmup, optimiser.clip_norm) == ("step", 0, 0.0)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        # where a recipe starts elsewhere than its paper, it names the key that changes it
        (
            "aamn_vgg16_a2d",
            ["aamn.backbone.weights=FILE", "aamn.backbone.flow_weights=FILE", "COCO"],
        ),
        ("detector_resnet101_fpn", ["ImageNet", "detector_detectron2_r101", "weights=FILE"]),
        ("baselines/recipe", ["words.vectors=FILE"]),
        ("baselines/acga", ["words.vectors=", "word2vec", "acga.i3d.rgb_weights=FILE"]),
        ("baselines/gavrilyuk", ["words.vectors=", "word2vec", "gavrilyuk.i3d.rgb_weights=FILE"]),
        ("baselines/cstm", ["words.vectors=glove", "cstm.i3d.rgb_weights=FILE"]),
    ],
)
def test_recipes_say_where_their_weights_come_from(recipe, words):
    text = (CONFIGS / f"{recipe}.yaml").read_text()
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("recipe", "eps"),
    [
        ("acga", 1e-3),  # TensorFlow's I3D, on which the papers stand
        ("gavrilyuk_rgb_flow", 1e-3),
        ("acga_released", 1e-5),  # both released models leave BatchNorm3d at PyTorch's default
        ("cstm", 1e-5),
    ],
)
def test_the_eps_of_every_i3d(recipe, eps):
    import torch

    config = load_config(Config, CONFIGS / f"baselines/{recipe}.yaml")
    with torch.device("meta"):
        segmenter = build_segmenter(config, 100)
    units = [part for part in segmenter.modules() if isinstance(part, ConvUnit)]
    assert len(units) >= 45 and {unit.bn.eps for unit in units} == {eps}


def test_the_papers_recipe_has_the_papers_sizes():
    import torch

    config = load_config(Config, CONFIGS / "aamn_vgg16_a2d.yaml")
    with torch.device("meta"):
        aamn = build_segmenter(config, 100)
    assert len(aamn.input_spec.offsets) == 9 and aamn.input_spec.proposals == 6
    assert aamn.input_spec.network_size == (512, 512)
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
    assert aamn.heads["actor"].matching.visual.in_features == 1024 + 5
    assert aamn.heads["action"].context.lstm.hidden_size == 512
    assert aamn.heads["action"].fusion.appearance.weight.shape == (300, 1024 + 512)
    assert aamn.heads["action"].fusion.motion.weight.shape == (300, 1024)
    body = [m for m in aamn.mask_head.body if isinstance(m, torch.nn.Conv2d)]
    assert [tuple(m.kernel_size) for m in body] == [(1, 1), (3, 3), (3, 3), (3, 3)]
    assert body[0].in_channels == 1024 and {m.out_channels for m in body} == {256}
    optimiser = config.train.optimiser
    assert (optimiser.lr, optimiser.momentum, optimiser.weight_decay) == (1e-4, 0.95, 5e-4)
    assert (optimiser.iterations, optimiser.milestones) == (150_000, (100_000,))
    assert (config.aamn.margin, config.aamn.mask_loss_weight, config.aamn.link_balance) == (
        0.1,
        5.0,
        1.0,
    )


def test_a_key_s_older_name_is_taken_and_said(tmp_path, caplog):
    (tmp_path / "c.yaml").write_text("aamn: {balance: 3.0, margin: 0.5}\n")
    config = load_config(Config, tmp_path / "c.yaml")
    assert (config.aamn.mask_loss_weight, config.aamn.margin) == (3.0, 0.5)
    assert "c.yaml: aamn.balance is now aamn.mask_loss_weight" in caplog.text
    caplog.clear()
    assert load_config(Config, None, ["aamn.balance=2"]).aamn.mask_loss_weight == 2.0
    assert "--set aamn.balance=2: aamn.balance is now" in caplog.text
    caplog.clear()
    stored = to_dict(config)
    stored["aamn"]["balance"] = stored["aamn"].pop("mask_loss_weight")
    assert from_dict(Config, stored) == config and not caplog.text
    assert "balance" in stored["aamn"], "what was given stays as it is"
