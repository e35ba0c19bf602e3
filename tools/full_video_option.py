"""The option --full-video of eval_net: whole videos, clip by clip and by video-level tubes."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from aamn.checkpoint import load_segmenter
from aamn.data.flow_store import FlowStore
from aamn.data.readers import open_source
from aamn.data.source import Expression, FullTarget, VideoTextSource
from aamn.full_video_rows import format_videos, frame_rows, summarise_videos
from aamn.index import LINKINGS, VideoIndex, answers
from aamn.index_file import index_path
from aamn.indexing import IndexJob, StoredBoxes, build_index
from aamn.structures import Row
from aamn.tubes.video_linking import calibrate_absence
from proposals.errors import InputError
from proposals.store import ProposalStore

log = logging.getLogger("aamn")

Found = dict[str, dict[str, list[Row]]]  # linking -> protocol -> rows a frame


def evaluate_videos(args: argparse.Namespace) -> None:
    """Prints and writes the metrics of whole videos, and calibrates the threshold of absence: the
    videos' own sentences are present, those that only the next video has count as absent."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_segmenter(args.checkpoint, device, args.config, args.overrides)
    options = {"root": args.data, "proposals": args.proposals, "flow": args.flow}
    data = replace(loaded.config.data, **{k: v for k, v in options.items() if v})
    source = open_source(data, args.split or data.test_split)
    store = ProposalStore.read(data.proposals)
    flow = FlowStore.read(data.flow) if loaded.segmenter.needs.flow and data.flow else None
    out = Path(args.out or Path(args.checkpoint).with_name("full_video.json"))
    found: Found = {f"aamn, by {linking}": defaultdict(list) for linking in LINKINGS}
    scores: dict[str, list[float]] = {"present": [], "absent": []}
    ids = source.video_ids
    for place, video_id in enumerate(tqdm(ids, desc="full videos", unit="video")):
        with source.frames(video_id) as frames:
            boxes = StoredBoxes(store, video_id, frames.size)
            job = IndexJob(loaded.segmenter, video_id, frames, boxes, flow, loaded.config.flow)
            path = index_path(args.index or out.with_suffix(".index"), video_id)
            build_index(job, path, replace=True)
        index = VideoIndex.read(path, loaded)
        _add_rows(found, source, index)
        _add_scores(scores, source, index, ids[(place + 1) % len(ids)])
        index.close()
    if not any(found.values()):
        raise InputError(f"{data.root} has no full-video truth (docs/data.md)")
    print(format_videos(found))
    content = _record(found, scores, f"{data.root} ({args.split or data.test_split})")
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    aside.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(aside, out)
    log.info("wrote %s", out)


def _add_rows(found: Found, source: VideoTextSource, index: VideoIndex) -> None:
    pairs: list[tuple[Expression, FullTarget]] = []
    for expression in source.sentences(index.video_id):
        target = source.full_video_targets(index.video_id, expression.instance)
        if target is not None:
            pairs.append((expression, target))
    if not pairs:
        return
    expressions, targets = zip(*pairs, strict=True)
    for linking in LINKINGS:
        tracks = index.query([e.text for e in expressions], linking=linking)
        clips = (answer.tracks for answer in answers(tracks, range(len(index))))
        for protocol, rows in frame_rows(expressions, targets, clips).items():
            found[f"aamn, by {linking}"][protocol] += rows


def _add_scores(
    scores: dict[str, list[float]], source: VideoTextSource, index: VideoIndex, other: str
) -> None:
    own = {expression.text for expression in source.sentences(index.video_id)}
    foreign = {expression.text for expression in source.sentences(other)} - own
    for name, texts in (("present", own), ("absent", foreign)):
        if texts:
            scores[name] += [track.score for track in index.query(sorted(texts))]


def _record(found: Found, scores: dict[str, list[float]], data: str) -> dict:
    systems = {
        system: {name: summarise_videos(rows) for name, rows in protocols.items()}
        for system, protocols in found.items()
    }
    absence = {}
    if all(scores.values()):
        absence = dict(vars(calibrate_absence(scores["present"], scores["absent"])))
        print(
            f"not present: threshold {absence['threshold']:.3f} separates own from foreign "
            f"sentences with balanced accuracy {100 * absence['balanced_accuracy']:.1f}"
        )
    return {"data": data, "systems": systems, "absence": absence}
