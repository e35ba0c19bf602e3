"""Metrics on rows one can add up by hand, and the paper's own columns."""

import pytest

from aamn.evaluation.metrics import (
    MEAN_PRECISION_THRESHOLDS,
    PRECISION_THRESHOLDS,
    mean_precision,
    overall_iou,
    precision_at,
    summarise,
    summarise_kinds,
    video_precision,
)
from aamn.structures import Row


def row(
    intersection, union, video="v", frame=0, kind="", text="s", box=0.5, distractors=2, instance=0
):
    return Row(video, instance, frame, text, kind, intersection, union, box, distractors)


ROWS = (
    row(8, 10, kind="motion"),
    row(1, 2, frame=4, kind="motion"),
    row(0, 90, video="w", kind="location", distractors=4),
    row(0, 0, video="w", frame=4, kind="location", distractors=4),
)


def test_precision_is_strictly_above_the_threshold():
    assert precision_at([0.5, 0.51, 0.9, 0.1], 0.5) == 0.5


def test_mean_precision_is_the_mean_over_ten_thresholds():
    # 0.72 lies above 0.50, 0.55, 0.60, 0.65, 0.70: five of ten thresholds; 1.0 above all ten.
    assert mean_precision([0.72]) == pytest.approx(0.5)
    assert mean_precision([0.72, 1.0]) == pytest.approx(0.75)


def test_the_thresholds_are_the_papers():
    assert PRECISION_THRESHOLDS == (0.5, 0.6, 0.7, 0.8, 0.9)
    ten = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert ten == MEAN_PRECISION_THRESHOLDS


@pytest.mark.parametrize("threshold", MEAN_PRECISION_THRESHOLDS)
def test_an_iou_of_a_threshold_lies_above_those_before_it_alone(threshold):
    place = MEAN_PRECISION_THRESHOLDS.index(threshold)
    assert precision_at([threshold], threshold) == 0
    assert mean_precision([threshold]) == pytest.approx(place / 10)
    assert mean_precision([threshold + 1e-6]) == pytest.approx((place + 1) / 10)


def test_a_summary_names_its_metrics_as_the_papers_do():
    precisions = [f"P@{x}" for x in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert list(summarise(ROWS)) == [
        *precisions,
        "mAP 0.5:0.95",
        "Overall IoU",
        "Mean IoU",
        *(f"V{name}" for name in precisions),
        *(f"Loc {name}" for name in precisions),
        "chance",
    ]


def test_each_threshold_has_its_own_cell():
    ious = (95, 85, 75, 65, 55, 45, 5, 5, 5, 5)
    boxes = (0.55, 0.65, 0.75, 0.75, 0.85, 0.95, 0.1, 0.1, 0.1, 0.1)
    rows = [
        row(iou, 100, text=str(n), box=box)
        for n, (iou, box) in enumerate(zip(ious, boxes, strict=True))
    ]
    # The words of the last one name another object too, and one of another video.
    rows += [row(85, 100, text="9", instance=1), row(85, 100, text="9", video="w")]
    found = summarise(rows)
    for x, count, best in zip(PRECISION_THRESHOLDS, (7, 6, 5, 4, 1), (6, 5, 4, 2, 1), strict=True):
        assert found[f"P@{x}"] == found[f"VP@{x}"] == pytest.approx(count / 12)
        assert found[f"Loc P@{x}"] == pytest.approx(best / 12)


def test_summary_by_hand():
    got = summarise(ROWS)
    assert got["Overall IoU"] == pytest.approx(9 / 102)
    assert got["Mean IoU"] == pytest.approx((0.8 + 0.5 + 0.0 + 1.0) / 4)
    assert got["P@0.5"] == 0.5 and got["P@0.8"] == 0.25 and got["P@0.9"] == 0.25
    assert got["VP@0.5"] == 0.0, "each video has a frame of one half or less"
    assert got["Loc P@0.5"] == 0.0
    assert got["chance"] == pytest.approx((0.5 + 0.5 + 0.25 + 0.25) / 4)


def test_two_empty_masks_agree():
    assert row(0, 0).iou == 1.0 and overall_iou([row(0, 0)]) == 1.0


def test_a_video_counts_when_every_frame_does():
    assert video_precision(ROWS, 0.4) == 0.5
    assert video_precision(ROWS, 0.5) == 0.0
    # Two sentences about one actor are two pairs.
    assert video_precision([row(9, 10, text="a"), row(1, 10, text="b")], 0.5) == 0.5


def test_kinds_are_summarised_apart():
    got = summarise_kinds(ROWS)
    assert list(got) == ["all", "location", "motion"]
    assert got["motion"]["Mean IoU"] == pytest.approx(0.65)
    assert got["location"]["chance"] == 0.25


def test_boxes_and_chance_are_left_out_where_unknown():
    got = summarise([row(1, 2, box=float("nan"), distractors=0)])
    assert "Loc P@0.5" not in got and "chance" not in got
    # One row of which they are not known is enough.
    some = summarise([row(1, 2), row(1, 2, box=float("nan")), row(1, 2, distractors=0)])
    assert "Loc P@0.5" not in some and "chance" not in some and some["P@0.5"] == 0


def test_a_sentence_without_a_kind_counts_among_all_alone():
    got = summarise_kinds([*ROWS, row(1, 1, text="t")])
    assert list(got) == ["all", "location", "motion"]
    assert got["all"]["Mean IoU"] == pytest.approx((0.8 + 0.5 + 0 + 1 + 1) / 5)
    assert got["motion"]["Mean IoU"] == pytest.approx(0.65)


def test_nothing_to_summarise_is_an_error():
    with pytest.raises(ValueError, match="no rows"):
        summarise([])


# P@0.5 ... P@0.9 and mAP of the full model on A2D, Table X of the paper: P@X falls with X, so the
# mean over ten thresholds lies between the sums that take each gap's lower or upper end.
def test_definition_of_mean_precision_fits_the_papers_columns():
    columns, published = (68.9, 64.2, 54.5, 32.4, 3.4), 41.2
    upper = (2 * sum(columns)) / 10
    lower = (sum(columns) + sum(columns[1:])) / 10
    assert lower < published < upper
