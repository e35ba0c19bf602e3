"""Detectors: what they keep of a frame, their weights, and checkpoints that rebuild themselves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch.nn import BatchNorm2d
from torchvision.ops import FrozenBatchNorm2d, box_iou

from aamn.config.loading import load_config
from aamn.structures import Geometry
from proposals import build as build_module
from proposals import detector as detector_module
from proposals import torchvision_rcnn
from proposals.backbones import ResidualBlock, SmallBackbone, build_pyramid
from proposals.build import best_device, build_detector, load_detector
from proposals.config import (
    DetectorConfig,
    FineTuneConfig,
    RPNLimits,
    config_from_dict,
    config_to_dict,
)
from proposals.detector import (
    TorchDetector,
    TrainableDetector,
    rank_boxes,
    save_detector,
    weights_hash,
)
from proposals.errors import InputError
from proposals.frames import fitted_size, resize_frame

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = DetectorConfig(
    name="small",
    weights="",
    classes=("adult", "ball"),
    min_size=48,
    max_size=96,
    proposals=30,
    score_threshold=0.0,
    widths=(8, 8, 16, 16),
    head=16,
    pool=3,
)


@pytest.fixture(scope="module")
def tiny() -> TorchDetector:
    torch.manual_seed(1)
    return TorchDetector(build_detector(replace(TINY)))


def frames(count: int, size=(48, 64)) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (count, *size, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(48, 64), (96, 128), (20, 90), (33, 31)], ids=str)
def test_detections_keep_the_contract(tiny, size):
    h0, w0 = size
    (found,) = tiny.detect(frames(1, size))
    assert 0 < len(found.boxes) <= 30
    assert (found.boxes.dtype, found.labels.dtype) == (np.float32, np.int64)
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, [0, 2]] <= w0).all() and (found.boxes[:, [1, 3]] <= h0).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert (np.diff(found.scores) <= 0).all()
    assert set(found.labels.tolist()) <= {0, 1}
    overlaps = box_iou(torch.from_numpy(found.boxes), torch.from_numpy(found.boxes)).fill_diagonal_(
        0
    )
    assert overlaps.max() <= TINY.nms_iou


def test_a_batch_is_its_frames_one_by_one(tiny):
    batch = frames(3)
    for together, frame in zip(tiny.detect(batch), batch, strict=True):
        (alone,) = tiny.detect([frame])
        np.testing.assert_allclose(together.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-5)


def test_boxes_are_in_pixels_of_the_original_frame(tiny):
    """A frame enlarged by two looks the same to the network, which resizes it back."""
    (frame,) = frames(1)
    large = frame.repeat(2, 0).repeat(2, 1)
    network = tiny.network
    small_boxes, large_boxes = (
        network.rcnn.transform([torch.from_numpy(f.copy()).permute(2, 0, 1) / 255])[0].image_sizes
        for f in (frame, large)
    )
    assert small_boxes == large_boxes == [(48, 64)]
    (a,), (b,) = tiny.detect([np.full_like(frame, 90)]), tiny.detect([np.full_like(large, 90)])
    np.testing.assert_allclose(b.boxes, 2 * a.boxes, atol=0.05)


def test_half_precision_moves_boxes_by_less_than_a_pixel():
    """bfloat16 numbers near 300 are two apart: anchors and boxes must not be such."""
    torch.manual_seed(1)
    network = build_detector(replace(TINY, min_size=300, max_size=400)).eval()
    batch = torch.from_numpy(np.stack(frames(1, (300, 400)))).permute(0, 3, 1, 2)
    with torch.inference_mode():
        anchors = []
        network.rcnn.rpn.anchor_generator.register_forward_hook(lambda *a: anchors.extend(a[2]))
        with torch.autocast("cpu", torch.bfloat16):
            ((boxes, _, _),) = network.predict(batch)
        network.predict(batch)
    assert torch.equal(anchors[0], anchors[1]) and anchors[0].dtype == torch.float32
    fine = (boxes[:, :2] - boxes[:, :2].bfloat16().float()).abs()
    assert boxes.dtype == torch.float32 and (fine > 0).any()


CONFIG = DetectorConfig(score_threshold=0.2, nms_iou=0.5, boxes_per_frame=2)


@pytest.mark.parametrize(
    ("boxes", "scores", "kept"),
    [
        # every box with its best class; the better of two that overlap, whatever their classes
        (
            [[[0, 0, 9, 9], [0, 0, 10, 10]], [[0, 0, 10, 9], [50, 50, 60, 60]]],
            [[0.3, 0.6], [0.5, 0.1]],
            [([0, 0, 10, 10], 0.6, 1)],
        ),
        # best first, at most two, none below the threshold
        (
            [[[0, 0, 5, 5]], [[10, 10, 15, 15]], [[20, 20, 25, 25]], [[30, 30, 35, 35]]],
            [[0.3], [0.9], [0.5], [0.1]],
            [([10, 10, 15, 15], 0.9, 0), ([20, 20, 25, 25], 0.5, 0)],
        ),
        # cut at the frame of 40 x 80; what is left too thin is no box
        (
            [[[-5, -5, 10, 50]], [[-9, 3, 0.5, 9]], [[70, 1, 90, 2.5]]],
            [[0.9], [0.8], [0.7]],
            [([0, 0, 10, 40], 0.9, 0), ([70, 1, 80, 2.5], 0.7, 0)],
        ),
        ([[[float("nan"), 0, 9, 9]], [[0, 0, float("inf"), 9]]], [[0.9], [float("nan")]], []),
        (torch.zeros(0, 3, 4), torch.zeros(0, 3), []),
    ],
)
def test_ranking_by_hand(boxes, scores, kept):
    found = rank_boxes(torch.as_tensor(boxes), torch.as_tensor(scores), (40, 80), CONFIG)
    got = [(b.tolist(), round(s.item(), 4), c.item()) for b, s, c in zip(*found, strict=True)]
    assert got == kept


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, [0, 2, 3]),  # the second one overlaps the first by 2/3, the third one by 1/4
        ({"nms_iou": 0.7}, [0, 1, 2, 3]),
        ({"nms_iou": 0.2}, [0, 3]),
        ({"boxes_per_frame": 2}, [0, 2]),  # counted after those that overlap are gone
        ({"score_threshold": 0.5}, [0, 2]),  # a box must be better than it
        ({"score_threshold": 0.95}, []),
    ],
)
def test_overlaps_thresholds_and_numbers_by_hand(changes, kept):
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 15], [0, 6, 10, 16], [30, 0, 39, 30]]
    )  # of 100, 150, 100 and 270 pixels
    scores = torch.tensor([0.9, 0.8, 0.6, 0.5])
    order = torch.tensor([2, 0, 3, 1])  # in which they come
    config = replace(CONFIG, **{"boxes_per_frame": 9, **changes})
    found, ranked, labels = rank_boxes(boxes[order, None], scores[order, None], (40, 80), config)
    assert found.tolist() == boxes[kept].tolist()
    torch.testing.assert_close(ranked, scores[kept])
    assert labels.tolist() == [0] * len(kept)


def heads_that_say(monkeypatch, network, rois, logits, deltas) -> None:
    """Lets the RPN propose `rois` in pixels of the network's picture, and the box head answer."""
    rcnn, answer = network.rcnn, (torch.tensor(logits).log(), torch.tensor(deltas))
    proposed = [torch.tensor(rois)]
    monkeypatch.setattr(rcnn.rpn, "forward", lambda images, *_: (proposed, {}))
    monkeypatch.setattr(rcnn.roi_heads.box_predictor, "forward", lambda _: answer)


@pytest.mark.parametrize("square", [0, 64])
@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((48, 64), [[16, 12, 32, 24], [12, 6, 24, 12]]),
        ((96, 128), [[32, 24, 64, 48], [24, 12, 48, 24]]),  # twice as large
        ((24, 32), [[8, 6, 16, 12], [6, 3, 12, 6]]),  # half as large
    ],
    ids=str,
)
def test_answers_become_boxes_of_the_frame_by_hand(monkeypatch, square, size, wanted):
    """Probabilities of background, adult, ball: 2/8, 1/8, 5/8 and 5/8, 2/8, 1/8. Only `ball`'s box
    of the first RoI moves: right by 5 / 10 of its width of 16, since the coder's weight is 10."""
    network = build_detector(replace(TINY, square=square, max_size=64)).eval()
    still, rois = [0.0] * 4, [[8.0, 12, 24, 24], [12.0, 6, 24, 12]]
    deltas = [[0.0, 0, 9, 9, *still, 5, 0, 0, 0], [*still, *still, 9.0, 9, 9, 9]]
    heads_that_say(monkeypatch, network, rois, [[2.0, 1, 5], [5.0, 2, 1]], deltas)
    (found,) = TorchDetector(network).detect(frames(1, size))
    np.testing.assert_allclose(found.boxes, wanted, atol=1e-4)
    np.testing.assert_allclose(found.scores, [5 / 8, 2 / 8], atol=1e-6)
    assert found.labels.tolist() == [1, 0]


def test_height_and_width_have_scales_of_their_own(monkeypatch):
    """A frame of 50 x 33 pixels is 72 x 48 in the network: factors of 50 / 72 and 33 / 48."""
    network = build_detector(replace(TINY)).eval()
    heads_that_say(monkeypatch, network, [[16.0, 36, 48, 72]], [[1.0, 2, 1]], [[0.0] * 12])
    (found,) = TorchDetector(network).detect(frames(1, (50, 33)))
    np.testing.assert_allclose(found.boxes, [[11, 25, 33, 50]], atol=1e-4)


@pytest.mark.parametrize("config", [TINY, replace(TINY, square=64)], ids=["sides", "square"])
def test_the_backbone_sees_red_green_blue_from_0_to_1_when_it_learns_and_when_it_detects(config):
    network = build_detector(config)
    seen = []
    network.rcnn.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[..., 0], frame[:, :32, 1] = 255, 51
    TorchDetector(network).detect([frame])
    network.train()
    picture = torch.from_numpy(frame).permute(2, 0, 1)
    network.losses([picture], [torch.tensor([[5.0, 5, 40, 40]])], [torch.tensor([0])])
    assert len(seen) == 2
    for images in seen:
        torch.testing.assert_close(images[0, :, 10, 10], torch.tensor([1.0, 0.2, 0.0]))
        torch.testing.assert_close(images[0, :, 40, 60], torch.tensor([1.0, 0.0, 0.0]))
        if config.square:
            assert images.shape[2:] == (64, 64) and not images[0, :, 48:].any()


def test_labels_learn_behind_the_background(monkeypatch):
    """Class 0 of the manifest is class 1 of the head, whose class 0 is the background."""
    network, seen = build_detector(replace(TINY)).train(), []
    rcnn = network.rcnn
    monkeypatch.setattr(rcnn, "forward", lambda images, targets: seen.append(targets) or {})
    boxes = [torch.tensor([[5.0, 5, 40, 40], [1, 2, 3, 4]])]
    network.losses([torch.zeros(3, 48, 64, dtype=torch.uint8)], boxes, [torch.tensor([0, 1])])
    ((target,),) = seen
    assert target["labels"].tolist() == [1, 2] and target["boxes"].tolist() == boxes[0].tolist()


def test_the_configuration_is_in_the_network():
    config = replace(TINY, anchors=(10, 30), ratios=(0.5, 2.0), min_size=40, max_size=80)
    config.finetune = replace(config.finetune, rois=17)
    network = build_detector(config)
    rcnn = network.rcnn
    sides = rcnn.rpn.anchor_generator.cell_anchors[0]
    w, h = (sides[:, 2:] - sides[:, :2]).unbind(1)
    np.testing.assert_allclose((h / w).numpy(), [0.5, 0.5, 2, 2], rtol=0.2)
    np.testing.assert_allclose((h * w).sqrt().numpy(), [10, 30, 10, 30], rtol=0.07)
    assert (rcnn.transform.min_size, rcnn.transform.max_size) == ((40,), 80)
    assert rcnn.transform.size_divisible == 8
    assert (rcnn.rpn.pre_nms_top_n(), rcnn.rpn.post_nms_top_n()) == (120, 60)
    network.eval()
    assert (rcnn.rpn.pre_nms_top_n(), rcnn.rpn.post_nms_top_n()) == (60, 30)
    sampler = rcnn.roi_heads.fg_bg_sampler
    assert (sampler.batch_size_per_image, sampler.positive_fraction) == (17, 0.5)
    assert rcnn.roi_heads.box_head.fc6.weight.shape == (16, 16 * 3 * 3)
    assert rcnn.roi_heads.box_predictor.cls_score.out_features == 3


@pytest.mark.parametrize(
    ("changes", "learning", "use"),
    [
        ({"proposals": 30}, (120, 60), (60, 30)),
        ({"proposals": 30, "candidates": 70}, (120, 60), (70, 30)),
        ({"finetune": FineTuneConfig(proposals=11)}, (22, 11), (60, 30)),
        ({"finetune": FineTuneConfig(candidates=44)}, (44, 60), (60, 30)),
    ],
)
def test_the_rpns_boxes_before_and_behind_its_nms(changes, learning, use):
    network = build_detector(replace(TINY, **changes))
    rpn = network.rcnn.rpn
    assert (rpn.pre_nms_top_n(), rpn.post_nms_top_n()) == learning
    network.eval()
    assert (rpn.pre_nms_top_n(), rpn.post_nms_top_n()) == use
    stored = TorchDetector(network).attributes.settings
    assert stored.get("candidates") == changes.get("candidates")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("candidates", {"candidates": -1}),
        ("finetune.candidates", {"finetune": FineTuneConfig(candidates=-1)}),
        ("finetune.proposals", {"finetune": FineTuneConfig(proposals=-1)}),
    ],
)
def test_negative_numbers_of_boxes_are_refused(key, values):
    with pytest.raises(InputError, match=rf"^{key}: wanted 0 or more boxes, got -1$"):
        build_detector(replace(TINY, **values))


def test_what_is_stored_of_a_detector(tiny):
    attributes = tiny.attributes
    assert (attributes.detector, attributes.classes) == ("small", ("adult", "ball"))
    assert attributes.weights == weights_hash(tiny.network) and len(attributes.weights) == 16
    assert attributes.settings == {
        **{"min_size": 48, "max_size": 96, "proposals": 30, "score_threshold": 0.0},
        **{"nms_iou": 0.5, "boxes_per_frame": 100, "precision": "float32"},
    }
    squared = TorchDetector(build_detector(replace(TINY, square=64)))
    assert squared.attributes.settings["square"] == squared.square == 64 and tiny.square == 0


def test_half_precision_is_the_networks_not_the_boxes(monkeypatch):
    network, types = build_detector(replace(TINY, square=64)), []
    for part in (network.rcnn.backbone.stages[0][0], network.rcnn.rpn.head.cls_logits):
        part.register_forward_hook(lambda *arguments: types.append(arguments[2].dtype))
    whole = TorchDetector(network)
    half = whole.computing_in("bfloat16")
    whole.detect(frames(1))
    (found,) = half.detect(frames(1))
    assert types == [torch.float32] * 2 + [torch.bfloat16, torch.float32]
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert half.attributes.settings["precision"] == half.precision == "bfloat16"
    assert half.square == 64 and half.backbone_hash == whole.backbone_hash
    assert whole.computing_in("float32") is whole
    monkeypatch.setattr(half, "_dtype", torch.float16)
    assert half.square == 0  # its maps are nobody else's


LAYERS = ["layer4", "layer3", "layer2", "layer1", "conv1"]


@pytest.mark.parametrize("name", ["resnet50_fpn", "resnet50_fpn_gn"])
@pytest.mark.parametrize("trainable", range(6))
def test_the_top_stages_learn_alone(name, trainable):
    anchors = {"anchors": (8, 16, 32, 64, 128)}
    with torch.device("meta"):
        network = build_detector(DetectorConfig(name, "", ("a",), **anchors))
        network.freeze(5)
        network.freeze(trainable)
    learning = {key for key, p in network.named_parameters() if p.requires_grad}
    body = {key.split("body.")[1].split(".")[0] for key in learning if ".body." in key}
    assert body - {"bn1"} == set(LAYERS[:trainable])
    assert ("bn1" in body) == (trainable == 5 and name.endswith("_gn"))
    assert any(".fpn." in key for key in learning) == (trainable > 0)
    others = {key for key, _ in network.named_parameters() if "backbone" not in key}
    assert others and others <= learning


def test_pyramids_have_norms_that_stay_or_groups():
    with torch.device("meta"):
        frozen, groups = (build_pyramid(name) for name in ("resnet101_fpn", "resnet50_fpn_gn"))
        maps = groups(torch.empty(1, 3, 64, 128))
    norms = [m for m in frozen.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(norms) == 104 and {norm.eps for norm in norms} == {0.0}
    assert not any("bn" in key for key, _ in frozen.named_parameters())
    grouped = [m for m in groups.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert len(grouped) == 53 and {norm.num_groups for norm in grouped} == {32}
    assert {name: tuple(value.shape[1:]) for name, value in maps.items()} == {
        **{"0": (256, 16, 32), "1": (256, 8, 16), "2": (256, 4, 8), "3": (256, 2, 4)},
        "pool": (256, 1, 2),
    }


def test_levels_of_a_pyramid_have_anchors_of_their_own():
    with torch.device("meta"):
        config = replace(PYRAMID, ratios=(1.0,))
        anchors = build_detector(config).rcnn.rpn.anchor_generator
    assert anchors.sizes == ((8,), (16,), (32,), (64,), (128,))
    assert anchors.aspect_ratios == ((1.0,),) * 5
    with pytest.raises(InputError, match="resnet50_fpn_gn wants five, one a level, got 4"):
        build_detector(replace(PYRAMID, anchors=(8, 16, 32, 64)))


def test_a_small_backbone_s_maps_are_those_behind_its_stages():
    backbone, rgb = SmallBackbone((8, 16, 24), (2, 1, 2)), torch.rand(1, 3, 16, 24)
    one, three = backbone.maps(rgb, (0, 2))
    assert (one.shape[1:], three.shape[1:]) == ((8, 8, 12), (24, 4, 6))
    torch.testing.assert_close(three, backbone(rgb))
    torch.testing.assert_close(backbone.stages[2](backbone.stages[1](one)), three)


def test_a_residual_block_begins_as_the_identity_and_adds():
    torch.manual_seed(0)
    block, x = ResidualBlock(8), torch.randn(1, 8, 5, 6)
    torch.testing.assert_close(block(x), x.relu())
    torch.nn.init.constant_(block.norm2.weight, 0.7)
    inner = block.norm2(block.conv2(block.norm1(block.conv1(x)).clamp(min=0)))
    torch.testing.assert_close(block(x), (x + inner).clamp(min=0))
    assert not torch.equal(block(x), x.relu())


class Named(torch.nn.Module):
    """A network with one weight and one buffer."""

    def __init__(self, name: str = "a", weight: float = 1.0, buffer: float = 2.0) -> None:
        super().__init__()
        self.register_parameter(name, torch.nn.Parameter(torch.tensor([weight])))
        self.register_buffer("z", torch.tensor([buffer]))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Named(), True),
        (Named(name="b"), False),
        (Named(weight=1.5), False),
        (Named(buffer=1.5), False),
        (Named(weight=2.0, buffer=1.0), False),
    ],
)
def test_the_hash_is_of_names_weights_and_buffers(other, same):
    assert (weights_hash(Named()) == weights_hash(other)) == same


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tiny, tmp_path, monkeypatch):
    path = tmp_path / "runs" / "d.pt"
    save_detector(tiny.network, path)
    before = path.read_bytes()

    def broken(content, file):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(detector_module.torch, "save", broken)
    with pytest.raises(OSError, match="no space left"):
        save_detector(tiny.network, path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    save_detector(tiny.network, path)
    assert [p.name for p in path.parent.iterdir()] == ["d.pt"]


def test_a_checkpoint_runs_no_code(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    torch.save({"format": "aamn-detector", "version": 1, "x": Harmful()}, tmp_path / "d.pt")
    with pytest.raises(InputError, match=r"d\.pt is no detector, or a damaged one; `aamn "):
        load_detector(tmp_path / "d.pt")
    assert not (tmp_path / "harm").exists()


def test_a_configuration_comes_back_from_a_checkpoint_in_every_value():
    config = replace(TINY, anchors=(3, 5), ratios=(0.3,), finetune=FineTuneConfig(lr=0.7, flip=0.1))
    assert config_from_dict(config_to_dict(config)) == config
    with pytest.raises(InputError, match=r"unknown keys: \['min'\]"):
        config_from_dict({**config_to_dict(config), "min": 1})
    older = config_to_dict(replace(config, backbone_from="s.pt"))
    older["trunk"] = older.pop("backbone_from")
    assert config_from_dict(older).backbone_from == "s.pt"


@pytest.mark.parametrize(("there", "name"), [(True, "cuda"), (False, "cpu")])
def test_the_best_device(monkeypatch, there, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert best_device() == name


def test_a_classification_network_s_weights_go_below_the_heads(monkeypatch, tmp_path):
    """A ResNet's, without its own classes; group norms stand in for what is published."""
    body = torch.nn.Module()
    for name, module in (("conv1", torch.nn.Conv2d(3, 2, 1)), ("layer1", torch.nn.Linear(2, 2))):
        body.add_module(name, module)
    rcnn = torch.nn.Module()
    rcnn.backbone = torch.nn.Module()
    rcnn.backbone.body, rcnn.heads = body, torch.nn.Linear(1, 1)
    state = {key: torch.full_like(value, 3.0) for key, value in body.state_dict().items()}
    extra = {"fc.weight": torch.zeros(5, 5), "layer1.num_batches_tracked": torch.tensor(4)}
    torch.save({**state, **extra}, tmp_path / "r.pt")
    heads = rcnn.heads.weight.clone()
    config = DetectorConfig("resnet50_fpn", str(tmp_path / "r.pt"), ("a",))
    torchvision_rcnn._load_weights(rcnn, config)
    assert all((value == 3).all() for value in body.state_dict().values())
    assert torch.equal(rcnn.heads.weight, heads)
    torch.save({**state, "layer1.weight": torch.zeros(2, 3)}, tmp_path / "r.pt")
    with pytest.raises(InputError, match=r"r\.pt.* \(1 keys .*, such as layer1.weight"):
        torchvision_rcnn._load_weights(rcnn, config)


@pytest.mark.parametrize(
    ("frozen", "eps"), [(FrozenBatchNorm2d, 0.0), (FrozenBatchNorm2d, 1e-5), (BatchNorm2d, 1e-5)]
)
def test_a_classifier_s_norms_keep_their_eps(tmp_path, frozen, eps):
    """Of 1e-5, beside variances for which it matters; an eps of 0, of all our frozen norms, is what
    COCO's weights want, and theirs stay as they are."""
    assert {m.eps for m in torchvision.models.resnet18().modules() if hasattr(m, "eps")} == {1e-5}
    theirs, ours, rcnn = torch.nn.Module(), torch.nn.Module(), torch.nn.Module()
    for body, norm in ((theirs, BatchNorm2d(3)), (ours, frozen(3, eps=eps))):
        body.conv1, body.layer1 = torch.nn.Conv2d(3, 3, 1), torch.nn.Sequential(norm)
    theirs.layer1[0].running_var.copy_(torch.tensor([1e-6, 2e-5, 1.0]))
    torch.nn.init.uniform_(theirs.layer1[0].weight, 0.5, 1.5)
    rcnn.backbone = torch.nn.Module()
    rcnn.backbone.body = ours
    torch.save(theirs.state_dict(), tmp_path / "r.pt")
    config = DetectorConfig("resnet50_fpn", str(tmp_path / "r.pt"), ("a",))
    torchvision_rcnn._load_weights(rcnn, config)
    maps = torch.rand(1, 3, 4, 4)
    wanted = theirs.eval().layer1(theirs.conv1(maps))
    torch.testing.assert_close(ours.eval().layer1(ours.conv1(maps)), wanted)
    torch.save(rcnn.state_dict(), tmp_path / "detector.pt")
    before = ours.layer1[0].running_var.clone()
    torchvision_rcnn._load_weights(rcnn, replace(config, weights=str(tmp_path / "detector.pt")))
    assert torch.equal(ours.layer1[0].running_var, before)


@pytest.mark.parametrize(
    ("weights", "published", "into"),
    [("coco", "_COCO", "_load_detector"), ("imagenet", "_IMAGENET", "_load_body")],
)
@pytest.mark.parametrize("name", ["resnet50_fpn", "resnet50_fpn_v2"])
def test_published_weights_are_those_of_the_name(monkeypatch, weights, published, into, name):
    loaded = []
    monkeypatch.setattr(torchvision_rcnn, "_downloaded", lambda found: found)
    monkeypatch.setattr(torchvision_rcnn, into, lambda *arguments: loaded.append(arguments))
    torchvision_rcnn._load_weights("rcnn", DetectorConfig(name, weights, ("a",)))
    ((rcnn, found, said),) = loaded
    assert rcnn == "rcnn" and found is getattr(torchvision_rcnn, published)[name]
    assert weights in said.lower()


def test_coco_s_classes_are_those_of_its_weights():
    classes = torchvision_rcnn._coco_classes(DetectorConfig())
    assert classes[:2] == ("person", "bicycle") and classes[-1] == "toothbrush"
    assert len(classes) == 90  # with the ten numbers that COCO has no class for


def test_a_checkpoint_rebuilds_itself(tiny, tmp_path):
    save_detector(tiny.network, tmp_path / "detector.pt")
    again = load_detector(tmp_path / "detector.pt")
    assert again.attributes == tiny.attributes
    assert again.network.config == tiny.network.config
    for a, b in zip(tiny.detect(frames(2)), again.detect(frames(2)), strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.scores, b.scores)


def test_the_hash_tells_weights_apart(tiny):
    before = weights_hash(tiny.network)
    with torch.no_grad():
        tiny.network.rcnn.backbone.stages[0][0].weight[0, 0, 0, 0] += 1e-3
    changed = weights_hash(tiny.network)
    with torch.no_grad():
        tiny.network.rcnn.backbone.stages[0][0].weight[0, 0, 0, 0] -= 1e-3
    assert changed != before


def test_class_heads_begin_anew_for_other_classes(tiny, tmp_path):
    save_detector(tiny.network, tmp_path / "detector.pt")
    config = replace(TINY, weights=str(tmp_path / "detector.pt"), classes=("a", "b", "c"))
    state, old = build_detector(config).state_dict(), tiny.network.state_dict()
    for key, value in state.items():
        same = value.shape == old[key].shape and value.equal(old[key])
        assert same != ("box_predictor" in key)


@pytest.mark.parametrize("name", ["resnet50_fpn", "resnet50_fpn_v2", "resnet101_fpn"])
def test_the_large_detectors_detect_and_learn(name):
    torch.manual_seed(0)
    config = DetectorConfig(name, "", ("a",), min_size=64, max_size=96, proposals=5)
    config.score_threshold = 0.0
    network = build_detector(config).train()
    network.freeze(3)
    learning = {k for k, p in network.named_parameters() if p.requires_grad}
    body = {k.split("body.")[1].split(".")[0] for k in learning if "body." in k}
    assert body == {"layer2", "layer3", "layer4"}
    frame = torch.from_numpy(frames(1, (48, 64))[0]).permute(2, 0, 1)
    losses = network.losses([frame], [torch.tensor([[5.0, 5, 40, 40]])], [torch.tensor([0])])
    assert set(losses) == {
        "loss_classifier",
        "loss_box_reg",
        "loss_objectness",
        "loss_rpn_box_reg",
    }
    (found,) = TorchDetector(network).detect(frames(1))
    assert (found.boxes >= 0).all()


def test_small_backbone_shapes_and_names():
    backbone = SmallBackbone((8, 16), (2, 4))
    assert backbone(torch.rand(2, 3, 32, 48)).shape == (2, 16, 4, 6)
    assert backbone.out_channels == 16
    assert {key for key in backbone.state_dict() if key.startswith("stages.1.")} == {
        f"stages.1.{key}"
        for key in (
            "0.weight",
            "1.weight",
            "1.bias",
            "2.conv1.weight",
            "2.norm1.weight",
            "2.norm1.bias",
            "2.conv2.weight",
            "2.norm2.weight",
            "2.norm2.bias",
        )
    }


def test_small_backbone_normalises_inside():
    torch.manual_seed(0)
    backbone = SmallBackbone((8,), (2,))
    rgb = torch.rand(1, 3, 8, 8)
    conv, norm, block = backbone.stages[0]
    expected = block(norm(conv((rgb - 0.5) / 0.25)).relu())
    torch.testing.assert_close(backbone(rgb), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "yolo"}, "detector 'yolo': wanted one of small, resnet50_fpn"),
        ({"classes": ()}, "weights '': wanted `classes`"),
        ({"widths": (8, 12, 16, 16)}, "multiples of 8"),
        ({"strides": (2, 2)}, "as many strides as widths"),
        ({"weights": "coco"}, "no coco weights for 'small', only for resnet50_fpn"),
        ({"weights": "imagenet"}, "no imagenet weights for 'small'"),
        ({"weights": "imagenet", "name": "small"}, "give a file, or weights: ''"),
        ({"weights": "coco", "name": "resnet101_fpn"}, "no coco weights for 'resnet101_fpn'"),
        ({"weights": "/nowhere/w.pt"}, "no weight file at /nowhere/w.pt"),
    ],
)
def test_configurations_that_cannot_be_built(changes, message):
    with pytest.raises(InputError, match=message):
        build_detector(replace(TINY, **changes))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "w.pt is no weight file, or a damaged one"),
        ([1, 2], "w.pt: wanted a dictionary of weights, got list"),
        ({"conv1.weight": torch.zeros(1)}, "these are a ResNet's weights"),
        ({"x": torch.zeros(1)}, "the weights are of another network .* keys or shapes differ"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, content, message):
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=message):
        build_detector(replace(TINY, weights=str(path)))


@pytest.mark.parametrize(
    ("name", "devices"), [("small", ["meta"]), ("detectron2_faster_rcnn_R_50_FPN_1x", ["cpu"])]
)
def test_sizes_are_compared_before_memory_is_taken(monkeypatch, name, devices):
    """But for detectron2's, whose recipes say how large they are."""
    built = []

    def build(config):
        built.append(torch.empty(0).device.type)
        return torch.nn.Linear(2, 2)

    config = config_to_dict(replace(TINY, name=name))
    content = {"format": "aamn-detector", "version": 1, "config": config, "state": {}}
    monkeypatch.setattr(build_module, "read_mapping", lambda *_: content)
    monkeypatch.setattr(build_module, "build_detector", build)
    with pytest.raises(InputError, match=r"d\.pt: its weights do not fit the configuration"):
        build_module.load_network("d.pt")
    assert built == devices


def test_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    """No cache and no network: the line names the address and where the file is looked for."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    config = replace(TINY, name="resnet50_fpn", weights="coco", classes=())
    with pytest.raises(InputError, match=r"cannot download https://.*fasterrcnn_resnet50.*put it"):
        build_detector(config)


def test_a_frame_without_proposals_has_no_boxes(tiny, monkeypatch):
    def nothing(images, *_):
        return [torch.zeros(0, 4) for _ in images.image_sizes], {}

    monkeypatch.setattr(type(tiny.network.rcnn.rpn), "forward", lambda _, *given: nothing(*given))
    for found in tiny.detect(frames(2)):
        assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "is no detector checkpoint; `aamn train-detector` writes one"),
        ({"format": "aamn-detector", "version": 9}, "version 9 of the detector checkpoint"),
        (
            {"format": "aamn-detector", "version": 1, "config": {"finetune": {"x": 1}}},
            r"unknown keys: \['x'\]",
        ),
    ],
)
def test_checkpoints_that_are_none(tmp_path, content, message):
    torch.save(content, tmp_path / "d.pt")
    with pytest.raises(InputError, match=message):
        load_detector(tmp_path / "d.pt")


def test_half_precision_needs_a_gpu(tiny):
    with pytest.raises(InputError, match="precision float16 needs a GPU"):
        TorchDetector(tiny.network, "float16")


def test_a_family_without_a_form_in_bfloat16_says_so():
    network = TrainableDetector(replace(TINY, name="other"))
    network.layer = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match="other: precision bfloat16 needs a GPU; use float32"):
        TorchDetector(network, "bfloat16")


def test_unknown_precision(tiny):
    with pytest.raises(InputError, match="wanted one of float32, float16, bfloat16"):
        TorchDetector(tiny.network, "int8")


def squares(config):
    torch.manual_seed(1)
    return TorchDetector(build_detector(config))


PYRAMID = DetectorConfig(
    name="resnet50_fpn_gn", weights="", classes=("adult",), proposals=10, square=64,
    score_threshold=0.0, anchors=(8, 16, 32, 64, 128),
)  # fmt: skip


@pytest.mark.parametrize("config", [replace(TINY, square=64), PYRAMID], ids=lambda c: c.name)
@pytest.mark.parametrize("size", [(48, 64), (96, 128), (40, 120), (120, 40)], ids=str)
def test_boxes_from_maps_of_the_same_squares_are_those_of_the_frames(config, size):
    """The squares made as stage two makes them: bytes scaled, black around, then [0, 1]."""
    detector, pictures = squares(config), frames(2, size)
    content = fitted_size(size, (64, 64))
    images = torch.zeros(2, 64, 64, 3)
    for image, picture in zip(images, pictures, strict=True):
        image[: content[0], : content[1]] = torch.from_numpy(resize_frame(picture, content))
    images = images.permute(0, 3, 1, 2).div_(255)
    rcnn = detector.network.rcnn
    with torch.inference_mode():
        found = rcnn.backbone(rcnn.transform.normalize(images))
    maps = [found] if isinstance(found, torch.Tensor) else list(found.values())[:-1]
    apart = detector.detect(pictures)
    for one, other in zip(apart, detector.detect_from(images, maps, size), strict=True):
        assert len(one.boxes)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_long_frames_pool_at_the_maps_own_strides():
    """A frame that covers a quarter of its square: the maps still have strides 4 to 32."""
    detector = squares(PYRAMID)
    detector.detect(frames(1, (16, 64)))
    assert detector.network.rcnn.roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_in_squares_boxes_learn_in_pixels_of_the_network():
    transform = squares(replace(TINY, square=64)).network.rcnn.transform
    boxes = torch.tensor([[10.0, 20, 30, 60]])
    images, (target,) = transform([torch.rand(3, 96, 128)], [{"boxes": boxes}])
    assert images.image_sizes == [(48, 64)] and images.tensors.shape == (1, 3, 64, 64)
    torch.testing.assert_close(target["boxes"], boxes / 2)
    assert torch.equal(boxes, torch.tensor([[10.0, 20, 30, 60]]))


@pytest.mark.parametrize("size", [(240, 320), (360, 640), (33, 100), (1, 500), (77, 77)], ids=str)
@pytest.mark.parametrize("square", [48, 160, 320])
def test_squares_are_those_of_stage_two(size, square):
    assert fitted_size(size, (square, square)) == Geometry.fit(size, (square, square)).content_size


@pytest.mark.parametrize(("config", "stride"), [(TINY, 8), (PYRAMID, 32)])
def test_a_square_that_the_backbone_cannot_divide_is_refused(config, stride):
    with pytest.raises(InputError, match=f"multiple of {stride} pixels, got 50"):
        build_detector(replace(config, square=50))


def test_with_no_trainable_stage_only_the_heads_learn():
    for config in (TINY, PYRAMID):
        network = build_detector(config)
        network.freeze(0)
        learning = {name.split(".")[1] for name, p in network.named_parameters() if p.requires_grad}
        assert learning == {"rpn", "roi_heads"}
        network.freeze(5)
        assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("config", [TINY, PYRAMID], ids=lambda c: c.name)
def test_the_backbone_may_come_from_a_segmenter(tmp_path, config):
    torch.manual_seed(3)
    donor = build_detector(config).backbone.state_dict()
    state = {f"streams.rgb.backbone.x.{key}": value for key, value in donor.items()}
    state |= {f"streams.flow.backbone.x.{key}": value + 1 for key, value in donor.items()}
    torch.save({"model": state}, tmp_path / "s.pt")
    torch.manual_seed(4)
    first = build_detector(config)
    save_detector(first, tmp_path / "d.pt")
    sources = {"weights": str(tmp_path / "d.pt"), "backbone_from": str(tmp_path / "s.pt")}
    network = build_detector(replace(config, **sources))
    for key, value in donor.items():
        assert torch.equal(network.backbone.state_dict()[key], value)
    heads = first.rcnn.roi_heads.state_dict()
    assert all(torch.equal(network.rcnn.roi_heads.state_dict()[k], v) for k, v in heads.items())
    save_detector(network, tmp_path / "e.pt")
    (tmp_path / "s.pt").unlink()
    assert TorchDetector(network).backbone_hash == load_detector(tmp_path / "e.pt").backbone_hash
    torch.save({"model": {}}, tmp_path / "s.pt")
    with pytest.raises(InputError, match=r"s\.pt holds no segmenter with a backbone"):
        build_detector(replace(config, **sources))


def test_the_papers_detector():
    """Sec. III-A and IV-B: ResNet-101, from COCO. The RPN's numbers are those of detectron2's
    Base-RCNN-FPN.yaml: PRE_NMS_TOPK 2000 and 1000, POST_NMS_TOPK 1000 and 1000."""
    config = load_config(DetectorConfig, CONFIGS / "detector_detectron2_r101.yaml")
    assert (config.name, config.weights) == ("detectron2_faster_rcnn_R_101_FPN_3x", "coco")
    assert config.rpn == RPNLimits(
        training_candidates=2000, training_proposals=1000, candidates=1000, proposals=1000
    )


RECIPES = [p for p in sorted(CONFIGS.glob("detector_*.yaml")) if "detectron2" not in p.name]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_builds_its_detector(path):
    config = load_config(DetectorConfig, path)
    with torch.device("meta"):
        network = build_detector(replace(config, weights="", backbone_from="", classes=("adult",)))
    assert getattr(network.rcnn.transform, "square", 0) == config.square
