"""What a reader sees on a chart."""

from xml.etree import ElementTree

from matplotlib.colors import to_hex


def legend(figure):
    """The legend's names with their colours."""
    (found,) = figure.legends
    colours = [
        handle.get_color() if hasattr(handle, "get_color") else handle.get_facecolor()
        for handle in found.legend_handles
    ]
    names = [text.get_text() for text in found.get_texts()]
    return dict(zip(names, map(to_hex, colours), strict=True))


def labels(axes, side="y"):
    return [text.get_text() for text in getattr(axes, f"get_{side}ticklabels")()]


def bars(figure):
    """The lying bars that have a length, (series, label) -> length."""
    (axes,) = figure.axes
    return {
        (group.get_label(), label): bar.get_width()
        for group in axes.containers
        if group.get_label() != "_nolegend_"  # the spreads
        for label, bar in zip(labels(axes), group, strict=True)
        if bar.get_width() == bar.get_width()
    }


def spreads(figure):
    """From where to where the lines of the spreads run."""
    segments = (segment for lines in figure.axes[0].collections for segment in lines.get_segments())
    return [(segment[0][0], segment[1][0]) for segment in segments if len(segment)]


def drawn_words(svg):
    """Every text of an SVG."""
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]
