"""Windows over a whole video: every frame is answered for once, by the clip that holds it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_segmenter

from aamn.config.schema import FlowConfig
from aamn.data.samples import load_clip
from aamn.inference import clip_by_clip as full_video
from aamn.inference.clip_by_clip import plan_windows, segment_video, windows_of
from aamn.models.segmenter import Segmenter
from aamn.structures import InputSpec, MaskTrack, Query, TubeScores


def input_spec(offsets, predicts="clip"):
    return InputSpec(tuple(offsets), (48, 48), False, 0, predicts)


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 9, 10, 11, 18, 31])
@pytest.mark.parametrize("radius", [0, 1, 4])
def test_every_frame_is_answered_once(frames, radius):
    windows = plan_windows(frames, input_spec(range(-radius, radius + 1)))
    covered = [n for w in windows for n in range(w.start, w.stop)]
    assert covered == list(range(frames))
    for w in windows:
        assert 0 <= w.key_frame < frames
        assert w.key_frame - radius <= w.start and w.stop <= w.key_frame + radius + 1
        if frames >= 2 * radius + 1:
            assert w.key_frame - radius >= 0 and w.key_frame + radius < frames


@pytest.mark.parametrize(
    ("frames", "offsets", "windows"),
    [
        (1, range(-1, 2), [(0, 0, 1)]),
        (2, range(-4, 5), [(0, 0, 2)]),  # as far inside as a video of two frames has an inside
        (5, range(-4, 5), [(2, 0, 5)]),
        (7, range(-1, 2), [(1, 0, 3), (4, 3, 6), (5, 6, 7)]),  # the last one is moved back
        (6, range(-1, 2), [(1, 0, 3), (4, 3, 6)]),
        (10, range(-3, 2), [(3, 0, 5), (8, 5, 10)]),
        (8, range(-1, 4), [(1, 0, 5), (4, 5, 8)]),
        (3, range(0, 1), [(0, 0, 1), (1, 1, 2), (2, 2, 3)]),
    ],
)
def test_windows_by_hand(frames, offsets, windows):
    found = plan_windows(frames, input_spec(offsets))
    assert [(w.key_frame, w.start, w.stop) for w in found] == windows


@given(frames=st.integers(1, 60), before=st.integers(0, 6), after=st.integers(0, 6))
def test_each_window_holds_the_frames_it_answers_for(frames, before, after):
    windows = plan_windows(frames, input_spec(range(-before, after + 1)))
    assert [n for w in windows for n in range(w.start, w.stop)] == list(range(frames))
    assert len(windows) == -(-frames // (before + after + 1)), "no clip too many"
    for w in windows:
        assert 0 <= w.key_frame < frames
        assert w.key_frame - before <= w.start and w.stop <= w.key_frame + after + 1
        if frames > before + after:
            assert before <= w.key_frame < frames - after, "clips stay within the video"


@given(
    frames=st.integers(1, 40),
    ends=st.tuples(st.integers(0, 45), st.integers(0, 45)),
    step=st.integers(1, 12),
)
def test_windows_of_wanted_frames_are_those_that_answer_for_one(frames, ends, step):
    wanted = range(*ends, step)
    found = windows_of(wanted, frames, input_spec(range(-2, 3)))
    assert [w.start for w in found] == sorted({n // 5 * 5 for n in wanted if n < frames})


def test_a_key_frame_predictor_gets_a_clip_for_every_frame():
    windows = plan_windows(5, input_spec(range(-8, 8), "key"))
    assert [(w.key_frame, w.start, w.stop) for w in windows] == [(n, n, n + 1) for n in range(5)]


class Frames:
    """Seven noise frames of 40 x 50."""

    size, fps, path = (40, 50), 10.0, "noise"

    def __len__(self):
        return 7

    def read(self, indices):
        rng = np.random.default_rng(0)
        video = rng.integers(0, 255, (7, *self.size, 3), dtype=np.uint8)
        return video[np.asarray(list(indices))]


class Store:
    """Two boxes in every frame, the first one moving right."""

    def window(self, video_id, frame_indices, top):
        from proposals.store import BoxWindow

        n = len(frame_indices)
        boxes = np.zeros((n, top, 4), np.float32)
        for place, frame in enumerate(frame_indices):
            boxes[place, 0] = (frame, 5, frame + 20, 30)
            boxes[place, 1] = (25, 10, 45, 35)
        valid = np.zeros((n, top), bool)
        valid[:, :2] = True
        scores = np.zeros((n, top), np.float32)
        return BoxWindow(boxes, scores, np.zeros((n, top), np.int64), valid)


class Counting(Segmenter):
    """Fills as many pixels of a frame as its number says, and places its box there."""

    def __init__(self, offsets, predicts, proposals=0):
        super().__init__()
        self.input_spec = InputSpec(tuple(offsets), (48, 48), False, proposals, predicts)
        self.asked = []

    def segment(self, clip, proposals, queries):
        self.asked.append((self.training, clip, proposals))
        frames = clip.frame_indices
        if self.input_spec.predicts == "key":
            frames = frames[clip.key : clip.key + 1]
        masks = (torch.arange(40 * 50) < frames[:, None]).view(-1, 40, 50)
        boxes = frames[:, None] * torch.tensor([1.0, 2.0, 3.0, 4.0])
        scores = TubeScores(*torch.rand(5, 1))
        return [
            MaskTrack(clip.video_id, q.text, frames, boxes, masks, 0.1 + n, scores, n)
            for n, q in enumerate(queries)
        ]


QUERIES = [Query("a b", ("a", "b"), torch.tensor([2, 3])), Query("c", ("c",), torch.tensor([4]))]


@pytest.mark.parametrize("wanted", [None, range(7), range(2, 7, 2), range(6, 7), range(3, 20)])
@pytest.mark.parametrize(
    ("offsets", "predicts"),
    [
        (range(-1, 2), "clip"),
        (range(-2, 2), "clip"),
        (range(-9, 10), "clip"),
        (range(-1, 3), "key"),
        ((-4, -2, 0), "key"),
    ],
)
def test_every_frame_gets_the_answer_of_its_own_place(offsets, predicts, wanted):
    segmenter = Counting(offsets, predicts).train()
    answers = list(segment_video(segmenter, "v", Frames(), QUERIES, wanted=wanted))
    frames = [n for n in range(7) if wanted is None or n in wanted]
    for number, query in enumerate(QUERIES):
        tracks = [answer.tracks[number] for answer in answers]
        assert [n for t in tracks for n in t.frame_indices.tolist()] == frames
        assert [n for t in tracks for n in t.masks.flatten(1).sum(1).tolist()] == frames
        assert [box for t in tracks for box in t.boxes.tolist()] == [
            [n, 2 * n, 3 * n, 4 * n] for n in frames
        ]
        for t in tracks:
            assert (t.video_id, t.text, t.score, t.tube) == ("v", query.text, 0.1 + number, number)
            assert t.scores is not None
    for answer in answers:
        own = answer.tracks[0].frame_indices
        assert (answer.start, answer.stop) == (own[0], own[-1] + 1)
    assert not any(training for training, _, _ in segmenter.asked)


def test_a_segmenter_gets_the_boxes_of_its_clips_frames():
    segmenter = Counting(range(-1, 2), "clip", proposals=3)
    list(segment_video(segmenter, "v", Frames(), QUERIES, Store()))
    lefts = [p.boxes[:, 0, 0].tolist() for _, _, p in segmenter.asked]
    assert lefts == [[0, 1, 2], [3, 4, 5], [4, 5, 6]]
    assert all(p.boxes.shape == (3, 3, 4) for _, _, p in segmenter.asked)
    bare = Counting(range(-1, 2), "clip")
    list(segment_video(bare, "v", Frames(), QUERIES, Store()))
    assert [p for _, _, p in bare.asked] == [None] * 3


def test_flow_comes_from_where_the_caller_says(monkeypatch):
    """A store where there is one, otherwise how it is to be computed."""
    handed = []

    def load(video_id, frames, key_frame, input_spec, flow, config):
        handed.append((video_id, key_frame, flow, config))
        return load_clip(video_id, frames, key_frame, input_spec)

    monkeypatch.setattr(full_video, "load_clip", load)
    store, config = object(), FlowConfig()
    segmenter = Counting(range(-1, 2), "clip")
    list(segment_video(segmenter, "v", Frames(), QUERIES, None, store, config))
    assert handed == [("v", key, store, config) for key in (1, 4, 5)]


@pytest.mark.parametrize("wanted", [range(1, 3), range(4, 7, 2), range(0, 7, 5)], ids=str)
def test_only_clips_of_wanted_frames_are_run(wanted):
    segmenter = tiny_segmenter("aamn.streams=rgb", "aamn.mask_head.features=rgb")
    query = [Query("a b", ("a", "b"), torch.tensor([2, 3]))]
    whole = list(segment_video(segmenter, "v", Frames(), query, Store()))
    clips = []
    segmenter.streams["rgb"].register_forward_hook(lambda *_: clips.append(1))
    some = list(segment_video(segmenter, "v", Frames(), query, Store(), wanted=wanted))
    assert len(clips) == len(some) == len({min(n // 3, 2) for n in wanted})
    masks = torch.cat([answer.tracks[0].masks for answer in whole])
    found = torch.cat([answer.tracks[0].masks for answer in some])
    assert torch.equal(found, masks[list(wanted)])
    assert [n for a in some for n in a.tracks[0].frame_indices.tolist()] == list(wanted)
    assert all(a.start in wanted and a.stop - 1 in wanted for a in some)


def test_the_video_comes_back_in_order_with_its_boxes():
    segmenter = tiny_segmenter("aamn.streams=rgb", "aamn.mask_head.features=rgb")
    queries = [
        Query("a b", ("a", "b"), torch.tensor([2, 3])),
        Query("c", ("c",), torch.tensor([4])),
    ]
    answers = list(segment_video(segmenter, "v", Frames(), queries, Store()))
    assert [(a.start, a.stop) for a in answers] == [(0, 3), (3, 6), (6, 7)]
    for answer in answers:
        for track in answer.tracks:
            assert track.frame_indices.tolist() == list(range(answer.start, answer.stop))
            assert track.masks.shape[1:] == (40, 50)
            if track.tube == 0:
                assert track.boxes[:, 0].tolist() == list(range(answer.start, answer.stop))
            else:
                assert track.boxes[:, 0].tolist() == [25] * len(track.boxes)
