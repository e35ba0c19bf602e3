"""The paper's tables: printed numbers, recipes behind the rows, and what is written."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from read_chart import bars, drawn_words, legend, spreads

from aamn.config.loading import load_config, to_dict
from aamn.config.schema import Config
from aamn.evaluation.metrics import summarise, summarise_kinds
from aamn.experiments.tables import (
    BASE,
    COLUMNS,
    Measured,
    Table,
    TableRow,
    choose_table,
    own_overrides,
    read_tables,
    row_config,
    run_name,
    to_chart,
    to_csv,
    to_markdown,
    with_overrides,
)
from aamn.structures import Row
from aamn.visualization.charts import to_svg
from proposals.errors import InputError

CONFIGS = Path(__file__).parents[3] / "configs"
TABLES = read_tables(CONFIGS / "published.yaml")
FULL = (68.9, 64.2, 54.5, 32.4, 3.4, 41.2, 63.4, 55.6)
PRINTED = sorted(set(TABLES) - {"masks"})
ROWS = [(name, row) for name, table in TABLES.items() for row in table.rows]


@pytest.fixture(scope="module")
def paper():
    return load_config(Config, CONFIGS / "aamn_vgg16_a2d.yaml")


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_a_number_in_every_column(name):
    table = TABLES[name]
    assert table.plot in table.columns
    for row in table.rows:
        ours = name not in PRINTED or row.label.endswith("video-level tubes")
        assert len(row.paper) == (0 if ours else len(table.columns)), row.label


@pytest.mark.parametrize(
    ("name", "row"),
    [(name, row) for name, row in ROWS if row.paper],
    ids=lambda v: getattr(v, "label", v),
)
def test_printed_precisions_fall_with_the_threshold(name, row):
    """A slip of the pen would break the order; and the mean of P@X lies between its bounds."""
    five = row.paper[:5]
    assert list(five) == sorted(five, reverse=True)
    if len(row.paper) == 8 and row.paper[5] is not None:
        below, above = (sum(five) + sum(five[1:])) / 10, 2 * sum(five) / 10
        slack = 2.6  # some printed means lie outside of what their own columns allow
        assert below - slack < row.paper[5] < above + slack


@pytest.mark.parametrize("name", sorted(set(PRINTED) - {"1", "11", "13"}))
def test_every_table_prints_the_full_model_alike(name):
    assert sum(tuple(row.paper) == FULL for row in TABLES[name].rows) == 1


def test_every_ablation_file_belongs_to_a_row():
    files = {path.stem for path in (CONFIGS / "ablations").glob("*.yaml")}
    assert {row.file for _, row in ROWS if row.file} == files


def test_at_the_papers_sizes_the_full_row_is_the_base_itself(paper):
    for name in sorted(set(PRINTED) - {"1", "11", "13"}):
        (row,) = (row for row in TABLES[name].rows if tuple(row.paper) == FULL)
        assert run_name(row, row_config(row, paper, CONFIGS / "ablations"), paper) == BASE


def test_a_row_changes_any_base_by_its_own_keys(paper):
    base = load_config(Config, CONFIGS / "aamn_demo.yaml")
    row = TableRow("w/o Action", FULL, "table4_without_action")
    config = row_config(row, base, CONFIGS / "ablations")
    assert not config.aamn.action.enabled and config.aamn.size == base.aamn.size
    config.aamn.action.enabled = True
    assert to_dict(config) == to_dict(base)
    assert run_name(row, row_config(row, base, CONFIGS / "ablations"), base) == row.file


def test_a_small_base_gets_the_row_s_value_too():
    """The demo's L is 2: its row "L = 4" is a recipe of its own."""
    base = load_config(Config, CONFIGS / "aamn_demo.yaml", ["aamn.radius=2"])
    rows = {row.label: row for row in TABLES["3"].rows}
    names = {
        label: run_name(row, row_config(row, base, CONFIGS / "ablations"), base)
        for label, row in rows.items()
    }
    assert names == {"L = 0": "table3_l0", "L = 2": BASE, "L = 4": "radius_4", "L = 8": "table3_l8"}


def answered(iou, box_iou, kind):
    """One sentence whose mask and chosen box have these IoUs."""
    return Row("v", 0, 0, "s", kind, round(100 * iou), 100, box_iou, distractors=2)


@pytest.mark.parametrize("name", TABLES)
def test_every_column_is_a_metric_of_a_system_that_chooses_boxes(name):
    assert set(TABLES[name].columns) <= summarise([answered(0.5, 0.5, "")]).keys()


def test_table_1_reads_the_boxes_of_table_2_s_runs(paper):
    ablations = CONFIGS / "ablations"
    for one, two in zip(TABLES["1"].rows, TABLES["2"].rows, strict=True):
        configs = [row_config(row, paper, ablations) for row in (one, two)]
        assert configs[0] == configs[1]
        assert configs[0].aamn.proposals == int(one.label.removeprefix("K = "))
        assert run_name(one, configs[0], paper) == run_name(two, configs[1], paper), "trained once"
    rows = [answered(0.55, 0.95, "motion"), answered(0.75, 0.65, "location")]
    found = {"K = 2": Measured([summarise_kinds(rows)])}
    boxes, masks = (to_markdown(TABLES[name], found) for name in "12")
    assert "| K = 2 | ours | 100.0 | 100.0 | 50.0 | 50.0 | 50.0 |\n" in boxes
    assert "| K = 2 | ours | 100.0 | 50.0 | 50.0 | 0.0 | 0.0 | 30.0 | 65.0 | 65.0 |\n" in masks
    assert "Loc P@0.5 by what decides" in boxes
    assert "| K = 2 | 65.0 | 75.0 | 55.0 |" in masks, "all, location, motion"
    (row,) = [
        r for r in csv.DictReader(io.StringIO(to_csv(TABLES["1"], found))) if r["seeds"] == "1"
    ]
    assert [row[f"Loc P@{x}"] for x in (0.5, 0.7, 0.9)] == ["100.0", "50.0", "50.0"]
    assert [row[f"Loc P@{x} paper"] for x in (0.5, 0.7, 0.9)] == ["67.5", "58.7", "20.1"]


OVERRIDES = ["train.batch=3", "words.dimension=8", "acga.size=64", "aamn.size=96"]


@pytest.fixture(scope="module")
def side_by_side():
    """The table of all systems with the overrides, and its base."""
    base = load_config(
        Config,
        CONFIGS / "aamn_demo.yaml",
        ["train.optimiser.iterations=7", *own_overrides(OVERRIDES, "aamn")],
    )
    base.seed, base.data.root = 5, "corpus"
    return with_overrides(TABLES["systems"], OVERRIDES), base


def test_all_systems_have_one_budget_and_their_own_recipe(side_by_side):
    table, base = side_by_side
    configs = [row_config(row, base, CONFIGS / "ablations") for row in table.rows]
    assert [c.system for c in configs] == ["gavrilyuk", "acga", "cstm", "aamn", "aamn"]
    for config in configs:
        train = config.train
        assert (train.batch, train.optimiser.iterations, config.seed) == (3, 7, 5)
        assert (config.data, config.augment) == (base.data, base.augment)
        assert config.words.dimension == 8
    own = load_config(Config, CONFIGS / "baselines" / "gavrilyuk_demo.yaml")
    assert configs[0].gavrilyuk == own.gavrilyuk
    assert configs[0].train.optimiser.lr == own.train.optimiser.lr != base.train.optimiser.lr
    names = [run_name(row, c, base) for row, c in zip(table.rows, configs, strict=True)]
    assert names[:3] == ["gavrilyuk_demo", "acga_demo", "cstm_demo"]
    assert names[3:] == ["table4_without_flow_stream", BASE], "as in Table IV"


def test_an_override_of_a_system_reaches_that_system_alone(side_by_side):
    table, base = side_by_side
    found = {row.label: row_config(row, base, CONFIGS / "ablations") for row in table.rows}
    sizes = {label: (c.acga.size, c.aamn.size) for label, c in found.items()}
    papers = load_config(Config)
    assert sizes["ACGA, RGB"] == (64, papers.aamn.size)
    assert sizes["CSTM, RGB"] == (papers.acga.size, papers.aamn.size)
    assert sizes["AAMN, RGB+Flow"] == sizes["AAMN, RGB"] == (papers.acga.size, 96)


def test_names_of_the_files():
    assert (TABLES["4"].stem, TABLES["systems"].stem) == ("table4", "systems")


def test_an_unknown_table_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match=r"no table 'X'; there are 1, 2, 3"):
        choose_table(TABLES, "X")


def measured(*ious):
    return Measured(
        [{"all": dict.fromkeys(COLUMNS, iou), "motion": {"Mean IoU": 0.1}} for iou in ious]
    )


TABLE = Table(
    "T", "Title", (TableRow("a", FULL), TableRow("b", FULL), TableRow("c", FULL, elsewhere=True))
)


def test_mean_and_spread_over_seeds_by_hand():
    found = {"a": measured(0.2, 0.4), "b": measured(0.5)}
    rows = list(csv.DictReader(io.StringIO(to_csv(TABLE, found))))
    assert [row["seeds"] for row in rows] == ["2", "1", "0"]
    assert float(rows[0]["P@0.5"]) == pytest.approx(30)
    assert float(rows[0]["P@0.5 spread"]) == pytest.approx(14.1421, abs=1e-4)
    assert rows[1]["P@0.5 spread"] == "" and rows[2]["P@0.5"] == ""
    assert rows[2]["Mean IoU paper"] == "55.6"
    text = to_markdown(TABLE, found)
    assert "| a | ours | 30.0 ± 14.1 |" in text and "| b | ours | 50.0 |" in text
    assert "| c | *paper* | 68.9 |" in text
    assert "| a | 30.0 ± 14.1 | 10.0 ± 0.0 |" in text, "Mean IoU by kind"
    chart = to_chart(TABLE, found)
    assert bars(chart) == {
        ("ours", "a"): pytest.approx(30),
        ("ours", "b"): pytest.approx(50),
        **{("paper (A2D Sentences)", label): 55.6 for label in "abc"},
    }


def test_a_table_that_no_paper_prints_has_our_numbers_alone():
    table = TABLES["masks"]
    runs = [{"all": dict.fromkeys(COLUMNS, 0.25)}]
    measured = {row.label: Measured(runs) for row in table.rows}
    text = to_markdown(table, measured)
    assert "paper*" not in text and text.count("| ours |") == len(table.rows)
    lines = list(csv.DictReader(io.StringIO(to_csv(table, measured))))
    assert [line["P@0.9"] for line in lines] == ["25.0"] * len(table.rows)
    assert {line["P@0.9 paper"] for line in lines} == {""}
    assert list(legend(to_chart(table, measured))) == ["ours"]


def test_further_columns_of_the_csv():
    more = {"a": {"speed": 1.5, "input": "x"}, "b": {"speed": "", "input": "y"}}
    rows = list(csv.DictReader(io.StringIO(to_csv(TABLE, {"a": measured(0.2)}, more))))
    assert [row["speed"] for row in rows] == ["1.5", "", ""]
    assert [row["input"] for row in rows] == ["x", "y", ""]
    assert rows[0]["Mean IoU"] == "20.0"


def run_of(**metrics):
    return {"all": {name.replace("_", " "): value for name, value in metrics.items()}}


TWO = Table(
    "7",
    "Two columns",
    (TableRow("a", (0.0, None)), TableRow("b"), TableRow("c", (12.34, 56.78))),
    ("Mean IoU", "Overall IoU"),
)


def test_the_page_line_by_line():
    runs = [run_of(Mean_IoU=v, Overall_IoU=w) for v, w in ((0.1, 0.5), (0.2, 0.6), (0.6, 0.7))]
    found = {"a": Measured(runs), "b": Measured([run_of(Mean_IoU=0.12345)])}
    # Means 30 and 60; deviations sqrt((400 + 100 + 900) / 2) = 26.457 and 10
    assert to_markdown(TWO, found).splitlines() == [
        "### Two columns",
        "",
        "In per cent; ours: mean ± standard deviation over 3 seed(s).",
        "",
        "| model | | Mean IoU | Overall IoU |",
        "| --- | --- | ---: | ---: |",
        "| a | ours | 30.0 ± 26.5 | 60.0 ± 10.0 |",
        "|  | *paper* | 0.0 | - |",
        "| b | ours | 12.3 | - |",
        "| c | *paper* | 12.3 | 56.8 |",
    ]


def test_the_csv_line_by_line():
    runs = [run_of(Mean_IoU=v, Overall_IoU=0.5) for v in (0.123456, 0.2)]
    found = {"a": Measured(runs), "b": Measured([run_of(Mean_IoU=0.0)])}
    more = {"a": {"speed": 3.0}, "c": {"speed": 4.0}}
    # 12.3456 and 20: mean 16.1728, deviation 7.6544 / sqrt(2) = 5.41248
    assert to_csv(TWO, found, more).splitlines() == [
        "model,seeds,Mean IoU,Mean IoU spread,Mean IoU paper,"
        "Overall IoU,Overall IoU spread,Overall IoU paper,speed",
        "a,2,16.1728,5.4125,0.0,50.0,0.0,,3.0",
        "b,1,0.0,,,,,,",
        "c,0,,,12.34,,,56.78,4.0",
    ]


def test_kinds_of_sentences_are_a_table_of_the_plotted_metric():
    kinds = {"motion": {"Mean IoU": 0.25}, "all": {"Mean IoU": 0.5}, "colour": {"Mean IoU": 0.75}}
    other = {"all": {"Mean IoU": 0.1}}
    text = to_markdown(TWO, {"a": Measured([kinds]), "b": Measured([other])})
    assert text.splitlines()[-6:] == [
        "Mean IoU by what decides between the objects:",
        "",
        "| model | all | colour | motion |",
        "| --- | ---: | ---: | ---: |",
        "| a | 50.0 | 75.0 | 25.0 |",
        "| b | 10.0 | - | - |",
    ]
    assert "by what decides" not in to_markdown(TWO, {"b": Measured([other])})
    assert "by what decides" not in to_markdown(TWO, {})


def test_a_chart_has_a_bar_for_each_number_and_none_for_what_is_unknown():
    runs = [run_of(Mean_IoU=v, Overall_IoU=0.9) for v in (0.2, 0.4)]
    chart = to_chart(TWO, {"a": Measured(runs), "b": Measured(runs[:1])})
    paper = "paper (A2D Sentences)"
    assert bars(chart) == {
        **{("ours", "a"): pytest.approx(30), ("ours", "b"): pytest.approx(20)},
        **{(paper, "a"): 0, (paper, "c"): 12.34},
    }
    words = drawn_words(to_svg(chart))
    assert {"Two columns: Mean IoU, %", "ours", paper, "a", "30.0", "0.0", "20.0", "12.3"} <= set(
        words
    )
    spread = 10 * 2**0.5
    assert spreads(chart) == [pytest.approx((30 - spread, 30 + spread))], "one run has no spread"


def test_a_chart_shows_the_column_it_is_told():
    table = replace(TWO, plot="Overall IoU")
    chart = to_chart(table, {"b": Measured([run_of(Mean_IoU=0.1, Overall_IoU=0.9)])})
    assert bars(chart) == {("ours", "b"): 90, ("paper (A2D Sentences)", "c"): 56.78}


def test_a_file_of_tables_is_read_with_what_it_leaves_out(tmp_path):
    path = tmp_path / "tables.yaml"
    path.write_text(
        "'3':\n  title: One\n  columns: [Mean IoU, P@0.5]\n  plot: P@0.5\n  costs: true\n"
        "  rows:\n    - {label: a, set: [seed=2], paper: [1.5, null]}\n"
        "    - {label: b, file: f, test: true}\n"
        "    - {label: c, videos: clip/bbox}\n    - {label: d, elsewhere: true}\n"
        "other: [1, 2]\n"
        "own:\n  title: Two\n  rows: [{label: e, baseline: acga_demo}]\n",
        encoding="utf-8",
    )
    tables = read_tables(path)
    assert list(tables) == ["3", "own"]
    assert tables["3"] == Table(
        "3",
        "One",
        (
            TableRow("a", [1.5, None], set=["seed=2"]),
            TableRow("b", file="f", test=True),
            TableRow("c", videos="clip/bbox"),
            TableRow("d", elsewhere=True),
        ),
        ("Mean IoU", "P@0.5"),
        "P@0.5",
        True,
    )
    own = tables["own"]
    assert (own.columns, own.plot, own.costs) == (COLUMNS, "Mean IoU", False)


def test_the_columns_are_in_the_papers_order():
    precisions = ["P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9"]
    assert list(COLUMNS) == [*precisions, "mAP 0.5:0.95", "Overall IoU", "Mean IoU"]


def test_the_same_system_in_two_tables_has_the_same_printed_numbers():
    """The compared systems of Table X and those that are trained here again."""
    quoted = {row.label: list(row.paper) for row in TABLES["10"].rows}
    again = [row for row in TABLES["systems"].rows if row.label in quoted]
    assert len(again) >= 3
    assert all(list(row.paper) == quoted[row.label] for row in again)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["aamn.radius=3"], "radius_3"),
        (["aamn.radius=3", "aamn.margin=0.2"], "radius_3_margin_0.2"),
        (["train.batch=9"], "train.batch_9"),
    ],
)
def test_a_row_of_overrides_is_kept_under_them(paper, overrides, name):
    row = TableRow("r", set=overrides)
    config = row_config(row, paper, CONFIGS / "ablations")
    assert run_name(row, config, paper) == name
    assert to_dict(config) == to_dict(load_config(Config, None, overrides, paper))


def test_a_row_s_file_is_laid_over_the_base_and_its_overrides_over_both(tmp_path):
    (tmp_path / "f.yaml").write_text(
        "base: no/such.yaml\nname: f\naamn: {margin: 0.3, actor: {location: false}}\n"
        "train: {optimiser: {milestones: [5]}}\n"
    )
    base = load_config(Config, None, ["aamn.radius=2", "aamn.actor.features=flow", "name=base"])
    config = row_config(TableRow("r", file="f", set=["aamn.margin=0.4"]), base, tmp_path)
    assert (config.name, config.aamn.radius, config.aamn.margin) == ("base", 2, 0.4)
    assert (config.aamn.actor.location, config.aamn.actor.features) == (False, "flow")
    assert list(config.train.optimiser.milestones) == [5]
    assert (base.aamn.margin, base.aamn.actor.location) == (0.1, True), "the base stays"
    (tmp_path / "g.yaml").write_text("base: x\nname: g\naamn: {no_such: 1}\n")
    with pytest.raises(InputError, match="no_such"):
        row_config(TableRow("r", file="g"), base, tmp_path)


def test_another_system_s_row_has_the_base_s_data_and_number_of_samples_and_its_own_rate():
    base = load_config(
        Config,
        CONFIGS / "aamn_demo.yaml",
        [
            *("seed=9", "data.root=r", "augment.flip=0.25", "flow.preset=fast", "train.batch=3"),
            *("train.optimiser.iterations=11", "train.log_every=77", "train.optimiser.lr=7"),
        ],
    )
    row = TableRow("r", baseline="acga_demo", set=["acga.size=64"])
    config = row_config(row, base, CONFIGS / "ablations")
    own = load_config(Config, CONFIGS / "baselines" / "acga_demo.yaml")
    assert (config.seed, config.data.root, config.augment.flip) == (9, "r", 0.25)
    assert (config.flow.preset, config.train.batch) == ("fast", 3)
    optimiser = config.train.optimiser
    assert (optimiser.iterations, optimiser.lr) == (11, own.train.optimiser.lr)
    assert config.train.log_every == own.train.log_every != 77
    assert (config.system, config.acga.size) == ("acga", 64)
    assert run_name(row, config, base) == "acga_demo"


def test_overrides_reach_the_rows_whose_system_they_are_of():
    given = ["acga.size=1", "cstm.size=2", "gavrilyuk.size=3", "aamn.size=4", "acgae=5", "seed=6"]
    assert own_overrides(given, "acga") == ["acga.size=1", "acgae=5", "seed=6"]
    assert own_overrides(given, "aamn") == ["aamn.size=4", "acgae=5", "seed=6"]
    rows = (TableRow("a", set=["x=0"], baseline="acga_demo"), TableRow("b", set=["x=0"]))
    table = with_overrides(Table("t", "T", rows), given)
    assert [list(row.set) for row in table.rows] == [
        ["x=0", "acga.size=1", "acgae=5", "seed=6"],
        ["x=0"],
    ]
