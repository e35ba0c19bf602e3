"""I3D: TensorFlow's padding, naive recomputation, sizes, both public ports' weights."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch import nn

from aamn.models.baselines.i3d import (
    INCEPTIONS,
    LAYERS,
    ConvUnit,
    Inception,
    SamePool,
    build_i3d,
    load_i3d,
    same_padding,
)
from proposals.errors import InputError

WIDTH = 0.06  # of the small networks that are really run


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (8, 7, 2, (2, 3)),  # the odd one goes to the end
        (9, 7, 2, (3, 3)),
        (8, 3, 2, (0, 1)),
        (7, 3, 2, (1, 1)),
        (2, 2, 2, (0, 0)),
        (1, 2, 2, (0, 1)),
        (5, 3, 1, (1, 1)),
        (5, 1, 1, (0, 0)),
        (5, 1, 2, (0, 0)),
    ],
)
def test_same_padding_by_hand(size, kernel, stride, pads):
    assert same_padding(size, kernel, stride) == pads


@pytest.mark.parametrize("size", range(1, 20))
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 2), (2, 2), (3, 1)])
def test_same_padding_gives_the_ceiling_and_no_more(size, kernel, stride):
    before, after = same_padding(size, kernel, stride)
    outputs = -(-size // stride)
    assert (size + before + after - kernel) // stride + 1 == outputs
    assert after - before in (0, 1)


def randomise(module: nn.Module) -> nn.Module:
    """Batch statistics and affine parameters that a test can see."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm3d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 1.5)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return module.double().eval()


def naive_unit(unit: ConvUnit, maps: np.ndarray, eps: float = 1e-3) -> np.ndarray:
    """SAME convolution, batch normalisation and ReLU of (C, T, h, w) in float64."""
    kernel, stride = unit.conv3d.kernel_size, unit.conv3d.stride
    pads = [same_padding(n, k, s) for n, k, s in zip(maps.shape[1:], kernel, stride, strict=True)]
    padded = np.pad(maps, [(0, 0), *pads])
    weight = unit.conv3d.weight.detach().numpy()
    out = np.stack([correlate(padded, w, "valid")[0] for w in weight])
    out = out[:, :: stride[0], :: stride[1], :: stride[2]]
    bn = unit.bn
    mean, var, gamma, beta = (
        v.detach().numpy()[:, None, None, None]
        for v in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
    )
    return np.maximum((out - mean) / np.sqrt(var + eps) * gamma + beta, 0)


@pytest.mark.parametrize(
    ("kernel", "stride", "size"),
    [
        ((7, 7, 7), (2, 2, 2), (4, 9, 8)),
        ((3, 3, 3), (1, 1, 1), (2, 5, 4)),
        ((1, 1, 1), (1, 1, 1), (2, 3, 4)),
    ],
)
def test_conv_unit_is_the_naive_computation(kernel, stride, size):
    unit = randomise(ConvUnit(2, 3, kernel, stride))
    maps = torch.randn(2, 2, *size, dtype=torch.float64)
    got = unit(maps).detach().numpy()
    for each, one in zip(got, maps.numpy(), strict=True):
        np.testing.assert_allclose(each, naive_unit(unit, one), atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "stride", "size"),
    [
        ((1, 3, 3), (1, 2, 2), (3, 6, 7)),
        ((3, 3, 3), (2, 2, 2), (4, 5, 6)),
        ((2, 2, 2), (2, 2, 2), (1, 3, 4)),
        ((3, 3, 3), (1, 1, 1), (2, 3, 3)),
    ],
)
def test_zeros_around_a_pool_take_part(naive, kernel, stride, size):
    """As in the released CSTM, whose pools see negative maps behind its modulation."""
    maps = -1 - torch.rand(1, 2, *size, dtype=torch.float64)
    wanted = naive.pool(kernel, stride, maps[0].numpy())
    assert (wanted == 0).any()
    np.testing.assert_array_equal(SamePool(2, kernel, stride)(maps)[0].numpy(), wanted)


def test_the_larger_half_of_a_pools_zeros_lies_behind():
    """Four cells, three a window, two apart: one zero, at the end."""
    maps = torch.tensor([-4.0, -3, -2, -1]).view(1, 1, 1, 1, 4)
    assert SamePool(1, (1, 1, 3), (1, 1, 2))(maps).flatten().tolist() == [-2, 0]


@pytest.mark.parametrize("eps", [1e-3, 1e-5])
def test_the_eps_of_every_normalisation(eps):
    """In all layers, and in what small variances become."""
    layers = build_i3d(3, "mixed_3b", WIDTH, eps)
    found = {part.eps for part in layers.modules() if isinstance(part, nn.BatchNorm3d)}
    assert found == {eps}
    unit = randomise(ConvUnit(2, 3, norm_eps=eps))
    unit.bn.running_var.fill_(1e-4)
    maps = torch.randn(1, 2, 2, 3, 4, dtype=torch.float64)
    wanted = naive_unit(unit, maps[0].numpy(), eps)
    np.testing.assert_allclose(unit(maps)[0].detach().numpy(), wanted, rtol=1e-9)


@pytest.mark.parametrize("eps", [0.0, -1e-3, float("nan")])
def test_an_eps_that_is_none_is_refused(eps):
    with pytest.raises(InputError, match=r"^i3d\.norm_eps must be positive, got "):
        build_i3d(3, "mixed_3b", WIDTH, eps)


def test_inception_is_the_naive_computation(naive):
    block = randomise(Inception(3, (2, 2, 3, 1, 2, 2)))
    maps = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
    wanted = np.concatenate(
        [
            naive_unit(block.b0, maps),
            naive_unit(block.b1b, naive_unit(block.b1a, maps)),
            naive_unit(block.b2b, naive_unit(block.b2a, maps)),
            naive_unit(block.b3b, naive.pool((3, 3, 3), (1, 1, 1), maps)),
        ]
    )
    got = block(torch.from_numpy(maps)[None])[0].detach().numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_sizes_of_the_papers_encoder():
    with torch.device("meta"):
        layers = build_i3d(3, "mixed_4f")
        assert layers[:-1](torch.empty(1, 3, 16, 512, 512)).shape == (1, 528, 4, 32, 32)
        assert layers(torch.empty(1, 3, 16, 512, 512)).shape == (1, 832, 4, 32, 32)
        assert sum(p.numel() for p in layers[-1].parameters()) == 1_799_168


def test_layers_as_the_papers_figure_3_has_them():
    """Inflated Inception-v1: what each pool looks at, how it steps, and the channels of each map
    (Szegedy et al., CVPR 2015, Table 1); the first two pools leave time alone."""
    with torch.device("meta"):
        layers = dict(build_i3d(3).named_children())
    pools = {n: (m.kernel, m.stride) for n, m in layers.items() if isinstance(m, SamePool)}
    assert pools == {
        "maxpool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
        "maxpool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
        "maxpool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
        "maxpool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
    }
    blocks = {n: m for n, m in layers.items() if isinstance(m, Inception)}
    assert {n: m.out_channels for n, m in blocks.items()} == {
        "mixed_3b": 256, "mixed_3c": 480, "mixed_4b": 512, "mixed_4c": 512, "mixed_4d": 512,
        "mixed_4e": 528, "mixed_4f": 832, "mixed_5b": 832, "mixed_5c": 1024,
    }  # fmt: skip
    for block in blocks.values():
        assert (block.b3a.kernel, block.b3a.stride) == ((3, 3, 3), (1, 1, 1))
        kernels = [getattr(block, b).conv3d.kernel_size for b in ("b0", "b1a", "b1b", "b2b")]
        assert kernels == [(1, 1, 1), (1, 1, 1), (3, 3, 3), (3, 3, 3)]
    assert layers["conv3d_2c_3x3"].conv3d.kernel_size == (3, 3, 3)


@pytest.mark.parametrize("until", ["conv3d_1a_7x7", "mixed_4e", "mixed_5c"])
def test_a_network_ends_with_the_layer_that_is_named(until):
    with torch.device("meta"):
        names = [name for name, _ in build_i3d(3, until).named_children()]
    assert names[-1] == until and tuple(names) == LAYERS[: len(names)]


def test_parameters_of_the_whole_network():
    """12.29 million without the classifier, as both ports have it."""
    with torch.device("meta"):
        assert sum(p.numel() for p in build_i3d(3).parameters()) == 12_287_264
        # Two input channels lack a third of the first layer's 3 * 64 * 7^3 weights.
        assert sum(p.numel() for p in build_i3d(2).parameters()) == 12_287_264 - 64 * 343


def test_unknown_layer():
    with pytest.raises(InputError, match=r"no layer 'mixed_6a'; one of conv3d_1a_7x7"):
        build_i3d(3, "mixed_6a")


def piergiaj(key: str) -> str:
    """Our key in piergiaj/pytorch-i3d's layout."""
    return key[0].upper() + key[1:]


def hassony2(key: str) -> str:
    """Our key in hassony2/kinetics_i3d_pytorch's layout."""
    branches = {"b0": "branch_0", "b1a": "branch_1.0", "b1b": "branch_1.1"}
    branches |= {"b2a": "branch_2.0", "b2b": "branch_2.1", "b3b": "branch_3.1"}
    parts = [branches.get(part, part) for part in key.split(".")]
    return ".".join("batch3d" if part == "bn" else part for part in parts)


def checkpoint(network: nn.Module, rename, extra: str) -> dict[str, torch.Tensor]:
    """A port's file: its keys, a classifier behind, no batch counters."""
    state = {
        rename(key): value
        for key, value in network.state_dict().items()
        if "num_batches_tracked" not in key
    }
    return state | {extra: torch.zeros(4)}


def test_key_layouts_are_the_ports():
    """Spelled out as the ports' files hold them."""
    key = "mixed_3b.b1a.conv3d.weight"
    assert piergiaj(key) == "Mixed_3b.b1a.conv3d.weight"
    assert hassony2(key) == "mixed_3b.branch_1.0.conv3d.weight"
    assert hassony2("mixed_5c.b3b.bn.running_var") == "mixed_5c.branch_3.1.batch3d.running_var"
    assert hassony2("mixed_4b.b0.bn.bias") == "mixed_4b.branch_0.batch3d.bias"


@pytest.mark.parametrize(
    ("rename", "extra"),
    [(piergiaj, "logits.conv3d.bias"), (hassony2, "conv3d_0c_1x1.conv3d.bias")],
)
@pytest.mark.parametrize(("channels", "until"), [(3, "mixed_4f"), (2, "mixed_5c")])
def test_weights_of_both_ports(tmp_path, rename, extra, channels, until):
    source = randomise(build_i3d(channels, width=WIDTH)).float()
    path = tmp_path / "i3d.pt"
    torch.save(checkpoint(source, rename, extra), path)
    target = build_i3d(channels, until, WIDTH).eval()
    load_i3d(target, path)
    clip = torch.rand(1, channels, 4, 32, 32)
    wanted = source[: LAYERS.index(until) + 1](clip)
    torch.testing.assert_close(target(clip), wanted, rtol=0, atol=0)


def test_wrapped_checkpoints_load(tmp_path):
    source = build_i3d(3, "mixed_3b", WIDTH)
    state = {f"module.{k}": v for k, v in checkpoint(source, piergiaj, "x").items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "i3d.pt")
    target = build_i3d(3, "mixed_3b", WIDTH)
    load_i3d(target, tmp_path / "i3d.pt")
    torch.testing.assert_close(target[0].conv3d.weight, source[0].conv3d.weight)


def _other_keys(state):
    return {f"backbone.{key}": value for key, value in state.items()}


def _without_a_layer(state):
    return {key: value for key, value in state.items() if "b2b" not in key}


def _wider(state):
    key = "Mixed_3b.b0.conv3d.weight"
    return state | {key: torch.zeros(len(state[key]) + 1, *state[key].shape[1:])}


@pytest.mark.parametrize(
    ("damage", "channels", "message"),
    [
        (_other_keys, 3, "no I3D weights: wanted the keys of piergiaj/pytorch-i3d"),
        (_without_a_layer, 3, r"lacks 5 of the \d+ tensors wanted, mixed_3b.b2b.bn.bias first"),
        (_wider, 3, "mixed_3b.b0.conv3d.weight has shape .* wanted"),
        (dict, 2, "weights for 3 input channels, wanted 2"),
        (lambda state: [1, 2], 3, "wanted a state dict"),
    ],
)
def test_other_weights_are_refused(tmp_path, damage, channels, message):
    path = tmp_path / "weights.pt"
    state = checkpoint(build_i3d(3, "mixed_3b", WIDTH), piergiaj, "logits.conv3d.bias")
    torch.save(damage(state), path)
    with pytest.raises(InputError, match=message) as error:
        load_i3d(build_i3d(channels, "mixed_3b", WIDTH), path)
    assert str(path) in str(error.value)


def test_unreadable_weights(tmp_path):
    with pytest.raises(InputError, match="no weight file at"):
        load_i3d(build_i3d(3, "mixed_3b", WIDTH), tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(InputError, match=r"text\.pt is no weight file, or a damaged one"):
        load_i3d(build_i3d(3, "mixed_3b", WIDTH), tmp_path / "text.pt")


def test_every_layer_is_described_once():
    assert len(set(LAYERS)) == 16 and set(INCEPTIONS) <= set(LAYERS)
