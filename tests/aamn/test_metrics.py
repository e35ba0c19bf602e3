"""Metrics on rows one can add up by hand, and the paper's own columns."""

import pytest

from aamn.metrics import (
    mean_precision,
    overall_iou,
    precision_at,
    summarise,
    summarise_kinds,
    video_precision,
)
from aamn.structures import Row


def row(
    intersection, union, video="v", frame=0, kind="", text="s", box=0.5, look_alikes=2, instance=0
):
    return Row(video, instance, frame, text, kind, intersection, union, box, look_alikes)


ROWS = (
    row(8, 10, kind="motion"),
    row(1, 2, frame=4, kind="motion"),
    row(0, 90, video="w", kind="location", look_alikes=4),
    row(0, 0, video="w", frame=4, kind="location", look_alikes=4),
)


def test_precision_is_strictly_above_the_threshold():
    assert precision_at([0.5, 0.51, 0.9, 0.1], 0.5) == 0.5


def test_mean_precision_is_the_mean_over_ten_thresholds():
    # 0.72 lies above 0.50, 0.55, 0.60, 0.65, 0.70: five of ten thresholds; 1.0 above all ten.
    assert mean_precision([0.72]) == pytest.approx(0.5)
    assert mean_precision([0.72, 1.0]) == pytest.approx(0.75)


def test_summary_by_hand():
    got = summarise(ROWS)
    assert got["Overall IoU"] == pytest.approx(9 / 102)
    assert got["Mean IoU"] == pytest.approx((0.8 + 0.5 + 0.0 + 1.0) / 4)
    assert got["P@0.5"] == 0.5 and got["P@0.8"] == 0.25 and got["P@0.9"] == 0.25
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
    got = summarise([row(1, 2, box=float("nan"), look_alikes=0)])
    assert "Loc P@0.5" not in got and "chance" not in got


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
