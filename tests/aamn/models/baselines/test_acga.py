"""ACGA: every module against a naive computation, every variant, the whole model's behaviour."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aamn.models.baselines.acga import ACGA
from aamn.models.baselines.coordinates import coordinates, with_coordinates
from aamn.models.baselines.decoder import (
    Deconv,
    MultiResolutionDecoder,
    ResponseFusion,
    ResponseHead,
)
from aamn.models.baselines.guidance import CellAttention, MeanWords, PlainCells, WordAttention
from aamn.models.baselines.i3d import build_i3d
from aamn.models.baselines.one_stage import stack_stream
from aamn.models.baselines.text_encoder import ConvText, LSTMText
from aamn.models.baselines.video_encoder import FlowInput, RGBInput, VideoEncoder
from proposals.errors import InputError

TOLERANCE = {"rtol": 0, "atol": 1e-11}


def frozen_features(system, clips, stream="rgb"):
    """What the layers that do not learn make of clips."""
    return system.networks[stream].video.frozen(stack_stream(clips, stream, system.device))


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_coordinates_by_hand():
    got = coordinates(torch.zeros(1, 2))
    left, right = got[:, 0, 0].tolist(), got[:, 0, 1].tolist()
    assert left == [-1, -1, 0, 1, -0.5, 0, 0.5, 1]
    assert right == [0, -1, 1, 1, 0.5, 0, 0.5, 1]


@pytest.mark.parametrize(("h", "w"), [(3, 5), (4, 4), (1, 7)])
def test_coordinates_are_the_naive_ones(naive, h, w):
    got = coordinates(torch.zeros(h, w, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(got, naive.coordinates(h, w), **TOLERANCE)


def test_coordinates_repeat_over_time():
    maps = torch.randn(2, 3, 4, 5, 6)
    both = with_coordinates(maps)
    torch.testing.assert_close(both[:, :3], maps, rtol=0, atol=0)
    for n in range(2):
        for t in range(4):
            torch.testing.assert_close(both[n, 3:, t], coordinates(maps), rtol=0, atol=0)


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_conv_text_is_the_naive_computation(naive, exact, kernel):
    encoder, words = exact(ConvText(4, kernel)), double(2, 5, 4)
    got = encoder(words).detach().numpy()
    assert got.shape == (2, 4, 5)
    for one, sentence in zip(got, words.numpy(), strict=True):
        np.testing.assert_allclose(one, np.tanh(naive.conv(encoder.conv, sentence.T)), **TOLERANCE)


def test_lstm_text_is_the_naive_computation(naive, exact):
    encoder, words = exact(LSTMText(3)), double(1, 4, 3)
    lstm = encoder.lstm
    inner, outer = naive.array(lstm.weight_ih_l0), naive.array(lstm.weight_hh_l0)
    bias = naive.array(lstm.bias_ih_l0) + naive.array(lstm.bias_hh_l0)
    hidden, cell, states = np.zeros(3), np.zeros(3), []
    for word in words[0].numpy():
        i, f, g, o = np.split(inner @ word + outer @ hidden + bias, 4)
        cell = naive.sigmoid(f) * cell + naive.sigmoid(i) * np.tanh(g)
        hidden = naive.sigmoid(o) * np.tanh(cell)
        states.append(hidden)
    np.testing.assert_allclose(encoder(words)[0].detach().numpy().T, states, **TOLERANCE)


def test_inputs_as_kinetics_weights_want_them(tiny):
    config = tiny.i3d()
    rgb = RGBInput(config)(torch.tensor([0.0, 0.5, 1.0]))
    assert rgb.tolist() == [-1, 0, 1]
    assert RGBInput(tiny.i3d(rgb_range=(0.0, 1.0)))(torch.tensor([0.25])).item() == 0.25
    flow = FlowInput(config)(torch.tensor([-50.0, -10.0, 0.0, 20.0, 30.0]))
    assert flow.tolist() == [-1, -0.5, 0, 1, 1]


def test_video_encoder_is_the_naive_mean_and_norm(exact, tiny):
    """(2): mean over time of mixed_4f's map, every cell of unit length."""
    encoder = exact(VideoEncoder(tiny.i3d(), "rgb"))
    video = torch.rand(1, 3, 8, 32, 32, dtype=torch.float64)
    maps = encoder.tail(encoder.frozen(video))[0].detach().numpy()  # (C, 2, 2, 2)
    assert maps.shape[1:] == (2, 2, 2)
    mean = (maps[:, 0] + maps[:, 1]) / 2
    wanted = mean / np.sqrt((mean**2).sum(0, keepdims=True))
    got = encoder(encoder.frozen(video))[0].detach().numpy()
    np.testing.assert_allclose(got, wanted, **TOLERANCE)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_the_backbone_sees_what_kinetics_weights_want(exact, tiny, stream):
    """Brightness in [-1, 1]; flow of 20 pixels and more as 1."""
    encoder = exact(VideoEncoder(tiny.i3d(), stream))
    plain = nn.Sequential(*encoder.backbone.layers, *encoder.tail)
    if stream == "rgb":
        video = torch.rand(1, 3, 4, 32, 32, dtype=torch.float64)
        seen = 2 * video - 1
    else:
        video = 30 * double(1, 2, 4, 32, 32)
        seen = video.clip(-20, 20) / 20
        assert (seen.abs() == 1).any() and (seen.abs() < 1).any()
    with torch.no_grad():
        mean = plain(seen).mean(2)
        torch.testing.assert_close(
            encoder(encoder.frozen(video)), mean / mean.norm(dim=1, keepdim=True)
        )


def test_each_streams_layers_are_its_files(tiny, embedding, tmp_path):
    """Frozen ones and those that go on learning; a stream without a file keeps its own."""
    files = {}
    for stream, channels in (("rgb", 3), ("flow", 2)):
        files[stream] = build_i3d(channels, "mixed_4f", tiny.i3d().width).state_dict()
        torch.save(files[stream], tmp_path / f"{stream}.pt")
    for named in (["rgb", "flow"], ["flow"]):
        weights = {f"{stream}_weights": str(tmp_path / f"{stream}.pt") for stream in named}
        system = ACGA(tiny.acga(streams="rgb+flow", i3d=tiny.i3d(**weights)), embedding)
        system.load_pretrained()
        for stream, network in system.networks.items():
            own = network.video.backbone.layers.state_dict() | network.video.tail.state_dict()
            assert own.keys() == files[stream].keys()
            learned = [key for key in own if key.endswith("conv3d.weight")]
            started = {torch.equal(own[key], files[stream][key]) for key in learned}
            assert started == {stream in named}
            assert not any(p.requires_grad for p in network.video.backbone.parameters())
            assert all(p.requires_grad for p in network.video.tail.parameters())


def test_word_attention_is_the_naive_computation(naive, exact):
    """(3), (4), one cell and one word at a time."""
    module, vision, text = exact(WordAttention(5, 4)), double(2, 5, 3, 2), double(2, 4, 6)
    attended, weights = module(vision, text)
    for s in range(2):
        for y in range(3):
            for x in range(2):
                cell = naive.linear(module.align, vision[s, :, y, x].numpy())
                scores = [cell @ text[s, :, n].numpy() / np.sqrt(4) for n in range(6)]
                wanted = naive.softmax(np.array(scores))
                np.testing.assert_allclose(weights[s, :, y, x].detach(), wanted, **TOLERANCE)
                mean = sum(a * text[s, :, n].numpy() for n, a in enumerate(wanted))
                np.testing.assert_allclose(attended[s, :, y, x].detach(), mean, **TOLERANCE)


@pytest.mark.parametrize("out_channels", [5, 3])
def test_cell_attention_is_the_naive_computation(naive, exact, out_channels):
    """(5)-(8), one pair of cells at a time."""
    module = exact(CellAttention(5, 4, out_channels))
    vision, text = double(1, 5, 2, 3), double(1, 4, 6)
    attended, weights = module(vision, text)
    cells = vision[0].flatten(1).T.numpy()  # (hw, 5)
    gate = naive.linear(module.gate, text[0].numpy().max(1))
    query = naive.linear(module.query, cells) * gate
    key, value = naive.linear(module.key, cells) * gate, naive.linear(module.value, cells)
    for i in range(6):
        row = naive.softmax(np.array([query[i] @ key[j] / np.sqrt(5) for j in range(6)]))
        np.testing.assert_allclose(weights[0, i].detach(), row, **TOLERANCE)
        wanted = sum(row[j] * value[j] for j in range(6))[:out_channels]
        np.testing.assert_allclose(attended[0, :, i // 3, i % 3].detach(), wanted, **TOLERANCE)


def test_absent_guidance_has_the_same_shapes():
    vision, text = torch.randn(2, 12, 3, 2), torch.randn(2, 4, 6)
    mean, words = MeanWords(12, 4)(vision, text)
    assert words.shape == (2, 6, 3, 2) and mean.shape == (2, 4, 3, 2)
    torch.testing.assert_close(mean[1, :, 2, 1], text[1].mean(1))
    torch.testing.assert_close(words.sum(1), torch.ones(2, 3, 2))
    plain, cells = PlainCells(12, 4, 9)(vision, text)
    torch.testing.assert_close(plain, vision[:, :9], rtol=0, atol=0)
    torch.testing.assert_close(cells[1], torch.eye(6))


def test_deconv_and_head_are_the_naive_computation(naive, exact):
    deconv, head = exact(Deconv(3, 2)), exact(ResponseHead(3, 4))
    maps = double(1, 3, 2, 3)
    got = deconv(maps)[0].detach().numpy()
    assert got.shape == (2, 8, 12)
    np.testing.assert_allclose(got, naive.deconv(deconv, maps[0].numpy()), **TOLERANCE)
    wanted = naive.response_head(head, maps[0].numpy())
    np.testing.assert_allclose(head(maps)[0].detach().numpy(), wanted, **TOLERANCE)


MEMBERS = {"all": (0, 1, 2), "res3+res1": (0, 2), "res3+res2": (1, 2)}


@pytest.mark.parametrize("fusion", ["all", "res3+res1", "res3+res2", "res3"])
def test_decoder_is_the_naive_computation(naive, exact, fusion):
    """(10)-(13) in full, from F_VA and F_TA to the three responses."""
    decoder = exact(MultiResolutionDecoder(3, 2, (4, 3, 2), fusion))
    vision, text = double(1, 3, 2, 2), double(1, 2, 2, 2)
    maps = [vision[0].numpy()]
    maps.append(naive.deconv(decoder.to_medium, maps[0]))
    maps.append(naive.deconv(decoder.to_large, maps[1]))
    responses = []
    for head, one in zip(decoder.heads, maps, strict=True):
        h, w = one.shape[1:]
        words = naive.bilinear(text[0].numpy(), (h, w))
        beside = np.concatenate([one, naive.coordinates(h, w), words])
        responses.append(naive.response_head(head, beside))
    if fusion in MEMBERS:
        resized = [naive.bilinear(responses[i], (32, 32)) for i in MEMBERS[fusion]]
        responses[2] = naive.conv(decoder.fusion.conv, np.concatenate(resized))
    got = decoder(vision, text)
    assert [tuple(r.shape) for r in got] == [(1, 1, 2, 2), (1, 1, 8, 8), (1, 1, 32, 32)]
    for one, wanted in zip(got, responses, strict=True):
        np.testing.assert_allclose(one[0].detach(), wanted, rtol=0, atol=1e-9)


def test_fusion_sees_all_three_responses():
    fusion = ResponseFusion((0, 1, 2))
    with torch.no_grad():
        fusion.conv.weight.zero_()
        fusion.conv.weight[0, :, 1, 1] = torch.tensor([100.0, 10.0, 1.0])
        fusion.conv.bias.zero_()
    flat = [torch.full((1, 1, n, n), v) for n, v in ((2, 1.0), (4, 2.0), (8, 3.0))]
    torch.testing.assert_close(fusion(flat), torch.full((1, 1, 8, 8), 123.0))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vision_guidance": "attention_cut"},
        {"vision_guidance": "none", "text_guidance": "mean", "text_kernel": 2, "fusion": "res3"},
        {"text_encoder": "lstm", "streams": "rgb+flow"},
        {"streams": "flow", "frames": 6},
    ],
)
def test_batch_equals_one_by_one(tiny, embedding, make_sample, changes):
    """Sentences and clips of a batch do not touch each other, and `segment` reads the same
    responses that the loss trains."""
    torch.manual_seed(0)
    system = ACGA(tiny.acga(**changes), embedding).eval()
    samples = [make_sample(system.input_spec, n, seed) for n, seed in ((2, 0), (1, 1))]
    clips = [sample.clip for sample in samples]
    words = system.word_vectors([q for sample in samples for q in sample.queries])
    owner = torch.tensor([0, 0, 1])
    for stream, network in system.networks.items():
        together = network.respond(system.encode(stream, clips), owner, words)
        for s, clip in enumerate(clips[i] for i in owner):
            alone = network.respond(
                system.encode(stream, [clip]), torch.zeros(1, dtype=torch.long), words[s : s + 1]
            )
            for one, many in zip(alone, together, strict=True):
                torch.testing.assert_close(one[0], many[s], rtol=1e-4, atol=1e-5)


def test_streams_are_averaged(tiny, embedding, make_sample):
    system = ACGA(tiny.acga(streams="rgb+flow"), embedding).eval()
    sample = make_sample(system.input_spec)
    encoded = {name: system.encode(name, [sample.clip]) for name in ("rgb", "flow")}
    words, owner = system.word_vectors(sample.queries[:1]), torch.zeros(1, dtype=torch.long)
    each = [system.networks[s].respond(encoded[s], owner, words)[-1][0, 0] for s in encoded]
    got = system.response(encoded, sample.queries[0])
    torch.testing.assert_close(got, (each[0] + each[1]) / 2)


def test_attention_is_what_the_decoder_used(tiny, embedding, make_sample):
    system = ACGA(tiny.acga(), embedding).eval()
    sample = make_sample(system.input_spec)
    seen = system.attention(sample.clip, sample.queries[1])
    h = w = 2
    assert seen.words.shape == (20, h, w) and seen.cells.shape == (h, w, h, w)
    torch.testing.assert_close(seen.words.sum(0), torch.ones(h, w))
    torch.testing.assert_close(seen.cells.sum((2, 3)), torch.ones(h, w))
    network, words = system.networks["rgb"], system.word_vectors(sample.queries[1:2])
    encoded = system.encode("rgb", [sample.clip])
    guided = network.guide(encoded, torch.zeros(1, dtype=torch.long), words)
    text = network.text(words)[0]
    torch.testing.assert_close(torch.einsum("dl,lhw->dhw", text, seen.words), guided.text[0])
    value = network.cell_guidance.value(with_coordinates(encoded)[0].permute(1, 2, 0))
    looked = torch.einsum("hwyx,yxd->dhw", seen.cells, value)
    torch.testing.assert_close(looked, guided.vision[0])


def test_frozen_features_go_on_to_the_same_response(tiny, embedding, make_sample):
    system = ACGA(tiny.acga(), embedding).eval()
    clip = make_sample(system.input_spec).clip
    features = frozen_features(system, [clip, clip])
    assert features.shape[0] == 2 and features.shape[3:] == (2, 2)
    network = system.networks["rgb"]
    torch.testing.assert_close(network.video(features)[:1], system.encode("rgb", [clip]))


def test_only_the_last_block_learns(tiny, embedding, make_sample):
    """Training leaves the backbone alone, batch statistics included."""
    system = ACGA(tiny.acga(), embedding).train()
    before = {k: v.clone() for k, v in system.state_dict().items()}
    system([make_sample(system.input_spec)])["total"].backward()
    torch.optim.SGD([p for p in system.parameters() if p.requires_grad], 1.0).step()
    changed = {k for k, v in system.state_dict().items() if not torch.equal(v, before[k])}
    assert not [key for key in changed if ".backbone." in key]
    assert "networks.rgb.video.tail.mixed_4f.b0.conv3d.weight" in changed
    assert "networks.rgb.video.tail.mixed_4f.b0.bn.running_mean" in changed


def test_everything_learns_when_nothing_is_frozen(tiny, embedding, make_sample):
    system = ACGA(tiny.acga(i3d=tiny.i3d(frozen_until="")), embedding).train()
    system([make_sample(system.input_spec)])["total"].backward()
    assert all(p.grad is not None for p in system.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 40}, "size: wanted a multiple of 16 pixels, got 40"),
        ({"frames": 0}, "frames and stride must be at least 1"),
    ],
)
def test_contradictions_are_refused(tiny, embedding, changes, message):
    with pytest.raises(InputError, match=message):
        ACGA(tiny.acga(**changes), embedding)


def test_interpolation_is_the_naive_one(naive):
    """The yardstick itself: both ways of aligning."""
    maps = double(1, 2, 3, 4)
    for corners in (False, True):
        wanted = F.interpolate(maps, (5, 7), mode="bilinear", align_corners=corners)[0].numpy()
        got = naive.bilinear(maps[0].numpy(), (5, 7), corners)
        np.testing.assert_allclose(got, wanted, **TOLERANCE)
