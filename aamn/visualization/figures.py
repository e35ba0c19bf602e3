"""Pictures as a figure of matplotlib, which notebooks show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np

SIDE = 3.2  # inches a picture


def figure_of(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str],
    legend: Mapping[str, tuple[int, int, int]],
) -> Any:
    """A `matplotlib.figure.Figure` of pictures (H, W, 3) uint8 RGB side by side, each below its
    title; below all of them what the colours mean."""
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    columns = max(1, len(pictures))
    figure, axes = pyplot.subplots(1, columns, figsize=(SIDE * columns, SIDE), squeeze=False)
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
