"""Frames are counted, not believed."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from proposals.errors import InputError
from proposals.frames import natural_key, open_frames

SIZE = (48, 64)


def shade(index: int) -> int:
    return 12 + 4 * index


def write_video(path: Path, frames: int = 60, codec: str = "mp4v", size=SIZE) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25.0, size[::-1])
    assert writer.isOpened()
    for index in range(frames):
        writer.write(np.full((*size, 3), shade(index), np.uint8))
    writer.release()
    return path


def numbers(frames: np.ndarray) -> list[int]:
    """Which frames these are, read from their grey value."""
    return [round((float(frame.mean()) - 10) / 4) for frame in frames]


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "grey.mp4")


@pytest.mark.parametrize(
    "indices",
    [[0], [59], [5, 5, 4], [50, 3, 59, 0, 33], list(range(60)), list(range(59, -1, -7))],
    ids=str,
)
def test_random_access_gives_the_frames_of_sequential_decoding(video, indices):
    with open_frames(video) as source:
        assert numbers(source.read(indices)) == indices
        assert numbers(source.read(indices[::-1])) == indices[::-1]


def test_length_size_and_iteration(video):
    source = open_frames(video)
    assert (len(source), source.size, source.fps) == (60, SIZE, 25.0)
    assert numbers(source.iterate()) == list(range(60))
    assert numbers(source.iterate(40, 44)) == [40, 41, 42, 43]
    assert numbers(source.iterate(57)) == [57, 58, 59]
    assert len(source) == 60


def test_a_source_travels_to_another_process(video):
    source = open_frames(video)
    source.read([30])
    copy = pickle.loads(pickle.dumps(source))
    assert numbers(copy.read([12, 13])) == [12, 13]


def test_colours_are_red_green_blue(tmp_path):
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, SIZE[::-1])
    writer.write(np.full((*SIZE, 3), (0, 0, 255), np.uint8))
    writer.release()
    red, green, blue = open_frames(path).read([0]).reshape(-1, 3).mean(0)
    assert red > 240 and green < 20 and blue < 20


def test_a_video_that_ends_early_is_counted_not_believed(tmp_path):
    path = write_video(tmp_path / "cut.avi", codec="MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_frames(path)
    assert 0 < len(source) < 60
    assert numbers(source.read([len(source) - 1])) == [len(source) - 1]
    with pytest.raises(InputError, match=rf"cut.avi: wanted frame 59, it has {len(source)}"):
        source.read([59])


def test_folders_are_read_in_natural_order(tmp_path):
    for index in (0, 2, 10, 9, 100):
        Image.new("RGB", SIZE[::-1], (index, index, index)).save(tmp_path / f"f{index}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    source = open_frames(tmp_path)
    assert [int(f[0, 0, 0]) for f in source.iterate()] == [0, 2, 9, 10, 100]
    assert source.read([4, 0])[:, 0, 0, 0].tolist() == [100, 0]
    assert (len(source), source.size) == (5, SIZE)


@pytest.mark.parametrize(
    ("before", "after"), [("2.jpg", "10.jpg"), ("a9b", "a10b"), ("007", "8"), ("1a", "a")]
)
def test_natural_order(before, after):
    assert natural_key(before) < natural_key(after)


def _nothing(folder: Path) -> Path:
    return folder / "absent.mp4"


def _empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def _text(folder: Path) -> Path:
    (folder / "text.mp4").write_text("hello " * 1000)
    return folder / "text.mp4"


def _truncated(folder: Path) -> Path:
    path = write_video(folder / "truncated.mp4")
    path.write_bytes(path.read_bytes()[:600])
    return path


def _suffix(folder: Path) -> Path:
    return write_video(folder / "video.mp4").rename(folder / "video.txt")


def _no_images(folder: Path) -> Path:
    (folder / "frames").mkdir()
    return folder / "frames"


def _bad_image(folder: Path) -> Path:
    path = _no_images(folder)
    Image.effect_noise((64, 64), 50).save(path / "0.png")
    (path / "0.png").write_bytes((path / "0.png").read_bytes()[:300])
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_nothing, "no video at .*absent.mp4"),
        (_empty, r"empty.mp4 is empty \(0 bytes\)"),
        (_text, "text.mp4: no frame can be decoded"),
        (_truncated, "truncated.mp4: no frame can be decoded"),
        (_suffix, "video.txt: its suffix '.txt' is none of a video's"),
        (_no_images, "frames: the folder holds no image"),
        (_bad_image, "0.png is no readable image"),
    ],
)
def test_what_cannot_be_decoded_is_named(tmp_path, make, message):
    with pytest.raises(InputError, match=message) as caught:
        open_frames(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_whose_frames_change_size_is_refused(tmp_path):
    for index, width in enumerate((64, 64, 80)):
        Image.new("RGB", (width, 48)).save(tmp_path / f"{index}.png")
    source = open_frames(tmp_path)
    assert source.read([0, 1]).shape == (2, 48, 64, 3)
    with pytest.raises(InputError, match=r"frame 2 \(2.png\) is 80x48, the first one 64x48"):
        source.read([2])


def test_a_video_that_changes_size_keeps_its_first_one(tmp_path):
    first = write_video(tmp_path / "a.avi", 10, "MJPG").read_bytes()
    second = write_video(tmp_path / "b.avi", 10, "MJPG", (96, 128)).read_bytes()
    (tmp_path / "both.avi").write_bytes(first + second)
    source = open_frames(tmp_path / "both.avi")
    assert [frame.shape for frame in source.iterate()] == [(*SIZE, 3)] * 20
    assert numbers(source.read([3, 17])) == [3, 7]
