"""Trains and evaluates the rows of one of the paper's tables, and writes the table."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from command_line import make_parser, run
from eval_net import evaluate_checkpoint
from torch import nn
from train_net import train_from

from aamn.config import Config, load_config, to_dict
from aamn.evaluation import write_metrics
from aamn.models.baselines.one_stage import learned_parameters
from aamn.models.build import SYSTEMS
from aamn.tables import (
    BASE,
    Measured,
    Table,
    choose_table,
    read_tables,
    row_config,
    run_name,
    to_chart,
    to_csv,
    to_markdown,
)
from proposals.errors import InputError

log = logging.getLogger("aamn")

CONFIGS = Path(__file__).parents[1] / "configs"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


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
    if stored.is_file() and yaml.safe_load(stored.read_text(encoding="utf-8")) != wanted:
        raise InputError(f"{folder} holds a run of another recipe; use another --out")
    if metrics.is_file():
        log.info("%s is done", folder)
        return metrics
    train_from(config, folder)
    write_metrics([evaluate_checkpoint(folder / "last.pt").evaluation.report], metrics)
    return metrics


def _read_otherwise(folder: Path, seed: int, name: str, own: Sequence[str]) -> Path:
    """Evaluates a finished run in another way; its metrics' file."""
    metrics = folder / f"metrics_{name}.json"
    if not metrics.is_file():
        torch.manual_seed(seed)
        report = evaluate_checkpoint(folder / "last.pt", own).evaluation.report
        write_metrics([report], metrics)
    return metrics


def measure(
    table: Table, base: Config, out: Path, seeds: int, elsewhere: Sequence[str] = ()
) -> dict[str, Measured]:
    """Runs what the table's rows need, below `out`/runs; label -> metrics of all seeds.

    Args:
        elsewhere: values of the configuration with which the trained rows are evaluated, where
            the table is about another data set than the one trained on.
    """
    found = {}
    for row in table.rows:
        if row.elsewhere:
            continue
        config = row_config(row, base, CONFIGS / "ablations")
        name = BASE if row.test else run_name(row, config, base)
        runs = []
        for seed in range(base.seed, base.seed + seeds):
            folder = out / "runs" / name / f"seed{seed}"
            path = _run_row(replace(base if row.test else config, seed=seed, name=name), folder)
            if row.test or elsewhere:
                own = _leaves(row.file) if row.test else []
                tag = row.file if row.test else f"table{table.name}"
                path = _read_otherwise(folder, seed, tag, [*own, *elsewhere])
            runs.append(_metrics(path))
        found[row.label] = Measured(runs)
    return found


def _leaves(file: str) -> list[str]:
    """An ablation file's own keys as overrides."""
    tree = yaml.safe_load((CONFIGS / "ablations" / f"{file}.yaml").read_text(encoding="utf-8"))

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
    rows = yaml.safe_load((CONFIGS / "published.yaml").read_text(encoding="utf-8"))
    lines = ["| model | learned parameters | paper |", "| --- | ---: | ---: |"]
    for row in rows["acga-parameters"]:
        config = load_config(Config, CONFIGS / "baselines" / f"{row['file']}.yaml")
        with torch.device("meta"):
            embedding = nn.Embedding(2, config.words.dimension, padding_idx=0)
            count = learned_parameters(SYSTEMS[config.system](config, embedding))
        lines.append(f"| {row['label']} | {count:,} | {row['paper']:,} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = make_parser(
        "Trains and evaluates what a table of the paper needs and writes it beside the paper's "
        "numbers, as Markdown, CSV and SVG. Run again after an interruption: finished rows are "
        "kept, and rows of several tables that are the same recipe are run once.",
        "python tools/reproduce_table.py 4 --data runs/demo/corpus "
        "--proposals runs/demo/proposals.h5 --flow runs/demo/flow.h5 --out runs/tables",
    )
    parser.add_argument("name", help="1 to 12, or acga-parameters")
    parser.add_argument(
        "--base",
        default=str(CONFIGS / "aamn_demo.yaml"),
        metavar="YAML",
        help="the recipe that rows are variants of; default: configs/aamn_demo.yaml",
    )
    parser.add_argument("--data", metavar="ROOT", help="default: data.root")
    parser.add_argument("--proposals", metavar="HDF5", help="default: data.proposals")
    parser.add_argument("--flow", metavar="HDF5", help="default: data.flow")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs a row; default 1")
    parser.add_argument(
        "--test-set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="evaluate with this value, such as data.kind=jhmdb for table 11; may be repeated",
    )
    args = parser.parse_args()
    out = Path(args.out or "runs/tables")
    if args.name == "acga-parameters":
        text = _count_parameters()
        _write(out / "acga-parameters.md", text)
        print(text)
        return
    if args.seeds < 1:
        raise InputError(f"--seeds: wanted at least 1, got {args.seeds}")
    table = choose_table(read_tables(CONFIGS / "published.yaml"), args.name)
    base = load_config(Config, args.config or args.base, args.overrides)
    places = {"root": args.data, "proposals": args.proposals, "flow": args.flow}
    base.data = replace(base.data, **{k: v for k, v in places.items() if v})
    if not base.data.root:
        raise InputError("wanted --data ROOT, the data set to train on")
    measured = measure(table, base, out, args.seeds, args.test_set)
    text = to_markdown(table, measured)
    _write(out / f"table{table.name}.md", text)
    _write(out / f"table{table.name}.csv", to_csv(table, measured))
    _write(out / f"table{table.name}.svg", to_chart(table, measured))
    print(text)
    log.info("wrote %s and its .csv and .svg", out / f"table{table.name}.md")


if __name__ == "__main__":
    run(main)
