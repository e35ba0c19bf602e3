"""An index that was interrupted goes on, and becomes the one that was not."""

import logging
from dataclasses import replace

import h5py
import numpy as np
import pytest
import tiny_videos
from tiny_videos import Frames, Store, loaded

from aamn.index import builder
from aamn.index.builder import build_index
from aamn.index.file import NO_END, WHOLE, IndexFile, Selection
from proposals.errors import InputError


class Stopping(Frames):
    """A video in a file, which ends the run when a frame is read."""

    def __init__(self, path, count, stop=-1):
        super().__init__(count)
        self.path, self.stop = path, stop

    def _frame(self, index):
        if index == self.stop:
            raise KeyboardInterrupt
        return super()._frame(index)


@pytest.fixture(scope="module")
def model():
    return loaded()


@pytest.fixture
def video(tmp_path, monkeypatch):
    monkeypatch.setitem(builder.FRAMES_AT_ONCE, "cpu", 6)
    path = tmp_path / "noise.mp4"
    path.write_bytes(b"frames that the test draws")
    return path


def job(model, frames, selection=WHOLE):
    return replace(tiny_videos.job(model, frames), selection=selection)


def arrays(path):
    with h5py.File(path) as file:
        return {name: data[:] for name, data in file.items()}, dict(file.attrs)


def assert_same(one, other):
    (data, attributes), (wanted, known) = arrays(one), arrays(other)
    assert data.keys() == wanted.keys() and attributes.keys() == known.keys()
    assert all(np.array_equal(data[name], wanted[name]) for name in wanted)
    assert all(np.array_equal(attributes[name], known[name]) for name in known)


@pytest.mark.parametrize("stop", [8, 15])
@pytest.mark.parametrize(
    "selection",
    [WHOLE, Selection(range(4, NO_END)), Selection(range(1, 16, 7)),
     Selection(key_frames=(0, 4, 5, 11, 15))],
    ids=["whole", "a part", "gaps", "key frames"],
)  # fmt: skip
def test_a_run_goes_on_as_if_nothing_had_been(model, video, tmp_path, selection, stop):
    build_index(job(model, Stopping(video, 16), selection), tmp_path / "whole.h5")
    path, again = tmp_path / "v.h5", Stopping(video, 16)
    with pytest.raises(KeyboardInterrupt):
        build_index(job(model, Stopping(video, 16, stop), selection), path)
    assert not path.exists()
    kept = len(list((tmp_path / "v.h5.parts").glob("*.h5")))
    build_index(job(model, again, selection), path)
    assert_same(path, tmp_path / "whole.h5")
    assert min(again.read_once) > 0 or kept < 2, "what was done is not done again"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["noise.mp4", "v.h5", "whole.h5"]


def stopped(model, video, path, at=14):
    with pytest.raises(KeyboardInterrupt):
        build_index(job(model, Stopping(video, 16, at)), path)
    return path.with_name(path.name + ".parts")


def test_each_block_but_the_last_few_frames_is_kept_and_said(model, video, tmp_path, caplog):
    parts = stopped(model, video, tmp_path / "v.h5")
    assert sorted(p.name for p in parts.iterdir()) == ["00000000.h5", "00000001.h5", "job.json"]
    frames = Stopping(video, 16)
    with caplog.at_level(logging.INFO):
        build_index(job(model, frames), tmp_path / "v.h5")
    assert "v.h5: goes on after frame 11" in caplog.text
    assert min(frames.read_once) == 5, "the block before, and the frame before it for its flow"


def test_an_index_that_lacks_only_its_name_needs_no_frame(model, video, tmp_path, monkeypatch):
    path, frames = tmp_path / "v.h5", Stopping(video, 16)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(builder, "new_index", killed)
        with pytest.raises(KeyboardInterrupt):
            build_index(job(model, Stopping(video, 16)), path)
    build_index(job(model, frames), path)
    assert frames.read_once == [] and IndexFile.read(path).header.frames == 16


@pytest.mark.parametrize(
    "change",
    ["another video", "another model", "another selection", "another block", "an unknown video"],
)
def test_what_does_not_fit_is_begun_anew(change, model, video, tmp_path, monkeypatch, caplog):
    path = tmp_path / "v.h5"
    stopped(model, video, path)
    frames, selection = Stopping(video, 16), WHOLE
    if change == "another video":
        video.write_bytes(b"frames that the test drew otherwise")
    if change == "another model":
        model = loaded(seed=1)
    if change == "another selection":
        selection = Selection(range(0, 15))
    if change == "another block":
        monkeypatch.setitem(builder.FRAMES_AT_ONCE, "cpu", 9)
    if change == "an unknown video":
        video.unlink()
    with caplog.at_level(logging.INFO):
        build_index(job(model, frames, selection), path)
    assert "does not fit: starts anew" in caplog.text and min(frames.read_once) == 0
    build_index(job(model, Stopping(video, 16), selection), tmp_path / "whole.h5")
    assert_same(path, tmp_path / "whole.h5")
    assert not (tmp_path / "v.h5.parts").exists()


@pytest.mark.parametrize("damaged", [0, 1])
def test_blocks_count_up_to_the_first_that_is_damaged(damaged, model, video, tmp_path):
    path, frames = tmp_path / "v.h5", Stopping(video, 16)
    parts = stopped(model, video, path)
    (parts / f"0000000{damaged}.h5").write_bytes(b"cut")
    (parts / ".00000002.h5.0123.tmp").write_bytes(b"half")
    build_index(job(model, frames), path)
    build_index(job(model, Stopping(video, 16)), tmp_path / "whole.h5")
    assert_same(path, tmp_path / "whole.h5")
    assert min(frames.read_once) == 0 and not parts.exists()


def test_a_video_that_cannot_be_decoded_leaves_nothing(model, video, tmp_path):
    class Broken(Stopping):
        def _frame(self, index):
            if index == 9:
                raise InputError("frame 9 cannot be decoded")
            return super()._frame(index)

    with pytest.raises(InputError, match="frame 9"):
        build_index(job(model, Broken(video, 16)), tmp_path / "v.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["noise.mp4"]


def test_stored_boxes_are_asked_again_as_before(model, video, tmp_path):
    asked = []

    class Asked(Store):
        def window(self, video_id, indices, top):
            asked.append(list(indices))
            return super().window(video_id, indices, top)

    path = tmp_path / "v.h5"
    stopped(model, video, path)
    again = job(model, Stopping(video, 16))
    again.boxes.store = Asked()
    build_index(again, path)
    assert asked == [[6, 7, 8, 9, 10, 11], [12, 13, 14, 15]]
