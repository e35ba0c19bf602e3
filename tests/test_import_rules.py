"""Who may import whom, read from the syntax tree."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The wall between the stages is the proposals file. Three more things must be one on both sides:
# the decoder (frame numbers), the small backbone (its weights), and the error for users' mistakes.
STAGE_ONE_DOORS = {
    "proposals.store",
    "proposals.frames",
    "proposals.backbones",
    "proposals.errors",
}
# A bundle holds both stages: the file that loads it is the one place where they are joined.
MORE_DOORS = {"aamn/bundle.py": {"proposals.detector"}}
LOW = {
    *("structures", "config", "boxes", "masks", "tubes", "losses", "metrics", "baseline_config"),
    *("coco", "charts", "tensor_file", "whole_files"),
}
DRIVERS = {"training", "evaluation", "full_video", "visualize"}
# What people look at; only programs ask for it.
PAGES = {"report", "report_cases", "report_scenes", "results"}
OPTIONAL = {
    "detectron2": "proposals/detectron2_rcnn.py",
    "gensim": "aamn/data/words.py",
    "lightning": "aamn/training.py",
}


def imports(path):
    """Dotted names of all modules a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
    """The first folder or file below the package."""
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


def of_package(names, package):
    return {name for name in names if name == package or name.startswith(f"{package}.")}


@pytest.mark.parametrize("path", files("proposals"), ids=lambda p: p.name)
def test_stage_one_knows_nothing_of_stage_two(path):
    assert not of_package(imports(path), "aamn")


@pytest.mark.parametrize("path", files("aamn"), ids=lambda p: str(p.relative_to(ROOT)))
def test_stage_two_enters_stage_one_by_its_doors(path):
    names = of_package(imports(path), "proposals")
    doors = STAGE_ONE_DOORS | MORE_DOORS.get(path.relative_to(ROOT).as_posix(), set())
    strays = {n for n in names if not any(n == d or n.startswith(f"{d}.") for d in doors)}
    assert not strays - {"proposals"}
    assert not of_package(imports(path), "tools")


@pytest.mark.parametrize("path", files("aamn"), ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_of_stage_two(path):
    own = room(path)
    rooms = {name.split(".")[1] for name in of_package(imports(path), "aamn") if "." in name}
    if own == "models":
        assert "data" not in rooms and not rooms & DRIVERS
    if own == "data":
        assert "models" not in rooms and not rooms & DRIVERS
    if own in DRIVERS:
        assert not rooms & (DRIVERS - {own})
    if own not in PAGES:
        assert not rooms & PAGES
    if own in LOW:
        assert rooms <= LOW


@pytest.mark.parametrize("package", OPTIONAL)
def test_optional_packages_are_imported_in_one_file(package):
    users = {
        str(path.relative_to(ROOT))
        for where in ("aamn", "proposals", "tools")
        for path in files(where)
        if of_package(imports(path), package)
    }
    assert users <= {OPTIONAL[package]}
