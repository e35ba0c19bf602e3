"""Charts: bars are as long as their numbers, points lie where they belong, axes say which."""

import math
import re
from itertools import pairwise

import pytest
from read_chart import bars, drawn_words, labels, legend, spreads

from aamn.visualization.charts import (
    INK,
    PALETTE,
    Series,
    bar_chart,
    histogram,
    line_chart,
    to_svg,
)


def test_columns_are_as_tall_as_their_counts_and_stand_side_by_side():
    values = {"a": [0, 0.2, 0.3, 0.9, 1], "b": [0.25, 0.5, 0.5]}
    chart = histogram(values, 4, "across", "up")
    (axes,) = chart.axes
    a, b = axes.containers
    assert [bar.get_height() for bar in a] == [2, 1, 0, 2], "1 is in the last bin"
    assert [bar.get_height() for bar in b] == [0, 1, 2, 0], "an edge is its right bin's"
    order = sorted((*a, *b), key=lambda bar: bar.get_x())
    assert order == [bar for pair in zip(a, b, strict=True) for bar in pair]
    for left, right in pairwise(order):
        assert left.get_x() + left.get_width() <= right.get_x() + 1e-9, "no bar hides another"
    for n, pair in enumerate(zip(a, b, strict=True)):
        assert all(n / 4 <= bar.get_x() <= (n + 1) / 4 for bar in pair)
    assert legend(chart) == {"a": PALETTE[0], "b": PALETTE[1]}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("across", "up")
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] >= 2


@pytest.mark.parametrize("largest", [1, 3, 20])
def test_the_axis_of_counts_has_whole_numbers(largest):
    words = drawn_words(to_svg(histogram({"a": [0.5] * largest}, 4, "", "")))
    counts = [word for word in words if word != "a" and "." not in word]
    assert all(float(count).is_integer() for count in counts) and len(counts) >= 2


def test_lines_go_through_their_points_and_leave_gaps():
    series = [Series("a", [100, None, 0], at=[0, 0.5, 1]), Series("b", [25, 50], at=[0.2, 0.7])]
    chart = line_chart(series, "across", "up")
    (axes,) = chart.axes
    a, b = axes.lines
    assert list(a.get_xdata()) == [0, 0.5, 1]
    start, gap, end = a.get_ydata()
    assert (start, end) == (100, 0) and math.isnan(gap)
    assert list(map(list, b.get_data())) == [[0.2, 0.7], [25, 50]]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (0, 100))
    assert legend(chart) == {"a": PALETTE[0], "b": PALETTE[1]}


def test_lying_bars_have_their_numbers_and_leave_gaps():
    series = [Series("a", [50, None, 98], spread=[5, None, 4]), Series("b", [25, 100, 2])]
    chart = bar_chart(series, ["one", "<two>", "three"], "A title")
    lengths = {
        **{("a", "one"): 50, ("b", "one"): 25, ("b", "<two>"): 100},
        **{("a", "three"): 98, ("b", "three"): 2},
    }
    assert bars(chart) == lengths
    assert spreads(chart) == [(45, 55), (94, 102)]
    assert legend(chart) == {"a": PALETTE[0], "b": PALETTE[1]}
    (axes,) = chart.axes
    a, b = (group for group in axes.containers if group.get_label() in ("a", "b"))
    for place, (above, below) in enumerate(zip(a, b, strict=True)):
        assert above.get_y() < below.get_y(), "the first series is the upper bar: y runs down"
        assert below.get_y() + below.get_height() < place + 0.5, "a group ends before the next"
    assert axes.yaxis_inverted() and labels(axes) == ["one", "<two>", "three"]
    numbers = [text.get_text() for text in axes.texts if text.get_text()]
    assert numbers == ["50.0", "98.0", "25.0", "100.0", "2.0"]


def series_of(count):
    return [Series(f"s{n}", [n], at=[0.5]) for n in range(count)]


def test_more_series_than_colours_begin_again():
    colours = legend(line_chart(series_of(6), "", ""))
    assert list(colours.values()) == [*PALETTE, PALETTE[0]]
    assert len(legend(bar_chart(series_of(6), ["one"], ""))) == 6
    assert len(legend(histogram({f"s{n}": [0.5] for n in range(6)}, 4, "", ""))) == 6


def test_the_file_says_title_axes_and_legend_in_words():
    words = drawn_words(to_svg(bar_chart([Series("<a>", [50])], ["one & two"], "A title")))
    assert {"A title", "one & two", "<a>", "50.0", "0", "20", "100"} <= set(words)
    words = drawn_words(to_svg(line_chart(series_of(2), "across", "up")))
    assert {"across", "up", "s0", "s1", "0", "100"} <= set(words)


def test_the_same_chart_is_the_same_file_and_takes_the_pages_colour():
    one, other = (to_svg(line_chart(series_of(2), "across", "up")) for _ in range(2))
    assert one == other and one.startswith("<svg ")
    assert "currentColor" in one and INK not in one and PALETTE[0] in one
    names = re.findall(r' id="(.+?)"', one)
    assert all(re.fullmatch("[mp][0-9a-f]{10}", name) for name in names), "by what they hold"
