"""Backbones and streams: strides, normalisation, starting weights."""

import pytest
import torch
import torchvision
from tiny_models import tiny_config, tiny_segmenter
from torch import nn
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from aamn.config import BackboneConfig
from aamn.models.build import start_backbones
from aamn.models.visual import FlowStream, Stream, load_backbone, pyramid_levels
from proposals.backbones import SmallBackbone, build_pyramid
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


def test_half_precision_does_not_move_regions():
    """bfloat16 numbers near 300 are two apart: a map that is its own x coordinate shows it."""
    built = Stream(SMALL)
    maps = (torch.arange(100.0) - 75).expand(1, 16, 100, 100)
    region = torch.tensor([[0.0, 300.8, 300.8, 301, 301]])
    with torch.autocast("cpu", torch.bfloat16):
        found = built.grids([maps.bfloat16()], region, 1)
    wanted = torch.full((1, 16, 1, 1), 300.9 / 4 - 0.5 - 75)
    torch.testing.assert_close(found.float(), wanted, atol=2e-3, rtol=0)


def test_frozen_stages_do_not_learn():
    built = Stream(
        BackboneConfig(name="small", widths=(8, 16), strides=(2, 2), fc=4, frozen_stages=1)
    )
    learning = {name for name, p in built.backbone.named_parameters() if p.requires_grad}
    assert learning and all(name.startswith("stages.1.") for name in learning)


PYRAMID = BackboneConfig(name="resnet50_fpn_gn", flow_name="small", fc=6, roi_samples=2)


@pytest.fixture(scope="module")
def pyramid():
    torch.manual_seed(0)
    return Stream(PYRAMID).eval()


def test_a_pyramid_is_the_detectors_trunk_on_normalised_images(pyramid):
    images = torch.rand(1, 3, 64, 96)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    trunk = build_pyramid("resnet50_fpn_gn").eval()
    trunk.load_state_dict(pyramid.backbone.trunk.state_dict())
    with torch.no_grad():
        found = pyramid(images)
        wanted = trunk((images - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert [tuple(one.shape[2:]) for one in found] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    for name, one in zip("0123", found, strict=True):
        torch.testing.assert_close(one, wanted[name])


def test_levels_are_those_of_torchvisions_detectors():
    corner = torch.rand(200, 2) * 100
    boxes = torch.cat([corner, corner + torch.rand(200, 2) ** 3 * 900], 1)
    boxes[0] = torch.tensor([0, 0, 224, 224])
    regions = torch.cat([torch.zeros(200, 1), boxes], 1)
    found = pyramid_levels(regions, 4)
    assert torch.equal(found, LevelMapper(2, 5)([boxes])) and found[0] == 2
    assert set(found.tolist()) == {0, 1, 2, 3}
    assert pyramid_levels(torch.zeros(1, 5), 4).tolist() == [0]


def test_each_region_is_pooled_from_the_level_of_its_size(pyramid):
    g = torch.Generator().manual_seed(1)
    maps = [torch.rand(2, 256, 128 // 2**n, 128 // 2**n, generator=g) for n in range(4)]
    sides = torch.tensor([300, 20, 120, 500, 60, 250, 30.0])
    corner = torch.tensor([[3.0, 5.0]]).expand(7, 2)
    boxes = torch.cat([corner, corner + sides[:, None]], 1)
    regions = torch.cat([torch.tensor([[0.0, 1, 0, 1, 1, 0, 0]]).T, boxes], 1)
    found = pyramid.grids(maps, regions, 3)
    for region, grid, level in zip(regions, found, [2, 0, 1, 3, 0, 2, 0], strict=True):
        wanted = roi_align(maps[level], region[None], 3, 1 / 4 / 2**level, 2, aligned=True)
        torch.testing.assert_close(grid, wanted[0])


def test_the_finest_level_can_be_the_detail_of_masks():
    built = Stream(PYRAMID, described=False, detail_stride=4).eval()
    assert built.kept == (0, 1, 2, 3) and built.detail_channels == 256
    maps = [torch.rand(1, 256, 32 // 2**n, 32 // 2**n) for n in range(4)]
    region = torch.tensor([[0.0, 2, 2, 126, 126]])
    (found,) = built.details(maps, region, 28)
    torch.testing.assert_close(found, roi_align(maps[0], region, 28, 0.25, 2, aligned=True))


def test_streams_may_have_networks_of_their_own():
    flow = FlowStream(PYRAMID)
    assert isinstance(flow.backbone, SmallBackbone)
    assert flow.features(flow(torch.rand(1, 2, 32, 32)), torch.tensor([[0.0, 0, 0, 9, 9]])).shape


@pytest.mark.parametrize(("stages", "learning"), [(0, 6), (2, 4), (6, 0)])
def test_a_pyramids_stages_are_frozen_from_below(stages, learning):
    with torch.device("meta"):
        built = Stream(BackboneConfig(name="resnet50_fpn_gn", frozen_stages=stages))
    parts = [{p.requires_grad for p in stage.parameters()} for stage in built.backbone.stages]
    assert parts == [{False}] * stages + [{True}] * learning
    counted = sum(p.numel() for stage in built.backbone.stages for p in stage.parameters())
    assert counted == sum(p.numel() for p in built.backbone.parameters())


def test_a_pyramid_starts_from_a_detectors_file_with_its_box_head(tmp_path, pyramid):
    source = build_pyramid("resnet50_fpn_gn")
    weights = {f"rcnn.backbone.{k}": v for k, v in source.state_dict().items()}
    head = {"fc6.weight": torch.randn(6, 256 * 49), "fc7.weight": torch.randn(6, 6)}
    head |= {"fc6.bias": torch.randn(6), "fc7.bias": torch.randn(6)}
    weights |= {f"rcnn.roi_heads.box_head.{k}": v for k, v in head.items()}
    torch.save({"state": weights}, tmp_path / "d.pt")
    load_backbone(pyramid, "resnet50_fpn_gn", str(tmp_path / "d.pt"))
    own = pyramid.backbone.trunk.state_dict()
    assert all(torch.equal(own[key], value) for key, value in source.state_dict().items())
    assert torch.equal(pyramid.head[1].weight, head["fc6.weight"])
