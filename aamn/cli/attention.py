"""Draws what ACGA or CSTM attends to in one frame for one sentence."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np

from aamn.cli.command_line import make_parser, run
from aamn.cli.options import open_segmenter
from aamn.data.flow.store import stored_flow
from aamn.data.samples import load_clip
from aamn.inference.checkpoint import extend_words
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
from proposals.errors import InputError
from proposals.files import write_json
from proposals.frames import open_frames

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
    for kind, draw in ((ACGA, _draw_acga), (CSTM, _draw_cstm)):
        if isinstance(system, kind):
            return draw(system, clip, query, frame, pixel, out)
    raise InputError(
        f"only acga and cstm are drawn here, this checkpoint is of {type(system).__name__}; "
        "segment_video draws AAMN's word attention"
    )


def _checked(pixel: list[int] | None, size: tuple[int, int]) -> Pixel:
    """The chosen pixel, or the frame's centre.

    Raises:
        InputError: it lies outside the frame.
    """
    h, w = size
    x, y = pixel or (w // 2, h // 2)
    if not (0 <= x < w and 0 <= y < h):
        raise InputError(f"--pixel {x} {y}: wanted a pixel of the frame, which is {w}x{h}")
    return x, y


def _key_frame(args: argparse.Namespace, count: int) -> int:
    key = count // 2 if args.frame is None else args.frame
    if not 0 <= key < count:
        raise InputError(f"--frame {key}: {args.video} has {count} frames")
    return key


def main() -> None:
    parser = make_parser(
        "Draws what a comparison system attends to in one frame. ACGA: each word's weight at every "
        "place, and where the chosen pixel looks. CSTM: LGFS's weights and the maps they weigh.",
        "python tools/draw_attention.py --checkpoint runs/acga/last.pt --video clip.mp4 "
        '--query "dog walking" --frame 12 --pixel 80 60 --out runs/attention',
    )
    parser.add_argument("--checkpoint", required=True, metavar="PT", help="from train_net")
    parser.add_argument("--video", required=True, help="a video file or a folder of frames")
    parser.add_argument("--query", required=True, help="the sentence")
    parser.add_argument("--frame", type=int, metavar="N", help="from 0; default: the middle one")
    parser.add_argument(
        "--pixel", type=int, nargs=2, metavar=("X", "Y"), help="of the frame; default: its centre"
    )
    parser.add_argument("--flow", metavar="HDF5", help="flow that was extracted; else on the fly")
    parser.add_argument("--video-id", help="the video's id in the flow file; default: its name")
    args = parser.parse_args()
    loaded = extend_words(open_segmenter(args), [args.query])
    query, system = loaded.vocabulary.encode(args.query), loaded.segmenter
    path, out = Path(args.video), Path(args.out or "runs/attention")
    video_id = args.video_id or (path.name if path.is_dir() else path.stem)
    flow = stored_flow(args.flow, system.needs)
    with open_frames(path) as frames:
        key = _key_frame(args, len(frames))
        pixel = _checked(args.pixel, frames.size)
        clip = load_clip(video_id, frames, key, system.needs, flow, loaded.config.flow)
        frame = frames.read([key])[0]
    record = _draw(system, clip, query, frame, pixel, out)
    record = {"video_id": video_id, "frame": key, "sentence": args.query, **record}
    write_json(out / "attention.json", record)
    log.info("wrote %s", out)


if __name__ == "__main__":
    run(main)
