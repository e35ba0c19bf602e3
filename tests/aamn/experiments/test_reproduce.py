"""Which runs a table plans, what it reads of them, and how the program ends."""

import json
from copy import deepcopy
from dataclasses import replace

import programs
import pytest
import yaml
from read_chart import drawn_words

from aamn.config.loading import load_config, to_dict
from aamn.config.schema import Config
from aamn.experiments import costs as costs_table
from aamn.experiments import reproduce as reproduce_module
from aamn.experiments import tables
from aamn.experiments.reproduce import measure, planned_runs
from aamn.experiments.tables import Table, TableRow
from proposals.errors import InputError

ROWS = (
    TableRow("as it is", (1.0,)),
    TableRow("wider", (2.0,), set=("aamn.radius=3",)),
    TableRow("otherwise", (3.0,), file="table9_random_attention", test=True),
    TableRow("the same again", (4.0,), set=("aamn.radius=4",)),
    TableRow("quoted", (5.0,), elsewhere=True),
    TableRow("whole", (6.0,), videos="video/bbox"),
    TableRow("other system", (7.0,), baseline="acga_demo"),
)
TABLE = Table("9", "A table", ROWS, ("Mean IoU",))


FEW = replace(TABLE, rows=ROWS[:2])


@pytest.fixture(autouse=True)
def _recipes_are_made_once(monkeypatch):
    for name in ("row_config", "run_name"):
        monkeypatch.setattr(reproduce_module, name, remembered(getattr(tables, name)))


FOUND = {}


def remembered(work):
    """Merging trees of values takes long; what comes of it is the same every time."""

    def found(*given):
        key = work.__name__, repr(given)
        if key not in FOUND:
            FOUND[key] = work(*given)
        return deepcopy(FOUND[key])

    return found


def write_metrics(path, **kinds):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"aamn": {"metrics": kinds, "rows": []}}))


def test_every_run_is_planned_once_under_its_own_seed(tmp_path):
    base = Config(name="base", seed=4)
    runs = planned_runs(TABLE, base, tmp_path, 2)
    assert {str(path.relative_to(tmp_path)): (c.name, c.seed) for path, c in runs.items()} == {
        f"runs/{name}/seed{seed}": (name, seed)
        for name in ("full", "radius_3", "acga_demo")
        for seed in (4, 5)
    }
    by_name = {config.name: config for config in runs.values()}
    assert by_name["full"].aamn == base.aamn, "what is only read otherwise is trained as the base"
    assert by_name["radius_3"].aamn.radius == 3 and by_name["acga_demo"].system == "acga"


@pytest.fixture
def evaluated(monkeypatch):
    """Checkpoints that were evaluated, with the values that were set."""
    calls = []

    class Evaluated:
        class evaluation:
            report = "report"

    def evaluate(checkpoint, overrides=()):
        calls.append((checkpoint, list(overrides)))
        return Evaluated

    monkeypatch.setattr(reproduce_module, "evaluate_checkpoint", evaluate)
    monkeypatch.setattr(
        reproduce_module,
        "write_metrics",
        lambda reports, path: write_metrics(path, all={"Mean IoU": len(calls) / 100}),
    )
    return calls


def finished(out, base, seeds=1):
    """Metrics of every run of the table: 0.10 of the base, 0.30 wider, 0.70 of the other system;
    0.01 more of a second seed; 0.60 on whole videos."""
    for name, value in (("full", 0.1), ("radius_3", 0.3), ("acga_demo", 0.7)):
        for seed in range(base.seed, base.seed + seeds):
            folder = out / "runs" / name / f"seed{seed}"
            iou = value + 0.01 * (seed - base.seed)
            write_metrics(folder / "metrics.json", all={"Mean IoU": iou})
            whole = {"aamn, by video": {"bbox": {"Mean IoU": 0.6}, "pixel": {"Mean IoU": 0.5}}}
            content = json.dumps({"systems": whole | {"aamn, by clip": whole["aamn, by video"]}})
            (folder / "metrics_full_video.json").write_text(content)


def ious(measured):
    return {label: found.values("Mean IoU") for label, found in measured.items()}


def test_what_the_runs_say_reaches_their_rows(tmp_path, evaluated):
    base = Config(seed=4)
    finished(tmp_path, base, 2)
    found = ious(measure(TABLE, base, tmp_path, 2))
    wanted = {
        "as it is": [10, 11],
        "wider": [30, 31],
        "otherwise": [1, 2],
        "the same again": [10, 11],
        "whole": [60, 60],
        "other system": [70, 71],
    }
    assert found.keys() == wanted.keys(), "a quoted row is not measured"
    for label, values in wanted.items():
        assert found[label] == pytest.approx(values), label
    folder = tmp_path / "runs" / "full"
    own = ["aamn.language.attention=random"]
    assert evaluated == [(folder / f"seed{seed}" / "last.pt", own) for seed in (4, 5)]
    assert ious(measure(TABLE, base, tmp_path, 2))["otherwise"] == pytest.approx([1, 2])
    assert len(evaluated) == 2, "what was read otherwise is kept"


def test_another_data_set_is_for_the_evaluation_of_every_trained_row(tmp_path, evaluated):
    base, table = Config(), Table("11", "Elsewhere", ROWS[:3])
    finished(tmp_path, base)
    measure(table, base, tmp_path, 1, ["data.kind=jhmdb"])
    found = [(path.parent.parent.name, values) for path, values in evaluated]
    other = ["data.kind=jhmdb"]
    assert found == [
        ("full", other),
        ("radius_3", other),
        ("full", ["aamn.language.attention=random", *other]),
    ]
    assert (tmp_path / "runs" / "radius_3" / "seed0" / "metrics_table11.json").is_file()
    one = json.loads((tmp_path / "runs" / "full" / "seed0" / "metrics.json").read_text())
    assert one["aamn"]["metrics"]["all"]["Mean IoU"] == 0.1, "the run's own metrics stay"


def test_a_run_is_trained_then_evaluated_and_not_done_twice(tmp_path, monkeypatch, evaluated):
    trained, config = [], load_config(Config, None, ["train.phases=[{share: 1}]"])

    def train_from(config, folder):
        trained.append(folder)
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(config)))

    monkeypatch.setattr(reproduce_module, "train_from", train_from)
    folder = tmp_path / "run"
    for _ in range(2):
        assert reproduce_module._run_row(config, folder) == folder / "metrics.json"
    assert trained == [folder] and evaluated == [(folder / "last.pt", [])]
    config.aamn.margin = 0.3
    with pytest.raises(InputError, match="run holds a run of another recipe"):
        reproduce_module._run_row(config, folder)


def test_a_file_s_keys_become_overrides():
    assert reproduce_module._leaves("table4_without_location") == ["aamn.actor.location=False"]


GIVEN = ("--data", "d", "--proposals", "p.h5")


@pytest.fixture
def program(monkeypatch, tmp_path, capsys, evaluated):
    """Calls the program on runs that are finished or fail; its exit code, errors and recipes."""
    monkeypatch.chdir(tmp_path)

    def call(*words, failed=None, table=FEW):
        asked = {}
        monkeypatch.setattr(reproduce_module, "read_tables", lambda path: {"9": table})

        def run_rows(work, runs, jobs):
            asked.update(runs=runs, jobs=jobs)
            base = next(iter(runs.values()))
            finished(next(iter(runs)).parents[2], base, asked["seeds"])
            return failed or {}

        asked["seeds"] = int(words[words.index("--seeds") + 1]) if "--seeds" in words else 1
        monkeypatch.setattr(reproduce_module, "run_rows", run_rows)
        return programs.call("reproduce_table", *words), capsys.readouterr(), asked

    return call


def test_the_table_is_written_and_printed(program, tmp_path):
    code, said, asked = program("9", *GIVEN, "--out", "t", "--seeds", 2, "--jobs", 3)
    assert code == 0 and asked["jobs"] == 3
    assert len(asked["runs"]) == 4
    text = (tmp_path / "t" / "table9.md").read_text()
    assert said.out.strip() == text.strip()
    assert "| wider | ours | 30.5 ± 0.7 |" in text.splitlines()
    lines = (tmp_path / "t" / "table9.csv").read_text().splitlines()
    assert lines[2] == "wider,2,30.5,0.7071,2.0"
    words = drawn_words((tmp_path / "t" / "table9.svg").read_text())
    assert {"wider", "ours", "30.5"} <= set(words)


def test_options_reach_the_recipes(program):
    words = ("--data", "d", "--proposals", "p.h5", "--flow", "f.h5", "--set", "train.batch=5")
    words += ("--set", "acga.size=48", "--set", "data.root=elsewhere", "--set", "aamn.size=96")
    code, _, asked = program("9", *words, table=replace(TABLE, rows=(*ROWS[:2], ROWS[6])))
    assert code == 0 and asked["jobs"] == 1
    configs = {config.name: config for config in asked["runs"].values()}
    for config in configs.values():
        data = config.data
        assert (data.root, data.proposals, data.flow) == ("d", "p.h5", "f.h5")
        assert config.train.batch == 5
    assert configs["acga_demo"].acga.size == 48 != configs["full"].acga.size
    assert configs["full"].aamn.size == configs["radius_3"].aamn.size == 96
    assert all(str(folder).startswith("runs/tables/runs/") for folder in asked["runs"])


def test_another_base_is_what_rows_are_variants_of(program, tmp_path):
    (tmp_path / "b.yaml").write_text(
        "aamn: {margin: 0.7}\ndata: {root: own, proposals: p.h5, flow: own.h5}\n"
    )
    for option in ("--base", "--config"):
        code, _, asked = program("9", option, "b.yaml", "--flow", "f.h5")
        assert code == 0
        (wide,) = (c for c in asked["runs"].values() if c.name == "radius_3")
        assert (wide.aamn.margin, wide.aamn.radius) == (0.7, 3)
        assert (wide.data.root, wide.data.flow) == ("own", "f.h5")


def test_values_for_the_evaluation_alone_do_not_reach_the_training(program, evaluated):
    code, _, asked = program("9", *GIVEN, "--test-set", "data.kind=jhmdb")
    assert code == 0
    assert {config.data.kind for config in asked["runs"].values()} == {"a2d"}
    assert evaluated and all(values[-1] == "data.kind=jhmdb" for _, values in evaluated)


def test_a_failed_run_is_exit_code_1_and_writes_no_table(program, tmp_path, caplog):
    code, said, _ = program("9", *GIVEN, "--out", "t", failed={tmp_path: "why"})
    assert code == 1 and "1 run(s) failed" in caplog.text
    assert not said.out and not list((tmp_path / "t").glob("table9.*"))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("9", "--data", "d", "--seeds", "0"), "'--seeds': 0 is not in the range"),
        (("9", "--data", "d", "--jobs", "-1"), "'--jobs': -1 is not in the range"),
        (("9",), "--data ROOT"),
        (("9", "--data", "d"), "--proposals HDF5"),
        (("12", "--data", "d"), "no table '12'; there are 9 and acga-parameters"),
        (("9", "--data", "d", "--set", "train.bach=1"), "train.bach"),
    ],
)
def test_a_mistake_is_exit_code_2(program, words, named):
    code, said, asked = program(*words)
    assert code == 2 and "runs" not in asked
    assert said.err.startswith("error: ") and named in said.err


def test_costs_follow_a_table_that_has_them(program, tmp_path, monkeypatch):
    asked = {}

    def measure_costs(runs):
        asked.update(runs)
        cost = costs_table.Costs("a device", 12345, 1.0, 2.0, None, "in", "st")
        return {"wider": cost}

    monkeypatch.setattr(costs_table, "measure_costs", measure_costs)
    table = replace(TABLE, rows=(*ROWS[:2], ROWS[4]), costs=True)
    words = ("9", *GIVEN, "--out", "t", "--set", "train.batch=3", "--seeds", 2)
    assert program(*words, table=table)[0] == 0
    assert {label: str(path) for label, path in asked.items()} == {
        "as it is": "t/runs/full/seed0",
        "wider": "t/runs/radius_3/seed0",
    }
    text = (tmp_path / "t" / "table9.md").read_text()
    assert "| wider | 12,345 | 1.0 | 2.0 | - | in | st |" in text and "3 clips" in text
    lines = (tmp_path / "t" / "table9.csv").read_text().splitlines()
    assert lines[0].endswith(
        ',learned parameters,"clip and sentence, ms","video frame, ms",'
        '"video frame, further sentence, ms",input,started from'
    )
    assert lines[2].endswith(",2.0,12345,1.0,2.0,,in,st")


def test_the_parameters_of_the_compared_systems_are_printed_and_kept(
    program, tmp_path, monkeypatch
):
    monkeypatch.setattr(reproduce_module, "_count_parameters", lambda: "| a | 5 | 6 |\n")
    code, said, _ = program("acga-parameters", "--out", "p")
    assert code == 0
    assert said.out.strip() == "| a | 5 | 6 |"
    assert (tmp_path / "p" / "acga-parameters.md").read_text() == "| a | 5 | 6 |\n"
