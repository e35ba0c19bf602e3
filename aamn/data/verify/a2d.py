"""Checks an A2D Sentences root: its lists, its videos, and the annotation of every frame.

Known and read as they should be, so no findings: one sentence of instance "1 (copy)", ids listed
twice in a frame, more masks than instances, boxes that leave the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from aamn.data.datasets.a2d import CLIP_FOLDERS, SPLITS, AnnotatedFrame, Video, read_annotation
from aamn.data.verify.checks import (
    Count,
    Finding,
    Verification,
    compare,
    count_frames,
    is_truncated,
    stops_early,
    unlike_published,
    verification,
)
from aamn.data.words import tokenise
from proposals.errors import InputError
from proposals.files import inside, read_rows, read_text
from proposals.frames import open_frames

PUBLISHED = {  # of the data set its authors distribute
    "videos": 3782,
    "train videos": 3036,
    "test videos": 746,
    "missed videos": 28,
    "sentences": 6655,
    "annotated frames": 11_926,
}
OWN_CORPUS = 1000  # a list with fewer videos is another corpus: its counts are not compared
KNOWN_COPY = ("T6bNPuKV-wY", "1 (copy)")
LOOSE_BOX = 0.3  # IoU of a mask's tight box and the stored one below which they are at odds


@dataclass
class _Lists:
    """What the three lists say, as far as they can be read."""

    videos: dict[str, Video] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)  # ids of rows that cannot be read
    missed: set[str] = field(default_factory=set)
    sentences: list[tuple[str, int]] = field(default_factory=list)
    rows: int = 0  # of sentences

    def used(self) -> list[str]:
        """The videos that a reader opens."""
        named = {video_id for video_id, _ in self.sentences}
        return [v for v in self.videos if v in named and v not in self.missed]


def verify_a2d(root: Path, deep: bool = False) -> Verification:
    """Checks lists, headers and first frames; `deep` decodes every frame and mask."""
    lists = _Lists()
    findings = [*_check_layout(root)]
    if any(finding.fatal for finding in findings):
        return verification((), findings)
    findings += [*_read_videos(root, lists), *_read_missed(root, lists)]
    findings += [*_read_sentences(root, lists)]
    counts = _counts(lists)
    findings += unlike_published(counts)
    for video_id in tqdm(lists.used(), desc="videos", unit="video", leave=False):
        findings += _check_video(root, lists, video_id, deep)
    return verification(counts, findings)


def _lists_folder(root: Path) -> Path:
    return root / "text_annotations"


def _annotations(root: Path) -> Path:
    return _lists_folder(root) / "a2d_annotation_with_instances"


def _check_layout(root: Path) -> Iterator[Finding]:
    needed = [
        (root / "Release" / "videoset.csv", True),
        (_lists_folder(root) / "a2d_annotation.txt", True),
        (_lists_folder(root) / "a2d_missed_videos.txt", False),
        (_annotations(root), True),
    ]
    for path, fatal in needed:
        if not path.exists():
            yield Finding(fatal, path.name, "is missing", str(path.relative_to(root)))
    folders = [root / "Release" / name for name in CLIP_FOLDERS]
    if not any(folder.is_dir() for folder in folders):
        wanted = str(folders[0].relative_to(root))
        yield Finding(True, folders[0].name, "is missing: the videos", wanted)


def _read_videos(root: Path, lists: _Lists) -> Iterator[Finding]:
    where = "Release/videoset.csv"
    for number, row in enumerate(read_rows(root / where), start=1):
        try:
            name, label, _, _, *numbers, split = row
            height, width, frames, annotated = map(int, numbers)
            video = Video(name, int(label), height, width, frames, annotated, split.strip())
            inside(root, name)
        except InputError as error:
            lists.damaged.add(name)
            yield Finding(True, f"{where}:{number}", str(error))
            continue
        except (ValueError, TypeError):
            lists.damaged.update(row[:1])
            yield Finding(True, f"{where}:{number}", "wanted nine columns of numbers", where)
            continue
        if name in lists.videos:
            yield Finding(False, f"{where}:{number}", f"{name} is listed twice")
        elif video.split not in SPLITS.values():
            yield Finding(True, f"{where}:{number}", f"{name} has the split {video.split!r}")
        lists.videos.setdefault(name, video)


def _read_missed(root: Path, lists: _Lists) -> Iterator[Finding]:
    path = _lists_folder(root) / "a2d_missed_videos.txt"
    lists.missed = set(read_text(path).split()) if path.is_file() else set()
    for video_id in sorted(lists.missed - lists.videos.keys() - lists.damaged):
        yield Finding(False, path.name, f"{video_id} is not in videoset.csv")


def _read_sentences(root: Path, lists: _Lists) -> Iterator[Finding]:
    path = _lists_folder(root) / "a2d_annotation.txt"
    rows = read_rows(path)
    if not rows or ",".join(rows[0]) != "video_id,instance_id,query":
        fetch = str(path.relative_to(root))
        yield Finding(True, path.name, "lacks the header video_id,instance_id,query", fetch)
        return
    for number, row in enumerate(rows[1:], start=2):
        if row:
            lists.rows += 1
            yield from _read_sentence(f"{path.name}:{number}", row, lists)


def _read_sentence(where: str, row: list[str], lists: _Lists) -> Iterator[Finding]:
    video_id, instance, query = row[0], row[1] if len(row) > 1 else "", ",".join(row[2:])
    if (video_id, instance) == KNOWN_COPY:
        return
    if len(row) < 3 or not tokenise(query):
        yield Finding(True, where, f"{video_id} has a row without a sentence")
    elif not instance.strip().isdecimal():
        yield Finding(False, where, f"{video_id}: the instance {instance!r} is no whole number")
    elif video_id not in lists.videos and video_id not in lists.damaged:
        yield Finding(True, where, f"{video_id} is not in videoset.csv")
    else:
        lists.sentences.append((video_id, int(instance)))


def _counts(lists: _Lists) -> list[Count]:
    splits = [video.split for video in lists.videos.values()]
    found = {
        "videos": len(lists.videos),
        "train videos": splits.count(SPLITS["train"]),
        "test videos": splits.count(SPLITS["test"]),
        "missed videos": len(lists.missed),
        "sentences": lists.rows,
        "annotated frames": sum(video.annotated for video in lists.videos.values()),
    }
    return compare(found, PUBLISHED if len(lists.videos) >= OWN_CORPUS else {})


def _check_video(root: Path, lists: _Lists, video_id: str, deep: bool) -> Iterator[Finding]:
    video = lists.videos[video_id]
    frames = _annotated_frames(root, video_id)
    findings, size = _check_clip(root, video, max(frames, default=0), deep)
    yield from findings
    if not frames:
        path = _annotations(root) / video_id
        yield Finding(True, video_id, "has no annotated frame", str(path.relative_to(root)))
        return
    if len(frames) != video.annotated:
        found = f"{len(frames)} annotated frames, videoset.csv says {video.annotated}"
        yield Finding(False, video_id, found)
    sizes = {(video.height, video.width), size or (video.height, video.width)}
    findings, seen = _check_annotations(root, video_id, frames, sizes, deep)
    yield from findings
    if size is not None and size != (video.height, video.width):
        what = f"frames are {size[1]}x{size[0]}, videoset.csv says {video.width}x{video.height}"
        fetch = str(_clip(root, video_id).relative_to(root))
        yield Finding(size not in seen.sizes, video_id, what, fetch)
    if not findings:
        named = {instance for v, instance in lists.sentences if v == video_id}
        for instance in sorted(named - seen.instances):
            what = f"a sentence names instance {instance}, which no frame shows"
            yield Finding(False, video_id, what)


def _annotated_frames(root: Path, video_id: str) -> dict[int, Path]:
    """The .h5 files of a video by frame (1-based)."""
    files = sorted((_annotations(root) / video_id).glob("*.h5"))
    return {int(file.stem): file for file in files if file.stem.isdecimal()}


def _clip(root: Path, video_id: str) -> Path:
    """Where the video is, or should be."""
    paths = [root / "Release" / name / f"{video_id}.mp4" for name in CLIP_FOLDERS]
    return next((path for path in paths if path.is_file()), paths[0])


def _check_clip(
    root: Path, video: Video, last: int, deep: bool
) -> tuple[list[Finding], tuple[int, int] | None]:
    """Findings in a video whose last annotated frame is `last` (1-based), and its size (H0, W0)
    where a frame of it can be decoded."""
    path, name = _clip(root, video.video_id), video.video_id
    fetch = str(path.relative_to(root))
    if not path.is_file():
        return [Finding(True, name, "the video is missing", fetch)], None
    try:
        with open_frames(path) as source:
            size, count = source.size, count_frames(source, deep)
            early = stops_early(source) if deep else ""
    except InputError as error:
        return [Finding(True, name, str(error).replace(f"{path}", "the video"), fetch)], None
    if is_truncated(path):
        what = "the video is cut off: its file is incomplete"
        return [Finding(True, name, what, fetch)], size
    if early:
        return [Finding(True, name, early, fetch)], size
    if count < last:
        what = f"frame {last} is annotated, the video has {count}: the last one stands in"
        return [Finding(False, name, what, fetch)], size
    return [], size


@dataclass
class _Seen:
    """What a video's annotated frames show: instances, and the sizes (H0, W0) of their masks."""

    instances: set[int] = field(default_factory=set)
    sizes: set[tuple[int, int]] = field(default_factory=set)


def _check_annotations(
    root: Path, video_id: str, frames: dict[int, Path], sizes: set[tuple[int, int]], deep: bool
) -> tuple[list[Finding], _Seen]:
    """Findings in a video's annotated frames, whose masks may have any of `sizes`."""
    findings, seen = [], _Seen()
    for path in frames.values():
        where, fetch = f"{video_id}/{path.name}", str(path.relative_to(root))
        try:
            instances, size = _header(path)
            seen.instances |= instances
            seen.sizes.add(size)
            if size not in sizes:
                height, width = min(sizes)
                what = f"masks are {size[1]}x{size[0]}, the video {width}x{height}"
                findings.append(Finding(True, where, what, fetch))
            elif deep:
                odd = _at_odds(read_annotation(path))
                findings += [Finding(False, where, what) for what in odd]
        except InputError as error:
            findings.append(Finding(True, where, str(error).replace(f"{path}", "it"), fetch))
    return findings, seen


def _header(path: Path) -> tuple[set[int], tuple[int, int]]:
    """The instances of an annotated frame and the size (H0, W0) of its masks, which are not read.

    Raises:
        InputError: the file cannot be read, or lacks something.
    """
    try:
        with h5py.File(path, "r") as file:
            instances = np.asarray(file["instance"]).reshape(-1).astype(int)
            shape, boxes = file["reMask"].shape, file["reBBox"].size // 4
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    masks = shape[0] if len(shape) == 3 else 1
    if min(masks, boxes) < len(instances):
        raise InputError(
            f"{path} has {len(instances)} instances, but {masks} masks and {boxes} boxes"
        )
    return set(instances.tolist()), (shape[-1], shape[-2])


def _at_odds(annotation: AnnotatedFrame) -> Iterator[str]:
    """What is wrong between the masks and the boxes of a frame."""
    for instance in dict.fromkeys(annotation.instances.tolist()):
        place = annotation.place(instance)
        rows, columns = np.nonzero(annotation.masks[place])
        if not len(rows):
            yield f"the mask of instance {instance} is empty"
            continue
        tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        if _iou(tight, annotation.boxes[place].tolist()) < LOOSE_BOX:
            yield f"the box of instance {instance} is not around its mask"


def _iou(a: tuple[float, ...], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0
