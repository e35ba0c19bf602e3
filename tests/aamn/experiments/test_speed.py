"""Speed, measured with a clock that goes by the work done."""

import numpy as np
import pytest
from tiny_models import random_sample, tiny_segmenter
from tiny_videos import Frames, Store, Unchecked, loaded

from aamn.experiments import speed
from aamn.index.video_index import VideoIndex, VideoTrack
from proposals.errors import InputError

FRAMES = 7


@pytest.fixture
def clock(monkeypatch):
    """A clock that only goes on where a test says so."""

    class Clock:
        at = 0.0

        def perf_counter(self):
            return self.at

    clock = Clock()
    monkeypatch.setattr(speed, "time", clock)
    return clock


def test_a_pair_is_the_median_without_the_first_sample(clock):
    segmenter = tiny_segmenter()
    samples = [random_sample(segmenter, seed=n) for n in range(4)]
    durations, asked = iter([100.0, 2.0, 9.0, 5.0]), []

    def segment(clip, proposals, queries):
        asked.append((clip, proposals, list(queries)))
        clock.at += next(durations)

    segmenter.segment = segment
    assert speed.pair_seconds(segmenter, samples) == 5.0
    for (clip, proposals, queries), sample in zip(asked, samples, strict=True):
        assert clip is sample.clip and proposals is sample.proposals
        assert queries == list(sample.queries[:1])


def test_a_first_sentence_pays_for_the_index_and_a_further_one_does_not(
    clock, monkeypatch, tmp_path
):
    build, query, asked = speed.build_index, VideoIndex.query, []
    durations = iter([3.0, 2.0, 40.0, 1.0])

    def slow_build(*given, **more):
        clock.at += 70
        return build(*given, **more)

    def slow_query(index, texts, **more):
        asked.extend(texts)
        clock.at += next(durations)
        return query(index, texts, **more)

    monkeypatch.setattr(speed, "build_index", slow_build)
    monkeypatch.setattr(VideoIndex, "query", slow_query)
    texts = ["w3 w4", "w7"]
    found = speed.video_seconds(loaded(), "v", Frames(FRAMES), texts, Store(), None, tmp_path)
    assert found.first == pytest.approx((70 + 3) / FRAMES)
    assert found.further == pytest.approx(2 / FRAMES), "the median of three"
    assert asked == ["w3 w4", "w7", "w7", "w7"]
    assert not list(tmp_path.iterdir()), "the index is measured, not kept"


def test_a_system_that_keeps_nothing_has_no_further_sentence(clock, tmp_path):
    overrides = ("system=gavrilyuk", "gavrilyuk.size=32", "gavrilyuk.frames=4")
    overrides += ("gavrilyuk.channels=[4,3]", "gavrilyuk.i3d.width=0.05")
    model, count = loaded(*overrides), 0
    segment = model.segmenter.segment

    def slow(clip, proposals, queries):
        nonlocal count
        count += len(queries)
        clock.at += 0.5
        return segment(clip, proposals, queries)

    model.segmenter.segment = slow
    found = speed.video_seconds(model, "v", Frames(FRAMES), ["w3", "w7"], None, None, tmp_path)
    assert found.further is None and found.first == 0.5
    assert count == FRAMES, "a clip for every frame, one sentence"


def test_an_index_is_measured_with_the_stored_flow_and_with_its_masks(clock, monkeypatch, tmp_path):
    class Flow(Unchecked):
        attributes = {"method": "stored"}  # noqa: RUF012

        def window(self, video_id, indices):
            return np.ones((len(indices), 2, 20, 25), np.float32)

    jobs, build, masks = [], speed.build_index, VideoTrack.masks

    def remember(job, path, **more):
        jobs.append((job, more))
        return build(job, path, **more)

    def slow_masks(track):
        clock.at += 14
        return masks(track)

    monkeypatch.setattr(speed, "build_index", remember)
    monkeypatch.setattr(VideoTrack, "masks", slow_masks)
    model, flow = loaded("flow.preset=fast"), Flow()
    found = speed.video_seconds(model, "v", Frames(FRAMES), ["w3"], Store(), flow, tmp_path)
    assert (found.first, found.further) == (2.0, 2.0), "14 seconds of masks for 7 frames"
    ((job, more),) = jobs
    assert job.flow is flow and job.flow_config.preset == "fast" and job.selection.whole
    assert job.segmenter is model.segmenter and more == {"replace": True}
    with pytest.raises(InputError, match="50x40"):
        wide = Frames(FRAMES)
        wide.size = (40, 51)
        speed.video_seconds(model, "v", wide, ["w3"], Store(), None, tmp_path)


def test_seconds_wait_for_the_gpu_where_there_is_one(clock, monkeypatch):
    def work():
        clock.at += 2

    def synchronise():
        clock.at += 0.5

    monkeypatch.setattr(speed.torch.cuda, "synchronize", synchronise)
    for there, seconds in ((False, 2.0), (True, 2.5)):
        monkeypatch.setattr(speed.torch.cuda, "is_available", lambda there=there: there)
        assert speed.seconds_of(work) == seconds
