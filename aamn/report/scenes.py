"""Several sentences about one video, each with a colour of its own, as each system answers them
(Figure 7 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aamn.structures import Row
from aamn.visualization.overlays import COLOURS, highlighted, outlined

FRAMES, WIDTH = 3, 400


@dataclass(frozen=True)
class Scene:
    """F annotated frames of a video and S sentences about it.

    frames (F, H0, W0, 3) uint8 RGB, `numbers` their indices in the video; asked (F, S) bool,
    whether the sentence's object is annotated in the frame; truth and each system's `answers`
    (F, S, H0, W0) bool, all zeros where not asked.
    """

    video_id: str
    numbers: Sequence[int]
    texts: Sequence[str]
    frames: np.ndarray
    asked: np.ndarray
    truth: np.ndarray
    answers: Mapping[str, np.ndarray]

    def mean_iou(self, system: str) -> float:
        """Over the sentences asked in each frame; two empty masks agree."""
        own = self.answers[system]
        intersection = (own & self.truth).sum((2, 3))
        union = (own | self.truth).sum((2, 3))
        ious = np.where(union, intersection / np.maximum(union, 1), 1.0)
        return float(ious[self.asked].mean())

    def queries(self) -> list[tuple[str, tuple[int, int, int]]]:
        """The sentences with their colours."""
        return list(zip(self.texts, COLOURS, strict=False))

    def lines(self) -> list[dict[str, np.ndarray]]:
        """The frames by caption: bare, with the truth, and with each system's masks."""
        lines = {"": np.zeros_like(self.truth), "ground truth, ": self.truth}
        for name, masks in self.answers.items():
            lines[f"{name}, IoU {self.mean_iou(name):.2f}, "] = masks
        return [self._line(prefix, masks) for prefix, masks in lines.items()]

    def _line(self, prefix: str, masks: np.ndarray) -> dict[str, np.ndarray]:
        """Masks (F, S, H0, W0) on every frame; without a prefix the frames alone."""
        line = {}
        for frame, number, own in zip(self.frames, self.numbers, masks, strict=True):
            shown = own[: len(COLOURS)]
            picture = highlighted(frame, shown, COLOURS[: len(shown)]) if prefix else frame
            line[f"{prefix}frame {number + 1}"] = outlined(picture, width=WIDTH)
        return line


def pick_scenes(rows: Sequence[Row], count: int) -> list[list[int]]:
    """Places of the rows of `count` scenes: videos in which most different objects are asked for,
    frames evenly over the annotated ones, the first sentence about each object."""
    videos: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        videos.setdefault(row.video_id, []).append(place)
    order = sorted(videos.values(), key=lambda indices: -len({rows[i].instance for i in indices}))
    return [_sampled(indices, rows) for indices in order[:count]]


def _sampled(indices: Sequence[int], rows: Sequence[Row]) -> list[int]:
    numbers = sorted({rows[i].frame for i in indices})
    steps = np.linspace(0, len(numbers) - 1, min(FRAMES, len(numbers))).round().astype(int)
    shown = {numbers[step] for step in steps}
    texts: dict[int, str] = {}
    for i in indices:
        if len(texts) < len(COLOURS):
            texts.setdefault(rows[i].instance, rows[i].text)
    return [
        i for i in indices if rows[i].frame in shown and texts.get(rows[i].instance) == rows[i].text
    ]
