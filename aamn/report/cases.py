"""Single answers as pictures: the best and the worst (Figures 5 and 8 of the paper), and what
becomes of an answer whose words are weighted at random (Figure 6)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from aamn.ops.masks import overlap
from aamn.structures import MaskTrack, Row, Target, TubeScores
from aamn.visualization.overlays import outlined

TRUTH, ANSWER, CONTEXT = (225, 40, 40), (22, 163, 74), (250, 204, 21)
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


def _context(case: Case) -> tuple[int, float]:
    """The tube that weighs most in the contextual LSTM's answer for the chosen tube (-1: the whole
    clip), and its weight."""
    scores = case.track.scores
    if scores is None or scores.context_attention is None or case.track.tube < 0:
        return -1, 0.0
    weights = scores.context_attention[case.track.tube]
    place = int(weights.argmax())
    return int(scores.context_members[case.track.tube, place]), float(weights[place])


def case_article(case: Case) -> str:
    """The sentence, the key frame four times, the tube through the clip, the scores."""
    context, weight = _context(case)
    frame = case.frames[case.key]
    boxes = []
    if case.proposals is not None:
        boxes = [(box, (205, 210, 220), False) for box in case.proposals if box[2] > box[0]]
        if context >= 0:
            boxes.append((case.proposals[context], CONTEXT, False))
    boxes.append((case.track.boxes[case.key].tolist(), ANSWER, False))
    boxes.append((case.target.box.tolist(), TRUTH, True))
    truth, answer = case.target.mask.numpy(), case.track.masks[case.key].numpy()
    pictures = (
        ("frame", outlined(frame, width=PICTURE_WIDTH)),
        ("localisation", outlined(frame, boxes=boxes, width=PICTURE_WIDTH)),
        ("ground truth", outlined(frame, truth, TRUTH, width=PICTURE_WIDTH)),
        ("prediction", outlined(frame, answer, ANSWER, width=PICTURE_WIDTH)),
    )
    figures = "".join(figure(picture, name) for name, picture in pictures)
    words = _words(case.row.text, case.tokens, case.track.scores)
    return (
        f"<article><header><b class='iou'>IoU {case.row.iou:.2f}</b>{_where(case.row)}</header>"
        f"{words}<div class='four'>{figures}</div>{_strip(case)}"
        f"<p class='facts'>{_facts(case, context, weight)}</p></article>"
    )


def contrast_article(contrast: Contrast) -> str:
    """Ground truth, and the masks and word weights of both answers."""
    case = contrast.case
    frame = case.frames[case.key]
    truth = outlined(frame, case.target.mask.numpy(), TRUTH, width=PICTURE_WIDTH)
    columns = [f"<div>{figure(truth, 'ground truth')}</div>"]
    for name, track, key, iou in (
        ("predicted", case.track, case.key, case.row.iou),
        ("random", contrast.random, contrast.key, contrast.random_iou),
    ):
        box = (track.boxes[key].tolist(), ANSWER, False)
        mask = track.masks[key].numpy()
        picture = outlined(frame, mask, ANSWER, [box], PICTURE_WIDTH)
        words = _words(case.row.text, case.tokens, track.scores)
        label = f"{name} weights, IoU {iou:.2f}"
        columns.append(f"<div>{figure(picture, label)}{words}</div>")
    header = f"<header><b>{escape(case.row.text)}</b>{_where(case.row)}</header>"
    return f"<article>{header}<div class='three'>{''.join(columns)}</div></article>"


def contrast_summary(contrasts: Sequence[Contrast]) -> str:
    """The mean IoU of both answers over these sentences."""
    predicted = np.mean([contrast.case.row.iou for contrast in contrasts])
    random = np.mean([contrast.random_iou for contrast in contrasts])
    return (
        "<p class='notes'>The longest sentences, at most one a video and those with an IoU above "
        "one half first, and the answers with each word's weight drawn at random. Mean IoU of "
        f"these {len(contrasts)}: {100 * predicted:.1f} with the predicted weights, "
        f"{100 * random:.1f} with random ones.</p>"
    )


def _where(row: Row) -> str:
    kind = row.kind and f", {row.kind}"
    return f"<span>{escape(row.video_id)}, frame {row.frame + 1}{escape(kind)}</span>"


def _facts(case: Case, context: int, weight: float) -> str:
    """The winner's scores and what the contextual LSTM looked at."""
    scores, tube = case.track.scores, case.track.tube
    if tube < 0:
        return "no tube was chosen: the clip has no proposal"
    if scores is None:
        return f"score {case.track.score:.3f}"
    facts = (
        f"tube {tube + 1} of {int(np.isfinite(scores.total.numpy()).sum())}: score "
        f"{float(scores.total[tube]):.3f} = actor {float(scores.actor[tube]):.3f} + action "
        f"{float(scores.action[tube]):.3f}; box IoU {case.row.box_iou:.2f}"
    )
    if scores.context_attention is not None:
        name = f"tube {context + 1}" if context >= 0 else "the whole clip"
        facts += f"; most attended context: {name} ({weight:.2f})"
    return facts


def _words(text: str, tokens: Sequence[str], scores: TubeScores | None) -> str:
    """The sentence once a module, each word on a ground as deep as its attention."""
    if scores is None:
        return f"<p class='words'>{escape(text)}</p>"
    lines = ""
    for name, colour, weights in (
        ("actor", TRUTH, scores.actor_attention),
        ("action", (37, 99, 235), scores.action_attention),
    ):
        deepest = max(float(weights.max()), 1e-6)
        spans = ""
        for word, weight in zip(tokens, weights.tolist(), strict=True):
            ground = (*colour, round(0.65 * weight / deepest, 3))
            look = f"title='{weight:.3f}' style='background:rgba{ground}'"
            spans += f"<span {look}>{escape(word)}</span>"
        lines += f"<p class='words'><em>{name}</em>{spans}</p>"
    return lines


def _strip(case: Case) -> str:
    """The chosen tube through the clip, with its masks."""
    count = len(case.track.masks)
    if count < 2:
        return ""
    shown = np.unique(np.linspace(0, count - 1, min(STRIP_PICTURES, count)).round().astype(int))
    pictures = []
    for place in shown:
        box = case.track.boxes[place].tolist()
        mask = case.track.masks[place].numpy()
        picture = outlined(case.frames[place], mask, ANSWER, [(box, ANSWER, False)], STRIP_WIDTH)
        label = "key frame" if place == case.key else f"{place - case.key:+d}"
        pictures.append(figure(picture, label))
    return f"<div class='strip'>{''.join(pictures)}</div>"


def figure(picture: np.ndarray, caption: str) -> str:
    """An RGB picture (H, W, 3) uint8 inside the page, with a caption."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )
    if not done:
        raise ValueError(f"cannot encode a picture of shape {picture.shape}")
    source = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
    caption = escape(caption, quote=True)
    return (
        f"<figure><img src='{source}' alt='{caption}'><figcaption>{caption}</figcaption></figure>"
    )


LEGEND = """<p class='legend'><i style='border:2px dashed #e12828'></i>ground truth
<i style='border:2px solid #16a34a'></i>chosen tube
<i style='border:2px solid #facc15'></i>most attended context tube
<i style='border:2px solid #cdd2dc'></i>other proposals</p>"""
