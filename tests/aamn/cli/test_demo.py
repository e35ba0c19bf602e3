"""The steps of the demo: which files and options they name, and how the demo goes on."""

import json
import shlex
from itertools import pairwise
from pathlib import Path

import click
import pytest

from aamn.cli import main as main_module
from aamn.cli.demo import SHARE, SMALL, steps
from aamn.cli.main import aamn, run
from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.data.synthetic.config import CollageConfig, SyntheticConfig
from proposals.config import DetectorConfig

OUT = Path("o")
NAMES = (
    *("synthetic", "manifest", "manifest", "train-detector", "extract", "flow", "train"),
    *("evaluate", "segment", "evaluate", "bundle"),
)
SCHEMAS = {"synthetic": SyntheticConfig, "train-detector": DetectorConfig, "train": Config}
MADE = {  # what a step writes -> its place among the steps
    "o/corpus": 0, "o/train.json": 1, "o/test.json": 2, "o/detector/detector.pt": 3,
    "o/proposals.h5": 4, "o/flow.h5": 5, "o/aamn/last.pt": 6, "o/metrics.json": 7, "o/videos": 8,
    "o/full_video.json": 9, "o/bundle": 10,
}  # fmt: skip


def values(words, option):
    """What follows an option, wherever it stands."""
    return [value for word, value in pairwise(words) if word == option]


@pytest.fixture(params=[True, False], ids=["small", "whole"])
def small(request):
    return request.param


def test_every_step_is_a_subcommand_with_options_of_its_own(small):
    found = steps(OUT, small)
    assert tuple(words[0] for words in found) == NAMES
    for name, *words in found:
        command = aamn.get_command(click.Context(aamn), name)
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, name


def test_a_step_reads_what_one_before_it_wrote_and_writes_its_own(small):
    for place, words in enumerate(steps(OUT, small)):
        (out,) = values(words, "--out")
        assert any(path.startswith(out) and made == place for path, made in MADE.items()), words[0]
        files = (word.split("=")[-1] for word in words)
        for file in (file for file in files if file.startswith("o/") and file != out):
            assert MADE[file] < place, (words[0], file)


def test_the_validation_videos_are_the_same_wherever_they_are_left_out(small):
    found = steps(OUT, small)
    for place, split in ((1, "train"), (2, "test")):
        assert values(found[place], "--validation-share") == [SHARE]
        assert values(found[place], "--split") == [split]
    assert f"data.validation_share={SHARE}" in values(found[6], "--set")
    assert values(found[9], "--calibrate") == ["validation"] and "--full-video" in found[9]


def test_the_streams_begin_with_the_detector_s_weights(small):
    overrides = values(steps(OUT, small)[6], "--set")
    for key in ("weights", "flow_weights"):
        assert f"aamn.backbone.{key}=o/detector/detector.pt" in overrides


def test_the_whole_demo_is_calibrated_the_small_one_has_too_few_videos():
    assert values(steps(OUT, False)[-1], "--metrics") == ["o/full_video.json"]
    assert values(steps(OUT, True)[-1], "--metrics") == []


def test_the_small_demo_differs_in_its_overrides_alone():
    for words, whole in zip(steps(OUT, True), steps(OUT, False), strict=True):
        more = [word for value in SMALL.get(words[0], ()) for word in ("--set", value)]
        kept = words[: len(words) - len(more)]
        assert words[len(kept) :] == more
        assert words[0] == "bundle" or kept == whole


def test_the_recipes_and_overrides_are_known(small):
    chosen = {words[0]: words for words in steps(OUT, small) if words[0] in SCHEMAS}
    assert set(chosen) == set(SCHEMAS) >= set(SMALL)
    found = {
        name: load_config(SCHEMAS[name], *values(words, "--config"), values(words, "--set"))
        for name, words in chosen.items()
    }
    assert found["train"].name == "aamn_demo_plus" and found["train"].data.validation_share == 0.1
    if small:
        assert found["synthetic"].train_videos == 6
        assert found["train-detector"].finetune.iterations == 30
        assert found["train"].train.optimiser.iterations == 10
        assert found["train"].aamn.backbone.widths == found["train-detector"].widths


def test_another_corpus_changes_the_first_step_alone(small):
    drawn, collage = steps(OUT, small), steps(OUT, small, cutouts=Path("d"))
    assert drawn[1:] == collage[1:] and values(collage[0], "--cutouts") == ["d"]
    found = load_config(CollageConfig, *values(collage[0], "--config"), values(collage[0], "--set"))
    assert str(found.validation_share) == SHARE and found.busy and found.sentences == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--corpus", "collage"), "wanted --corpus collage and --cutouts DIR together"),
        (("--cutouts", "."), "wanted --corpus collage and --cutouts DIR together"),
        (("--corpus", "collage", "--cutouts", "nowhere"), "no folder of cut-outs at nowhere"),
    ],
)
def test_a_collage_wants_its_cut_outs(words, said, monkeypatch, tmp_path, caplog, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["demo", *words]) == 2
    assert said in caplog.text + capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_another_recipe_changes_the_training_alone():
    ours, papers = steps(OUT, False), steps(OUT, False, "aamn_demo")
    assert [n for n, pair in enumerate(zip(ours, papers, strict=True)) if pair[0] != pair[1]] == [6]
    assert values(papers[6], "--config") == ["aamn_demo"]


@pytest.fixture
def demo(monkeypatch, tmp_path, capsys):
    """Runs the demo with steps that do nothing: its exit code, the steps that it took and what it
    printed; `failing` is the step (from 0) that ends with a code of its own."""
    real = main_module.run

    def call(*words, failing=None, code=2):
        taken = []

        def step(words):
            taken.append(words)
            return code if len(taken) - 1 == failing else 0

        monkeypatch.setattr(main_module, "run", step)
        ended = real(["demo", "--out", str(tmp_path), *words])
        return ended, taken, capsys.readouterr().out

    return call


def test_all_steps_are_taken_once_and_what_they_wrote_is_told(demo, tmp_path):
    clips = tmp_path / "corpus/Release/clips320H"
    clips.mkdir(parents=True)
    (clips / "v.mp4").touch()
    code, taken, said = demo("--small")
    assert code == 0 and taken == steps(tmp_path, True)
    assert f"{tmp_path}/ holds" in said and f"aamn segment {clips / 'v.mp4'} " in said
    assert json.loads((tmp_path / "steps.json").read_text()) == taken
    code, taken, again = demo("--small")
    assert (code, taken, again) == (0, [], said), "nothing is done twice"


@pytest.mark.parametrize(("failing", "code"), [(0, 2), (4, 1), (6, 130)])
def test_it_ends_with_the_step_that_failed_and_goes_on_with_it(demo, tmp_path, failing, code):
    wanted = steps(tmp_path, True)
    ended, taken, said = demo("--small", failing=failing, code=code)
    assert (ended, taken, said) == (code, wanted[: failing + 1], "")
    ended, taken, _ = demo("--small")
    assert (ended, taken) == (0, wanted[failing:])


def test_from_the_first_step_that_changed_all_are_taken_again(demo, tmp_path):
    assert demo("--small")[0] == 0
    record = tmp_path / "steps.json"
    done = json.loads(record.read_text())
    done[3] = [*done[3], "--set", "head=64"]
    record.write_text(json.dumps(done))
    wanted = steps(tmp_path, True)
    assert demo("--small", failing=1)[1] == wanted[3:5]
    assert json.loads(record.read_text()) == wanted[:4], "what followed is no longer done"
    assert demo("--small")[1] == wanted[4:]


def test_the_whole_demo_does_not_take_the_small_one_s_results_for_its_own(demo, tmp_path):
    assert demo("--small")[0] == 0
    assert demo()[1] == steps(tmp_path, False)


def test_each_step_is_printed_as_it_would_be_typed(demo, tmp_path, caplog):
    with caplog.at_level("INFO", "aamn"):
        demo("--small")
    said = [record.getMessage() for record in caplog.records]
    assert all(line.startswith("\n$ aamn ") for line in said)
    assert [shlex.split(line)[2:] for line in said] == steps(tmp_path, True)


def test_the_folder_is_runs_demo_where_none_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    real, taken = run, []
    monkeypatch.setattr(main_module, "run", lambda words: taken.append(words) or 0)
    assert real(["demo"]) == 0 and taken == steps(Path("runs/demo"), False)
