"""What the one-stage systems share: losses, targets, masks, the door."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from aamn.models.baselines.acga import ACGA
from aamn.models.baselines.cstm import CSTM, SPATIAL
from aamn.models.baselines.gavrilyuk import Gavrilyuk
from aamn.models.baselines.one_stage import clip_needs, learned_parameters, stack_stream
from aamn.models.baselines.responses import (
    ResponseLoss,
    content_probabilities,
    half_maximum_mask,
    network_mask,
    resize_targets,
    weighted_cross_entropy,
)
from aamn.structures import Geometry, Query
from proposals.errors import InputError

SYSTEMS = {"acga": ACGA, "gavrilyuk": Gavrilyuk, "cstm": CSTM}


def frozen_features(system, clips, stream="rgb"):
    """What the layers that do not learn make of clips."""
    return system.networks[stream].video.frozen(stack_stream(clips, stream, system.device))


@pytest.fixture(params=SYSTEMS)
def system(request, tiny, embedding):
    torch.manual_seed(0)
    return SYSTEMS[request.param](getattr(tiny, request.param)(), embedding).eval()


@pytest.mark.parametrize("foreground", [1.0, 1.5, 2.0])
def test_weighted_cross_entropy_is_the_formula(foreground):
    """ACGA (14), (15), pixel by pixel; soft targets too."""
    rng = np.random.default_rng(0)
    r, y = rng.normal(size=(2, 3, 4)), rng.uniform(size=(2, 3, 4))
    wanted = 0.0
    for place in np.ndindex(r.shape):
        p = 1 / (1 + math.exp(-r[place]))
        wanted -= foreground * y[place] * math.log(p) + (1 - y[place]) * math.log(1 - p)
    got = weighted_cross_entropy(torch.from_numpy(r), torch.from_numpy(y), foreground)
    assert got.item() == pytest.approx(wanted / r.size, abs=1e-12)


def test_targets_at_other_sizes_by_hand():
    """Four cells of a 4 x 4 target: bilinear takes the mean of the middle four of each, nearest
    the first."""
    target = torch.zeros(1, 4, 4)
    target[0, 0, 0] = target[0, 1, 1] = target[0, 2, 2] = 1
    assert resize_targets(target, (2, 2), "nearest")[0].tolist() == [[1, 0], [0, 1]]
    assert resize_targets(target, (2, 2), "bilinear")[0].tolist() == [[0.5, 0], [0, 0.25]]
    assert resize_targets(target, (4, 4), "bilinear")[0].tolist() == target[0].tolist()


def test_loss_is_the_weighted_sum_over_sizes():
    """ACGA (16), CSTM suppl. (3)."""
    loss = ResponseLoss({"coarse": 0.1, "fine": 1.0}, 1.5, "nearest")
    targets = torch.ones(1, 4, 4)
    responses = [torch.zeros(1, 1, 2, 2), torch.full((1, 1, 4, 4), 2.0)]
    got = loss(responses, targets)
    assert list(got) == ["total", "coarse", "fine"]
    coarse, fine = 1.5 * math.log(2), 1.5 * math.log(1 + math.exp(-2))
    assert got["coarse"].item() == pytest.approx(coarse)
    assert got["fine"].item() == pytest.approx(fine)
    assert got["total"].item() == pytest.approx(0.1 * coarse + fine)


def test_targets_lie_where_the_frame_lies():
    geometry = Geometry.fit((3, 4), (8, 8))  # twice as large, two rows of padding
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[2, 1:3] = True
    got = network_mask(mask, geometry)
    wanted = torch.zeros(8, 8)
    wanted[4:6, 2:6] = 1
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([[0.9, 0.46], [0.45, 0.1]], [[1, 1], [0, 0]]),  # above half, not at it
        ([[0.01, 0.002], [0.001, 0.009]], [[1, 0], [0, 1]]),  # far below one half
        ([[0.3, 0.3], [0.3, 0.3]], [[1, 1], [1, 1]]),
    ],
)
def test_half_maximum_by_hand(values, wanted):
    mask = half_maximum_mask(torch.tensor(values), (2, 2))
    assert mask.int().tolist() == wanted
    twice = half_maximum_mask(torch.tensor(values), (4, 4))
    assert twice.int().tolist() == np.kron(wanted, np.ones((2, 2), int)).tolist()


def test_padding_has_no_say_in_the_maximum():
    """A response that is highest in the padding still finds the frame's own maximum."""
    geometry = Geometry.fit((2, 4), (4, 4))
    response = torch.full((4, 4), -4.0)
    response[1, 2] = 0.0
    response[2:] = 50.0
    probabilities = content_probabilities(response, geometry)
    assert probabilities.shape == (2, 4) and probabilities.max().item() == 0.5
    mask = half_maximum_mask(probabilities, (2, 4))
    assert mask.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("frames", "stride", "offsets"),
    [
        (16, 1, tuple(range(-8, 8))),  # ACGA: the annotated frame is index 8
        (8, 2, (-8, -6, -4, -2, 0, 2, 4, 6)),  # CSTM: index 4
        (24, 1, tuple(range(-12, 12))),
        (1, 1, (0,)),
    ],
)
def test_offsets_of_a_clip(frames, stride, offsets):
    input_spec = clip_needs(32, 16, frames, stride, flow=False)
    assert input_spec.offsets == offsets and input_spec.key == frames // 2
    assert (input_spec.predicts, input_spec.proposals) == ("key", 0)


def test_learned_parameters_leave_out_frozen_ones_and_word_vectors():
    system = nn.Module()
    system.embedding = nn.Embedding(10, 4)
    system.backbone = nn.Linear(3, 3).requires_grad_(False)
    system.head = nn.Linear(3, 2)
    assert learned_parameters(system) == 8


def test_training_losses(system, make_sample):
    samples = [make_sample(system.input_spec, 2, 0), make_sample(system.input_spec, 1, 1)]
    losses = system.train()(samples)
    parts = {name: value for name, value in losses.items() if name != "total"}
    wanted = sum(system.loss.weights[name] * value for name, value in parts.items())
    torch.testing.assert_close(losses["total"], wanted)
    losses["total"].backward()
    learning = [p for p in system.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learning)


# The share of each target that is foreground: squares of 10 x 10 pixels of 30 x 40 become 8 x 8 of
# 32 x 32, then 4 of 8 x 8 cells; of 2 x 2 cells, bilinearly, half of one. Or 16 x 16 of 64 x 64.
SHARES = {"small": 1 / 8, "medium": 1 / 16, "large": 1 / 16}
STAGES = {"stage5": 0.0, **{f"stage{n}": 1 / 16 for n in (4, 3, 2, 1)}, "full": 1 / 16}


@pytest.mark.parametrize(
    ("name", "changes", "shares", "weights"),
    [
        ("acga", {}, SHARES, [1, 1, 1]),
        ("gavrilyuk", {}, SHARES, [1, 1, 1]),
        ("cstm", {}, STAGES, [0.1] * 5 + [1]),
        ("cstm", {"coarse_weight": 0.25}, STAGES, [0.25] * 5 + [1]),
    ],
)
def test_losses_of_undecided_responses_by_hand(
    tiny, embedding, make_sample, monkeypatch, name, changes, shares, weights
):
    """Every pixel costs log 2, those of the foreground three times that."""
    system = SYSTEMS[name](getattr(tiny, name)(foreground_weight=3.0, **changes), embedding)
    sample, network = make_sample(system.input_spec), system.networks["rgb"]
    respond = network.respond
    monkeypatch.setattr(network, "respond", lambda *given: [0 * r for r in respond(*given)])
    losses = {name: value.item() for name, value in system.eval()([sample]).items()}
    wanted = {name: math.log(2) * (1 + 2 * share) for name, share in shares.items()}
    wanted["total"] = sum(w * v for w, v in zip(weights, wanted.values(), strict=True))
    assert losses == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["acga", "gavrilyuk"])
def test_each_stream_learns_by_its_own_loss(tiny, embedding, make_sample, name):
    both = SYSTEMS[name](getattr(tiny, name)(streams="rgb+flow"), embedding).eval()
    sample, alone = make_sample(both.input_spec), []
    for stream in ("rgb", "flow"):
        system = SYSTEMS[name](getattr(tiny, name)(streams=stream), embedding).eval()
        assert system.input_spec.flow == (stream == "flow") and list(system.networks) == [stream]
        system.networks[stream].load_state_dict(both.networks[stream].state_dict())
        alone.append(system([sample]))
        frozen = frozen_features(system, [sample.clip], stream)
        torch.testing.assert_close(frozen_features(both, [sample.clip], stream), frozen)
    for part, value in both([sample]).items():
        torch.testing.assert_close(value, alone[0][part] + alone[1][part])


def test_a_stream_is_channels_before_time(make_sample):
    input_spec = clip_needs(32, 16, 4, 1, flow=True)
    clips = [make_sample(input_spec, seed=seed).clip for seed in (0, 1)]
    for stream, channels in (("rgb", 3), ("flow", 2)):
        stacked = stack_stream(clips, stream, torch.device("cpu"))
        assert stacked.shape == (2, channels, 4, 32, 32)
        assert torch.equal(stacked[1, 1, 2], getattr(clips[1], stream)[2, 1])


def test_an_answer_by_hand(system, make_sample, monkeypatch):
    """A square of the response, which the padding below the frame exceeds, in the frame's own
    pixels; the score is its probability."""
    system.input_spec = replace(system.input_spec, network_size=(32, 32))
    sample = make_sample(system.input_spec, 1)  # 30 x 40 in 24 x 32
    clip = replace(sample.clip, frame_indices=sample.clip.frame_indices + 40)
    response = torch.full((32, 32), -9.0)
    response[6:12, 8:16], response[24:] = 2.0, 50.0
    monkeypatch.setattr(system, "encode", lambda stream, clips: None)
    monkeypatch.setattr(system, "response", lambda encoded, query: response)
    (track,) = system.segment(clip, None, sample.queries)
    wanted = torch.zeros(30, 40, dtype=torch.bool)
    wanted[7:15, 10:20] = True  # each pixel is the cell's that its centre lies in
    assert torch.equal(track.masks[0], wanted)
    assert track.boxes.tolist() == [[10, 7, 20, 15]]
    assert track.frame_indices.tolist() == [40 + system.input_spec.key]
    assert track.score == pytest.approx(1 / (1 + math.exp(-2)))


def test_smaller_masks_take_the_pixel_under_the_middle():
    values = torch.tensor([[0.1, 0.9, 0.1, 0.1], [0.1, 0.9, 0.1, 0.9]] * 2)
    assert half_maximum_mask(values, (2, 2)).tolist() == [[True, True], [True, True]]
    assert network_mask(values > 0.5, Geometry.fit((4, 4), (2, 2))).tolist() == [[1, 1], [1, 1]]


def test_loss_of_a_batch_is_the_mean_over_its_sentences(system, make_sample):
    samples = [make_sample(system.input_spec, 2, 0), make_sample(system.input_spec, 1, 1)]
    with torch.no_grad():
        both = system(samples)["total"]
        first, second = (system([sample])["total"] for sample in samples)
    torch.testing.assert_close(both, (2 * first + second) / 3, rtol=1e-4, atol=1e-5)


def test_answers_are_for_the_key_frame_in_the_original_size(system, make_sample):
    sample = make_sample(system.input_spec, 3)
    tracks = system.segment(sample.clip, None, sample.queries)
    assert [track.text for track in tracks] == [query.text for query in sample.queries]
    for track in tracks:
        assert track.frame_indices.tolist() == [system.input_spec.key]
        assert track.masks.shape == (1, 30, 40) and track.masks.any()
        rows, columns = track.masks[0].any(1).nonzero(), track.masks[0].any(0).nonzero()
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert track.boxes[0].tolist() == [float(v) for v in tight]
        assert 0 < track.score < 1


def test_sentences_do_not_touch_each_other(system, make_sample):
    sample = make_sample(system.input_spec, 3)
    together = system.segment(sample.clip, None, sample.queries)
    for query, track in zip(sample.queries, together, strict=True):
        (alone,) = system.segment(sample.clip, None, [query])
        assert torch.equal(alone.masks, track.masks) and alone.score == track.score


def test_words_are_padded_with_zeros_and_never_cut(system):
    query = Query("two words", ("two", "words"), torch.tensor([3, 5]))
    vectors = system.word_vectors([query])
    assert vectors.shape == (1, 20, 6)
    torch.testing.assert_close(vectors[0, :2], system.embedding.weight[[3, 5]])
    assert not vectors[0, 2:].any()
    long = Query("long", tuple("w" * 21), torch.ones(21, dtype=torch.long))
    with pytest.raises(ValueError, match="more than 20 words"):
        system.word_vectors([long])


@pytest.mark.parametrize(
    ("name", "changes", "rate", "steps"),
    [
        ("acga", {"channels": (16, 12, 8), "i3d": 0.1}, 5e-3, 80),
        ("gavrilyuk", {"channels": (16, 12), "i3d": 0.1}, 5e-3, 60),
        ("cstm", {"channels": 8, "text_channels": 16, "frames": 2}, 5e-3, 55),
    ],
)
@pytest.mark.slow
def test_they_learn_which_square_is_meant(
    tiny, embedding, make_sample, name, changes, rate, steps, monkeypatch
):
    """Two sentences about two squares of one clip: after some steps each gets its own. CSTM has
    half of ResNet-18's blocks, so that it takes half the time."""
    blocks = partial(ResNet, BasicBlock, [1, 1, 1, 1])
    monkeypatch.setitem(SPATIAL, "resnet18", (blocks, *SPATIAL["resnet18"][1:]))
    if "i3d" in changes:
        changes = changes | {"i3d": tiny.i3d(changes["i3d"], frozen_until="")}
    torch.manual_seed(0)
    system = SYSTEMS[name](getattr(tiny, name)(**changes), embedding).train()
    sample = make_sample(system.input_spec)
    optimiser = torch.optim.Adam(system.parameters(), rate)
    for _ in range(steps):
        optimiser.zero_grad()
        system([sample])["total"].backward()
        optimiser.step()
    tracks = system.eval().segment(sample.clip, None, sample.queries)
    for track, target in zip(tracks, sample.targets, strict=True):
        both, either = (track.masks[0] & target.mask).sum(), (track.masks[0] | target.mask).sum()
        assert both / either > 0.5


def test_missing_flow_is_named(tiny, embedding, make_sample):
    system = ACGA(tiny.acga(streams="flow"), embedding)
    without = make_sample(clip_needs(32, 16, 4, 1, flow=False))
    with pytest.raises(InputError, match="video video0: the clip has no flow"):
        system([without])


def test_a_random_frozen_backbone_is_said(tiny, embedding, caplog):
    ACGA(tiny.acga(), embedding).load_pretrained()
    assert "layers up to mixed_4e stay random" in caplog.text
    caplog.clear()
    CSTM(tiny.cstm(), embedding).load_pretrained()
    assert not caplog.text
