"""What `aamn evaluate` does with what was found, without evaluating anything."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from aamn.cli.evaluate import evaluate
from aamn.evaluation import key_frames, systems
from aamn.report import assemble
from proposals.errors import InputError


@pytest.fixture
def steps(monkeypatch):
    """Evaluates a checkpoint and another system: (what was measured, written and drawn)."""
    done = []
    runs = [
        SimpleNamespace(evaluation=SimpleNamespace(report=name), system=f"{name}'s system")
        for name in ("aamn", "other")
    ]

    def step(name, result):
        return lambda *given: done.append((name, *given)) or result

    monkeypatch.setattr(systems, "evaluate_all", step("evaluate", runs))
    monkeypatch.setattr(systems, "shuffled_system", step("shuffle", "its words at random"))
    monkeypatch.setattr(key_frames, "format_table", lambda reports: f"table of {reports}")
    monkeypatch.setattr(key_frames, "write_metrics", step("write", None))
    monkeypatch.setattr(assemble, "write_page", step("page", Path("page/index.html")))

    def run(*given, **values):
        evaluate(values, *given)
        return runs, done

    return run


@pytest.mark.parametrize("page", [None, Path("page")])
def test_what_is_measured_is_printed_and_written_and_drawn_where_a_page_is_wanted(
    steps, tmp_path, capsys, caplog, page
):
    checkpoint, out = tmp_path / "last.pt", tmp_path / "m.json"
    with caplog.at_level("INFO", "aamn"):
        runs, done = steps(out, page, 4, checkpoint=checkpoint, split="train")
    options = systems.EvaluateOptions(checkpoint, split="train")
    assert done[:2] == [("evaluate", options), ("write", ["aamn", "other"], out)]
    assert capsys.readouterr().out == "table of ['aamn', 'other']\n"
    drawn = [
        ("shuffle", options, "aamn's system"),
        ("page", page, runs, "its words at random", 4),
    ]
    assert done[2:] == (drawn if page else [])
    said = [f"wrote {out}", "wrote page/index.html"]
    assert caplog.messages == (said if page else said[:1])


def test_metrics_go_beside_the_checkpoint_if_they_can(steps, tmp_path):
    _, done = steps(None, None, 4, checkpoint=tmp_path / "last.pt")
    assert done[1][2] == tmp_path / "metrics.json"
    (tmp_path / "metrics.json").mkdir()
    done.clear()
    with pytest.raises(InputError, match=r"cannot write .*metrics\.json: a folder is where a file"):
        steps(None, None, 4, checkpoint=tmp_path / "last.pt")
    assert not done, "before the work"
