"""What the page is told about the sentences of a data set."""

from types import SimpleNamespace

import pytest

from aamn.data.datasets.source import Expression, KeyFrame
from aamn.report import assemble
from aamn.report.page import Pictures

EXPRESSIONS = (Expression("v", 1, "a man", actor=1), Expression("v", 2, "it"))
MORE = (Expression("w", 1, "a dog", actor=7),)


class Source:
    key_frames = (KeyFrame("v", 3, EXPRESSIONS), KeyFrame("w", 0, MORE))


class Counted(Source):
    """A data set that knows whose videos hold several objects."""

    def non_trivial(self):
        return {("v", 1), ("w", 2)}


@pytest.mark.parametrize(("source", "known"), [(Source, []), (Counted, [True, False, False])])
def test_each_sentence_has_its_actor_and_its_company(monkeypatch, tmp_path, source, known):
    told = []
    monkeypatch.setattr(assemble, "write_report", lambda *given, **more: told.append((given, more)))
    evaluations = [SimpleNamespace(report=SimpleNamespace(rows=())) for _ in range(2)]
    system = SimpleNamespace(dataset=SimpleNamespace(source=source()))
    runs = [SimpleNamespace(evaluation=one, system=system) for one in evaluations]
    page = assemble.write_page(tmp_path, runs, None, 2)
    (((path, told_of, pictures), more),) = told
    assert page == path == tmp_path / "index.html" and told_of == evaluations
    assert pictures == Pictures([], (), [], [])
    assert more == {"actors": ["adult", "", "dog"], "non_trivial": known}
