"""Values, keys and options that cannot be, or that would do nothing: one line before any work."""

import json
import math
import re
from pathlib import Path

import click
import pytest
from fault_cases import refused

import aamn as aamn_library
from aamn.cli.main import SUBCOMMANDS, aamn
from aamn.config.loading import from_dict, load_config, schema_keys, to_dict
from aamn.config.schema import Config
from aamn.data.synthetic.config import CollageConfig
from proposals.config import DetectorConfig, config_from_dict, config_to_dict
from proposals.errors import InputError
from proposals.ranges import field_types

SCHEMAS = {"stage two": Config, "detector": DetectorConfig, "synthetic": CollageConfig}
NAMES = [name for group in SUBCOMMANDS.values() for name in group]


def numbers(schema, prefix=""):
    """Dotted key -> its type, of every field of a schema that is a number or a list of them."""
    for name, kind in field_types(schema).items():
        if hasattr(kind, "__dataclass_fields__"):
            yield from numbers(kind, f"{prefix}{name}.")
        elif re.search(r"\b(int|float)\b", str(kind)):
            yield f"{prefix}{name}", kind


NUMBERS = {
    (title, key): (schema, kind)
    for title, schema in SCHEMAS.items()
    for key, kind in numbers(schema)
}


@pytest.mark.parametrize(("title", "key"), NUMBERS)
def test_every_number_has_a_range(title, key):
    assert "Range(" in str(NUMBERS[title, key][1])


OUTSIDE = {  # key -> a value outside its range; what the line says
    "train.optimiser.iterations": ("-5", "a number from 1 to 1000000000, got -5"),
    "train.batch": ("0", "from 1"),
    "train.checkpoint_every": ("0", "from 1"),
    "train.log_every": ("0", "from 1"),
    "train.evaluate_every": ("-1", "from 0"),
    "train.optimiser.lr": ("nan", "above 0"),
    "train.optimiser.momentum": ("1", "below 1"),
    "train.optimiser.weight_decay": ("inf", "got inf"),
    "train.optimiser.warmup": ("-1", "from 0"),
    "train.optimiser.milestones": ("[5,0]", "from 1"),
    "train.phases": ("[{share: -0.5}]", "above 0"),
    "data.workers": ("-1", "from 0 to 1024"),
    "data.validation_share": ("1", "below 1"),
    "words.max_words": ("0", "from 1"),
    "augment.flip": ("1.5", "to 1"),
    "flow.longest_side": ("-1", "from 0"),
    "flow.method": ("farnebeck", "expected one of"),
    "train.optimiser.schedule": ("linear", "expected one of"),
    "train.optimiser.name": ("adam", "expected one of"),
    "aamn.radius": ("-1", "from 0"),
    "aamn.size": ("0", "from 16"),
    "aamn.proposals": ("0", "from 1"),
    "aamn.margin": (".nan", "got nan"),
    "aamn.backbone.widths": ("[]", "a list of 1 to 16 values"),
    "aamn.backbone.dropout": ("1.0", "below 1"),
    "seed": ("-1", "from 0"),
    "name": ("[1]", "name"),
}


@pytest.mark.parametrize("key", OUTSIDE)
def test_a_value_outside_its_range_is_refused_when_it_is_read(key, tmp_path, capsys):
    value, said = OUTSIDE[key]
    out = tmp_path / "run"
    words = ("train", "--data", "d", "--proposals", "p.h5", "--out", out)
    found = refused(capsys, (*words, "--set", f"{key}={value}"), said, (tmp_path,))
    assert f"--set {key}={value}: " in found.err and not out.exists()
    recipe, nested = tmp_path / "recipe.yaml", value
    for part in reversed(key.split(".")[1:]):
        nested = f"{{{part}: {nested}}}"
    recipe.write_text(f"{key.split('.')[0]}: {nested.replace('nan', '.nan').replace('..', '.')}\n")
    found = refused(capsys, (*words, "--config", recipe), said.replace("nan", ""), (tmp_path,))
    assert f"{recipe}: {key}" in found.err


OF_SYSTEMS = {"acga.channels": "[8,4]", "acga.size": "0", "cstm.lgfs": "[6]", "cstm.stride": "0"}


@pytest.mark.parametrize("key", OF_SYSTEMS)
def test_the_systems_parts_have_ranges_too(key):
    part = key.split(".")[0]
    with pytest.raises(InputError, match=rf"--set {key}=.*: (wanted|.*length 2)"):
        load_config(Config, None, [f"system={part}", f"{key}={OF_SYSTEMS[key]}"])


DETECTORS = ("finetune.iterations=0", "finetune.lr=0", "min_size=-1", "nms_iou=2", "anchors=[]")


@pytest.mark.parametrize("override", DETECTORS)
def test_detectors_have_ranges_too(override, tmp_path, capsys):
    manifest = tmp_path / "m.json"
    manifest.write_text("{}")
    words = ("train-detector", "--manifest", manifest, "--out", tmp_path / "d")
    refused(
        capsys, (*words, "--set", override), rf"--set {re.escape(override)}: wanted a ", (tmp_path,)
    )


def test_a_stored_detector_s_values_are_checked():
    values = config_to_dict(DetectorConfig())
    assert config_from_dict(values) == DetectorConfig()
    for key, value in (("proposals", "many"), ("nms_iou", math.nan), ("widths", ["a"])):
        with pytest.raises(InputError, match=rf"detector's configuration: {key}.*: wanted a"):
            config_from_dict({**values, key: value})


def test_what_nobody_sets_is_inside_its_range():
    for schema in SCHEMAS.values():
        assert load_config(schema) == schema()


NEAR = {  # a key that is none -> the one that is meant
    "train.iterations": "train.optimiser.iterations",
    "train.bach": "train.batch",
    "iterations": "train.optimiser.iterations",
    "trian.batch": "train",
    "lr": "train.optimiser.lr",
    "aamn.backbone.wieghts": "aamn.backbone.weights",
    "aamn.language.layer": "aamn.language.layers",
    "train.optimizer.lr": "train.optimiser",
    "max_words": "words.max_words",
}


@pytest.mark.parametrize("key", NEAR)
def test_a_near_miss_is_suggested(key, tmp_path, capsys):
    said = rf"--set {key}=1: .* is no key; is {NEAR[key]} meant\?"
    refused(capsys, ("train", "--data", "d", "--set", f"{key}=1"), said)


def test_every_key_is_known_by_its_own_name():
    keys = schema_keys(Config)
    assert len(keys) > 100 and len(set(keys)) == len(keys)
    assert {"train", "train.batch", "acga.i3d.width"} <= set(keys)


FILES = {  # name -> a recipe, what the line says
    "a number as the base": ("base: 5\n", "base: wanted the name of a file, got 5"),
    "a list as the base": ("base: [a.yaml]\n", "base: wanted the name of a file"),
    "no base": ("base:\n", "base: wanted the name of a file"),
    "a NUL in the base": ('base: "a\\0b"\n', "base: wanted the name of a file"),
    "a base of long ago": ("base: gone.yaml\n", r"no config file at .*gone\.yaml"),
    "a key twice": ("seed: 1\nname: x\nseed: 2\n", "line 3: the key seed is there already"),
    "a key twice below": ("train:\n  batch: 1\n  batch: 2\n", "line 3: the key batch"),
    "a merge": ("a: &a {batch: 1}\ntrain:\n  <<: *a\n", "line 3: wanted `base: FILE`"),
    "itself": ("name: x\ntrain: &t\n  optimiser: *t\n", "the tree is deeper than 20 keys"),
    "a list of itself": ("train:\n  freeze: &f [*f]\n", "deeper than 20"),
    "the environment": ("name: ${oc.env:HOME}\n", r"name: wanted a plain value, got '\$\{oc"),
    "another key": ("name: x\nseed: ${train.batch}\n", "seed: wanted a plain value"),
    "inside a list": ("train: {freeze: ['${name}']}\n", r"train\.freeze: wanted a plain value"),
    "as a key": ("'${name}': 3\n", "wanted a plain value"),
    "missing": ("name: ???\n", "name: wanted a plain value"),
    "nothing for a part": ("train:\n", r"train: wanted keys with values, got None"),
    "a value for a part": ("train: 5\n", r"train: wanted keys with values, got 5"),
    "a date": ("name: 2020-99-99\n", "no readable YAML"),
    "a Python object": ("name: !!python/object/apply:os.getcwd []\n", "no readable YAML"),
    "a tree of brackets": ("name: " + "[" * 500 + "\n", "no readable YAML"),
    "laughs": (
        "a: &a [x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{n}: &{n} [{','.join([f'*{m}'] * 8)}]\n"
            for m, n in zip("abcdefg", "bcdefgh", strict=True)
        ),
        "more than 20000 values",
    ),
    "a book": ("name: " + "x" * 2**20, "more than 1048576 characters"),
    "a binary": ("name: \x00\x01", "no readable YAML"),
    "two documents": ("name: x\n---\nname: y\n", "no readable YAML"),
    "another part's values": ("acga: {sise: 3}\n", "acga.sise is no key; is acga.size meant"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_that_cannot_be_is_one_line(name, tmp_path, capsys, monkeypatch):
    text, said = FILES[name]
    recipe = tmp_path / "a recipe.yaml"
    recipe.write_text(text)
    words = ("train", "--data", "d", "--proposals", "p.h5", "--config", recipe)
    found = refused(capsys, words, said, (tmp_path,))
    assert str(tmp_path) in found.err


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "a ${name}", "???"])
def test_a_stored_configuration_is_data_and_never_resolved(value, monkeypatch):
    values = to_dict(Config())
    values["data"]["root"] = value
    with pytest.raises(InputError, match=r"stored configuration .*data\.root: wanted a plain val"):
        from_dict(Config, values)
    with pytest.raises(InputError, match=r"--set data\.root=.*wanted a plain value"):
        load_config(Config, None, [f"data.root={value}"])


@pytest.mark.parametrize("values", [None, 5, [], "x", {"train": {"batch": -1}}, {1: 2}])
def test_a_stored_configuration_that_is_none_is_refused(values):
    with pytest.raises(InputError, match="the stored configuration does not fit this version: "):
        from_dict(Config, values)


@pytest.mark.parametrize("text", ["", "=5", "a", ".a=1", "train..batch=1", "train.batch=[1", "="])
def test_an_override_that_is_none_is_one_line(text, capsys):
    refused(capsys, ("train", "--data", "d", "--set", text), "--set")


IDLE = {  # name -> words (fields of the things in braces), what the line says
    "a key of training": (
        ("segment", "{clip}", "w1", "--bundle", "{bundle}", "--set", "train.batch=2"),
        r"--set train\.batch=2: `aamn segment` does not read train\.batch",
    ),
    "a loss's weight": (
        ("index", "{clip}", "--bundle", "{bundle}", "--out", "{tmp}/i", "--set", "aamn.margin=1"),
        "`aamn index` does not read aamn.margin",
    ),
    "the words of a vocabulary": (
        ("evaluate", "--checkpoint", "{checkpoint}", "--set", "words.max_words=40"),
        "`aamn evaluate` does not read words.max_words",
    ),
    "another system's part": (
        ("segment", "{clip}", "w1", "--bundle", "{bundle}", "--set", "acga.size=64"),
        r"--set acga\.size=64: the system aamn has no part acga",
    ),
    "another system's part in training": (
        ("train", "--data", "d", "--set", "system=cstm", "--set", "aamn.radius=3"),
        "the system cstm has no part aamn",
    ),
    "a recipe of training alone": (
        ("search", "{tmp}", "w1", "--bundle", "{bundle}", "--config", "{recipe}"),
        r"--config .*: `aamn search` reads none of its keys, train\.batch",
    ),
    "of verify": (("verify", "--data", "d", "--set", "aamn.radius=3"), "does not read aamn.radius"),
    "of flow": (("flow", "v", "--set", "train.batch=3"), "`aamn flow` does not read train.batch"),
    "of extract": (
        ("extract", "v", "--out", "b.h5", "--set", "finetune.batch=1"),
        "`aamn extract` does not read finetune.batch",
    ),
    "of benchmark": (("benchmark", "--set", "seed=3"), "`aamn benchmark` does not read seed"),
    "of parameters": (("parameters", "--set", "data.root=d"), "does not read data.root"),
    "a detector and its recipe": (
        ("extract", "v", "--out", "b.h5", "--detector", "{detector}", "--config", "detector_demo"),
        "--config: wanted without --detector",
    ),
    "a data set's kind without one": (
        ("extract", "v", "--out", "b.h5", "--kind", "a2d"),
        "--kind: wanted with --data",
    ),
    "videos and a data set": (("flow", "v", "--data", "d"), "one of --data ROOT and VIDEOS"),
    "a split without a data set": (
        ("segment", "{clip}", "w1", "--bundle", "{bundle}", "--split", "test"),
        "--split: wanted with --data",
    ),
    "a count without a data set": (
        ("segment", "{clip}", "w1", "--bundle", "{bundle}", "--count", "3"),
        "--count: wanted with --data",
    ),
    "a video and a data set": (
        ("segment", "--video", "{clip}", "--bundle", "{bundle}", "--data", "d"),
        "--data: wanted without --video",
    ),
    "a data set and an index": (
        ("segment", "w1", "--index", "{detector}", "--bundle", "{bundle}", "--data", "d"),
        "--data: wanted without --index",
    ),
    "boxes and an index": (
        ("segment", "w1", "--index", "{detector}", "--bundle", "{bundle}", "--proposals", "b.h5"),
        "--proposals: wanted without --index",
    ),
    "pictures without a page": (
        ("evaluate", "--checkpoint", "{checkpoint}", "--pictures", "3"),
        "--pictures: wanted with --report",
    ),
    "a page of whole videos": (
        ("evaluate", "--checkpoint", "{checkpoint}", "--full-video", "--report", "{tmp}/p"),
        "--report: wanted without --full-video",
    ),
    "a threshold of key frames": (
        ("evaluate", "--checkpoint", "{checkpoint}", "--calibrate", "train"),
        "--calibrate: wanted with --full-video",
    ),
    "two thresholds": (
        ("bundle", "--checkpoint", "{checkpoint}", "--detector", "{detector}", "--out", "{tmp}/b")
        + ("--metrics", "{detector}", "--absent-threshold", "1"),
        "--absent-threshold: wanted without --metrics",
    ),
    "pixels of a system without": (
        ("attention", "--checkpoint", "{checkpoint}", "--video", "{clip}", "--query", "w1")
        + ("--pixel", "3", "3", "--out", "{tmp}/o"),
        "--pixel: for acga alone",
    ),
    "a cost between clips that nothing joins": (
        ("segment", "{clip}", "w1", "--bundle", "{bundle}", "--out", "{tmp}/o")
        + ("--linking", "clip", "--transition-cost", "0.3"),
        "--transition-cost: wanted with --linking video",
    ),
    "a folder that nothing is copied to": (
        ("configs", "show", "aamn_demo", "{tmp}"),
        "a folder is for `aamn configs copy` alone",
    ),
    "a table that counts": (
        ("table", "acga-parameters", "--seeds", "3", "--out", "{tmp}/o"),
        "acga-parameters counts recipes of its own: nothing but --out is read",
    ),
    "a table's rows of another system": (
        ("table", "4", "--data", "d", "--proposals", "p.h5", "--set", "acga.size=96"),
        "no row of this table is of the system acga",
    ),
    "a table tested with what is none": (
        ("table", "4", "--data", "d", "--proposals", "p.h5", "--test-set", "data.knd=jhmdb"),
        r"data\.knd is no key; is data\.kind meant",
    ),
    "two bases of a table": (
        ("table", "4", "--base", "aamn_demo", "--config", "aamn_demo"),
        "--base: wanted without --config",
    ),
}


@pytest.mark.parametrize("name", IDLE)
def test_what_would_do_nothing_is_refused(name, things, tmp_path, capsys):
    words, said = IDLE[name]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\ntrain: {batch: 2}\n")
    named = tuple(w.format(tmp=tmp_path, recipe=recipe, **vars(things)) for w in words)
    refused(capsys, named, said, (tmp_path, things.bundle, things.clip))


LACKING = {
    "aamn": ("train", "--data", "d"),
    "the detector's own choice": ("train", "--data", "d", "--set", "system=most_confident"),
    "a table": ("table", "4", "--data", "d", "--out", "{tmp}/o"),
}


@pytest.mark.parametrize("name", LACKING)
def test_proposals_that_lack_are_said_before_anything_is_read(name, tmp_path, capsys):
    words = tuple(word.format(tmp=tmp_path) for word in LACKING[name])
    refused(capsys, words, "wanted --proposals HDF5: .* chooses among the boxes", (tmp_path,))


def test_a_system_without_proposals_wants_none(tmp_path, capsys):
    words = ("train", "--data", tmp_path, "--set", "system=acga", "--out", tmp_path / "run")
    refused(capsys, words, "no video list at", (tmp_path,))


@pytest.mark.parametrize(
    "frames", [range(0), range(5, 5), range(-3, 2), range(9, 0, -1), [1, 2], 5]
)
def test_frames_that_are_none_are_refused_before_the_work(things, frames):
    segmenter = aamn_library.load(things.bundle, "cpu")
    with pytest.raises(InputError, match=r"wanted (0 <= start < end|a range)"):
        segmenter.index(things.clip, frames=frames)


@pytest.mark.parametrize("device", ["mps", "gpu", "cuda:9", "meta", "tpu:0"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(things, device):
    with pytest.raises(InputError, match=rf"^device '{device}': this machine has cpu"):
        aamn_library.load(things.bundle, device)


VIDEOSET = "a,17,,,48,64,5,1,0\nb,17,,,48,64,5,1,0\n"


def a2d(folder: Path, third: str = "", sentences: str = "a,1,dog\n") -> Path:
    (folder / "Release").mkdir(parents=True)
    (folder / "text_annotations").mkdir()
    (folder / "Release/videoset.csv").write_text(VIDEOSET + third)
    header = "video_id,instance_id,query\n"
    (folder / "text_annotations/a2d_annotation.txt").write_text(header + sentences)
    return folder


def folder_of(folder: Path, sentences: str) -> Path:
    (folder / "videos").mkdir(parents=True)
    (folder / "videos/a.mp4").write_bytes(b"")
    (folder / "sentences.csv").write_text(sentences)
    return folder


TABLES = {  # name -> kind, what makes the data set, what the line says
    "a video twice": (
        "a2d",
        lambda place: a2d(place, "a,17,,,48,64,5,1,1\n"),
        r"videoset\.csv, line 3: a has a row already",
    ),
    "a short row below blank lines": (
        "a2d",
        lambda place: a2d(place, sentences="\n\na,1,dog\n\nb\n"),
        r"a2d_annotation\.txt, line 6: wanted 3 columns",
    ),
    "an unknown video below blank lines": (
        "folder",
        lambda place: folder_of(place, "video_id,instance_id,query\n\n\na,0,dog\n\nb,0,dog\n"),
        r"sentences\.csv, line 6: .* has no video b",
    ),
    "an instance below a sentence of two lines": (
        "folder",
        lambda place: folder_of(
            place, 'video_id,instance_id,query,split\na,0,"dog\nruns",train\n\na,x,dog,train\n'
        ),
        r"sentences\.csv, line 5: wanted a whole number",
    ),
    "a split without sentences": (
        "folder",
        lambda place: folder_of(place, "video_id,instance_id,query,split\na,0,dog,test\n"),
        "has no sentence of the split 'train'",
    ),
    "a split without videos": (
        "a2d",
        lambda place: a2d(place, sentences="c,1,dog\n"),
        "no video of the split 'train' has a sentence",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be_is_one_line(name, tmp_path, capsys):
    kind, make, said = TABLES[name]
    root = make(tmp_path / "root")
    words = ("train", "--data", root, "--proposals", "p.h5", "--out", tmp_path / "run")
    refused(capsys, (*words, "--set", f"data.kind={kind}"), said, (tmp_path,))


def test_a_video_of_two_masks_for_one_object_is_refused(tmp_path, capsys):
    root = folder_of(tmp_path / "root", "video_id,instance_id,query\na,0,dog\n")
    mask = {"video_id": "a", "instance_id": 0, "frame": 2, "segmentation": {"size": [2, 2]}}
    (root / "masks.json").write_text(json.dumps([mask, mask]))
    words = ("manifest", "--data", root, "--kind", "folder", "--out", tmp_path / "m.json")
    refused(capsys, words, "two masks of a, instance 0, frame 2", (tmp_path,))


def options(kind):
    """(subcommand, option) of every option whose value is a number of this kind, or a path."""
    for name in NAMES:
        for parameter in aamn.get_command(click.Context(aamn), name).params:
            if isinstance(parameter.type, kind) and not getattr(parameter, "is_flag", False):
                yield name, parameter


def converted(name, parameter, value):
    command = aamn.get_command(click.Context(aamn), name)
    return parameter.type.convert(value, parameter, click.Context(command))


def test_every_option_that_is_a_number_has_a_range():
    found = [*options(click.types.IntParamType), *options(click.types.FloatParamType)]
    assert len(found) > 15
    for name, parameter in found:
        for value in ("nan", "inf", "-inf", "", "1e9", "-2", "two", "0x10", "1" * 30):
            try:
                number = converted(name, parameter, value)
            except click.UsageError:
                continue
            assert math.isfinite(number), (name, parameter.opts, value)
            free = isinstance(parameter.type, click.types.FloatParamType)
            assert free or number >= 0, (name, parameter.opts, value)
    whole = [(n, p.opts) for n, p in options(click.types.IntParamType) if p.type.min is None]
    assert not whole, "a whole number without a lower bound"


def test_an_empty_word_is_no_path_and_no_value(capsys):
    paths = list(options(click.Path))
    assert len(paths) > 30
    for name, parameter in paths:
        with pytest.raises((click.UsageError, InputError)):
            converted(name, parameter, "")
    for name, parameter in options(click.types.StringParamType):
        if parameter.opts[0].startswith("--") and not parameter.hidden:
            required = [o for o in ("--out", "--checkpoint") if o != parameter.opts[0]]
            refused(capsys, (name, parameter.opts[0], ""), "wanted|Missing|no ", code=2)
            assert required


HOSTILE = {  # name -> words, what the line says
    "an empty recipe": (("train", "--data", "d", "--config", ""), "--config: wanted a value"),
    "an empty root": (("train", "--data", ""), "--data: wanted a value, got nothing"),
    "an empty folder of results": (
        ("segment", "{clip}", "w1", "--bundle", "{bundle}", "--out", ""),
        "--out.*wanted a path",
    ),
    "an empty video": (("segment", "", "w1", "--bundle", "{bundle}"), r"\[VIDEO\].*got nothing"),
    "an empty sentence": (
        ("segment", "{clip}", "", "--bundle", "{bundle}", "--out", "{tmp}/o"),
        "wanted a value, got nothing",
    ),
    "a folder as a checkpoint": (
        ("evaluate", "--checkpoint", "{clip}"),
        "no checkpoint at .*clip",
    ),
    "a folder as a recipe": (
        ("train", "--data", "d", "--config", "{clip}"),
        "clip is no readable YAML",
    ),
    "a path of two lines": (
        ("segment", "{tmp}/two\nlines ä.mp4", "w1", "--bundle", "{bundle}"),
        r"no video at .*two lines ä\.mp4",
    ),
    "a path too long": (
        ("train", "--data", "d", "--config", "x" * 5000),
        "x: the name is too long",
    ),
    "no number": (("search", "{tmp}", "w1", "--bundle", "{bundle}", "--top", "nan"), "--top"),
    "a negative count": (
        ("segment", "w1", "--bundle", "{bundle}", "--data", "d", "--count", "-1"),
        "--count",
    ),
    "a cost of nan": (
        ("segment", "{clip}", "w1", "--bundle", "{bundle}", "--transition-cost", "nan"),
        "--transition-cost.*nan is no finite number",
    ),
    "a threshold of nan": (
        ("segment", "{clip}", "w1", "--bundle", "{bundle}", "--absent-threshold", "nan"),
        "nan is no finite number",
    ),
    "a bundle's threshold of inf": (
        ("bundle", "--checkpoint", "{checkpoint}", "--detector", "{detector}", "--out", "{tmp}/b")
        + ("--absent-threshold", "inf"),
        "inf is no finite number",
    ),
    "an unknown precision": (
        ("extract", "v", "--out", "b.h5", "--precision", "half"),
        "--precision.*'half' is not one of",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_is_one_line(name, things, tmp_path, capsys):
    words, said = HOSTILE[name]
    named = tuple(word.format(tmp=tmp_path, **vars(things)) for word in words)
    refused(capsys, named, said, (tmp_path, things.bundle, things.clip))
