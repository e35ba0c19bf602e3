"""The batch job: what it finds, what it survives, and that its bytes never depend on its past."""

import fcntl
import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from proposals import extract as extract_module
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.decoding import Video
from proposals.detector import FrameDetections, TorchDetector
from proposals.errors import InputError
from proposals.extract import JobOptions, extract, find_videos, shard, shard_of
from proposals.store import Attributes, ProposalStore
from proposals.store_writer import write_proposals

FORK = multiprocessing.get_context("fork")


class BrightSpot:
    """Puts one box around the brightest pixel and, every other frame, one over all of it."""

    def __init__(self, name: str = "bright spot") -> None:
        self.attributes = Attributes(name)
        self.batches: list[int] = []

    def detect(self, frames):
        self.batches.append(len(frames))
        return [self._one(frame) for frame in frames]

    def _one(self, frame: np.ndarray) -> FrameDetections:
        h, w = frame.shape[:2]
        y, x = divmod(int(frame.sum(2).argmax()), w)
        boxes = np.array([[x, y, x + 1, y + 1], [0, 0, w, h]], np.float32)[: 1 + int(x) % 2]
        return FrameDetections(boxes, np.array([0.9, 0.1])[: len(boxes)], np.zeros(len(boxes), int))


def write_video(path: Path, frames: int, size=(48, 64), seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, size[::-1])
    for _ in range(frames):
        writer.write(cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), size[::-1]))
    writer.release()
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number, frames in enumerate((7, 3, 11, 1, 6, 9, 2, 8)):
        size = (48, 64) if number % 3 else (40, 72)
        write_video(folder / f"{'-' * (number % 2)}v{number}.avi", frames, size, number)
    return folder


def run(clips: Path, out: Path, detector=None, **options) -> extract_module.Report:
    settings = {"batch": 4, "group": 3, "workers": 0, **options}
    return extract(detector or BrightSpot(), find_videos([clips]), out, JobOptions(**settings))


@pytest.fixture(scope="module")
def undisturbed(clips, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "p.h5"
    report = run(clips, out)
    assert (report.stored, report.frames, report.failures) == (8, 47, {})
    return out


def test_every_frame_of_every_video_is_stored(clips, undisturbed):
    store = ProposalStore.read(undisturbed)
    assert store.video_ids == sorted(path.stem for path in clips.iterdir())
    assert [store.frame_count(f"v{n}") for n in (0, 2, 4, 6)] == [7, 11, 6, 2]
    assert (store.frame_size("v0"), store.frame_size("-v1")) == ((40, 72), (48, 64))
    assert store.attributes.detector == "bright spot"


@pytest.mark.parametrize("options", [{"batch": 1, "group": 1}, {"batch": 16, "group": 8}], ids=str)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_neither_batches_nor_processes_change_which_frame_is_whose(
    clips, undisturbed, tmp_path, options, workers
):
    run(clips, tmp_path / "p.h5", workers=workers, **options)
    assert (tmp_path / "p.h5").read_bytes() == undisturbed.read_bytes()


class Named(BrightSpot):
    """A box at the red and green of a frame's first pixel; its score and label are the blue's."""

    def _one(self, frame: np.ndarray) -> FrameDetections:
        x, y, n = (float(value) for value in frame[0, 0])
        boxes = np.array([[x, y, x + 1, y + 2], [0, 0, 3, 4]], np.float32)
        return FrameDetections(boxes, np.array([n / 10, 0.0]), np.array([int(n), 7]))


@pytest.mark.parametrize(("batch", "group"), [(1, 1), (3, 2), (16, 8)])
def test_each_frame_s_boxes_are_stored_under_its_video_and_number(tmp_path, batch, group):
    """Folders of images, whose pixels are exact: video v of 2 + 9v images, some of another size."""
    for video in range(4):
        (tmp_path / f"clips/v{video}").mkdir(parents=True)
        for frame in range(2 + 9 * video):
            picture = Image.new("RGB", (40, 30 + 2 * (video % 2)), (video, frame, frame % 5))
            picture.save(tmp_path / f"clips/v{video}/{frame}.png")
    report = run(tmp_path / "clips", tmp_path / "p.h5", Named(), batch=batch, group=group)
    assert (report.stored, report.frames, report.there) == (4, 2 + 11 + 20 + 29, 0)
    assert report.shortened == report.failures == {}
    store = ProposalStore.read(tmp_path / "p.h5")
    for video in range(4):
        count = 2 + 9 * video
        assert store.frame_count(f"v{video}") == count
        assert store.frame_size(f"v{video}") == (30 + 2 * (video % 2), 40)
        window = store.window(f"v{video}", range(count), 3)
        assert window.boxes[:, 0].tolist() == [[video, f, video + 1, f + 2] for f in range(count)]
        np.testing.assert_allclose(window.scores[:, 0], [f % 5 / 10 for f in range(count)])
        assert window.labels[:, :2].tolist() == [[f % 5, 7] for f in range(count)]
        assert window.valid.tolist() == [[True, True, False]] * count


def test_all_of_the_detector_s_attributes_are_stored(clips, tmp_path):
    detector = BrightSpot()
    detector.attributes = Attributes("mine", "f00d", ("dog", "cat"), {"nms": 0.5, "size": 320})
    run(clips, tmp_path / "p.h5", detector)
    assert ProposalStore.read(tmp_path / "p.h5").attributes == detector.attributes


def test_batches_cross_videos_but_not_sizes(clips, tmp_path):
    detector = BrightSpot()
    run(clips, tmp_path / "p.h5", detector, batch=8, group=8)
    # -v1 -v5 -v7 v2 v4: 3 + 9 + 8 + 11 + 6 of one size, -v3 v0 v6: 1 + 7 + 2 of the other
    assert sorted(detector.batches) == [2, 5, 8, 8, 8, 8, 8]


def test_a_second_run_has_nothing_to_do(clips, undisturbed, tmp_path):
    out = Path(shutil.copy(undisturbed, tmp_path))
    detector = BrightSpot()
    report = run(clips, out, detector)
    assert (report.stored, report.there, detector.batches) == (0, 8, [])
    assert out.read_bytes() == undisturbed.read_bytes()


def test_a_later_run_looks_at_the_groups_alone_that_lack_a_video(clips, undisturbed, tmp_path):
    """Groups of three in the order of the ids: -v1 -v3 -v5, -v7 v0 v2, v4 v6."""
    out, whole = tmp_path / "p.h5", ProposalStore.read(undisturbed)
    with write_proposals(out, "bright spot") as writer:
        for video_id in ("-v1", "-v3", "-v5", "-v7", "v2"):
            file, row = whole.locate(video_id)
            video = file.video(row)
            ends = np.cumsum(video.counts)[:-1]
            arrays = (np.split(a, ends) for a in (video.boxes, video.scores, video.labels))
            writer.add(video_id, *arrays, video.frame_size, video.identity)
    detector = BrightSpot()
    report = run(clips, out, detector)
    assert (report.stored, report.there) == (3, 5)
    assert report.frames == sum(detector.batches) == (8 + 7 + 11) + (6 + 2)
    assert out.read_bytes() == undisturbed.read_bytes()


def test_a_video_that_cannot_be_opened_does_not_repeat_its_group(clips, tmp_path):
    folder, out = Path(shutil.copytree(clips, tmp_path / "clips")), tmp_path / "p.h5"
    (folder / "-v2.mp4").touch()
    run(folder, out)
    detector = BrightSpot()
    report = run(folder, out, detector)
    assert (report.stored, report.there, detector.batches) == (0, 8, [])
    assert "-v2.mp4 is empty" in report.failures["-v2"]


def test_the_summary_is_of_measured_time(clips, tmp_path, monkeypatch):
    """A clock that only the detector and the decoder move: 3 s a batch, 1 s an event."""
    clock, real = [100.0], extract_module.decode_ahead

    class Slow(BrightSpot):
        def detect(self, frames):
            clock[0] += 3
            return super().detect(frames)

    def decoding(videos, processes):
        for event in real(videos, processes):
            clock[0] += 1
            yield event

    monkeypatch.setattr(extract_module, "decode_ahead", decoding)
    monkeypatch.setattr(extract_module.time, "perf_counter", lambda: clock[0])
    detector = Slow()
    report = run(clips, tmp_path / "p.h5", detector, batch=4, group=8)
    # 37 frames of one size make 9 full batches and a rest, 10 of the other 2 and a rest; each
    # video is one chunk and its end
    assert len(detector.batches) == 13
    assert (report.detecting, report.seconds) == (13 * 3, 13 * 3 + 8 * 2)
    assert "47 frames in 55.0 s, 0.9 frames/s; 39.0 s (70.9%)" in next(report.lines())


def test_the_summary_lists_what_was_short_and_what_failed():
    lines = list(extract_module.Report(3, 2, 50, {"a": "4 of 9"}, {"b": "x", "c": "y"}).lines())
    assert "3 videos stored, 2 were there; 50 frames" in lines[0]
    assert lines[1].startswith("1 videos are stored as far as") and lines[2].strip() == "a: 4 of 9"
    assert lines[3].startswith("2 videos failed")
    assert [line.strip() for line in lines[4:]] == ["b: x", "c: y"]
    assert len(list(extract_module.Report().lines())) == 1


def test_too_little_gpu_memory_names_the_batch_and_keeps_the_videos(clips, tmp_path):
    class Small(BrightSpot):
        def detect(self, frames):
            if len(self.batches) == 2:
                raise torch.cuda.OutOfMemoryError
            return super().detect(frames)

    with pytest.raises(InputError, match=r"for 5 frames at once.*--batch"):
        run(clips, tmp_path / "p.h5", Small(), batch=5, group=1)
    assert ProposalStore.read(tmp_path / "p.h5").video_ids == ["-v1", "-v3"]


@pytest.mark.parametrize(
    ("device", "processors", "asked", "wanted"),
    [
        ("cpu", 8, {}, (4, 1, 1)),
        ("cuda:1", 8, {}, (16, 8, 4)),
        ("cuda", 64, {}, (16, 8, 6)),
        ("cuda", 1, {}, (16, 8, 1)),
        ("cuda", None, {}, (16, 8, 1)),
        ("cpu", 8, {"batch": 3, "workers": 0}, (3, 1, 0)),
        ("cuda", 8, {"batch": 3, "workers": 9}, (3, 8, 9)),
    ],
)
def test_a_job_s_options_fit_the_device(monkeypatch, device, processors, asked, wanted):
    monkeypatch.setattr(extract_module.os, "cpu_count", lambda: processors)
    options = JobOptions.for_device(device, **asked)
    assert (options.batch, options.group, options.workers) == wanted and not options.fresh


@pytest.mark.parametrize(("name", "value"), [("batch", 0), ("group", 0), ("workers", -1)])
def test_options_that_are_none(clips, tmp_path, name, value):
    with pytest.raises(InputError, match=rf"{name}={value}"):
        run(clips, tmp_path / "p.h5", **{name: value})


PAGE = 4096  # the least that a pipe holds


def in_a_process(job: Callable[[int], None], kill_after: int | None = None) -> bool:
    """Runs the job in a process of its own and kills it once it has written so many pages to the
    pipe it is given, which holds one: however busy the machine is, it is at most two ahead. Whether
    it finished."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PAGE)
    process = FORK.Process(target=job, args=(writer,))
    process.start()
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            while pipe.read(PAGE):
                kill_after = kill_after and kill_after - 1
                if kill_after == 0:
                    os.kill(process.pid, signal.SIGKILL)
        process.join(600)
        return process.exitcode == 0
    finally:
        process.kill()  # whatever went wrong above, nothing stays behind
        process.join()


def check_complete_videos_are_complete(out: Path, undisturbed: Path) -> int:
    try:
        store = ProposalStore.read(out)
    except InputError as error:
        assert "no proposals file" in str(error)
        return 0
    whole = ProposalStore.read(undisturbed)
    for video_id in store.video_ids:
        frames = range(whole.frame_count(video_id))
        assert store.frame_count(video_id) == len(frames)
        ours, theirs = (s.window(video_id, frames, 3) for s in (store, whole))
        np.testing.assert_array_equal(ours.boxes, theirs.boxes)
        np.testing.assert_array_equal(ours.scores, theirs.scores)
    return len(store)


@pytest.mark.parametrize("step", range(1, 38, 4))
def test_killed_at_any_step_of_writing(clips, undisturbed, tmp_path, step):
    """SIGKILL before the step-th synchronising, renaming or removing."""
    out = tmp_path / "p.h5"

    def job(_: int) -> None:
        left = [step]

        def deadly(real):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        for name in ("fsync", "replace", "unlink", "rmdir"):
            setattr(os, name, deadly(getattr(os, name)))
        run(clips, out)

    assert not in_a_process(job)
    check_complete_videos_are_complete(out, undisturbed)
    run(clips, out)
    assert out.read_bytes() == undisturbed.read_bytes()
    assert os.listdir(tmp_path) == ["p.h5"]


class Telling(BrightSpot):
    """Writes a page for every batch, so that it can be killed at any of them, or soon after."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self.pipe = pipe

    def detect(self, frames):
        os.write(self.pipe, bytes(PAGE))
        return super().detect(frames)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments_until_it_is_done(clips, undisturbed, tmp_path, seed):
    out, chance, there, kills = tmp_path / "p.h5", random.Random(seed), 0, 0
    options = {"batch": 1, "group": 1 + seed % 2, "workers": seed // 2}
    while not in_a_process(
        lambda pipe: run(clips, out, Telling(pipe), **options), chance.randrange(4, 30)
    ):
        kills += 1
        now = check_complete_videos_are_complete(out, undisturbed)
        assert now >= there
        there = now
    assert kills >= 1
    assert out.read_bytes() == undisturbed.read_bytes()
    assert os.listdir(tmp_path) == ["p.h5"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = DetectorConfig(
        name="small",
        weights="",
        classes=("a", "b"),
        min_size=48,
        max_size=96,
        proposals=20,
        score_threshold=0.0,
        widths=(8, 8, 16, 16),
        head=16,
        pool=3,
    )
    return TorchDetector(build_detector(config))


@pytest.mark.parametrize("step", [3, 7, 11])
def test_the_real_detector_killed_and_resumed_gives_the_same_bytes(
    clips, network, tmp_path, step, monkeypatch
):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run(clips, tmp_path / "whole.h5", network)
    count = iter(range(step))

    def stop(*_):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return real(*_)

    real = network.detect
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(network, "detect", stop)
        run(clips, tmp_path / "p.h5", network)
    report = run(clips, tmp_path / "p.h5", network)
    torch.set_num_threads(threads)
    assert report.there > 0 or step == 3
    assert (tmp_path / "p.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_failures_are_reported_and_the_rest_is_stored(clips, tmp_path):
    folder = Path(shutil.copytree(clips, tmp_path / "clips"))
    (folder / "-empty.mp4").touch()
    (folder / "text.mp4").write_text("no video" * 100)
    cut = folder / "v2.avi"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    (folder / "mixed").mkdir()
    for index, width in enumerate((64, 64, 80)):
        Image.new("RGB", (width, 48), (index, 9, 9)).save(folder / "mixed" / f"{index}.png")
    for workers in (0, 2):
        out = tmp_path / f"{workers}.h5"
        report = run(folder, out, workers=workers)
        assert (report.stored, set(report.failures)) == (8, {"-empty", "text", "mixed"})
        assert "empty (0 bytes)" in report.failures["-empty"]
        assert "frame 2 (2.png) is 80x48, the first one 64x48" in report.failures["mixed"]
        decoded = ProposalStore.read(out).frame_count("v2")
        assert report.shortened == {
            "v2": f"{cut}: video ends at frame {decoded} of 11 announced (a part of it is missing)"
        }
        assert 0 < decoded < 11
        text = "\n".join(report.lines())
        assert "8 videos stored, 0 were there" in text and "3 videos failed:" in text
        again = run(folder, out, workers=workers)
        assert (again.stored, again.there, set(again.failures)) == (0, 8, set(report.failures))
    assert (tmp_path / "0.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_a_decoder_that_dies_costs_one_video(clips, undisturbed, tmp_path, monkeypatch):
    """The decoding process is killed while it works on the third video."""
    real = extract_module.decode_ahead
    killed = []

    def deadly(videos, processes):
        for event in real(videos, processes):
            yield event
            if event.video.video_id == "-v5" and not killed:
                killed.append(event)
                children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
                for child in map(int, children):
                    if b"decoding" in Path(f"/proc/{child}/cmdline").read_bytes():
                        os.kill(child, signal.SIGKILL)

    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        pytest.skip("no /proc/self/task/*/children to find the decoding process by")
    for number in range(40):  # long enough that the process is still at work
        write_video(tmp_path / f"w{number:02d}.avi", 20, seed=number)
    monkeypatch.setattr(extract_module, "decode_ahead", deadly)
    videos = [*find_videos([clips]), *find_videos([tmp_path / "*.avi"])]
    report = extract(BrightSpot(), videos, tmp_path / "p.h5", JobOptions(workers=1))
    (failure,) = report.failures.values()
    assert "the decoder died (exit code -9)" in failure
    assert report.stored == len(videos) - 1
    extract(BrightSpot(), videos, tmp_path / "p.h5", JobOptions(workers=1))
    assert len(ProposalStore.read(tmp_path / "p.h5")) == len(videos)


def test_shards_together_are_the_whole(clips, undisturbed, tmp_path):
    videos = find_videos([clips])
    for index in range(3):
        extract(BrightSpot(), *shard(videos, tmp_path / "p.h5", index, 3), JobOptions(batch=4))
    assert check_complete_videos_are_complete(tmp_path / "p.h5", undisturbed) == 8


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 11])
def test_every_video_is_in_exactly_one_shard(tmp_path, count):
    videos, out = [Video(f"v{n:02d}", Path(f"{n}.avi")) for n in range(10)], tmp_path / "p.h5"
    shares, files = zip(*(shard(videos, out, index, count) for index in range(count)), strict=True)
    assert sorted((v for share in shares for v in share), key=lambda v: v.video_id) == videos
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert len(set(files)) == count and (files == (out,)) == (count == 1)


def test_shards_are_named_by_number(tmp_path):
    assert [shard([], tmp_path / "p.h5", index, 11)[1].name for index in (0, 10)] == [
        "p.shard-00-of-11.h5",
        "p.shard-10-of-11.h5",
    ]


def test_shards_do_not_hide_behind_a_whole_file(clips, undisturbed, tmp_path):
    shutil.copy(undisturbed, tmp_path)
    with pytest.raises(InputError, match="shards beside it would not be read"):
        shard(find_videos([clips]), tmp_path / "p.h5", 0, 2)


def test_two_workers_on_one_shard(clips, tmp_path):
    with (
        write_proposals(tmp_path / "p.h5", "bright spot"),
        pytest.raises(InputError, match="is being written by process"),
    ):
        run(clips, tmp_path / "p.h5")


def test_another_detector_cannot_go_on(clips, undisturbed, tmp_path):
    out = Path(shutil.copy(undisturbed, tmp_path))
    with pytest.raises(InputError, match=r"\(detector: 'bright spot', 'other'\)"):
        run(clips, out, BrightSpot("other"))


@pytest.mark.parametrize(
    ("text", "environment", "wanted"),
    [
        (None, {}, (0, 1)),
        ("2/5", {"RANK": "1", "WORLD_SIZE": "2"}, (2, 5)),
        (None, {"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        (None, {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}, (3, 4)),
        (None, {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),  # in a batch script, no srun
        (None, {"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
        (  # torchrun with one process inside one of srun's
            None,
            {"RANK": "0", "WORLD_SIZE": "1", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3"},
            (1, 3),
        ),
        (None, {"WORLD_SIZE": "2"}, (0, 1)),
        ("0/1", {"RANK": "1", "WORLD_SIZE": "2"}, (0, 1)),
        (None, {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, (3, 4)),
        (
            None,
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "5",
            },
            (2, 4),
        ),
    ],
)
def test_which_shard_a_worker_is(text, environment, wanted):
    assert shard_of(text, environment) == wanted


def test_a_worker_s_shard_is_read_from_its_environment(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert shard_of(None) == (2, 3)


@pytest.mark.parametrize("text", ["4/4", "-1/4", "1", "a/b", "1/0", ""])
def test_shards_that_are_none(text):
    with pytest.raises(InputError, match="wanted i/n"):
        shard_of(text, {})


def test_every_place_that_videos_can_be_named_by(clips, tmp_path):
    frames = tmp_path / "frames"
    for name in ("b", "a"):
        (frames / name).mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(frames / name / "0.jpg")
    (tmp_path / "list.txt").write_text(f"frames/a\n\n{clips}/v*.avi\n")

    def ids(*places) -> list[str]:
        return [video.video_id for video in find_videos(places)]

    odd, even = [f"-v{n}" for n in (1, 3, 5, 7)], [f"v{n}" for n in (0, 2, 4, 6)]
    assert ids(clips) == odd + even
    assert ids(clips / "-v1.avi", f"{clips}/v[02].avi") == ["-v1", "v0", "v2"]
    assert ids(frames) == ["a", "b"]
    assert ids(frames / "a") == ["a"]
    assert ids(tmp_path / "list.txt") == ["a", *even]
    assert find_videos([frames / "a"]) == [Video("a", frames / "a")]


def test_ids_and_kinds_of_places(tmp_path, caplog):
    """Only a file loses its suffix; suffixes in capitals count; hidden files and others do not."""
    for name in ("a.b.MP4", "b.10.avi", ".hidden.mp4", "notes.md", "more.csv"):
        (tmp_path / name).touch()
    (tmp_path / "c.1").mkdir()
    (tmp_path / "c.1/0.PNG").touch()
    with caplog.at_level("INFO", "proposals"):
        found = find_videos([tmp_path])
    assert found == [
        Video("a.b", tmp_path / "a.b.MP4"),
        Video("b.10", tmp_path / "b.10.avi"),
        Video("c.1", tmp_path / "c.1"),
    ]
    assert f"{tmp_path}: 2 files" in caplog.text
    assert find_videos([tmp_path / "c.1"]) == [Video("c.1", tmp_path / "c.1")]
    assert find_videos([tmp_path, tmp_path / "a.b.MP4"]) == found  # named twice, there once


def test_a_list_s_paths_are_beside_it_first_and_then_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "lists").mkdir()
    for name in ("lists/a.avi", "a.avi", "b.avi"):
        (tmp_path / name).touch()
    (tmp_path / "lists/l.TXT").write_text("a.avi\nb.avi\n")
    monkeypatch.chdir(tmp_path)
    assert find_videos(["lists/l.TXT"]) == [
        Video("a", Path("lists/a.avi")),
        Video("b", Path("b.avi")),
    ]


def test_two_videos_of_one_name(clips, tmp_path):
    shutil.copy(clips / "v0.avi", tmp_path)
    with pytest.raises(InputError, match="have the same video id 'v0'"):
        find_videos([clips, tmp_path])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f / "absent", "no video at .*absent"),
        (lambda f: f / "*.mp4", r"no video at .*\*.mp4"),
        (lambda f: f, "the folder holds no video and no image"),
        (lambda f: _list(f, "absent.mp4\n"), "no video at absent.mp4"),
        (lambda f: _list(f, "\n"), "the list names no video"),
        (lambda f: _list(f, b"\xff\xfe"), "list.txt is no readable list of videos"),
    ],
)
def test_places_without_videos(tmp_path, make, message):
    with pytest.raises(InputError, match=message):
        find_videos([make(tmp_path)])


def _list(folder: Path, content: str | bytes) -> Path:
    path = folder / "list.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
