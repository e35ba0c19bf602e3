"""Files are there whole or not at all."""

import json

import pytest

from aamn.whole_files import write_json, write_text, written_aside


def test_the_last_whole_text_stays_through_a_failure(tmp_path):
    path = tmp_path / "new" / "notes.txt"
    write_text(path, "naïve")
    with pytest.raises(KeyError), written_aside(path) as aside:
        aside.write_text("half")
        assert path.read_text(encoding="utf-8") == "naïve"
        raise KeyError
    assert path.read_text(encoding="utf-8") == "naïve"
    assert list(path.parent.iterdir()) == [path]


def test_json_is_read_back(tmp_path):
    content = {"a": [1, 2.5, None], "b": {"c": "ä"}}
    write_json(tmp_path / "x.json", content)
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == content
