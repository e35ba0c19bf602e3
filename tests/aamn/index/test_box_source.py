"""Where the boxes of an index come from, one source at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_videos import Store, loaded

from aamn.index import box_source as index_boxes
from aamn.index.box_source import DetectedBoxes, SharedBoxes, StoredBoxes, detected_boxes
from proposals.errors import InputError
from proposals.store import Attributes

COUNTS = (0, 2, 5, 3, 1)  # boxes in the frames


def detections(frame, count):
    """Boxes, scores and labels that tell their frame and place."""
    place = np.arange(count)
    boxes = np.stack([place, place, place + 10, place + 20 + frame], 1).astype(np.float32)
    scores = (1 - place / 10).astype(np.float32)
    return SimpleNamespace(boxes=boxes, scores=scores, labels=place + 10 * frame)


class Detector:
    """Finds COUNTS boxes in frames whose brightness is their number."""

    attributes = Attributes("counting", "w", ("a",), {"top": 5})

    def __init__(self):
        self.batches, self.sizes = [], []

    def detect(self, frames):
        numbers = [int(frame.max()) for frame in frames]
        self.batches.append(numbers)
        return [detections(n, COUNTS[n]) for n in numbers]

    def detect_from(self, images, maps, size):
        assert all((one == images[:, :1]).all() for one in maps), "maps of these images"
        self.sizes.append(size)
        return self.detect(images)


def check(window, top):
    for n, count in enumerate(COUNTS):
        kept, wanted = min(count, top), detections(n, count)
        assert window.valid[n].tolist() == [True] * kept + [False] * (top - kept)
        for name in ("boxes", "scores", "labels"):
            values = getattr(window, name)[n]
            assert (values[:kept] == getattr(wanted, name)[:kept]).all(), name
            assert not values[kept:].any(), name
    types = [window.boxes.dtype, window.scores.dtype, window.labels.dtype]
    assert types == [np.float32, np.float32, np.int64]


@pytest.mark.parametrize("top", [1, 3, 6])
@pytest.mark.parametrize(
    ("batch", "batches"),
    [(2, [[0, 1], [2, 3], [4]]), (5, [[0, 1, 2, 3, 4]]), (4, [[0, 1, 2, 3], [4]])],
)
def test_the_best_boxes_of_each_frame_are_kept_in_batches_of_frames(top, batch, batches):
    detector = Detector()
    frames = [np.full((4, 5, 3), n, np.uint8) for n in range(5)]
    source = DetectedBoxes(detector, batch)
    check(source.window(frames, np.arange(5), top), top)
    assert detector.batches == batches and source.attributes == Detector.attributes
    detector = Detector()
    images = torch.arange(5.0)[:, None, None, None].expand(5, 3, 6, 6)
    shared = SharedBoxes(detector, batch)
    check(shared.window_from(images, [images[:, :1], images[:, :2]], (40, 50), top), top)
    assert detector.batches == batches and detector.sizes == [(40, 50)] * len(batches)


def test_a_detector_without_a_backbone_of_its_own_takes_its_pass_in_batches(monkeypatch):
    detector = Detector()
    monkeypatch.setitem(index_boxes.DETECTED_AT_ONCE, "cpu", 3)
    source = detected_boxes(detector, loaded().segmenter)
    assert type(source) is DetectedBoxes and source.detector is detector
    source.window([np.full((4, 5, 3), n, np.uint8) for n in range(5)], np.arange(5), 2)
    assert detector.batches == [[0, 1, 2], [3, 4]]


def test_stored_boxes_are_those_of_the_video_at_these_frames():
    asked = []

    class Asked(Store):
        attributes = Detector.attributes

        def window(self, *given):
            asked.append(given)
            return super().window(*given)

    source = StoredBoxes(Asked(), "v", (40, 50))
    found, wanted = source.window([], np.array([3, 9]), 4), Store().window("v", [3, 9], 4)
    assert (found.boxes == wanted.boxes).all() and asked[0][0] == "v"
    assert source.attributes == Detector.attributes


@pytest.mark.parametrize("size", [(40, 51), (50, 40)])
def test_boxes_of_a_video_of_another_size_are_refused_width_first(size):
    with pytest.raises(InputError, match=f"hand.h5: .*v .*50x40.*{size[1]}x{size[0]}"):
        StoredBoxes(Store(), "v", size)


def test_stored_boxes_are_of_the_video_that_is_named():
    class Sizes(Store):
        def frame_size(self, video_id):
            return {"a": (36, 60), "b": (20, 30)}[video_id]

    for video_id, size in (("a", (36, 60)), ("b", (20, 30))):
        assert StoredBoxes(Sizes(), video_id, size).video_id == video_id
    with pytest.raises(InputError, match=r"hand\.h5: the boxes of b are .* 30x20.* is 60x36"):
        StoredBoxes(Sizes(), "b", (36, 60))


def test_a_detector_that_has_no_backbone_is_not_asked_for_its_hash():
    class Closed(Detector):
        square = 0

        @property
        def backbone_hash(self):
            raise NotImplementedError("as detectron2's")

    assert type(detected_boxes(Closed(), loaded().segmenter)) is DetectedBoxes
