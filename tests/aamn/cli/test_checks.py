"""What `aamn checks` says is there, and what is missing for what."""

import ast
import importlib.metadata
import importlib.util
import re
from pathlib import Path

import pytest
import torch

from aamn.cli.checks import CODECS, OPTIONAL, PACKAGES
from aamn.cli.main import run
from aamn.version import __version__

SETUP = Path(__file__).parents[3] / "setup.py"


def test_the_packages_are_those_that_an_installation_brings():
    (call,) = [
        node
        for node in ast.walk(ast.parse(SETUP.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    ]
    (wanted,) = [word.value for word in call.keywords if word.arg == "install_requires"]
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in ast.literal_eval(wanted)]
    assert sorted(PACKAGES) == sorted(names)


@pytest.fixture
def said(monkeypatch, capsys):
    """Exit code and lines of `aamn checks` where some packages are missing; the others are 1.5."""

    def check(*missing, modules=()):
        def version(package):
            if package in missing:
                raise importlib.metadata.PackageNotFoundError(package)
            return "1.5"

        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in modules or None)
        code = run(["checks"])
        return code, capsys.readouterr().out.splitlines()

    return check


def test_everything_that_is_needed_is_there(said):
    code, lines = said()
    assert code == 0 and lines[0].startswith(f"aamn {__version__}, Python 3.")
    rows = [line.split() for line in lines[1 : 1 + len(PACKAGES)]]
    assert rows == [[package, "1.5"] for package in PACKAGES]


@pytest.mark.parametrize("package", ["torch", "av", "tqdm"])
def test_a_package_that_is_missing_is_exit_code_1(said, package):
    code, lines = said(package)
    assert code == 1 and [package, "missing"] in [line.split() for line in lines]
    starts = [line.split(":")[0] for line in lines]
    assert ("devices" in starts) == (package != "torch"), "it cannot be asked for GPUs"
    assert ("videos can be read as" in starts) == (package != "av")


def test_an_optional_package_says_what_it_is_for_and_what_installs_it(said):
    code, lines = said(modules=["detectron2"])
    assert code == 0
    found = {line.split()[0]: line for line in lines[-len(OPTIONAL) :]}
    assert list(found) == list(OPTIONAL)
    for module, (purpose, how) in OPTIONAL.items():
        there = "there" if module == "detectron2" else f"missing: {how}"
        assert found[module].endswith(f" {there} ({purpose})")


def test_public_weights_are_named_with_their_licences(said):
    _, lines = said()
    assert "  maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth (BSD-3-Clause)" in lines
    assert "  google/siglip2-base-patch16-224 (Apache-2.0)" in lines


def test_devices_are_named(said, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "devices: CPU with 3 threads, no GPU" in said()[1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    assert "devices: CPU with 3 threads, card 0, card 1" in said()[1]


def test_the_codecs_of_pyav_s_wheel_are_found(said):
    (line,) = [line for line in said()[1] if line.startswith("videos can be read as: ")]
    read, written = line.split("; written as: ")
    assert read.split(": ")[1].split(", ") == list(CODECS)
    assert "H.264" in written.split(", ") and set(written.split(", ")) <= set(CODECS)
