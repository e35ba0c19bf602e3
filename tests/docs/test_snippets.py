"""The pages' own words: Python runs, commands have these options and recipes, links and paths lead
somewhere."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
import torch
from tiny_models import WORDS, tiny_config, tiny_segmenter

from aamn.cli import command_line
from aamn.cli.demo import steps
from aamn.cli.main import aamn
from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.data.synthetic.config import CollageConfig
from aamn.data.words import Vocabulary
from aamn.inference.checkpoint import save_checkpoint
from aamn.predictor import write_bundle
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.detector import save_detector
from proposals.errors import InputError

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "proposals/FORMAT.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SCHEMAS = {
    "train-detector": DetectorConfig,
    "extract": DetectorConfig,
    "synthetic": CollageConfig,  # it has all keys of drawings
}
LAUNCHERS = ("aamn", "torchrun", "srun", "python")
GIVEN = ("RECIPE", "EMPTY/c.yaml")  # what stands for a recipe of the reader's own, or for none


@dataclass(frozen=True)
class Found:
    """A piece of a page, and the line it begins at."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@cache
def blocks(page: Path, *languages: str) -> tuple[Found, ...]:
    """The page's fenced blocks of these languages, without their fences."""
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return tuple(
        Found(page, text[: found.start(2)].count("\n") + 1, found[2])
        for found in fences
        if found[1] in languages
    )


def commands_of(block: Found) -> list[Found]:
    """The lines of a block that call the command, joined where they go on."""
    found, held, begin = [], "", 0
    for number, line in enumerate(block.text.splitlines(), block.line):
        begin = begin if held else number
        held += line.removesuffix("\\")
        if not line.endswith("\\"):
            words = shlex.split(held, comments=True)
            if words and words[0] in LAUNCHERS and "aamn" in words:
                found.append(Found(block.page, begin, held))
            held = ""
    return found


def prose(page: Path) -> str:
    """The page with its blocks blanked out, line for line."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", lambda b: "\n" * b[0].count("\n"), text, flags=re.M | re.S)


def pieces(pattern: str, pages: list[Path]) -> list[Found]:
    """The pattern's first group wherever it is in the pages' prose."""
    return [
        Found(page, text[: found.start()].count("\n") + 1, found[1])
        for page in pages
        for text in (prose(page),)
        for found in re.finditer(pattern, text)
    ]


PYTHON = [block for page in PAGES for block in blocks(page, "python")]
COMMANDS = [
    command
    for page in PAGES
    for block in blocks(page, "", "bash", "console")
    for command in commands_of(block)
]
INLINE = pieces(r"`(aamn [a-z][^`]*)`", PAGES)
LINKS = pieces(r"\]\((?!https?:)([^)\s]+)\)", PAGES)
# The changes name what is no longer there.
PATHS = pieces(
    r"`((?:aamn|proposals|tests|tools|configs|docs)/[\w./*-]*)`",
    [page for page in PAGES if page.name != "CHANGELOG.md"],
)
REFERENCES = pieces(r"(?m)^::: ((?:.+\n)(?:    .*\n)*)", PAGES)


def rows(found: list[Found]):
    return pytest.mark.parametrize("found", found, ids=str)


SPOKEN = Vocabulary(
    ["red", "dog", "jumping", "cat", "left", *(f"w{n}" for n in range(WORDS - 7))]
)  # words of the pages' sentences


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """Tiny networks with random weights."""
    folder = tmp_path_factory.mktemp("bundle")
    torch.manual_seed(0)
    small = {"widths": (8, 8), "strides": (4, 2), "head": 16, "min_size": 40, "max_size": 60}
    config = DetectorConfig(
        name="small", weights="", classes=("a", "b"), score_threshold=0.0, proposals=8, **small
    )
    save_detector(build_detector(config), folder / "d.pt")
    save_checkpoint(folder / "s.pt", tiny_segmenter(vocabulary=SPOKEN), tiny_config(), 7, {})
    write_bundle(folder / "bundle", folder / "d.pt", folder / "s.pt", absent_threshold=-1e6)
    return folder / "bundle"


def write_video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(0).integers(0, 255, (7, 40, 50, 3), np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (50, 40))
    for frame in frames:
        writer.write(frame)
    writer.release()


@pytest.fixture
def place(bundle, tmp_path, monkeypatch) -> Path:
    """Where a reader stands after the demo: a bundle, a video, its index, a folder of data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/demo").mkdir(parents=True)
    (tmp_path / "runs/demo/bundle").symlink_to(bundle)
    write_video(tmp_path / "clip.mp4")
    write_video(tmp_path / "my_data/videos/garden.mp4")
    sentences = "video_id,instance_id,query,split\n"
    sentences += "garden,0,the dog,train\ngarden,0,a brown dog,train\ngarden,1,the cat,test\n"
    (tmp_path / "my_data/sentences.csv").write_text(sentences)
    for instance, corner in enumerate(((5, 10), (20, 30))):
        mask = np.zeros((40, 50), np.uint8)
        mask[corner[0] : corner[0] + 8, corner[1] : corner[1] + 16] = 255
        path = tmp_path / f"my_data/masks/garden/{instance}/00002.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), mask)
    return tmp_path


@rows(PYTHON)
def test_python_runs(found, place):
    """Each block after those above it on its page."""
    import aamn as library

    library.load("runs/demo/bundle").index("clip.mp4", out="runs/index")
    before = [block for block in blocks(found.page, "python") if block.line <= found.line]
    names: dict[str, object] = {"__name__": "snippet"}
    for block in before:
        exec(compile(block.text, str(block), "exec"), names)


def test_the_readme_s_python_wants_the_bundle_and_a_video_alone(
    bundle, tmp_path, monkeypatch, capsys
):
    (block,) = (block for block in PYTHON if block.page.name == "README.md")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no bundle at runs/demo/bundle; `aamn bundle` makes one"):
        exec(compile(block.text, str(block), "exec"), {})
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs/demo").mkdir(parents=True)
    (tmp_path / "runs/demo/bundle").symlink_to(bundle)
    with pytest.raises(InputError, match=r"clip\.mp4"):
        exec(compile(block.text, str(block), "exec"), {})
    write_video(tmp_path / "clip.mp4")
    exec(compile(block.text, str(block), "exec"), {})
    printed = capsys.readouterr().out
    assert printed.count("red dog jumping ") == printed.count("the cat on the left ") == 1
    assert "\nclip " in printed and (tmp_path / "runs/index/clip.h5").is_file()


def options_of(calls) -> dict[str, set[str]]:
    """Subcommand -> the options of all its calls."""
    found: dict[str, set[str]] = {}
    for name, *words in calls:
        found.setdefault(name, set()).update(word for word in words if word.startswith("--"))
    return found


# What the page says of the demo alone: a validation split, backbones of its own detector.
NOT_OF_A2D = {
    *("--validation-share", "--set", "--full-video", "--calibrate", "--metrics"),
}


def test_the_readme_s_steps_are_the_demo_s():
    page = [c for c in COMMANDS if c.page.name == "README.md" and "a2d" in c.text]
    own = options_of(shlex.split(command.text)[1:] for command in page)
    demo = options_of(steps(Path("runs/demo"), small=False))
    for name in demo.keys() - {"synthetic", "segment"}:
        assert demo[name] - NOT_OF_A2D <= own[name], name


def test_the_manifest_of_a_folder_is_what_detectors_learn_from(place):
    """The tutorial's commands: one object for two sentences, its box by hand."""
    from aamn.cli.main import run
    from proposals.manifest import read_manifest

    said = [shlex.split(c.text) for c in COMMANDS if c.page.name == "your_data.md"]
    made = [run(words[1:]) for words in said if words[1] == "manifest"]
    assert made == [0, 0]
    for split, box in (("train", [10, 5, 26, 13]), ("test", [30, 20, 46, 28])):
        manifest = read_manifest(f"runs/mine/{split}.json")
        (frame,) = manifest.frames
        assert manifest.classes == ("object",) and frame.labels.tolist() == [0]
        assert (frame.path.resolve(), frame.frame) == (place / "my_data/videos/garden.mp4", 2)
        assert frame.size == (40, 50) and frame.boxes.tolist() == [box]


@pytest.fixture
def without_files(monkeypatch):
    """What a command is given need not be there."""
    monkeypatch.setattr(command_line.Existing, "convert", click.Path.convert)
    monkeypatch.setattr(command_line, "_here", Path)
    monkeypatch.setattr(command_line.Output, "_remote", lambda own, url, context: Path(url))


def subcommand(name: str) -> command_line.Subcommand:
    found = aamn.get_command(click.Context(aamn), name)
    assert found is not None, f"no subcommand {name}"
    return found


@rows(COMMANDS)
def test_a_command_has_its_options_and_recipes(found, without_files):
    words = shlex.split(found.text, comments=True)
    name, *rest = words[words.index("aamn") + 1 :]
    if name.startswith("-"):
        return
    values = subcommand(name).make_context(name, rest).params
    if name == "configs" and values["action"] != "list":
        load_config(Config, values["name"])
    recipe = values.get("config") or values.get("base")
    if not values.get("checkpoint"):
        load_config(SCHEMAS.get(name, Config), recipe, values.get("overrides", ()))
    if name == "benchmark":
        load_config(DetectorConfig, values["detector"])


@rows(INLINE)
def test_a_command_in_the_prose_has_its_options(found):
    _, name, *words = found.text.split()
    options = {option for parameter in subcommand(name).params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    for word, value in pairwise(words):
        if word == "--config" and value not in GIVEN:
            load_config(SCHEMAS.get(name, Config), value)


def anchors(page: Path) -> set[str]:
    """The names of the page's headings, as both GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@rows(LINKS)
def test_a_link_leads_somewhere(found):
    path, _, anchor = found.text.partition("#")
    target = (found.page.parent / path).resolve() if path else found.page
    assert target.is_file() and target.is_relative_to(ROOT)
    assert not anchor or anchor in anchors(target)


@rows(PATHS)
def test_a_path_is_there(found):
    assert list(ROOT.glob(found.text.rstrip("/")))


@rows(REFERENCES)
def test_a_name_of_the_reference_is_there(found):
    name, *_ = found.text.splitlines()
    members = re.findall(r"members: \[(.*)\]", found.text)
    module, _, last = name.rpartition(".")
    there = getattr(import_module(module), last, None) or import_module(name)
    assert all(hasattr(there, member) for member in ", ".join(members).split(", ") if member)


def test_the_pages_are_read():
    """An extraction that finds nothing would pass every row."""
    assert len(PYTHON) >= 5 and len(COMMANDS) >= 50 and len(LINKS) >= 40 and len(INLINE) >= 20
    assert len(REFERENCES) >= 10 and len(PATHS) >= 30
