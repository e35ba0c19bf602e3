"""Flow: its direction and unit, windows, grids, and the file."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.models.optical_flow import raft_small

from aamn.config.schema import FlowConfig
from aamn.data.flow import raft
from aamn.data.flow.estimators import (
    build_estimator,
    flow_between,
    grid_size,
    iterate_flow,
    resize_flow,
    wanted_flow,
    window_flow,
)
from aamn.data.flow.raft import load_raft
from aamn.data.flow.store import FlowStore, extract_flow
from proposals.errors import InputError
from proposals.frames import FrameSource, open_frames


def sliding_texture(count: int, step: tuple[int, int]) -> np.ndarray:
    """Frames (count, 60, 80, 3) of a texture that moves by `step` (x, y) pixels a frame."""
    rng = np.random.default_rng(1)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (120, 160), np.uint8), (0, 0), 2.5)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    views = [wide[30 - n * step[1] :, 40 - n * step[0] :][:60, :80] for n in range(count)]
    return np.repeat(np.stack(views)[..., None], 3, -1)


@pytest.mark.parametrize("method", ["dis", "farneback"])
@pytest.mark.parametrize("step", [(3, 0), (0, -2), (-2, 1)])
def test_flow_points_to_the_next_frame_in_pixels(method: str, step: tuple[int, int]) -> None:
    flow = flow_between(sliding_texture(3, step), build_estimator(FlowConfig(method=method)))
    assert flow.shape == (3, 2, 60, 80) and flow.dtype == np.float32
    inside = np.median(flow[:, :, 15:-15, 15:-15], axis=(2, 3))
    assert np.allclose(inside, step, atol=0.2)
    assert np.array_equal(flow[2], flow[1])  # the last frame has no successor


def test_a_single_frame_does_not_move() -> None:
    flow = flow_between(sliding_texture(1, (0, 0)), build_estimator(FlowConfig()))
    assert flow.shape == (1, 2, 60, 80) and not flow.any()


def test_presets_differ() -> None:
    frames = sliding_texture(2, (3, 1))
    flows = {
        preset: flow_between(frames, build_estimator(FlowConfig(preset=preset)))
        for preset in ("ultrafast", "medium")
    }
    assert not np.array_equal(flows["ultrafast"], flows["medium"])


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_a_preset_is_opencvs_of_that_name(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, create = [], cv2.DISOpticalFlow.create
    known = SimpleNamespace(create=lambda number: asked.append(number) or create(number))
    monkeypatch.setattr(cv2, "DISOpticalFlow", known)
    build_estimator(FlowConfig(preset=preset))
    assert asked == [getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}")]


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_red_weighs_more_than_blue(method: str) -> None:
    """Red moves right and blue left; the eye, and frames in RGB, see the red."""
    frames = np.zeros((2, 60, 80, 3), np.uint8)
    frames[..., 0] = sliding_texture(2, (3, 0))[..., 0]
    frames[..., 2] = sliding_texture(2, (-3, 0))[..., 0]
    flow = build_estimator(FlowConfig(method=method))(frames[0], frames[1])
    assert np.median(flow[0, 15:-15, 15:-15]) > 1


def numbered(count: int) -> np.ndarray:
    """Frames (count, 12, 16, 3); every pixel of frame n is n."""
    values = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(values, (count, 12, 16, 3))


def seen_pair(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Flow that tells the numbers of the two frames it was estimated from, as (x, y)."""
    pair = np.array([one[0, 0, 0], two[0, 0, 0]], np.float32)
    return np.broadcast_to(pair[:, None, None], (2, *one.shape[:2])).copy()


@pytest.mark.parametrize(
    ("count", "pairs"),
    [
        (0, []),
        (1, [[0, 0]]),
        (2, [[0, 1], [0, 1]]),
        (4, [[0, 1], [1, 2], [2, 3], [2, 3]]),
    ],
)
def test_flow_goes_from_each_frame_to_the_next(count: int, pairs: list[list[int]]) -> None:
    flows = list(iterate_flow(iter(numbered(count)), seen_pair))
    assert [flow[:, 0, 0].tolist() for flow in flows] == pairs
    assert {flow.shape for flow in flows} <= {(2, 12, 16)}


class Numbered(FrameSource):
    """`numbered` frames as a video."""

    def __init__(self, count: int) -> None:
        self.path, self.size, self.fps, self.announced = Path("numbered"), (12, 16), 25.0, count
        self.frames = numbered(count)

    def __len__(self) -> int:
        return len(self.frames)

    def _frame(self, index: int) -> np.ndarray | None:
        return self.frames[index] if index < len(self.frames) else None

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("count", "indices", "starts"),
    [
        (5, [1, 2, 3], [1, 2, 3]),
        (5, [0, 0, 0, 1], [0, 0, 0, 1]),
        (5, [3, 4, 4], [3, 3, 3]),
        (5, [4, 0, 2], [3, 0, 2]),
        (2, [0, 1], [0, 0]),
    ],
)
def test_the_flow_of_a_window_frame_by_frame(
    count: int, indices: list[int], starts: list[int]
) -> None:
    estimated = []

    def estimate(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        estimated.append(one.shape)
        return seen_pair(one, two)

    flow = window_flow(Numbered(count), np.array(indices), (6, 9), estimate)
    assert flow[:, :, 0, 0].tolist() == [[n, n + 1] for n in starts]
    assert (flow == flow[..., :1, :1]).all()
    assert flow.shape == (len(indices), 2, 6, 9)
    assert estimated == [(6, 9, 3)] * len(set(starts))  # at the wanted size, each pair once


def test_the_window_of_a_single_frame_stands_still() -> None:
    flow = window_flow(Numbered(1), np.array([0, 0, 0]), (6, 9), seen_pair)
    assert flow.shape == (3, 2, 6, 9) and flow.dtype == np.float32 and not flow.any()


@pytest.mark.parametrize(
    ("size", "longest", "grid"),
    [
        ((320, 568), 256, (144, 256)),
        ((320, 568), 0, (320, 568)),
        ((120, 160), 256, (120, 160)),
        ((568, 320), 256, (256, 144)),
        ((4, 1000), 100, (1, 100)),
        ((1000, 4), 100, (100, 1)),
        ((100, 100), 99, (99, 99)),
    ],
)
def test_grid_size(size: tuple[int, int], longest: int, grid: tuple[int, int]) -> None:
    assert grid_size(size, longest) == grid


@pytest.mark.parametrize(
    ("size", "x", "y"),
    [((20, 20), 3, -4), ((10, 40), 6, -2), ((5, 10), 1.5, -1), ((10, 20), 3, -2)],
)
def test_flow_is_in_pixels_of_its_grid(size: tuple[int, int], x: float, y: float) -> None:
    flow = np.empty((1, 2, 10, 20), np.float32)
    flow[:, 0], flow[:, 1] = 3, -2
    other = resize_flow(flow, size)
    assert other.shape == (1, 2, *size) and other.dtype == np.float32
    assert np.allclose(other[0, 0], x) and np.allclose(other[0, 1], y)


def test_flow_on_another_grid_keeps_its_meaning() -> None:
    flow = np.zeros((2, 2, 10, 20), np.float32)
    flow[:, 0], flow[:, 1] = 3, -2
    finer = resize_flow(flow, (30, 40))
    assert finer.shape == (2, 2, 30, 40)
    assert np.allclose(finer[:, 0], 6) and np.allclose(finer[:, 1], -6)
    flow[0, 0, :, :10] = 0  # the left half stands still
    finer = resize_flow(flow, (30, 40))
    assert np.allclose(finer[0, 0, :, :18], 0) and np.allclose(finer[0, 0, :, 22:], 6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FlowConfig(method="raft", weights="nowhere.pt"), "nowhere.pt"),
        (FlowConfig(method="raft"), "flow.weights"),
    ],
)
def test_what_cannot_be_estimated_is_said(config: FlowConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_estimator(config)


def test_window_equals_the_whole_video(a2d_root: Path) -> None:
    estimate = build_estimator(FlowConfig())
    with open_frames(a2d_root / "Release" / "clips320H" / "--first.mp4") as frames:
        whole = flow_between(list(frames.iterate()), estimate)
        for indices in ([0, 0, 1], [4, 2, 9], [10, 11, 11], [11]):
            window = window_flow(frames, np.array(indices), frames.size, estimate)
            assert np.array_equal(window, whole[indices])


@pytest.fixture
def videos(a2d_root: Path) -> dict[str, Path]:
    folder = a2d_root / "Release" / "clips320H"
    return {path.stem: path for path in sorted(folder.glob("*.mp4"))}


def test_the_file_holds_what_was_computed(videos: dict[str, Path], tmp_path: Path) -> None:
    config = FlowConfig(longest_side=32)
    out = tmp_path / "flow.h5"
    assert extract_flow(videos, out, config, workers=0) == {}
    store = pickle.loads(pickle.dumps(FlowStore.read(out)))
    assert store.video_ids == ["--first", "sec_ond", "third-3"]
    assert store.frame_count("--first") == 12 and "other" not in store
    assert store.attributes["preset"] == "medium" and store.attributes["longest_side"] == 32
    with open_frames(videos["--first"]) as frames:
        small = [cv2.resize(f, (32, 24), interpolation=cv2.INTER_AREA) for f in frames.iterate()]
    whole = flow_between(small, build_estimator(config))
    window = store.window("--first", np.array([3, 3, 11, 0]))
    assert window.dtype == np.float32
    assert np.array_equal(window, whole[[3, 3, 11, 0]].astype(np.float16))


def test_a_broken_video_is_reported_and_the_rest_kept(
    videos: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "flow.h5"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(videos["--first"].read_bytes()[:500])
    failures = extract_flow({**videos, "broken": broken}, out, FlowConfig(), workers=0)
    assert list(failures) == ["broken"] and "no frame can be decoded" in failures["broken"]
    assert len(FlowStore.read(out).video_ids) == 3


def test_whatever_kills_it_a_second_run_ends_it(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "flow.h5"
    real = h5py.Group.create_dataset
    calls = []

    def killed(self, name, *args, **keywords):
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, name, *args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(h5py.Group, "create_dataset", killed)
        with pytest.raises(KeyboardInterrupt):
            extract_flow(videos, out, FlowConfig(), workers=0)
    assert not out.exists()
    calls.clear()

    def counted(self, name, *args, **keywords):
        calls.append(name)
        return real(self, name, *args, **keywords)

    monkeypatch.setattr(h5py.Group, "create_dataset", counted)
    extract_flow(videos, out, FlowConfig(), workers=0)
    assert calls == ["sec_ond", "third-3"]  # the first was there
    assert len(FlowStore.read(out).video_ids) == 3
    assert [path.name for path in tmp_path.iterdir() if path != tmp_path / "a2d"] == ["flow.h5"]


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "flow.h5"
    real, synced = os.fsync, []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 3:  # the second video's, after a file and its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"cannot write .*no space left.*make room"):
            extract_flow(videos, out, FlowConfig(), workers=0)
    assert extract_flow(videos, out, FlowConfig(), workers=0) == {}
    assert FlowStore.read(out).video_ids == ["--first", "sec_ond", "third-3"]


@pytest.mark.slow
def test_videos_are_added_to_a_file_but_not_in_another_way(
    videos: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "flow.h5"
    extract_flow({"--first": videos["--first"]}, out, FlowConfig(), workers=0)
    extract_flow(videos, out, FlowConfig(), workers=2)
    assert FlowStore.read(out).video_ids == ["--first", "sec_ond", "third-3"]
    with pytest.raises(InputError, match=r"another flow.preset \('medium'\)"):
        extract_flow(videos, out, FlowConfig(preset="fast"), workers=0)


def test_ids_with_slashes(videos: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "flow.h5"
    extract_flow({"a/b%2F": videos["sec_ond"]}, out, FlowConfig(), workers=0)
    store = FlowStore.read(out)
    assert store.video_ids == ["a/b%2F"] and store.window("a/b%2F", np.array([0])).any()


def test_what_the_file_lacks_is_named(videos: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "flow.h5"
    extract_flow({"sec_ond": videos["sec_ond"]}, out, FlowConfig(), workers=0)
    store = FlowStore.read(out)
    with pytest.raises(InputError, match="no flow of video --first"):
        store.window("--first", np.array([0]))
    with pytest.raises(InputError, match="wanted frame 8 of sec_ond, the file has 8"):
        store.window("sec_ond", np.array([7, 8]))
    with pytest.raises(InputError, match="no flow file at"):
        FlowStore.read(tmp_path / "none.h5")
    h5py.File(tmp_path / "other.h5", "w").close()
    with pytest.raises(InputError, match="is no flow file"):
        FlowStore.read(tmp_path / "other.h5")
    with h5py.File(out, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(InputError, match="version 99"):
        FlowStore.read(out)
    out.write_bytes(out.read_bytes()[:300])
    with pytest.raises(InputError, match="is no flow file, or a damaged one"):
        FlowStore.read(out)


def test_raft_with_the_weights_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "raft.pt"
    torch.manual_seed(0)
    model = raft_small()
    torch.save(model.state_dict(), path)
    estimate = build_estimator(FlowConfig(method="raft", weights=str(path)))
    one, two = sliding_texture(2, (3, 1))
    wide = [torch.from_numpy(np.ascontiguousarray(f)).permute(2, 0, 1)[None] for f in (one, two)]
    resized = [
        interpolate(f / 127.5 - 1, (128, 128), mode="bilinear", antialias=True) for f in wide
    ]
    with torch.inference_mode():
        wanted = interpolate(model.eval()(*resized)[-1], (60, 80), mode="bilinear")[0]
    wanted = wanted.numpy() * np.array([80 / 128, 60 / 128])[:, None, None]
    assert np.allclose(estimate(one, two), wanted, atol=1e-3)
    torch.save({"weight": torch.zeros(1)}, path)
    load_raft.cache_clear()
    with pytest.raises(InputError, match="fits neither"):
        build_estimator(FlowConfig(method="raft", weights=str(path)))


@pytest.mark.parametrize(
    ("gpu", "loading", "wanted"),
    [(True, False, "cuda"), (True, True, "cpu"), (False, False, "cpu")],
)
def test_raft_lies_on_the_gpu_save_in_a_loading_process(
    tmp_path, monkeypatch, gpu, loading, wanted
):
    torch.save(raft_small().state_dict(), tmp_path / "raft.pt")
    moved = []
    monkeypatch.setattr(raft.nn.Module, "to", lambda self, device: moved.append(device) or self)
    monkeypatch.setattr(raft.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(raft, "get_worker_info", lambda: object() if loading else None)
    raft.load_raft.__wrapped__(str(tmp_path / "raft.pt"))
    assert moved == [wanted]


@pytest.mark.parametrize("size", [(16, 4000), (1, 300), (4000, 16), (1, 1), (20, 80)])
@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_dis_takes_frames_of_any_shape(size, preset):
    """OpenCV's refuses some, and ends the process in others."""
    frame = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    flow = build_estimator(FlowConfig(method="dis", preset=preset))(frame, frame)
    assert flow.shape == (2, *size) and np.abs(flow).max() < 1


@pytest.mark.parametrize(
    ("count", "wanted", "flows"),
    [
        (4, (0, 1, 2, 3), [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 2, 3)]),
        (4, (0, 2), [(0, 0, 1), (2, 2, 3)]),
        (4, (0, 3), [(0, 0, 1), (3, 2, 3)]),  # the last one has that of the frame before it
        (1, (0,), [(0, 0, 0)]),
        (3, (), []),
        (0, (0,), []),
    ],
)
def test_flow_of_the_wanted_frames_alone(count, wanted, flows):
    asked = []

    def estimate(one, two):
        asked.append((int(one[0, 0, 0]), int(two[0, 0, 0])))
        return np.stack([one[..., 0], two[..., 0]]).astype(np.float32)

    frames = [np.full((2, 3, 3), number, np.uint8) for number in range(count)]
    found = [(n, *f[:, 0, 0]) for n, f in wanted_flow(frames, estimate, wanted.__contains__)]
    assert found == flows and len(asked) == len({*asked})
