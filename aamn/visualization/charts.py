"""Charts as SVG text: lines and bars, small enough to read in a page or a file of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

PALETTE = ("#2563eb", "#f59e0b", "#10b981", "#db2777", "#6b7280")
INK, GRID = "#334155", "#e2e8f0"
FONT = "font-family='system-ui,sans-serif' font-size='12'"


@dataclass(frozen=True)
class Series:
    """Numbers under one name: `values`, where given their places `at` on the x axis, and the
    `spread` to either side of each; None in `values` is a gap."""

    name: str
    values: Sequence[float | None]
    at: Sequence[float] = ()
    spread: Sequence[float | None] = ()


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' "
        f"width='{width:g}' height='{height:g}' {FONT} fill='{INK}'>"
    )
    return head + "".join(parts) + "</svg>"


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {more}>{escape(text)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = GRID, width: float = 1) -> str:
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' "
        f"stroke-width='{width:g}'/>"
    )


def _bar(x: float, y: float, width: float, height: float, colour: str, title: str) -> str:
    return (
        f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(0.0, width):.1f}' "
        f"height='{max(0.0, height):.1f}' fill='{colour}' rx='1.5'>"
        f"<title>{escape(title)}</title></rect>"
    )


def _legend(names: Sequence[str], x: float, y: float) -> list[str]:
    """Coloured squares with their names in one row."""
    parts = []
    for place, name in enumerate(names):
        colour = PALETTE[place % len(PALETTE)]
        parts.append(f"<rect x='{x:.1f}' y='{y - 9:.1f}' width='10' height='10' fill='{colour}'/>")
        parts.append(_text(x + 14, y, name, "start"))
        x += 30 + 7.0 * len(name)
    return parts


def line_chart(
    series: Sequence[Series],
    x_title: str,
    y_title: str,
    x_range: tuple[float, float] = (0.0, 1.0),
    size: tuple[int, int] = (460, 270),
) -> str:
    """Lines of per cents (0..100) over an x axis that is divided in five."""
    width, height = size
    left, right, top, bottom = 58, width - 12, 28, height - 40
    low, high = x_range

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low) / (high - low) * (right - left)
        return left + across, bottom - y / 100 * (bottom - top)

    parts = []
    for step in range(6):
        x, y = place(low + step / 5 * (high - low), 20 * step)
        parts += [_line(left, y, right, y), _text(left - 6, y + 4, f"{20 * step}", "end")]
        parts += [_text(x, bottom + 16, f"{low + step / 5 * (high - low):g}")]
    parts += [_line(left, bottom, right, bottom, INK)]
    parts.append(_text((left + right) / 2, height - 6, x_title))
    turn = f"transform='rotate(-90 12 {(top + bottom) / 2:.0f})'"
    parts.append(_text(12, (top + bottom) / 2, y_title, more=turn))
    for number, one in enumerate(series):
        pairs = zip(one.at, one.values, strict=True)
        points = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in pairs if y is not None)
        colour = PALETTE[number % len(PALETTE)]
        parts.append(
            f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2.2'/>"
        )
    return _svg(width, height, parts + _legend([one.name for one in series], left, 16))


def column_chart(
    series: Sequence[Series],
    labels: Sequence[str],
    x_title: str,
    y_title: str,
    size: tuple[int, int] = (460, 270),
) -> str:
    """Upright bars of counts, one group a label; the y axis ends above the largest count."""
    width, height = size
    left, right, top, bottom = 58, width - 12, 28, height - 40
    largest = max((v for one in series for v in one.values if v is not None), default=0)
    highest = 4 * max(1, math.ceil(largest / 4))
    group = (right - left) / len(labels)
    thick = group * 0.86 / len(series)
    parts = []
    for step in range(5):
        y = bottom - step / 4 * (bottom - top)
        parts += [_line(left, y, right, y)]
        parts += [_text(left - 6, y + 4, f"{highest * step // 4}", "end")]
    for number, one in enumerate(series):
        colour = PALETTE[number % len(PALETTE)]
        for place, value in enumerate(one.values):
            tall = (value or 0) / highest * (bottom - top)
            x = left + place * group + group * 0.07 + number * thick
            title = f"{one.name} {labels[place]}: {value:g}" if value is not None else one.name
            parts.append(_bar(x, bottom - tall, thick - 0.6, tall, colour, title))
    every = max(1, len(labels) // 10)
    for place in range(0, len(labels), every):
        parts.append(_text(left + (place + 0.5) * group, bottom + 16, labels[place]))
    parts += [_line(left, bottom, right, bottom, INK)]
    parts.append(_text((left + right) / 2, height - 6, x_title))
    turn = f"transform='rotate(-90 12 {(top + bottom) / 2:.0f})'"
    parts.append(_text(12, (top + bottom) / 2, y_title, more=turn))
    return _svg(width, height, parts + _legend([one.name for one in series], left, 16))


def bar_chart(series: Sequence[Series], labels: Sequence[str], title: str, width: int = 760) -> str:
    """Lying bars of per cents (0..100) with their spread, one group a label."""
    thick, gap = 13, 12
    group = thick * len(series) + gap
    left, right, top = 16 + 6.6 * max(map(len, labels)), width - 52, 52
    bottom = top + group * len(labels)

    def place(value: float) -> float:
        return left + value / 100 * (right - left)

    parts = [_text(16, 20, title, "start", "font-weight='600' font-size='14'")]
    parts += _legend([one.name for one in series], 16, 40)
    for step in range(0, 101, 20):
        parts += [_line(place(step), top - 4, place(step), bottom)]
        parts += [_text(place(step), bottom + 16, str(step))]
    for row, label in enumerate(labels):
        y = top + row * group
        parts.append(_text(left - 8, y + thick * len(series) / 2 + 4, label, "end"))
        for number, one in enumerate(series):
            value = one.values[row]
            if value is None:
                continue
            colour, level = PALETTE[number % len(PALETTE)], y + number * thick
            name = f"{one.name}, {label}: {value:.1f}"
            parts.append(_bar(left, level, place(value) - left, thick - 2, colour, name))
            spread = (one.spread[row] if one.spread else None) or 0.0
            ends = place(max(0.0, value - spread)), place(min(100.0, value + spread))
            if spread:
                parts.append(_line(ends[0], level + 5.5, ends[1], level + 5.5, INK, 1.4))
            parts.append(_text(ends[1] + 4, level + 10, f"{value:.1f}", "start", "font-size='10'"))
    return _svg(width, bottom + 28, parts)
