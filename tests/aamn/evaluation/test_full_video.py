"""Rows of whole videos on frames of a few pixels."""

import pytest
import torch

from aamn.data.datasets.source import Expression, FullTarget
from aamn.evaluation.full_video import format_videos, frame_rows, summarise_videos, whole_videos
from aamn.structures import MaskTrack, Row
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


def test_each_sentence_is_compared_with_its_own_object():
    dog = Expression("v", 4, "a dog", kind="motion")
    cat = Expression("v", 6, "a cat", kind="location")
    boxes = torch.tensor([[0.0, 0.0, 2.0, 1.0]] * 9)
    boxes[5] = torch.tensor([0.0, 0.0, 5.0, 4.0])
    targets = [
        FullTarget(4, boxes, None),
        FullTarget(6, boxes + torch.tensor([1.0, 0, 1, 0]), None),
    ]
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[:, 0, :2] = True
    clips = [[track([3, 5], masks), track([3, 5], masks)]]  # every other frame of the video
    found = frame_rows([dog, cat], targets, iter(clips))["pixel"]
    fields = [
        (r.video_id, r.instance, r.frame, r.text, r.kind, r.intersection, r.union) for r in found
    ]
    assert fields == [
        ("v", 4, 3, "a dog", "motion", 2, 2),
        ("v", 4, 5, "a dog", "motion", 2, 20),
        ("v", 6, 3, "a cat", "location", 1, 3),
        ("v", 6, 5, "a cat", "location", 1, 17),  # columns 1..4 of all rows, and one pixel beside
    ]
    with pytest.raises(ValueError):
        frame_rows([dog, cat], targets, [[track([3, 5], masks)]])


def test_only_objects_with_true_masks_count_by_them():
    boxes, masks = torch.zeros(1, 4), torch.ones(1, 4, 5, dtype=torch.bool)
    other = Expression("v", 2, "a cat")
    targets = [FullTarget(1, boxes, None), FullTarget(2, boxes, masks)]
    found = frame_rows([ONE, other], targets, [[track([0], masks), track([0], masks)]])
    assert {name: len(part) for name, part in found.items()} == {"bbox": 2, "pixel": 2, "mask": 1}
    assert [(r.instance, r.iou) for r in found["mask"]] == [(2, 1.0)]


def row(intersection, union, video="v", instance=1, text="s", frame=0, kind="k"):
    return Row(video, instance, frame, text, kind, intersection, union, 0.5, 3)


def test_a_pair_is_a_video_an_object_and_a_sentence():
    found = whole_videos(
        [
            row(1, 10),
            row(2, 20, text="t"),
            row(4, 40, instance=2),
            row(8, 80, video="w"),
            row(16, 160, frame=7),
            row(32, 320, video="w", frame=7),
        ]
    )
    assert found == [
        row(17, 170, frame=-1),
        row(2, 20, text="t", frame=-1),
        row(4, 40, instance=2, frame=-1),
        row(40, 400, video="w", frame=-1),
    ]


def test_pairs_are_averaged_over_their_frames_pixels_and_vp_over_frames():
    rows = [row(9, 10), row(60, 100, frame=1), row(95, 100, video="w"), row(72, 80, text="t")]
    found = summarise_videos(rows)
    # By pair 69 / 110 = 0.63, 0.95 and 0.9; the worst frames are 0.6, 0.95 and 0.9.
    assert [found[f"P@{x}"] * 3 for x in (0.5, 0.6, 0.7, 0.8, 0.9)] == pytest.approx(
        [3, 3, 2, 2, 1]
    )
    assert [found[f"VP@{x}"] * 3 for x in (0.5, 0.6, 0.7, 0.8, 0.9)] == pytest.approx(
        [3, 2, 2, 2, 1]
    )
    assert found["Overall IoU"] == pytest.approx((69 + 95 + 72) / (110 + 100 + 80))


def test_the_table_holds_per_cent_below_their_heads():
    rows = [row(9, 10), row(60, 100, frame=1), row(95, 100, video="w"), row(72, 80, text="t")]
    results = {"ours": {"bbox": rows, "mask": rows[:1]}, "a_longer_name": {"pixel": rows[2:3]}}
    head, *lines = format_videos(results).splitlines()
    assert {len(line) for line in lines} == {len(head)}, "columns stand below their heads"
    cells = [dict(zip(head.split(), line.split(), strict=True)) for line in lines]
    assert cells[0] == {
        "system": "ours",
        "protocol": "bbox",
        "n": "3",
        "P@.5": "100.0",
        "P@.6": "100.0",
        "P@.7": "66.7",
        "P@.8": "66.7",
        "P@.9": "33.3",
        "mAP": "66.7",  # 3, 9 and 8 of ten thresholds lie below
        "Overall": "81.4",
        "Mean": "82.6",
        "VP@.5": "100.0",
        "VP@.7": "66.7",
    }
    places = [(c["system"], c["protocol"], c["n"], c["Overall"]) for c in cells[1:]]
    assert places == [("ours", "mask", "1", "90.0"), ("a_longer_name", "pixel", "1", "95.0")]


@pytest.mark.parametrize(("frames", "fits"), [([0, 1], True), ([1, 2], False)])
def test_a_truth_ends_where_its_last_frame_is(frames, fits):
    target = FullTarget(1, torch.zeros(2, 4), None)
    clips = [[track(frames, torch.zeros(2, 4, 5).bool())]]
    if fits:
        assert len(frame_rows([ONE], [target], clips)["pixel"]) == 2
        return
    with pytest.raises(InputError, match=r"v: .* 2 frames.* 3"):
        frame_rows([ONE], [target], clips)


def test_a_truth_that_ends_early_is_an_error():
    target = FullTarget(1, torch.zeros(1, 4), None)
    with pytest.raises(InputError, match="v: the full-video truth has 1 frames"):
        frame_rows([ONE], [target], [[track([0, 1], torch.zeros(2, 4, 5).bool())]])
