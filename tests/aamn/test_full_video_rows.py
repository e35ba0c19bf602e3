"""Rows of whole videos on frames of a few pixels."""

import pytest
import torch

from aamn.data.source import Expression, FullTarget
from aamn.full_video_rows import format_videos, frame_rows, summarise_videos, whole_videos
from aamn.structures import MaskTrack
from proposals.errors import InputError

ONE = Expression("v", 1, "a dog")


def track(frames, masks):
    n = len(frames)
    return MaskTrack("v", ONE.text, torch.tensor(frames), torch.zeros(n, 4), masks, 0.0)


def l_shape():
    """An L of three pixels in a 4 x 5 frame; its box is 2 x 2."""
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[1, 1] = mask[2, 1] = mask[2, 2] = True
    return mask


def rows(truth_masks=None):
    masks = torch.stack([l_shape(), l_shape(), torch.zeros(4, 5, dtype=torch.bool)])
    boxes = torch.tensor([[1.0, 1, 3, 3], [1, 1, 5, 3], [0, 0, 0, 0]])
    target = FullTarget(1, boxes, truth_masks)
    return frame_rows([ONE], [target], [[track([0, 1], masks[:2])], [track([2], masks[2:])]])


def test_protocols_count_what_they_say():
    found = rows(torch.stack([l_shape(), torch.zeros(4, 5).bool(), torch.zeros(4, 5).bool()]))
    counts = {
        name: [(row.frame, row.intersection, row.union) for row in part]
        for name, part in found.items()
    }
    assert counts["bbox"] == [(0, 4, 4), (1, 4, 8), (2, 0, 0)]
    assert counts["pixel"] == [(0, 3, 4), (1, 3, 8), (2, 0, 0)]
    assert counts["mask"] == [(0, 3, 3), (1, 0, 3), (2, 0, 0)]


def test_frames_of_a_video_count_together_and_vp_counts_the_worst_frame():
    found = rows()
    assert set(found) == {"bbox", "pixel"}
    video = whole_videos(found["bbox"])
    assert [(row.intersection, row.union, row.frame) for row in video] == [(8, 12, -1)]
    metrics = summarise_videos(found["bbox"])
    assert metrics["P@0.6"] == 1 and metrics["P@0.7"] == 0
    assert metrics["Mean IoU"] == pytest.approx(8 / 12)
    assert metrics["VP@0.5"] == 0  # frame 1 has exactly one half
    assert "66.7" in format_videos({"aamn": found})


def test_a_truth_that_ends_early_is_an_error():
    target = FullTarget(1, torch.zeros(1, 4), None)
    with pytest.raises(InputError, match="v: the full-video truth has 1 frames"):
        frame_rows([ONE], [target], [[track([0, 1], torch.zeros(2, 4, 5).bool())]])
