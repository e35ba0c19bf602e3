"""Backbones and streams: strides, normalisation, starting weights."""

import pytest
import torch
import torchvision
from tiny_models import tiny_config, tiny_segmenter
from torch import nn

from aamn.config import BackboneConfig
from aamn.models.build import start_backbones
from aamn.models.visual import FlowStream, Stream, load_backbone
from proposals.backbones import SmallBackbone
from proposals.errors import InputError

SMALL = BackboneConfig(name="small", widths=(8, 16), strides=(2, 2), fc=12)


def stream(name, fc=8):
    torch.manual_seed(0)
    return Stream(BackboneConfig(name=name, fc=fc))


@pytest.mark.parametrize(("name", "channels"), [("vgg16", 512), ("resnet50", 1024)])
def test_maps_have_stride_16(name, channels):
    built = stream(name)
    (maps,) = built(torch.rand(1, 3, 64, 96))
    assert maps.shape == (1, channels, 4, 6)


def test_vgg_stream_is_torchvisions_vgg():
    built, vgg = stream("vgg16"), torchvision.models.vgg16(weights=None).eval()
    images = torch.rand(1, 3, 32, 48)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    layers = [m for m in built.backbone.stages.modules() if isinstance(m, nn.Conv2d)]
    theirs = [m for m in vgg.features if isinstance(m, nn.Conv2d)]
    for layer, other in zip(layers, theirs, strict=True):
        layer.load_state_dict(other.state_dict())
    torch.testing.assert_close(built(images)[0], vgg.features[:30](normalised))


@pytest.mark.parametrize("wrapped", [False, True])
def test_vgg_starts_from_a_classifiers_file_with_its_fully_connected_layers(tmp_path, wrapped):
    built = stream("vgg16", fc=16)
    source = torchvision.models.vgg16(weights=None).features.state_dict()
    weights = {f"features.{key}": value for key, value in source.items()}
    weights["classifier.0.weight"] = torch.randn(16, 512 * 49)
    weights["classifier.3.weight"] = torch.randn(16, 16)
    weights["classifier.0.bias"] = weights["classifier.3.bias"] = torch.randn(16)
    path = tmp_path / "vgg.pt"
    torch.save({"state_dict": weights} if wrapped else weights, path)
    load_backbone(built, "vgg16", str(path))
    first = next(m for m in built.backbone.modules() if isinstance(m, nn.Conv2d))
    assert torch.equal(first.weight, weights["features.0.weight"])
    assert torch.equal(built.head[1].weight, weights["classifier.0.weight"])
    assert torch.equal(built.head[4].weight, weights["classifier.3.weight"])


def test_resnet_starts_from_a_detectors_file(tmp_path):
    built = stream("resnet50")
    weights = torchvision.models.resnet50(weights=None).state_dict()
    torch.save({f"backbone.body.{key}": value for key, value in weights.items()}, tmp_path / "d.pt")
    load_backbone(built, "resnet50", str(tmp_path / "d.pt"))
    assert torch.equal(built.backbone.stages[3][5].conv3.weight, weights["layer3.5.conv3.weight"])
    assert torch.equal(built.backbone.stages[0][0].weight, weights["conv1.weight"])


def test_both_streams_of_a_model_start_from_its_detector(tmp_path):
    body = SmallBackbone((8, 16), (4, 2))
    head = {"fc6.weight": torch.randn(12, 16 * 49), "fc7.weight": torch.randn(12, 12)}
    head |= {"fc6.bias": torch.randn(12), "fc7.bias": torch.randn(12)}
    weights = {f"rcnn.backbone.{k}": v for k, v in body.state_dict().items()}
    weights |= {f"rcnn.roi_heads.box_head.{k}": v for k, v in head.items()}
    torch.save({"state": weights}, tmp_path / "detector.pt")
    file = f"={tmp_path / 'detector.pt'}"
    overrides = ("aamn.backbone.weights" + file, "aamn.backbone.flow_weights" + file)
    segmenter = tiny_segmenter(*overrides)
    start_backbones(segmenter, tiny_config(*overrides))
    for built in segmenter.streams.values():
        assert torch.equal(built.backbone.stages[1][0].weight, body.stages[1][0].weight)
        assert torch.equal(built.head[4].weight, head["fc7.weight"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no weight file at .*; backbone.weights names it"),
        (b"junk", "is no weight file, or a damaged one; backbone.weights names it"),
        ({"a": torch.zeros(1)}, "holds no small"),
        ({"stages.0.0.weight": torch.zeros(1)}, r"wanted stages\.0\.0\.weight of shape"),
    ],
)
def test_unusable_weights_are_one_clear_line(tmp_path, content, message):
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message) as error:
        load_backbone(Stream(SMALL), "small", str(path))
    assert str(path) in str(error.value)


def test_flow_frames_are_x_y_and_magnitude():
    built = FlowStream(SMALL)
    flow = torch.tensor([3.0, -4.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    seen = built.prepare(flow)
    unit = SMALL.flow_range
    expected = [3 / unit / 2 + 0.5, -4 / unit / 2 + 0.5, 5 / unit / 2 + 0.5]
    torch.testing.assert_close(seen[0, :, 0, 0], torch.tensor(expected))


def test_region_features_pool_the_region():
    """A map that is constant inside the region gives its constant in every cell."""
    built = Stream(SMALL)
    maps = torch.zeros(2, 16, 12, 12)
    maps[1, :, 4:9, 3:10] = 2.5
    regions = torch.tensor([[1.0, 16, 20, 36, 32], [0, 16, 20, 36, 32]])
    grids = built.grids([maps], regions, 7)
    torch.testing.assert_close(grids[0], torch.full((16, 7, 7), 2.5))
    assert not grids[1].any()


def test_frozen_stages_do_not_learn():
    built = Stream(
        BackboneConfig(name="small", widths=(8, 16), strides=(2, 2), fc=4, frozen_stages=1)
    )
    learning = {name for name, p in built.backbone.named_parameters() if p.requires_grad}
    assert learning and all(name.startswith("stages.1.") for name in learning)
