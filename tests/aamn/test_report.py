"""The page: what it says, and that it needs nothing but itself."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from tiny_models import random_sample, tiny_segmenter

from aamn.charts import Series, bar_chart, column_chart, line_chart
from aamn.coco import scored_masks
from aamn.evaluation import key_frame_rows
from aamn.report import Evaluation, Pictures, subsets, write_report
from aamn.report_cases import Case, Contrast
from aamn.report_scenes import Scene
from aamn.structures import Report, Row
from aamn.visualize import outlined


def row(iou, kind=""):
    return Row("v", 0, 0, "s", kind, round(iou * 100), 100)


def test_subsets_follow_kind_and_company():
    rows = [row(1, kind="motion"), row(1, kind="location"), row(1)]
    assert subsets(rows, [True, False, True]) == {
        "all": [0, 1, 2],
        "location": [1],
        "motion": [0],
        "non-trivial": [0, 2],
        "trivial": [1],
    }
    assert list(subsets([row(1)])) == ["all"]


@pytest.fixture
def evaluated():
    """A system's evaluation of one clip, and a case a sentence."""
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter)
    tracks = segmenter.segment(sample.clip, sample.proposals, sample.queries)
    key = segmenter.needs.key
    rows = [replace(r, text=f"<b>{r.text}</b>") for r in key_frame_rows(sample, tracks, key)]
    report = Report(tuple(rows), "aamn", "noise & more")
    frames = np.random.default_rng(0).integers(0, 255, (3, 36, 60, 3), np.uint8)
    cases = [
        Case(r, q.tokens, frames, key, target, track, sample.proposals.boxes[key].numpy())
        for r, q, target, track in zip(rows, sample.queries, sample.targets, tracks, strict=True)
    ]
    return Evaluation(report, scored_masks(sample, tracks, key)), cases


class _Checker(HTMLParser):
    """Counts pictures, and fails where tags do not close."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_one_file_that_says_both_measures(evaluated, tmp_path):
    evaluation, cases = evaluated
    page = tmp_path / "page" / "index.html"
    write_report(
        page,
        [evaluation],
        Pictures(best=cases[:2], worst=cases[2:]),
        actors=["dog", "cat", "dog"],
        non_trivial=[True, True, False],
    )
    assert list(page.parent.iterdir()) == [page]
    checker = _Checker()
    checker.feed(page.read_text())
    assert not checker.open
    assert len(checker.sources) == 3 * (4 + 3), "four pictures and three frames a case"
    assert all(source.startswith("data:image/jpeg;base64,") for source in checker.sources)
    text = " ".join(checker.text)
    for words in ("mAP 0.5:0.95", "coco_ap", "non-trivial", "noise & more", "cat", "P@0.9"):
        assert words in text
    for case in cases:
        assert f"IoU {case.row.iou:.2f}" in text and all(w in text for w in case.tokens)
    metrics = evaluation.metrics(range(3))
    assert f"{100 * metrics['Mean IoU']:.1f}" in text
    assert f"{100 * metrics['coco_ap']:.1f}" in text


def test_the_most_attended_word_has_the_deepest_ground(evaluated, tmp_path):
    evaluation, cases = evaluated
    case = cases[2]
    write_report(tmp_path / "p.html", [evaluation], Pictures(best=[case]))
    grounds = re.findall(
        r"title='([\d.]+)' style='background:rgba\([\d, ]+, ([\d.]+)\)'>(\w+)<",
        (tmp_path / "p.html").read_text(),
    )
    assert [word for *_, word in grounds] == [*case.tokens, *case.tokens]
    actor = [float(depth) for _, depth, _ in grounds[: len(case.tokens)]]
    assert int(np.argmax(actor)) == int(case.track.scores.actor_attention.argmax())
    assert max(actor) == 0.65


def test_each_kind_of_picture_has_a_section_of_its_own(evaluated, tmp_path):
    evaluation, cases = evaluated
    masks = np.zeros((1, 2, 36, 60), bool)
    scene = Scene("v", [4], ["one", "two"], cases[0].frames[:1], masks[..., 0, 0] | True, masks, {})
    pictures = Pictures(
        cases[:1], [Contrast(cases[1], cases[1].track, cases[1].key)], [scene], cases[2:]
    )
    write_report(tmp_path / "p.html", [evaluation], pictures)
    page = (tmp_path / "p.html").read_text()
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == [
        "Metrics",
        "Distribution",
        "Best answers",
        "Word weights, predicted and random",
        "Several sentences about one video",
        "Worst answers",
    ]
    assert page.count("<article>") == 4
    write_report(tmp_path / "p.html", [evaluation], Pictures())
    assert re.findall(r"<h2>(.*?)</h2>", (tmp_path / "p.html").read_text()) == heads[:2]


def test_an_answer_without_a_tube_still_has_a_page(evaluated, tmp_path):
    evaluation, cases = evaluated
    nobody = replace(cases[0].track, tube=-1, scores=None, masks=torch.zeros(3, 36, 60).bool())
    case = replace(cases[0], track=nobody, proposals=None)
    write_report(tmp_path / "p.html", [evaluation], Pictures(worst=[case]))
    assert "no tube was chosen" in (tmp_path / "p.html").read_text()


def test_pictures_keep_the_frames_shape_and_draw_where_told():
    frame = np.full((30, 60, 3), 100, np.uint8)
    mask = np.zeros((30, 60), bool)
    mask[10:20, 10:20] = True
    picture = outlined(frame, mask, (0, 255, 0), [((40, 5, 55, 25), (255, 0, 0), True)], 120)
    assert picture.shape == (60, 120, 3)
    assert picture[30, 30].tolist() == [50, 177, 50], "half the colour inside the mask"
    assert picture[30, 60].tolist() == [100, 100, 100]
    column = picture[10:50, 80].astype(int)
    red = (column[:, 0] > 180) & (column[:, 1] < 80)
    assert 0 < red.sum() < len(red), "a dashed side has gaps"


def heights(svg):
    return [float(h) for h in re.findall(r"height='([\d.]+)' fill='#2563eb' rx", svg)]


def test_bars_are_as_tall_as_their_counts():
    tall = heights(column_chart([Series("a", [1, 2, 4])], ["x", "y", "z"], "X", "Y"))
    assert tall[1] == pytest.approx(2 * tall[0], abs=0.1)
    assert tall[2] == pytest.approx(4 * tall[0], abs=0.2)


def test_lying_bars_have_their_numbers_and_leave_gaps():
    svg = bar_chart([Series("a", [50, None], spread=[5, None])], ["one", "<two>"], "T")
    assert "50.0" in svg and "&lt;two&gt;" in svg
    assert svg.count("rx='1.5'") == 1


def test_a_line_runs_from_corner_to_corner():
    svg = line_chart([Series("a", [100, 0], at=[0, 1])], "X", "Y", size=(470, 268))
    assert "points='58.0,28.0 458.0,228.0'" in svg
