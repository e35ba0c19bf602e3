"""The benchmark on a tiny model and a few frames: it runs and its table adds up."""

import importlib
import re
import sys

import pytest
from tiny_models import TINY


def test_the_table_has_every_part(monkeypatch, capsys):
    words = [word for value in TINY for word in ("--set", value)]
    size = ["--frames", "7", "--width", "50", "--height", "40"]
    monkeypatch.setattr(sys, "argv", ["benchmark", *words, *size, "--no-memory"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("command_line").run(importlib.import_module("benchmark").main)
    assert not ended.value.code
    table = dict(re.findall(r"^ *([\w, ]+?) +(\d+\.\d)", capsys.readouterr().out, re.M))
    numbers = {name: float(value) for name, value in table.items()}
    parts = ("boxes", "decoding", "flow", "masks", "preparing", "streams", "tubes", "writing")
    assert set(parts) <= numbers.keys()
    assert (
        0.5 * numbers["indexing"] < sum(numbers[part] for part in parts) < numbers["indexing"] + 1
    )
    for name in ("first sentence", "each further sentence", "clip by clip, one sentence"):
        assert numbers[name] > 0
