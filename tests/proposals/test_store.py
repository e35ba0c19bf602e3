"""The proposals file: what is written is what is read, and nothing wrong gets in."""

import fcntl
import os
import pickle
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from proposals import files as files_module
from proposals import store as store_module
from proposals import store_writer as writer_module
from proposals.errors import InputError
from proposals.store import Attributes, ProposalStore, shard_path
from proposals.store_writer import write_proposals

SIZE = (60, 80)  # H0, W0
CLASSES = ("adult", "ball", "car")


def boxes_of(seed: int, counts=(3, 0, 5, 1)):
    """Boxes, scores and labels of one video, one array a frame."""
    rng = np.random.default_rng(seed)
    boxes, scores, labels = [], [], []
    for n in counts:
        low = rng.uniform(0, 40, (n, 2))
        boxes.append(np.concatenate([low, low + rng.uniform(1, 20, (n, 2))], 1).astype(np.float32))
        scores.append(np.sort(rng.random(n).astype(np.float32))[::-1])
        labels.append(rng.integers(0, len(CLASSES), n))
    return boxes, scores, labels


def write(path: Path, videos: dict[str, int], **changes) -> Path:
    with write_proposals(path, "mine", classes=CLASSES, **changes) as store:
        for video_id, seed in videos.items():
            if video_id not in store:
                store.add(video_id, *boxes_of(seed), frame_size=SIZE)
    return path


@pytest.fixture
def file(tmp_path) -> Path:
    return write(tmp_path / "proposals.h5", {"b": 1, "-a_": 2, "ü (1) copy": 3})


def test_what_is_written_is_read(file):
    store = ProposalStore.read(file)
    assert store.video_ids == ["-a_", "b", "ü (1) copy"] and len(store) == 3
    assert (store.frame_count("b"), store.frame_size("b")) == (4, SIZE)
    for video_id, seed in (("b", 1), ("-a_", 2), ("ü (1) copy", 3)):
        window = store.window(video_id, range(4), top=5)
        for frame, (boxes, scores, labels) in enumerate(zip(*boxes_of(seed), strict=True)):
            n = len(boxes)
            assert window.valid[frame].tolist() == [True] * n + [False] * (5 - n)
            np.testing.assert_array_equal(window.boxes[frame, :n], boxes)
            np.testing.assert_array_equal(window.scores[frame, :n], scores)
            np.testing.assert_array_equal(window.labels[frame, :n], labels)
            assert not window.boxes[frame, n:].any() and not window.scores[frame, n:].any()


@pytest.mark.parametrize("frames", [[0], [3, 3, 0], [2, 1, 0], [0, 0, 1, 2, 2], []], ids=str)
@pytest.mark.parametrize("top", [1, 3, 100])
def test_a_window_is_its_frames_one_by_one(file, frames, top):
    store = ProposalStore.read(file)
    window = store.window("b", frames, top)
    assert window.boxes.shape == (len(frames), top, 4)
    assert (window.boxes.dtype, window.labels.dtype) == (np.float32, np.int64)
    for row, frame in enumerate(frames):
        alone = store.window("b", [frame], top)
        for name in ("boxes", "scores", "labels", "valid"):
            np.testing.assert_array_equal(getattr(window, name)[row], getattr(alone, name)[0])


QUICK = (Phase.explicit, Phase.generate)  # the examples are small: nothing to shrink
EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True, phases=QUICK)
IDS = st.text(min_size=1, max_size=30).filter(str.isprintable)


@st.composite
def videos(
    draw, least: int = 0
) -> tuple[tuple[int, int], list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """A frame size (H0, W0), and of one to four frames at least `least` boxes, scores, labels."""
    h0, w0 = draw(st.integers(1, 500)), draw(st.integers(1, 500))
    side = st.integers(0, 99).flatmap(lambda a: st.tuples(st.just(a), st.integers(a + 1, 100)))
    one = st.tuples(side, side, st.integers(-80, 80), st.integers(0, 2))
    boxes, scores, labels = [], [], []
    for frame in draw(st.lists(st.lists(one, min_size=least, max_size=3), min_size=1, max_size=4)):
        corners = [[x[0], y[0], x[1], y[1]] for x, y, _, _ in frame]
        sides = np.array([w0, h0, w0, h0]) / 100
        boxes.append((np.array(corners).reshape(-1, 4) * sides).astype(np.float32))
        scores.append(np.array(sorted((s / 16 for *_, s, _ in frame), reverse=True), np.float32))
        labels.append(np.array([label for *_, label in frame], int))
    return (h0, w0), boxes, scores, labels


def read_by_hand(one, frame: int, top: int) -> tuple[list, list, list]:
    """What a window holds of a frame: its first `top` boxes, and zeros."""
    _, boxes, scores, labels = one
    rows = [
        (boxes[frame][k].tolist(), float(scores[frame][k]), int(labels[frame][k]), True)
        if k < len(scores[frame])
        else ([0.0] * 4, 0.0, 0, False)
        for k in range(top)
    ]
    return tuple(list(part) for part in zip(*rows, strict=True))


@pytest.fixture(scope="module")
def unsynced():
    """Waiting for the disk is not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_module.os, "fsync", lambda _: None)
        yield


@EXAMPLES
@given(
    several=st.dictionaries(IDS, videos(), min_size=1, max_size=3),
    top=st.integers(1, 5),
    data=st.data(),
)
def test_any_valid_videos_come_back_in_any_window(tmp_path_factory, unsynced, several, top, data):
    path = tmp_path_factory.mktemp("any") / "p.h5"
    with write_proposals(path, "mine", classes=CLASSES) as writer:
        for video_id, (size, *arrays) in several.items():
            writer.add(video_id, *arrays, frame_size=size)
    store = ProposalStore.read(path)
    assert store.video_ids == sorted(several)
    for video_id, video in several.items():
        count = len(video[1])
        assert (store.frame_count(video_id), store.frame_size(video_id)) == (count, video[0])
        frames = data.draw(st.lists(st.integers(0, count - 1), max_size=6))
        window = store.window(video_id, frames, top)
        assert len(window.valid) == len(frames)
        for row, frame in enumerate(frames):
            got = (window.boxes, window.scores, window.labels, window.valid)
            assert tuple(a[row].tolist() for a in got) == read_by_hand(video, frame, top)


FAULTS = {
    "a coordinate that is no number": lambda b, s, c: (b * np.nan, s, c),
    "an endless coordinate": lambda b, s, c: (b + [0, 0, np.inf, 0], s, c),
    "sides that are swapped": lambda b, s, c: (b[:, [2, 1, 0, 3]], s, c),
    "ends that are swapped": lambda b, s, c: (b[:, [0, 3, 2, 1]], s, c),
    "no width": lambda b, s, c: (b[:, [0, 1, 0, 3]], s, c),
    "no height": lambda b, s, c: (b[:, [0, 1, 2, 1]], s, c),
    "left of the frame": lambda b, s, c: (b * [0, 1, 1, 1] - [1, 0, 0, 0], s, c),
    "above the frame": lambda b, s, c: (b * [1, 0, 1, 1] - [0, 1, 0, 0], s, c),
    "right of the frame": lambda b, s, c: (b + [0, 0, 500, 0], s, c),
    "below the frame": lambda b, s, c: (b + [0, 0, 0, 500], s, c),
    "three coordinates": lambda b, s, c: (b[:, :3], s, c),
    "a box too many": lambda b, s, c: (np.concatenate([b, b[:1]]), s, c),
    "a score too few": lambda b, s, c: (b, s[1:], c),
    "a label too few": lambda b, s, c: (b, s, c[1:]),
    "a score that is no number": lambda b, s, c: (b, s + np.nan, c),
    "scores that rise": lambda b, s, c: (
        np.concatenate([b, b]), np.concatenate([s, s + 11]), np.concatenate([c, c]),
    ),
    "a label below the first": lambda b, s, c: (b, s, c - 3),
    "a label past the last": lambda b, s, c: (b, s, c + 3),
    "half a label": lambda b, s, c: (b, s, c + 0.5),
    "labels in two columns": lambda b, s, c: (b, s, np.stack([c, c], 1)),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@settings(EXAMPLES, max_examples=5)
@given(video=videos(least=1), video_id=IDS, data=st.data())
def test_any_fault_is_refused_by_its_place(tmp_path_factory, fault, video, video_id, data):
    size, *arrays = video
    frame = data.draw(st.integers(0, len(arrays[0]) - 1))
    wrong = FAULTS[fault](*(part[frame] for part in arrays))
    for part, value in zip(arrays, wrong, strict=True):
        part[frame] = value
    path = tmp_path_factory.mktemp("wrong") / "p.h5"
    with (
        pytest.raises(InputError) as caught,
        write_proposals(path, "mine", classes=CLASSES) as writer,
    ):
        writer.add(video_id, *arrays, frame_size=size)
    message = str(caught.value)
    assert str(path) in message and f"video {video_id}, frame {frame}:" in message
    assert not path.exists() and not path.with_name("p.h5.parts").exists()


PLACES = ["..", ".", "../p", "/tmp/p", "a/b", "a\\b", "p.h5", "lock", "A", "a", "~", "*", "a.h5"]


@EXAMPLES
@given(ids=st.lists(IDS, min_size=2, max_size=4, unique=True))
@example(ids=PLACES)
def test_any_ids_are_different_videos_and_no_id_is_a_path(tmp_path_factory, unsynced, ids):
    folder, ids = tmp_path_factory.mktemp("ids"), sorted(ids)
    path = folder / "x" / "p.h5"
    with suppress(KeyError), write_proposals(path, "mine", classes=CLASSES) as writer:
        for number, video_id in enumerate(ids):
            assert video_id not in writer
            writer.add(video_id, *boxes_of(number), frame_size=(60, 80 + number))
        raise KeyError  # so that the files of the videos stay apart
    parts = folder / "x/p.h5.parts"
    written = [p for p in folder.rglob("*") if p.is_file()]
    assert len(written) == len(ids) and {p.parent for p in written} == {parts}
    for close in (False, True):
        if close:
            with write_proposals(path, "mine", classes=CLASSES) as writer:
                assert all(video_id in writer for video_id in ids)
            assert [p for p in folder.rglob("*") if p.is_file()] == [path]
        store = ProposalStore.read(path)
        assert store.video_ids == ids
        assert [store.frame_size(video_id)[1] for video_id in ids] == [
            80 + number for number in range(len(ids))
        ]


def test_numbers_are_stored_in_the_types_of_the_contract(tmp_path):
    """Also where there is no box, and from lists, tensors and 64-bit arrays."""
    path = tmp_path / "p.h5"
    one = [[[1, 2, 30.5, 40]]], [[1]], [[2]]
    with write_proposals(path, "mine", classes=CLASSES) as writer:
        writer.add("v", *one, frame_size=np.array(SIZE))
        writer.add("none", [[], []], [[], []], [[], []], frame_size=(7, 9))
    with h5py.File(path) as file:
        types = {name: (data.dtype.str, data.shape) for name, data in file.items()}
        names = file["video_ids"].asstr()[:].tolist()
        starts = [file[name][:].tolist() for name in ("video_starts", "frame_starts", "frame_size")]
        assert dict(file.attrs) == {
            **{"format": "aamn-proposals", "version": 1},
            "attributes": '{"classes": ["adult", "ball", "car"], "detector": "mine",'
            ' "settings": {}, "weights": ""}',
        }
    assert names == ["none", "v"]
    assert starts == [[0, 2, 3], [0, 0, 0, 1], [[7, 9], list(SIZE)]]
    assert types == {
        **{"video_ids": ("|S4", (2,)), "frame_size": ("<i4", (2, 2))},
        **{"video_starts": ("<i8", (3,)), "frame_starts": ("<i8", (4,))},
        **{"boxes": ("<f4", (1, 4)), "scores": ("<f4", (1,)), "labels": ("<i4", (1,))},
        "checksums": ("<u4", (2,)),
    }
    window = ProposalStore.read(path).window("v", [0], 2)
    assert window.boxes[0, 0].tolist() == [1, 2, 30.5, 40] and window.labels[0, 0] == 2
    types = [a.dtype for a in (window.boxes, window.scores, window.labels, window.valid)]
    assert types == [np.float32, np.float32, np.int64, bool]


def test_a_file_without_any_box_has_empty_windows(tmp_path):
    with write_proposals(tmp_path / "p.h5", "mine") as writer:
        writer.add("v", [[]] * 3, [[]] * 3, [[]] * 3, frame_size=SIZE)
    window = ProposalStore.read(tmp_path / "p.h5").window("v", [2, 0], 4)
    assert window.boxes.shape == (2, 4, 4) and not window.boxes.any() and not window.valid.any()


def test_boxes_may_touch_the_frame_s_edges_and_scores_be_equal(tmp_path):
    h0, w0 = SIZE
    with write_proposals(tmp_path / "p.h5", "mine") as writer:
        boxes = [[0, 0, w0, h0], [0, 0, 1e-3, 1e-3]]
        writer.add("v", [boxes], [[0.5, 0.5]], [[0, 2**31 - 2]], frame_size=SIZE)
    window = ProposalStore.read(tmp_path / "p.h5").window("v", [0], 2)
    assert window.valid.all() and window.labels[0].tolist() == [0, 2**31 - 2]


def test_settings_have_no_order(tmp_path):
    first, second = tmp_path / "1.h5", tmp_path / "2.h5"
    write(first, {"a": 1}, settings={"size": 320, "nms": 0.5})
    write(second, {"a": 1}, settings={"nms": 0.5, "size": 320})
    assert first.read_bytes() == second.read_bytes()
    write(first, {"b": 1}, settings={"nms": 0.5, "size": 320})
    assert ProposalStore.read(first).attributes.settings == {"nms": 0.5, "size": 320}


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        (Attributes("a", "w", ("x",), {"n": 1}), ""),
        (Attributes("b", "w", ("x",), {"n": 1}), "detector: 'a', 'b'"),
        (Attributes("a", "v", ("x",), {"n": 1}), "weights: 'w', 'v'"),
        (Attributes("a", "w", ("y",), {"n": 1}), "classes: ('x',), ('y',)"),
        (Attributes("a", "w", ("x",), {"n": 2}), "n: 1, 2"),
        (Attributes("a", "w", ("x",), {"n": 1.0}), "n: 1, 1.0"),
        (Attributes("a", "w", ("x",), {}), "n: 1, nothing"),
        (Attributes("a", "w", ("x",), {"n": 1, "m": 0}), "m: nothing, 0"),
    ],
)
def test_the_first_difference_of_two_detectors(other, wanted):
    assert Attributes("a", "w", ("x",), {"n": 1}).difference(other) == wanted


def test_windows_read_mapped_arrays_of_a_file_that_is_opened_once(file, monkeypatch):
    """A thousand windows cost one opening and three mappings."""
    opened, mapped, real_file, real_map = [], [], h5py.File, np.memmap
    monkeypatch.setattr(h5py, "File", lambda *a, **k: opened.append(a) or real_file(*a, **k))
    monkeypatch.setattr(np, "memmap", lambda *a, **k: mapped.append(a) or real_map(*a, **k))
    store = ProposalStore.read(file)
    for frame in range(1000):
        store.window("b", [frame % 4], 3)
    assert (len(opened), len(mapped)) == (1, 3)


def test_a_pickled_store_leaves_its_boxes_in_the_file(tmp_path):
    counts = (3000,) * 3
    boxes, scores, labels = boxes_of(1, counts)
    with write_proposals(tmp_path / "p.h5", "mine", classes=CLASSES) as writer:
        writer.add("v", boxes, scores, labels, frame_size=SIZE)
    store = ProposalStore.read(tmp_path / "p.h5")
    store.window("v", [0], 5)
    assert len(pickle.dumps(store)) < 10_000


def test_a_closed_store_opens_again(file):
    with ProposalStore.read(file) as store:
        before = store.window("b", [2], 5)
    assert not any(opened._maps for opened in store._files)
    np.testing.assert_array_equal(store.window("b", [2], 5).boxes, before.boxes)


def test_nothing_gets_its_name_before_it_is_on_the_disk(tmp_path, monkeypatch):
    """Each file is synchronised before its renaming, and its folder after it."""
    synced, named, real_sync, real_replace = [], [], os.fsync, os.replace

    def fsync(descriptor):
        synced.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))
        real_sync(descriptor)

    def replace(source, target):
        status = os.stat(source)
        named.append((Path(target), (status.st_ino, status.st_size) in synced, len(synced)))
        real_replace(source, target)

    monkeypatch.setattr(files_module.os, "fsync", fsync)
    monkeypatch.setattr(files_module.os, "replace", replace)
    with write_proposals(tmp_path / "p.h5", "mine", classes=CLASSES) as writer:
        for video_id in ("a", "b"):
            writer.add(video_id, *boxes_of(1), frame_size=SIZE)
        parts = (tmp_path / "p.h5.parts").stat().st_ino
    folders = [parts, parts, tmp_path.stat().st_ino]
    assert [target.name for target, _, _ in named][2:] == ["p.h5"] and len(named) == 3
    for (_, durable, then), folder in zip(named, folders, strict=True):
        assert durable and synced[then][0] == folder


@pytest.mark.parametrize("counts", [(3000,), (0,) * 6000], ids=["boxes", "frames"])
def test_joining_knows_how_much_room_it_needs(tmp_path, monkeypatch, counts):
    """What the joined file needs beyond the margin, and not twice of it."""
    monkeypatch.setattr(writer_module, "_MARGIN", 1 << 13)
    path, free = tmp_path / "p.h5", []
    usage = type("Usage", (), {"free": property(lambda _: free[0])})
    monkeypatch.setattr(writer_module.shutil, "disk_usage", lambda _: usage())
    one, two = boxes_of(1, counts), boxes_of(2, (1,))
    bytes_needed = 2 * (24 * sum(counts) + 8 * len(counts))
    free.append(bytes_needed)
    with pytest.raises(InputError, match=r"no space left.*3 videos are kept"):
        _write_three(path, one, two)
    assert not path.exists()
    free[0] = bytes_needed + (1 << 14)
    _write_three(path, one, two)
    assert abs(path.stat().st_size - bytes_needed) < 1 << 14


def _write_three(path: Path, large, small) -> None:
    with write_proposals(path, "mine", classes=CLASSES) as writer:
        for video_id, arrays in (("a", small), ("b", large), ("c", large)):
            if video_id not in writer:
                writer.add(video_id, *arrays, frame_size=SIZE)


def test_parts_are_closed_once_they_are_copied(tmp_path, monkeypatch):
    """Thousands of them must not stay open."""
    mapped, real = [], writer_module._write_boxes

    def write_boxes(file, several):
        def counted():
            for video in several:
                yield video
                mapped.append(sum(bool(part._maps) for part in parts))

        real(file, counted())

    parts, init = [], store_module.StoredFile.__init__
    monkeypatch.setattr(writer_module, "_write_boxes", write_boxes)
    monkeypatch.setattr(
        store_module.StoredFile, "__init__", lambda self, p: parts.append(self) or init(self, p)
    )
    write(tmp_path / "p.h5", dict.fromkeys("abcdef", 1))
    assert len(parts) == 6 and max(mapped) <= 1


def test_an_unfinished_job_is_read_and_said_to_be_one(tmp_path, caplog):
    with suppress(KeyError), write_proposals(tmp_path / "p.h5", "mine") as writer:
        for video_id in ("a", "b"):
            writer.add(video_id, [[]], [[]], [[]], frame_size=SIZE)
        raise KeyError
    assert ProposalStore.read(tmp_path / "p.h5").video_ids == ["a", "b"]
    assert "p.h5: the job is unfinished" in caplog.text and "2 videos" in caplog.text
    assert ProposalStore.read(tmp_path).video_ids == ["a", "b"]  # the folder finds it too


def test_an_abandoned_writer_keeps_its_videos_and_frees_the_lock(tmp_path):
    with suppress(KeyError), write_proposals(tmp_path / "p.h5", "mine") as writer:
        writer.add("a", [[]], [[]], [[]], frame_size=SIZE)
        raise KeyError
    assert not (tmp_path / "p.h5").exists()
    with write_proposals(tmp_path / "p.h5", "mine") as again:
        assert "a" in again and "b" not in again
    again.close()  # a second time does nothing
    assert ProposalStore.read(tmp_path / "p.h5").video_ids == ["a"]


def test_a_store_travels_to_other_processes(file):
    store = ProposalStore.read(file)
    before = store.window("b", [2], 5)
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.window("b", [2], 5).boxes, before.boxes)


def test_the_example_of_the_format_page(tmp_path, monkeypatch):
    page = (Path(store_module.__file__).parent / "FORMAT.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(page.split("```python\n")[1].split("```")[0], {})
    window = ProposalStore.read("runs/mine.h5").window("clip", [24], 3)
    wanted = [[12, 30, 70, 110], [80, 20, 150, 90], [0, 0, 0, 0]]
    assert window.boxes.tolist() == [wanted] and window.labels.tolist() == [[0, 1, 0]]


def test_bytes_do_not_depend_on_the_order_or_on_stops(tmp_path):
    once = write(tmp_path / "once.h5", {"a": 1, "b": 2, "c": 3, "d": 4})
    twice = write(tmp_path / "twice.h5", {"d": 4, "b": 2})
    write(twice, {"a": 1, "b": 2, "c": 3})
    assert once.read_bytes() == twice.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["once.h5", "twice.h5"]


def test_an_exception_keeps_what_was_added(tmp_path):
    path = tmp_path / "p.h5"
    with (
        pytest.raises(ZeroDivisionError),
        write_proposals(path, "mine", classes=CLASSES) as store,
    ):
        store.add("a", *boxes_of(1), frame_size=SIZE)
        _ = 1 / 0
    assert not path.exists()
    assert ProposalStore.read(path).video_ids == ["a"]
    write(path, {"a": 1, "b": 2})
    assert path.read_bytes() == write(tmp_path / "q.h5", {"a": 1, "b": 2}).read_bytes()


def test_parts_left_by_a_kill_after_the_joining_do_no_harm(tmp_path, monkeypatch):
    path, whole = tmp_path / "p.h5", write(tmp_path / "whole.h5", {"a": 1, "b": 2})
    with monkeypatch.context() as patch:
        real = Path.unlink

        def unlink(self, missing_ok=False):
            if self.parent.name == "p.h5.parts" and self.suffix == ".h5":
                raise SystemExit
            real(self, missing_ok)

        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(SystemExit):
            write(path, {"a": 1, "b": 2})
    assert len(list((tmp_path / "p.h5.parts").glob("*.h5"))) == 2
    assert ProposalStore.read(path).video_ids == ["a", "b"]
    write(path, {"a": 1, "b": 2})
    assert path.read_bytes() == whole.read_bytes() and not (tmp_path / "p.h5.parts").exists()


def test_half_written_files_are_swept_away(tmp_path):
    parts = tmp_path / "p.h5.parts"
    parts.mkdir()
    (parts / ".0123abcd.h5.9f8e7d6c.tmp").write_bytes(b"\x89HDF")
    (tmp_path / ".p.h5.9f8e7d6c.tmp").write_bytes(b"\x89HDF")
    write(tmp_path / "p.h5", {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["p.h5"]


def test_an_empty_store(tmp_path):
    store = ProposalStore.read(write(tmp_path / "p.h5", {}))
    assert store.video_ids == [] and "a" not in store


def test_shards_are_read_as_one(tmp_path):
    whole = tmp_path / "p.h5"
    for index, videos in enumerate(({"a": 1, "c": 3}, {"b": 2}, {})):
        write(shard_path(whole, index, 3), videos)
    for place in (whole, tmp_path, tmp_path / "p.shard-*.h5"):
        store = ProposalStore.read(place)
        assert store.video_ids == ["a", "b", "c"]
        np.testing.assert_array_equal(store.window("b", [2], 5).boxes[0], boxes_of(2)[0][2])


def test_a_missing_shard_is_noticed(tmp_path):
    for index in (0, 2):
        write(shard_path(tmp_path / "p.h5", index, 12), {str(index): index})
    with pytest.raises(InputError, match=r"shard 1 of 12 is missing \(10 in all\).*--shard 1/12"):
        ProposalStore.read(tmp_path / "p.h5")


def test_shards_of_two_jobs_are_not_mixed(tmp_path):
    write(shard_path(tmp_path / "p.h5", 0, 2), {"a": 1})
    write(shard_path(tmp_path / "p.h5", 0, 3), {"b": 1})
    with pytest.raises(InputError, match="shards of 2 and of 3"):
        ProposalStore.read(tmp_path / "p.h5")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"videos": {"a": 1}}, "the video a is both in .*0.h5 and in .*1.h5"),
        ({"videos": {}, "weights": "f00"}, r"are of different detectors \(weights: '', 'f00'\)"),
        ({"videos": {}, "settings": {"nms": 0.5}}, r"different detectors \(nms: nothing, 0.5\)"),
    ],
)
def test_files_that_cannot_be_read_together(tmp_path, second, message):
    write(tmp_path / "0.h5", {"a": 1})
    write(tmp_path / "1.h5", **second)
    with pytest.raises(InputError, match=message):
        ProposalStore.read(tmp_path)


def test_another_detector_cannot_append(file):
    with pytest.raises(InputError, match=r"another detector than .* \(weights: '', 'abc'\)"):
        write(file, {}, weights="abc")
    assert ProposalStore.read(file).video_ids == ["-a_", "b", "ü (1) copy"]
    assert not Path(f"{file}.parts").exists()


def test_a_fresh_start_forgets_the_file_and_its_parts(tmp_path):
    path = write(tmp_path / "p.h5", {"a": 1})
    with suppress(KeyError), write_proposals(path, "mine", classes=CLASSES) as store:
        store.add("b", *boxes_of(2), frame_size=SIZE)
        raise KeyError
    write(path, {"c": 3}, weights="new", fresh=True)
    assert ProposalStore.read(path).video_ids == ["c"]


def test_a_fresh_start_waits_for_the_writer(tmp_path):
    path = write(tmp_path / "p.h5", {"a": 1})
    with (
        write_proposals(path, "mine", classes=CLASSES),
        pytest.raises(InputError, match="is being written by"),
    ):
        write_proposals(path, "other", fresh=True)
    assert ProposalStore.read(path).video_ids == ["a"]


BAD = np.array([[1.0, 2, 3, 4]], np.float32)
ONE, LABEL = np.array([0.5]), np.array([0])


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        ([[np.nan, 2, 3, 4]], ONE, LABEL, "video v, frame 0: box 0 is .*, wanted finite numbers"),
        ([[1, 2, np.inf, 4]], ONE, LABEL, "wanted finite numbers"),
        ([[3, 2, 1, 4]], ONE, LABEL, "wanted x1 < x2 and y1 < y2"),
        ([[1, 2, 3, 2]], ONE, LABEL, "wanted x1 < x2 and y1 < y2"),
        ([[-0.1, 2, 3, 4]], ONE, LABEL, r"inside the frame \(width 80, height 60\): clip it"),
        ([[1, 2, 3, 60.5]], ONE, LABEL, "inside the frame"),
        (np.concatenate([BAD, BAD]), [0.1, 0.2], [0, 0], "the scores rise"),
        (BAD, [np.nan], LABEL, "score 0 is not finite"),
        (BAD, ONE, [3], "label 0 is 3, wanted 0..2"),
        (BAD, ONE, [-1], "label 0 is -1, wanted 0..2"),
        (BAD, ONE, [0.5], r"labels \(n,\) of integers"),
        (BAD, [0.5, 0.4], LABEL, "got 1 boxes, 2 scores and 1 labels"),
        (BAD[:, :3], ONE, LABEL, r"wanted boxes \(n, 4\)"),
        ([["1", "2", "3", "4"]], ONE, LABEL, r"wanted boxes \(n, 4\)"),
        ([[1, 2, 3, 4], [1]], ONE, LABEL, r"wanted boxes \(n, 4\)"),
    ],
)
def test_wrong_boxes_do_not_get_in(tmp_path, boxes, scores, labels, message):
    with (
        pytest.raises(InputError, match=message),
        write_proposals(tmp_path / "p.h5", "mine", classes=CLASSES) as store,
    ):
        store.add("v", [boxes], [scores], [labels], frame_size=SIZE)
    assert list(tmp_path.glob("p.h5.parts/*.h5")) == []


@pytest.mark.parametrize(
    ("video_id", "arrays", "size", "message"),
    [
        ("", ([BAD], [ONE], [LABEL]), SIZE, "printable, non-empty video id, got ''"),
        ("a\n", ([BAD], [ONE], [LABEL]), SIZE, "printable"),
        ("v", ([], [], []), SIZE, "one array .* for each frame, got 0, 0 and 0"),
        ("v", ([BAD], [ONE], [LABEL, LABEL]), SIZE, "got 1, 1 and 2"),
        ("v", ([BAD], [ONE], [LABEL]), (0, 80), r"frame_size \(height, width\), got \(0, 80\)"),
        ("there", ([BAD], [ONE], [LABEL]), SIZE, "already holds the video 'there'.*if video_id in"),
    ],
)
def test_wrong_videos_do_not_get_in(tmp_path, video_id, arrays, size, message):
    path = write(tmp_path / "p.h5", {"there": 1})
    with (
        pytest.raises(InputError, match=message),
        write_proposals(path, "mine", classes=CLASSES) as store,
    ):
        store.add(video_id, *arrays, frame_size=size)
    assert ProposalStore.read(path).video_ids == ["there"]


def _damage(path: Path, change) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def _shorten(file: h5py.File) -> None:
    rows = file["scores"][:-1]
    del file["scores"]
    file["scores"] = rows


def _cut(file: h5py.File, name: str, rows) -> None:
    del file[name]
    file[name] = rows


def _compress(file: h5py.File) -> None:
    rows = file["scores"][:]
    del file["scores"]
    file.create_dataset("scores", data=rows, compression="gzip")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.unlink(), "no proposals file at .*p.h5; `aamn extract` writes one"),
        (lambda p: p.write_bytes(b""), "is no proposals file, or a damaged one"),
        (lambda p: p.write_text("hello"), "is no proposals file, or a damaged one"),
        (lambda p: os.truncate(p, p.stat().st_size // 2), "is no proposals file, or a damaged"),
        (lambda p: _damage(p, lambda f: f.attrs.modify("version", 2)), "version 2 .* reads 1"),
        (lambda p: _damage(p, lambda f: f.attrs.modify("format", "x")), "no proposals file"),
        (lambda p: _damage(p, lambda f: f.pop("labels")), "damaged one"),
        (lambda p: _damage(p, _shorten), "incomplete: its index and its boxes disagree"),
        (lambda p: _damage(p, _compress), "/scores is compressed or chunked"),
        (lambda p: _damage(p, lambda f: f["video_starts"].__setitem__(-1, 99)), "incomplete"),
        (lambda p: _damage(p, lambda f: f["video_starts"].__setitem__(0, 1)), "incomplete"),
        (lambda p: _damage(p, lambda f: f["frame_starts"].__setitem__(0, 1)), "incomplete"),
        (lambda p: _damage(p, lambda f: f["frame_starts"].__setitem__(-1, 8)), "incomplete"),
        (lambda p: _damage(p, lambda f: f["frame_starts"].__setitem__(1, 9)), "incomplete"),
        (lambda p: _damage(p, lambda f: _cut(f, "video_starts", [0, 4, 4])), "incomplete"),
        (lambda p: _damage(p, lambda f: _cut(f, "frame_size", [[60, 80]] * 2)), "incomplete"),
        (lambda p: _damage(p, lambda f: _cut(f, "frame_starts", [0, 3, 9])), "incomplete"),
        (lambda p: _damage(p, lambda f: _cut(f, "labels", [0] * 8)), "incomplete"),
        (lambda p: _damage(p, lambda f: _cut(f, "boxes", np.zeros((9, 5)))), "incomplete"),
        (lambda p: _damage(p, lambda f: f.attrs.modify("attributes", "{")), "damaged one"),
        (lambda p: _damage(p, lambda f: f.attrs.pop("version")), "version 0 .* reads 1"),
    ],
)
def test_damaged_files_are_named(tmp_path, spoil, message):
    path = write(tmp_path / "p.h5", {"a": 1})
    spoil(path)
    with pytest.raises(InputError, match=message) as caught:
        ProposalStore.read(path)
    assert "p.h5" in str(caught.value)


@pytest.mark.parametrize(
    ("video_id", "frames", "message"),
    [
        ("x", [0], "p.h5 holds no proposals of the video x; add them with .*aamn extract"),
        ("a", [0, 4], "wanted frame 4 of the video a, the file has 4"),
        ("a", [-1], "wanted frame -1"),
    ],
)
def test_windows_outside_the_file(tmp_path, video_id, frames, message):
    store = ProposalStore.read(write(tmp_path / "p.h5", {"a": 1}))
    with pytest.raises(InputError, match=message):
        store.window(video_id, frames, 3)


def test_two_writers_of_one_file(tmp_path):
    path = tmp_path / "p.h5"
    with (
        write_proposals(path, "mine"),
        pytest.raises(InputError, match=rf"is being written by process {os.getpid()} on"),
    ):
        write_proposals(path, "mine")
    with write_proposals(path, "mine"):
        pass  # the lock is gone with its holder


def test_a_lock_whose_folder_was_just_removed_is_taken_again(tmp_path, monkeypatch):
    """The holder joined its file and removed the folder between our open and our lock."""
    path, real, calls = tmp_path / "p.h5", fcntl.flock, []

    def flock(file, operation):
        if not calls:
            calls.append(1)
            os.remove(path.with_name("p.h5.parts") / "lock")
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with write_proposals(path, "mine"):
        assert (tmp_path / "p.h5.parts" / "lock").exists()


FULL_DISK = """
import resource, sys
sys.path[:0] = sys.argv[2:]
from test_store import SIZE, CLASSES, boxes_of
from proposals.errors import InputError
from proposals.store_writer import write_proposals
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    with write_proposals(sys.argv[1], "mine", classes=CLASSES) as store:
        for name, counts in (("a", (3,)), ("b", (900,)), ("c", (3,))):
            store.add(name, *boxes_of(1, counts), frame_size=SIZE)
except InputError as error:
    print(error)
"""


def test_a_disk_that_fills_up_is_one_line_and_keeps_what_was_written(tmp_path):
    """The limit on a file's size stands for the disk's."""
    root = Path(store_module.__file__).parents[1]
    command = [sys.executable, "-c", FULL_DISK, tmp_path / "p.h5", Path(__file__).parent, root]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.count("\n") == 1
    assert "no space left on the device; make room and run" in run.stdout
    assert "1 videos are kept" in run.stdout
    assert ProposalStore.read(tmp_path / "p.h5").video_ids == ["a"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_joining_needs_room_first(tmp_path, monkeypatch):
    monkeypatch.setattr(
        writer_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})()
    )
    with pytest.raises(InputError, match=r"no space left on the device.*1 videos are kept"):
        write(tmp_path / "p.h5", {"a": 1})
    monkeypatch.undo()
    assert write(tmp_path / "p.h5", {"a": 1}).is_file()


def test_a_file_replaced_while_it_is_read_is_read_again(tmp_path):
    path = write(tmp_path / "p.h5", {"a": 1})
    store = ProposalStore.read(path)
    write(path, {"b": 2})
    np.testing.assert_array_equal(store.window("a", [0], 3).boxes[0], boxes_of(1)[0][0])
    assert store.video_ids == ["a", "b"]
    path.unlink()
    with pytest.raises(InputError, match=r"no proposals file at .*p\.h5"):
        ProposalStore.read(path)
