"""The paper's tables: printed numbers, recipes behind the rows, and what is written."""

import csv
import io
from pathlib import Path

import pytest

from aamn.config import Config, load_config, to_dict
from aamn.tables import (
    BASE,
    COLUMNS,
    Measured,
    Table,
    TableRow,
    choose_table,
    read_tables,
    row_config,
    run_name,
    to_chart,
    to_csv,
    to_markdown,
)
from proposals.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"
TABLES = read_tables(CONFIGS / "published.yaml")
FULL = (68.9, 64.2, 54.5, 32.4, 3.4, 41.2, 63.4, 55.6)
ROWS = [(name, row) for name, table in TABLES.items() for row in table.rows]


@pytest.fixture(scope="module")
def paper():
    return load_config(Config, CONFIGS / "aamn_vgg16_a2d.yaml")


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_a_number_in_every_column(name):
    table = TABLES[name]
    assert table.plot in table.columns
    for row in table.rows:
        assert len(row.paper) == len(table.columns), row.label


@pytest.mark.parametrize(("name", "row"), ROWS, ids=lambda v: getattr(v, "label", v))
def test_printed_precisions_fall_with_the_threshold(name, row):
    """A slip of the pen would break the order; and the mean of P@X lies between its bounds."""
    five = row.paper[:5]
    assert list(five) == sorted(five, reverse=True)
    if len(row.paper) == 8 and row.paper[5] is not None:
        below, above = (sum(five) + sum(five[1:])) / 10, 2 * sum(five) / 10
        slack = 2.6  # some printed means lie outside of what their own columns allow
        assert below - slack < row.paper[5] < above + slack


@pytest.mark.parametrize("name", sorted(set(TABLES) - {"1", "11"}))
def test_every_table_prints_the_full_model_alike(name):
    assert sum(tuple(row.paper) == FULL for row in TABLES[name].rows) == 1


def test_every_ablation_file_belongs_to_a_row():
    files = {path.stem for path in (CONFIGS / "ablations").glob("table*.yaml")}
    assert {row.file for _, row in ROWS if row.file} == files


def test_at_the_papers_sizes_the_full_row_is_the_base_itself(paper):
    for name in sorted(set(TABLES) - {"1", "11"}):
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
    assert "30.0" in chart and chart.count("55.6") >= 3
