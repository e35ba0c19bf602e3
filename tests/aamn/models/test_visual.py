"""Backbones and streams: strides, normalisation, starting weights."""

import pytest
import torch
import torchvision
from tiny_models import random_sample, tiny_config, tiny_segmenter
from torch import nn
from torch.nn import functional
from torchvision.models.vgg import cfgs, make_layers
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from aamn.config.schema import BackboneConfig
from aamn.models.build import start_backbones
from aamn.models.visual import FlowStream, Stream, load_backbone, pyramid_levels
from proposals.backbones import SmallBackbone, build_pyramid
from proposals.errors import InputError

SMALL = BackboneConfig(name="small", widths=(8, 16), strides=(2, 2), fc=12)


def stream(name, fc=8):
    torch.manual_seed(0)
    return Stream(BackboneConfig(name=name, fc=fc))


@pytest.fixture(scope="module")
def vgg():
    return stream("vgg16", fc=16)


@pytest.fixture(scope="module")
def resnet():
    return stream("resnet50")


def normalised(images):
    """As ImageNet's weights want it, channel by channel."""
    channels = zip(images.unbind(1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    return torch.stack([(values - mean) / std for values, mean, std in channels], 1)


def test_an_untrained_vgg_starts_as_torchvisions():
    """Normal weights of variance 2 / (outputs x kernel), no bias (He et al., ICCV 2015)."""
    backbone = stream("vgg16").backbone
    layers = [layer for layer in backbone.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    for layer in layers:
        wanted = (2 / (9 * layer.out_channels)) ** 0.5
        assert layer.weight.detach().std().item() == pytest.approx(wanted, rel=0.1)
        assert not layer.bias.any()


def test_vgg_starts_from_a_classifiers_file_and_is_torchvisions_then(tmp_path, vgg):
    features = make_layers(cfgs["D"])  # torchvision's VGG-16
    weights = {f"features.{key}": value for key, value in features.state_dict().items()}
    for name, shape in (("0", (16, 512 * 49)), ("3", (16, 16))):
        weights[f"classifier.{name}.weight"] = torch.randn(shape) / shape[1] ** 0.5
        weights[f"classifier.{name}.bias"] = torch.randn(16)
    torch.save(weights, tmp_path / "vgg.pt")
    load_backbone(vgg, "vgg16", str(tmp_path / "vgg.pt"))
    images, region = torch.rand(1, 3, 64, 96), torch.tensor([[0.0, 20, 8, 70, 60]])
    with torch.no_grad():
        (maps,) = vgg.eval()(images)
        torch.testing.assert_close(maps, features[:30](normalised(images)))
        assert maps.shape == (1, 512, 4, 6)
        x = roi_align(maps, region, 7, 1 / 16, 0, aligned=True).flatten(1)
        for name in ("0", "3"):
            layer = (weights[f"classifier.{name}.{part}"] for part in ("weight", "bias"))
            x = functional.linear(x, *layer).relu()
        torch.testing.assert_close(vgg.features((maps,), region), x)


def test_resnet_starts_from_a_detectors_file_and_is_torchvisions_then(tmp_path, resnet):
    theirs = torchvision.models.resnet50(weights=None).eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            nn.init.normal_(layer.bias, std=0.1)
    weights = {f"backbone.body.{key}": value for key, value in theirs.state_dict().items()}
    torch.save(weights, tmp_path / "d.pt")
    load_backbone(resnet, "resnet50", str(tmp_path / "d.pt"))
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        (maps,) = resnet(images)
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(normalised(images)))))
        wanted = theirs.layer3(theirs.layer2(theirs.layer1(x)))
    assert maps.shape == (1, 1024, 4, 6)
    torch.testing.assert_close(maps, wanted, rtol=1e-3, atol=1e-4)


class Asked(Exception):
    """Instead of a download."""


@pytest.mark.parametrize("name", ["VGG16", "ResNet50", "ResNet101"])
def test_imagenet_weights_are_torchvisions_of_that_network(name, monkeypatch):
    def ask(self, *args, **kwargs):
        raise Asked(f"{type(self).__name__} {self.name}")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", ask)
    with pytest.raises(Asked, match=f"^{name}_Weights IMAGENET1K_V1$"):
        load_backbone(Stream(SMALL), name.lower(), "imagenet")


def test_imagenet_weights_that_cannot_be_had_are_one_clear_line(monkeypatch):
    def fail(self, *args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", fail)
    with pytest.raises(InputError, match=r"backbone\.weights: .* vgg16 .*no route"):
        load_backbone(Stream(SMALL), "vgg16", "imagenet")
    with pytest.raises(InputError, match=r"backbone\.weights: .* 'small'"):
        load_backbone(Stream(SMALL), "small", "imagenet")


def small_weights(prefix, fc=12, **kept):
    """A file's tensors of `SMALL`, and a box head of that width."""
    weights = {f"{prefix}{k}": v for k, v in SmallBackbone((8, 16), (2, 2)).state_dict().items()}
    for name, shape in (("fc6", (fc, 16 * 49)), ("fc7", (fc, fc))):
        weights[f"box_head.{name}.weight"] = torch.randn(shape)
        weights[f"box_head.{name}.bias"] = torch.randn(fc)
    return weights | kept


def test_every_tensor_of_a_small_network_is_the_files_but_not_its_normalisation(tmp_path):
    """Of two networks in a file, the one whose names begin with less."""
    weights = small_weights("rcnn.backbone.")
    weights |= {f"twin.{key}": value + 1 for key, value in small_weights("rcnn.backbone.").items()}
    weights["rcnn.backbone.mean"] = torch.full((3, 1, 1), 9.0)
    torch.save(dict(reversed(weights.items())), tmp_path / "d.pt")
    built = Stream(SMALL)
    load_backbone(built, "small", str(tmp_path / "d.pt"))
    own = built.backbone.state_dict()
    assert own["mean"].unique().tolist() == [0.5]
    for key in own.keys() - {"mean", "std"}:
        assert torch.equal(own[key], weights[f"rcnn.backbone.{key}"])


@pytest.mark.parametrize(("fc", "fits"), [(12, True), (11, False)])
def test_fully_connected_layers_are_the_files_where_both_fit(tmp_path, caplog, fc, fits):
    weights = small_weights("", fc)
    weights["box_head.fc7.weight"] = torch.randn(fc, fc)
    torch.save(weights, tmp_path / "d.pt")
    built = Stream(SMALL)
    before = {key: value.clone() for key, value in built.head.state_dict().items()}
    with caplog.at_level("INFO", "aamn"):
        load_backbone(built, "small", str(tmp_path / "d.pt"))
    places = {"1": "fc6", "4": "fc7"}
    for key, value in built.head.state_dict().items():
        place, part = key.split(".")
        wanted = weights[f"box_head.{places[place]}.{part}"] if fits else before[key]
        assert torch.equal(value, wanted)
    assert (str(tmp_path / "d.pt") in caplog.text) == fits


def test_one_fully_connected_layer_alone_is_not_taken(tmp_path):
    weights = small_weights("")
    weights["box_head.fc7.weight"] = torch.randn(11, 12)
    torch.save(weights, tmp_path / "d.pt")
    built = Stream(SMALL)
    before = built.head[1].weight.clone()
    load_backbone(built, "small", str(tmp_path / "d.pt"))
    assert torch.equal(built.head[1].weight, before)


def test_a_stream_of_maps_alone_starts_without_fully_connected_layers(tmp_path):
    weights = small_weights("")
    torch.save(weights, tmp_path / "d.pt")
    built = Stream(SMALL, described=False)
    load_backbone(built, "small", str(tmp_path / "d.pt"))
    assert built.head is None
    assert torch.equal(built.backbone.stages[0][0].weight, weights["stages.0.0.weight"])


def test_each_stream_starts_from_the_file_that_names_it(tmp_path):
    """And one without a file stays random."""
    files = {}
    for name in ("rgb", "flow"):
        weights = small_weights("")
        files[name] = weights["stages.1.0.weight"]
        torch.save(weights, tmp_path / f"{name}.pt")
    keys = {"rgb": "aamn.backbone.weights", "flow": "aamn.backbone.flow_weights"}
    for named in ({"rgb"}, {"flow"}, {"rgb", "flow"}):
        overrides = ["aamn.backbone.strides=[2,2]"]
        overrides += [f"{keys[name]}={tmp_path / name}.pt" for name in named]
        segmenter = tiny_segmenter(*overrides)
        start_backbones(segmenter, tiny_config(*overrides))
        for name, built in segmenter.streams.items():
            weight = built.backbone.stages[1][0].weight
            source = [file for file, value in files.items() if torch.equal(weight, value)]
            assert source == [name] * (name in named)


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


def test_roi_features_pool_the_region():
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


def test_frozen_stages_of_each_stream_learn_nothing_and_the_rest_does():
    segmenter = tiny_segmenter(
        "aamn.backbone.frozen_stages=1", "aamn.backbone.flow_frozen_stages=2"
    ).train()
    segmenter([random_sample(segmenter)])["total"].backward()
    learned = {
        name.split(".backbone.")[0] + "." + name.split(".")[4]
        for name, parameter in segmenter.streams.named_parameters(prefix="streams")
        if ".backbone." in name and parameter.grad is not None
    }
    assert learned == {"streams.rgb.1"}


@pytest.mark.parametrize(("detail", "stage", "channels"), [(2, 1, 16), (4, 2, 24)])
def test_the_detail_is_the_last_map_of_its_stride_before_the_pooled_one(detail, stage, channels):
    """Strides 2, 2, 4, 4; regions lie at the same place in both maps."""
    torch.manual_seed(0)
    config = BackboneConfig(
        name="small", widths=(8, 16, 24, 32), strides=(2, 1, 2, 1), roi_samples=2
    )
    built = Stream(config, described=False, detail_stride=detail)
    assert built.detail_channels == channels
    images, region = torch.rand(2, 3, 32, 32), torch.tensor([[1.0, 4, 6, 20, 30]])
    with torch.no_grad():
        maps = built(images)
        every = built.backbone.maps(images, range(4))
        (found,) = built.details(maps, region, 6)
        coarse = built.grids(maps, region, 3)
    wanted = roi_align(every[stage], region, 6, 1 / detail, 2, aligned=True)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(coarse, roi_align(every[3], region, 3, 1 / 4, 2, aligned=True))


def test_no_other_stride_can_be_the_detail():
    config = BackboneConfig(name="small", widths=(8, 8, 8), strides=(2, 2, 2))
    with pytest.raises(InputError, match=r"detail_stride: 0 or one of \[2, 4\], got 8"):
        Stream(config, detail_stride=8)


def test_the_backbones_hash_is_of_the_rgb_backbone_alone():
    segmenter, rgb = tiny_segmenter(), ("aamn.streams=flow", "aamn.link_features=flow")
    before = segmenter.backbone_hash
    with torch.no_grad():
        segmenter.streams["flow"].backbone.stages[0][0].weight.add_(1)
        segmenter.streams["rgb"].head[1].weight.add_(1)
        assert segmenter.backbone_hash == before == segmenter.streams["rgb"].backbone_hash
        segmenter.streams["rgb"].backbone.stages[0][0].weight[0, 0, 0, 0] += 1e-3
    assert segmenter.backbone_hash != before
    assert tiny_segmenter(*rgb, "aamn.mask_head.features=flow").backbone_hash == ""


PYRAMID = BackboneConfig(name="resnet50_fpn_gn", flow_name="small", fc=6, roi_samples=2)


@pytest.fixture(scope="module")
def pyramid():
    torch.manual_seed(0)
    return Stream(PYRAMID).eval()


def test_a_pyramid_is_the_detectors_backbone_on_normalised_images(pyramid):
    images = torch.rand(1, 3, 64, 96)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    backbone = build_pyramid("resnet50_fpn_gn").eval()
    backbone.load_state_dict(pyramid.backbone.network.state_dict())
    with torch.no_grad():
        found = pyramid(images)
        wanted = backbone((images - mean.view(3, 1, 1)) / std.view(3, 1, 1))
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


def test_a_pyramid_that_begins_at_stride_8_has_one_level_less():
    """Sides of 56 to 448: strides 4 and 8 are one, then 16 and 32."""
    sides = torch.tensor([56.0, 112, 223, 224, 448, 1000])
    regions = torch.stack([sides * 0, sides * 0, sides * 0, sides, sides], 1)
    assert pyramid_levels(regions, 3, 8).tolist() == [0, 0, 0, 1, 2, 2]


@pytest.mark.parametrize("name", ["mobilenet_fpn", "mobilenet_fpn_gn"])
def test_a_light_pyramid_has_maps_of_strides_8_to_32(name):
    with torch.device("meta"):
        stream = Stream(BackboneConfig(name=name, fc=6, frozen_stages=5), detail_stride=8).eval()
        maps = stream(torch.empty(2, 3, 64, 96))
    assert [one.shape[1:] for one in maps] == [(128, 8, 12), (128, 4, 6), (128, 2, 3)]
    assert stream.detail_channels == 128 and stream.backbone.pooled == (0, 1, 2)
    learning = {key.split(".")[2] for key, p in stream.named_parameters() if p.requires_grad
                and key.startswith("backbone")}  # fmt: skip
    assert learning == {"fpn"}


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
    own = pyramid.backbone.network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in source.state_dict().items())
    assert torch.equal(pyramid.head[1].weight, head["fc6.weight"])
