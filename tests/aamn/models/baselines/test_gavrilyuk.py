"""Gavrilyuk et al.: the dynamic filters and the network against a naive computation."""

import numpy as np
import pytest
import torch

from aamn.models.baselines.gavrilyuk import DynamicFilter, Gavrilyuk, GavrilyukNetwork
from proposals.errors import InputError


def test_dynamic_filter_is_the_naive_computation(naive, exact):
    module = exact(DynamicFilter(4, 3))
    maps, sentences = torch.randn(2, 3, 2, 5).double(), torch.randn(2, 4).double()
    got = module(maps, sentences)
    assert got.shape == (2, 1, 2, 5)
    for s in range(2):
        kernel = np.tanh(naive.linear(module.linear, sentences[s].numpy()))
        kernel = kernel / np.sqrt((kernel**2).sum())
        for y in range(2):
            for x in range(5):
                wanted = kernel @ maps[s, :, y, x].numpy()
                assert got[s, 0, y, x].item() == pytest.approx(wanted, abs=1e-12)


def test_network_is_the_naive_computation(naive, exact, tiny):
    """From F_V and words to the three responses; the filters are made from the maximum over the
    words, padding included."""
    network = exact(GavrilyukNetwork(tiny.gavrilyuk(), "rgb", 4))
    features = torch.randn(1, network.video.channels, 2, 2).double()
    words = torch.randn(1, 5, 4).double()
    text = np.tanh(naive.conv(network.text.conv, words[0].numpy().T))
    sentence = text.max(1)
    maps = [np.concatenate([features[0].numpy(), naive.coordinates(2, 2)])]
    maps.append(naive.deconv(network.to_medium, maps[0]))
    maps.append(naive.deconv(network.to_large, maps[1]))
    got = network.respond(network.upsample(features), torch.tensor([0]), words)
    assert [response.shape[-1] for response in got] == [2, 8, 32]
    for response, module, one in zip(got, network.filters, maps, strict=True):
        kernel = np.tanh(naive.linear(module.linear, sentence))
        wanted = np.einsum("d,dhw->hw", kernel / np.linalg.norm(kernel), one)
        np.testing.assert_allclose(response[0, 0].detach(), wanted, rtol=0, atol=1e-11)


def test_visual_work_is_done_once_for_all_sentences(tiny, embedding, make_sample, monkeypatch):
    system = Gavrilyuk(tiny.gavrilyuk(), embedding).eval()
    calls = []
    original = GavrilyukNetwork.encode
    monkeypatch.setattr(
        GavrilyukNetwork, "encode", lambda *args: calls.append(1) or original(*args)
    )
    sample = make_sample(system.input_spec, 3)
    system.segment(sample.clip, None, sample.queries)
    system([sample])
    assert len(calls) == 2


def test_two_streams_are_two_networks(tiny, embedding):
    system = Gavrilyuk(tiny.gavrilyuk(streams="rgb+flow"), embedding)
    assert list(system.networks) == ["rgb", "flow"] and system.input_spec.flow
    first = [n.video.backbone.layers[0].conv3d.in_channels for n in system.networks.values()]
    assert first == [3, 2]
    shared = set(system.networks["rgb"].parameters()) & set(system.networks["flow"].parameters())
    assert not shared


def test_contradictions_are_refused(tiny, embedding):
    with pytest.raises(InputError, match="nothing is frozen"):
        Gavrilyuk(tiny.gavrilyuk(backbone_cache="x", i3d=tiny.i3d(frozen_until="")), embedding)
    with pytest.raises(InputError, match="wanted a layer before mixed_4f"):
        Gavrilyuk(tiny.gavrilyuk(i3d=tiny.i3d(frozen_until="mixed_4f")), embedding)
    with pytest.raises(InputError, match="flow_limit must be positive"):
        config = tiny.gavrilyuk(streams="flow", i3d=tiny.i3d(flow_limit=0.0))
        Gavrilyuk(config, embedding)
