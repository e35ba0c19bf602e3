"""Charts: bars are as long as their numbers, points lie where they belong, axes say which."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from aamn.visualization.charts import PALETTE, Series, bar_chart, column_chart, line_chart


def drawn(svg):
    """The elements by kind: dicts of their attributes, with a text's or a title's words."""
    found = {"rect": [], "line": [], "text": [], "polyline": []}
    for element in ElementTree.fromstring(svg).iter():
        kind = element.tag.split("}")[1]
        title = element.find("{*}title")
        words = element.text if title is None else title.text
        if kind in found:
            found[kind].append({**element.attrib, "words": words})
    return found


def bars(svg):
    """Bars, without the legend's squares."""
    return [
        {**{k: float(one[k]) for k in ("x", "y", "width", "height")}, **{"fill": one["fill"]}}
        for one in drawn(svg)["rect"]
        if "rx" in one
    ]


def words(svg):
    return [one["words"] for one in drawn(svg)["text"]]


def test_columns_are_as_tall_as_their_counts_and_stand_side_by_side():
    series = [Series("a", [1, 2, 5]), Series("b", [4, None, 0])]
    svg = column_chart(series, ["x", "y", "<z>"], "across", "up")
    found = bars(svg)
    a, b = found[:3], found[3:]
    floor = {round(one["y"] + one["height"], 1) for one in found}
    assert len(floor) == 1, "all stand on one line"
    unit = a[0]["height"]
    for one, wanted in zip(a + b, (1, 2, 5, 4, 0, 0), strict=True):
        assert one["height"] == pytest.approx(wanted * unit, abs=0.3)
    assert [one["fill"] for one in found] == [PALETTE[0]] * 3 + [PALETTE[1]] * 3
    order = sorted(found, key=lambda one: one["x"])
    assert order == [a[0], b[0], a[1], b[1], a[2], b[2]]
    for left, right in pairwise(order):
        assert left["x"] + left["width"] <= right["x"] + 0.1, "no bar hides another"
    said = words(svg)
    assert said[:5] == ["0", "2", "4", "6", "8"], "the axis ends above the largest count"
    assert {"x", "y", "<z>", "across", "up", "a", "b"} <= set(said)
    ticks = {one["words"]: float(one["y"]) for one in drawn(svg)["text"]}
    height = ticks["0"] - ticks["8"]
    assert height == pytest.approx(8 * unit, abs=0.5), "the bars keep to the axis"


@pytest.mark.parametrize(
    ("largest", "ticks"), [(0, "01234"), (1, "01234"), (4, "01234"), (20, "0 5 10 15 20")]
)
def test_the_axis_of_counts_is_divided_in_four(largest, ticks):
    said = words(column_chart([Series("a", [largest])], ["x"], "X", "Y"))
    assert said[:5] == (ticks.split() if " " in ticks else list(ticks))


def test_of_many_columns_every_second_is_named():
    labels = [f"l{n}" for n in range(20)]
    said = words(column_chart([Series("a", range(20))], labels, "X", "Y"))
    assert [label for label in said if label in labels] == labels[::2]


def points(svg):
    return [
        [tuple(map(float, pair.split(","))) for pair in one["points"].split()]
        for one in drawn(svg)["polyline"]
    ]


def test_a_line_runs_from_corner_to_corner_and_skips_gaps():
    series = [Series("a", [100, None, 0], at=[2, 5, 12]), Series("b", [25, 50], at=[2, 7])]
    svg = line_chart(series, "across", "up", x_range=(2, 12), size=(470, 268))
    a, b = points(svg)
    assert a == [(58.0, 28.0), (458.0, 228.0)], "58 pixels for the axis, 12 beside, 28 and 40"
    assert b == [(58.0, 178.0), (258.0, 128.0)]
    assert [one["stroke"] for one in drawn(svg)["polyline"]] == list(PALETTE[:2])
    texts = drawn(svg)["text"]
    up = {o["words"]: float(o["y"]) for o in texts if o["text-anchor"] == "end"}
    across = {o["words"]: float(o["x"]) for o in texts if o["text-anchor"] == "middle"}
    assert list(up) == ["0", "20", "40", "60", "80", "100"]
    assert list(up.values()) == [pytest.approx(228 - 40 * n, abs=5) for n in range(6)]
    assert [across[str(n)] for n in (2, 4, 6, 8, 10, 12)] == [58, 138, 218, 298, 378, 458]
    assert {"across", "up", "a", "b"} <= set(words(svg))


def test_lying_bars_have_their_numbers_and_leave_gaps():
    series = [Series("a", [50, None, 98], spread=[5, None, 4]), Series("b", [25, 100, 2])]
    svg = bar_chart(series, ["one", "<two>", "three"], "A title", width=400)
    found = bars(svg)
    assert [one["fill"] for one in found] == [PALETTE[n] for n in (0, 1, 1, 0, 1)]
    unit = found[0]["width"] / 50
    for one, value in zip(found, (50, 25, 100, 98, 2), strict=True):
        assert one["width"] == pytest.approx(value * unit, abs=0.2)
    left = found[0]["x"]
    assert {one["x"] for one in found} == {left}
    levels = [one["y"] for one in found]
    assert levels == sorted(levels) and len(set(levels)) == 5
    spreads = [one for one in drawn(svg)["line"] if one["y1"] == one["y2"]]
    ends = [((float(o["x1"]) - left) / unit, (float(o["x2"]) - left) / unit) for o in spreads]
    assert ends == [pytest.approx((45, 55), abs=0.3), pytest.approx((94, 100), abs=0.3)]
    said = words(svg)
    assert [text for text in said if "." in text] == ["50.0", "25.0", "100.0", "98.0", "2.0"]
    assert {"A title", "one", "<two>", "three", "a", "b"} <= set(said)
    ticks = [(o["words"], float(o["x"])) for o in drawn(svg)["text"] if o["words"].isdigit()]
    assert ticks == [(str(n), pytest.approx(left + n * unit, abs=0.3)) for n in range(0, 101, 20)]
