"""One run a folder: what goes, what stays, and what is there when it is interrupted."""

import json

import pytest

from aamn.inference import result_folder
from aamn.inference.result_folder import RECORD, one_run
from proposals.errors import InputError


def run(folder, *names, record=None):
    with one_run(folder) as aside:
        for name in names:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_text(f"of {len(names)}")
        if record is not None:
            (aside / RECORD).write_text(json.dumps(record))


def there(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_second_run_takes_the_place_of_the_first_and_of_nothing_else(tmp_path):
    run(tmp_path, "00_dog/masks/0.png", "00_dog/masks/1.png", "01_cat/r.json", record={"a": 1})
    assert json.loads((tmp_path / RECORD).read_text()) == {
        "a": 1,
        "files": ["00_dog/masks/0.png", "00_dog/masks/1.png", "01_cat/r.json"],
    }
    (tmp_path / "00_dog" / "notes.txt").write_text("mine")
    (tmp_path / "index").mkdir()
    run(tmp_path, "00_dog/masks/1.png", "00_bird/r.json")
    left = ["00_bird/r.json", "00_dog/masks/1.png", "00_dog/notes.txt", RECORD]
    assert there(tmp_path) == sorted(left)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00_bird", "00_dog", "index", RECORD]
    assert (tmp_path / "00_dog" / "masks" / "1.png").read_text() == "of 2"


@pytest.mark.parametrize(
    "record",
    ["{", "[]", '{"files": 5}', '{"files": [5, null, ""]}',
     '{"files": ["../mine.txt", "link/mine.txt", "/etc/x", "x/../../mine.txt"]}'],
)  # fmt: skip
def test_a_record_that_lists_what_is_not_in_the_folder_removes_nothing(record, tmp_path):
    folder, mine = tmp_path / "out", tmp_path / "mine.txt"
    folder.mkdir()
    mine.write_text("mine")
    (folder / "link").symlink_to(tmp_path)
    (folder / RECORD).write_text(record)
    run(folder, "a.png")
    assert mine.read_text() == "mine" and (folder / "link").is_symlink()
    assert json.loads((folder / RECORD).read_text()) == {"files": ["a.png"]}


def test_an_error_leaves_the_earlier_run(tmp_path):
    run(tmp_path, "a.png")
    with pytest.raises(KeyError), one_run(tmp_path) as aside:
        (aside / "a.png").write_text("half")
        raise KeyError
    assert there(tmp_path) == ["a.png", RECORD]
    assert (tmp_path / "a.png").read_text() == "of 1"


@pytest.mark.parametrize("where", ["write_json", "_remove", "_tell_strangers"])
def test_whatever_interrupts_the_change_the_next_run_clears_up(where, tmp_path, monkeypatch):
    run(tmp_path, "a.png", "b.png")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(result_folder, where, killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, "b.png", "c.png")
    (tmp_path / ".run.0123.tmp").mkdir()  # of a run that was killed
    (tmp_path / ".run.0123.tmp" / "half.png").write_text("")
    run(tmp_path, "d.png")
    assert there(tmp_path) == ["d.png", RECORD]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_masks_that_no_record_lists_are_told(tmp_path, caplog):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "7.png").write_text("of an older version")
    run(tmp_path, "masks/0.png")
    (line,) = caplog.messages
    assert "1 pictures" in line and "masks/7.png" in line and (tmp_path / "masks/7.png").exists()


def test_two_runs_do_not_write_one_folder(tmp_path):
    with one_run(tmp_path), pytest.raises(InputError, match="is being written by process"):
        run(tmp_path, "a.png")
