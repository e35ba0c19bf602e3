"""CSTM: every module against a naive computation; untrained, it is its encoders exactly."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from aamn.models.baselines.cstm import CSTM, GRUText, load_spatial, spatial_stages, temporal_stages
from aamn.models.baselines.i3d import build_i3d
from aamn.models.baselines.modulation import CMAM, Unmodulated
from aamn.models.baselines.stage_decoder import LGFS, StageDecoder, StageFusion, Unselected
from proposals.errors import InputError

TOLERANCE = {"rtol": 0, "atol": 1e-11}


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_gru_text_is_the_naive_computation(naive, exact):
    encoder, words = exact(GRUText(3, 4)), double(1, 5, 3)
    nn.init.normal_(encoder.norm.weight)
    nn.init.normal_(encoder.norm.bias)
    inner, outer = (naive.array(w) for w in (encoder.gru.weight_ih_l0, encoder.gru.weight_hh_l0))
    assert not [name for name, _ in encoder.gru.named_parameters() if "bias" in name]
    hidden, states = np.zeros(4), []
    for word in words[0].numpy():
        (ir, iz, i_n), (hr, hz, hn) = np.split(inner @ word, 3), np.split(outer @ hidden, 3)
        r, z = naive.sigmoid(ir + hr), naive.sigmoid(iz + hz)
        hidden = (1 - z) * np.tanh(i_n + r * hn) + z * hidden
        normed = (hidden - hidden.mean()) / np.sqrt(hidden.var() + encoder.norm.eps)
        normed = normed * naive.array(encoder.norm.weight) + naive.array(encoder.norm.bias)
        states.append(np.tanh(normed))
    np.testing.assert_allclose(encoder(words)[0].detach().numpy().T, states, **TOLERANCE)


@pytest.mark.parametrize("size", [(3, 4), (2, 3, 4)])
def test_cmam_is_the_naive_computation(naive, exact, size):
    module = exact(CMAM(3, 4, len(size)))
    nn.init.normal_(module.gate.weight)
    nn.init.normal_(module.gate.bias)
    maps, text = double(2, 3, *size), double(2, 4, 5)
    where = naive.coordinates(*size[-2:])
    where = np.broadcast_to(where[:, None], (8, *size)) if len(size) == 3 else where
    for s in range(2):
        x, words = maps[s].numpy(), text[s].numpy()
        joint = np.concatenate([x, where])
        u = naive.relu(naive.norm(module.joint[2], naive.conv(module.joint[1], joint)))
        key = naive.norm(module.key[1], naive.conv(module.key[0], u)).reshape(4, -1)
        query = naive.norm(module.query[1], naive.conv(module.query[0], words))
        a = np.array([sum(key[:, p] @ query[:, n] for p in range(key.shape[1])) for n in range(5)])
        a = naive.softmax(a / np.sqrt((a**2).sum()))
        t = sum(a[n] * words[:, n] for n in range(5))
        gamma = naive.sigmoid(naive.linear(module.gate, t))
        wanted = x + u * (gamma - 0.5).reshape(-1, *[1] * len(size))
        got = module(maps, text)[s].detach().numpy()
        np.testing.assert_allclose(got, wanted, **TOLERANCE)


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_cmam_learns_alike_in_half_precision(frames):
    """Also where there are fewer frames than the convolution is long."""
    torch.manual_seed(0)
    module = CMAM(8, 4, 3)
    nn.init.normal_(module.gate.weight)
    maps, text, wanted = torch.randn(3, 8, frames, 6, 6), torch.randn(3, 4, 5), torch.randn(3, 8)
    gradients = []
    for half in (False, True):
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            got = module(maps, text)
        (got.float().mean((2, 3, 4)) * wanted).sum().backward()
        gradients.append(module.joint[1].weight.grad.clone())
    exact, rounded = gradients
    assert exact.abs().max() > 0.01
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.1 * exact.abs().max().item())


@pytest.mark.parametrize("axes", [2, 3])
def test_untrained_cmam_changes_nothing(exact, axes):
    module = exact(CMAM(3, 4, axes))
    maps = torch.randn(2, 3, *(2, 4, 4)[-axes:]).double()
    assert torch.equal(module(maps, double(2, 4, 5)), maps)


def test_untrained_encoders_are_the_pretrained_ones_exactly(tiny, embedding, make_sample):
    """All ten feature maps, bit by bit, against the plain ResNet and I3D of the same weights."""
    system = CSTM(tiny.cstm(), embedding).eval()
    network, sample = system.networks["rgb"], make_sample(system.input_spec)
    resnet = torchvision.models.resnet18().eval()
    for own, plain in zip(network.spatial.stages, spatial_stages(resnet), strict=True):
        plain.load_state_dict(own.state_dict())
    i3d = build_i3d(3, width=tiny.i3d().width, norm_eps=network.config.i3d.norm_eps).eval()
    for own, plain in zip(network.temporal.stages, temporal_stages(i3d), strict=True):
        plain.load_state_dict(own.state_dict())

    video = sample.clip.rgb.transpose(0, 1)[None]  # (1, 3, T, H, W)
    first, owner = network.encode(video), torch.zeros(2, dtype=torch.long)
    text = network.text(system.word_vectors(sample.queries))
    spatial = network.spatial(first.spatial[owner], text)
    temporal = network.temporal(first.temporal[owner], text)

    frame = resnet.relu(resnet.bn1(resnet.conv1(video[:, :, system.input_spec.key])))[owner]
    plain = [frame]
    for layer in (
        lambda x: resnet.layer1(resnet.maxpool(x)),
        resnet.layer2,
        resnet.layer3,
        resnet.layer4,
    ):
        plain.append(layer(plain[-1]))
    assert all(torch.equal(a, b) for a, b in zip(spatial, plain, strict=True))
    maps, wanted = i3d[0](video)[owner], {}
    for name, layer in list(i3d.named_children())[1:]:
        wanted[name] = maps = layer(maps)
    assert torch.equal(temporal[0], i3d[0](video)[owner])
    for got, name in zip(
        temporal[1:], ("conv3d_2c_3x3", "mixed_3c", "mixed_4f", "mixed_5c"), strict=True
    ):
        assert torch.equal(got, wanted[name])


def test_temporal_pools_see_zeros_around_negative_maps(naive, tiny, embedding, make_sample):
    """In training mode, with gates that learned: each stage's first pool, as it is called."""
    torch.manual_seed(0)
    system = CSTM(tiny.cstm(frames=8), embedding).train()
    network, sample, seen = system.networks["rgb"], make_sample(system.input_spec, 2), []
    for modulation in network.temporal.modulations:
        nn.init.constant_(modulation.joint[2].bias, 3)
        nn.init.constant_(modulation.gate.bias, -4)  # a gate of -0.48: much is taken away
    pools = [stage[0] for stage in network.temporal.stages[1:]]
    for pool in pools:
        pool.register_forward_hook(lambda pool, maps, found: seen.append((pool, maps[0], found)))
    encoded = system.encode("rgb", [sample.clip])
    words = system.word_vectors(sample.queries)
    network.modulate(encoded, torch.tensor([0, 0]), network.text(words))
    assert [pool for pool, _, _ in seen] == pools
    for pool, maps, found in seen:
        for got, one in zip(found.detach().numpy(), maps.detach().numpy(), strict=True):
            np.testing.assert_array_equal(got, naive.pool(pool.kernel, pool.stride, one))
    assert all((maps < 0).any() for _, maps, _ in seen)


def test_sizes_of_the_five_stages():
    """At the paper's 8 frames of 320 x 320: channels, time and space of both encoders agree."""
    with torch.device("meta"):
        temporal = temporal_stages(build_i3d(3))
        spatial = spatial_stages(torchvision.models.resnet50())
        clip, frame, sizes = torch.empty(1, 3, 8, 320, 320), torch.empty(1, 3, 320, 320), []
        for stage, layer in zip(temporal, spatial, strict=True):
            clip, frame = stage(clip), layer(frame)
            sizes.append((tuple(clip.shape[1:]), tuple(frame.shape[1:])))
    assert sizes == [
        ((64, 4, 160, 160), (64, 160, 160)),
        ((192, 4, 80, 80), (256, 80, 80)),
        ((480, 4, 40, 40), (512, 40, 40)),
        ((832, 2, 20, 20), (1024, 20, 20)),
        ((1024, 1, 10, 10), (2048, 10, 10)),
    ]


def test_lgfs_is_the_naive_computation(naive, exact):
    module, text = exact(LGFS(4, 3)), double(2, 4, 5)
    got = module(text).detach().numpy()
    for s in range(2):
        logits = naive.linear(module.linear, text[s].numpy().mean(1))
        for c in range(3):
            pair = naive.softmax(np.array([logits[c], logits[3 + c]]))
            np.testing.assert_allclose(got[s, :, c], pair, **TOLERANCE)
    np.testing.assert_allclose(got.sum(1), 1, **TOLERANCE)


def unit(naive, layers: nn.Sequential, maps: np.ndarray) -> np.ndarray:
    return naive.relu(naive.norm(layers[1], naive.conv(layers[0], maps)))


@pytest.mark.parametrize("selection", [LGFS, Unselected])
@pytest.mark.parametrize(("time", "middle"), [(4, 2), (2, 1), (1, 0)])
def test_fusion_is_the_naive_computation(naive, exact, selection, time, middle):
    module = exact(StageFusion(3, 2, 4, selection(5, 4)))
    frame, clip, text = double(1, 3, 3, 3), double(1, 2, time, 3, 3), double(1, 5, 6)
    spatial = unit(naive, module.spatial, frame[0].numpy())
    temporal = unit(naive, module.temporal, clip[0, :, middle].numpy())
    if selection is LGFS:
        logits = naive.linear(module.selection.linear, text[0].numpy().mean(1)).reshape(2, 4)
        weights = naive.softmax(logits, 0)[..., None, None]
        spatial, temporal = spatial * weights[0], temporal * weights[1]
    wanted = unit(naive, module.fuse, np.concatenate([spatial, temporal]))
    got = module(frame, clip, text)[0].detach().numpy()
    np.testing.assert_allclose(got, wanted, **TOLERANCE)
    assert module.spatial[0].bias is None and module.fuse[0].bias is not None


def test_decoder_is_the_naive_computation(naive, exact):
    """From the fused maps of three stages to four responses, coarse to fine."""
    module = exact(StageDecoder(3, 2))
    fused = [double(1, 2, n, n) for n in (8, 4, 2)]
    maps = fused[2][0].numpy()
    decoded = [maps]
    for merge, lateral in zip(module.merges, (fused[1], fused[0]), strict=True):
        n = 2 * maps.shape[1]
        finer = naive.bilinear(maps, (n, n), corners=True)
        maps = unit(naive, merge, np.concatenate([finer, lateral[0].numpy()]))
        decoded.append(maps)
    decoded.append(naive.bilinear(maps, (16, 16), corners=True))
    got = module(fused)
    assert [r.shape[-1] for r in got] == [2, 4, 8, 16]
    for response, head, one in zip(got, module.heads, decoded, strict=True):
        wanted = naive.response_head(head, one)
        np.testing.assert_allclose(response[0].detach(), wanted, rtol=0, atol=1e-10)


def test_responses_of_the_whole_model(tiny, embedding, make_sample):
    system = CSTM(tiny.cstm(), embedding).eval()
    sample = make_sample(system.input_spec, 2)
    encoded = system.encode("rgb", [sample.clip])
    words = system.word_vectors(sample.queries)
    got = system.networks["rgb"].respond(encoded, torch.tensor([0, 0]), words)
    assert [tuple(r.shape) for r in got] == [(2, 1, n, n) for n in (2, 4, 8, 16, 32, 64)]
    assert list(system.loss.weights) == ["stage5", "stage4", "stage3", "stage2", "stage1", "full"]
    assert list(system.loss.weights.values()) == [0.1] * 5 + [1.0]


@pytest.mark.parametrize(
    ("cmam", "modulated"),
    [("both", {"spatial", "temporal"}), ("spatial", {"spatial"}), ("temporal", {"temporal"})],
)
def test_where_cmam_is(tiny, embedding, cmam, modulated):
    network = CSTM(tiny.cstm(cmam=cmam), embedding).networks["rgb"]
    for name in ("spatial", "temporal"):
        kinds = {type(part) for part in getattr(network, name).modulations}
        assert kinds == ({CMAM} if name in modulated else {Unmodulated})


@pytest.mark.parametrize("stages", [(), (5,), (5, 4, 3)])
def test_where_lgfs_is(tiny, embedding, make_sample, stages):
    system = CSTM(tiny.cstm(lgfs=stages), embedding).eval()
    sample = make_sample(system.input_spec)
    seen = system.selection(sample.clip, sample.queries[0])
    assert tuple(one.stage for one in seen) == stages
    others = system.selection(sample.clip, sample.queries[1])
    for one, other in zip(seen, others, strict=True):
        assert one.spatial.shape == (4,) and not torch.equal(one.spatial, other.spatial)
        torch.testing.assert_close(one.spatial + one.temporal, torch.ones(4))


def test_the_selection_shown_is_what_the_decoder_used(tiny, embedding, make_sample):
    """Its maps, weighed and fused, are what goes into the decoder."""
    system = CSTM(tiny.cstm(lgfs=(5, 3)), embedding).eval()
    sample, network, fused = make_sample(system.input_spec), system.networks["rgb"], []
    network.decoder.register_forward_pre_hook(lambda module, given: fused.extend(given[0]))
    with torch.no_grad():
        system.segment(sample.clip, None, sample.queries[:1])
    for one in system.selection(sample.clip, sample.queries[0]):
        weighed = torch.cat(
            [
                one.spatial_map * one.spatial[:, None, None],
                one.temporal_map * one.temporal[:, None, None],
            ]
        )
        wanted = network.fusions[one.stage - 1].fuse(weighed[None])
        torch.testing.assert_close(fused[one.stage - 1], wanted)


def test_pretrained_weights_of_both_encoders(tiny, embedding, tmp_path):
    i3d, resnet = build_i3d(3, width=tiny.i3d().width), torchvision.models.resnet18()
    torch.save(i3d.state_dict(), tmp_path / "i3d.pt")
    torch.save(resnet.state_dict(), tmp_path / "resnet.pt")
    weights = {"rgb_weights": str(tmp_path / "i3d.pt"), "rgb_range": (0.0, 1.0)}
    config = tiny.cstm(
        spatial_weights=str(tmp_path / "resnet.pt"), i3d=tiny.i3d(frozen_until="", **weights)
    )
    system = CSTM(config, embedding)
    system.load_pretrained()
    network = system.networks["rgb"]
    for own, plain in zip(network.spatial.stages, spatial_stages(resnet), strict=True):
        pairs = zip(own.parameters(), plain.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    own = OrderedDict(c for stage in network.temporal.stages for c in stage.named_children())
    state = nn.Sequential(own).state_dict()
    assert all(torch.equal(state[key], value) for key, value in i3d.state_dict().items())


def test_imagenet_weights_of_the_spatial_encoder(monkeypatch):
    resnet = torchvision.models.resnet18()
    asked = []

    def state(self, *args, **kwargs):
        asked.append(f"{type(self).__name__} {self.name}")
        return resnet.state_dict()

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", state)
    stages = spatial_stages(torchvision.models.resnet18())
    load_spatial(stages, "resnet18", "imagenet")
    assert asked == ["ResNet18_Weights IMAGENET1K_V1"]
    for own, plain in zip(stages, spatial_stages(resnet), strict=True):
        pairs = zip(own.parameters(), plain.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)

    def fail(self, *args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", fail)
    with pytest.raises(InputError, match=r"cstm\.spatial_weights: .* resnet18 .*no route"):
        load_spatial(stages, "resnet18", "imagenet")


def test_a_classifier_of_other_classes_does_not_matter(tmp_path):
    resnet = torchvision.models.resnet18(num_classes=7)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pt")
    stages = spatial_stages(torchvision.models.resnet18())
    load_spatial(stages, "resnet18", str(tmp_path / "resnet.pt"))
    assert torch.equal(stages[4][1].conv2.weight, resnet.layer4[1].conv2.weight)


def test_weights_of_another_resnet_are_refused(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pt")
    with pytest.raises(InputError, match=r"resnet18.pt: lacks .* wanted, layer1.0.bn3.bias first"):
        stages = spatial_stages(torchvision.models.resnet50())
        load_spatial(stages, "resnet50", str(tmp_path / "resnet18.pt"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lgfs": (6,)}, r"cstm.lgfs: stages are 1 to 5, got \[6\]"),
        ({"size": 48}, "size: wanted a multiple of 32 pixels, got 48"),
    ],
)
def test_contradictions_are_refused(tiny, embedding, changes, message):
    with pytest.raises(InputError, match=message):
        CSTM(tiny.cstm(**changes), embedding)


def test_a_frozen_backbone_is_refused(tiny, embedding):
    with pytest.raises(InputError, match="both encoders of CSTM learn as a whole"):
        CSTM(tiny.cstm(i3d=tiny.i3d()), embedding)
