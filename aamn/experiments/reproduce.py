"""Trains and evaluates the rows of one of the paper's tables, and writes the table."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from aamn.config.loading import load_config, refuse_without_inputs, to_dict, with_new_names
from aamn.config.recipes import recipe_folder
from aamn.config.schema import SYSTEM_PARTS, Config
from aamn.evaluation.absence import system_name, write_videos
from aamn.evaluation.key_frames import write_metrics
from aamn.evaluation.systems import evaluate_checkpoint
from aamn.experiments import costs as costs_table
from aamn.experiments.runs import run_rows
from aamn.experiments.tables import (
    BASE,
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
from aamn.inference.checkpoint import load_segmenter
from aamn.models.baselines.one_stage import learned_parameters
from aamn.models.build import SYSTEMS
from aamn.training.run import train_from
from aamn.visualization.charts import to_svg
from proposals.build import best_device
from proposals.errors import InputError
from proposals.files import write_text

log = logging.getLogger("aamn")

COUNTS = "acga-parameters"  # a table that nothing is trained for


def _metrics(path: Path) -> dict[str, dict[str, float]]:
    """The metrics of a run by kind of sentence."""
    (system,) = json.loads(path.read_text(encoding="utf-8")).values()
    return system["metrics"]


def _run_row(config: Config, folder: Path) -> Path:
    """Trains and evaluates one recipe with one seed, unless that is done; its metrics' file.

    Raises:
        InputError: the folder holds a run of another recipe.
    """
    metrics, stored = folder / "metrics.json", folder / "config.yaml"
    wanted = yaml.safe_load(yaml.safe_dump(to_dict(config)))
    if stored.is_file() and _stored_config(stored) != wanted:
        raise InputError(f"{folder} holds a run of another recipe; use another --out")
    if metrics.is_file():
        log.info("%s is done", folder)
        return metrics
    train_from(config, folder)
    write_metrics([evaluate_checkpoint(folder / "last.pt").evaluation.report], metrics)
    return metrics


def _stored_config(path: Path) -> dict[str, Any]:
    """The configuration of a run, by today's names."""
    return with_new_names(yaml.safe_load(path.read_text(encoding="utf-8")))


def _read_otherwise(folder: Path, seed: int, name: str, own: Sequence[str]) -> Path:
    """Evaluates a finished run in another way; its metrics' file."""
    metrics = folder / f"metrics_{name}.json"
    if not metrics.is_file():
        torch.manual_seed(seed)
        report = evaluate_checkpoint(folder / "last.pt", own).evaluation.report
        write_metrics([report], metrics)
    return metrics


def _read_videos(folder: Path, reading: str) -> dict[str, float]:
    """The metrics of a finished run on whole videos, by "linking/protocol"."""
    metrics = folder / "metrics_full_video.json"
    if not metrics.is_file():
        loaded = load_segmenter(folder / "last.pt", best_device())
        data = loaded.config.data
        write_videos(loaded, data, data.test_split, metrics, folder / "index")
    linking, protocol = reading.split("/")
    systems = json.loads(metrics.read_text(encoding="utf-8"))["systems"]
    return systems[system_name(linking)][protocol]


def _seeds(base: Config, seeds: int) -> range:
    return range(base.seed, base.seed + seeds)


def _recipe(row: TableRow, base: Config) -> Config:
    """What the row's run is trained with; the base's own where it is only read in another way."""
    return base if row.test else row_config(row, base, recipe_folder() / "ablations")


def _folder(row: TableRow, base: Config, out: Path, seed: int) -> Path:
    """Where the row's run is kept; rows that are the same recipe share it."""
    name = BASE if row.test else run_name(row, _recipe(row, base), base)
    return out / "runs" / name / f"seed{seed}"


def planned_runs(table: Table, base: Config, out: Path, seeds: int) -> dict[Path, Config]:
    """Every run that the table's rows need, once: its folder below `out`/runs -> its recipe."""
    runs = {}
    for row in table.rows:
        if row.elsewhere:
            continue
        for seed in _seeds(base, seeds):
            folder = _folder(row, base, out, seed)
            runs[folder] = replace(_recipe(row, base), seed=seed, name=folder.parent.name)
    return runs


def measure(
    table: Table, base: Config, out: Path, seeds: int, elsewhere: Sequence[str] = ()
) -> dict[str, Measured]:
    """Reads what the table's finished runs below `out`/runs say; label -> metrics of all seeds.

    Args:
        elsewhere: values of the configuration with which the trained rows are evaluated, where
            the table is about another data set than the one trained on.
    """
    found = {}
    for row in table.rows:
        if row.elsewhere:
            continue
        runs = []
        for seed in _seeds(base, seeds):
            folder = _folder(row, base, out, seed)
            path = folder / "metrics.json"
            if row.videos:
                runs.append({"all": _read_videos(folder, row.videos)})
                continue
            if row.test or elsewhere:
                own = _leaves(row.file) if row.test else []
                tag = row.file if row.test else f"table{table.name}"
                path = _read_otherwise(folder, seed, tag, [*own, *elsewhere])
            runs.append(_metrics(path))
        found[row.label] = Measured(runs)
    return found


def _leaves(file: str) -> list[str]:
    """An ablation file's own keys as overrides."""
    tree = yaml.safe_load(
        (recipe_folder() / "ablations" / f"{file}.yaml").read_text(encoding="utf-8")
    )

    def walk(node: dict, prefix: str) -> list[str]:
        pairs = ((f"{prefix}{key}", value) for key, value in node.items())
        return [
            item
            for key, value in pairs
            for item in (walk(value, f"{key}.") if isinstance(value, dict) else [f"{key}={value}"])
        ]

    return walk({k: v for k, v in tree.items() if k not in ("base", "name")}, "")


def _count_parameters() -> str:
    """The comparison systems' learned parameters, counted without making them, as Markdown."""
    rows = yaml.safe_load((recipe_folder() / "published.yaml").read_text(encoding="utf-8"))
    lines = ["| model | learned parameters | paper, or release |", "| --- | ---: | ---: |"]
    for row in rows["acga-parameters"]:
        config = load_config(Config, f"baselines/{row['file']}")
        with torch.device("meta"):
            embedding = nn.Embedding(2, config.words.dimension, padding_idx=0)
            count = learned_parameters(SYSTEMS[config.system](config, embedding))
        lines.append(f"| {row['label']} | {count:,} | {row['paper']:,} |")
    return "\n".join(lines) + "\n"


def _first_runs(table: Table, base: Config, out: Path) -> dict[str, Path]:
    """Label -> the folder of the row's run with the first seed, for all rows but quoted ones."""
    rows = (row for row in table.rows if not row.elsewhere)
    return {row.label: _folder(row, base, out, base.seed) for row in rows}


@dataclass(frozen=True)
class TableOptions:
    """Which table, on which data, from which recipe; see `aamn table --help`."""

    name: str
    config: str = "aamn_demo"
    overrides: tuple[str, ...] = ()
    data: str = ""
    proposals: str = ""
    flow: str = ""
    seeds: int = 1
    jobs: int = 1
    test_set: tuple[str, ...] = ()
    out: Path = Path("runs/tables")


def _refuse_useless(options: TableOptions, table: Table) -> None:
    """Refuses what no row of the table would read."""
    systems = {"aamn", *(row.baseline.split("_")[0] for row in table.rows)}
    for override in options.overrides:
        part = override.split(".")[0]
        if part in set(SYSTEM_PARTS) - systems:
            raise InputError(f"--set {override}: no row of this table is of the system {part}")
    if options.test_set and any(row.videos for row in table.rows):
        raise InputError("--test-set: this table has rows of whole videos, which are not read so")


def reproduce(options: TableOptions) -> int:
    """Trains and evaluates what a table needs, unless it is done, and writes it; the exit code."""
    out = options.out
    if options.name == COUNTS:
        if options != TableOptions(COUNTS, out=out):
            raise InputError(f"{COUNTS} counts recipes of its own: nothing but --out is read")
        text = _count_parameters()
        write_text(out / "acga-parameters.md", text)
        print(text)
        return 0
    table = choose_table(read_tables(recipe_folder() / "published.yaml"), options.name)
    base = load_config(Config, options.config, own_overrides(options.overrides, "aamn"))
    _refuse_useless(options, table)
    table = with_overrides(table, options.overrides)
    paths = {"root": options.data, "proposals": options.proposals, "flow": options.flow}
    moved: dict[str, Any] = {key: path for key, path in paths.items() if path}
    base.data = replace(base.data, **moved)
    refuse_without_inputs(base)
    load_config(Config, None, options.test_set, base)  # a mistake is found before the work
    failed = run_rows(_run_row, planned_runs(table, base, out, options.seeds), options.jobs)
    if failed:
        log.error("%d run(s) failed; the finished ones are kept: %s", len(failed), out / "runs")
        return 1
    measured = measure(table, base, out, options.seeds, options.test_set)
    text, costs = to_markdown(table, measured), {}
    if table.costs:
        costs = costs_table.measure_costs(_first_runs(table, base, out))
        text += f"\n{costs_table.budget_text(base)}\n\n{costs_table.to_markdown(costs)}"
    further = {label: one.cells() for label, one in costs.items()}
    write_text(out / f"{table.stem}.md", text)
    write_text(out / f"{table.stem}.csv", to_csv(table, measured, further))
    write_text(out / f"{table.stem}.svg", to_svg(to_chart(table, measured)))
    print(text)
    log.info("wrote %s and its .csv and .svg", out / f"{table.stem}.md")
    return 0
