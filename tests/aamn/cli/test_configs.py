"""Recipes by name: listed, printed, copied with their bases, and near names suggested."""

from pathlib import Path

import pytest

from aamn.cli.main import run
from aamn.config.loading import load_config
from aamn.config.recipes import find_recipe, recipe_folder, recipe_names
from aamn.config.schema import Config
from proposals.errors import InputError

CONFIGS = Path(__file__).parents[3] / "configs"
DEEP = "ablations/table5_flow"  # its base is aamn_vgg16_a2d
MEANT = "; is aamn_demo meant? `aamn configs` lists the recipes"


def test_the_recipes_are_the_files_of_the_folder_but_the_published_tables():
    assert recipe_folder().resolve() == CONFIGS
    files = {str(p.relative_to(CONFIGS).with_suffix("")) for p in CONFIGS.rglob("*.yaml")}
    assert set(recipe_names()) == files - {"published"}
    assert recipe_names() == sorted(recipe_names())


@pytest.mark.parametrize(
    "name",
    [DEEP, f"{DEEP}.yaml", f"configs/{DEEP}", f"configs/{DEEP}.yaml", CONFIGS / f"{DEEP}.yaml"],
)
def test_a_recipe_is_found_by_its_name_and_by_its_path(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name).samefile(CONFIGS / f"{DEEP}.yaml")


def test_a_file_of_one_s_own_comes_first(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("aamn_demo.yaml").write_text("seed: 77\n")
    assert load_config(Config, "aamn_demo.yaml").seed == 77
    assert load_config(Config, "aamn_demo").name == "aamn_demo"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("aamn_dmo", f"no config file at aamn_dmo{MEANT}"),
        ("configs/aamn_dmo.yaml", f"no config file at configs/aamn_dmo.yaml{MEANT}"),
        ("zzz", "no config file at zzz"),
        ("published", "no config file at published"),
    ],
)
def test_a_name_that_is_none_suggests_the_nearest(name, said):
    with pytest.raises(InputError) as refused:
        find_recipe(name)
    assert str(refused.value) == said


def test_all_are_listed_with_what_they_are(capsys):
    assert run(["configs"]) == 0
    text = capsys.readouterr().out
    assert run(["configs", "list"]) == 0 and capsys.readouterr().out == text
    lines = {line.split()[0]: line.split(maxsplit=1)[1:] for line in text.splitlines()}
    assert list(lines) == recipe_names()
    assert lines["aamn_demo"] == [
        "A model for small synthetic videos (160x120) that trains in minutes on two CPU cores"
    ]
    assert lines["baselines/cstm_lgfs5"] == ["CSTM suppl., Sec. 3.4: LGFS into stage 5"]
    assert run(["configs", "list", "gavri"]) == 0
    found = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert found == [name for name in recipe_names() if "gavri" in name] and found


def test_one_is_printed_as_it_is(capsys):
    assert run(["configs", "show", DEEP]) == 0
    assert capsys.readouterr().out == (CONFIGS / f"{DEEP}.yaml").read_text()


def test_a_copy_brings_its_bases_and_means_the_same(tmp_path, capsys):
    assert run(["configs", "copy", DEEP, str(tmp_path)]) == 0
    paths = [tmp_path / "aamn_vgg16_a2d.yaml", tmp_path / f"{DEEP}.yaml"]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in paths]
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == paths
    assert load_config(Config, paths[1]) == load_config(Config, DEEP)
    paths[0].write_text(paths[0].read_text() + "seed: 77\n")
    assert load_config(Config, paths[1]).seed == 77, "the base beside it is its base"


def test_a_copy_goes_where_the_process_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["configs", "copy", "synthetic_demo"]) == 0
    copied = Path("synthetic_demo.yaml").read_text()
    assert copied == (CONFIGS / "synthetic_demo.yaml").read_text()


def test_what_was_changed_is_not_written_over(tmp_path, capsys):
    assert run(["configs", "copy", DEEP, str(tmp_path)]) == 0
    assert run(["configs", "copy", "ablations/table5_both", str(tmp_path)]) == 0, "of the same base"
    base = tmp_path / "aamn_vgg16_a2d.yaml"
    base.write_text("seed: 77\n")
    capsys.readouterr()
    assert run(["configs", "copy", "ablations/table6_average", str(tmp_path)]) == 2
    assert f"{base} is there already" in capsys.readouterr().err
    assert base.read_text() == "seed: 77\n"
    assert not (tmp_path / "ablations/table6_average.yaml").exists(), "all or nothing"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show"], "wanted the name of a recipe: `aamn configs show NAME`"),
        (["copy"], "wanted the name of a recipe: `aamn configs copy NAME`"),
        (["show", "aamn_dmo"], "is aamn_demo meant?"),
        (["copy", "mine.yaml"], "mine.yaml is a file of your own"),
        (["print"], "'print'"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("seed: 1\n")
    assert run(["configs", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
