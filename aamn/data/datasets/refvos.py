"""Referring video object segmentation: Ref-YouTube-VOS, Ref-DAVIS17, MeViS.

    <root>/<split>/meta_expressions.json, or <root>/meta_expressions/<split>/meta_expressions.json
        {"videos": {id: {"expressions": {eid: {"exp", "obj_id"}}, "frames": [names]}}}
    <root>/<split>/JPEGImages/<video>/<frame>.jpg
    <root>/<split>/Annotations/<video>/<frame>.png   indexed PNG, the index is the obj_id, or
    <root>/<split>/mask_dict.json                    MeViS: {anno_id: [COCO RLE or null, ...]}

A root without folders of splits is read as the only split. Splits without annotation give
sentences and frames but no key frames.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aamn.data.datasets.a2d import normalise
from aamn.data.datasets.source import Expression, FullTarget, KeyFrame, SentencesByVideo, target_of
from aamn.ops.masks import boxes_of_masks, decode_run_lengths
from aamn.structures import Target
from proposals.errors import InputError
from proposals.files import inside, read_text
from proposals.frames import FrameSource, ImageFolder, open_frames
from proposals.pictures import opened_picture

log = logging.getLogger("aamn")

GROUP = 10_000  # instances from here on stand for several objects that one sentence names


@dataclass(frozen=True)
class Listing:
    """A video's entry: its frames' names, and by expression id the sentences and their objects'
    ids in the masks (none where the split has no annotation)."""

    frames: tuple[str, ...]
    sentences: dict[str, str]
    objects: dict[str, tuple[str, ...]]


class ReferringVideos(SentencesByVideo):
    """One split of a data set in this layout; see `VideoTextSource`. A video's sentences are in the
    order of `listing(video_id).sentences`.

    An instance is the obj_id; sentences of MeViS that name several objects share an instance
    number (from 10000 on) when they name the same ones.

    Raises:
        InputError: the root lacks a file, or one cannot be read.
    """

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.root, self.split = Path(root), split
        self.meta_path, self.folder = _find(self.root, split)
        self._listed_in = self.meta_path
        self.listings = read_listings(self.meta_path)
        self._instances = {v: _instances(listing) for v, listing in self.listings.items()}
        self._sentences = {v: self._expressions(v) for v in self.listings}
        self.key_frames: list[KeyFrame] = [
            KeyFrame(video_id, place, self._with_objects(video_id))
            for video_id in self.listings
            if self._with_objects(video_id)
            for place in self._annotated(video_id)
        ]
        log.info(
            "%s, %s: %d videos, %d sentences, %d annotated frames",
            self.root,
            split,
            len(self.listings),
            len(self.texts()),
            len(self.key_frames),
        )

    def listing(self, video_id: str) -> Listing:
        """The video's entry; InputError when there is none."""
        if video_id not in self.listings:
            raise InputError(f"{self.meta_path} has no video {video_id}")
        return self.listings[video_id]

    def video_path(self, video_id: str) -> Path:
        """The video's folder of images."""
        return inside(self.folder, "JPEGImages", video_id)

    def frames(self, video_id: str) -> FrameSource:
        """The video's frames.

        Raises:
            InputError: the folder is missing or holds other images than the listed ones.
        """
        source = open_frames(self.video_path(video_id))
        assert isinstance(source, ImageFolder), f"{source.path} is no folder of images"
        images, listed = {file.stem for file in source.files}, set(self.listing(video_id).frames)
        if images != listed:
            name = min(images ^ listed)
            state = "missing" if name in listed else "not listed in meta_expressions.json"
            raise InputError(f"{source.path}: the image {name} is {state}")
        return source

    def targets(self, key_frame: KeyFrame) -> tuple[Target, ...]:
        """What each expression refers to: an empty mask where its objects are not in the frame.

        Raises:
            InputError: an annotation is missing or damaged.
        """
        video_id = key_frame.video_id
        found: dict[int, Target] = {}
        for expression in key_frame.expressions:
            if expression.instance not in found:
                array = self._mask(video_id, key_frame.frame, expression.instance)
                mask = torch.from_numpy(array)
                found[expression.instance] = target_of(
                    expression, boxes_of_masks(mask[None])[0], mask
                )
        return tuple(found[expression.instance] for expression in key_frame.expressions)

    def full_video_targets(self, video_id: str, instance: int) -> FullTarget | None:
        """The object in every listed frame, where all of them are annotated."""
        count = len(self.listing(video_id).frames)
        if instance not in self._instances[video_id].values():
            return None
        if len(self._annotated(video_id)) < count:
            return None
        stack = np.stack([self._mask(video_id, place, instance) for place in range(count)])
        masks = torch.from_numpy(stack)
        return FullTarget(instance, boxes_of_masks(masks), masks)

    def annotation_path(self, video_id: str, place: int) -> Path:
        """The indexed PNG of the frame at `place` of the listed ones."""
        name = self.listings[video_id].frames[place]
        return inside(self.folder, "Annotations", video_id, f"{name}.png")

    def _expressions(self, video_id: str) -> tuple[Expression, ...]:
        instances = self._instances[video_id]
        return tuple(
            Expression(video_id, instances.get(eid, -1), text)
            for eid, text in self.listings[video_id].sentences.items()
        )

    def _with_objects(self, video_id: str) -> tuple[Expression, ...]:
        return tuple(e for e in self._sentences[video_id] if e.instance >= 0)

    def _annotated(self, video_id: str) -> list[int]:
        """The indices of the frames whose masks are there."""
        frames = self.listings[video_id].frames
        if self._mask_dict is not None:
            return list(range(len(frames)))
        folder = self.folder / "Annotations" / video_id
        there = {file.stem for file in folder.glob("*.png")} if folder.is_dir() else set()
        return [place for place, name in enumerate(frames) if name in there]

    @cached_property
    def _mask_dict(self) -> dict[str, list[Any]] | None:
        path = self.folder / "mask_dict.json"
        return _read_json(path) if path.is_file() else None

    def _mask(self, video_id: str, place: int, instance: int) -> np.ndarray:
        """(H0, W0) bool."""
        eid = next(e for e, number in self._instances[video_id].items() if number == instance)
        objects = self.listings[video_id].objects[eid]
        if self._mask_dict is not None:
            return self._mask_of_rle(self._mask_dict, video_id, place, objects)
        labels = read_labels(self.annotation_path(video_id, place))
        return np.isin(labels, [int(name) for name in objects])

    def _mask_of_rle(
        self, codes: dict[str, list[Any]], video_id: str, place: int, objects: Iterable[str]
    ) -> np.ndarray:
        try:
            found = [codes[name][place] for name in objects]
            masks = [decode_run_lengths(code, "a mask") for code in found if code]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.folder / 'mask_dict.json'}: no usable mask of {video_id}, frame "
                f"{place + 1}, objects {', '.join(objects)} ({error})"
            ) from None
        if not masks:
            return np.zeros(self.frames(video_id).size, bool)
        return np.logical_or.reduce(masks)


def read_listings(path: Path) -> dict[str, Listing]:
    """The videos of a meta_expressions.json.

    Raises:
        InputError: the file is missing or not of this form, or an id is no name of a file.
    """
    videos = _read_json(path).get("videos")
    if not isinstance(videos, dict):
        raise InputError(f'{path}: wanted {{"videos": {{id: ...}}}}')
    listings = {video_id: _listing(path, video_id, entry) for video_id, entry in videos.items()}
    for video_id, listing in listings.items():
        inside(path, video_id, *listing.frames, *listing.sentences)
    return listings


def read_labels(path: Path) -> np.ndarray:
    """The object ids (H0, W0) uint8 of an indexed PNG, or of a black and white one.

    Raises:
        InputError: the file is missing, damaged, or has colours instead of indices.
    """
    if not path.exists():
        raise InputError(f"no annotation at {path}")
    with opened_picture(path) as image:
        if image.mode not in ("P", "L", "1"):
            raise InputError(f"{path}: wanted an indexed PNG, got mode {image.mode}")
        labels = np.array(image, np.uint8)
        return labels if image.mode == "P" else _single(labels)


def _single(labels: np.ndarray) -> np.ndarray:
    """Grey values 0 and 255 alone, as in DAVIS 2016, are one object, number 1."""
    return labels // 255 if np.isin(labels, (0, 255)).all() else labels


def _find(root: Path, split: str) -> tuple[Path, Path]:
    """The meta_expressions.json of a split and the folder that holds its frames."""
    candidates = [
        (root / split / "meta_expressions.json", root / split),
        (root / "meta_expressions" / split / "meta_expressions.json", root / split),
        (root / "meta_expressions.json", root),
    ]
    for meta, folder in candidates:
        if meta.is_file():
            return meta, folder
    raise InputError(f"no meta_expressions.json of the split {split!r}; wanted {candidates[0][0]}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        raise InputError(f"no file at {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no readable JSON ({error}); download it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: wanted an object, got {type(content).__name__}")
    return content


def _listing(path: Path, video_id: str, entry: Mapping[str, Any]) -> Listing:
    try:
        expressions = {str(eid): value for eid, value in entry["expressions"].items()}
        return Listing(
            tuple(str(name) for name in entry["frames"]),
            {eid: normalise(value["exp"]) for eid, value in expressions.items()},
            {eid: _objects(value) for eid, value in expressions.items() if _objects(value)},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path}: the video {video_id} has no usable expressions, exp, obj_id and frames "
            f"({type(error).__name__}: {error})"
        ) from None


def _objects(expression: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of an expression's objects in the masks: MeViS's anno_id, else obj_id."""
    named = expression.get("anno_id", expression.get("obj_id", ()))
    names = named if isinstance(named, list | tuple) else [named]
    return tuple(str(int(name)) for name in names)


def _instances(listing: Listing) -> dict[str, int]:
    """The instance number of every expression that has objects."""
    groups = {names: None for names in listing.objects.values() if len(names) > 1}
    numbers = {names: GROUP + place for place, names in enumerate(groups)}
    return {
        eid: numbers[names] if names in numbers else int(names[0])
        for eid, names in listing.objects.items()
    }
