"""Small faults put into the code one at a time: which of them does a test notice?

`make mutants` draws some of mutmut's mutants of every room, the same each time, and runs against
each the tests of its room and of its neighbours. What is done is kept in runs/mutants: the same
command goes on, and tries again only what new tests may have changed (`--again`).

    python tests/mutants/campaign.py [ROOM ...] [--a-room N] [--jobs N] [--again]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[2]
WORK = ROOT / "runs/mutants"
ROOMS = tomllib.loads((Path(__file__).parent / "rooms.toml").read_text(encoding="utf-8"))
EQUIVALENT = Path(__file__).parent / "equivalent.toml"
BEGIN, END = "<!-- mutants -->", "<!-- /mutants -->"
CONFIG = """
[tool.mutmut]
source_paths = ["aamn", "proposals"]
also_copy = ["configs", "docs", "tools", "setup.py", "README.md", "Makefile", "constraints.txt"]
only_mutate = {modules}
do_not_mutate = ["aamn/data/synthetic/*"]
pytest_add_cli_args_test_selection = {tests}
process_isolation = "forkserver"
use_setproctitle = false
track_dependencies = false
"""
# Run in a room's folder: makes the mutants and prints each with its difference.
LIST = """
import hashlib, json, sys
from pathlib import Path
from mutmut.__main__ import create_mutants
from mutmut.mutation.diff_apply import get_diff_for_mutant
create_mutants(1)
wanted, found = int(sys.argv[1]), {}
names = [n for meta in sorted(Path("mutants").rglob("*.meta"))
         for n in json.loads(meta.read_text())["exit_code_by_key"]]
for name in sorted(names, key=lambda n: hashlib.sha256(n.encode()).hexdigest()):
    if len(found) == wanted:
        break
    lines = get_diff_for_mutant(name).splitlines()[2:]
    change = [line for line in lines if line[:1] in "+-"]
    found[name] = change
Path("drawn.json").write_text(json.dumps(found))
"""


@dataclass(frozen=True)
class Mutant:
    """One small fault: its name, the lines it changes, and what became of it: "killed",
    "survived" or "equivalent" (with the reason)."""

    name: str
    change: list[str]
    fate: str


def is_wording(change: list[str]) -> bool:
    """Whether only the words of a text differ, such as a message's."""
    bare = [re.sub(r"""(f|r)?("[^"]*"|'[^']*')""", '""', line[1:]) for line in change]
    half = len(bare) // 2
    return len(bare) % 2 == 0 and bare[:half] == bare[half:]


def prepare(room: str) -> Path:
    """A copy of the tree for one room, with mutmut told what to change and which tests to run."""
    folder = WORK / room
    folder.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        source, target = ROOT / name, folder / name
        if source.is_file() and (
            not target.is_file() or source.read_bytes() != target.read_bytes()
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    config = CONFIG.format(
        modules=json.dumps(ROOMS[room]["modules"]), tests=json.dumps(ROOMS[room]["tests"])
    )
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(config)
    return folder


def run_room(room: str, count: int, again: bool) -> list[Mutant]:
    """Draws a room's mutants, and tries those that have not been tried."""
    folder = prepare(room)
    if again:
        shutil.rmtree(folder / "mutants", ignore_errors=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}

    def call(*words: str) -> None:
        with (folder / "log.txt").open("a") as log:
            subprocess.run(words, cwd=folder, env=environment, stdout=log, stderr=log, check=False)

    call(sys.executable, "-c", LIST, str(3 * count))
    drawn = json.loads((folder / "drawn.json").read_text(encoding="utf-8"))
    chosen = [name for name, change in drawn.items() if not is_wording(change)][:count]
    codes = exit_codes(folder)
    if any(codes.get(name) is None for name in chosen):
        call(sys.executable, "-m", "mutmut", "run", "--max-children", "1", *chosen)
        codes = exit_codes(folder)
    if left := sum(codes.get(name) is None for name in chosen):
        print(f"{room}: {left} mutants were not tried, {folder / 'log.txt'} says why")
    return tried(folder)


def tried(folder: Path) -> list[Mutant]:
    """What became of the mutants that have been run in a room's folder."""
    if not (folder / "drawn.json").is_file():
        return []
    drawn = json.loads((folder / "drawn.json").read_text(encoding="utf-8"))
    codes, known = exit_codes(folder), equivalents()
    done = [name for name in drawn if codes.get(name) is not None]
    return [Mutant(name, drawn[name], fate(name, codes[name], known)) for name in done]


def exit_codes(folder: Path) -> dict[str, int | None]:
    """Mutant -> the exit code of its tests, None where they have not been run."""
    codes: dict[str, int | None] = {}
    for meta in (folder / "mutants").rglob("*.meta"):
        codes |= json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
    return codes


def equivalents() -> dict[str, str]:
    """Mutants that change no answer -> why."""
    text = EQUIVALENT.read_text(encoding="utf-8") if EQUIVALENT.is_file() else ""
    return tomllib.loads(text)


def fate(name: str, code: int, known: dict[str, str]) -> str:
    """What became of a mutant, by the exit code of its tests (33: no test runs the code)."""
    if code in (0, 33):
        return f"equivalent: {known[name]}" if name in known else "survived"
    return "killed"


def table(found: dict[str, list[Mutant]]) -> Iterator[str]:
    """The summary as Markdown: a row a room, then what survived."""
    yield "| room | mutants | killed | equivalent | survived | score |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    rows = {room: [mutant.fate.split(":")[0] for mutant in some] for room, some in found.items()}
    rows["all"] = [fate for fates in rows.values() for fate in fates]
    for room, fates in rows.items():
        counts = [fates.count(kind) for kind in ("killed", "equivalent", "survived")]
        score = 100 * counts[0] / max(1, counts[0] + counts[2])
        cells = " | ".join(map(str, counts))
        yield f"| {room} | {len(fates)} | {cells} | {score:.0f} % |"
    for kind in ("equivalent", "survived"):
        some = [m for room in found.values() for m in room if m.fate.startswith(kind)]
        if some:
            yield f"\n{kind.capitalize()}:\n"
        for mutant in some:
            reason = mutant.fate.partition(": ")[2]
            lines = " / ".join(f"`{line[0]} {line[1:].strip()}`" for line in mutant.change[:2])
            yield f"- {place(mutant.name)}: {lines}{f' ({reason})' if reason else ''}"


def place(name: str) -> str:
    """A mutant's function, as one writes it."""
    module, _, function = name.rpartition(".")
    function = re.sub(r"__mutmut_\d+$", "", function)
    return f"{module}: {function.removeprefix('x').strip('_ǁ').replace('ǁ', '.')}"


def write_summary(found: dict[str, list[Mutant]]) -> None:
    """Puts the table into docs/reliability.md, between its marks."""
    page = ROOT / "docs/reliability.md"
    text = page.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    lines = "\n".join(table(found))
    page.write_text(f"{before}{BEGIN}\n{lines}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("rooms", nargs="*", help=f"of {', '.join(ROOMS)}; default: all")
    parser.add_argument("--a-room", type=int, default=40, help="mutants drawn; default 40")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="rooms at a time")
    parser.add_argument("--again", action="store_true", help="also what has been tried before")
    args = parser.parse_args()
    rooms = args.rooms or list(ROOMS)
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = {room: pool.submit(run_room, room, args.a_room, args.again) for room in rooms}
        for run in runs.values():
            run.result()
    found = {room: some for room in ROOMS if (some := tried(WORK / room))}
    print("\n".join(table(found)))
    write_summary(found)


if __name__ == "__main__":
    main()
