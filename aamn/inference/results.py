"""What a full-video run leaves behind: for each sentence a folder with masks, an overlay video and
pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from aamn.inference.clip_by_clip import Answer
from aamn.inference.labels import merge_objects, write_labels
from aamn.inference.result_folder import RECORD, one_run
from aamn.ops.masks import runs_of
from aamn.structures import MaskTrack, Query, TubeScores
from aamn.visualization.overlays import (
    caption_strip,
    contact_sheet,
    overlay,
    query_colours,
    word_attention,
    write_picture,
)
from aamn.visualization.video_writer import VideoWriter, written_video
from proposals.files import write_json
from proposals.frames import FrameSource
from proposals.identity import identity_of
from proposals.progress import progress

SHEET_PICTURES = 8


def folder_name(place: int, text: str) -> str:
    """A folder's name for a sentence: its number and its words, safe on every file system."""
    words = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return f"{place:02d}_{words[:60].strip('_')}"


@dataclass(frozen=True)
class OutputOptions:
    """Which of the video's frames are written, and whether one indexed PNG a frame joins all
    sentences."""

    frames: range
    palette: bool = False


@dataclass
class _Sentence:
    """What is collected for one sentence while the video goes by."""

    query: Query
    folder: Path
    colour: tuple[int, int, int]
    strip: np.ndarray
    overlay_video: VideoWriter
    clips: list[dict[str, Any]] = field(default_factory=list)
    codes: list[dict[str, Any]] = field(default_factory=list)
    sheet: list[np.ndarray] = field(default_factory=list)
    first: MaskTrack | None = None


def write_results(
    out: Path,
    video_id: str,
    frames: FrameSource,
    queries: Sequence[Query],
    answers: Iterable[Answer],
    wanted: OutputOptions | None = None,
    facts: Sequence[Mapping[str, Any]] = (),
) -> list[Path]:
    """Consumes the answers and writes, for each sentence, `masks/00000.png` ... (0 and 255, the
    video's size), `masks.json` (COCO's run lengths), `overlay.mp4`, `attention.png`, `sheet.png`
    and `result.json`, to which `facts` of the sentence are added; with `wanted.palette` also
    `palette/00000.png` ... for all sentences, where index n is the n-th one.

    `run.json` says of which video and lists the files: those of an earlier run into `out` go.
    Memory holds one clip at a time. Returns the sentences' folders.

    Raises:
        InputError: the video cannot be decoded any further, or a video cannot be written.
    """
    names = [folder_name(place, query.text) for place, query in enumerate(queries)]
    wanted = wanted or OutputOptions(range(len(frames)))
    with one_run(out) as aside:
        if wanted.palette:
            answers = _labelled(aside / "palette", answers)
        folders = [aside / name for name in names]
        write_folders(folders, video_id, frames, queries, answers, wanted, facts)
        sentences = {name: query.text for name, query in zip(names, queries, strict=True)}
        video = asdict(identity_of(frames))
        record = {"video_id": video_id, "video": video, "sentences": sentences}
        write_json(aside / RECORD, record)
    return [out / name for name in names]


def write_folders(
    folders: Sequence[Path],
    video_id: str,
    frames: FrameSource,
    queries: Sequence[Query],
    answers: Iterable[Answer],
    wanted: OutputOptions,
    facts: Sequence[Mapping[str, Any]] = (),
) -> None:
    """`write_results` into one given folder a sentence, without the palette.

    Raises:
        InputError: as `write_results`.
    """
    count = len(wanted.frames)
    indices = np.linspace(0, count - 1, min(SHEET_PICTURES, count), dtype=int)
    shown = {wanted.frames[place] for place in indices}
    size, fps = frames.size, frames.fps / wanted.frames.step
    colours = query_colours([query.text for query in queries])
    with ExitStack() as stack:
        sentences = []
        for folder, query, colour in zip(folders, queries, colours, strict=True):
            strip = caption_strip(query.text, size[1], size[0])
            height = size[0] + len(strip)
            video = stack.enter_context(
                written_video(folder / "overlay.mp4", fps, (height, size[1]))
            )
            sentences.append(_Sentence(query, folder, colour, strip, video))
        bar = stack.enter_context(progress(count, f"{video_id}, masks", "frame"))
        for answer in answers:
            pictures = frames.read(answer.tracks[0].frame_indices.numpy())
            for sentence, track in zip(sentences, answer.tracks, strict=True):
                _add(sentence, answer, track, pictures, shown)
            bar.update(len(pictures))
    made_of = {"video_id": video_id, "video": asdict(identity_of(frames))}
    for place, sentence in enumerate(sentences):
        _finish(sentence, made_of, size, facts[place] if facts else {})


def _add(
    sentence: _Sentence, answer: Answer, track: MaskTrack, pictures: np.ndarray, shown: set[int]
) -> None:
    """Writes one clip's masks and overlay frames of one sentence."""
    sentence.first = sentence.first or track
    masks = track.masks.numpy()
    for step, frame in enumerate(track.frame_indices.tolist()):
        write_picture(
            sentence.folder / "masks" / f"{frame:05d}.png", masks[step].astype(np.uint8) * 255
        )
        sentence.codes.append({"frame": frame, "segmentation": run_lengths(masks[step])})
        picture = overlay(pictures[step], masks[step], sentence.colour, track.boxes[step].tolist())
        picture = np.vstack([picture, sentence.strip])
        sentence.overlay_video.add(picture)
        if frame in shown:
            sentence.sheet.append(picture)
    entry: dict[str, Any] = {
        "frames": [answer.start, answer.stop],
        "tube": track.tube,
        "score": _finite(track.score),
        "boxes": [[round(v, 2) for v in box] for box in track.boxes.tolist()],
    }
    if track.scores is not None:
        for name in ("total", "actor", "action"):
            entry[f"{name}_scores"] = [_finite(v) for v in getattr(track.scores, name).tolist()]
        entry |= _context(track.tube, track.scores)
    sentence.clips.append(entry)


def _context(tube: int, scores: TubeScores) -> dict[str, Any]:
    """How much the whole clip and every tube contribute to the chosen tube's context."""
    weights, members = scores.context_attention, scores.context_members
    if weights is None or members is None or tube < 0:
        return {}
    given = dict(zip(members[tube].tolist(), weights[tube].tolist(), strict=True))
    shares = [round(given.get(n, 0.0), 6) for n in range(-1, len(scores.total))]
    return {"context_attention": {"clip": shares[0], "tubes": shares[1:]}}


def run_lengths(
    mask: np.ndarray, size: tuple[int, int] | None = None, top: int = 0, left: int = 0
) -> dict[str, Any]:
    """COCO's compressed run lengths of a mask (H0, W0) bool: {"size": [H0, W0], "counts": text}.
    With `size` (H0, W0) the mask is the part (h, w) from row `top` and column `left` on, and all
    else is False."""
    height, width = size or mask.shape
    rows = np.flatnonzero(mask.any(1))
    if len(rows):  # what is empty above and below takes no time
        top, mask = top + int(rows[0]), mask[rows[0] : rows[-1] + 1]
    runs = runs_of(mask, top, left, (height, width)).tolist()
    code = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return {"size": [height, width], "counts": code["counts"].decode("ascii")}


def _labelled(folder: Path, answers: Iterable[Answer]) -> Iterator[Answer]:
    """The answers as they come, each clip's indexed PNGs written; where sentences overlap the one
    with the higher score is shown."""
    for answer in answers:
        masks = np.stack([track.masks.numpy() for track in answer.tracks])
        labels = merge_objects(masks, [track.score for track in answer.tracks])
        for frame, picture in zip(answer.tracks[0].frame_indices.tolist(), labels, strict=True):
            write_labels(picture, folder / f"{frame:05d}.png")
        yield answer


def _finite(value: float) -> float | None:
    """JSON has no infinity: a tube that does not exist has no score."""
    return round(value, 6) if np.isfinite(value) else None


def _finish(
    sentence: _Sentence,
    made_of: Mapping[str, Any],
    size: tuple[int, int],
    facts: Mapping[str, Any],
) -> None:
    """The pictures and the record that need the whole video; `made_of` says which it is."""
    scores = sentence.first.scores if sentence.first else None
    words = {}
    if scores is not None:
        picture = word_attention(
            sentence.query.tokens, scores.actor_attention, scores.action_attention
        )
        write_picture(sentence.folder / "attention.png", picture)
        words = {
            "actor_attention": [round(v, 6) for v in scores.actor_attention.tolist()],
            "action_attention": [round(v, 6) for v in scores.action_attention.tolist()],
        }
    write_picture(sentence.folder / "sheet.png", contact_sheet(sentence.sheet))
    record = {
        **made_of,
        "sentence": sentence.query.text,
        "words": list(sentence.query.tokens),
        **words,
        "size": list(size),
        **{key: _finite(v) if isinstance(v, float) else v for key, v in facts.items()},
        "clips": sentence.clips,
    }
    write_json(sentence.folder / "result.json", record)
    write_json(sentence.folder / "masks.json", sentence.codes)
