"""The flow file, with an estimator whose flow tells which two frames it saw."""

from __future__ import annotations

import logging
import pickle
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from aamn.config.schema import FlowConfig
from aamn.data.flow import store as flow_store
from aamn.data.flow.store import FlowStore, extract_flow, stored_flow
from aamn.structures import InputSpec
from proposals import workers as workers_of
from proposals.errors import InputError


def numbered_video(folder: Path, count: int, start: int = 0) -> Path:
    """A folder of images of 8x6 pixels; every pixel of frame n is n + start."""
    folder.mkdir(parents=True)
    for n in range(count):
        Image.fromarray(np.full((6, 8, 3), n + start, np.uint8)).save(folder / f"{n:05d}.png")
    return folder


def seen_pair(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Flow whose x is the first frame's number and a quarter, whose y the second's, negative."""
    pair = np.array([one[0, 0, 0] + 0.25, -(two[0, 0, 0] + 0.75)], np.float32)
    return np.broadcast_to(pair[:, None, None], (2, *one.shape[:2])).copy()


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the frames from which flow was estimated, in order."""
    calls = []

    def estimate(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        calls.append(int(one[0, 0, 0]))
        return seen_pair(one, two)

    monkeypatch.setattr(flow_store, "build_estimator", lambda config: estimate)
    return calls


@pytest.mark.parametrize("count", [2, 64, 65, 150])
def test_every_stored_frame_is_the_estimators(tmp_path: Path, count: int) -> None:
    out = tmp_path / "flow.h5"
    video = numbered_video(tmp_path / "video", count)
    assert extract_flow({"v": video}, out, FlowConfig(), workers=0) == {}
    pairs = [(n + 0.25, -(n + 1.75)) for n in range(count - 1)]
    with h5py.File(out) as file:
        data = file["videos/v"][()]
    assert data.shape == (count, 2, 6, 8) and data.dtype == np.float16
    assert (data == data[:, :, :1, :1]).all()
    assert [tuple(pair) for pair in data[:, :, 0, 0].tolist()] == [*pairs, pairs[-1]]
    assert FlowStore.read(out).frame_count("v") == count


def test_a_single_frame_is_stored_as_standing_still(tmp_path: Path) -> None:
    extract_flow({"v": numbered_video(tmp_path / "v", 1)}, tmp_path / "f.h5", FlowConfig(), 0)
    window = FlowStore.read(tmp_path / "f.h5").window("v", np.array([0, 0]))
    assert window.shape == (2, 2, 6, 8) and not window.any()


def test_a_window_is_in_the_order_of_its_frames(tmp_path: Path) -> None:
    extract_flow({"v": numbered_video(tmp_path / "v", 80)}, tmp_path / "f.h5", FlowConfig(), 0)
    window = FlowStore.read(tmp_path / "f.h5").window("v", np.array([70, 3, 63, 64, 64, 3]))
    assert window[:, 0, 0, 0].tolist() == [70.25, 3.25, 63.25, 64.25, 64.25, 3.25]
    assert window[:, 1, 5, 7].tolist() == [-71.75, -4.75, -64.75, -65.75, -65.75, -4.75]
    assert window.dtype == np.float32


@pytest.mark.parametrize(
    ("longest_side", "grid"), [(0, (6, 8)), (4, (3, 4)), (8, (6, 8)), (99, (6, 8))]
)
def test_the_grid_and_the_frames_size_are_noted(
    tmp_path: Path, longest_side: int, grid: tuple[int, int]
) -> None:
    config = FlowConfig(preset="fast", longest_side=longest_side)
    extract_flow({"v": numbered_video(tmp_path / "v", 3)}, tmp_path / "f.h5", config, 0)
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["videos/v"].shape == (3, 2, *grid)
        assert file["videos/v"].attrs["frame_size"].tolist() == [6, 8]
        assert dict(file.attrs) == {
            "format": "aamn-flow",
            "version": 1,
            "method": "dis",
            "preset": "fast",
            "weights": "",
            "longest_side": longest_side,
        }


def test_a_file_written_as_the_format_says_is_read(tmp_path: Path) -> None:
    flow = np.arange(3 * 2 * 4 * 5).reshape(3, 2, 4, 5)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.attrs.update({"format": "aamn-flow", "version": 1, "method": "dis"})
        file["videos/a%2Fb%25"] = flow.astype(np.float16)
    store = FlowStore.read(tmp_path / "f.h5")
    assert store.video_ids == ["a/b%"] and "a/b%" in store and "a%2Fb%25" not in store
    assert np.array_equal(store.window("a/b%", np.array([2, 0])), flow[[2, 0]])


def test_frames_outside_a_video_are_named(tmp_path: Path) -> None:
    extract_flow({"v": numbered_video(tmp_path / "v", 3)}, tmp_path / "f.h5", FlowConfig(), 0)
    store = FlowStore.read(tmp_path / "f.h5")
    for indices, frame in (([-1, 2], "-1"), ([0, 3], "3")):
        with pytest.raises(InputError, match=rf"f\.h5: wanted frame {frame} of v, .* has 3"):
            store.window("v", np.array(indices))
    with pytest.raises(InputError, match=r"f\.h5 has no flow of video other"):
        store.frame_count("other")


def test_a_process_opens_the_file_once_and_never_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_flow({"v": numbered_video(tmp_path / "v", 3)}, tmp_path / "f.h5", FlowConfig(), 0)
    store = FlowStore.read(tmp_path / "f.h5")
    opened, real = [], flow_store._open
    monkeypatch.setattr(flow_store, "_open", lambda path: opened.append(path) or real(path))
    for frame in (0, 1):
        store.window("v", np.array([frame]))
    assert len(opened) == 1
    copy = pickle.loads(pickle.dumps(store))
    assert copy.window("v", np.array([1]))[0, 0, 0, 0] == 1.25 and len(opened) == 2
    monkeypatch.setattr(flow_store.os, "getpid", lambda: -7)  # as after a fork
    assert store.window("v", np.array([2])).any() and len(opened) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [("method", "farneback"), ("preset", "fast"), ("weights", "x.pt"), ("longest_side", 4)],
)
def test_flow_of_another_kind_is_refused_and_the_file_kept(
    tmp_path: Path, key: str, value: object
) -> None:
    out, video = tmp_path / "f.h5", numbered_video(tmp_path / "v", 2)
    extract_flow({"v": video}, out, FlowConfig(), 0)
    before = out.read_bytes()
    with pytest.raises(InputError, match=rf"f\.h5 was made with another flow\.{key} "):
        extract_flow({"v": video, "w": video}, out, FlowConfig(**{key: value}), 0)
    assert out.read_bytes() == before


def test_an_interrupted_run_goes_on_only_as_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    out = tmp_path / "f.h5"
    videos = {"v": numbered_video(tmp_path / "v", 3)}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(flow_store, "_join", killed)
        with pytest.raises(KeyboardInterrupt):
            extract_flow(videos, out, FlowConfig(), 0)
    assert not out.exists() and calls == [0, 1]
    with pytest.raises(InputError, match=r"f\.h5\.parts/.* another flow\.preset \('medium'\)"):
        extract_flow(videos, out, FlowConfig(preset="fast"), 0)
    assert extract_flow(videos, out, FlowConfig(), 0) == {}
    assert calls == [0, 1]  # nothing was computed twice
    assert FlowStore.read(out).window("v", np.array([1]))[0, 0, 0, 0] == 1.25
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.h5", "v"]


def test_a_video_that_failed_is_tried_again_and_the_others_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, calls: list[int]
) -> None:
    out, late = tmp_path / "f.h5", tmp_path / "late"
    videos = {"v": numbered_video(tmp_path / "v", 3), "late": late}
    assert list(extract_flow(videos, out, FlowConfig(), 0)) == ["late"]
    assert FlowStore.read(out).video_ids == ["v"]
    numbered_video(late, 3, start=40)
    calls.clear()
    with caplog.at_level(logging.INFO, "aamn"):
        assert extract_flow(videos, out, FlowConfig(), 0) == {}
    assert calls == [40, 41] and "1 of 2 videos are there already" in caplog.text
    store = FlowStore.read(out)
    starts = {v: store.window(v, np.array([0]))[0, 0, 0, 0] for v in store.video_ids}
    assert starts == {"late": 40.25, "v": 0.25}


def test_where_all_is_there_the_file_is_not_written_again(tmp_path: Path, calls: list[int]) -> None:
    out, videos = tmp_path / "f.h5", {"v": numbered_video(tmp_path / "v", 3)}
    extract_flow(videos, out, FlowConfig(), 0)
    before = out.stat().st_ino, out.stat().st_mtime_ns
    calls.clear()
    assert extract_flow(videos, out, FlowConfig(), 0) == {}
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == before and calls == []
    assert not (tmp_path / "f.h5.parts").exists()


def test_two_runs_do_not_write_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, videos = tmp_path / "f.h5", {"v": numbered_video(tmp_path / "v", 2)}

    def meanwhile(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        with pytest.raises(InputError, match=r"f\.h5 is being written by process \d+"):
            extract_flow(videos, out, FlowConfig(), 0)
        return seen_pair(one, two)

    monkeypatch.setattr(flow_store, "build_estimator", lambda config: meanwhile)
    assert extract_flow(videos, out, FlowConfig(), 0) == {}
    assert FlowStore.read(out).window("v", np.array([0]))[0, 0, 0, 0] == 0.25


def test_parts_that_are_in_the_file_already_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, videos = tmp_path / "f.h5", {"v": numbered_video(tmp_path / "v", 2)}

    real = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "f.h5.parts" and path.suffix == ".h5":
            raise KeyboardInterrupt
        real(path, missing_ok)

    with monkeypatch.context() as patch:  # between the file and the parts' end
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            extract_flow(videos, out, FlowConfig(), 0)
    assert extract_flow({**videos, "w": videos["v"]}, out, FlowConfig(), 0) == {}
    assert FlowStore.read(out).video_ids == ["v", "w"]
    assert not (tmp_path / "f.h5.parts").exists()


def test_where_every_video_fails_there_is_a_file_without_videos(tmp_path: Path) -> None:
    assert list(extract_flow({"v": tmp_path / "none"}, tmp_path / "f.h5", FlowConfig(), 0)) == ["v"]
    assert FlowStore.read(tmp_path / "f.h5").video_ids == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file/f\.h5"):
        extract_flow({}, tmp_path / "file" / "f.h5", FlowConfig(), 0)


class Pool:
    """A pool that works at once in this process, or whose processes die."""

    sizes: tuple[int, ...] = ()
    dies = False

    def __init__(self, workers: int, *_: object) -> None:
        Pool.sizes = (*Pool.sizes, workers)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: object, job: object) -> Future:
        future = Future()
        if Pool.dies:
            future.set_exception(BrokenProcessPool("killed"))
        else:
            future.set_result(function(job))
        return future


@pytest.mark.parametrize(
    ("workers", "videos", "sizes"),
    [(8, 3, (3,)), (2, 3, (2,)), (1, 2, (1,)), (0, 3, ()), (4, 1, ())],
)
def test_processes_are_at_most_as_many_as_videos(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    videos: int,
    sizes: tuple[int, ...],
) -> None:
    monkeypatch.setattr(workers_of, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(Pool, "sizes", ())
    paths = {f"v{n}": numbered_video(tmp_path / f"v{n}", 2, n) for n in range(videos)}
    failures = extract_flow({**paths}, tmp_path / "f.h5", FlowConfig(), workers)
    store = FlowStore.read(tmp_path / "f.h5")
    starts = {v: store.window(v, np.array([0]))[0, 0, 0, 0] for v in store.video_ids}
    assert (failures, Pool.sizes) == ({}, sizes)
    assert starts == {f"v{n}": n + 0.25 for n in range(videos)}


def test_failures_come_out_of_the_processes_and_their_death_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_of, "ProcessPoolExecutor", Pool)
    videos = {"v": numbered_video(tmp_path / "v", 2), "none": tmp_path / "none"}
    failures = extract_flow(videos, tmp_path / "f.h5", FlowConfig(), 2)
    assert list(failures) == ["none"] and str(tmp_path / "none") in failures["none"]
    monkeypatch.setattr(Pool, "dies", True)
    with pytest.raises(InputError, match="a worker process died"):
        extract_flow({**videos, "w": videos["v"]}, tmp_path / "f.h5", FlowConfig(), 2)


@pytest.mark.parametrize(
    ("named", "flow", "there"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_the_file_is_opened_where_flow_is_wanted(
    tmp_path: Path, named: bool, flow: bool, there: bool
) -> None:
    out = tmp_path / "f.h5"
    extract_flow({"v": numbered_video(tmp_path / "v", 2)}, out, FlowConfig(), 0)
    store = stored_flow(out if named else None, InputSpec((0,), (8, 8), flow, 0), FlowConfig())
    assert (store is not None) == there
    if there:
        assert store.video_ids == ["v"]
    with pytest.raises(InputError, match=r"no flow file at .*none\.h5"):
        stored_flow(tmp_path / "none.h5", InputSpec((0,), (8, 8), True, 0), FlowConfig())
