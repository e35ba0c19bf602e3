"""Many videos indexed one after another: in which order, what stops the job, and what is said."""

import logging
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from aamn.jobs import index as index_job
from aamn.jobs.index import index_videos
from proposals.decoding import Video
from proposals.errors import Busy, CannotWrite, InputError

FRAMES, SIZE = 8, 20 * 1024  # of every index


@pytest.fixture
def job(monkeypatch, tmp_path):
    """Indexes videos of these names: (exit code, what was done in order, what was printed, the
    bars); `faults` are what a video's building raises, one a time; `lacking` what lacks in it."""
    done, said, bars = [], [], []

    class Bar:
        write = said.append

        def __init__(self, **shown):
            bars.append([shown, 0])

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def update(self):
            bars[-1][1] += 1

    def run(*names, faults=None, lacking=None, there=()):
        left = {name: list(own) for name, own in (faults or {}).items()}

        def build(video, path, precision):
            done.append((video.video_id, path, precision))
            if left.get(video.video_id):
                raise left[video.video_id].pop(0)
            path.write_bytes(bytes(SIZE))
            return video.video_id not in there

        @contextmanager
        def frames(path):
            own = (lacking or {}).get(path.stem, "")
            yield SimpleNamespace(lacking=lambda count: own and f"{own}, {count} are stored")

        header = SimpleNamespace(header=SimpleNamespace(frames=FRAMES))
        monkeypatch.setattr(index_job, "tqdm", Bar)
        monkeypatch.setattr(index_job, "open_frames", frames)
        monkeypatch.setattr(index_job, "IndexFile", SimpleNamespace(read=lambda path: header))
        monkeypatch.setattr(
            index_job, "wait_for_writer", lambda path: done.append(f"wait for {path.name}")
        )
        segmenter = SimpleNamespace(query_encoder=SimpleNamespace(model="5eg"), build=build)
        inputs = SimpleNamespace(video_segmenter=lambda: segmenter)
        videos = [Video(name, Path(f"clips/{name}.mp4")) for name in names]
        code = index_videos(inputs, videos, tmp_path, "bfloat16")
        order = [step if isinstance(step, str) else step[0] for step in done]
        assert {step[2] for step in done if not isinstance(step, str)} == {"bfloat16"}
        return code, order, said, bars

    return run


def test_each_is_built_and_its_size_is_said(job, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "aamn"):
        code, order, said, bars = job("a", "b", there="b")
    assert (code, order) == (0, ["a", "b"])
    line = f"{tmp_path}/%s.h5: 8 frames, 2.5 KiB each%s"
    assert said == [line % ("a", ""), line % ("b", ", was there")]
    ((shown, updates),) = bars
    assert (shown["total"], shown["unit"], shown["disable"], updates) == (2, "video", None, 2)
    assert caplog.messages == ["segmenter 5eg (hash of its video side)"]


def test_the_only_video_has_a_bar_of_its_own(job):
    ((shown, _),) = job("a")[3]
    assert shown["disable"] is True


def busy(count):
    return [Busy("x.h5 is being written by process 7") for _ in range(count)]


@pytest.mark.parametrize(
    ("times", "order"),
    [
        ({"a": 1}, ["a", "b", "c", "a"]),
        ({"c": 1}, ["a", "b", "c", "wait for c.h5", "c"]),
        ({"a": 2}, ["a", "b", "c", "a", "wait for a.h5", "a"]),
        ({"a": 2, "b": 1}, ["a", "b", "c", "a", "wait for a.h5", "b", "a"]),
    ],
    ids=str,
)
def test_what_another_process_writes_comes_last_and_is_waited_for(job, caplog, times, order):
    faults = {name: busy(count) for name, count in times.items()}
    code, found, said, ((_, updates),) = job("a", "b", "c", faults=faults)
    assert (code, found) == (0, order) and len(said) == updates == 3, "each is built once"
    assert caplog.messages == ["x.h5 is being written by process 7"] * sum(times.values())


@pytest.mark.parametrize(
    ("faults", "lacking", "failures"),
    [
        ({"b": [InputError("b.mp4 is no video")]}, {}, ["b: b.mp4 is no video"]),
        ({}, {"c": "video ends at frame 8 of 9"}, ["c: video ends at frame 8 of 9, 8 are stored"]),
        ({"a": [InputError("bad")]}, {"b": "short"}, ["a: bad", "b: short, 8 are stored"]),
    ],
)
def test_what_failed_is_listed_at_the_end_and_the_code_is_1(job, caplog, faults, lacking, failures):
    code, order, _, ((_, updates),) = job("a", "b", "c", faults=faults, lacking=lacking)
    assert (code, order, caplog.messages) == (1, ["a", "b", "c"], failures) and updates == 3


def test_the_only_video_s_failure_is_the_job_s(job, caplog):
    with pytest.raises(InputError, match=r"^a\.mp4 is no video$"):
        job("a", faults={"a": [InputError("a.mp4 is no video")]})
    assert job("b", lacking={"b": "short"})[0] == 1


def test_a_full_disk_ends_the_job_after_what_failed_before_is_said(job, caplog):
    faults = {"a": [InputError("bad")], "b": [CannotWrite("no space left")]}
    with pytest.raises(CannotWrite, match="no space left"):
        job("a", "b", "c", faults=faults)
    assert caplog.messages == ["a: bad"]
