"""Where an index takes its boxes from: a proposals file, or a detector while it is built."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol, TypeGuard

import numpy as np
from torch import Tensor

from aamn.models.indexable import IndexableSegmenter
from proposals.errors import InputError
from proposals.store import Attributes, BoxWindow, ProposalStore

log = logging.getLogger("aamn")

DETECTED_AT_ONCE = {"cpu": 4, "cuda": 16}


class Detections(Protocol):
    """One frame's boxes (n, 4) original pixels, scores (n,) falling, labels (n,)."""

    @property
    def boxes(self) -> np.ndarray: ...

    @property
    def scores(self) -> np.ndarray: ...

    @property
    def labels(self) -> np.ndarray: ...


class Detector(Protocol):
    """What finds boxes in frames, as stage one's detectors do."""

    attributes: Attributes

    def detect(self, frames: Sequence[np.ndarray]) -> Sequence[Detections]:
        """The boxes of each frame, uint8 RGB (H0, W0, 3)."""


class BackboneDetector(Detector, Protocol):
    """A detector that can go on from the maps of its backbone, where another network has made them.

    `square` is the side of the squares into which it fits frames, 0 where it does otherwise;
    `backbone_hash` is that of the weights below its heads.
    """

    @property
    def square(self) -> int: ...

    @property
    def backbone_hash(self) -> str: ...

    def detect_from(
        self, images: Tensor, maps: Sequence[Tensor], size: tuple[int, int]
    ) -> Sequence[Detections]:
        """The boxes of frames of `size` (H0, W0) from the backbone's maps of squares `images`."""


class BoxSource(Protocol):
    """Where an index takes its boxes from."""

    attributes: Attributes

    def window(self, frames: Sequence[np.ndarray], indices: np.ndarray, top: int) -> BoxWindow:
        """The `top` best boxes of these frames (H0, W0, 3), whose numbers are `indices`."""


class StoredBoxes:
    """Boxes of a proposals file."""

    def __init__(self, store: ProposalStore, video_id: str, size: tuple[int, int]) -> None:
        """`size` is the video's (H0, W0).

        Raises:
            InputError: the file lacks the video, or has it at another size.
        """
        found = tuple(store.frame_size(video_id))
        if found != tuple(size):
            raise InputError(
                f"{store.path}: the boxes of {video_id} are in pixels of {found[1]}x{found[0]}, "
                f"the video is {size[1]}x{size[0]}; extract its proposals again"
            )
        self.store, self.video_id, self.attributes = store, video_id, store.attributes

    def window(self, frames: Sequence[np.ndarray], indices: np.ndarray, top: int) -> BoxWindow:
        return self.store.window(self.video_id, indices, top)


class DetectedBoxes:
    """Boxes that a detector finds while the index is built."""

    def __init__(self, detector: Detector, batch: int) -> None:
        self.detector, self.batch, self.attributes = detector, batch, detector.attributes

    def window(self, frames: Sequence[np.ndarray], indices: np.ndarray, top: int) -> BoxWindow:
        found = [
            one
            for start in range(0, len(frames), self.batch)
            for one in self.detector.detect(frames[start : start + self.batch])
        ]
        return _best_boxes(found, top)


class SharedBoxes(DetectedBoxes):
    """Boxes that a detector finds on the maps of the segmenter's RGB stream, whose backbone is its
    own: one pass a frame serves both."""

    def __init__(self, detector: BackboneDetector, batch: int) -> None:
        super().__init__(detector, batch)
        self.backbone = detector

    def window_from(
        self, images: Tensor, maps: Sequence[Tensor], size: tuple[int, int], top: int
    ) -> BoxWindow:
        """The `top` best boxes of frames of `size` (H0, W0), from the maps of their squares."""
        found: list[Detections] = []
        for start in range(0, len(images), self.batch):
            part = slice(start, start + self.batch)
            found += self.backbone.detect_from(images[part], [one[part] for one in maps], size)
        return _best_boxes(found, top)


def detected_boxes(detector: Detector, segmenter: IndexableSegmenter) -> DetectedBoxes:
    """The detector as a source of boxes for indexes by this segmenter, in one pass of the backbone
    that both have where they have the same."""
    batch = DETECTED_AT_ONCE[segmenter.device.type]
    if _goes_on_from_maps(detector):
        same_square = (detector.square, detector.square) == segmenter.input_spec.network_size
        if same_square and segmenter.backbone_hash == detector.backbone_hash:
            return SharedBoxes(detector, batch)
        log.info("the detector's backbone is not the segmenter's: each takes its own pass a frame")
    return DetectedBoxes(detector, batch)


def _goes_on_from_maps(detector: Detector) -> TypeGuard[BackboneDetector]:
    """Whether it is a BackboneDetector that fits frames into squares. isinstance would evaluate all
    of its properties before Python 3.12, and detectron2's detectors have no backbone to hash."""
    return hasattr(type(detector), "detect_from") and bool(getattr(detector, "square", 0))


def _best_boxes(found: Sequence[Detections], top: int) -> BoxWindow:
    """The `top` best boxes of each frame, side by side."""
    n = len(found)
    window = BoxWindow(
        np.zeros((n, top, 4), np.float32),
        np.zeros((n, top), np.float32),
        np.zeros((n, top), np.int64),
        np.zeros((n, top), bool),
    )
    for place, one in enumerate(found):
        kept = min(top, len(one.scores))
        window.boxes[place, :kept] = one.boxes[:kept]
        window.scores[place, :kept] = one.scores[:kept]
        window.labels[place, :kept] = one.labels[:kept]
        window.valid[place, :kept] = True
    if not (np.isfinite(window.boxes).all() and np.isfinite(window.scores).all()):
        raise InputError("the detector found a box or a score that is no finite number")
    return window
