"""The paper's tables: which recipe is behind each row, and results beside the printed numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from aamn.config.loading import from_dict, load_config, to_dict
from aamn.config.schema import SYSTEM_PARTS, Config
from aamn.visualization.charts import Figure, Series, bar_chart
from proposals.errors import InputError

PRECISIONS = tuple(f"P@{x}" for x in (0.5, 0.6, 0.7, 0.8, 0.9))
COLUMNS = (*PRECISIONS, "mAP 0.5:0.95", "Overall IoU", "Mean IoU")
BASE = "full"  # the name of the runs of the base recipe itself


@dataclass(frozen=True)
class TableRow:
    """A row: the printed numbers in per cent (none: no paper has the row), and what differs from
    the base recipe.

    `file` is an ablation file's name, `set` are overrides; `baseline`: another system's recipe, of
    configs/baselines/, with the base's budget; `test`: the base's checkpoint read in another way;
    `videos`: on whole videos, by which "linking/protocol"; `elsewhere`: other authors' numbers,
    only quoted.
    """

    label: str
    paper: Sequence[float | None] = ()
    file: str = ""
    set: Sequence[str] = ()
    baseline: str = ""
    test: bool = False
    videos: str = ""
    elsewhere: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the paper; `plot` is the column that its chart shows, `costs` whether parameters
    and speed belong to it."""

    name: str
    title: str
    rows: tuple[TableRow, ...]
    columns: tuple[str, ...] = COLUMNS
    plot: str = "Mean IoU"
    costs: bool = False

    @property
    def stem(self) -> str:
        """The name of the files that it is written to."""
        return f"table{self.name}" if self.name.isdigit() else self.name


@dataclass(frozen=True)
class Measured:
    """A row's metrics, fractions of 1, of one run a seed: kind of sentence -> metric -> value."""

    runs: Sequence[Mapping[str, Mapping[str, float]]] = field(default_factory=tuple)

    def values(self, metric: str, kind: str = "all") -> list[float]:
        """The metric's values over the seeds, in per cent; none where no run has it."""
        return [100 * run[kind][metric] for run in self.runs if metric in run.get(kind, {})]


def read_tables(path: Path) -> dict[str, Table]:
    """The tables of configs/published.yaml by their numbers."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        name: Table(
            name,
            table["title"],
            tuple(TableRow(**row) for row in table["rows"]),
            tuple(table.get("columns", COLUMNS)),
            table.get("plot", "Mean IoU"),
            table.get("costs", False),
        )
        for name, table in content.items()
        if "rows" in table
    }


def row_config(row: TableRow, base: Config, ablations: Path) -> Config:
    """The base recipe with the row's own differences, whatever base its file names itself.

    Raises:
        InputError: the row's file does not fit the base.
    """
    if row.baseline:
        return _baseline_config(row, base, ablations.parent / "baselines")
    values = to_dict(base)
    if row.file:
        own = yaml.safe_load((ablations / f"{row.file}.yaml").read_text(encoding="utf-8"))
        del own["base"], own["name"]
        values = _merged(values, own)
    return load_config(Config, None, list(row.set), from_dict(Config, values))


def _baseline_config(row: TableRow, base: Config, recipes: Path) -> Config:
    """Another system's recipe with the base's data, augmentation and number of samples, so that
    both see the same clips in the same order."""
    own = load_config(Config, recipes / f"{row.baseline}.yaml", list(row.set))
    budget = base.train.optimiser.iterations
    train = replace(
        own.train,
        batch=base.train.batch,
        optimiser=replace(own.train.optimiser, iterations=budget),
    )
    shared = {name: getattr(base, name) for name in ("seed", "data", "augment", "flow")}
    return replace(own, train=train, **shared)


def with_overrides(table: Table, overrides: Sequence[str]) -> Table:
    """The table whose rows of other systems get the overrides too, save those of a part of the
    configuration that is another system's."""
    rows = (
        replace(row, set=(*row.set, *own_overrides(overrides, row.baseline.split("_")[0])))
        if row.baseline
        else row
        for row in table.rows
    )
    return replace(table, rows=tuple(rows))


def own_overrides(overrides: Sequence[str], system: str) -> list[str]:
    """Those that are not of another system's part ("acga.size=96")."""
    others = set(SYSTEM_PARTS) - {system}
    return [override for override in overrides if override.split(".")[0] not in others]


def run_name(row: TableRow, config: Config, base: Config) -> str:
    """The folder of a row's runs: rows of several tables that are the same recipe share one."""
    if to_dict(config) == to_dict(base):
        return BASE
    return row.baseline or row.file or "_".join(row.set).replace("aamn.", "").replace("=", "_")


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        result[key] = _merged(below[key], value) if both else value
    return result


def choose_table(tables: Mapping[str, Table], name: str) -> Table:
    """A table by its number.

    Raises:
        InputError: no such table.
    """
    if name not in tables:
        raise InputError(f"no table {name!r}; there are {', '.join(tables)} and acga-parameters")
    return tables[name]


# Writing


def _ours(values: Sequence[float]) -> str:
    """Mean and spread (standard deviation) over the seeds."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{mean(values):.1f} ± {stdev(values):.1f}"


def to_markdown(table: Table, measured: Mapping[str, Measured]) -> str:
    """Two lines a row, ours and the paper's; below, the plotted metric by kind of
    sentence."""
    seeds = max((len(found.runs) for found in measured.values()), default=0)
    lines = [
        f"### {table.title}",
        "",
        f"In per cent; ours: mean ± standard deviation over {seeds} seed(s).",
        "",
        f"| model | | {' | '.join(table.columns)} |",
        f"| --- | --- |{' ---: |' * len(table.columns)}",
    ]
    for row in table.rows:
        name = row.label
        if row.label in measured:
            ours = [_ours(measured[row.label].values(column)) for column in table.columns]
            lines.append(f"| {name} | ours | {' | '.join(ours)} |")
            name = ""
        if row.paper:
            printed = ["-" if value is None else f"{value:.1f}" for value in row.paper]
            lines.append(f"| {name} | *paper* | {' | '.join(printed)} |")
    return "\n".join([*lines, *_by_kind(measured, table.plot)]) + "\n"


def _by_kind(measured: Mapping[str, Measured], metric: str) -> list[str]:
    kinds = sorted({kind for one in measured.values() for run in one.runs for kind in run})
    if kinds in ([], ["all"]):
        return []
    lines = ["", f"{metric} by what decides between the objects:", ""]
    lines += [f"| model | {' | '.join(kinds)} |", f"| --- |{' ---: |' * len(kinds)}"]
    for label, found in measured.items():
        cells = [_ours(found.values(metric, kind)) for kind in kinds]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def to_csv(
    table: Table,
    measured: Mapping[str, Measured],
    more: Mapping[str, Mapping[str, str | float]] | None = None,
) -> str:
    """One line a row: per column the mean, the spread and the paper's number; empty if unknown.

    `more` are further columns: label -> head -> value, the same heads in every row that has any.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = [f"{column}{part}" for column in table.columns for part in ("", " spread", " paper")]
    more = more or {}
    further = list(next(iter(more.values()), {}))
    writer.writerow(["model", "seeds", *heads, *further])
    for row in table.rows:
        found = measured.get(row.label, Measured())
        cells: list[Any] = [row.label, len(found.runs)]
        for column, printed in zip_longest(table.columns, row.paper):
            values = found.values(column)
            cells += [
                round(mean(values), 4) if values else "",
                round(stdev(values), 4) if len(values) > 1 else "",
                "" if printed is None else printed,
            ]
        writer.writerow([*cells, *(more.get(row.label, {}).get(head, "") for head in further)])
    return out.getvalue()


def to_chart(table: Table, measured: Mapping[str, Measured]) -> Figure:
    """The table's main column as bars, ours with its spread, beside the paper's."""
    place = table.columns.index(table.plot)
    found = [measured.get(row.label, Measured()).values(table.plot) for row in table.rows]
    ours = Series(
        "ours",
        [mean(values) if values else None for values in found],
        spread=[stdev(values) if len(values) > 1 else None for values in found],
    )
    printed = [row.paper[place] if row.paper else None for row in table.rows]
    series = [ours, Series("paper (A2D Sentences)", printed)] if any(printed) else [ours]
    title = f"{table.title}: {table.plot}, %"
    return bar_chart(series, [row.label for row in table.rows], title)
