"""Your own data: videos in a folder and a CSV of sentences, with masks where you have them.

    <root>/sentences.csv            header video_id,instance_id,query or ...,query,split
    <root>/videos/<video>.mp4, or <root>/<video>.mp4; a folder of images is a video too
    <root>/masks/<video>/<instance>/<00012>.png   0-based frame, nonzero where the object is, or
    <root>/masks.json               a list (or {"annotations": list}) of {"video_id",
                                    "instance_id", "frame" (0-based), "segmentation": COCO RLE}

Without a column split every sentence is in every split. Videos without masks have sentences and
frames but no key frames: enough to segment them, not to train or evaluate.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aamn.data.datasets.a2d import normalise, numbered_rows
from aamn.data.datasets.source import Expression, FullTarget, KeyFrame, SentencesByVideo, target_of
from aamn.ops.masks import boxes_of_masks, decode_run_lengths
from aamn.structures import Target
from proposals.errors import InputError
from proposals.files import read_text
from proposals.frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES, FrameSource, open_frames
from proposals.pictures import opened_picture

log = logging.getLogger("aamn")

Mask = Path | Mapping[str, Any]  # a PNG or a COCO RLE


class YourVideos(SentencesByVideo):
    """One split of your own data; see `VideoTextSource`.

    Raises:
        InputError: the root lacks a file, or one cannot be read.
    """

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.root, self.split = Path(root), split
        folder = self.root / "videos"
        self._videos = videos_in(folder if folder.is_dir() else self.root)
        self._listed_in = self.root / "sentences.csv"
        self._sentences = self._read_sentences(self._listed_in)
        self._masks = self._find_masks()
        self.key_frames: list[KeyFrame] = [
            frame for video_id in self._sentences for frame in self._key_frames(video_id)
        ]
        log.info(
            "%s, %s: %d videos, %d sentences, %d annotated frames",
            self.root,
            split,
            len(self._sentences),
            len(self.texts()),
            len(self.key_frames),
        )

    def video_path(self, video_id: str) -> Path:
        """The video file or folder of images."""
        return self._videos[video_id]

    def frames(self, video_id: str) -> FrameSource:
        """The video's frames; InputError when they cannot be decoded."""
        return open_frames(self.video_path(video_id))

    def targets(self, key_frame: KeyFrame) -> tuple[Target, ...]:
        """What each expression of the key frame refers to.

        Raises:
            InputError: a mask cannot be read.
        """
        return tuple(self._target(key_frame, expression) for expression in key_frame.expressions)

    def full_video_targets(self, video_id: str, instance: int) -> FullTarget | None:
        """The object in every frame, where every frame has a mask of it."""
        masks = self._masks.get((video_id, instance), {})
        frames = range(len(self.frames(video_id)) if masks else 0)
        if not masks or not masks.keys() >= set(frames):
            return None
        stack = torch.from_numpy(np.stack([_read_mask(masks[frame]) for frame in frames]))
        return FullTarget(instance, boxes_of_masks(stack), stack)

    def _read_sentences(self, path: Path) -> dict[str, tuple[Expression, ...]]:
        found: dict[str, list[Expression]] = {}
        for number, (video_id, instance, query) in _sentence_rows(path, self.split):
            if video_id not in self._videos:
                raise InputError(f"{path}, line {number}: {self.root} has no video {video_id}")
            if not instance.strip().isdecimal() or not query.strip():
                raise InputError(f"{path}, line {number}: wanted a whole number and a sentence")
            expression = Expression(video_id, int(instance), normalise(query))
            found.setdefault(video_id, []).append(expression)
        if not found:
            raise InputError(f"{path} has no sentence of the split {self.split!r}")
        return {video_id: tuple(expressions) for video_id, expressions in found.items()}

    def _find_masks(self) -> dict[tuple[str, int], dict[int, Mask]]:
        """Masks by (video_id, instance) and frame."""
        listed = self.root / "masks.json"
        found = _listed_masks(listed) if listed.is_file() else {}
        for path in sorted((self.root / "masks").glob("*/*/*.png")):
            instance, frame = path.parent.name, path.stem
            if not (instance.isdecimal() and frame.isdecimal()):
                raise InputError(f"{path}: wanted masks/<video>/<instance>/<frame>.png in numbers")
            found.setdefault((path.parts[-3], int(instance)), {})[int(frame)] = path
        return found

    def _key_frames(self, video_id: str) -> list[KeyFrame]:
        sentences = self._sentences[video_id]
        masks = {e.instance: self._masks.get((video_id, e.instance), {}) for e in sentences}
        frames = sorted({frame for of_instance in masks.values() for frame in of_instance})
        return [
            KeyFrame(video_id, frame, tuple(e for e in sentences if frame in masks[e.instance]))
            for frame in frames
        ]

    def _target(self, key_frame: KeyFrame, expression: Expression) -> Target:
        masks = self._masks[key_frame.video_id, expression.instance]
        mask = torch.from_numpy(_read_mask(masks[key_frame.frame]))
        return target_of(expression, boxes_of_masks(mask[None])[0], mask)


def _sentence_rows(path: Path, split: str) -> list[tuple[int, list[str]]]:
    """Line number and video_id, instance_id, query of the split's sentences."""
    header = "video_id,instance_id,query"
    if path.is_file() and read_text(path).split("\n", 1)[0].count(",") == 3:
        rows = numbered_rows(path, header + ",split")
        return [(n, row[:3]) for n, row in rows if row[3].strip() == split]
    return numbered_rows(path, header)


def _listed_masks(path: Path) -> dict[tuple[str, int], dict[int, Mask]]:
    try:
        content = json.loads(read_text(path))
        rows = content["annotations"] if isinstance(content, dict) else content
        found: dict[tuple[str, int], dict[int, Mask]] = {}
        for row in rows:
            key = str(row["video_id"]), int(row["instance_id"])
            if int(row["frame"]) < 0:
                raise ValueError(f"frame {row['frame']}")
            masks, frame = found.setdefault(key, {}), int(row["frame"])
            if masks.setdefault(frame, row["segmentation"]) is not row["segmentation"]:
                raise ValueError(f"two masks of {key[0]}, instance {key[1]}, frame {frame}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: wanted a list of video_id, instance_id, frame and segmentation "
            f"({type(error).__name__}: {error})"
        ) from None
    return found


def _read_mask(mask: Mask) -> np.ndarray:
    """(H0, W0) bool."""
    if isinstance(mask, Path):
        with opened_picture(mask) as image:
            return np.array(image.convert("L") if image.mode != "P" else image) > 0
    return decode_run_lengths(mask, "masks.json")


def videos_in(folder: Path) -> dict[str, Path]:
    """The videos and folders of images in a folder by id, which is the name without a suffix.

    Raises:
        InputError: there is none, or two have the same id.
    """
    if not folder.is_dir():
        raise InputError(f"no folder at {folder}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and any(f.suffix.lower() in IMAGE_SUFFIXES for f in path.iterdir()):
            video_id = path.name
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            video_id = path.stem
        else:
            continue
        if found.setdefault(video_id, path) != path:
            raise InputError(f"{found[video_id]} and {path} have the same video id {video_id}")
    if not found:
        raise InputError(f"{folder}: no video there; wanted {' '.join(sorted(VIDEO_SUFFIXES))}")
    return found
