"""J-HMDB Sentences (Gavrilyuk et al., CVPR 2018): 928 short videos of one person and one sentence.

    <root>/jhmdb_annotation.txt                       header video_id,query
    <root>/Rename_Images/<action>/<video>/00001.png   1-based
    <root>/puppet_mask/<action>/<video>/puppet_mask.mat
    <root>/eval_samples.json                          optional: the 2784 frames of later papers

The key frames are those of the list where it exists, else three spread uniformly over the frames
that have a mask, as in the original evaluation.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat, whosmat

from aamn.data.datasets.a2d import normalise, numbered_rows
from aamn.data.datasets.source import Expression, FullTarget, KeyFrame, SentencesByVideo, target_of
from aamn.ops.masks import boxes_of_masks
from aamn.structures import Target
from proposals.errors import InputError
from proposals.files import inside, read_text
from proposals.frames import FrameSource, open_frames

log = logging.getLogger("aamn")

SAMPLES = 3  # frames a video


class JHMDBSentences(SentencesByVideo):
    """J-HMDB Sentences, whose one split is called test; see `VideoTextSource`.

    Raises:
        InputError: the root lacks a file, or one cannot be read.
    """

    def __init__(self, root: str | Path, split: str = "test") -> None:
        if split != "test":
            raise InputError(f"J-HMDB Sentences has the split test alone, not {split!r}")
        self.root = Path(root)
        self._listed_in = self.root / "jhmdb_annotation.txt"
        self._actions = _folders(self.root / "puppet_mask")
        self._image_actions = _folders(self.root / "Rename_Images")
        self._sentences = _read_sentences(self._listed_in)
        listed = self.root / "eval_samples.json"
        self.key_frames: list[KeyFrame] = (
            self._listed(listed) if listed.is_file() else self._uniform()
        )
        log.info(
            "%s: %d videos with one sentence each, %d annotated frames to evaluate",
            self.root,
            len(self._sentences),
            len(self.key_frames),
        )

    def video_path(self, video_id: str) -> Path:
        """The video's folder of images, or, if it is missing, where it should be."""
        action = self._image_actions.get(video_id) or self._actions.get(video_id, "ACTION")
        return self.root / "Rename_Images" / action / video_id

    def mask_path(self, video_id: str) -> Path:
        """The video's puppet_mask.mat, or, if it is missing, where it should be."""
        action = self._actions.get(video_id) or self._image_actions.get(video_id, "ACTION")
        return self.root / "puppet_mask" / action / video_id / "puppet_mask.mat"

    def frames(self, video_id: str) -> FrameSource:
        """The video's frames.

        Raises:
            InputError: the folder is missing or an image is damaged.
        """
        return open_frames(self.video_path(video_id))

    def targets(self, key_frame: KeyFrame) -> tuple[Target, ...]:
        """The person in the key frame.

        Raises:
            InputError: the mask file cannot be read or ends before the frame.
        """
        masks = read_puppet_masks(self.mask_path(key_frame.video_id))
        if key_frame.frame >= len(masks):
            raise InputError(
                f"{self.mask_path(key_frame.video_id)} has masks of {len(masks)} frames, wanted "
                f"frame {key_frame.frame + 1}"
            )
        mask = torch.from_numpy(masks[key_frame.frame].copy())
        box = boxes_of_masks(mask[None])[0]
        return tuple(target_of(expression, box, mask) for expression in key_frame.expressions)

    def full_video_targets(self, video_id: str, instance: int) -> FullTarget | None:
        """The person in every frame that has a mask; the video may go on behind them."""
        masks = torch.from_numpy(read_puppet_masks(self.mask_path(video_id)))
        return FullTarget(instance, boxes_of_masks(masks), masks)

    def _uniform(self) -> list[KeyFrame]:
        there = [video_id for video_id in self._sentences if video_id in self._actions]
        if len(there) < len(self._sentences):
            log.warning(
                "%s: %d of %d videos have no folder in puppet_mask and are left out",
                self.root,
                len(self._sentences) - len(there),
                len(self._sentences),
            )
        return [
            KeyFrame(video_id, frame, self._sentences[video_id])
            for video_id in there
            for frame in uniform_frames(count_puppet_masks(self.mask_path(video_id)))
        ]

    def _listed(self, path: Path) -> list[KeyFrame]:
        """The frames of a list of [video, image path, mask path, masks, sentence]."""
        try:
            rows = json.loads(read_text(path))
            frames = [(str(row[0]), int(Path(row[1]).stem) - 1) for row in rows]
            if min((frame for _, frame in frames), default=0) < 0:
                raise ValueError("images are numbered from 1 on")
        except (ValueError, TypeError, IndexError, KeyError, AttributeError):
            raise InputError(
                f"{path}: wanted a list of [video, image, mask, count, sentence]; remove it to "
                "sample three frames a video"
            ) from None
        unknown = {video_id for video_id, _ in frames} - self._sentences.keys()
        if unknown:
            raise InputError(f"{path}: {min(unknown)} is not in jhmdb_annotation.txt")
        return [KeyFrame(video_id, frame, self._sentences[video_id]) for video_id, frame in frames]


def _read_sentences(path: Path) -> dict[str, tuple[Expression, ...]]:
    """The one sentence of every video.

    Raises:
        InputError: a video has two, or as `numbered_rows`.
    """
    found: dict[str, tuple[Expression, ...]] = {}
    for number, (video_id, query) in numbered_rows(path, "video_id,query"):
        own = inside(path, video_id).name
        if own in found:
            raise InputError(f"{path}, line {number}: {video_id} has a sentence already")
        found[own] = (Expression(video_id, 0, normalise(query)),)
    return found


def uniform_frames(count: int, samples: int = SAMPLES) -> list[int]:
    """The middle frames of `samples` equal parts of `count` frames, each once."""
    return sorted({int((part + 0.5) * count / samples) for part in range(samples)})


def read_puppet_masks(path: Path) -> np.ndarray:
    """Masks (T, H0, W0) bool of a puppet_mask.mat, which stores (H0, W0, T).

    Raises:
        InputError: the file is missing, damaged or holds no part_mask.
    """
    masks = _parse(path, lambda: loadmat(path)["part_mask"])
    masks = masks[..., None] if masks.ndim == 2 else masks
    return np.ascontiguousarray(np.moveaxis(masks, 2, 0)) > 0


def count_puppet_masks(path: Path) -> int:
    """How many frames a puppet_mask.mat covers, from its header alone; raises as
    `read_puppet_masks` does."""
    shape = _parse(path, lambda: {name: shape for name, shape, _ in whosmat(path)}["part_mask"])
    return shape[2] if len(shape) == 3 else 1


def _parse(path: Path, read: Callable[[], Any]) -> Any:
    if not path.is_file():
        raise InputError(f"no masks at {path}")
    try:
        return read()
    except Exception as error:  # scipy raises whatever its parser stumbles over
        raise InputError(
            f"{path}: cannot read part_mask ({type(error).__name__}: {error}); download it again"
        ) from None


def _folders(root: Path) -> dict[str, str]:
    """The action of each video that has a folder <root>/<action>/<video>."""
    if not root.is_dir():
        raise InputError(f"no folder {root}; wanted {root.name}/<action>/<video>")
    return {
        video.name: action.name
        for action in sorted(root.iterdir())
        if action.is_dir()
        for video in sorted(action.iterdir())
        if video.is_dir()
    }
