"""The tables of several recipes and of growth, on seconds that are given."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny_models import TINY

from aamn.experiments import growth as module
from aamn.experiments.benchmark import BenchmarkOptions, benchmark_job

MODEL = tuple(value for value in TINY if not value.startswith("train."))
OPTIONS = BenchmarkOptions(overrides=MODEL, frames=6, width=50, height=40)


def test_an_index_and_a_sentence_are_measured_on_a_tiny_model():
    index, sentence = module.measure_index(*benchmark_job(OPTIONS), 2)
    assert 0 < index < 60 and 0 < sentence < 60


def test_the_table_has_every_pair_in_every_form(monkeypatch, capsys):
    """An index of bfloat16 takes half of what it takes as learned; the first round is none."""
    made, rounds = [], []

    def jobs(options):
        made.append(options)
        for pair in ("demo", "mobile"):
            for form in module.FORMS:
                yield (pair, form), (pair, form)

    def measured(pair, form):
        rounds.append((pair, form))
        first = len(rounds) <= 6
        return (9.0 if first else 0.05 if form == "bfloat16" else 0.1), 0.004

    monkeypatch.setattr(module, "_jobs", jobs)
    monkeypatch.setattr(module, "measure_index", measured)
    module.speed_table(OPTIONS)
    said = capsys.readouterr().out
    assert made == [OPTIONS] and len(rounds) == 6 * (1 + module.ROUNDS)
    rows = re.findall(r"^(\w+), (.+?)  +(\d\.\d+) +(\d\.\d+) +(\d+\.\d+)$", said, re.M)
    assert len(rows) == 6
    assert rows[2] == ("demo", "bfloat16", "0.0500", "0.500", "4.00")
    assert rows[3][:4] == ("mobile", module.AS_LEARNED, "0.1000", "1.000")


@pytest.mark.parametrize("chart", [True, False])
def test_growth_is_of_one_thing_at_a_time(monkeypatch, capsys, tmp_path, chart):
    """Seconds in proportion to frames, proposals and sentences, and to the square of the side."""
    config = benchmark_job(OPTIONS)[0].config.aamn
    asked = []

    def job(options):
        asked.append(options)
        values = dict(word.split("=", 1) for word in options.overrides)
        area = (int(values["aamn.size"]) / config.size) ** 2
        seconds = options.frames * int(values["aamn.proposals"]) * area
        return loaded, SimpleNamespace(seconds=seconds, frames=range(options.frames))

    loaded = SimpleNamespace(config=SimpleNamespace(aamn=config))
    monkeypatch.setattr(module, "benchmark_job", job)
    monkeypatch.setattr(
        module, "measure_index", lambda _, job, n=1: (job.seconds / len(job.frames), 0.5 * n)
    )
    out = tmp_path / "g.svg" if chart else None
    module.growth(OPTIONS, out)
    said = capsys.readouterr().out
    powers = dict(re.findall(r"^([a-z ]+?)  +.* (\d\.\d\d)$", said, re.M))
    assert powers == {
        "frames": "1.00", "proposals": "1.00", "sentences": "1.00", "side of the square": "2.00",
    }  # fmt: skip
    assert replace(OPTIONS, frames=48) in asked
    assert not chart or "in proportion" in out.read_text()
