"""A video of noise, its boxes, and what indexes it for the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_models import FROM_NOUGHT, tiny_config, tiny_segmenter

from aamn.config.schema import FlowConfig
from aamn.index.box_source import StoredBoxes
from aamn.index.builder import build_index
from aamn.index.job import IndexJob
from aamn.index.video_index import VideoIndex
from aamn.inference.checkpoint import Loaded
from proposals.frames import FrameSource
from proposals.store import Attributes, BoxWindow

SIZE = (40, 50)


class Frames(FrameSource):
    """Noise that drifts, so that there is flow."""

    def __init__(self, count):
        self.count, self.size, self.fps, self.path = count, SIZE, 10.0, Path("noise")
        self.announced, self.read_once = count, []
        rng = np.random.default_rng(0)
        self.video = rng.integers(0, 255, (count, *SIZE, 3), dtype=np.uint8)

    def __len__(self):
        return self.count

    def _frame(self, index):
        self.read_once.append(index)
        return self.video[index] if index < self.count else None

    def close(self):
        pass


class Unchecked:
    """Stands for stored boxes or flow, of whatever video they are used with."""

    def check(self, *given):
        pass

    check_identity = check


class Store(Unchecked):
    """Up to four boxes in every frame; every sixth frame has none."""

    attributes = Attributes("hand", "", (), {})
    path = Path("hand.h5")

    def frame_size(self, video_id):
        return SIZE

    def window(self, video_id, frame_indices, top):
        n = len(frame_indices)
        boxes, valid = np.zeros((n, top, 4), np.float32), np.zeros((n, top), bool)
        for place, frame in enumerate(np.asarray(frame_indices).tolist()):
            rng = np.random.default_rng(frame)
            corner = rng.uniform(0, 25, (top, 2))
            boxes[place] = np.hstack([corner, corner + rng.uniform(5, 15, (top, 2))])
            valid[place, : 0 if frame % 6 == 5 else 1 + frame % top] = True
        boxes[~valid] = 0
        scores = np.zeros((n, top), np.float32)
        return BoxWindow(boxes, scores, np.zeros((n, top), np.int64), valid)


def loaded(*overrides, seed=0):
    segmenter = tiny_segmenter(*overrides, seed=seed, vocabulary=FROM_NOUGHT)
    return Loaded(segmenter, tiny_config(*overrides), 0)


def job(model, frames):
    boxes = StoredBoxes(Store(), "v", frames.size)
    return IndexJob(model.segmenter, "v", frames, boxes, None, FlowConfig())


def built(model, count, path):
    build_index(job(model, Frames(count)), path)
    return VideoIndex.read(path, model)
