"""A2D Sentences (Gavrilyuk et al., CVPR 2018) in the folders its authors distribute.

    <root>/Release/videoset.csv, Release/clips320H/<video>.mp4 (or Release/CLIPS320)
    <root>/text_annotations/a2d_annotation.txt, a2d_missed_videos.txt
    <root>/text_annotations/a2d_annotation_with_instances/<video>/<00030>.h5   (1-based frame)

Three more files are read where they exist: text_annotations/expression_kinds.csv and
distractors.csv (tags of the sentences), and for full-video truth either
text_annotations/full_video/<video>.h5 or text_annotations/full_video_boxes.csv with the header
video_id,instance_id,frame,x1,y1,x2,y2 (1-based frame).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import torch

from aamn.data.datasets.source import Expression, FullTarget, KeyFrame, SentencesByVideo, target_of
from aamn.structures import Target
from proposals.errors import InputError
from proposals.files import inside, numbered_csv, open_hdf5, read_rows, read_text
from proposals.frames import FrameSource, open_frames
from proposals.limits import check_bytes

log = logging.getLogger("aamn")

CLIP_FOLDERS = ("clips320H", "CLIPS320")
SPLITS = {"train": "0", "test": "1"}


@dataclass(frozen=True)
class Video:
    """A row of videoset.csv; height, width, frames and annotated are as announced there."""

    video_id: str
    label: int
    height: int
    width: int
    frames: int
    annotated: int
    split: str


@dataclass(frozen=True)
class AnnotatedFrame:
    """One .h5 file: instances (n,) and ids (n,) int64 (10 * actor + action), masks (n, H0, W0)
    bool, boxes (n, 4) float32 clipped to the image."""

    instances: np.ndarray
    ids: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray

    def place(self, instance: int) -> int:
        """Where the instance is; of an id listed twice the first counts."""
        return int(np.flatnonzero(self.instances == instance)[0])


def normalise(query: str) -> str:
    """The sentence in lower case with single blanks."""
    return " ".join(query.lower().split())


def text_rows(path: Path, header: str) -> list[list[str]]:
    """The rows of `numbered_rows` alone."""
    return [row for _, row in numbered_rows(path, header)]


def numbered_rows(path: Path, header: str) -> list[tuple[int, list[str]]]:
    """The rows below `header` with the numbers of their lines in the file, blank ones counted;
    commas beyond the header's belong to the query, or, where there is no such column, to the last
    one.

    Raises:
        InputError: the file is missing or has another header or too few columns.
    """
    if not path.is_file():
        raise InputError(f"no file at {path}; wanted a CSV with the header {header}")
    rows = numbered_csv(path)
    names = header.split(",")
    columns = len(names)
    first = ",".join(rows[0][1]) if rows else ""
    if first.replace(" ", "") != header:
        got = first[:80]
        raise InputError(f"{path}: wanted the header {header}, got {got!r}")
    short = next((n for n, row in rows if row and len(row) < columns), None)
    if short:
        raise InputError(f"{path}, line {short}: wanted {columns} columns")
    free = names.index("query") if "query" in names else columns - 1
    behind = columns - 1 - free
    return [
        (n, [*row[:free], ",".join(row[free : len(row) - behind]), *row[len(row) - behind :]])
        for n, row in rows[1:]
        if row
    ]


def read_videoset(path: Path) -> dict[str, Video]:
    """The video list, which has no header.

    Raises:
        InputError: the file is missing, a row has not the nine columns, a video has two, or an id
            is no name of a file.
    """
    if not path.is_file():
        raise InputError(f"no video list at {path}; wanted an A2D root with Release/videoset.csv")
    videos: dict[str, Video] = {}
    for number, row in enumerate(read_rows(path), start=1):
        try:
            name, label, _, _, height, width, frames, annotated, split = row
            sizes = (int(label), int(height), int(width), int(frames), int(annotated))
            own = inside(path, name).name
        except InputError:
            raise
        except ValueError:
            raise InputError(
                f"{path}, line {number}: wanted nine columns (video, label, start, end, "
                f"height, width, frames, annotated, split), got {','.join(row)[:80]!r}"
            ) from None
        if own in videos:
            raise InputError(f"{path}, line {number}: {name} has a row already; remove one")
        videos[own] = Video(name, *sizes, split.strip())
    return videos


def read_sentences(path: Path) -> list[tuple[str, int, str]]:
    """(video_id, instance, sentence) of every usable row; a row whose instance is no whole number
    (one has "1 (copy)") is left out and logged."""
    usable = []
    for video_id, instance, query in text_rows(path, "video_id,instance_id,query"):
        if instance.strip().isdecimal():
            usable.append((video_id, int(instance), normalise(query)))
        else:
            log.info("%s: left out %s, whose instance is %r", path.name, video_id, instance)
    return usable


def read_labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Instances (n,) and class numbers (n,) int64 of an annotated frame, without its masks."""
    with _open(path) as file:
        return _labels(path, file)


def read_annotation(path: Path) -> AnnotatedFrame:
    """A frame's instances, masks and boxes as stored in MATLAB's order of axes.

    Raises:
        InputError: the file cannot be read, or has fewer masks or boxes than instances.
    """
    with _open(path) as file:
        instances, ids = _labels(path, file)
        masks, boxes = _member(path, file, "reMask"), _member(path, file, "reBBox")
    n = len(instances)
    masks = masks[None] if masks.ndim == 2 else masks
    boxes = boxes.reshape(4, -1).T if boxes.size % 4 == 0 else boxes[:0]
    if masks.ndim != 3 or len(masks) < n or len(boxes) < n:
        raise InputError(
            f"{path}: {n} instances, {len(masks)} masks and {len(boxes)} boxes; download it again"
        )
    if not np.isfinite(boxes[:n]).all():
        raise InputError(f"{path}: a box is not finite; download it again")
    masks = np.ascontiguousarray(masks[:n].swapaxes(1, 2)) > 0
    height, width = masks.shape[1:]
    limit = np.array([width, height, width, height], np.float32)
    return AnnotatedFrame(instances, ids, masks, np.clip(boxes[:n].astype(np.float32), 0, limit))


def _open(path: Path) -> h5py.File:
    return open_hdf5(path, "annotation", "download it again")


def _member(path: Path, file: h5py.File, name: str) -> np.ndarray:
    try:
        check_bytes(getattr(file[name], "nbytes", 0), f"{path}: {name}")
        return file[name][()]
    except (KeyError, OSError) as error:
        raise InputError(
            f"{path}: cannot read {name!r} ({' '.join(str(error).split())}); download it again"
        ) from None


def _labels(path: Path, file: h5py.File) -> tuple[np.ndarray, np.ndarray]:
    instances = np.asarray(_member(path, file, "instance")).reshape(-1).astype(np.int64)
    ids = np.zeros(len(instances), np.int64)
    if "id" in file:
        stored = np.asarray(_member(path, file, "id")).reshape(-1)[: len(instances)]
        ids[: len(stored)] = stored.astype(np.int64)
    return instances, ids


class A2DSentences(SentencesByVideo):
    """One split of A2D Sentences, or of a corpus in its layout; see `VideoTextSource`.

    Raises:
        InputError: the root lacks a file, or one cannot be read.
    """

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.root, self.split = Path(root), split
        if split not in SPLITS:
            raise InputError(f"A2D has the splits train and test, not {split!r}")
        self._listed_in = f"{self.root}: the {split} split"
        self._text = self.root / "text_annotations"
        self._annotations = self._text / "a2d_annotation_with_instances"
        self.videos = self._usable_videos()
        sentences = self._own_sentences()
        self._labels = {video_id: self._read_labels(video_id) for video_id in sentences}
        self._sentences = {
            video_id: self._classified(video_id, found) for video_id, found in sentences.items()
        }
        self.key_frames: list[KeyFrame] = [
            frame for video_id in self._sentences for frame in self._key_frames(video_id)
        ]
        self._report()

    def frames(self, video_id: str) -> FrameSource:
        """The video's frames.

        Raises:
            InputError: the video is missing or cannot be decoded.
        """
        return open_frames(self.video_path(video_id))

    def video_path(self, video_id: str) -> Path:
        """Where the video is, or, if it is missing, where it should be."""
        folders = [self.root / "Release" / name for name in CLIP_FOLDERS]
        paths = [folder / f"{video_id}.mp4" for folder in folders]
        return next((path for path in paths if path.is_file()), paths[0])

    def annotation_path(self, video_id: str, frame: int) -> Path:
        """The .h5 file of a frame (0-based)."""
        return self._annotations / video_id / f"{frame + 1:05d}.h5"

    def targets(self, key_frame: KeyFrame) -> tuple[Target, ...]:
        """What each expression of the key frame refers to; masks (H0, W0), boxes clipped."""
        path = self.annotation_path(key_frame.video_id, key_frame.frame)
        annotation = read_annotation(path)
        known = {e.instance: _shown(annotation, e.instance) for e in key_frame.expressions}
        return tuple(target_of(e, *known[e.instance]) for e in key_frame.expressions)

    def full_video_targets(self, video_id: str, instance: int) -> FullTarget | None:
        """The object in every frame, where the corpus says so."""
        path = self._text / "full_video" / f"{video_id}.h5"
        if path.is_file():
            return _full_target(path, instance)
        return self._extended_target(video_id, instance)

    def non_trivial(self, labels: str | Path | None = None) -> frozenset[tuple[str, int]]:
        """(video_id, instance) of the sentences whose object is not the only one of its actor
        class in the video; with the CSV of RefVOS's labels, those it calls Non-trivial."""
        if labels is not None:
            return frozenset(_labelled_non_trivial(Path(labels)))
        return frozenset(
            (video_id, expression.instance)
            for video_id, found in self._sentences.items()
            for expression in found
            if self._of_actor(video_id, expression.actor) > 1
        )

    def _usable_videos(self) -> dict[str, Video]:
        videos = read_videoset(self.root / "Release" / "videoset.csv")
        path = self._text / "a2d_missed_videos.txt"
        missed = set(read_text(path).split()) if path.is_file() else set()
        return {
            video_id: video
            for video_id, video in videos.items()
            if video.split == SPLITS[self.split] and video_id not in missed
        }

    def _own_sentences(self) -> dict[str, list[Expression]]:
        kinds = _tags(self._text / "expression_kinds.csv", "kind")
        older = self._text / "look_alikes.csv"
        if older.is_file():
            raise InputError(
                f"{older} is distractors.csv by now, and its last column too: rename both, or draw "
                "the corpus again"
            )
        distractors = _tags(self._text / "distractors.csv", "distractors")
        found: dict[str, list[Expression]] = {}
        for key in read_sentences(self._text / "a2d_annotation.txt"):
            video_id, instance, text = key
            if video_id in self.videos:
                count = distractors.get(key, "0")
                if not count.isdecimal():
                    raise InputError(f"{self._text / 'distractors.csv'}: {count!r} is no number")
                expression = Expression(
                    video_id, instance, text, kinds.get(key, ""), distractors=int(count)
                )
                found.setdefault(video_id, []).append(expression)
        return found

    def _read_labels(self, video_id: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Instances and class numbers of the video's annotated frames (0-based)."""
        files = sorted((self._annotations / video_id).glob("*.h5"))
        return {int(file.stem) - 1: read_labels(file) for file in files if file.stem.isdecimal()}

    def _classes(self, video_id: str) -> dict[int, int]:
        """The class number of every instance in the first frame that shows it."""
        classes: dict[int, int] = {}
        for instances, ids in self._labels[video_id].values():
            for instance, number in zip(instances.tolist(), ids.tolist(), strict=True):
                classes.setdefault(instance, number)
        return classes

    def _classified(self, video_id: str, found: list[Expression]) -> tuple[Expression, ...]:
        classes = self._classes(video_id)
        numbers = [classes.get(expression.instance, 0) for expression in found]
        return tuple(
            replace(expression, actor=number // 10, action=number % 10)
            for expression, number in zip(found, numbers, strict=True)
        )

    def _key_frames(self, video_id: str) -> Iterator[KeyFrame]:
        for frame, (instances, _) in self._labels[video_id].items():
            shown = set(instances.tolist())
            expressions = [e for e in self._sentences[video_id] if e.instance in shown]
            if expressions:
                yield KeyFrame(video_id, frame, tuple(expressions))

    def _of_actor(self, video_id: str, actor: int) -> int:
        """How many of the video's instances are of this actor class."""
        return sum(number // 10 == actor for number in self._classes(video_id).values())

    @cached_property
    def _extended(self) -> dict[tuple[str, int], dict[int, list[float]]]:
        path = self._text / "full_video_boxes.csv"
        return _read_extended(path) if path.is_file() else {}

    def _extended_target(self, video_id: str, instance: int) -> FullTarget | None:
        found = self._extended.get((video_id, instance))
        if found is None:
            return None
        boxes = torch.zeros(len(self.frames(video_id)), 4)
        for frame, box in found.items():
            if frame < len(boxes):
                boxes[frame] = torch.tensor(box)
        return FullTarget(instance, boxes, None)

    def _report(self) -> None:
        pairs = sum(len(frame.expressions) for frame in self.key_frames)
        log.info(
            "%s, %s: %d videos, %d sentences, %d annotated frames, %d (sentence, frame) pairs",
            self.root,
            self.split,
            len(self._sentences),
            len(self.texts()),
            len(self.key_frames),
            pairs,
        )
        bare = [video_id for video_id, labels in self._labels.items() if not labels]
        if bare:
            log.warning(
                "%d of these videos have no annotated frame in %s (first: %s)",
                len(bare),
                self._annotations,
                bare[0],
            )


def _shown(annotation: AnnotatedFrame, instance: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Box (4,) and mask (H0, W0) of an instance, which all sentences about it share."""
    place = annotation.place(instance)
    box, mask = annotation.boxes[place].copy(), annotation.masks[place].copy()
    return torch.from_numpy(box), torch.from_numpy(mask)


def _full_target(path: Path, instance: int) -> FullTarget | None:
    with _open(path) as file:
        indices = np.flatnonzero(_member(path, file, "instance").reshape(-1) == instance)
        if not len(indices):
            return None
        boxes, masks = file["boxes"][indices[0]], file["masks"][indices[0]]
    return FullTarget(
        instance, torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(masks > 0)
    )


def _read_extended(path: Path) -> dict[tuple[str, int], dict[int, list[float]]]:
    """Boxes of every frame (0-based) of each (video_id, instance)."""
    boxes: dict[tuple[str, int], dict[int, list[float]]] = {}
    rows = text_rows(path, "video_id,instance_id,frame,x1,y1,x2,y2")
    for number, (video_id, instance, frame, *box) in enumerate(rows, start=2):
        try:
            found = boxes.setdefault((video_id, int(instance)), {})
            found[int(frame) - 1] = values = [float(value) for value in box]
            if not np.isfinite(values).all():
                raise ValueError
        except ValueError:
            raise InputError(f"{path}, line {number}: wanted numbers behind the video id") from None
    return boxes


def _tags(path: Path, column: str) -> dict[tuple[str, int, str], str]:
    """The last column of a tag file by (video_id, instance, sentence), as far as `read_sentences`
    gives them; {} without the file."""
    if not path.is_file():
        return {}
    tags = {}
    for video_id, instance, query, tag in text_rows(path, f"video_id,instance_id,query,{column}"):
        if instance.strip().isdecimal():
            tags[video_id, int(instance), normalise(query)] = tag.strip()
    return tags


def _labelled_non_trivial(path: Path) -> Iterator[tuple[str, int]]:
    if not path.is_file():
        raise InputError(f"no file of RefVOS's labels at {path}")
    names, *rows = read_rows(path, delimiter=";") or [[]]
    wanted = {"video_id", "instance_id", "ref_exp_difficulty"}
    if not wanted <= set(names):
        raise InputError(f"{path}: wanted RefVOS's labels with the columns {sorted(wanted)}")
    for values in rows:
        row = dict(zip(names, values, strict=False))
        if row.get("ref_exp_difficulty") == "Non-trivial":
            yield row["video_id"], int(row["instance_id"])
