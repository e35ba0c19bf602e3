"""What is computed from one video never answers for another, a result folder holds one run, and an
interrupted index goes on."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from fault_cases import called, contents, refused

import aamn
from aamn.cli.main import run
from aamn.index import builder
from aamn.index.file import IndexFile
from proposals.frames import VideoFile

CLIP = "{tmp}/clip"
BOXES = ("--proposals", "{tmp}/boxes.h5")
FLOW = ("--flow", "{tmp}/flow.h5")
BUNDLE = ("--bundle", "{bundle}")
OUT = ("--out", "{tmp}/out")
BASELINE = ("--set", "system=most_confident")  # clip by clip, without an index
USES = {  # name -> words that use what was made of {tmp}/clip before it was replaced, what they say
    "index --proposals": (("index", CLIP, *BUNDLE, *BOXES, *OUT), r"boxes\.h5: 'clip'"),
    "index --flow": (("index", CLIP, *BUNDLE, *FLOW, *OUT), r"flow\.h5: 'clip'"),
    "segment --index": (
        ("segment", "--index", "{tmp}/index/clip.h5", "--query", "w1", *BUNDLE, *OUT),
        r"index/clip\.h5: .*not there.*another one is at",
    ),
    "segment --video --index": (
        ("segment", "w1", "--video", CLIP, "--index", "{tmp}/index/clip.h5", *BUNDLE, *OUT),
        r"index/clip\.h5: the index was made from what .*clip was before",
    ),
    "a baseline's boxes": (
        (
            *("segment", CLIP, "w1", "--checkpoint", "{checkpoint}", *BOXES, *BASELINE),
            *OUT,
        ),
        r"boxes\.h5: 'clip' was made from what .* was before it was replaced",
    ),
}
MAKERS = {  # subcommand -> its words, and where the result lies
    "index": (("index", CLIP, *BUNDLE, "--out", "{tmp}/index"), "index/clip.h5"),
    "extract": (
        ("extract", CLIP, "--detector", "{detector}", "--workers", 0, "--out", "{tmp}/boxes.h5"),
        "boxes.h5",
    ),
    "flow": (("flow", CLIP, "--workers", 0, "--out", "{tmp}/flow.h5"), "flow.h5"),
}


def draw_movie(path: Path, seed: int, count: int = 7) -> None:
    """An mp4 of 48x32 pixels of flat pictures."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (48, 32))
    for colour in np.random.default_rng(seed).integers(0, 255, (count, 3)):
        writer.write(np.full((32, 48, 3), colour, np.uint8))
    writer.release()


def named(words, things, tmp):
    return tuple(str(word).format(tmp=tmp, **vars(things)) for word in words)


def replaced(folder: Path, other: Path) -> None:
    """The folder's pictures become those of another one, of the same names and size."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(other, folder)


def numbers(path: Path) -> dict[str, np.ndarray]:
    """All data of an HDF5 file but what tells its video."""
    with h5py.File(path) as file:
        names: list[str] = []
        file.visit(names.append)
        found = {name: file[name][()] for name in names if isinstance(file[name], h5py.Dataset)}
    found.pop("identities", None)
    return found


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


@pytest.fixture(scope="module")
def made(things, tmp_path_factory):
    """A folder with a copy of the clip, its boxes, flow and index, and then the other clip's."""
    tmp = tmp_path_factory.mktemp("made")
    for name, clip in (("first", things.clip), ("second", things.other)):
        shutil.copytree(clip, tmp / name / "clip")
        for words, _ in MAKERS.values():
            assert run(named(words, things, tmp / name)) == 0
    return tmp


@pytest.fixture
def after(made, things, tmp_path):
    """What was made of the first clip, in whose place the other one lies now."""
    shutil.copytree(made / "first", tmp_path, dirs_exist_ok=True)
    for file in [*tmp_path.glob("*.h5"), *tmp_path.glob("index/*.h5")]:
        _say_it_was_made_at(file, made / "first", tmp_path)
    replaced(tmp_path / "clip", things.other)
    return tmp_path


def _say_it_was_made_at(path: Path, before: Path, now: Path) -> None:
    """The copies are as if they had been made where they lie."""
    moved = lambda text: text.replace(str(before), str(now))  # noqa: E731
    with h5py.File(path, "r+") as file:
        for one in (file, *file.get("videos", {}).values()):
            for name in {"identity", "path"} & set(one.attrs):
                one.attrs[name] = moved(one.attrs[name])
        if "identities" in file:
            texts = [moved(text).encode() for text in file["identities"].asstr()[:]]
            del file["identities"]
            file["identities"] = np.array(texts, h5py.string_dtype("utf-8", max(map(len, texts))))


@pytest.mark.parametrize("name", USES)
def test_what_was_made_of_another_video_is_refused_by_its_name(name, after, things, capsys):
    words, said = USES[name]
    refused(capsys, named(words, things, after), said, (after, things.bundle))


@pytest.mark.parametrize("subcommand", MAKERS)
def test_a_replaced_video_is_computed_again_and_the_log_says_so(
    subcommand, after, made, things, capsys, caplog
):
    words, result = MAKERS[subcommand]
    assert called(capsys, *named(words, things, after)).code == 0
    assert any("before it was replaced: made again" in line for line in caplog.messages)
    new, wanted = numbers(after / result), numbers(made / "second" / result)
    assert equal(new, wanted) and not equal(new, numbers(made / "first" / result))
    before, messages = contents(after), len(caplog.messages)
    assert called(capsys, *named(words, things, after)).code == 0
    assert contents(after) == before, "now it is there"
    assert not any("made again" in line for line in caplog.messages[messages:])


@pytest.mark.parametrize("subcommand", MAKERS)
def test_two_days_clips_of_one_name_do_not_push_each_other_out(
    subcommand, made, things, tmp_path, capsys, caplog
):
    words, result = MAKERS[subcommand]
    shutil.copytree(made / "first", tmp_path, dirs_exist_ok=True)
    day2 = tmp_path / "day2" / "clip"
    shutil.copytree(things.other, day2)
    words = [str(day2) if word == str(tmp_path / "clip") else word
             for word in named(words, things, tmp_path)]  # fmt: skip
    before = contents(tmp_path)
    found = called(capsys, *words)
    said = [*found.err.splitlines(), *found.out.splitlines(), *caplog.messages]
    assert found.code == (2 if subcommand == "index" else 1)
    (line,) = {line for line in said if "choose another --out" in line and result in line}
    assert "day2" in line and "first" in line and contents(tmp_path) == before


def test_masks_are_those_of_the_video_that_is_given(things, tmp_path, capsys):
    day1, day2 = (tmp_path / day / "clip.mp4" for day in ("day1", "day2"))
    for seed, path in enumerate((day1, day2)):
        path.parent.mkdir()
        draw_movie(path, seed)
    longest = max(path.stat().st_size for path in (day1, day2))
    for path in (day1, day2):  # of the same number of bytes, too
        with path.open("ab") as file:
            file.write(bytes(longest - path.stat().st_size))
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    for video, place in ((day1, out), (day2, out), (day2, fresh)):
        words = ("segment", video, "w1 w2", "--bundle", things.bundle, "--out", place)
        assert called(capsys, *words).code == 0
    first, second = (numbers(place / "index" / "clip.h5") for place in (out, fresh))
    assert equal(first, second)
    record = json.loads((out / "00_w1_w2" / "result.json").read_text())
    assert record["video"]["path"] == str(day2) and record["video"]["bytes"] == longest
    assert record["clips"] == json.loads((fresh / "00_w1_w2" / "result.json").read_text())["clips"]


def test_a_result_folder_holds_one_run(things, tmp_path, capsys):
    def masks(*words):
        words = ("segment", things.clip, *words, "--bundle", things.bundle, "--out", tmp_path)
        assert called(capsys, *words).code == 0
        found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")}
        return {name for name in found if "masks/" in name or "palette" in name}

    assert len(masks("w1", "w2", "--palette")) == 21
    (tmp_path / "00_w1" / "notes.txt").write_text("mine")
    assert masks("w1", "--stride", 3) == {f"00_w1/masks/{n:05d}.png" for n in (0, 3, 6)}
    assert masks("w1", "--end", 2) == {f"00_w1/masks/{n:05d}.png" for n in (0, 1)}
    assert masks("w3", "--end", 1) == {"00_w3/masks/00000.png"}
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"00_w1", "00_w3", "index", "run.json"}
    assert [path.name for path in (tmp_path / "00_w1").iterdir()] == ["notes.txt"]


FORGET = {  # what older versions did not write, by file
    "boxes.h5": lambda file: file.__delitem__("identities"),
    "flow.h5": lambda file: file["videos/clip"].attrs.__delitem__("identity"),
    "index/clip.h5": lambda file: file.attrs.__delitem__("identity"),
}


@pytest.mark.parametrize("name", FORGET)
def test_older_files_are_used_and_said_to_be_unchecked(name, after, things, capsys, caplog):
    with h5py.File(after / name, "r+") as file:
        FORGET[name](file)
    use = {
        "boxes.h5": "index --proposals",
        "flow.h5": "index --flow",
        "index/clip.h5": "segment --index",
    }
    assert called(capsys, *named(USES[use[name]][0], things, after)).code == 0
    lines = [line for line in caplog.messages if "check" in line]
    assert len(lines) == 1 and str(after / name) in lines[0]


@pytest.mark.parametrize("place", ["beside", "working directory"])
def test_an_index_finds_its_video_where_it_moved(
    place, made, things, tmp_path, capsys, monkeypatch
):
    shutil.copytree(made / "first" / "index", tmp_path / "index")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    shutil.copytree(things.other, tmp_path / "index" / "clip")  # has its name, and is not it
    with h5py.File(tmp_path / "index" / "clip.h5", "r+") as file:
        assert Path(file.attrs["path"]).is_absolute()
        file.attrs["path"] = str(tmp_path / "gone" / "clip")
    words = ("segment", "--index", tmp_path / "index" / "clip.h5", "--query", "w1",
             "--bundle", things.bundle, "--out", tmp_path / "o")  # fmt: skip
    refused(capsys, words, r"clip\.h5: .*gone/clip.*another one is at .*index/clip", (tmp_path,))
    replaced(tmp_path / "index" / "clip" if place == "beside" else here / "clip", things.clip)
    assert called(capsys, *words).code == 0
    record = json.loads((tmp_path / "o" / "00_w1" / "result.json").read_text())
    assert record["video"]["blocks"] and len(record["clips"]) == 3


def test_flow_that_was_computed_otherwise_is_refused(after, made, things, capsys):
    replaced(after / "clip", things.clip)
    words = named((*USES["index --flow"][0], "--set", "flow.preset=fast"), things, after)
    words = [w for w in words if w != "--bundle" and w != str(things.bundle)]
    words += ["--checkpoint", str(things.checkpoint), "--detector", str(things.detector)]
    said = r"flow\.h5 was made with flow\.preset 'medium', the configuration has 'fast'"
    refused(capsys, words, said, (after,))


def test_a_track_is_saved_with_its_own_video_only(things, made, tmp_path):
    segmenter = aamn.load(things.bundle, "cpu")
    (track,) = segmenter.segment(things.clip, "w1")
    with pytest.raises(ValueError, match=r"the index was made from .*clip, another video than"):
        track.save(tmp_path / "t", video=things.other)
    assert not (tmp_path / "t").exists()
    index = segmenter.read_index(made / "first" / "index" / "clip.h5")
    track.save(tmp_path / "t", video=made / "first" / "clip")
    assert index.header.identity.blocks and (tmp_path / "t" / "sheet.png").exists()


@pytest.mark.parametrize(("sent", "frame"), [(signal.SIGKILL, 12), (signal.SIGINT, 13)])
def test_an_index_goes_on_after_a_signal(
    sent, frame, things, made, tmp_path, capsys, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(builder.FRAMES_AT_ONCE, "cpu", 3)
    wanted, path = tmp_path / "w" / "movie.h5", tmp_path / "i" / "movie.h5"
    movie = tmp_path / "movie.mp4"
    draw_movie(movie, 2, 15)  # decoding is two blocks ahead
    words = ("index", movie, "--bundle", things.bundle, "--out")
    assert called(capsys, *words, wanted.parent).code == 0
    real = VideoFile._frame

    def struck(source, index):
        if index == frame:
            os.kill(os.getpid(), sent)
        return real(source, index)

    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
        VideoFile._frame = struck
        os._exit(run([str(word) for word in (*words, path.parent)]))
    status = os.waitpid(child, 0)[1]
    if sent == signal.SIGKILL:
        assert os.WTERMSIG(status) == sent
    else:
        assert os.waitstatus_to_exitcode(status) == 130
    assert not path.exists() and (path.parent / "movie.h5.parts" / "00000000.h5").is_file()
    assert called(capsys, *words, path.parent).code == 0
    assert any("goes on after frame" in line for line in caplog.messages)
    assert equal(numbers(path), numbers(wanted))
    assert IndexFile.read(path).header == IndexFile.read(wanted).header
    assert [one.name for one in path.parent.iterdir()] == ["movie.h5"]
