"""Who may import whom, read from the syntax tree: the house's floors, from the top down."""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room imports rooms of lower floors, and of its own floor as long as no circle comes of it.
FLOORS = (
    {"cli", "web", "__main__"},
    {"experiments", "jobs", "live", "training", "report"},
    {"evaluation"},
    {"predictor"},
    {"export", "zeroshot"},
    {"search"},
    {"index"},
    {"inference"},
    {"models", "data", "visualization"},
    {"tubes", "config"},
    {"ops", "structures"},
    {"version", "configs", "__init__"},
)
APART = {("models", "data"), ("data", "models")}  # on one floor, and still strangers
# From aamn, stage one is the ground floor; what builds and runs its detectors is for few.
GROUND = {
    "backbones",
    "decoding",
    "errors",
    "files",
    "frames",
    "identity",
    "inference_form",
    "limits",
    "optimiser",
    "outputs",
    "pictures",
    "places",
    "progress",
    "ranges",
    "store",
    "store_writer",
    "terminal",
    "weights",
    "workers",
}
DETECTORS = {
    *("build", "config", "detector", "torchvision_rcnn", "extract", "finetune", "manifest"),
    "measures",
}
DETECTOR_ROOMS = {
    "predictor",
    "zeroshot",
    "export",
    "jobs",
    "experiments",
    "cli",
    "evaluation",
    "report",
    "training",
}
OPTIONAL = {  # imported in one file each
    "av": {"aamn/cli/checks.py", "aamn/visualization/video_writer.py", "proposals/video_file.py"},
    "click": {"aamn/cli/"},
    "concurrent.futures.ProcessPoolExecutor": {"proposals/workers.py"},
    "detectron2": {"proposals/detectron2_rcnn.py"},
    "fsspec": {"proposals/places.py"},
    "fastapi": {"aamn/web/server.py"},
    "filelock": {"proposals/files.py"},
    "gensim": {"aamn/data/word_vectors.py"},
    "huggingface_hub": {"aamn/zeroshot/weights.py"},
    "jinja2": {"aamn/report/render.py"},
    "lightning_fabric": {"aamn/training/"},
    "nncf": {"aamn/export/openvino_runtime.py"},
    "openvino": {"aamn/export/openvino_runtime.py"},
    "onnx": {"aamn/export/onnx_files.py"},
    "onnxruntime": {"aamn/export/onnx_runtime.py"},
    "matplotlib": {"aamn/visualization/"},
    "omegaconf": {"aamn/config/loading.py"},
    "lancedb": {"aamn/search/library.py"},
    "pyarrow": {"aamn/search/library.py"},
    "ray": {"aamn/jobs/ray_cluster.py"},
    "supervision": {"aamn/inference/track.py"},
    "transformers": {"aamn/models/zeroshot/image_text.py"},
    "uvicorn": {"aamn/web/server.py"},
}


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


@cache
def imports(path):
    """Dotted names of all modules a file imports, wherever it does so but for type checkers."""
    return frozenset(_imports(path))


def _imports(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def of_package(names, package):
    return {name for name in names if name == package or name.startswith(f"{package}.")}


def room(path):
    """The first folder or file below the package."""
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


def floor(name):
    return next((level for level, rooms in enumerate(FLOORS) if name in rooms), None)


def rooms_used(path):
    names = of_package(imports(path), "aamn")
    return {name.split(".")[1] for name in names if name.count(".")} & set().union(*FLOORS)


AAMN = pytest.mark.parametrize("path", files("aamn"), ids=lambda p: str(p.relative_to(ROOT)))


@pytest.mark.parametrize("path", files("proposals"), ids=lambda p: p.name)
def test_stage_one_knows_nothing_of_stage_two(path):
    assert not of_package(imports(path), "aamn")


@AAMN
def test_every_room_has_a_floor_and_looks_down(path):
    own = room(path)
    assert floor(own) is not None, f"{own} is on no floor"
    for other in rooms_used(path) - {own}:
        lazily = own == "__init__" and other == "predictor"  # aamn.load
        assert lazily or floor(other) >= floor(own), f"{own} imports {other}, which is above it"
        assert (own, other) not in APART


@AAMN
def test_stage_two_enters_stage_one_by_its_doors(path):
    doors = GROUND | (DETECTORS if room(path) in DETECTOR_ROOMS else set())
    names = {name.split(".")[1] for name in of_package(imports(path), "proposals") if "." in name}
    assert names <= doors
    assert not of_package(imports(path), "tools")


def circles(arrows):
    """Names that reach themselves."""
    reached = {name: set(targets) for name, targets in arrows.items()}
    for middle in reached:
        for name in reached:
            if middle in reached[name]:
                reached[name] |= reached[middle]
    return sorted(name for name, targets in reached.items() if name in targets)


def test_no_circle_between_rooms():
    arrows = defaultdict(set)
    for path in files("aamn"):
        if room(path) != "__init__":
            arrows[room(path)] |= rooms_used(path) - {room(path)}
    for name in set().union(*arrows.values()):
        arrows[name] |= set()
    assert circles(arrows) == []


@pytest.mark.parametrize("package", ["aamn", "proposals"])
def test_no_circle_between_files(package):
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files(package)
    }
    arrows = {name: {n for n in imports(path) if n in names} for name, path in names.items()}
    arrows.pop("aamn.__init__", None)
    assert circles({name: targets & arrows.keys() for name, targets in arrows.items()}) == []


@pytest.mark.parametrize("package", OPTIONAL)
def test_packages_with_one_place_are_imported_there_alone(package):
    users = {
        str(path.relative_to(ROOT))
        for where in ("aamn", "proposals", "tools")
        for path in files(where)
        if of_package(imports(path), package)
    }
    assert all(any(user.startswith(place) for place in OPTIONAL[package]) for user in users)


def test_tools_are_three_lines():
    assert all(len(path.read_text().splitlines()) == 3 for path in files("tools"))


def test_the_root_of_the_package_holds_few_files():
    loose = {path.name for path in (ROOT / "aamn").glob("*.py")}
    assert loose == {"__init__.py", "__main__.py", "version.py", "predictor.py", "structures.py"}
