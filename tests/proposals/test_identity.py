"""Which video is which: by hand, on files whose every byte is known."""

import builtins
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proposals import identity as identity_module
from proposals.errors import InputError
from proposals.frames import FrameSource, take_frames
from proposals.identity import Identity, check_same, identity_of, is_outdated

SIZE = 1 << 20


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "day1" / "clip.mp4"
    path.parent.mkdir()
    path.write_bytes(np.random.default_rng(0).bytes(SIZE))
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twelve pictures, each of the same number of bytes."""
    path = tmp_path / "day1" / "clip"
    path.mkdir(parents=True)
    for n in range(12):
        Image.fromarray(np.full((4, 5, 3), n, np.uint8)).save(path / f"{n}.ppm")
    return path


def changed(path: Path, at: int, byte: bytes = b"!") -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(byte)


def test_a_copy_is_the_same_video_wherever_it_lies(file, folder, tmp_path):
    for one in (file, folder):
        other = tmp_path / "elsewhere" / ("x.mp4" if one.is_file() else "x")
        other.parent.mkdir(exist_ok=True)
        (shutil.copytree if one.is_dir() else shutil.copy)(one, other)
        mine, copy = identity_of(one), identity_of(other)
        assert mine.equals(copy) is True and copy.path == str(other)
    assert identity_of(file).bytes == SIZE
    assert identity_of(folder).bytes == 12 * (len(b"P6\n5 4\n255\n") + 60)


@pytest.mark.parametrize("at", [0, 65535, SIZE // 2, SIZE - 65536, SIZE - 1])
def test_another_byte_of_a_looked_at_block_is_another_video(file, at):
    before = identity_of(file)
    changed(file, at)
    os.utime(file, ns=(1, 1))
    after = identity_of(file)
    assert before.bytes == after.bytes and before.equals(after) is False


def test_another_length_is_another_video_whatever_its_blocks(tmp_path):
    paths = [tmp_path / f"{n}.mp4" for n in (100_000, 100_001)]
    for path in paths:
        path.write_bytes(bytes(int(path.stem)))
    first, second = map(identity_of, paths)
    assert first.equals(second) is False and first.blocks != second.blocks


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "3.ppm").rename(folder / "03.ppm"),
        lambda folder: (folder / "7.ppm").unlink(),
        lambda folder: changed(folder / "0.ppm", -1 % 71),
        lambda folder: changed(folder / "11.ppm", 70),
        lambda folder: (folder / "5.ppm").write_bytes(b"P6\n1 1\n255\n..."),
    ],
    ids=["a name", "one less", "first", "last", "a size"],
)
def test_a_folder_with_other_pictures_is_another_video(folder, change):
    before = identity_of(folder)
    change(folder)
    assert identity_of(folder).equals(before) is False


def test_what_is_no_picture_of_a_folder_does_not_matter(folder):
    before = identity_of(folder)
    (folder / "notes.txt").write_text("mine")
    (folder / ".hidden.png").write_bytes(b"")
    assert identity_of(folder) == before


def test_a_file_is_read_once_and_only_in_a_few_places(file, monkeypatch):
    opened, real = [], builtins.open
    monkeypatch.setattr(
        identity_module, "open", lambda *a: opened.append(a) or real(*a), raising=False
    )
    first = identity_of(file)
    assert identity_of(file) == first and len(opened) == 1
    changed(file, 200_000)  # between the blocks, and with its old time: what is not looked at
    os.utime(file, ns=(5, 5))
    assert identity_of(file).equals(first) is True and len(opened) == 2


class Nowhere(FrameSource):
    path, size, fps, announced = Path("nowhere"), (4, 5), 25.0, 0

    def __len__(self):
        return 0

    def _frame(self, index):
        return None

    def close(self):
        pass


def test_frames_in_memory_are_known_by_all_their_pixels_and_other_sources_not_at_all(file):
    frames = np.random.default_rng(1).integers(0, 255, (3, 4, 5, 3), np.uint8)
    first, same = identity_of(take_frames(frames)), identity_of(take_frames(iter(frames.copy())))
    frames[2, 3, 4, 2] ^= 1
    other, unknown = identity_of(take_frames(frames)), identity_of(Nowhere())
    assert (first.kind, unknown) == ("frames", Identity("unknown", "nowhere"))
    assert first.equals(same) is True and first.equals(other) is False
    assert first.equals(identity_of(file)) is None, "a file's frames may be the same"
    assert unknown.equals(unknown) is None and unknown.equals(first) is None


def test_a_file_is_no_folder(file, folder):
    assert identity_of(file).equals(identity_of(folder)) is False


def test_what_is_stored_is_read_again():
    one = Identity("file", "/a/ü.mp4", 7, "0f")
    assert Identity.from_json(one.to_json()) == one and Identity.from_json("") is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "7", '{"kind": "file"}', '{"kind": "tape", "path": "x"}',
     '{"kind": "file", "path": 5}', '{"kind": "file", "path": "x", "bytes": "7"}'],
)  # fmt: skip
def test_another_text_is_no_identity(text):
    with pytest.raises(ValueError, match="is no identity of a video"):
        Identity.from_json(text)


def test_a_given_file_of_another_video_is_refused_by_name(file, tmp_path, caplog):
    made, boxes = identity_of(file), tmp_path / "p.h5"
    check_same(made, file, boxes, "'clip'", "extract it")
    check_same(None, file, boxes, "'clip'", "extract it")
    assert not caplog.records
    other = tmp_path / "clip.mp4"
    other.write_bytes(b"another one")
    with pytest.raises(InputError, match=r"p\.h5: 'clip' was made from .*day1/clip\.mp4, another"):
        check_same(made, other, boxes, "'clip'", "extract it")
    changed(file, 0)
    os.utime(file, ns=(1, 1))
    with pytest.raises(InputError, match=r"from what .*clip\.mp4 was before .*; extract it$"):
        check_same(made, file, boxes, "'clip'", "extract it")
    for _ in range(2):
        check_same(made, Nowhere(), boxes, "'clip'", "extract it")
    (line,) = caplog.messages
    assert "it cannot be checked" in line and "nowhere" in line


def test_kept_work_is_made_again_when_its_video_was_replaced(file, tmp_path, caplog):
    kept, made = tmp_path / "clip.h5", identity_of(file)
    assert not is_outdated(made, identity_of(file), kept, "the index")
    assert not is_outdated(None, identity_of(file), kept, "the index")
    assert "clip.h5 does not say which video" in caplog.messages[-1]
    other = tmp_path / "day2" / "clip.mp4"
    other.parent.mkdir()
    other.write_bytes(b"another one")
    found = identity_of(other)
    with pytest.raises(InputError, match=r"clip\.h5: .*day1.*day2.*same id; choose another --out"):
        is_outdated(made, found, kept, "the index")
    with caplog.at_level(logging.WARNING):
        assert is_outdated(made, found, kept, "the index", replace=True)
    assert caplog.messages[-1].endswith("made again")
    file.unlink()
    assert is_outdated(made, found, kept, "the index"), "the first one is lost"
