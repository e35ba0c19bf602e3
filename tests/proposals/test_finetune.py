"""Manifests, fine-tuning and what is measured of a detector."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from proposals import finetune as finetune_module
from proposals.build import build_detector, load_detector
from proposals.config import DetectorConfig, FineTuneConfig
from proposals.detector import FrameDetections, TorchDetector, TrainableDetector
from proposals.errors import InputError
from proposals.finetune import _Order, _Samples, evaluate, finetune, write_measures
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


def test_crowds_and_flat_boxes_are_left_out_and_counted(tmp_path, caplog):
    boxes = [[1, 2, 0, 4], [1, 2, 3, 0], [1, 2, -1, 4], [5, 6, 7, 8], [1] * 4, [2, 3, 0.5, 1]]
    annotations = [
        {
            "id": n,
            "image_id": 8,
            "category_id": 3 + 4 * (n % 2),
            "bbox": box,
            "iscrowd": int(n == 4),
        }
        for n, box in enumerate(boxes)
    ]
    images = [
        {"id": 8, "file_name": "clips/v.mp4", "frame": 17, "width": 30, "height": 20},
        {"id": 2, "file_name": "../p.JPG", "width": 4, "height": 5},
    ]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (tmp_path / "m.json").write_text(json.dumps(content))
    manifest = read_manifest(tmp_path / "m.json")
    first, second = manifest.frames
    assert first.boxes.tolist() == [[5, 6, 12, 14], [2, 3, 2.5, 4]]
    assert first.labels.tolist() == [1, 1]
    assert (first.image_id, first.path, first.frame) == (8, tmp_path / "clips/v.mp4", 17)
    assert (second.image_id, second.path, second.frame) == (2, tmp_path / "../p.JPG", None)
    assert (first.size, second.size) == ((20, 30), (5, 4))
    assert second.boxes.shape == (0, 4) and second.boxes.dtype == np.float32
    assert "m.json: left out 4 crowds" in caplog.text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"image_id": 5}, "KeyError 5"),
        ({"category_id": 4}, "KeyError 4"),
        ({"bbox": [1, 2, 3]}, ""),
    ],
)
def test_annotations_of_nothing_are_refused(tmp_path, change, word):
    image = {"id": 1, "file_name": "p.png", "width": 9, "height": 9}
    annotation = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], **change}
    content = {"images": [image], "annotations": [annotation], "categories": CATEGORIES}
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"m\.json is no COCO manifest.*{word}"):
        read_manifest(tmp_path / "m.json")


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_frames_of_several_files_do_not_change_places(tmp_path, cache_mb):
    frames = []
    for place, (name, index) in enumerate([("a", 1), ("b", 0), ("a", 0), ("b", 1), ("a", 1)]):
        for n in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            shade = (10 * n, ord(name), 0)
            Image.new("RGB", (6, 4), shade).save(tmp_path / name / f"{n}.png")
        boxes = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        frames.append(AnnotatedFrame(place, tmp_path / name, index, (4, 6), *boxes))
    pictures = ManifestFrames(frames, cache_mb)
    assert len(pictures) == 5 and pictures.cached == bool(cache_mb)
    wanted = [[10, 97], [0, 98], [0, 97], [10, 98], [10, 97]]
    assert [pictures[place][3, 5, :2].tolist() for place in range(5)] == wanted


@pytest.mark.parametrize(("width", "cached"), [(682, True), (683, False)])
def test_frames_are_kept_when_they_fit(tmp_path, width, cached):
    """3 x 512 x 682 bytes are just less than a mebibyte."""
    Image.new("RGB", (width, 512)).save(tmp_path / "p.png")
    boxes = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    frame = AnnotatedFrame(1, tmp_path / "p.png", None, (512, width), *boxes)
    assert ManifestFrames([frame], 1).cached == cached


def test_the_last_frame_is_not_past_the_end(manifest, caplog):
    frames = [replace(manifest.frames[0], frame=frame) for frame in (5, 6)]
    assert abs(float(ManifestFrames(frames[:1], 0)[0][2, 2].mean()) - 45) < 2
    assert caplog.text == ""
    assert abs(float(ManifestFrames(frames[1:], 0)[0][2, 2].mean()) - 45) < 2
    assert "-v.avi: frame 6 is annotated, only 6 can be decoded" in caplog.text


def test_pictures_that_cannot_be_used_are_named(tmp_path):
    boxes = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    frame = AnnotatedFrame(1, tmp_path / "p.png", None, (4, 6), *boxes)
    with pytest.raises(
        InputError, match=r"p\.png is no readable image: No such file or directory$"
    ):
        ManifestFrames([frame], 0)[0]
    Image.new("RGB", (4, 6)).save(tmp_path / "p.png")
    with pytest.raises(InputError, match=r"p\.png is 4x6, its manifest says 6x4"):
        ManifestFrames([frame], 0)[0]


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


class Toy(TrainableDetector):
    """A weight of 2 (two axes, so it decays) and a bias of 1, whose losses are 3w and 4b."""

    def __init__(self, **changes) -> None:
        knobs = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "warmup": 0, "clip_norm": 0.0}
        tuning = FineTuneConfig(**{"iterations": 8, "batch": 2, **knobs, **changes})
        super().__init__(DetectorConfig("small", classes=("ball", "dog"), finetune=tuning))
        self.weight = nn.Parameter(torch.tensor([[2.0]]))
        self.bias = nn.Parameter(torch.tensor([1.0]))
        self.register_buffer("steps", torch.tensor([0.0]))
        self.batches, self.frozen, self.modes, self.worth = [], None, [], 1.0

    def freeze(self, trainable):
        self.frozen = trainable
        self.bias.requires_grad_(trainable > 0)

    def losses(self, frames, boxes, labels):
        self.modes.append(self.training)
        self.batches.append((frames, boxes, labels))
        self.steps += 1
        return {"w": 3 * self.worth * self.weight.sum(), "b": 4 * self.bias.sum()}


def stepped(folder, steps: int, **changes):
    """The trainer after some steps."""
    trainer = finetune_module._Trainer(Toy(**changes), folder / "last.pt")
    for _ in range(steps):
        trainer.step((), (), ())
    return trainer


@pytest.mark.parametrize(
    ("changes", "weight", "bias"),
    [
        ({}, 2 - 0.1 * 3, 1 - 0.1 * 4),
        ({"lr": 0.01}, 2 - 0.01 * 3, 1 - 0.01 * 4),
        ({"weight_decay": 0.5}, 2 - 0.1 * (3 + 0.5 * 2), 1 - 0.1 * 4),  # the bias does not decay
        ({"clip_norm": 1.0}, 2 - 0.1 * 3 / 5, 1 - 0.1 * 4 / 5),  # the gradient's norm is 5
        ({"clip_norm": 9.0}, 2 - 0.1 * 3, 1 - 0.1 * 4),
        ({"trainable_stages": 0}, 2 - 0.1 * 3, 1.0),  # frozen
        ({"warmup": 4}, 2 - 0.1 / 4 * 3, 1 - 0.1 / 4 * 4),
        ({"optimiser": "adamw"}, 2 - 0.1, 1 - 0.1),  # Adam's first step is the rate
        ({"optimiser": "adamw", "weight_decay": 0.5}, 2 * (1 - 0.05) - 0.1, 1 - 0.1),
    ],
)
def test_one_step_by_hand(tmp_path, changes, weight, bias):
    trainer = stepped(tmp_path, 1, **changes)
    assert trainer.network.weight.item() == pytest.approx(weight, abs=1e-6)
    assert trainer.network.bias.item() == pytest.approx(bias, abs=1e-6)
    assert trainer.iteration == 1


def test_a_second_step_by_hand(tmp_path):
    """The momentum is kept, the gradient is not; of 8 iterations the second has (1 + cos 22.5) /
    2 of the rate."""
    second = 0.1 * 0.9619397663
    assert stepped(tmp_path, 2).network.weight.item() == pytest.approx(1.7 - second * 3, abs=1e-6)
    moving = stepped(tmp_path, 2, momentum=0.5).network.weight.item()
    assert moving == pytest.approx(1.7 - second * (3 + 0.5 * 3), abs=1e-6)


def test_the_optimiser_s_rate_warms_up_and_falls_to_zero(manifest, tmp_path, monkeypatch):
    """Eight iterations, four of them warm-up: k / 4, and (1 + cos(pi i / 8)) / 2."""
    rates, real = [], torch.optim.SGD.step

    def step(self, *arguments, **options):
        rates.append([group["lr"] for group in self.param_groups])
        return real(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    finetune(Toy(warmup=4, lr=2.0), manifest, tmp_path)
    cosine = [1.0, 0.9619398, 0.8535534, 0.6913417, 0.5, 0.3086583, 0.1464466, 0.0380602]
    warm = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    wanted = [2 * a * b for a, b in zip(warm, cosine, strict=True)]
    np.testing.assert_allclose(rates, [[rate, rate] for rate in wanted], rtol=1e-5)


def test_the_running_average_by_hand(tmp_path):
    """Early it follows by 1 - n / (n + 10), later by 1 - decay; buffers are copied."""
    trainer = stepped(tmp_path, 1, average=0.5)
    first = 2 + (1.7 - 2) * (1 - 1 / 11)
    average = trainer.average.module
    assert average.weight.item() == pytest.approx(first, abs=1e-6)
    trainer.average.n_averaged.fill_(90)
    trainer.average.update_parameters(trainer.network)
    assert average.weight.item() == pytest.approx((first + 1.7) / 2, abs=1e-6)
    assert average.steps.item() == trainer.network.steps.item() == 1
    assert trainer.result() is average and not trainer.result().training
    plain = stepped(tmp_path, 1)
    assert plain.average is None and plain.result() is plain.network


def test_what_fine_tuning_shows_the_network(manifest, tmp_path):
    """Frames with boxes alone, each once an epoch, in training mode."""
    empty = replace(manifest.frames[2], boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, int))
    frames = (*manifest.frames[:2], empty, *manifest.frames[3:])
    network = Toy(iterations=6, batch=3, flip=0.0, trainable_stages=2)
    assert finetune(network, replace(manifest, frames=frames), tmp_path) is network
    assert network.frozen == 2 and network.modes == [True] * 6 and not network.training
    shown = [sample for batch in network.batches for sample in zip(*batch, strict=True)]
    annotated = [frames[n] for n in (0, 1, 3, 4, 5, 6)]
    for epoch in range(3):
        boxes = sorted(b.tolist() for _, b, _ in shown[6 * epoch : 6 * epoch + 6])
        assert boxes == sorted(frame.boxes.tolist() for frame in annotated)
    for picture, boxes, labels in shown:
        (frame,) = (frame for frame in annotated if frame.boxes.tolist() == boxes.tolist())
        assert picture.dtype == torch.uint8 and picture.shape[1:] == frame.size
        assert labels.tolist() == frame.labels.tolist()


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_mirror_images_are_shown_to_the_network_as_often_as_configured(manifest, tmp_path, flip):
    """The first frame's square begins at 4 of 64 pixels, so that of its mirror image ends at 60."""
    before = manifest.frames[0].boxes.copy()
    one = replace(manifest, frames=manifest.frames[:1])
    network = Toy(iterations=5, batch=2, flip=flip)
    finetune(network, one, tmp_path)
    left = 64 - 24 if flip else 4
    for pictures, boxes, _ in network.batches:
        for picture, box in zip(pictures, boxes, strict=True):
            assert box.tolist() == [[left, 10, left + 20, 30]]
            assert picture[:, 20, left + 2 : left + 18].min() > 180
    assert (manifest.frames[0].boxes == before).all()  # it is not written into


@pytest.mark.parametrize(("frames", "batch"), [(8, 4), (5, 4), (3, 7), (1, 2)])
def test_every_epoch_shows_every_frame_once(frames, batch):
    order = _Order(frames, FineTuneConfig(iterations=30, batch=batch), 0)
    batches = list(order)
    assert len(order) == len(batches) == 30 and {len(b) for b in batches} == {batch}
    shown = [place for b in batches for place, _ in b]
    epochs = [shown[n : n + frames] for n in range(0, len(shown) - frames + 1, frames)]
    assert all(sorted(epoch) == list(range(frames)) for epoch in epochs)
    assert len(_Order(frames, FineTuneConfig(iterations=30), 12)) == 18


def test_the_seed_and_the_share_of_mirror_images_decide_the_order():
    def mirrored(**changes):
        knobs = FineTuneConfig(**{"iterations": 100, "batch": 10, **changes})
        return [sample for batch in _Order(50, knobs, 0) for sample in batch]

    assert mirrored(seed=1) == mirrored(seed=1) != mirrored(seed=2)
    shares = [sum(m for _, m in mirrored(flip=flip)) / 1000 for flip in (0.0, 0.2, 0.5, 1.0)]
    assert shares == pytest.approx([0, 0.2, 0.5, 1], abs=0.05) and shares[0] == 0


def test_a_resumed_run_does_not_begin_anew(manifest, tmp_path):
    """Stopped in the fifth of eight iterations, with a checkpoint every third."""

    class Stopping(Toy):
        def losses(self, *batch):
            if self.steps == 4:
                raise KeyboardInterrupt
            return super().losses(*batch)

    knobs = {"checkpoint_every": 3, "average": 0.5, "momentum": 0.9}
    with pytest.raises(KeyboardInterrupt):
        finetune(Stopping(**knobs), manifest, tmp_path / "a")
    saved = torch.load(tmp_path / "a/last.pt", weights_only=True)
    assert saved["iteration"] == 3
    again = Toy(**knobs)
    result = finetune(again, manifest, tmp_path / "a")
    whole = finetune(Toy(**knobs), manifest, tmp_path / "b")
    assert len(again.batches) == 5
    assert again.steps.item() == 8 and torch.equal(result.weight, whole.weight)
    done = Toy(**knobs)  # a finished run has nothing left to do
    assert torch.equal(finetune(done, manifest, tmp_path / "a").weight, whole.weight)
    assert done.batches == []


@pytest.mark.parametrize("worth", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_iteration(tmp_path, worth):
    trainer = stepped(tmp_path, 2)
    trainer.network.worth = worth
    with pytest.raises(InputError, match=r"iteration 2: the loss is (nan|inf).*finetune\.lr"):
        trainer.step((), (), ())
    assert trainer.network.weight.isfinite().all()


def test_measures_are_rounded_and_leave_out_what_is_none(tmp_path):
    write_measures({"AP": 0.123456, "none": float("nan"), "R": 1.0}, tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text()) == {"AP": 0.1235, "R": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_evaluation_compares_each_frame_with_its_own_boxes(manifest, cache_mb):
    """A detector that finds the bright square, and one that does so in the frame before."""

    class Bright:
        def __init__(self, late: bool) -> None:
            self.late, self.last = late, FrameDetections(*(np.zeros((0, n)) for n in (4, 1, 1)))

        def detect(self, frames):
            (picture,) = frames
            y, x = np.nonzero(picture.min(2) > 180)
            box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32)
            now = FrameDetections(box, np.array([0.9]), np.array([int(x.min() % 12 == 4)]))
            before, self.last = self.last, now
            return [before if self.late else now]

    videos = replace(manifest, frames=manifest.frames[:6])
    assert evaluate(Bright(False), videos, cache_mb)["recall@2 IoU 0.7"] == 1.0
    assert evaluate(Bright(True), videos, cache_mb)["recall@2 IoU 0.7"] == 0.0


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
        (None, "no manifest at .*`aamn manifest` writes one"),
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


def test_a_box_that_overlaps_by_exactly_the_limit_is_found():
    frames = [frame([0, 0, 10, 10])]
    assert recall(frames, [found([0, 0, 10, 5])], 1, 0.5) == 1.0
    assert recall(frames, [found([0, 0, 10, 4.99])], 1, 0.5) == 0.0


def test_recall_counts_boxes_not_frames_and_is_none_without_any():
    """One frame of three boxes, all found, and one of a box that is not."""
    boxes = [[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]]
    frames = [frame(*boxes), frame([0, 0, 5, 5])]
    assert recall(frames, [found(*boxes), found()], 12) == 0.75
    assert np.isnan(recall([frame()], [found([0, 0, 5, 5])], 2))


def test_average_precision_is_of_the_right_class_frame_and_rank():
    here, there = [0, 0, 10, 10], [50, 50, 60, 70]
    right, nothing = found(here), found()
    other = replace(right, labels=np.array([1]))
    frames, classes = [frame(here), frame()], ("a", "b")

    def ap50(*boxes):
        return average_precision(frames, boxes, classes)["AP50"]

    assert ap50(right, nothing) == pytest.approx(1)  # no box of b is annotated: it does not count
    assert ap50(other, nothing) == ap50(nothing, right) == 0.0
    assert ap50(found(here, there), nothing) == pytest.approx(1)  # a wrong box behind costs nothing
    assert ap50(found(there, here), nothing) == pytest.approx(0.5)  # before, half
    low = replace(right, scores=np.array([0.2]))
    assert ap50(low, replace(found(there), scores=np.array([0.3]))) == pytest.approx(0.5)


def test_the_two_overlaps_of_the_paper_differ():
    measured = measure([frame([0, 0, 10, 10])], [found([50, 50, 60, 60], [0, 0, 10, 6])], ("a",))
    assert measured["recall@2 IoU 0.5"] == 1.0 and measured["recall@2 IoU 0.7"] == 0.0
    assert measured["AP75"] == 0.0 < measured["AP"] < measured["AP50"] == pytest.approx(0.5)
    three = measure(
        [frame([0, 0, 9, 9])], [found([5, 5, 6, 6], [5, 5, 7, 7], [0, 0, 9, 9])], ("a",)
    )
    assert three["recall@2 IoU 0.5"] == 0.0 and three["recall@3 IoU 0.5"] == 1.0


def test_measure_names_the_paper_s_numbers():
    measured = measure([frame([0, 0, 10, 10])], [found([0, 0, 10, 10])], ("a",))
    for top in (*range(2, 13), 100):
        assert measured[f"recall@{top} IoU 0.5"] == measured[f"recall@{top} IoU 0.7"] == 1.0


def test_the_average_of_an_older_run_goes_on(tmp_path):
    trainer = stepped(tmp_path, 1, average=0.5)
    trainer.save()
    content = torch.load(trainer.checkpoint)
    today = content["average"]
    content["average"] = {
        key.removeprefix("module."): value for key, value in today.items() if "n_av" not in key
    }
    torch.save(content, trainer.checkpoint)
    trainer.average.n_averaged.fill_(0)
    trainer.resume()
    found = trainer.average.state_dict()
    assert found.keys() == today.keys() and all(torch.equal(found[k], today[k]) for k in today)
