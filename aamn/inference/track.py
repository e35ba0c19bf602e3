"""A track: what one sentence is answered through a video, and the forms in which others take it."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from aamn.inference.clip_by_clip import Answer
from aamn.inference.labels import merge_objects, write_labels
from aamn.inference.result_folder import one_run
from aamn.inference.results import OutputOptions, run_lengths, write_folders
from aamn.inference.verdict import Verdict
from aamn.structures import MaskTrack, Query
from aamn.visualization.overlays import highlighted, query_colours
from proposals.errors import InputError
from proposals.files import escaped, write_json
from proposals.frames import FrameSource, VideoLike, take_frames

FrameNumbers = int | slice | Sequence[int] | np.ndarray | None  # None: all frames of the track
PLOTTED = 4


class Track(ABC):
    """One sentence's answer through a video: a box and a mask in each of its frames, made when they
    are asked for.

    `score` is the mean matching score on the path; `present` says whether the sentence has a match:
    where it has none, boxes are zeros and masks empty, and `reason` says why. `probability` is how
    likely somebody is meant, None where that was not calibrated.
    """

    query: Query
    score: float
    present: bool
    absent_threshold: float | None

    @property
    @abstractmethod
    def video_id(self) -> str:
        """The video's name."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(H0, W0)."""

    @property
    @abstractmethod
    def frames(self) -> Sequence[int]:
        """The frames it answers for, rising."""

    @abstractmethod
    def video(self) -> FrameSource:
        """The frames it was made from.

        Raises:
            InputError: they cannot be had any more.
        """

    def check(self, frames: FrameSource) -> None:
        """Raises:
        InputError: these are not the frames it was made from, as far as that can be told.
        """
        if tuple(frames.size) != tuple(self.size):
            (h, w), (h0, w0) = frames.size, self.size
            raise InputError(f"{frames.path} has frames of {w}x{h}, {self!r} is of {w0}x{h0}")

    @abstractmethod
    def parts(self, frames: range) -> Iterator[MaskTrack]:
        """These frames clip by clip, with masks and the scores of all tubes."""

    @abstractmethod
    def _boxes(self, numbers: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) of the frames with these numbers (n,); an unknown one is an InputError."""

    @abstractmethod
    def _masks(self, numbers: np.ndarray) -> np.ndarray:
        """Masks (n, H0, W0), as `_boxes`."""

    def _codes(self, numbers: np.ndarray) -> Iterator[dict[str, Any]]:
        """COCO's run lengths of the masks of frames (n,) in which somebody is found."""
        for number in numbers:
            yield run_lengths(self._masks(np.array([number]))[0])

    def boxes(self, frames: FrameNumbers = None) -> np.ndarray:
        """Boxes (n, 4) float32 xyxy, original pixels; zeros where nobody is found.

        Args:
            frames: their numbers in the video, negative ones from the end; a slice of them, cut to
                what there is; one number gives one box (4,); None: all.

        Raises:
            InputError: a frame that the track does not have.
        """
        boxes = self._boxes(self._numbers(frames))
        return boxes[0] if isinstance(frames, int | np.integer) else boxes

    def masks(self, frames: FrameNumbers = None) -> np.ndarray:
        """Masks (n, H0, W0) bool at the video's size; one number gives one mask (H0, W0).
        `frames` and errors are those of `boxes`."""
        masks = self._masks(self._numbers(frames))
        return masks[0] if isinstance(frames, int | np.integer) else masks

    def _numbers(self, wanted: FrameNumbers) -> np.ndarray:
        """The wanted frames' numbers (n,) int64, from 0."""
        if wanted is None:
            return np.asarray(self.frames, np.int64)
        if isinstance(wanted, slice):
            return np.asarray(_sliced(self.frames, wanted), np.int64)
        numbers = np.atleast_1d(np.asarray(wanted))
        if (numbers.size and numbers.dtype.kind not in "iu") or numbers.ndim != 1:
            raise InputError(f"{self.video_id}: frames are numbers or a slice, got {wanted!r}")
        return np.array([self._from_end(n) if n < 0 else n for n in numbers.tolist()], np.int64)

    def _from_end(self, number: int) -> int:
        if number < -len(self.frames):
            count = len(self.frames)
            raise InputError(f"{self.video_id}: wanted frame {number}, it has {count} frames")
        return self.frames[number]

    @property
    def text(self) -> str:
        """The sentence."""
        return self.query.text

    @property
    def facts(self) -> dict[str, Any]:
        """What `result.json` says of the whole track."""
        return self.verdict.facts

    @property
    def probability(self) -> float | None:
        """How likely somebody is meant; None where it was not calibrated."""
        return None

    @property
    def verdict(self) -> Verdict:
        """Score, match or no match, and what these are judged by."""
        return Verdict(
            self.query, self.score, self.present, self.absent_threshold, self.probability
        )

    @property
    def reason(self) -> str:
        """Why the sentence has no match; "" where it has one."""
        return self.verdict.reason

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        found = f"score {self.score:.3f}" + ("" if self.present else ", no match")
        return f"Track({self.text!r} in {self.video_id!r}, {found}, {len(self)} frames)"

    def to_coco(self, frames: FrameNumbers = None, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO's results, one a frame in which somebody is found: image_id (the frame's number),
        category_id, category (the sentence), bbox [x, y, width, height], segmentation (compressed
        run lengths, text) and score. Plain Python values, ready for JSON."""
        numbers = self._numbers(frames)
        boxes = self._boxes(numbers)
        there = boxes[:, 2] > boxes[:, 0]
        found = []
        codes = self._codes(numbers[there])
        for number, box, code in zip(numbers[there], boxes[there], codes, strict=True):
            x1, y1, x2, y2 = box.tolist()
            found.append(
                {
                    "image_id": int(number),
                    "category_id": category_id,
                    "category": self.text,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "segmentation": code,
                    "score": float(self.score),
                }
            )
        return found

    def to_supervision(self, frame: int, tracker_id: int = 1) -> Any:
        """`supervision.Detections` of one frame: xyxy, mask, confidence, tracker_id and the
        sentence as data["text"]; empty where nobody is found.

        Raises:
            InputError: supervision is not installed.
        """
        detections = _supervision().Detections
        box = self.boxes(frame)
        if box[2] <= box[0]:
            return detections.empty()
        return detections(
            xyxy=box[None],
            mask=self.masks(frame)[None],
            confidence=np.array([self.score], np.float32),
            class_id=np.array([0]),
            tracker_id=np.array([tracker_id]),
            data={"text": np.array([self.text])},
        )

    def to_davis(self, folder: Path | str) -> None:
        """`write_davis` of this track alone."""
        write_davis([self], folder)

    def to_youtube_vos(self, folder: Path | str) -> None:
        """`write_youtube_vos` of this track alone."""
        write_youtube_vos([self], folder)

    def save(self, folder: Path | str, video: VideoLike | None = None) -> None:
        """Writes into `folder` what `aamn segment` writes for one sentence: mask PNGs, run lengths,
        overlay video, contact sheet, word attention and result.json.

        Args:
            video: the frames it was made from; None: as `video` finds them.

        Raises:
            InputError: the frames cannot be had, or are those of another video.
        """
        source, frames = _pictures(self, video), _as_range(self.frames)
        found, wanted = answers([self], frames), OutputOptions(frames)
        with one_run(Path(folder)) as aside:
            write_folders([aside], self.video_id, source, [self.query], found, wanted, [self.facts])

    def plot(self, frames: FrameNumbers = None, video: VideoLike | None = None) -> Any:
        """`plot_tracks` of this track alone."""
        return plot_tracks([self], frames, video)


@dataclass(frozen=True, eq=False, repr=False)
class JoinedTrack(Track):
    """The answers to one sentence about the clips of a video, one after another, in memory; of any
    system. `source` holds the frames they were made from."""

    query: Query
    score: float
    clips: tuple[MaskTrack, ...]
    source: FrameSource | None = None
    present: bool = True
    absent_threshold: float | None = None

    @property
    def video_id(self) -> str:
        return self.clips[0].video_id

    @property
    def size(self) -> tuple[int, int]:
        h0, w0 = self.clips[0].masks.shape[1:]
        return h0, w0

    @cached_property
    def frames(self) -> Sequence[int]:
        return [number for clip in self.clips for number in clip.frame_indices.tolist()]

    def video(self) -> FrameSource:
        if self.source is None:
            raise InputError(f"{self!r} does not hold its frames; give them as video=")
        return self.source

    def parts(self, frames: range) -> Iterator[MaskTrack]:
        for clip in self.clips:
            indices = [i for i, n in enumerate(clip.frame_indices.tolist()) if n in frames]
            if indices:
                yield clip.at(indices)

    def _boxes(self, numbers: np.ndarray) -> np.ndarray:
        return np.concatenate([clip.boxes.numpy() for clip in self.clips])[self._places(numbers)]

    def _masks(self, numbers: np.ndarray) -> np.ndarray:
        return np.concatenate([clip.masks.numpy() for clip in self.clips])[self._places(numbers)]

    def _places(self, numbers: np.ndarray) -> list[int]:
        known = {number: place for place, number in enumerate(self.frames)}
        for number in numbers.tolist():
            if number not in known:
                raise InputError(
                    f"{self.video_id}: wanted frame {number}, it has {len(self)} frames"
                )
        return [known[number] for number in numbers.tolist()]


def _sliced(frames: Sequence[int], wanted: slice) -> list[int]:
    """The frames whose numbers lie in the slice; its step counts frames."""
    step = 1 if wanted.step is None else wanted.step
    end = frames[-1] + 1 if len(frames) else 0
    sign = 1 if step > 0 else -1
    span = range(*slice(wanted.start, wanted.stop, sign).indices(end))
    return [n for n in frames[::sign] if n in span][:: abs(step)]


def _as_range(frames: Sequence[int]) -> range:
    """A range that holds all frames, and no others where they are evenly spaced."""
    steps = np.diff(np.asarray(frames))
    return range(frames[0], frames[-1] + 1, math.gcd(*steps.tolist()) or 1)


def answers(tracks: Sequence[Track], frames: range) -> Iterator[Answer]:
    """The tracks of one video, clip by clip, with their masks; memory holds one clip."""
    for parts in zip(*(track.parts(frames) for track in tracks), strict=True):
        numbers = parts[0].frame_indices
        yield Answer(int(numbers[0]), int(numbers[-1]) + 1, parts)


def write_davis(tracks: Sequence[Track], folder: Path | str) -> None:
    """DAVIS's layout of the tracks of one video: `<folder>/<video>/00000.png` ..., one indexed PNG
    a frame, where index n is the n-th track and the higher score wins an overlap."""
    place = Path(folder) / escaped(_video_of(tracks))
    for number, labels in _labelled(tracks):
        write_labels(labels, place / f"{number:05d}.png")


def write_youtube_vos(tracks: Sequence[Track], folder: Path | str) -> None:
    """YouTube-VOS's layout of the tracks of one video: `Annotations/<video>/00000.png` ... as in
    `write_davis`, and `meta.json`, which names each object's sentence as its category and the
    frames it is seen in; a meta.json that is there keeps its other videos.

    Raises:
        InputError: the meta.json that is there cannot be read.
    """
    folder, video_id = Path(folder), escaped(_video_of(tracks))
    meta = _read_meta(folder / "meta.json")
    objects: dict[str, dict[str, Any]] = {
        str(n): {"category": track.text, "score": _number(track.score), "frames": []}
        for n, track in enumerate(tracks, start=1)
    }
    for number, labels in _labelled(tracks):
        write_labels(labels, folder / "Annotations" / video_id / f"{number:05d}.png")
        for n in np.unique(labels[labels > 0]).tolist():
            objects[str(n)]["frames"].append(f"{number:05d}")
    meta["videos"][video_id] = {"objects": objects}
    write_json(folder / "meta.json", meta)


def _number(value: float) -> float | None:
    """JSON has no infinity."""
    return float(value) if np.isfinite(value) else None


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"videos": {}}
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        return {**meta, "videos": dict(meta["videos"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} is no meta.json of YouTube-VOS; choose another folder") from None


def _labelled(tracks: Sequence[Track]) -> Iterator[tuple[int, np.ndarray]]:
    """Each frame's number and labels (H0, W0) uint8; memory holds one clip."""
    for answer in answers(tracks, _as_range(tracks[0].frames)):
        masks = np.stack([part.masks.numpy() for part in answer.tracks])
        labels = merge_objects(masks, [track.score for track in tracks])
        yield from zip(answer.tracks[0].frame_indices.tolist(), labels, strict=True)


def _video_of(tracks: Sequence[Track]) -> str:
    """The one video of all tracks.

    Raises:
        InputError: no track, tracks of several videos, or more than a palette has colours.
    """
    videos = sorted({track.video_id for track in tracks})
    if len(videos) != 1 or len(tracks) > 255:
        named = ", ".join(videos) or "none"
        raise InputError(f"wanted 1 to 255 tracks of one video, got {len(tracks)} of {named}")
    return videos[0]


def plot_tracks(
    tracks: Sequence[Track], frames: FrameNumbers = None, video: VideoLike | None = None
) -> Any:
    """A matplotlib figure of some frames (a few from the first to the last by default) with the
    tracks of one video on them, a colour a sentence.

    Args:
        video: the frames they were made from; None: as `Track.video` finds them.

    Raises:
        InputError: the frames cannot be had, or are those of another video.
    """
    from aamn.visualization.charts import picture_row

    _video_of(tracks)
    if frames is None:
        own = tracks[0].frames
        indices = np.linspace(0, len(own) - 1, min(PLOTTED, len(own)), dtype=int)
        frames = [own[index] for index in indices]
    numbers = tracks[0]._numbers(frames)
    colours = query_colours([track.text for track in tracks])
    masks = np.stack([track.masks(numbers) for track in tracks], 1)  # (n, tracks, H0, W0)
    images = _pictures(tracks[0], video).read(numbers)
    pictures = [highlighted(image, own, colours) for image, own in zip(images, masks, strict=True)]
    legend = {track.text: colour for track, colour in zip(tracks, colours, strict=True)}
    return picture_row(pictures, [f"frame {n}" for n in numbers.tolist()], legend)


def _pictures(track: Track, video: VideoLike | None) -> FrameSource:
    """The track's frames, or those that are given, of the same size."""
    if video is None:
        return track.video()
    source = take_frames(video, end=track.frames[-1] + 1)
    track.check(source)
    return source


def _supervision() -> Any:
    try:
        import supervision
    except ImportError:
        raise InputError("supervision is not installed: pip install 'aamn[supervision]'") from None
    return supervision
