"""The COCO JSON of a data set's annotated frames, which detectors are fine-tuned on."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aamn.config.schema import DataConfig
from aamn.data.datasets.a2d import SPLITS, A2DSentences, read_annotation, read_videoset
from aamn.data.datasets.a2d_labels import ACTORS
from aamn.data.datasets.refvos import GROUP
from aamn.data.datasets.registry import open_source
from aamn.data.datasets.source import KeyFrame
from aamn.data.datasets.validation import VALIDATION, check_share, in_validation
from proposals.errors import InputError
from proposals.files import write_text

log = logging.getLogger("aamn")

CLASSES = {"a2d": ACTORS}  # of data sets that name some
OBJECT = ("object",)  # the one class of the others


@dataclass(frozen=True)
class _Annotated:
    """A frame (0-based) of a video at `path`, its size (H0, W0), its objects' boxes x1 y1 x2 y2 and
    their class numbers, from 1."""

    video_id: str
    path: Path
    frame: int
    size: tuple[int, int]
    boxes: list[list[float]]
    labels: list[int]


def make_manifest(data: DataConfig, split: str, folder: Path) -> dict[str, Any]:
    """The split's annotated frames, their videos named relative to `folder`; with
    `data.validation_share`, the training split without the videos that the split VALIDATION has.

    Raises:
        InputError: a file of the data set is missing or cannot be read.
    """
    frames = _of_a2d(data, split) if data.kind == "a2d" else _of_key_frames(data, split)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for one in frames:
        images.append(_image(one, len(images) + 1, folder))
        for box, label in zip(one.boxes, one.labels, strict=True):
            annotations.append(_annotation(box, label, len(annotations) + 1, len(images)))
    classes = enumerate(CLASSES.get(data.kind, OBJECT), start=1)
    categories = [{"id": n, "name": name} for n, name in classes]
    return {"images": images, "annotations": annotations, "categories": categories}


def _of_a2d(data: DataConfig, split: str) -> Iterator[_Annotated]:
    """All that is annotated, also in videos without sentences."""
    whole, root = "train" if split == VALIDATION else split, Path(data.root)
    source = A2DSentences(root, whole)
    listed = read_videoset(root / "Release" / "videoset.csv").values()
    videos = [row.video_id for row in listed if row.split == SPLITS[whole]]
    if whole == "train":
        share, wanted = data.validation_share, split == VALIDATION
        videos = [video for video in videos if in_validation(video, share) == wanted]
    for video_id in tqdm(videos, unit="video"):
        path = source.video_path(video_id)
        for file in sorted(source.annotation_path(video_id, 0).parent.glob("*.h5")):
            found = read_annotation(file)
            size, labels = found.masks.shape[1:], (found.ids // 10).tolist()
            yield _Annotated(video_id, path, int(file.stem) - 1, size, found.boxes.tolist(), labels)


def _of_key_frames(data: DataConfig, split: str) -> Iterator[_Annotated]:
    """The objects that sentences mean, each once a frame."""
    source = open_source(data, split)
    groups = 0
    for key_frame in tqdm(source.key_frames, unit="frame"):
        single = _each_object_once(key_frame)
        groups += len({e.instance for e in key_frame.expressions}) - len(single.expressions)
        targets = source.targets(single)
        if targets:
            boxes = [target.box.tolist() for target in targets if target.mask.any()]
            height, width = targets[0].mask.shape
            path = source.video_path(key_frame.video_id)
            found = (key_frame.frame, (height, width), boxes, [1] * len(boxes))
            yield _Annotated(key_frame.video_id, path, *found)
    if groups:
        log.warning("left out %d times a group of objects that one sentence means", groups)


def _each_object_once(key_frame: KeyFrame) -> KeyFrame:
    """With one expression for each single object; a group's box would be no object's."""
    single = {e.instance: e for e in key_frame.expressions if e.instance < GROUP}
    return replace(key_frame, expressions=tuple(single.values()))


def _image(one: _Annotated, number: int, folder: Path) -> dict[str, Any]:
    height, width = one.size
    return {
        "id": number,
        "width": width,
        "height": height,
        "file_name": os.path.relpath(one.path.resolve(), folder),
        "frame": one.frame,
        "video_id": one.video_id,
    }


def _annotation(box: Iterable[float], label: int, number: int, image: int) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    return {
        "id": number,
        "image_id": image,
        "category_id": label,
        "bbox": [x1, y1, width, height],
        "area": width * height,
        "iscrowd": 0,
    }


def write_manifest(data: DataConfig, split: str, out: Path) -> dict[str, Any]:
    """Writes what `make_manifest` makes, videos named relative to the file, and returns it.

    Raises:
        InputError: as `make_manifest`, or the split has no annotated frame.
    """
    check_share(data.validation_share, "--validation-share")
    manifest = make_manifest(data, split, out.resolve().parent)
    if not manifest["annotations"]:
        raise InputError(f"{data.root}: the {split} split has no annotated frame")
    write_text(out, json.dumps(manifest))
    return manifest
