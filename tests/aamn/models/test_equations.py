"""Equations (1)-(12) of the paper, recomputed with numpy loops from the modules' own weights, small
and at the paper's sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import random_query, random_sample, tiny_segmenter
from torch import nn

from aamn.config.schema import ActionConfig, ActorConfig, LanguageConfig
from aamn.models.action import ActionModule
from aamn.models.actor import ActorModule
from aamn.models.encoded import FrameFeatures
from aamn.models.language import Language
from aamn.models.losses import matching_loss, sample_mismatches, segmentation_loss
from aamn.models.matching import Matching
from aamn.models.visual import TubeFeatures
from aamn.ops.masks import crop_masks
from aamn.tubes.aggregation import gather_members, key_plus_context
from aamn.tubes.linking import link_tubes


def f64(tensor):
    return tensor.detach().double().numpy()


def linear(layer, x):
    y = f64(layer.weight) @ x
    return y if layer.bias is None else y + f64(layer.bias)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


def unit(x):
    return x / np.linalg.norm(x)


def lstm(layer, sequence, suffix=""):
    """One direction of a one-layer LSTM over a list of vectors: the hidden states."""
    w_x, w_h = (
        f64(getattr(layer, f"weight_ih_l0{suffix}")),
        f64(getattr(layer, f"weight_hh_l0{suffix}")),
    )
    b = f64(getattr(layer, f"bias_ih_l0{suffix}")) + f64(getattr(layer, f"bias_hh_l0{suffix}"))
    h, c, states = np.zeros(w_h.shape[1]), np.zeros(w_h.shape[1]), []
    for x in sequence:
        i, f, g, o = np.split(w_x @ x + w_h @ h + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return states


def score(matching, visual, textual):
    """(6) and (9): two FC layers, normalised, multiplied, an FC layer."""
    product = unit(linear(matching.visual, visual)) * unit(linear(matching.textual, textual))
    return linear(matching.score, product)[0]


def make_tubes(seed, k=4, channels=14, valid=None):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(2, k, 2, generator=g) * 50
    boxes = torch.cat([corner, corner + 5 + 20 * torch.rand(2, k, 2, generator=g)], -1)
    return TubeFeatures(
        streams={name: torch.randn(2, k, channels, generator=g) for name in ("rgb", "flow")},
        whole=torch.randn(2, channels, generator=g),
        location=torch.rand(2, k, 5, generator=g),
        boxes=boxes,
        valid=torch.ones(2, k, dtype=torch.bool) if valid is None else valid,
    )


@pytest.mark.parametrize(
    ("lengths", "dimension", "hidden"),
    [((4, 7, 2), 6, 5), ((1,), 6, 5), ((20, 1), 6, 5), ((20, 3), 300, 512)],
)
def test_sentence_representation_3_4_5(lengths, dimension, hidden):
    torch.manual_seed(1)
    embedding = nn.Embedding(23, dimension, padding_idx=0)
    language = Language(LanguageConfig(hidden=hidden), embedding, ("actor", "action"))
    g = torch.Generator().manual_seed(2)
    queries = [random_query(n, g) for n in lengths]
    encoded = language([query.words for query in queries])
    for i, query in enumerate(queries):
        words = [f64(embedding.weight)[w] for w in query.words.tolist()]
        states, layer_input = [], words
        for layer in language.attention.states.layers:
            forward = lstm(layer, layer_input)
            backward = lstm(layer, layer_input[::-1], "_reverse")[::-1]
            layer_input = [np.concatenate(pair) for pair in zip(forward, backward, strict=True)]
            states.append(layer_input)
        h = [np.concatenate(parts) for parts in zip(*states, strict=True)]
        for name in ("actor", "action"):
            gamma = softmax(np.array([linear(language.attention.weights[name], s)[0] for s in h]))
            q = sum(weight * word for weight, word in zip(gamma, words, strict=True))
            np.testing.assert_allclose(
                f64(encoded.attention[name][i, : len(words)]), gamma, atol=1e-6
            )
            assert (encoded.attention[name][i, len(words) :] == 0).all()
            np.testing.assert_allclose(f64(encoded.vectors[name][i]), q, atol=2e-6)


@pytest.mark.parametrize(("located", "gain"), [(True, 1.0), (True, 3.0), (False, 1.0)])
def test_actor_score_6(located, gain):
    segmenter = tiny_segmenter(f"aamn.actor.location={located}", f"aamn.actor.location_gain={gain}")
    module: ActorModule = segmenter.heads["actor"]
    tubes, q = make_tubes(3), torch.randn(6)
    got = module(tubes).vectors @ module.matching.queries(q) + module.matching.bias
    for b in range(2):
        for k in range(4):
            visual = f64(tubes.streams["rgb"][b, k])
            if located:
                visual = np.concatenate([visual, gain * f64(tubes.location[b, k])])
            expected = score(module.matching, visual, f64(q))
            assert got[b, k].item() == pytest.approx(expected, abs=1e-5)


def naive_action(module, tubes, b, k):
    """v_k^action and alpha of one tube of one clip, (7) and (8), with any choice of parts."""
    rgb, flow = f64(tubes.streams["rgb"][b]), f64(tubes.streams["flow"][b])
    others = [j for j in range(len(rgb)) if j != k and tubes.valid[b, j]]
    others.sort(key=lambda j: (tubes.boxes[b, j, 1].item(), tubes.boxes[b, j, 0].item()))
    states = lstm(module.context.lstm, [f64(tubes.whole[b]), *(rgb[j] for j in others)])
    readout = module.context.readout
    y = [np.maximum(linear(readout.state[0], h), 0) for h in states]
    alpha = softmax(np.array([linear(readout.weight, value)[0] for value in y]))
    context = sum(a * value for a, value in zip(alpha, y, strict=True))
    g_a = linear(module.fusion.appearance, np.concatenate([rgb[k], context]))
    g_b = linear(module.fusion.motion, flow[k])
    gate = sigmoid(linear(module.fusion.gate, np.concatenate([g_a, g_b])))
    return gate * g_a + (1 - gate) * g_b, alpha, others


@pytest.mark.parametrize("missing", [(), (3,), (1, 2, 3)])
def test_action_score_7_8_9(missing):
    module: ActionModule = tiny_segmenter().heads["action"]
    valid = torch.ones(2, 4, dtype=torch.bool)
    valid[0, list(missing)] = False
    tubes, q = make_tubes(4, valid=valid), torch.randn(6)
    represented = module.represent(tubes)
    got = module(tubes).vectors @ module.matching.queries(q) + module.matching.bias
    for b in range(2):
        for k in torch.nonzero(valid[b]).flatten().tolist():
            vector, alpha, others = naive_action(module, tubes, b, k)
            np.testing.assert_allclose(f64(represented.features[b, k]), vector, atol=1e-5)
            seen = represented.context.attention[b, k]
            np.testing.assert_allclose(f64(seen[: len(alpha)]), alpha, atol=1e-6)
            assert (seen[len(alpha) :] == 0).all()
            assert represented.context.members[b, k, : len(alpha)].tolist() == [-1, *others]
            expected = score(module.matching, vector, f64(q))
            assert got[b, k].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("missing", [(), (2, 5)])
def test_modules_at_the_papers_sizes_6_to_9(missing):
    """K = 6, C_v' = 1024, C_e = 300, C_c = 512; the common width of 512 is ours."""
    torch.manual_seed(0)
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[1, list(missing)] = False
    tubes, q = make_tubes(7, 6, 1024, valid), torch.randn(300)
    actor = ActorModule(ActorConfig(), 1024, 300, 512)
    action = ActionModule(ActionConfig(), 1024, 300, 512)
    sides = {part: part(tubes).vectors @ part.matching.queries(q) for part in (actor, action)}
    for b, k in ((0, 0), (0, 5), (1, 1)):
        visual = np.concatenate([f64(tubes.streams["rgb"][b, k]), f64(tubes.location[b, k])])
        vector, alpha, _ = naive_action(action, tubes, b, k)
        assert len(alpha) == 6 - len(missing) * b
        for part, own in ((actor, visual), (action, vector)):
            expected = score(part.matching, own, f64(q))
            got = (sides[part][b, k] + part.matching.bias).item()
            assert got == pytest.approx(expected, abs=2e-6)


def test_tubes_at_the_papers_sizes_1_2():
    """T = 9, K = 6, C_v = 4096: every link is the best by (1), and tubes aggregate by (2)."""
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(1, 9, 6, 2, generator=g) * 300
    boxes = torch.cat([corner, corner + 40 + 160 * torch.rand(1, 9, 6, 2, generator=g)], -1)
    features = torch.randn(1, 9, 6, 4096, generator=g)
    tubes = link_tubes(boxes, features, torch.ones(1, 9, 6, dtype=torch.bool), 4, 1.0, "chain")
    own = key_plus_context(gather_members(features, tubes.members), tubes.linked, 4)
    v, r = f64(features[0]), f64(boxes[0])
    for tube in range(6):
        chain = {4: tube}
        for step in (1, -1):
            for n in range(4 + step, 9 if step > 0 else -1, step):
                before = (n - step, chain[n - step])
                near = [
                    overlap(r[before], r[n, j]) + 1 / (1 + np.linalg.norm(v[before] - v[n, j]))
                    for j in range(6)
                ]
                chain[n] = int(np.argmax(near))
        assert tubes.members[0, tube].tolist() == [chain[n] for n in range(9)]
        expected = v[4, tube] + sum(v[n, chain[n]] for n in range(9) if n != 4) / 8
        np.testing.assert_allclose(f64(own[0, tube]), expected, atol=1e-5)


OF_FLOW = (
    "aamn.streams=flow", "aamn.link_features=flow", "aamn.mask_head.features=flow",
)  # fmt: skip
OF_RGB = ("aamn.streams=rgb", "aamn.mask_head.features=rgb")


@pytest.mark.parametrize(
    ("overrides", "appearance", "motion"),
    [((), "rgb", "flow"), (OF_RGB, "rgb", "rgb"), (OF_FLOW, "flow", "flow")],
    ids=["both", "rgb", "flow"],
)
@pytest.mark.parametrize("aggregation", ["key_plus_context", "average"])
def test_a_tube_and_the_whole_clip_are_of_all_frames_2(
    overrides, appearance, motion, aggregation, monkeypatch
):
    """v_k, f_k and v_0 of T = 3 frames from given region features, the whole frame's first; where
    a stream is absent, the other one's features take its place (Table IV)."""
    segmenter = tiny_segmenter(*overrides, f"aamn.aggregation={aggregation}")
    sample = random_sample(segmenter)
    g = torch.Generator().manual_seed(3)
    regions = {name: torch.randn(3, 5, 12, generator=g) for name in segmenter.streams}
    monkeypatch.setattr(
        segmenter, "describe_rois", lambda maps, batch: FrameFeatures(maps, regions)
    )
    seen = []
    segmenter.heads["action"].register_forward_hook(lambda m, args, out: seen.append(args[0]))
    found = segmenter.encode([sample.clip], [sample.proposals])
    members = found.tubes.members[0].tolist()

    def described(name, places):
        first, key, last = (f64(regions[name][n, place]) for n, place in enumerate(places))
        own = (first + key + last) / 3 if aggregation == "average" else key + (first + last) / 2
        return np.maximum(linear(segmenter.tube_layers[name][1], own), 0)

    np.testing.assert_allclose(f64(seen[0].whole[0]), described(appearance, (0, 0, 0)), atol=1e-5)
    for k, (first, key, last) in enumerate(members):
        assert key == k
        for name, source in (("rgb", appearance), ("flow", motion)):
            wanted = described(source, (1 + first, 1 + key, 1 + last))
            np.testing.assert_allclose(f64(seen[0].streams[name][0, k]), wanted, atol=1e-5)


def overlap(a, b):
    """IoU of two boxes."""
    w, h = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return w * h / (areas - w * h)


def hinge(s, clips, matched, mismatches, margin=0.1):
    """(12) by plain loops over all tubes, and over the mismatched sentences of each sentence."""
    total = 0.0
    for q, (b, k) in enumerate(zip(clips, matched, strict=True)):
        total += sum(max(0, margin - s[q, b, k] + s[q, b, j]) for j in range(s.shape[2]) if j != k)
        total += sum(max(0, margin - s[q, b, k] + s[p, b, k]) for p in mismatches[q])
    return total / len(clips)


def cross_entropy(logits, targets):
    """(11): the mean over all cells of all masks."""
    p = sigmoid(logits)
    return -np.mean(targets * np.log(p) + (1 - targets) * np.log(1 - p))


def test_losses_at_the_papers_sizes_11_12():
    """K = 6 tubes, 28 x 28 masks, epsilon = 0.1; six sentences of six actors of one video, so that
    the K - 1 = 5 mismatches of each are all others."""
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 1, 6, generator=g) * 0.2
    clips, actors = torch.zeros(6, dtype=torch.long), torch.arange(6)
    drawn = sample_mismatches(clips, actors, 5)
    got = matching_loss(scores, torch.ones(1, 6, dtype=torch.bool), clips, actors, drawn, 0.1)
    others = [[p for p in range(6) if p != q] for q in range(6)]
    assert got.item() == pytest.approx(hinge(f64(scores), [0] * 6, range(6), others), abs=1e-6)
    logits = torch.randn(6, 28, 28, generator=g) * 3
    targets = (torch.rand(6, 28, 28, generator=g) > 0.5).float()
    expected = cross_entropy(f64(logits), f64(targets))
    assert segmentation_loss(logits, targets).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("balance", [5.0, 0.1])
def test_joint_loss_10_of_a_whole_clip(balance):
    """L_mat + lambda L_seg, both recomputed from the scores and mask logits of the segmenter; the
    four sentences name the four boxes, so that K - 1 = 3 mismatches are all others."""
    segmenter = tiny_segmenter(f"aamn.mask_loss_weight={balance}")
    sample = random_sample(segmenter, lengths=(3, 1, 5, 2))
    with torch.no_grad():
        losses = segmenter([sample])
        clips = segmenter.encode([sample.clip], [sample.proposals])
        parts = segmenter.scores(clips.sides, segmenter.encode_sentences(sample.queries))
        boxes = sample.proposals.boxes[segmenter.input_spec.key]
        logits = segmenter.mask_logits(clips, torch.full((4,), segmenter.input_spec.key), boxes)
    scores = f64(parts["actor"]) + f64(parts["action"])
    others = [[p for p in range(4) if p != q] for q in range(4)]
    matching = hinge(scores, [0] * 4, range(4), others)
    masks = torch.stack([target.mask for target in sample.targets])
    mask = cross_entropy(f64(logits), f64(crop_masks(masks, boxes, 28)))
    assert losses["matching"].item() == pytest.approx(matching, abs=1e-5)
    assert losses["mask"].item() == pytest.approx(mask, abs=1e-5)
    assert losses["total"].item() == pytest.approx(matching + balance * mask, abs=5e-5)


def test_losses_of_two_clips_10_11_12():
    """By plain loops over two clips of different sizes: a sentence whose actor no proposal holds
    takes no part, two sentences about one actor share a mask, and are no mismatch of each other."""
    segmenter = tiny_segmenter("aamn.margin=0.3", "aamn.match_iou=0.9")
    one = random_sample(segmenter, seed=1, video="a", lengths=(2, 3))
    two = random_sample(segmenter, seed=2, video="b", lengths=(1, 2, 4), size=(50, 40))
    twice, lost = two.targets[1], replace(two.targets[2], box=torch.tensor([0.0, 0, 40, 50]))
    two = replace(two, targets=(twice, twice, lost))
    with torch.no_grad():
        losses = segmenter([one, two])
        clips = segmenter.encode([one.clip, two.clip], [one.proposals, two.proposals])
        scores = segmenter.scores(
            clips.sides, segmenter.encode_sentences(one.queries + two.queries)
        )
        masks = []
        for sample, tubes in ((one, (0, 1)), (two, (1,))):
            alone = segmenter.encode([sample.clip], [sample.proposals])
            boxes = sample.proposals.boxes[1, list(tubes)]
            logits = segmenter.mask_logits(alone, torch.ones(len(boxes), dtype=torch.long), boxes)
            drawn = torch.stack(
                [sample.targets[tube if sample is one else 0].mask for tube in tubes]
            )
            masks.append((f64(logits), f64(crop_masks(drawn, boxes, 28))))
    s = f64(scores["actor"]) + f64(scores["action"])
    mismatches = [(1, 2, 3), (0, 2, 3), (0, 1), (0, 1)]
    matching = hinge(s[:4], (0, 0, 1, 1), (0, 1, 1, 1), mismatches, 0.3)
    mask = cross_entropy(*(np.concatenate(part) for part in zip(*masks, strict=True)))
    assert losses["matching"].item() == pytest.approx(matching, abs=1e-5)
    assert losses["mask"].item() == pytest.approx(mask, abs=1e-5)
    assert losses["total"].item() == pytest.approx(matching + 5 * mask, abs=5e-5)
    assert (losses["count/sentences"], losses["count/unmatched"]) == (5, 1)


def test_there_are_k_minus_1_mismatched_sentences_12():
    """K = 2: one, about the other actor of the sentence's own video, though the batch has more."""
    segmenter = tiny_segmenter("aamn.proposals=2")
    samples = [random_sample(segmenter, seed=s, video=f"v{s}", lengths=(2, 3)) for s in (1, 2)]
    with torch.no_grad():
        losses = segmenter(samples)
        clips = segmenter.encode([s.clip for s in samples], [s.proposals for s in samples])
        queries = samples[0].queries + samples[1].queries
        scores = segmenter.scores(clips.sides, segmenter.encode_sentences(queries))
    s = f64(scores["actor"]) + f64(scores["action"])
    expected = hinge(s, (0, 0, 1, 1), (0, 1, 0, 1), [(1,), (0,), (3,), (2,)])
    assert losses["matching"].item() == pytest.approx(expected, abs=1e-5)


def test_sentences_of_other_videos_fill_up_the_mismatched_ones_12():
    """K = 4 and a batch of one clip with two sentences: one mismatch each in the batch, and then
    the two strangers, which are no sentences of their own."""
    segmenter = tiny_segmenter()
    (a, b) = (random_sample(segmenter, seed=s, lengths=(2, 3)) for s in (1, 2))
    sample = replace(a, strangers=b.queries)
    assert segmenter.input_spec.strangers == 3
    with torch.no_grad():
        losses = segmenter([sample])
        clips = segmenter.encode([sample.clip], [sample.proposals])
        scores = segmenter.scores(clips.sides, segmenter.encode_sentences(a.queries + b.queries))
    s = f64(scores["actor"]) + f64(scores["action"])
    expected = hinge(s, (0, 0), (0, 1), [(1, 2, 3), (0, 2, 3)])
    assert losses["matching"].item() == pytest.approx(expected, abs=1e-5)
    assert losses["count/sentences"] == 2
    alone = tiny_segmenter("aamn.objective.mismatches=batch")
    assert alone.input_spec.strangers == 0


def test_mean_readout_averages_the_states():
    torch.manual_seed(0)
    module = ActionModule(ActionConfig(context="mean", context_hidden=9), 14, 6, 10)
    valid = torch.tensor([[True, True, False, True], [True] * 4])
    tubes = make_tubes(5, valid=valid)
    context = module.context(tubes).vectors
    rgb = f64(tubes.streams["rgb"][0])
    others = sorted((1, 3), key=lambda j: tubes.boxes[0, j, 1].item())
    states = lstm(module.context.lstm, [f64(tubes.whole[0]), *(rgb[j] for j in others)])
    np.testing.assert_allclose(f64(context[0, 0]), np.mean(states, 0), atol=1e-6)


def test_concat_fusion_keeps_both():
    torch.manual_seed(0)
    module = ActionModule(ActionConfig(context="none", fusion="concat"), 14, 6, 10)
    tubes = make_tubes(6)
    got = module.represent(tubes).features[1, 2]
    a = linear(module.fusion.appearance, f64(tubes.streams["rgb"][1, 2]))
    b = linear(module.fusion.motion, f64(tubes.streams["flow"][1, 2]))
    np.testing.assert_allclose(f64(got), np.concatenate([a, b]), atol=1e-6)


def test_location_feature_is_that_of_the_frame_not_of_the_square():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter, size=(36, 60))
    seen = {}
    segmenter.heads["actor"].register_forward_hook(lambda m, args, out: seen.update(t=args[0]))
    segmenter.encode([sample.clip], [sample.proposals])
    x1, y1, x2, y2 = sample.proposals.boxes[segmenter.input_spec.key, 2].tolist()
    expected = [x1 / 60, y1 / 36, x2 / 60, y2 / 36, (x2 - x1) * (y2 - y1) / (60 * 36)]
    np.testing.assert_allclose(seen["t"].location[0, 2].detach().numpy(), expected, atol=1e-6)


def test_matching_as_the_paper_writes_it_is_the_inner_product():
    torch.manual_seed(0)
    matching = Matching(7, 6, 10)
    nn.init.normal_(matching.score.weight)
    nn.init.constant_(matching.score.bias, -0.2)
    visual, textual = torch.randn(5, 7), torch.randn(6)
    direct = matching(visual, textual.expand(5, -1))
    inner = matching.tubes(visual) @ matching.queries(textual) + matching.bias
    torch.testing.assert_close(direct, inner)


def test_a_fresh_score_is_the_cosine():
    """What the margin is measured against; the paper does not say."""
    torch.manual_seed(0)
    matching = Matching(7, 6, 10)
    visual, textual = torch.randn(7), torch.randn(6)
    a, b = linear(matching.visual, f64(visual)), linear(matching.textual, f64(textual))
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert matching(visual, textual).item() == pytest.approx(expected, abs=1e-6)
    inner = matching.tubes(visual) @ matching.queries(textual) + matching.bias
    assert inner.item() == pytest.approx(expected, abs=1e-6)


JOINT = ("aamn.matching=joint",)
NO_FUSION = ("aamn.action.fusion=none",)


@pytest.mark.parametrize(
    ("part", "overrides", "looks_at"),
    [
        ("actor", (), "own rgb, location"),
        ("actor", ("aamn.actor.location=false",), "own rgb"),
        ("actor", ("aamn.actor.features=rgb+flow",), "own rgb, own flow, location"),
        ("actor", ("aamn.actor.features=flow",), "own flow, location"),
        ("action", (), "own rgb, other rgb, own flow, whole"),
        ("action", ("aamn.action.context=mean",), "own rgb, other rgb, own flow, whole"),
        ("action", ("aamn.action.context=none",), "own rgb, own flow"),
        ("action", ("aamn.action.fusion=concat",), "own rgb, other rgb, own flow, whole"),
        ("action", ("aamn.action.features=rgb", *NO_FUSION), "own rgb, other rgb, whole"),
        (
            "action",
            ("aamn.action.features=flow", "aamn.action.context=none", *NO_FUSION),
            "own flow",
        ),
        ("joint", JOINT, "own rgb, own flow"),
    ],
)
def test_a_modules_features_are_those_that_its_row_of_table_4_names(part, overrides, looks_at):
    """A change in anything else leaves the tube's side of the score as it is."""
    module = tiny_segmenter(*overrides).heads[part]
    tubes = make_tubes(8)
    before = module(tubes).vectors[0, 1]

    def moved(values, place):
        values = values.clone()
        values[place] += 1.0
        return values

    def stream(name, tube):
        return replace(tubes, streams=tubes.streams | {name: moved(tubes.streams[name], (0, tube))})

    changes = {
        "own rgb": stream("rgb", 1),
        "other rgb": stream("rgb", 2),
        "own flow": stream("flow", 1),
        "other flow": stream("flow", 2),
        "whole": replace(tubes, whole=moved(tubes.whole, 0)),
        "location": replace(tubes, location=moved(tubes.location, (0, 1))),
    }
    changed = [
        name
        for name, other in changes.items()
        if not torch.allclose(module(other).vectors[0, 1], before, atol=1e-6)
    ]
    assert ", ".join(changed) == looks_at
