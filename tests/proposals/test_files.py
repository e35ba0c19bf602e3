"""Files are there whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from proposals import asides
from proposals import files as whole_files
from proposals.asides import aside_of
from proposals.errors import CannotWrite, InputError
from proposals.files import (
    escaped,
    hdf5_aside,
    inside,
    locked,
    open_hdf5,
    read_rows,
    read_text,
    sweep,
    unescaped,
    write_json,
    write_text,
    written_aside,
)


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
        # On the same disk, or it could not be renamed; hidden, or whoever lists the folder would
        # find half a file; and of another name each time, or two would share it.
        assert aside.parent == tmp_path and aside.name.startswith(".notes.txt.")
        with written_aside(path, suffix=".txt") as other:
            assert other != aside
            assert other.name.endswith(".txt"), "some writers choose the format by the ending"
            other.write_text("between")
        assert path.read_text() == "between"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_wrote_nothing_is_a_failure_and_the_old_file_stays(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with (
        pytest.raises(InputError, match=r"cannot write .*: nothing was written"),
        written_aside(path),
    ):
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
    path = tmp_path / "whole"
    path.write_text("old")
    synced = []

    def fsync(descriptor):
        what = os.path.realpath(f"/proc/self/fd/{descriptor}")
        synced.append((what, path.read_text()))

    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(whole_files.os, "fsync", fsync)
    with written_aside(path, durable=True) as aside:
        aside.write_text("new")
    assert synced == [(str(aside), "old"), (str(tmp_path.resolve()), "new")]
    assert path.read_text() == "new" and not aside.exists()
    assert set(os.listdir("/proc/self/fd")) <= before, "nothing is left open"


def test_a_content_that_does_not_reach_the_disk_gets_no_name(tmp_path, monkeypatch):
    path = tmp_path / "whole"
    path.write_text("old")

    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files.os, "fsync", fsync)
    said = "cannot write .*whole: no space left on the device"
    with pytest.raises(CannotWrite, match=said), written_aside(path, durable=True) as aside:
        aside.write_text("new")
    assert path.read_text() == "old"


def test_leftovers_of_killed_writers_are_swept_and_nothing_else(tmp_path):
    path, kept = tmp_path / "x.h5", ("x.h5", ".x.h5", "x.h5.tmp", ".y.h5.0a1b2c3d.tmp")
    for name in (*kept, ".x.h5.0a1b2c3d.tmp", ".x.h5.99999999.tmp.mp4"):
        (tmp_path / name).write_text("")
    sweep(path)
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(kept)


def test_brackets_in_a_name_are_no_pattern(tmp_path):
    for name in ("clip[1].h5", "clip1.h5"):
        (tmp_path / f".{name}.0a1b2c3d.tmp").touch()
    sweep(tmp_path / "clip[1].h5")
    assert [one.name for one in tmp_path.iterdir()] == [".clip1.h5.0a1b2c3d.tmp"]


def test_a_disk_that_is_full_when_the_lock_is_taken_is_one_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    said = r"cannot write .*x\.h5: no space left"
    with pytest.raises(InputError, match=said), locked(tmp_path / "lock", tmp_path / "x.h5"):
        raise AssertionError
    assert not list(tmp_path.iterdir())


def test_a_lock_is_held_by_one_process_which_is_named(tmp_path):
    lock, said = tmp_path / "new" / "lock", f"x.h5 is .* process {os.getpid()} on .*later"
    with locked(lock, tmp_path / "x.h5"), pytest.raises(InputError, match=said):
        with_lock_held(lock, tmp_path / "x.h5")
    assert not lock.exists()
    with locked(lock, tmp_path / "x.h5"):
        assert lock.exists()


def with_lock_held(lock, target):
    with locked(lock, target, "come later"):
        raise AssertionError("held twice")


@pytest.mark.parametrize(
    "video_id",
    [
        "a",
        "a/b",
        "50%",
        "%2F",
        "../x",
        "a%2Fb/",
        "ü -",
        "..",
        ".",
        "/etc/x",
        "a\0b",
        "\x1b[2J",
        "\udcff",
    ],
)
def test_an_id_is_one_name_and_comes_back(tmp_path, video_id):
    name = escaped(video_id)
    assert "/" not in name and unescaped(name) == video_id
    assert (tmp_path / name).parent == tmp_path and not name.startswith(".") and name.isprintable()
    (tmp_path / name).write_text("")
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_an_empty_id_is_no_name():
    with pytest.raises(InputError, match="id is empty"):
        escaped("")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "a\0", "a\\b"])
def test_a_foreign_name_leads_into_its_folder_alone(tmp_path, name):
    assert inside(tmp_path, "a", "..b") == tmp_path / "a" / "..b"
    with pytest.raises(InputError, match="wanted the name of a file"):
        inside(tmp_path, "a", name)


def test_what_a_dead_process_left_is_removed_and_nothing_else(tmp_path):
    new = aside_of(tmp_path / "x.png").name
    dead = new.replace(f"-{os.getpid()}-", "-999999999-")
    other = dead.replace(dead.split(".")[3][:6], "0" * 6)
    for name in (new, dead, other, ".x.png.0a1b2c3d.tmp", "y.png"):
        (tmp_path / name).touch()
    write_text(tmp_path / "notes.txt", "")
    left = {new, other, ".x.png.0a1b2c3d.tmp", "y.png", "notes.txt"}
    assert {one.name for one in tmp_path.iterdir()} == left


def test_no_link_is_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    monkeypatch.setattr(asides, "token_hex", lambda n: "0" * 2 * n)
    aside_of(tmp_path / "x.txt").symlink_to(victim)
    with pytest.raises(InputError, match=r"cannot write .*x\.txt"):
        write_text(tmp_path / "x.txt", "new")
    (tmp_path / "lock").symlink_to(victim)
    with (
        pytest.raises(InputError, match="lock is a link"),
        locked(tmp_path / "lock", tmp_path / "x"),
    ):
        raise AssertionError
    assert victim.read_text() == "kept"


def test_hdf5_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "x.h5"
    with pytest.raises(KeyError), hdf5_aside(path) as file:
        file["a"] = [1]
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with hdf5_aside(path) as file:
        file["a"] = [1, 2]
        assert not path.exists()
    with open_hdf5(path, "thing", "make one") as file:
        assert file["a"][:].tolist() == [1, 2]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no thing at .*x.h5; make one"),
        (b"junk", "x.h5 is no thing, or a .*make one"),
    ],
)
def test_what_is_no_hdf5_is_named_with_what_to_do(tmp_path, content, said):
    if content is not None:
        (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(InputError, match=said):
        open_hdf5(tmp_path / "x.h5", "thing", "make one")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path, mark):
    (tmp_path / "a.csv").write_bytes(mark + 'é,1\r\n"a\nb",2\r\n'.encode())
    assert read_text(tmp_path / "a.csv") == 'é,1\r\n"a\nb",2\r\n'
    assert read_rows(tmp_path / "a.csv") == [["é", "1"], ["a\nb", "2"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,1\nb\0,2\n", "line 2: holds a NUL"),
        ("a,1\n".encode("utf-16"), "line 1: no UTF-8"),
        (b"a\nb\n\xe9,1\n", "line 3: no UTF-8"),
        (b'a,"' + b"x" * 200_000, "is no CSV"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_text_that_would_hide_something_is_refused(tmp_path, content, said):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.csv.*{said}"):
        read_rows(tmp_path / "a.csv")
