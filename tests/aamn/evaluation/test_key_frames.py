"""Evaluation of key frames on masks of a few pixels: rows, tables and the file of metrics."""

import json
import math

import pytest
import torch

from aamn.evaluation.key_frames import evaluate, format_table, key_frame_rows, write_metrics
from aamn.models.segmenter import Segmenter
from aamn.structures import (
    Clip,
    Geometry,
    InputSpec,
    MaskTrack,
    Query,
    Report,
    Row,
    Sample,
    Target,
    TubeScores,
    empty_track,
)

SIZE = (4, 6)
NOBODY = float("-inf")


def filled(x1, y1, x2, y2):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


def sample(video="v", frames=(7, 8, 9), key=1, boxes=((0, 0, 4, 2),), kinds=("motion",)):
    """One sentence a box, whose mask fills it."""
    n = len(frames)
    geometry = Geometry.fit(SIZE, (8, 12))
    clip = Clip(video, torch.tensor(frames), torch.zeros(n, 3, 8, 12), None, geometry, key)
    targets = tuple(
        Target(3 + i, torch.tensor(box, dtype=torch.float32), filled(*box), kind, 2 + i)
        for i, (box, kind) in enumerate(zip(boxes, kinds, strict=True))
    )
    queries = tuple(Query(f"s{i}", (f"s{i}",), torch.tensor([2])) for i in range(len(boxes)))
    return Sample(clip, None, queries, targets)


def track(boxes, masks=None, chosen=True, text="s0", score=0.5):
    """A box a frame; the masks are those of the boxes unless given; `chosen`: by a tube."""
    boxes = torch.tensor(boxes, dtype=torch.float32)
    if masks is None:
        masks = torch.stack([filled(*map(int, box)) for box in boxes])
    scores = TubeScores(*torch.zeros(5, 1)) if chosen else None
    frames = torch.arange(len(boxes))
    return MaskTrack("v", text, frames, boxes, masks, score, scores, 0 if chosen else -1)


@pytest.mark.parametrize(
    ("key", "intersection", "union", "box_iou"),
    [(0, 0, 12, 0.0), (1, 4, 8, 0.5), (2, 8, 8, 1.0)],
)
def test_a_row_counts_the_key_frame_alone(key, intersection, union, box_iou):
    answer = track([(4, 2, 6, 4), (0, 0, 2, 2), (0, 0, 4, 2)])
    (row,) = key_frame_rows(sample(), [answer], key)
    assert (row.intersection, row.union) == (intersection, union)
    assert row.box_iou == pytest.approx(box_iou)


def test_the_box_counts_as_chosen_and_the_mask_as_drawn():
    (row,) = key_frame_rows(sample(), [track([(0, 0, 4, 2)], filled(0, 0, 1, 2)[None])], 0)
    assert (row.intersection, row.union, row.box_iou) == (2, 8, 1.0)


def test_a_row_says_which_video_frame_object_and_sentence_it_is_of():
    both = sample(frames=(5, 5, 6), key=2, boxes=((0, 0, 1, 1), (2, 2, 6, 4)), kinds=("a", ""))
    answers = [track([(0, 0, 1, 1)]), track([(2, 2, 6, 4)], text="s1")]
    rows = key_frame_rows(both, answers, 0)  # one frame was predicted, the sixth of the video
    fields = [(r.video_id, r.instance, r.frame, r.text, r.kind, r.distractors, r.iou) for r in rows]
    assert fields == [("v", 3, 6, "s0", "a", 2, 1.0), ("v", 4, 6, "s1", "", 3, 1.0)]


def test_every_sentence_wants_its_answer():
    both = sample(boxes=((0, 0, 1, 1), (2, 2, 6, 4)), kinds=("", ""))
    with pytest.raises(ValueError):
        key_frame_rows(both, [track([(0, 0, 1, 1)])], 0)


def test_only_a_system_that_chooses_boxes_has_a_box_iou():
    (row,) = key_frame_rows(sample(), [track([(0, 0, 4, 2)], chosen=False)], 0)
    assert math.isnan(row.box_iou) and row.iou == 1.0
    nobody = empty_track("v", "s0", torch.arange(3), SIZE)
    (row,) = key_frame_rows(sample(), [nobody], 1)
    assert (row.box_iou, row.intersection, row.union) == (0.0, 0, 8)


class Fixed(Segmenter):
    """Answers with the box of each clip's video, in the key frame alone or in all three frames."""

    def __init__(self, predicts, answers):
        super().__init__()
        self.input_spec = InputSpec((-1, 0, 1), (8, 12), False, 0, predicts)
        self.answers, self.modes = answers, []

    def segment(self, clip, proposals, queries):
        self.modes.append((self.training, torch.is_grad_enabled()))
        box = self.answers[clip.video_id]
        boxes = [box] if self.input_spec.predicts == "key" else [(4, 2, 6, 4), box, (5, 3, 6, 4)]
        return [track(boxes, text=query.text) for query in queries]


@pytest.mark.parametrize(("predicts", "place"), [("clip", 1), ("key", 0)])
def test_samples_are_evaluated_at_their_key_frames(predicts, place):
    segmenter = Fixed(predicts, {"v": (0, 0, 4, 2), "w": (0, 0, 2, 2)}).train()
    samples, seen = [sample("v"), sample("w")], []
    report = evaluate(
        segmenter, iter(samples), system="ours", data="demo", observe=lambda *a: seen.append(a)
    )
    assert (report.system, report.data) == ("ours", "demo")
    assert [(r.video_id, r.frame, r.iou) for r in report.rows] == [("v", 8, 1.0), ("w", 8, 0.5)]
    assert segmenter.modes == [(False, False)] * 2, "as for answers, without gradients"
    assert [s.clip.video_id for s, _, _ in seen] == ["v", "w"]
    assert [at for _, _, at in seen] == [place, place]
    assert [tracks[0].masks[at].sum().item() for _, tracks, at in seen] == [8, 4]


def row(intersection, union, kind="", box_iou=0.25, distractors=2, frame=0, text="s", video="v"):
    return Row(video, 1, frame, text, kind, intersection, union, box_iou, distractors)


def table_of(*reports):
    """(system, kind) -> head -> cell."""
    head, *lines = format_table(reports).splitlines()
    assert {len(line) for line in lines} == {len(head)}, "columns stand below their heads"
    names = head.split()
    cells = [dict(zip(names, line.split(), strict=True)) for line in lines]
    return {(cell["system"], cell["sentences"]): cell for cell in cells}


def test_the_table_holds_per_cent_below_their_heads():
    rows = (
        row(85, 100, "motion", box_iou=0.6),
        row(1, 20, "motion", frame=1, distractors=4),
        row(65, 80, "location", text="t", box_iou=0.9),
        row(3, 5, text="u"),
    )
    cells = table_of(Report(rows, "ours", "d"))
    assert list(cells) == [("ours", "all"), ("ours", "location"), ("ours", "motion")]
    everything = cells["ours", "all"]
    # IoU 0.85, 0.05, 0.8125 and 0.6; the first two are one sentence in two frames.
    assert everything == {
        "system": "ours",
        "sentences": "all",
        "n": "4",
        "P@.5": "75.0",
        "P@.6": "50.0",
        "P@.7": "50.0",
        "P@.8": "50.0",
        "P@.9": "0.0",
        "mAP": "40.0",  # 7 thresholds lie below 0.85, 7 below 0.8125, 2 below 0.6
        "Overall": "75.1",  # 154 / 205
        "Mean": "57.8",
        "VP@.5": "66.7",
        "Loc@.5": "50.0",
        "chance": "43.8",  # (1/2 + 1/4 + 1/2 + 1/2) / 4
    }
    assert (cells["ours", "motion"]["n"], cells["ours", "motion"]["VP@.5"]) == ("2", "0.0")
    assert (cells["ours", "location"]["n"], cells["ours", "location"]["P@.8"]) == ("1", "100.0")


def test_what_is_unknown_is_a_dash_and_systems_are_aligned():
    none = Report((row(1, 1, box_iou=math.nan, distractors=0),), "s", "d")
    cells = table_of(none, Report((row(1, 1),), "a_longer_name", "d"))
    assert (cells["s", "all"]["Loc@.5"], cells["s", "all"]["chance"]) == ("-", "-")
    known = cells["a_longer_name", "all"]
    assert (known["Loc@.5"], known["chance"], known["P@.9"]) == ("0.0", "50.0", "100.0")


def test_the_file_of_metrics_holds_every_system_and_row(tmp_path):
    one = Report((row(1, 3, "motion", frame=4), row(2, 2, box_iou=math.nan)), "ours", "demo (test)")
    other = Report((row(0, 9, video="w", text="t"),), "theirs", "demo (test)")
    write_metrics([one, other], tmp_path / "metrics.json")
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert list(found) == ["ours", "theirs"]
    assert (found["ours"]["data"], found["ours"]["samples"]) == ("demo (test)", 2)
    assert found["ours"]["metrics"]["all"]["Mean IoU"] == pytest.approx((1 / 3 + 1) / 2)
    assert found["ours"]["metrics"]["motion"]["P@0.5"] == 0
    assert found["ours"]["rows"] == [
        {
            "video_id": "v",
            "instance": 1,
            "frame": 4,
            "text": "s",
            "kind": "motion",
            "iou": 0.333333,
            "box_iou": 0.25,
        },
        {
            "video_id": "v",
            "instance": 1,
            "frame": 0,
            "text": "s",
            "kind": "",
            "iou": 1.0,
            "box_iou": None,
        },
    ]
    assert [(r["video_id"], r["iou"]) for r in found["theirs"]["rows"]] == [("w", 0.0)]
