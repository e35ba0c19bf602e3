"""Networks in their inference form: the same numbers, other modules."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from proposals import inference_form as module
from proposals.backbones import build_pyramid
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.inference_form import (
    InBFloat16,
    computes_in_bfloat16,
    inference_form,
    with_part,
)


def settled(norm, channels=2):
    """Statistics that are neither those of a new norm nor the same for both channels."""
    values = torch.arange(1.0, channels + 1)
    norm.weight.data, norm.bias.data = 1 / values, values - 3
    norm.running_mean.copy_(values / 2)
    norm.running_var.copy_(values**2)
    return norm


def test_a_norm_folded_by_hand():
    """(3x + 1 - 0.5) / sqrt(1 + 3) * 2 + 7 = 3x + 7.5."""
    conv, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=3.0)
    conv.weight.data.fill_(3.0)
    conv.bias.data.fill_(1.0)
    norm.running_mean.fill_(0.5)
    norm.weight.data.fill_(2.0)
    norm.bias.data.fill_(7.0)
    conv, norm = inference_form(nn.Sequential(conv, norm).eval())
    assert (conv.weight.item(), conv.bias.item()) == (3.0, 7.5)
    assert type(norm) is nn.Identity and not conv.weight.requires_grad


@pytest.mark.parametrize(
    ("layers", "images", "folded"),
    [
        ([nn.Conv2d(3, 2, 3), settled(nn.BatchNorm2d(2))], (1, 3, 5, 5), True),
        ([nn.Conv2d(3, 2, 3, bias=False), settled(FrozenBatchNorm2d(2))], (1, 3, 5, 5), True),
        ([nn.Conv3d(3, 2, 3), settled(nn.BatchNorm3d(2))], (1, 3, 5, 5, 5), True),
        ([nn.Conv2d(4, 2, 3, groups=2), settled(nn.BatchNorm2d(2))], (1, 4, 5, 5), True),
        # the norm belongs to the channels, not to the convolution before it
        ([nn.Conv2d(3, 4, 3), nn.PixelShuffle(2), nn.BatchNorm2d(1)], (1, 3, 5, 5), False),
        # statistics of the batch are not fixed
        ([nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)], (1, 3, 5, 5), False),
        ([nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8)], (1, 3, 5, 5), False),
        ([nn.ConvTranspose2d(3, 2, 3), settled(nn.BatchNorm2d(2))], (1, 3, 5, 5), False),
    ],
    ids=["batch", "frozen", "3d", "groups", "shuffled", "moving", "group norm", "transposed"],
)
def test_layers_answer_as_before(layers, images, folded):
    torch.manual_seed(0)
    network = nn.Sequential(*layers, nn.Dropout(0.5)).eval()
    form, x = inference_form(network), torch.randn(images)
    torch.testing.assert_close(form(x), network(x), atol=1e-5, rtol=1e-5)
    norms = [type(part) is nn.Identity for part in form]
    assert norms == [False, *[False] * (len(layers) - 2), folded, True]


def test_a_norm_that_still_learns_stays():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).train()
    assert type(inference_form(network)[1]) is nn.BatchNorm2d


def test_the_network_stays_and_shares_what_is_not_changed():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    form = inference_form(network)
    assert form is not network and form[0] is not network[0] and form[2] is network[2]
    assert form[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert network.training and not form.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    linear = nn.Sequential(nn.Linear(2, 2))
    assert inference_form(linear) is linear


@pytest.mark.parametrize(
    "name", ["small", "resnet50_fpn", pytest.param("resnet50_fpn_v2", marks=pytest.mark.slow)]
)
def test_detectors_answer_as_before(name):
    torch.manual_seed(0)
    config = DetectorConfig(name, "", ("a",), min_size=64, max_size=64, proposals=5)
    network = build_detector(replace(config, score_threshold=0.0)).eval()
    for norm in network.modules():
        if hasattr(norm, "running_var"):
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.9, 1.1)
    frames = torch.randint(0, 255, (2, 3, 48, 64), dtype=torch.uint8)
    form = inference_form(network)
    with torch.inference_mode():
        for wanted, found in zip(network.predict(frames), form.predict(frames), strict=True):
            torch.testing.assert_close(found[0], wanted[0], atol=1e-2, rtol=1e-3)
            torch.testing.assert_close(found[1], wanted[1], atol=1e-4, rtol=1e-4)
    left = [m for m in form.modules() if isinstance(m, FrozenBatchNorm2d | nn.BatchNorm2d)]
    assert not left


def test_a_pyramid_folds_every_norm():
    with torch.device("meta"):
        form = inference_form(build_pyramid("resnet50_fpn").eval())
    assert not any(isinstance(part, FrozenBatchNorm2d) for part in form.modules())
    convolutions = [part for part in form.body.modules() if isinstance(part, nn.Conv2d)]
    assert len(convolutions) == 53 and all(part.bias is not None for part in convolutions)


def test_one_part_is_replaced():
    network = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), nn.Linear(2, 2))
    changed = with_part(network, "0.1", lambda part: nn.Sequential(part, nn.Tanh()))
    assert type(changed[0][1][1]) is nn.Tanh and changed[0][1][0] is network[0][1]
    assert type(network[0][1]) is nn.Linear and changed[1] is network[1]


def test_bfloat16_inside_float32_outside():
    """1 + 1/256 is no number of bfloat16: the weight becomes 1."""
    linear = nn.Linear(1, 1, bias=False)
    linear.weight.data.fill_(1 + 1 / 256)
    half = InBFloat16(linear)
    found = half(torch.tensor([[3.0]]))
    assert found.item() == 3.0 and found.dtype == torch.float32
    assert linear.weight.item() == 1 + 1 / 256


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [("fpu avx512_bf16 x", True), ("amx_bf16", True), ("avx512f bf16ish", False)],
)
def test_what_computes_in_bfloat16(tmp_path, monkeypatch, flags, wanted):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(module, "Path", lambda _: tmp_path / "cpuinfo")
    assert computes_in_bfloat16(torch.device("cpu")) == wanted
    (tmp_path / "cpuinfo").unlink()
    assert not computes_in_bfloat16(torch.device("cpu"))
