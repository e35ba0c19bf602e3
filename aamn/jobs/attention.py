"""Draws what ACGA or CSTM attends to in one frame for one sentence."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from aamn.data.samples import load_clip
from aamn.jobs.inputs import Inputs
from aamn.models.baselines.acga import ACGA
from aamn.models.baselines.cstm import CSTM
from aamn.models.segmenter import Segmenter
from aamn.structures import Clip, Query
from aamn.visualization.attention import (
    attended_picture,
    cell_of,
    selection_sheet,
    word_names,
    word_sheet,
)
from aamn.visualization.overlays import write_picture
from proposals.decoding import Video
from proposals.errors import InputError
from proposals.files import write_json
from proposals.frames import FrameSource, open_frames

log = logging.getLogger("aamn")

Pixel = tuple[int, int]  # (x, y) of the frame


def _draw_acga(
    system: ACGA, clip: Clip, query: Query, frame: np.ndarray, pixel: Pixel, out: Path
) -> dict[str, Any]:
    """words_STREAM.png and attended_STREAM.png; the numbers at the pixel."""
    record: dict[str, Any] = {"pixel": pixel}
    for stream in system.networks:
        seen = system.attention(clip, query, stream)
        names, weights = word_names(query.tokens, seen.words.cpu().numpy())
        cells = seen.cells.cpu().numpy()
        words = word_sheet(frame, names, weights, clip.geometry, pixel)
        write_picture(out / f"words_{stream}.png", words)
        attended = attended_picture(frame, cells, clip.geometry, pixel)
        write_picture(out / f"attended_{stream}.png", attended)
        place = cell_of(*pixel, clip.geometry, cells.shape[:2])
        at = weights[:, place[0], place[1]].tolist()
        record[stream] = {"cell": place, "words": list(zip(names, at, strict=True))}
    return record


def _draw_cstm(
    system: CSTM, clip: Clip, query: Query, frame: np.ndarray, pixel: Pixel, out: Path
) -> dict[str, Any]:
    """selection_STAGE.png of each stage with LGFS; its weights."""
    found = system.selection(clip, query)
    if not found:
        raise InputError(
            "this CSTM was trained without LGFS; train one with --set cstm.lgfs=[5,4,3]"
        )
    record: dict[str, Any] = {}
    for one in found:
        weights = (one.spatial.cpu().numpy(), one.temporal.cpu().numpy())
        maps = (one.spatial_map.cpu().numpy(), one.temporal_map.cpu().numpy())
        sheet = selection_sheet(frame, weights, maps, clip.geometry)
        write_picture(out / f"selection_{one.stage}.png", sheet)
        names = ("spatial", "temporal")
        record[f"stage {one.stage}"] = {n: w.tolist() for n, w in zip(names, weights, strict=True)}
    return record


def _draw(
    system: Segmenter, clip: Clip, query: Query, frame: np.ndarray, pixel: Pixel, out: Path
) -> dict[str, Any]:
    if isinstance(system, ACGA):
        return _draw_acga(system, clip, query, frame, pixel, out)
    if isinstance(system, CSTM):
        return _draw_cstm(system, clip, query, frame, pixel, out)
    raise InputError(
        f"only acga and cstm are drawn here, this checkpoint is of {type(system).__name__}; "
        "`aamn segment` draws AAMN's word attention"
    )


def _checked(pixel: Pixel | None, size: tuple[int, int]) -> Pixel:
    """The chosen pixel, or the frame's centre.

    Raises:
        InputError: it lies outside the frame.
    """
    h, w = size
    x, y = pixel or (w // 2, h // 2)
    if not (0 <= x < w and 0 <= y < h):
        raise InputError(f"--pixel {x} {y}: wanted a pixel of the frame, which is {w}x{h}")
    return x, y


def _key_frame(frame: int | None, frames: FrameSource) -> int:
    key = len(frames) // 2 if frame is None else frame
    if not 0 <= key < len(frames):
        raise InputError(f"--frame {key}: {frames.path} has {len(frames)} frames")
    return key


def draw_attention(
    inputs: Inputs,
    video: Video,
    text: str,
    out: Path,
    frame: int | None = None,
    pixel: Pixel | None = None,
) -> None:
    """Writes pictures and attention.json of what the system attends to for a sentence in one frame
    (None: the middle one), ACGA at one pixel of it (None: the centre).

    Raises:
        InputError: a frame or pixel that is not there, or a system that is not drawn here.
    """
    loaded = inputs.loaded
    (query,), system = loaded.words.queries(text), loaded.segmenter
    if pixel and not isinstance(system, ACGA):
        raise InputError("--pixel: for acga alone, whose words and places look at each other")
    with open_frames(video.path) as frames:
        key = _key_frame(frame, frames)
        pixel = _checked(pixel, frames.size)
        clip = load_clip(
            video.video_id, frames, key, system.input_spec, inputs.flow, loaded.config.flow
        )
        picture = frames.read([key])[0]
    record = _draw(system, clip, query, picture, pixel, out)
    record = {"video_id": video.video_id, "frame": key, "sentence": text, **record}
    write_json(out / "attention.json", record)
    log.info("wrote %s", out)
