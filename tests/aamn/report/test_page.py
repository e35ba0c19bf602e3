"""The page: what it says, and that it needs nothing but itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from read_chart import legend
from read_page import Page, numbers, table_rows
from tiny_models import random_sample, tiny_segmenter

from aamn.evaluation.coco_ap import ScoredMask, scored_masks
from aamn.evaluation.key_frames import key_frame_rows
from aamn.evaluation.systems import Evaluation
from aamn.report.cases import Case, Contrast
from aamn.report.page import Pictures, charts, subsets, write_report
from aamn.report.scenes import Scene
from aamn.structures import Report, Row
from aamn.visualization.overlays import outlined


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


@pytest.fixture(scope="module")
def evaluated():
    """A system's evaluation of one clip, and a case a sentence."""
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter)
    tracks = segmenter.segment(sample.clip, sample.proposals, sample.queries)
    key = segmenter.input_spec.key
    rows = [replace(r, text=f"<b>{r.text}</b>") for r in key_frame_rows(sample, tracks, key)]
    report = Report(tuple(rows), "aamn", "noise & more")
    frames = np.random.default_rng(0).integers(0, 255, (3, 36, 60, 3), np.uint8)
    cases = [
        Case(r, q.tokens, frames, key, target, track, sample.proposals.boxes[key].numpy())
        for r, q, target, track in zip(rows, sample.queries, sample.targets, tracks, strict=True)
    ]
    return Evaluation(report, scored_masks(sample, tracks, key)), cases


def written(path, *content, **more):
    write_report(path, *content, **more)
    return Page(path.read_text())


def test_the_page_is_one_file_that_says_both_measures(evaluated, tmp_path):
    evaluation, cases = evaluated
    path = tmp_path / "page" / "index.html"
    page = written(
        path,
        [evaluation],
        Pictures(best=cases[:2], worst=cases[2:]),
        actors=["dog", "cat", "dog"],
        non_trivial=[True, True, False],
    )
    assert list(path.parent.iterdir()) == [path]
    assert len(page.links) == 3 * (4 + 3), "four pictures and three frames a case"
    assert all(link.startswith("data:image/") for link in page.links), "no file beside the page"
    assert "aamn on noise & more" in page.sections[0].text
    for title, own in (("Best answers", cases[:2]), ("Worst answers", cases[2:])):
        assert page[title].articles == len(own)
        for case in own:
            assert f"IoU {case.row.iou:.2f}" in page[title].text
            assert all(word in page[title].text for word in case.tokens)
    metrics = evaluation.metrics(range(3))
    row = table_rows(page["Metrics"].tables[0])[0]
    assert row["Mean IoU"] == f"{100 * metrics['Mean IoU']:.1f}"
    assert row["coco_ap COCO AP, MTTR's protocol"] == f"{100 * metrics['coco_ap']:.1f}"


def test_the_most_attended_word_has_the_deepest_ground(evaluated, tmp_path):
    evaluation, cases = evaluated
    case = cases[2]
    page = written(tmp_path / "p.html", [evaluation], Pictures(best=[case]))
    spans = [(word, given) for word, given in page["Best answers"].spans if "title" in given]
    assert [word for word, _ in spans] == [*case.tokens, *case.tokens]
    scores, n = case.track.scores, len(case.tokens)
    for weights, own in ((scores.actor_attention, spans[:n]), (scores.action_attention, spans[n:])):
        assert [float(given["title"]) for _, given in own] == [
            pytest.approx(weight, abs=5e-4) for weight in weights.tolist()
        ]
        depths = [numbers(given["style"])[-1] for _, given in own]
        wanted = [0.65 * weight / float(weights.max()) for weight in weights.tolist()]
        assert depths == [pytest.approx(depth, abs=1e-3) for depth in wanted]


def test_each_kind_of_picture_has_a_section_of_its_own(evaluated, tmp_path):
    evaluation, cases = evaluated
    masks = np.zeros((1, 2, 36, 60), bool)
    scene = Scene("v", [4], ["one", "two"], cases[0].frames[:1], masks[..., 0, 0] | True, masks, {})
    pictures = Pictures(
        cases[:1], [Contrast(cases[1], cases[1].track, cases[1].key)], [scene], cases[2:]
    )
    page = written(tmp_path / "p.html", [evaluation], pictures)
    titles = [
        "Metrics",
        "Distribution",
        "Best answers",
        "Word weights, predicted and random",
        "Several sentences about one video",
        "Worst answers",
    ]
    assert page.titles == titles
    assert [page[title].articles for title in titles[2:]] == [1, 1, 1, 1]
    page = written(tmp_path / "p.html", [evaluation], Pictures())
    assert page.titles == titles[:2]


KINDS = ("motion", "location", "motion", "")
COUNTS = ((72, 100), (32, 100), (50, 50), (0, 40))  # pixels of intersection and union
BOXES, LOOK_ALIKES = (0.92, 0.41, 1.0, 0.0), (2, 4, 1, 2)
PLACES = (("v", 0, 0), ("v", 1, 0), ("w", 2, 5), ("w", 2, 7))  # video, instance, frame


def coded(pixels):
    """The run-length code of a mask of 20 x 20 whose first pixels are set."""
    mask = np.zeros((20, 20), np.uint8)
    mask.flat[:pixels] = 1
    return coco_mask.encode(np.asfortranarray(mask))


def counted(system="ours", counts=COUNTS, boxes=BOXES, distractors=LOOK_ALIKES):
    """Four sentences; every answer lies in or around the true mask, so that the counts hold."""
    rows, masks = [], []
    for place, (intersection, union) in enumerate(counts):
        video, instance, frame = PLACES[place]
        own = (intersection, union, boxes[place], distractors[place])
        rows.append(Row(video, instance, frame, f"s{instance}", KINDS[place], *own))
        masks.append(ScoredMask(coded(union), coded(intersection), 1.0 - place / 10))
    return Evaluation(Report(tuple(rows), system, "four sentences"), masks)


OTHERS = ((100, 100), (0, 10), (21, 50), (40, 40))


def cells(page):
    """system, subset -> the row of the table of metrics; a system is named once."""
    found, system = {}, ""
    for row in table_rows(page["Metrics"].tables[0]):
        system = row["system"] or system
        found[system, row["sentences"]] = row
    return found


def percent(value):
    return f"{100 * value:.1f}"


# The IoUs are 0.72, 0.32, 1 and 0.
BY_HAND = {
    "all": {
        **{"n": "4", "P@0.5": "50.0", "P@0.6": "50.0", "P@0.7": "50.0", "P@0.8": "25.0"},
        **{"P@0.9": "25.0", "mAP 0.5:0.95 mean of P@X": percent((5 * 0.5 + 5 * 0.25) / 10)},
        "Overall IoU": percent((72 + 32 + 50) / (100 + 100 + 50 + 40)),
        "Mean IoU": percent((0.72 + 0.32 + 1) / 4),
        "VP@0.5": percent(1 / 3),  # of three videos with their sentences; w's has a frame of 0
        "Loc P@0.5": "50.0",
        "chance": percent((1 / 2 + 1 / 4 + 1 + 1 / 2) / 4),
    },
    "location": {
        **{"n": "1", "P@0.5": "0.0", "Overall IoU": "32.0", "Mean IoU": "32.0", "VP@0.5": "0.0"},
        **{
            "coco_ap COCO AP, MTTR's protocol": "0.0",
            "coco_ap50": "0.0",
            "Loc P@0.5": "0.0",
            "chance": "25.0",
        },
    },
    "motion": {
        **{"n": "2", "P@0.5": "100.0", "P@0.7": "100.0", "P@0.8": "50.0"},
        **{"Overall IoU": percent(122 / 150), "Mean IoU": "86.0", "VP@0.5": "100.0"},
        **{"coco_ap50": "100.0", "Loc P@0.5": "100.0", "chance": "75.0"},
    },
    "non-trivial": {
        # An IoU of 0.72 reaches five of COCO's ten thresholds, 0.5 to 0.7.
        **{
            "n": "1",
            "coco_ap COCO AP, MTTR's protocol": "50.0",
            "coco_ap50": "100.0",
            "Mean IoU": "72.0",
        },
        "mAP 0.5:0.95 mean of P@X": "50.0",
    },
    "trivial": {
        **{"n": "3", "P@0.5": percent(1 / 3), "Overall IoU": percent(82 / 190)},
        **{"Mean IoU": "44.0", "chance": percent((1 / 4 + 1 + 1 / 2) / 3)},
    },
}


def test_every_cell_of_the_metrics_by_hand(tmp_path):
    kept = [True, False, False, False]
    page = written(tmp_path / "p.html", [counted()], Pictures(), non_trivial=kept)
    found = cells(page)
    assert [name for _, name in found] == ["all", "location", "motion", "non-trivial", "trivial"]
    for name, wanted in BY_HAND.items():
        row = found["ours", name]
        assert {head: row[head] for head in wanted} == wanted, name
    heads = list(row)
    assert heads[:3] == ["system", "sentences", "n"] and len(heads) == 3 + 5 + 4 + 5
    text = page.sections[0].text
    assert "ours on four sentences" in text
    assert numbers(text.split("four sentences")[-1]) == [4, 3, 2], "sentences, frames, videos"


def test_systems_stand_one_below_the_other_and_gaps_are_gaps(tmp_path):
    other = counted("them", OTHERS, (float("nan"),) * 4, (0,) * 4)
    found = cells(written(tmp_path / "p.html", [counted(), other], Pictures()))
    kinds = ("all", "location", "motion")
    assert list(found) == [(system, kind) for system in ("ours", "them") for kind in kinds]
    assert found["ours", "all"]["Mean IoU"] == percent((0.72 + 0.32 + 1) / 4)
    assert found["them", "all"]["Mean IoU"] == percent((1 + 0.42 + 1) / 4)
    assert found["them", "motion"]["Overall IoU"] == percent(121 / 150)
    assert found["them", "all"]["Loc P@0.5"] == found["them", "all"]["chance"] == "-"
    assert "-" not in found["ours", "all"].values()


def test_the_table_of_actors_by_hand(tmp_path):
    actors = ["dog", "cat", "dog", ""]
    page = written(tmp_path / "p.html", [counted()], Pictures(), actors=actors)
    assert page.titles == ["Metrics", "Distribution", "By actor class"]
    cat, dog = table_rows(page["By actor class"].tables[0])
    assert list(cat.values()) == ["cat", "1", *["0.0"] * 5, "32.0"]
    assert list(dog.values()) == ["dog", "2", *["100.0"] * 3, *["50.0"] * 2, "86.0"]
    assert list(dog)[:3] == ["actor", "n", "P@0.5"] and list(dog)[-1] == "Mean IoU"
    for nobody in ((), [""] * 4):
        page = written(tmp_path / "p.html", [counted()], Pictures(), actors=nobody)
        assert page.titles == ["Metrics", "Distribution"]


def test_the_histogram_counts_sentences_and_the_curve_their_share():
    histogram, curve = (
        chart.axes[0] for chart in charts([counted(), counted("them", OTHERS)]).values()
    )
    places = ({0: 1, 6: 1, 14: 1, 19: 1}, {0: 1, 8: 1, 19: 2})
    for bars, name, wanted in zip(histogram.containers, ("ours", "them"), places, strict=True):
        assert [bar.get_height() for bar in bars] == [wanted.get(n, 0) for n in range(20)], name
        for n, bar in enumerate(bars):
            assert n / 20 <= bar.get_x() < bar.get_x() + bar.get_width() <= (n + 1) / 20
    assert list(legend(histogram.figure)) == list(legend(curve.figure)) == ["ours", "them"]
    for line, ious in zip(curve.lines, ((0.72, 0.32, 1, 0), (1, 0, 0.42, 1)), strict=True):
        assert list(line.get_xdata()) == [pytest.approx(n / 100) for n in range(101)]
        for x, share in zip(*line.get_data(), strict=True):
            if min(abs(x - iou) for iou in ious if iou) > 1e-6:
                assert share == 25 * sum(iou > x for iou in ious), x
    shares = curve.lines[0].get_ydata()
    assert shares[0] == 75, "an IoU of 0 is not above 0"
    assert shares[100] == 0, "nor one of 1 above 1"


def test_the_page_names_what_its_charts_show(tmp_path):
    other = counted("<them>", OTHERS)
    text = written(tmp_path / "p.html", [counted(), other], Pictures())["Distribution"].text
    for words in ("How many sentences reach which IoU", "Share of sentences with an IoU above X"):
        assert words in text
    assert all(text.split().count(word) == 2 for word in ("ours", "<them>")), "two legends"
    assert all(word in text.split() for word in ("IoU", "sentences", "X", "P@X,"))


def test_an_answer_without_a_tube_still_has_a_page(evaluated, tmp_path):
    evaluation, cases = evaluated
    nobody = replace(cases[0].track, tube=-1, scores=None, masks=torch.zeros(3, 36, 60).bool())
    case = replace(cases[0], track=nobody, proposals=None)
    page = written(tmp_path / "p.html", [evaluation], Pictures(worst=[case]))
    assert "no tube was chosen" in page["Worst answers"].text


def test_pictures_keep_the_frames_shape_and_draw_where_told():
    frame = np.full((30, 60, 3), 100, np.uint8)
    mask = np.zeros((30, 60), bool)
    mask[10:20, 10:20] = True
    picture = outlined(frame, mask, (0, 255, 0), [((40, 5, 55, 25), (255, 0, 0), True)], 120)
    assert picture.shape == (60, 120, 3)
    assert picture[30, 30].tolist() == [100, 100, 100], "inside the mask as it is"
    assert picture[30, 19].tolist() == [0, 255, 0] and picture[30, 60].tolist() == [40, 40, 40]
    column = picture[10:50, 80].astype(int)
    red = (column[:, 0] > 180) & (column[:, 1] < 80)
    assert 0 < red.sum() < len(red), "a dashed side has gaps"
