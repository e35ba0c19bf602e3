"""Files are there whole or not at all."""

import json
import os

import pytest

from aamn import whole_files
from aamn.whole_files import rename_durably, write_json, write_text, written_aside


def test_the_last_whole_text_stays_through_a_failure(tmp_path):
    path = tmp_path / "new" / "folder" / "notes.txt"
    write_text(path, "naïve")
    with pytest.raises(KeyError), written_aside(path) as aside:
        aside.write_text("half")
        assert path.read_text(encoding="utf-8") == "naïve"
        raise KeyError
    assert path.read_text(encoding="utf-8") == "naïve"
    assert list(path.parent.iterdir()) == [path]


def test_a_new_text_takes_the_place_of_the_old_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "notes.txt"
    write_text(path, "old and longer")
    with written_aside(path) as aside:
        aside.write_text("new")
        # On the same disk, or it could not be renamed; of this process, or two would share it;
        # hidden, or whoever lists the folder would find half a file.
        assert aside.parent == tmp_path
        assert str(os.getpid()) in aside.name and aside.name.startswith(".")
        assert aside.name.endswith("notes.txt"), "some writers choose the format by the ending"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_wrote_nothing_is_a_failure_and_the_old_file_stays(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), written_aside(path):
        pass
    assert path.read_text() == "old"


def test_text_that_has_no_utf_8_leaves_the_old_file(tmp_path):
    path = tmp_path / "notes.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("bad", [{1, 2}, {"a": [1, object()]}])
def test_what_json_cannot_say_leaves_the_old_file(tmp_path, bad):
    path = tmp_path / "x.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, bad)
    assert json.loads(path.read_text()) == [1] and list(tmp_path.iterdir()) == [path]


def test_json_is_read_back(tmp_path):
    content = {"a": [1, 2.5, None], "b": {"c": "ä"}}
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert len(text.splitlines()) == 10, "a line for each value and each closing bracket"


def test_a_durable_name_is_given_after_the_content_and_is_itself_on_the_disk(tmp_path, monkeypatch):
    aside, path = tmp_path / "aside", tmp_path / "whole"
    aside.write_text("new")
    path.write_text("old")
    synced = []

    def fsync(descriptor):
        what = os.path.realpath(f"/proc/self/fd/{descriptor}")
        synced.append((what, path.read_text()))

    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(whole_files.os, "fsync", fsync)
    rename_durably(aside, path)
    assert synced == [(str(aside.resolve()), "old"), (str(tmp_path.resolve()), "new")]
    assert path.read_text() == "new" and not aside.exists()
    assert set(os.listdir("/proc/self/fd")) <= before, "nothing is left open"


def test_a_content_that_does_not_reach_the_disk_gets_no_name(tmp_path, monkeypatch):
    aside, path = tmp_path / "aside", tmp_path / "whole"
    aside.write_text("new")
    path.write_text("old")

    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files.os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        rename_durably(aside, path)
    assert path.read_text() == "old"
