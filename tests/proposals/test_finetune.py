"""Manifests, fine-tuning and what is measured of a detector."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from proposals import finetune as finetune_module
from proposals.detector import (
    DetectorConfig,
    FineTuneConfig,
    FrameDetections,
    TorchDetector,
    build_detector,
    load_detector,
)
from proposals.errors import InputError
from proposals.finetune import _Order, _Samples, evaluate, finetune
from proposals.manifest import AnnotatedFrame, ManifestFrames, read_manifest
from proposals.measures import average_precision, iou_matrix, measure, recall

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "ball"}]


def write_manifest(folder: Path, frames: int = 6) -> Path:
    """A video of grey frames, a bright square in each, and a picture."""
    writer = cv2.VideoWriter(
        str(folder / "-v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 48)
    )
    images, annotations = [], []
    for index in range(frames):
        frame = np.full((48, 64, 3), 40 + index, np.uint8)
        x = 4 + 6 * index
        frame[10:30, x : x + 20] = 230
        writer.write(frame)
        image = {"id": index, "file_name": "-v.avi", "frame": index, "width": 64, "height": 48}
        images.append(image)
        annotations.append({"id": index, "image_id": index, "bbox": [x, 10, 20, 20]})
        annotations[-1]["category_id"] = CATEGORIES[index % 2]["id"]
    writer.release()
    Image.new("RGB", (32, 48), (1, 2, 3)).save(folder / "p.png")
    images.append({"id": 99, "file_name": "p.png", "width": 32, "height": 48})
    annotations.append({"id": 90, "image_id": 99, "bbox": [1, 2, 3, 4], "category_id": 3})
    annotations.append({"id": 91, "image_id": 99, "bbox": [1, 2, 0, 4], "category_id": 3})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder / "manifest.json"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return read_manifest(write_manifest(tmp_path_factory.mktemp("manifest")))


def test_a_manifest_is_read(manifest, caplog):
    assert manifest.classes == ("ball", "dog")  # in order of their ids
    assert len(manifest.frames) == 7
    first, picture = manifest.frames[0], manifest.frames[-1]
    assert (first.frame, first.size, first.labels.tolist()) == (0, (48, 64), [1])
    assert first.boxes.tolist() == [[4, 10, 24, 30]]
    assert (picture.frame, picture.boxes.tolist()) == (None, [[1, 2, 4, 6]])


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_frames_are_those_of_the_video(manifest, cache_mb):
    pictures = ManifestFrames(manifest.frames, cache_mb)
    assert pictures.cached == (cache_mb > 0)
    for index in (5, 0, 3):
        assert abs(float(pictures[index][2, 2].mean()) - 40 - index) < 2
    assert pictures[6][0, 0].tolist() == [1, 2, 3]


def test_a_frame_past_the_end_becomes_the_last_one(manifest, caplog):
    late = replace(manifest.frames[0], frame=80)
    (picture,) = ManifestFrames([late], 100)._cache.values()
    assert abs(float(picture[2, 2].mean()) - 45) < 2
    assert "frame 80 is annotated, only 6 can be decoded" in caplog.text


def test_a_mirror_image_mirrors_its_boxes(manifest):
    samples = _Samples(ManifestFrames(manifest.frames, 100))
    plain, boxes, _ = samples[1, False]
    mirrored, flipped, _ = samples[1, True]
    torch.testing.assert_close(mirrored, plain.flip(2))
    (x1, y1, x2, y2), (u1, v1, u2, v2) = boxes[0].tolist(), flipped[0].tolist()
    assert (u1, v1, u2, v2) == (64 - x2, y1, 64 - x1, y2)
    assert mirrored[:, 15, int(u1) + 3].min() > 150 and mirrored[:, 15, int(u1) - 3].max() < 120


def test_an_epoch_shows_every_frame_once_and_a_resumed_run_the_same():
    config = FineTuneConfig(iterations=6, batch=4, flip=0.5)
    batches = list(_Order(8, config, 0))
    assert sorted(place for batch in batches[:2] for place, _ in batch) == list(range(8))
    assert batches[:2] != batches[2:4]
    assert list(_Order(8, config, 3)) == batches[3:]
    assert any(m for b in batches for _, m in b) and not all(m for b in batches for _, m in b)


def config(**changes) -> DetectorConfig:
    knobs = {"iterations": 120, "batch": 4, "optimiser": "adamw", "lr": 3e-3, "warmup": 5}
    return DetectorConfig(
        name="small",
        weights="",
        classes=("ball", "dog"),
        min_size=48,
        max_size=64,
        proposals=10,
        widths=(8, 8, 16, 32),
        head=32,
        pool=3,
        anchors=(16, 24),
        finetune=FineTuneConfig(**{**knobs, "rois": 16, "average": 0.9, **changes}),
    )


def network(**changes):
    torch.manual_seed(0)
    return build_detector(config(**changes))


def test_fine_tuning_finds_the_objects(manifest, tmp_path):
    videos = replace(manifest, frames=manifest.frames[:-1])
    trained = finetune(network(lr=5e-3), videos, tmp_path)
    measured = evaluate(TorchDetector(trained), videos)
    untrained = evaluate(TorchDetector(network()), videos)
    assert measured["recall@2 IoU 0.5"] > 0.9 > untrained["recall@2 IoU 0.5"] + 0.2
    assert evaluate(load_detector(tmp_path / "detector.pt"), videos) == measured


def test_a_resumed_run_ends_with_the_same_weights(manifest, tmp_path, monkeypatch):
    knobs = {"iterations": 8, "checkpoint_every": 3}
    whole = finetune(network(**knobs), manifest, tmp_path / "whole")
    real, count = finetune_module._Trainer.step, iter(range(5))

    def stop(self, *batch):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return real(self, *batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finetune_module._Trainer, "step", stop)
        finetune(network(**knobs), manifest, tmp_path / "stopped")
    assert not (tmp_path / "stopped/detector.pt").exists()
    again = finetune(network(**knobs), manifest, tmp_path / "stopped")
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[key], rtol=0, atol=0)


def test_a_checkpoint_of_another_configuration_is_refused(manifest, tmp_path):
    finetune(network(iterations=1), manifest, tmp_path)
    with pytest.raises(InputError, match=r"last.pt was written with another configuration"):
        finetune(network(iterations=2), manifest, tmp_path)


def test_other_classes_are_refused(manifest, tmp_path):
    other = build_detector(replace(config(), classes=("cat", "dog")))
    with pytest.raises(InputError, match="has the classes ball, dog, the detector cat, dog"):
        finetune(other, manifest, tmp_path)


def test_a_loss_that_explodes_stops_the_run(manifest, tmp_path):
    broken = network(iterations=2)
    with torch.no_grad():
        broken.rcnn.backbone.stages[0][0].weight.fill_(float("nan"))
    with pytest.raises((InputError, ValueError), match=r"lower finetune.lr|NaN|nan|finite"):
        finetune(broken, manifest, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (None, "no manifest at .*tools/make_manifest.py writes one"),
        ("{", "is no readable JSON"),
        ("[]", "is no COCO manifest"),
        ('{"images": []}', "is no COCO manifest .* KeyError 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "no frame has a box"),
        (
            '{"images": [{"id": 1, "file_name": "v.mp4", "width": 3, "height": 3}],'
            ' "annotations": [], "categories": []}',
            "KeyError 'frame'",
        ),
    ],
)
def test_manifests_that_are_none(tmp_path, spoil, message):
    if spoil is not None:
        (tmp_path / "m.json").write_text(spoil)
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / "m.json")


def test_a_video_of_another_size_than_the_manifest_says(manifest):
    wrong = replace(manifest.frames[0], size=(48, 60))
    with pytest.raises(InputError, match=r"-v\.avi is 64x48, its manifest says 60x48"):
        ManifestFrames([wrong], 100)


def frame(*boxes) -> AnnotatedFrame:
    labels = np.zeros(len(boxes), np.int64)
    return AnnotatedFrame(
        0, Path("v.mp4"), 0, (99, 99), np.array(boxes, np.float32).reshape(-1, 4), labels
    )


def found(*boxes) -> FrameDetections:
    scores = np.linspace(0.9, 0.1, len(boxes), dtype=np.float32)
    labels = np.zeros(len(boxes), np.int64)
    return FrameDetections(np.array(boxes, np.float32).reshape(-1, 4), scores, labels)


def test_iou_by_hand():
    a = np.array([[0, 0, 10, 10], [0, 0, 1, 1]], np.float32)
    b = np.array([[0, 0, 10, 5], [5, 5, 15, 15], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose(iou_matrix(a, b), [[0.5, 25 / 175, 0], [0.02, 0, 0]], rtol=1e-5)


@pytest.mark.parametrize(
    ("top", "iou", "wanted"), [(1, 0.5, 1 / 4), (2, 0.5, 2 / 4), (3, 0.5, 3 / 4), (3, 0.9, 2 / 4)]
)
def test_recall_by_hand(top, iou, wanted):
    frames = [frame([0, 0, 10, 10], [20, 20, 30, 30]), frame([0, 0, 10, 10]), frame([5, 5, 9, 9])]
    boxes = [
        found([0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 28]),
        found([40, 40, 50, 50], [0, 0, 10, 10]),
        found(),
    ]
    assert recall(frames, boxes, top, iou) == pytest.approx(wanted)


def test_average_precision_by_hand():
    frames = [frame([0, 0, 10, 10]), frame([0, 0, 10, 10])]
    perfect = average_precision(frames, [found([0, 0, 10, 10])] * 2, ("a",))
    assert perfect == pytest.approx({"AP": 1.0, "AP50": 1.0, "AP75": 1.0})
    half = average_precision(frames, [found([0, 0, 10, 10]), found()], ("a",))
    assert half["AP50"] == pytest.approx(51 / 101, abs=1e-3)  # recall 0.5 of 101 recall points
    loose = average_precision(frames, [found([0, 0, 10, 6.2])] * 2, ("a",))  # IoU 0.62
    assert loose["AP"] == pytest.approx(3 / 10) and loose["AP75"] == 0
    assert average_precision(frames, [found()] * 2, ("a",))["AP"] == 0


def test_measure_names_the_paper_s_numbers():
    measured = measure([frame([0, 0, 10, 10])], [found([0, 0, 10, 10])], ("a",))
    for top in (*range(2, 13), 100):
        assert measured[f"recall@{top} IoU 0.5"] == measured[f"recall@{top} IoU 0.7"] == 1.0
