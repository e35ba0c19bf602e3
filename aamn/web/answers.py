"""What the page shows of a video and of a sentence, as plain values for JSON.

A clip's boxes and masks are the same for every sentence, so the page asks for them once; a sentence
brings scores and the tube that it means in each clip.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from aamn.index.video_index import VideoIndex, VideoTrack
from aamn.inference.results import run_lengths
from aamn.inference.verdict import Verdict
from proposals.errors import InputError

DIGITS = 4


def describe(index: VideoIndex) -> dict[str, Any]:
    """The video: its number of frames, frames a second, size (H0, W0), and the first frame and the
    end of those that each clip answers for."""
    return {
        "frames": len(index.frames),
        "fps": index.header.fps or 25.0,
        "size": list(index.size),
        "clips": index.windows[:, 1:].tolist(),
        "threshold": index.query_encoder.absent_threshold,
    }


def describe_clip(index: VideoIndex, clip: int) -> dict[str, Any]:
    """All tubes of a clip through its frames: boxes [x1, y1, x2, y2] and masks as COCO's run
    lengths; `context` says for each tube how much the whole clip, then each tube, contributes to
    what its action is judged by (null without a contextual LSTM).

    Raises:
        InputError: there is no such clip.
    """
    if not 0 <= clip < len(index.windows):
        raise InputError(f"wanted clip {clip}, the video has {len(index.windows)}")
    _, first, end = index.windows[clip].tolist()
    valid = index.file.array("valid")[clip]
    tubes = [
        _tube(index, clip, tube, np.arange(first, end)) for tube in np.flatnonzero(valid).tolist()
    ]
    context = None if index.context is None else index.context[clip][valid][:, [True, *valid]]
    return {
        "frames": [first, end],
        "tubes": tubes,
        "context": None if context is None else context.round(DIGITS).tolist(),
    }


def _tube(index: VideoIndex, clip: int, tube: int, frames: np.ndarray) -> dict[str, Any]:
    chosen = np.full(len(index.windows), -1)
    chosen[clip] = tube
    masks = index.shown_masks(frames, chosen)
    return {
        "tube": tube,
        "boxes": index.shown_boxes(frames, chosen).round(1).tolist(),
        "masks": [run_lengths(mask)["counts"] for mask in masks],
    }


def ask(index: VideoIndex, texts: Sequence[str]) -> dict[str, Any]:
    """The answers to sentences, and the milliseconds they took. One that cannot be asked has an
    "error" instead."""
    begin = time.perf_counter()
    errors = [_refusal(index, text) for text in texts]
    asked = [text for text, error in zip(texts, errors, strict=True) if not error]
    tracks = iter(index.query(asked, absent_threshold=None) if asked else ())
    answers = [{"error": error} if error else _answer(next(tracks)) for error in errors]
    return {"answers": answers, "ms": round((time.perf_counter() - begin) * 1e3, 2)}


def _refusal(index: VideoIndex, text: str) -> str:
    try:
        index.query_encoder.queries(text)
    except InputError as error:
        return str(error)
    return ""


def _answer(track: VideoTrack) -> dict[str, Any]:
    """tubes (C,): the chosen one of each clip, -1 for none; total and actor (C, K): the scores of
    all tubes, null where there is none; the words with both modules' attention."""
    query = track.query
    return {
        "score": _number(track.score),
        "probability": _number(track.probability) if track.probability is not None else None,
        "reason": Verdict.of(query, track.score).reason,
        "tubes": track.tubes.tolist(),
        "total": _numbers(track.total),
        "actor": _numbers(track.actor),
        "words": [
            {"word": word, "actor": round(float(actor), 3), "action": round(float(action), 3)}
            for word, actor, action in zip(
                query.tokens, track.actor_attention, track.action_attention, strict=True
            )
        ],
        "unknown": list(query.unknown),
        "left_out": list(query.left_out),
    }


def _number(value: float) -> float | None:
    """JSON has no infinity."""
    return round(float(value), DIGITS) if math.isfinite(value) else None


def _numbers(values: np.ndarray) -> list[list[float | None]]:
    return [[_number(value) for value in row] for row in values.tolist()]
