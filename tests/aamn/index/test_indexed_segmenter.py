"""Annotated frames through indexes: the same tubes, scores and metrics as clip by clip."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_videos import SIZE, Frames, Store, Unchecked, loaded

from aamn.config.schema import FlowConfig
from aamn.data.datasets.source import Expression, KeyFrame
from aamn.data.samples import SampleDataset
from aamn.evaluation.key_frames import evaluate
from aamn.evaluation.metrics import summarise
from aamn.index.file import IndexFile
from aamn.index.indexed_segmenter import IndexedSegmenter, KeyFrameIndexes, StoredIndexes
from aamn.index.query_encoder import QueryEncoder
from aamn.structures import InputSpec, Target
from proposals.errors import InputError

TEXTS = ("w5 w2 w8", "w3", "w9 w1")


class Source:
    """Two videos of noise with a few annotated frames each, the last one past the video's end."""

    def __init__(self, count):
        self.count, self.opened = count, []
        places = sorted({0, count // 3, count // 2, max(0, count - 2), count + 1})
        self.key_frames = [
            KeyFrame(video, frame, tuple(Expression(video, 1, text) for text in TEXTS))
            for video in ("v", "u")
            for frame in places
        ]

    def frames(self, video_id):
        self.opened.append(video_id)
        return Frames(self.count)

    def targets(self, key_frame):
        rng = np.random.default_rng(key_frame.frame)
        masks = torch.from_numpy(rng.random((len(TEXTS), *SIZE)) < 0.5)
        return tuple(Target(1, torch.tensor([5.0, 5, 20, 20]), mask) for mask in masks)


def samples(model, source, input_spec):
    return SampleDataset(source, input_spec, model.vocabulary, Store(), flow_config=FlowConfig())


@pytest.mark.parametrize("count", [1, 16, 17, 35])
@pytest.mark.parametrize("radius", [0, 1, 3])
def test_annotated_frames_get_the_answers_of_the_direct_path(count, radius, tmp_path):
    model, source = loaded(f"aamn.radius={radius}"), Source(count)
    asked = IndexedSegmenter(KeyFrameIndexes(tmp_path, QueryEncoder(model), source, Store()))
    answers = {"direct": [], "indexed": []}
    reports = [
        evaluate(
            segmenter,
            list(samples(model, source, segmenter.input_spec)),
            system=name,
            data="noise",
            observe=lambda _, tracks, key, name=name: answers[name].append((tracks, key)),
        )
        for name, segmenter in (("direct", model.segmenter), ("indexed", asked))
    ]
    for (wanted, place), (found, key) in zip(*answers.values(), strict=True):
        for one, other in zip(wanted, found, strict=True):
            assert other.tube == one.tube
            assert other.frame_indices.tolist() == [int(one.frame_indices[place])]
            if one.tube >= 0:
                for name in ("total", "actor", "action"):
                    pair = (getattr(track.scores, name) for track in (other, one))
                    torch.testing.assert_close(*pair, atol=1e-5, rtol=0)
                torch.testing.assert_close(other.boxes[key], one.boxes[place])
            assert (other.masks[key] != one.masks[place]).float().mean() < 0.01
    direct, indexed = (summarise(report.rows) for report in reports)
    assert indexed == pytest.approx(direct, abs=0.01)


def test_indexes_around_key_frames_are_made_once_and_anew_for_another_model(tmp_path):
    model, source = loaded(), Source(9)
    indexes = KeyFrameIndexes(tmp_path, QueryEncoder(model), source, Store())
    seen = []
    model.segmenter.streams["rgb"].register_forward_hook(
        lambda _, inputs, __: seen.append(len(inputs[0]))
    )
    header = indexes.of("v").header
    assert header.selection.key_frames == (0, 3, 4, 7, 10) and sum(seen) == 9
    asked = IndexedSegmenter(indexes)
    for sample in list(samples(model, source, asked.input_spec)):
        asked.segment(sample.clip, None, sample.queries)
    assert sum(seen) == 18, "the second video once, the first not again"
    other = replace(indexes, query_encoder=QueryEncoder(loaded(seed=1)))
    assert other.of("v").header.origin.model != header.origin.model
    assert IndexFile.read(tmp_path / "v.h5").header.origin.model != header.origin.model
    with pytest.raises(InputError, match="only the systems aamn"):
        QueryEncoder(loaded("system=most_confident"))


class Films:
    """Two videos that differ, annotated in turns at frames of their own."""

    def __init__(self, places):
        self.places = places
        self.key_frames = [
            KeyFrame(video, frame, (Expression(video, 1, "w3"),))
            for pair in zip(*places.values(), strict=True)
            for video, frame in zip(places, pair, strict=True)
        ]

    def frames(self, video_id):
        frames = Frames(9)
        if video_id == "u":
            frames.video = 255 - frames.video
        return frames

    def targets(self, key_frame):
        return (Target(1, torch.tensor([5.0, 5, 20, 20]), torch.zeros(SIZE, dtype=torch.bool)),)


def test_each_video_s_own_key_frames_are_asked_of_its_own_index(tmp_path):
    model, source = loaded(), Films({"v": (7, 1, 7), "u": (4, 6, 2)})
    indexes = KeyFrameIndexes(tmp_path, QueryEncoder(model), source, Store())
    selections = {video: indexes.selection(video).key_frames for video in source.places}
    assert selections == {"v": (1, 7), "u": (2, 4, 6)}
    asked, opened = IndexedSegmenter(indexes), []
    dataset, own = (
        samples(model, source, model.segmenter.input_spec),
        samples(model, source, asked.input_spec),
    )
    for place, key_frame in enumerate(source.key_frames):
        (wanted,) = model.segmenter.segment(
            dataset[place].clip, dataset[place].proposals, dataset[place].queries
        )
        (found,) = asked.segment(own[place].clip, None, own[place].queries)
        assert found.video_id == key_frame.video_id == asked.last.video_id
        assert found.frame_indices.tolist() == [key_frame.frame]
        torch.testing.assert_close(found.scores.total, wanted.scores.total, atol=1e-5, rtol=0)
        assert (found.boxes[0] == wanted.boxes[1]).all()
        opened.append(asked.last.file)
    assert [file._file is not None for file in opened] == [False] * 5 + [True], "one at a time"


def test_an_indexed_system_needs_the_key_frame_alone(tmp_path):
    model = loaded("aamn.size=64")
    asked = IndexedSegmenter(KeyFrameIndexes(tmp_path, QueryEncoder(model), Source(3), Store()))
    assert asked.input_spec == InputSpec((0,), (64, 64), flow=False, proposals=0, predicts="key")
    assert asked.device == torch.device("cpu")


def test_indexes_of_a_data_set_hold_whole_videos_with_its_boxes_and_flow(tmp_path):
    class Flow(Unchecked):
        attributes = {"method": "stored"}  # noqa: RUF012

        def window(self, video_id, indices):
            asked.append((video_id, indices.tolist()))
            return np.ones((len(indices), 2, 10, 12), np.float32)

    asked, model, source = [], loaded(), Source(5)
    indexes = StoredIndexes(tmp_path, QueryEncoder(model), source, Store(), Flow())
    header = indexes.of("a/b").header
    assert header.selection.whole and (header.frames, header.video_id) == (5, "a/b")
    assert header.origin.flow == {"method": "stored"} and asked == [("a/b", [0, 1, 2, 3, 4])]
    assert header.origin.boxes["detector"] == "hand" and source.opened == ["a/b"]
    assert [path.name for path in tmp_path.iterdir()] == ["a%2Fb.h5"]
