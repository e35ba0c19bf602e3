"""The annotated frames that a detector is fine-tuned on: a COCO JSON whose images are frames.

An image is `{"id", "file_name", "frame", "width", "height"}`: a video, relative to the manifest,
and a 0-based frame in it; or a picture, without `frame`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from proposals.errors import InputError
from proposals.files import read_text
from proposals.frames import IMAGE_SUFFIXES, open_frames
from proposals.pictures import read_picture

log = logging.getLogger("proposals")


@dataclass(frozen=True)
class AnnotatedFrame:
    """A frame of a video (None: `path` is a picture) with boxes (n, 4) float32 xyxy in its pixels
    and labels (n,) int64, places in the manifest's classes. `size` is (H0, W0)."""

    image_id: int
    path: Path
    frame: int | None
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Manifest:
    """A COCO JSON: its class names, in order of their ids, and its frames."""

    path: Path
    classes: tuple[str, ...]
    frames: tuple[AnnotatedFrame, ...]


def read_manifest(path: Path | str) -> Manifest:
    """Reads a COCO JSON; crowds and boxes without area are left out, counted and logged.

    Raises:
        InputError: no file, no JSON, a key missing, or nothing annotated.
    """
    path = Path(path)
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        raise InputError(f"no manifest at {path}; `aamn manifest` writes one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no readable JSON: {error}") from None
    try:
        manifest = _parse(path, content)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is no COCO manifest (images, annotations, categories):"
            f" {type(error).__name__} {error}"
        ) from None
    if not any(len(frame.boxes) for frame in manifest.frames):
        raise InputError(f"{path}: no frame has a box")
    return manifest


def _parse(path: Path, content: dict[str, Any]) -> Manifest:
    categories = sorted(content["categories"], key=lambda category: category["id"])
    places = {category["id"]: place for place, category in enumerate(categories)}
    found: dict[int, list[tuple[list[float], int]]] = {i["id"]: [] for i in content["images"]}
    left_out = 0
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        if not all(map(math.isfinite, (x, y, width, height))):
            raise ValueError(f"annotation {annotation.get('id')} has the box {annotation['bbox']}")
        if annotation.get("iscrowd") or width <= 0 or height <= 0:
            left_out += 1
            continue
        box = [x, y, x + width, y + height]
        found[annotation["image_id"]].append((box, places[annotation["category_id"]]))
    if left_out:
        log.warning("%s: left out %d crowds or boxes without area", path, left_out)
    frames = tuple(_frame(path.parent, image, found[image["id"]]) for image in content["images"])
    return Manifest(path, tuple(category["name"] for category in categories), frames)


def _frame(
    folder: Path, image: dict[str, Any], annotated: Sequence[tuple[list[float], int]]
) -> AnnotatedFrame:
    file = folder / image["file_name"]
    picture = file.suffix.lower() in IMAGE_SUFFIXES
    return AnnotatedFrame(
        image_id=int(image["id"]),
        path=file,
        frame=None if picture else int(image["frame"]),
        size=(int(image["height"]), int(image["width"])),
        boxes=np.array([box for box, _ in annotated], np.float32).reshape(-1, 4),
        labels=np.array([label for _, label in annotated], np.int64),
    )


class ManifestFrames(Dataset):
    """The pictures of a manifest's frames: `[i]` is uint8 RGB (H0, W0, 3)."""

    def __init__(self, frames: Sequence[AnnotatedFrame], cache_mb: int) -> None:
        """Decodes all frames now if they fit into `cache_mb`, else each when it is asked for.

        Raises:
            InputError: a video is missing or cannot be decoded, or has another size than the
                manifest says.
        """
        self.frames = list(frames)
        size = sum(3 * frame.size[0] * frame.size[1] for frame in self.frames)
        self._cache: dict[int, np.ndarray] = {}
        if size <= cache_mb * 2**20:
            self._cache = self._decode_all()

    @property
    def cached(self) -> bool:
        return len(self._cache) == len(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> np.ndarray:
        if index in self._cache:
            return self._cache[index]
        frame = self.frames[index]
        return next(iter(_decode(frame.path, [frame])))

    def _decode_all(self) -> dict[int, np.ndarray]:
        places: dict[Path, list[int]] = {}
        for place, frame in enumerate(self.frames):
            places.setdefault(frame.path, []).append(place)
        cache: dict[int, np.ndarray] = {}
        for path, wanted in tqdm(places.items(), "decoding", unit="video", leave=False):
            pictures = _decode(path, [self.frames[place] for place in wanted])
            cache.update(zip(wanted, pictures, strict=True))
        return cache


def _decode(path: Path, frames: Sequence[AnnotatedFrame]) -> Iterable[np.ndarray]:
    """The pictures of frames of one file; a frame past the video's end becomes its last one."""
    pictures: Iterable[np.ndarray]
    if frames[0].frame is None:
        pictures = [read_picture(path)] * len(frames)
    else:
        with open_frames(path) as source:
            wanted = np.array([frame.frame for frame in frames])
            if wanted.max() >= len(source):
                log.warning(
                    "%s: frame %d is annotated, only %d can be decoded: the last one is taken",
                    path,
                    wanted.max(),
                    len(source),
                )
            pictures = source.read(np.minimum(wanted, len(source) - 1))
    for frame, picture in zip(frames, pictures, strict=True):
        if picture.shape[:2] != frame.size:
            raise InputError(
                f"{path} is {picture.shape[1]}x{picture.shape[0]}, its manifest says"
                f" {frame.size[1]}x{frame.size[0]}; write the manifest again"
            )
    return pictures
