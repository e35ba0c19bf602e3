"""The COCO JSON of a data set's annotated frames, which detectors are fine-tuned on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aamn.data.datasets.a2d import SPLITS, A2DSentences, read_annotation, read_videoset
from aamn.data.datasets.a2d_labels import ACTORS
from aamn.data.datasets.validation import VALIDATION, check_share, in_validation
from proposals.errors import InputError
from proposals.files import write_text


def make_manifest(
    root: Path, split: str, folder: Path, validation_share: float = 0.0
) -> dict[str, Any]:
    """The split's annotated frames, their videos named relative to `folder`; `validation_share` is
    the share of the training videos that only the split VALIDATION has.

    Raises:
        InputError: a file of the data set is missing or cannot be read.
    """
    whole = "train" if split == VALIDATION else split
    source = A2DSentences(root, whole)
    listed = read_videoset(root / "Release" / "videoset.csv").values()
    rows = [row for row in listed if row.split == SPLITS[whole]]
    if whole == "train":
        wanted = split == VALIDATION
        rows = [row for row in rows if in_validation(row.video_id, validation_share) == wanted]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video in tqdm(rows, unit="video"):
        path = source.video_path(video.video_id).resolve()
        for file in sorted(source.annotation_path(video.video_id, 0).parent.glob("*.h5")):
            frame = read_annotation(file)
            height, width = frame.masks.shape[1:]
            image = {"id": len(images) + 1, "width": width, "height": height}
            images.append(
                {
                    **image,
                    "file_name": os.path.relpath(path, folder),
                    "frame": int(file.stem) - 1,
                    "video_id": video.video_id,
                }
            )
            for box, label in zip(frame.boxes.tolist(), (frame.ids // 10).tolist(), strict=True):
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": image["id"], **_coco(box, label)}
                )
    categories = [{"id": n, "name": name} for n, name in enumerate(ACTORS, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _coco(box: list[float], label: int) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    return {
        "category_id": label,
        "bbox": [x1, y1, width, height],
        "area": width * height,
        "iscrowd": 0,
    }


def write_manifest(
    root: Path, split: str, out: Path, validation_share: float = 0.0
) -> dict[str, Any]:
    """Writes what `make_manifest` makes, videos named relative to the file, and returns it.

    Raises:
        InputError: as `make_manifest`, or the split has no annotated frame.
    """
    check_share(validation_share, "--validation-share")
    manifest = make_manifest(root, split, out.resolve().parent, validation_share)
    if not manifest["annotations"]:
        raise InputError(f"{root}: the {split} split has no annotated frame")
    write_text(out, json.dumps(manifest))
    return manifest
