"""Evaluation of whole videos: pixels of all frames of a (video, sentence) are counted together.

Three protocols: "bbox" compares the filled box around the mask with the filled true box, "pixel"
the mask with that filled box (both of Table XIII), "mask" the mask with the true mask, where the
data set has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from aamn.data.datasets.source import Expression, FullTarget
from aamn.evaluation.metrics import PRECISION_THRESHOLDS, summarise, video_precision
from aamn.ops.masks import boxes_of_masks, filled_boxes
from aamn.structures import MaskTrack, Row
from proposals.errors import InputError

PROTOCOLS = ("bbox", "pixel", "mask")


def frame_rows(
    expressions: Sequence[Expression],
    targets: Sequence[FullTarget],
    clips: Iterable[Sequence[MaskTrack]],
) -> dict[str, list[Row]]:
    """Protocol -> one row a frame and sentence, of one video; `clips` are the tracks of all its
    sentences, some frames at a time.

    Raises:
        InputError: the truth ends before the video does.
    """
    rows: dict[str, list[Row]] = {name: [] for name in PROTOCOLS}
    for tracks in clips:
        for expression, target, track in zip(expressions, targets, tracks, strict=True):
            for name, pair in _compared(expression, target, track).items():
                rows[name] += _count(expression, track.frame_indices, *pair)
    return {name: found for name, found in rows.items() if found}


def _compared(
    expression: Expression, target: FullTarget, track: MaskTrack
) -> dict[str, tuple[Tensor, Tensor]]:
    """Protocol -> predicted and true masks (T, H0, W0)."""
    frames, masks = track.frame_indices, track.masks.cpu()
    if int(frames.max()) >= len(target.boxes):
        raise InputError(
            f"{expression.video_id}: the full-video truth has {len(target.boxes)} frames, the "
            f"video at least {int(frames.max()) + 1}"
        )
    size = (masks.shape[1], masks.shape[2])
    truth = filled_boxes(target.boxes[frames], size)
    pairs = {
        "bbox": (filled_boxes(boxes_of_masks(masks), size), truth),
        "pixel": (masks, truth),
    }
    if target.masks is not None:
        pairs["mask"] = (masks, target.masks[frames])
    return pairs


def _count(expression: Expression, frames: Tensor, masks: Tensor, truth: Tensor) -> list[Row]:
    both = (masks & truth).flatten(1).sum(1).tolist()
    either = (masks | truth).flatten(1).sum(1).tolist()
    return [
        Row(
            video_id=expression.video_id,
            instance=expression.instance,
            frame=frame,
            text=expression.text,
            kind=expression.kind,
            intersection=intersection,
            union=union,
        )
        for frame, intersection, union in zip(frames.tolist(), both, either, strict=True)
    ]


def whole_videos(rows: Iterable[Row]) -> list[Row]:
    """One row a (video, sentence): the pixels of all its frames; `frame` is -1."""
    videos: dict[tuple[str, int, str], Row] = {}
    for row in rows:
        pair = (row.video_id, row.instance, row.text)
        before = videos.get(pair, replace(row, frame=-1, intersection=0, union=0))
        videos[pair] = replace(
            before,
            intersection=before.intersection + row.intersection,
            union=before.union + row.union,
        )
    return list(videos.values())


def summarise_videos(rows: Sequence[Row]) -> dict[str, float]:
    """Every metric over (video, sentence) pairs, of rows a frame; VP@X counts a pair when each of
    its frames has an IoU greater than X."""
    metrics = summarise(whole_videos(rows))
    return metrics | {f"VP@{x}": video_precision(rows, x) for x in PRECISION_THRESHOLDS}


def format_videos(results: Mapping[str, Mapping[str, Sequence[Row]]]) -> str:
    """A table of systems (name -> protocol -> rows a frame), in per cent."""
    columns = [f"P@{x}" for x in PRECISION_THRESHOLDS]
    columns += ["mAP 0.5:0.95", "Overall IoU", "Mean IoU", "VP@0.5", "VP@0.7"]
    heads = [f"P@.{str(x)[2:]}" for x in PRECISION_THRESHOLDS]
    heads += ["mAP", "Overall", "Mean", "VP@.5", "VP@.7"]
    width = max(len("system"), *(len(name) for name in results))
    lines = [f"{'system':<{width}}  protocol{'n':>6}" + "".join(f"{h:>9}" for h in heads)]
    for system, protocols in results.items():
        for protocol, rows in protocols.items():
            metrics = summarise_videos(rows)
            cells = "".join(f"{100 * metrics[c]:9.1f}" for c in columns)
            count = len(whole_videos(rows))
            lines.append(f"{system:<{width}}  {protocol:<8}{count:>6}{cells}")
    return "\n".join(lines)
