"""Windows over a whole video: every frame is answered for once, by the clip that holds it."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_segmenter

from aamn.full_video import plan_windows, segment_video
from aamn.structures import Needs, Query


def needs(offsets, predicts="clip"):
    return Needs(tuple(offsets), (48, 48), False, 0, predicts)


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 9, 10, 11, 18, 31])
@pytest.mark.parametrize("radius", [0, 1, 4])
def test_every_frame_is_answered_once(frames, radius):
    windows = plan_windows(frames, needs(range(-radius, radius + 1)))
    covered = [n for w in windows for n in range(w.start, w.stop)]
    assert covered == list(range(frames))
    for w in windows:
        assert 0 <= w.key_frame < frames
        assert w.key_frame - radius <= w.start and w.stop <= w.key_frame + radius + 1
        if frames >= 2 * radius + 1:
            assert w.key_frame - radius >= 0 and w.key_frame + radius < frames


def test_a_key_frame_predictor_gets_a_clip_for_every_frame():
    windows = plan_windows(5, needs(range(-8, 8), "key"))
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
