"""What a video's boxes must be like before they are stored (FORMAT.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from proposals.errors import InputError
from proposals.identity import Identity
from proposals.store import StoredVideo


def validated(
    video_id: str,
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    frame_size: tuple[int, int],
    classes: Sequence[str],
    identity: Identity | None = None,
) -> StoredVideo:
    """One video in the stored types.

    Raises:
        InputError: naming the video, the frame and the box.
    """
    if not isinstance(video_id, str) or not video_id or not video_id.isprintable():
        raise InputError(f"wanted a printable, non-empty video id, got {video_id!r}")
    if not len(boxes) == len(scores) == len(labels) > 0:
        raise InputError(
            f"video {video_id}: wanted one array of boxes, scores and labels for each frame, got"
            f" {len(boxes)}, {len(scores)} and {len(labels)}"
        )
    if len(frame_size) != 2 or min(frame_size) < 1:
        raise InputError(f"video {video_id}: wanted frame_size (height, width), got {frame_size}")
    arrays = [
        (_array(b, np.float32, (-1, 4)), _array(s, np.float32, (-1,)), _array(c, np.int64, (-1,)))
        for b, s, c in zip(boxes, scores, labels, strict=True)
    ]
    for frame, (b, s, c) in enumerate(arrays):
        fault = _fault(b, s, c, frame_size, classes)
        if fault:
            raise InputError(f"video {video_id}, frame {frame}: {fault}")
    sound = [tuple(part for part in array if part is not None) for array in arrays]  # all are
    b, s, c = (np.concatenate(part) for part in zip(*sound, strict=True))
    counts = np.array([len(array[1]) for array in sound], np.int64)
    h0, w0 = (int(value) for value in frame_size)
    return StoredVideo(video_id, (h0, w0), counts, b, s, c.astype(np.int32), identity)


def _array(values: Any, dtype: type, shape: tuple[int, ...]) -> np.ndarray | None:
    """The values as an array of that shape, None when they are none."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    try:
        array = np.asarray(values)
    except ValueError:
        return None
    if array.size == 0:
        return np.zeros([max(0, n) for n in shape], dtype)
    if array.ndim != len(shape) or array.shape[1:] != shape[1:] or array.dtype.kind not in "iuf":
        return None
    whole = dtype is not np.int64 or array.dtype.kind in "iu"
    return array.astype(dtype) if whole else None


def _fault(
    boxes: np.ndarray | None,
    scores: np.ndarray | None,
    labels: np.ndarray | None,
    frame_size: tuple[int, int],
    classes: Sequence[str],
) -> str:
    """What is wrong with one frame's boxes, in words; "" when nothing is."""
    if boxes is None or scores is None or labels is None:
        return "wanted boxes (n, 4) and scores (n,) of numbers and labels (n,) of integers"
    if not len(boxes) == len(scores) == len(labels):
        return f"got {len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels"
    h0, w0 = frame_size
    x1, y1, x2, y2 = boxes.T
    for bad, wanted in (
        (~np.isfinite(boxes).all(1), "finite numbers"),
        ((x1 >= x2) | (y1 >= y2), "x1 < x2 and y1 < y2"),
        (
            (x1 < 0) | (y1 < 0) | (x2 > w0) | (y2 > h0),
            f"a box inside the frame (width {w0}, height {h0}): clip it",
        ),
    ):
        if bad.any():
            at = int(bad.argmax())
            return f"box {at} is {boxes[at].tolist()}, wanted {wanted}"
    if not np.isfinite(scores).all():
        return f"score {int((~np.isfinite(scores)).argmax())} is not finite"
    if (np.diff(scores) > 0).any():
        return "the scores rise, wanted the most confident box first"
    known = len(classes) or np.iinfo(np.int32).max
    if ((labels < 0) | (labels >= known)).any():
        at = int(((labels < 0) | (labels >= known)).argmax())
        return f"label {at} is {labels[at]}, wanted 0..{known - 1}"
    return ""
