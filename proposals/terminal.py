"""Text on a terminal: ids, sentences and paths come from anybody's files, and a terminal obeys the
escape sequences in what it shows."""

from __future__ import annotations

import logging


def printable(text: str, kept: str = "") -> str:
    """The text with every character that is not to be seen, but those `kept`, written as Python
    writes it: "\\x1b" for an escape."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text
    )


class PlainFormatter(logging.Formatter):
    """Log messages without what a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), "\n\t")
