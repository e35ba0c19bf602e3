"""What a reader sees on a page of HTML, whichever markup says it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import cv2
import numpy as np

VOID = {"meta", "img", "br", "link", "hr"}


@dataclass
class Section:
    """What stands below one heading: its tables as rows of texts, the pictures (RGB) with their
    captions, the spans with their attributes, and every text."""

    title: str
    tables: list[list[list[str]]] = field(default_factory=list)
    pictures: list[tuple[str, np.ndarray]] = field(default_factory=list)
    spans: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    articles: int = 0
    words: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


class Page(HTMLParser):
    """The sections of a page, the first one without a title being what stands above the others;
    fails where tags do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sections, self.open, self.links = [Section("")], [], []
        self.feed(html)
        assert not self.open, f"{self.open} are not closed"

    def __getitem__(self, title: str) -> Section:
        (found,) = [section for section in self.sections if section.title == title]
        return found

    @property
    def titles(self) -> list[str]:
        return [section.title for section in self.sections[1:]]

    def handle_starttag(self, tag, attrs):
        given, last = dict(attrs), self.sections[-1]
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag == "h2":
            self.sections.append(Section(""))
        elif tag == "table":
            last.tables.append([])
        elif tag == "tr":
            last.tables[-1].append([])
        elif tag in ("td", "th"):
            last.tables[-1][-1].append("")
        elif tag == "article":
            last.articles += 1
        elif tag == "span":
            last.spans.append(("", given))
        elif tag == "img":
            last.pictures.append((given["alt"], decoded(given["src"])))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        last = self.sections[-1]
        if "style" in self.open:
            return
        if "h2" in self.open:
            last.title += data
            return
        if data.strip():
            last.words.append(data)
        if {"td", "th"} & set(self.open):
            row = last.tables[-1][-1]
            row[-1] = f"{row[-1]} {data}".strip()
        if "span" in self.open:
            text, given = last.spans[-1]
            last.spans[-1] = (text + data, given)


def decoded(source: str) -> np.ndarray:
    """The RGB picture (H, W, 3) inside a link."""
    kind, data = source.split(";base64,")
    assert kind in ("data:image/jpeg", "data:image/png")
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def table_rows(table: list[list[str]]) -> list[dict[str, str]]:
    """A table's rows by the first words of its heads."""
    heads, *rows = table
    assert all(len(row) == len(heads) for row in rows)
    return [dict(zip(heads, row, strict=True)) for row in rows]


def numbers(text: str) -> list[float]:
    """The numbers in a text, in their order."""
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]
