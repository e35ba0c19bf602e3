"""Pictures for people: masks over frames, captions, word attention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from proposals.files import written_aside

COLOURS = (
    (255, 64, 64),
    (64, 160, 255),
    (64, 220, 96),
    (255, 200, 32),
    (220, 96, 255),
    (32, 220, 220),
)
FONT = cv2.FONT_HERSHEY_SIMPLEX


DIMMED = 0.4  # of its brightness is left to what lies outside all masks

Colour = tuple[int, int, int]


def highlighted(
    frame: np.ndarray,
    masks: Sequence[np.ndarray],
    colours: Sequence[Colour],
    boxes: Sequence[Sequence[float]] = (),
) -> np.ndarray:
    """A copy of the frame (H0, W0, 3) uint8 RGB in which what the masks (H0, W0) bool show stays as
    it is and all else is `DIMMED`; each mask has a line of its colour around it, each box
    (x1, y1, x2, y2) is drawn thinly. Lines grow with the frame and pass behind what is shown.

    A tint would hide the colours that a sentence speaks of.
    """
    inside = np.any(np.asarray(masks, bool).reshape(-1, *frame.shape[:2]), 0)
    picture = (frame * np.float32(DIMMED)).round().astype(np.uint8)
    line = line_width(frame.shape)
    for box in boxes:
        if box[2] > box[0]:
            corners = [round(float(v)) for v in box]
            cv2.rectangle(picture, corners[:2], corners[2:], (255, 255, 255), line)
    reach = np.ones([2 * line + 1] * 2, np.uint8)
    for mask, colour in zip(masks, colours, strict=True):
        around = cv2.dilate(np.asarray(mask, np.uint8), reach) > 0
        picture[around] = colour
    picture[inside] = frame[inside]
    return picture


def line_width(size: Sequence[int]) -> int:
    """Pixels of a line in a frame of `size` (H0, W0): 1 for each 240 of its shorter side."""
    return max(1, round(min(size[:2]) / 240))


def overlay(
    frame: np.ndarray,
    mask: np.ndarray,
    colour: Colour = COLOURS[0],
    box: Sequence[float] | None = None,
) -> np.ndarray:
    """`highlighted` with one mask (H0, W0) bool and, where there is one, its box."""
    return highlighted(frame, [mask], [colour], [] if box is None else [box])


def query_colours(texts: Sequence[str]) -> list[Colour]:
    """One colour a text, the same for equal texts, in the order in which they first come."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return [COLOURS[places[text] % len(COLOURS)] for text in texts]


def _dashed(
    picture: np.ndarray, corners: Sequence[int], colour: tuple[int, int, int], thickness: int
) -> None:
    """A rectangle of dashes, drawn into the picture."""
    x1, y1, x2, y2 = corners
    sides = (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x1, y2), (x2, y2)), ((x1, y1), (x1, y2)))
    for start, stop in sides:
        length = max(abs(stop[0] - start[0]), abs(stop[1] - start[1]))
        dashes = np.linspace(start, stop, 2 * max(1, length // 14) + 2).round().astype(int)
        for a, b in zip(dashes[::2], dashes[1::2], strict=True):
            cv2.line(picture, a.tolist(), b.tolist(), colour, thickness, cv2.LINE_AA)


def outlined(
    frame: np.ndarray,
    mask: np.ndarray | None = None,
    colour: tuple[int, int, int] = COLOURS[0],
    boxes: Sequence[tuple[Sequence[float], tuple[int, int, int], bool]] = (),
    width: int = 480,
) -> np.ndarray:
    """The frame scaled to `width` pixels with the mask `highlighted`, and boxes ((x1, y1, x2, y2)
    of the frame, colour, whether dashed) drawn over it."""
    scale = width / frame.shape[1]
    size = (width, round(frame.shape[0] * scale))
    picture = cv2.resize(
        frame, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    )
    if mask is not None:
        large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        picture = overlay(picture, large > 0, colour)
    for box, own, dashed in boxes:
        corners = [round(float(v) * scale) for v in box]
        if corners[2] <= corners[0]:
            continue
        if dashed:
            _dashed(picture, corners, own, 2)
        else:
            cv2.rectangle(picture, corners[:2], corners[2:], own, 2, cv2.LINE_AA)
    return picture


def caption(picture: np.ndarray, text: str, width: int = 0) -> np.ndarray:
    """The picture with a dark strip below it that holds the text, in as many lines as it takes."""
    strip = caption_strip(text, max(width, picture.shape[1]), picture.shape[0])
    wide = np.zeros((picture.shape[0], strip.shape[1], 3), np.uint8)
    wide[:, : picture.shape[1]] = picture
    return np.vstack([wide, strip])


def caption_strip(text: str, width: int, height: int) -> np.ndarray:
    """The text on a dark ground (h, width, 3) uint8, in lines that fit; letters grow with frames of
    `height` and width from 320x240 pixels on, as far as both sides do."""
    scale = 0.38 * max(1.0, min(width / 320, height / 240))
    margin, step = round(4 * scale / 0.38), round(15 * scale / 0.38)
    lines = _wrapped(text, width - 2 * margin, scale)
    strip = np.full((step * len(lines) + round(3 * scale / 0.38), width, 3), 24, np.uint8)
    for number, line in enumerate(lines):
        base = (margin, step * (number + 1) - round(2 * scale / 0.38))
        cv2.putText(strip, line, base, FONT, scale, (235, 235, 235), _stroke(scale), cv2.LINE_AA)
    return strip


def _stroke(scale: float) -> int:
    return max(1, round(scale))


def _wrapped(text: str, width: int, scale: float) -> list[str]:
    """Lines of at most `width` pixels, broken between words where that is possible."""

    def fits(line: str) -> bool:
        return cv2.getTextSize(line, FONT, scale, _stroke(scale))[0][0] <= width

    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if fits(longer):
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:  # a word wider than the strip goes on in the next line
            if lines[-1] and not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line] or [""]


def word_attention(tokens: Sequence[str], actor: Tensor, action: Tensor) -> np.ndarray:
    """A picture with one column a word: the word, and below it a bar for each module's weight."""
    columns = [max(46, 12 + 9 * len(word)) for word in tokens]
    left, height = 64, 140
    picture = np.full((height, left + sum(columns) + 8, 3), 255, np.uint8)
    rows = (("actor", actor, COLOURS[0], 84), ("action", action, COLOURS[1], 134))
    for name, _, colour, base in rows:
        cv2.putText(picture, name, (4, base - 4), FONT, 0.42, colour, 1, cv2.LINE_AA)
    x = left
    for place, (word, column) in enumerate(zip(tokens, columns, strict=True)):
        cv2.putText(picture, word, (x, 24), FONT, 0.45, (20, 20, 20), 1, cv2.LINE_AA)
        for _, weights, colour, base in rows:
            weight = float(weights[place])
            bar = round(36 * weight)
            faded = tuple(int(255 - (255 - c) * (0.25 + 0.75 * weight)) for c in colour)
            cv2.rectangle(picture, (x, base - bar), (x + column - 12, base), faded, -1)
            label = f"{weight:.2f}"
            cv2.putText(
                picture, label, (x, base - bar - 3), FONT, 0.32, (60, 60, 60), 1, cv2.LINE_AA
            )
        x += column
    return picture


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 4) -> np.ndarray:
    """Pictures side by side in rows, each as large as the largest."""
    height = max(p.shape[0] for p in pictures)
    width = max(p.shape[1] for p in pictures)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + 4), columns * (width + 4), 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        y, x = divmod(place, columns)
        y, x = y * (height + 4), x * (width + 4)
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet


def write_picture(path: Path, picture: np.ndarray) -> None:
    """A PNG of an RGB picture (H0, W0, 3) or a mask (H0, W0), both uint8, written atomically."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise ValueError(f"{path}: cannot encode a picture of shape {picture.shape}")
    with written_aside(path) as aside:
        aside.write_bytes(data.tobytes())
