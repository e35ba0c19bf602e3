"""The videos that visitors have open: who sees which, what is refused, and what is left behind."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from aamn.web.indexing import Indexing
from aamn.web.limits import Limits
from aamn.web.videos import Example, NotOpen, Videos
from proposals.decoding import Video
from proposals.errors import InputError
from proposals.progress import progress


async def pieces(content):
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


def upload(videos, name, content):
    return asyncio.run(videos.upload(name, pieces(content)))


def ended(videos, token):
    """The video when its index is there or has failed."""
    done = threading.Event()
    videos.of(token).content.work.when_ended(done.set)
    assert done.wait(60)
    return videos.of(token)


@pytest.fixture
def videos(segmenter, tmp_path):
    opened = Videos(
        segmenter, tmp_path, Limits(megabytes=0.2, frames=60, megapixels=0.01, videos=3)
    )
    yield opened
    opened.stop()
    assert not list(tmp_path.iterdir()), "what visitors brought is left"


def test_an_upload_is_indexed_as_the_library_does(videos, segmenter, clip, tmp_path):
    token = upload(videos, "C:\\My clips\\../clip.mp4", clip.read_bytes())
    video = ended(videos, token)
    assert video.name == "clip.mp4" and video.content.work.progress() == {
        "state": "ready", "done": 23, "total": 23, "seconds_left": 0.0, "error": ""
    }  # fmt: skip
    with segmenter.index(clip) as wanted:
        (one,), (other,) = video.index.query("w3 w4"), wanted.query("w3 w4")
        assert one.score == other.score and (one.masks() == other.masks()).all()
    assert video.pictures[0][:2] == b"\xff\xd8"
    with pytest.raises(InputError, match="23 frames"):
        video.pictures[23]
    videos.close(token)
    assert not list(tmp_path.iterdir())
    with pytest.raises(NotOpen):
        videos.of(token)


def test_equal_files_share_an_index_as_long_as_one_is_open(videos, clip, tmp_path):
    one = upload(videos, "a.mp4", clip.read_bytes())
    first = ended(videos, one)
    other = upload(videos, "b.mp4", clip.read_bytes())
    second = videos.of(other)
    assert one != other and second.content is first.content and second.name == "b.mp4"
    videos.close(one)
    assert second.index.query("w3")[0].masks().shape == (23, 40, 50)
    videos.close(other)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no video at all", r"^holiday.mov: no frame can be decoded"),
        (b"", "^holiday.mov is empty"),
        (b"\0" * 200_001, "larger than 0.2 MB"),
    ],
)
def test_a_broken_upload_says_what_is_wrong(videos, content, said, tmp_path):
    with pytest.raises(InputError, match=said) as error:
        upload(videos, "holiday.mov", content)
    assert str(tmp_path) not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("limits", "said"),
    [(Limits(frames=22), "longer than 22 frames"), (Limits(megapixels=0.001), "are 50x40")],
)
def test_videos_over_the_limits_are_refused(videos, clip, limits, said):
    videos.limits = limits
    with pytest.raises(InputError, match=said):
        upload(videos, "clip.mp4", clip.read_bytes())


def test_only_so_many_are_open_and_unused_ones_are_closed(videos, clip):
    tokens = [upload(videos, "clip.mp4", clip.read_bytes()) for _ in range(3)]
    with pytest.raises(InputError, match="too many videos are open"):
        upload(videos, "clip.mp4", clip.read_bytes())
    videos.of(tokens[1]).used -= 61 * videos.limits.minutes
    assert upload(videos, "clip.mp4", clip.read_bytes()) and len(videos) == 3
    with pytest.raises(NotOpen, match="not open any more"):
        videos.of(tokens[1])


def test_an_example_is_everybody_s_and_a_known_index_serves_it(segmenter, library, tmp_path, clip):
    files = segmenter.open_indexes(library).files
    examples = [Example(Video.at(files[0].header.path), ("w3",)), Example(Video.at(clip))]
    videos = Videos(segmenter, tmp_path, Limits(), examples, files)
    known = videos.of(videos.example(0))
    assert known.content.work.state == "ready" and known.suggestions == ("w3",)
    assert known.index.file.path == files[0].path
    first, second = videos.example(1), videos.example(1)
    assert videos.of(first).content is videos.of(second).content
    ended(videos, first)
    with pytest.raises(InputError, match="no example 2"):
        videos.example(2)
    videos.stop()


def test_an_index_of_a_part_is_not_opened(segmenter, clip, tmp_path):
    segmenter.index(clip, tmp_path, frames=range(4)).close()
    videos = Videos(segmenter, tmp_path, Limits())
    with pytest.raises(InputError, match="in part"):
        videos.of_index(segmenter.open_indexes(tmp_path).files[0])


def steps(begun, go_on):
    """Work of 10 frames that waits after the second."""
    with progress(10, "clip", "frame") as bar:
        for number in range(10):
            bar.update(1)
            if number == 1:
                begun.set()
                assert go_on.wait(60)


def test_work_that_is_given_up_ends_after_its_next_step():
    begun, go_on = threading.Event(), threading.Event()
    work = Indexing(lambda: steps(begun, go_on))
    waiting = Indexing(lambda: pytest.fail("it was given up before"))
    with ThreadPoolExecutor(1) as workers:
        work.start(workers)
        waiting.start(workers)
        assert begun.wait(60) and work.state == "indexing" and waiting.state == "waiting"
        assert (work.step.done, work.step.total) == (2, 10) and work.step.seconds_left > 0
        waiting.cancel()
        work.cancel()
        go_on.set()
    assert work.step.done == 2 and work.state == waiting.state == "cancelled"


@pytest.mark.parametrize(
    ("error", "said"),
    [(InputError("clip: damaged"), "clip: damaged"), (RuntimeError("!"), "cannot be indexed")],
)
def test_work_that_fails_says_why(error, said, caplog):
    def fail():
        raise error

    work = Indexing(fail)
    with ThreadPoolExecutor(1) as workers:
        work.start(workers)
    assert work.state == "failed" and said in work.progress()["error"]


def test_a_video_that_is_longer_than_it_says_is_refused():
    def build():
        with progress(0, "clip", "frame") as bar:
            bar.update(61)

    work = Indexing(build, Limits(frames=60).check_frames)
    with ThreadPoolExecutor(1) as workers:
        work.start(workers)
    assert work.state == "failed" and "longer than 60 frames" in work.error


def test_seconds_left_follow_the_pace(monkeypatch):
    work = Indexing(lambda: None)
    assert work.step.seconds_left is None
    work.step.begun = 100.0
    monkeypatch.setattr("aamn.web.indexing.time.monotonic", lambda: 104.0)
    work._count(2, 10)
    assert work.step.seconds_left == pytest.approx(16.0)  # 4 seconds for 2 of 10 frames
    assert np.isclose(work.progress()["seconds_left"], 16.0)
