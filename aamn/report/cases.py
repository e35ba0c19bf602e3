"""Single answers as pictures: the best and the worst (Figures 5 and 8 of the paper), and what
becomes of an answer whose words are weighted at random (Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aamn.ops.masks import overlap
from aamn.structures import MaskTrack, Row, Target, TubeScores
from aamn.visualization.overlays import outlined

# The colours of templates/style.css
TRUTH, ANSWER, CONTEXT, OTHERS = (225, 40, 40), (22, 163, 74), (250, 204, 21), (205, 210, 220)
DEEPEST = 0.65  # opacity behind a module's most attended word
PICTURE_WIDTH = 480  # pixels; small videos are enlarged so that boxes stay thin
STRIP_PICTURES, STRIP_WIDTH = 5, 300


@dataclass(frozen=True)
class Case:
    """One sentence's answer with what its pictures need (Figures 5 and 8).

    frames (T, H0, W0, 3) uint8 RGB of the clip; `key` is the key frame's place in it and in the
    track; `proposals` (K, 4) are the key frame's boxes, one a tube, None for a system without.
    """

    row: Row
    tokens: tuple[str, ...]
    frames: np.ndarray
    key: int
    target: Target
    track: MaskTrack
    proposals: np.ndarray | None = None

    def pictures(self) -> dict[str, np.ndarray]:
        """The key frame four times, by caption."""
        frame, place = self.frames[self.key], self.key
        truth, answer = self.target.mask.numpy(), self.track.masks[place].numpy()
        return {
            "frame": outlined(frame, width=PICTURE_WIDTH),
            "localisation": outlined(frame, boxes=self._boxes(), width=PICTURE_WIDTH),
            "ground truth": outlined(frame, truth, TRUTH, width=PICTURE_WIDTH),
            "prediction": outlined(frame, answer, ANSWER, width=PICTURE_WIDTH),
        }

    def _boxes(self) -> list[tuple[Sequence[float], tuple[int, int, int], bool]]:
        """What `outlined` draws: the proposals, the most attended context, the answer, the truth
        (dashed)."""
        boxes: list[tuple[Sequence[float], tuple[int, int, int], bool]] = []
        if self.proposals is not None:
            boxes = [(box, OTHERS, False) for box in self.proposals.tolist() if box[2] > box[0]]
            context, _ = self._context()
            if context >= 0:
                boxes.append((self.proposals[context].tolist(), CONTEXT, False))
        boxes.append((self.track.boxes[self.key].tolist(), ANSWER, False))
        return [*boxes, (self.target.box.tolist(), TRUTH, True)]

    def _context(self) -> tuple[int, float]:
        """The tube that weighs most in the contextual LSTM's answer for the chosen tube (-1: the
        whole clip), and its weight."""
        scores = self.track.scores
        if scores is None or self.track.tube < 0:
            return -1, 0.0
        attention, members = scores.context_attention, scores.context_members
        if attention is None or members is None:
            return -1, 0.0
        weights = attention[self.track.tube]
        place = int(weights.argmax())
        return int(members[self.track.tube, place]), float(weights[place])

    def strip(self) -> dict[str, np.ndarray]:
        """The chosen tube through the clip with its masks, by the distance from the key frame."""
        count = len(self.track.masks)
        if count < 2:
            return {}
        steps = np.linspace(0, count - 1, min(STRIP_PICTURES, count)).round().astype(int)
        return {
            "key frame" if place == self.key else f"{place - self.key:+d}": outlined(
                self.frames[place],
                self.track.masks[place].numpy(),
                ANSWER,
                [(self.track.boxes[place].tolist(), ANSWER, False)],
                STRIP_WIDTH,
            )
            for place in np.unique(steps).tolist()
        }

    def facts(self) -> str:
        """The winner's scores and what the contextual LSTM looked at."""
        scores, tube = self.track.scores, self.track.tube
        if tube < 0:
            return "no tube was chosen: the clip has no proposal"
        if scores is None:
            return f"score {self.track.score:.3f}"
        facts = (
            f"tube {tube + 1} of {int(np.isfinite(scores.total.numpy()).sum())}: score "
            f"{float(scores.total[tube]):.3f} = actor {float(scores.actor[tube]):.3f} + action "
            f"{float(scores.action[tube]):.3f}; box IoU {self.row.box_iou:.2f}"
        )
        if scores.context_attention is not None:
            context, weight = self._context()
            name = f"tube {context + 1}" if context >= 0 else "the whole clip"
            facts += f"; most attended context: {name} ({weight:.2f})"
        return facts

    def word_attention(
        self, scores: TubeScores | None
    ) -> dict[str, list[tuple[str, float, float]]]:
        """By module, each word with its weight and the opacity of the ground behind it; empty for
        an answer without scores."""
        if scores is None:
            return {}
        modules = {"actor": scores.actor_attention, "action": scores.action_attention}
        return {
            name: [
                (word, weight, DEEPEST * weight / max(float(weights.max()), 1e-6))
                for word, weight in zip(self.tokens, weights.tolist(), strict=True)
            ]
            for name, weights in modules.items()
        }


@dataclass(frozen=True)
class Contrast:
    """An answer beside that of the same segmenter with words weighted at random (Figure 6); the
    key frame is at place `key` of `random`."""

    case: Case
    random: MaskTrack
    key: int

    @property
    def random_iou(self) -> float:
        """The key frame's IoU of the answer with random weights."""
        intersection, union = overlap(self.random.masks[self.key], self.case.target.mask)
        return intersection / union if union else 1.0

    def answers(self) -> dict[str, tuple[np.ndarray, TubeScores | None]]:
        """Both answers by caption: the key frame with box and mask, and the scores."""
        case = self.case
        return {
            f"{name} weights, IoU {iou:.2f}": (
                outlined(
                    case.frames[case.key],
                    track.masks[key].numpy(),
                    ANSWER,
                    [(track.boxes[key].tolist(), ANSWER, False)],
                    PICTURE_WIDTH,
                ),
                track.scores,
            )
            for name, track, key, iou in (
                ("predicted", case.track, case.key, case.row.iou),
                ("random", self.random, self.key, self.random_iou),
            )
        }


def pick_cases(rows: Sequence[Row], count: int) -> tuple[list[int], list[int]]:
    """Places of the `count` best and the `count` worst answers, at most one a video in each; among
    equals, the larger masks."""
    order = sorted(range(len(rows)), key=lambda i: (-rows[i].iou, -rows[i].union))
    best = _one_a_video(order, rows)[:count]
    order.sort(key=lambda i: (rows[i].iou, -rows[i].union))
    worst = [i for i in _one_a_video(order, rows) if i not in best][:count]
    return best, worst


def pick_contrasts(rows: Sequence[Row], count: int) -> list[int]:
    """Places of the `count` longest sentences, at most one a video, those first whose answer has
    an IoU above one half: in a long sentence it is a question which words count."""

    def order(place: int) -> tuple[bool, int, float]:
        row = rows[place]
        return row.iou <= 0.5, -len(row.text.split()), -row.iou

    return _one_a_video(sorted(range(len(rows)), key=order), rows)[:count]


def _one_a_video(order: Sequence[int], rows: Sequence[Row]) -> list[int]:
    first: dict[str, int] = {}
    for place in order:
        first.setdefault(rows[place].video_id, place)
    return list(first.values())
