"""Charts with matplotlib: a function draws a Figure, `to_svg` writes it as text."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from textwrap import fill
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

PALETTE = ("#2563eb", "#f59e0b", "#10b981", "#db2777", "#6b7280")
INK = "#334155"  # of axes and words; in SVG the colour of the text around it
STYLE: dict[RcKeyType, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.2,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",  # words stay words
    "svg.hashsalt": "aamn",  # the same chart is the same file
}
SIZE = (5.0, 3.1)  # inches of 72 points: words are read where the page is 390 pixels wide


@dataclass(frozen=True)
class Series:
    """Numbers under one name: `values`, where given their places `at` on the x axis, and the
    `spread` to either side of each; None in `values` is a gap."""

    name: str
    values: Sequence[float | None]
    at: Sequence[float] = ()
    spread: Sequence[float | None] = ()


def line_chart(series: Sequence[Series], x_title: str, y_title: str) -> Figure:
    """Lines of per cents (0..100) over places from 0 to 1."""
    with matplotlib.rc_context(STYLE):
        axes = _axes(SIZE, x_title, y_title)
        for one, colour in zip(series, cycle(PALETTE), strict=False):
            axes.plot(one.at, _gaps(one.values), color=colour, label=one.name)
        axes.set(xlim=(0, 1), ylim=(0, 100))
        return _with_legend(axes, len(series))


def growth_chart(series: Sequence[Series], x_title: str, y_title: str) -> Figure:
    """Lines of factors over factors, both axes by doubling, and what grows in proportion."""
    with matplotlib.rc_context(STYLE):
        axes = _axes(SIZE, x_title, y_title)
        for one, colour in zip(series, cycle(PALETTE), strict=False):
            axes.plot(one.at, _gaps(one.values), color=colour, marker="o", label=one.name)
        places = list(series[0].at)
        axes.plot(places, places, color=INK, linestyle=":", label="in proportion")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(places, [f"{place:g}" for place in places])
        return _with_legend(axes, 3)


def histogram(
    values: Mapping[str, Sequence[float]], bins: int, x_title: str, y_title: str
) -> Figure:
    """How many values of each name lie in which of the bins between 0 and 1, side by side."""
    with matplotlib.rc_context(STYLE):
        axes = _axes(SIZE, x_title, y_title)
        colours = [colour for _, colour in zip(values, cycle(PALETTE), strict=False)]
        edges = np.linspace(0, 1, bins + 1).tolist()
        axes.hist(list(values.values()), edges, color=colours, label=list(values), rwidth=0.86)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="x", visible=False)
        return _with_legend(axes, len(values))


def bar_chart(series: Sequence[Series], labels: Sequence[str], title: str) -> Figure:
    """Lying bars of per cents (0..100) with their numbers and spread, one group a label, the first
    one on top."""
    thick = 0.8 / len(series)
    with matplotlib.rc_context(STYLE):
        height = 1.2 + len(labels) * (0.17 + 0.18 * len(series))
        axes = _axes((10.5, height), "", "")
        for number, (one, colour) in enumerate(zip(series, cycle(PALETTE), strict=False)):
            levels = np.arange(len(labels)) + (number + 0.5) * thick - 0.4
            spread = _gaps(one.spread) if any(one.spread) else None
            bars = axes.barh(
                levels,
                _gaps(one.values),
                0.86 * thick,
                xerr=spread,
                ecolor=INK,
                color=colour,
                label=one.name,
            )
            texts = ["" if value is None else f"{value:.1f}" for value in one.values]
            axes.bar_label(bars, texts, padding=3, fontsize=9)
        axes.set(xlim=(0, 108), xticks=range(0, 101, 20), title=title)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        return _with_legend(axes, len(series))


def to_svg(figure: Figure) -> str:
    """The chart as an SVG element, the same one every time: words are text, and what is INK takes
    the colour of the text around it, so that it is read on light and on dark ground."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()
    svg = re.sub(r' id="[a-z0-9.]+_\d+"', "", svg)  # two charts of a page share numbered names
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _axes(size: tuple[float, float], x_title: str, y_title: str) -> Axes:
    """Empty axes on a figure of their own, which no global state holds."""
    axes = Figure(size, layout="constrained").subplots()
    axes.set(xlabel=x_title, ylabel=y_title)
    return axes


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _with_legend(axes: Axes, columns: int) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(loc="outside upper left", ncols=columns)
    return figure


def picture_row(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str],
    legend: Mapping[str, tuple[int, int, int]],
) -> Figure:
    """Pictures (H, W, 3) uint8 RGB side by side, each below its title; below all of them what the
    colours mean. A notebook shows it."""
    from matplotlib import pyplot

    columns = max(1, len(pictures))
    figure, axes = pyplot.subplots(1, columns, figsize=(3.2 * columns, 3.2), squeeze=False)
    pyplot.close(figure)  # a notebook shows what is returned; it need not show it twice
    for place in axes[0]:
        place.set_axis_off()
    for place, picture, title in zip(axes[0], pictures, titles, strict=False):
        place.imshow(picture)
        place.set_title(title)
    handles = [
        Line2D([], [], color=(r / 255, g / 255, b / 255), linewidth=3, label=fill(text, 60))
        for text, (r, g, b) in legend.items()
    ]
    figure.legend(handles=handles, loc="lower center", frameon=False)
    return figure
