"""The whole model: the signature property, padding, batches, masks, gradients."""

from dataclasses import replace

import pytest
import torch
from tiny_models import random_query, random_sample, tiny_config, tiny_segmenter
from torch import nn
from torchvision.ops import roi_align

from aamn.models.build import build_segmenter
from aamn.models.encoded import FrameFeatures
from aamn.ops.masks import paste_masks
from aamn.structures import Proposals
from proposals.errors import InputError

VARIANTS = {
    "full": (),
    "no actor module": ("aamn.actor.enabled=false",),
    "no action module": ("aamn.action.enabled=false",),
    "joint": ("aamn.matching=joint", "aamn.language.attention=mean"),
    "rgb only": (
        "aamn.streams=rgb",
        "aamn.mask_head.features=rgb",
    ),
    "no context, concatenated": ("aamn.action.context=none", "aamn.action.fusion=concat"),
    "actor sees flow": ("aamn.actor.features=rgb+flow",),
    "one frame": ("aamn.radius=0",),
}


def scores_of(track):
    return torch.stack([track.scores.total, track.scores.actor, track.scores.action])


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS)
def test_score_is_an_inner_product_of_a_tube_and_a_sentence(overrides):
    segmenter = tiny_segmenter(*overrides)
    sample = random_sample(segmenter, seed=1)
    with torch.no_grad():
        tubes = segmenter.encode([sample.clip], [sample.proposals]).embedding(0)
        queries = segmenter.embed_queries(sample.queries)
        tracks = segmenter.segment(sample.clip, sample.proposals, sample.queries)
    for query, track in zip(queries, tracks, strict=True):
        inner = tubes.vectors @ query.vector + query.bias
        torch.testing.assert_close(
            inner, track.scores.actor + track.scores.action, atol=1e-5, rtol=0
        )
        torch.testing.assert_close(inner, track.scores.total, atol=1e-5, rtol=0)
        assert track.tube == int(inner.argmax())


def test_each_module_meets_its_own_words():
    """Scores and word weights of a track, from the modules' features and sentence vectors as the
    paper writes them; the same weights go with a kept sentence."""
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter, seed=1)
    seen = []
    segmenter.heads["actor"].register_forward_hook(lambda m, args, out: seen.append(args[0]))
    with torch.no_grad():
        tracks = segmenter.segment(sample.clip, sample.proposals, sample.queries)
        kept = segmenter.embed_queries(sample.queries)
        said = segmenter.language([query.words for query in sample.queries])
        actor, action = segmenter.heads["actor"], segmenter.heads["action"]
        features = {"actor": actor.represent(seen[0]), "action": action.represent(seen[0]).features}
        for i, (query, track) in enumerate(zip(sample.queries, tracks, strict=True)):
            for name, found in (("actor", track.scores.actor), ("action", track.scores.action)):
                words = said.vectors[name][i].expand(4, -1)
                wanted = segmenter.heads[name].matching(features[name][0], words)
                torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
            weights = [said.attention[name][i, : len(query.tokens)] for name in features]
            shown = [track.scores.actor_attention, track.scores.action_attention]
            assert all(torch.equal(a, b) for a, b in zip(shown, weights, strict=True))
            shown = [kept[i].actor_attention, kept[i].action_attention]
            torch.testing.assert_close(shown, weights)
    assert not torch.allclose(*weights), "the modules' word weights could be swapped"


def test_scores_are_not_rounded_where_the_rest_computes_in_half():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        clips = segmenter.encode([sample.clip], [sample.proposals])
        sentences = segmenter.encode_sentences(sample.queries)
        scores = segmenter.scores(clips.sides, sentences)
    for name, values in scores.items():
        tubes, words = clips.sides[name].vectors[0].double(), sentences.sides[name].double()
        exact = words @ tubes.T + sentences.biases[name].double()
        torch.testing.assert_close(values[:, 0].double(), exact, rtol=0, atol=1e-6)


def test_the_video_side_sees_no_sentence_and_the_sentence_side_no_video():
    segmenter = tiny_segmenter()
    sample, other = random_sample(segmenter, seed=1), random_sample(segmenter, seed=2)
    seen = []
    segmenter.language.register_forward_hook(lambda *_: seen.append("sentence"))
    with torch.no_grad():
        clips = segmenter.encode([sample.clip], [sample.proposals])
        boxes = clips.tubes.boxes[0, 0]
        segmenter.mask_logits(clips, torch.arange(len(boxes)), boxes)
        assert not seen
        segmenter.streams.register_forward_hook(lambda *_: seen.append("video"))
        for stream in segmenter.streams.values():
            stream.register_forward_hook(lambda *_: seen.append("video"))
        alone = segmenter.embed_queries(sample.queries[:1])[0]
        together = segmenter.embed_queries((*sample.queries, *other.queries))[0]
    assert "video" not in seen
    torch.testing.assert_close(alone.vector, together.vector)


def test_masks_do_not_depend_on_the_sentence():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter, seed=3, lengths=(1,) * 12)
    g = torch.Generator().manual_seed(9)
    queries = [random_query(1 + i % 6, g) for i in range(40)]
    tracks = segmenter.segment(sample.clip, sample.proposals, queries)
    by_tube = {}
    for track in tracks:
        torch.testing.assert_close(by_tube.setdefault(track.tube, track.masks), track.masks)
    assert len(by_tube) > 1, "the sentences chose a single tube: nothing was compared"


def test_the_context_is_computed_once_and_is_what_the_answer_shows():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter, seed=1)
    found = []
    segmenter.heads["action"].context.register_forward_hook(lambda m, args, out: found.append(out))
    for track in segmenter.segment(sample.clip, sample.proposals, sample.queries):
        assert torch.equal(track.scores.context_attention, found[0].attention[0])
        assert torch.equal(track.scores.context_members, found[0].members[0])
    assert len(found) == 1
    segmenter.train()([sample, sample])
    assert len(found) == 2


def test_batch_is_one_by_one():
    segmenter = tiny_segmenter()
    samples = [
        random_sample(segmenter, seed=s, size=size) for s, size in ((1, (36, 60)), (2, (50, 40)))
    ]
    with torch.no_grad():
        both = segmenter.encode([s.clip for s in samples], [s.proposals for s in samples])
        for b, sample in enumerate(samples):
            one = segmenter.encode([sample.clip], [sample.proposals])
            torch.testing.assert_close(one.tubes.boxes[0], both.tubes.boxes[b])
            torch.testing.assert_close(
                one.embedding(0).vectors, both.embedding(b).vectors, atol=1e-5, rtol=1e-4
            )


def test_regions_are_in_network_pixels_the_whole_frame_first(monkeypatch):
    """36 x 60 lies in 29 x 48 of the square's 48 pixels, 50 x 40 in 48 x 38."""
    segmenter = tiny_segmenter()
    one, two = random_sample(segmenter, seed=1), random_sample(segmenter, seed=2, size=(50, 40))
    seen = []
    stream = segmenter.streams["flow"]
    monkeypatch.setattr(
        stream, "features", lambda maps, rows: seen.append(rows) or torch.zeros(len(rows), 12)
    )
    segmenter.encode([one.clip, two.clip], [one.proposals, two.proposals])
    wanted = []
    clips = ((one, (48, 29), (60, 36)), (two, (38, 48), (40, 50)))
    for number, (sample, inside, original) in enumerate(clips):
        x, y = (n / n0 for n, n0 in zip(inside, original, strict=True))
        for frame in range(3):
            image = 3 * number + frame
            wanted.append([image, 0, 0, *inside])
            for x1, y1, x2, y2 in sample.proposals.boxes[frame].tolist():
                wanted.append([image, x1 * x, y1 * y, x2 * x, y2 * y])
    torch.testing.assert_close(seen[0], torch.tensor(wanted))


@pytest.mark.parametrize("features", ["rgb+flow", "flow", "flow+rgb"])
@pytest.mark.parametrize("detailed", [False, True])
def test_the_mask_head_sees_the_box_in_its_own_frame(features, detailed):
    """Two boxes of frames counted over two clips of different sizes: the streams' maps of that
    frame there, in their order, and the first stream's finer map at twice the resolution."""
    segmenter = tiny_segmenter(
        f"aamn.mask_head.features={features}", f"aamn.mask_head.detail_stride={4 * detailed}"
    )
    one, two = random_sample(segmenter, seed=1), random_sample(segmenter, seed=2, size=(50, 40))
    seen = []
    segmenter.mask_head.register_forward_hook(lambda m, args, out: seen.append(args))
    boxes = torch.tensor([[6.0, 9, 30, 27], [10, 5, 35, 45]])
    with torch.no_grad():
        clips = segmenter.encode([one.clip, two.clip], [one.proposals, two.proposals])
        segmenter.mask_logits(clips, torch.tensor([2, 3]), boxes)
    x, y = 38 / 40, 48 / 50
    regions = [[2, 6 * 0.8, 9 * 29 / 36, 30 * 0.8, 27 * 29 / 36]]
    regions = torch.tensor([*regions, [3, 10 * x, 5 * y, 35 * x, 45 * y]])
    names = features.split("+")
    coarse = [
        roi_align(clips.maps[name][-1], regions, 14, 1 / 8, 0, aligned=True) for name in names
    ]
    torch.testing.assert_close(seen[0][0], torch.cat(coarse, 1))
    fine = [roi_align(clips.maps[names[0]][0], regions, 28, 1 / 4, 0, aligned=True)]
    torch.testing.assert_close(list(seen[0][1:]), fine * detailed)


def test_a_track_is_its_tubes_boxes_and_masks_frame_by_frame():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter, seed=3, lengths=(1,) * 12)
    sample = replace(sample, clip=replace(sample.clip, frame_indices=torch.tensor([4, 5, 5])))
    tracks = segmenter.segment(sample.clip, sample.proposals, sample.queries)
    assert len({track.tube for track in tracks}) > 1
    with torch.no_grad():
        clips = segmenter.encode([sample.clip], [sample.proposals])
        for query, track in zip(sample.queries, tracks, strict=True):
            assert track.text == query.text and track.video_id == "v"
            assert track.frame_indices.tolist() == [4, 5, 5]
            assert track.score == track.scores.total.max() == track.scores.total[track.tube]
            assert torch.equal(track.boxes, clips.tubes.boxes[0, track.tube])
            for frame in range(3):
                box = clips.tubes.boxes[0, track.tube, frame][None]
                logits = segmenter.mask_logits(clips, torch.tensor([frame]), box)
                pasted = paste_masks(logits.sigmoid(), box, (36, 60))[0]
                sure = (pasted - 0.5).abs() > 1e-4
                assert sure.float().mean() > 0.9
                assert torch.equal(track.masks[frame][sure], pasted[sure] > 0.5)


FAR = [40.0, 20, 50, 30]


@pytest.mark.parametrize(
    ("overrides", "last_but_one", "last", "flow", "wanted"),
    [
        # The box comes back to where it was, beside one that goes on.
        (("linking=chain", "link_balance=0"), [8.0, 0, 18, 10], [9.0, 0, 19, 10], 0, 1),
        (("linking=anchor", "link_balance=0"), [8.0, 0, 18, 10], [9.0, 0, 19, 10], 0, 0),
        # IoU 1 against 0.5; RGB is 3 apart from the first, flow `flow` apart from the second.
        (("link_balance=0.4",), None, [0.0, 0, 10, 5], 3, 0),  # 1 + 0.1 : 0.5 + 0.4
        (("link_balance=1",), None, [0.0, 0, 10, 5], 3, 1),  # 1 + 0.25 : 0.5 + 1
        (("link_features=flow",), None, [0.0, 0, 10, 5], 3, 0),  # 1 + 1 : 0.5 + 0.25
        (("link_features=rgb+flow",), None, [0.0, 0, 10, 5], 3, 0),  # 1 + 0.25 : 0.5 + 0.25
        (("link_features=rgb+flow",), None, [0.0, 0, 10, 5], 0.25, 1),  # 1 + 0.25 : 0.5 + 0.8
    ],
)
def test_tubes_are_linked_as_configured(overrides, last_but_one, last, flow, wanted, monkeypatch):
    """The first tube's choice in the last of five frames."""
    here = [0.0, 0, 10, 10]
    segmenter = tiny_segmenter(
        "aamn.radius=2", "aamn.proposals=2", *(f"aamn.{override}" for override in overrides)
    )
    sample = random_sample(segmenter)
    frames = [[here, FAR]] * 3 + [[last_but_one or here, FAR], [here, last]]
    regions = {name: torch.zeros(5, 3, 12) for name in ("rgb", "flow")}
    regions["rgb"][4, 1, 0], regions["flow"][4, 2, 0] = 3 * (last_but_one is None), flow
    monkeypatch.setattr(
        segmenter, "describe_rois", lambda maps, batch: FrameFeatures(maps, regions)
    )
    proposals = replace(sample.proposals, boxes=torch.tensor(frames))
    found = segmenter.encode([sample.clip], [proposals])
    assert found.tubes.members[0, 0].tolist() == [0, 0, 0, 0, wanted]


def test_features_of_frames_are_picked_and_joined_in_their_order():
    def of(first, count):
        values = torch.arange(float(first), first + count)
        maps = {"rgb": (values, 10 * values), "flow": (100 * values,)}
        return FrameFeatures(maps, {"rgb": -values})

    joined = of(3, 2).after(of(0, 3))
    picked = joined.at(torch.tensor([4, 0, 2]))
    for found, wanted in ((joined, [0, 1, 2, 3, 4]), (picked, [4, 0, 2])):
        assert [one.tolist() for one in found.maps["rgb"]] == [wanted, [10 * n for n in wanted]]
        assert [one.tolist() for one in found.maps["flow"]] == [[100 * n for n in wanted]]
        assert found.roi_features["rgb"].tolist() == [-n for n in wanted]


def test_what_the_loader_is_asked_for():
    input_spec = tiny_segmenter("aamn.radius=2").input_spec
    assert (input_spec.offsets, input_spec.key, input_spec.network_size) == (
        (-2, -1, 0, 1, 2),
        2,
        (48, 48),
    )
    assert (input_spec.flow, input_spec.proposals, input_spec.predicts) == (True, 4, "clip")
    alone = ("aamn.streams=rgb", "aamn.mask_head.features=rgb", "aamn.proposals=7")
    input_spec = tiny_segmenter(*alone).input_spec
    assert (input_spec.flow, input_spec.proposals) == (False, 7)


def test_dropout_lies_behind_fc6_and_fc7_and_only_in_training():
    plain, dropping = tiny_segmenter(), tiny_segmenter("aamn.backbone.dropout=0.3")
    dropping.load_state_dict(plain.state_dict())
    found = {n: m.p for n, m in dropping.named_modules() if isinstance(m, nn.Dropout)}
    names = [f"streams.{s}.head.3" for s in ("rgb", "flow")] + ["tube_layers.rgb.0"]
    assert found == dict.fromkeys([*names, "tube_layers.flow.0"], 0.3)
    sample = random_sample(plain)
    with torch.no_grad():
        vectors = [
            one.train(training).encode([sample.clip], [sample.proposals]).embedding(0).vectors
            for one, training in ((plain, True), (dropping, False), (dropping, True))
        ]
    assert torch.equal(vectors[0], vectors[1]) and not torch.allclose(vectors[0], vectors[2])


def test_a_stream_that_only_masks_look_at_describes_no_regions():
    segmenter = tiny_segmenter("aamn.action.features=rgb", "aamn.action.fusion=none")
    assert segmenter.streams["flow"].head is None and list(segmenter.tube_layers) == ["rgb"]
    assert segmenter.streams["rgb"].head is not None
    assert tiny_segmenter("aamn.link_features=flow").streams["flow"].head is not None


def test_permuting_proposals_permutes_scores():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter, seed=4)
    order = torch.tensor([3, 1, 0, 2])
    p = sample.proposals
    moved = Proposals(
        p.frame_indices,
        p.boxes[:, order],
        p.scores[:, order],
        p.labels[:, order],
        p.valid[:, order],
    )
    one = segmenter.segment(sample.clip, p, sample.queries)
    two = segmenter.segment(sample.clip, moved, sample.queries)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(scores_of(b), scores_of(a)[:, order], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(a.boxes, b.boxes)
        assert torch.equal(a.masks, b.masks)


def test_padding_changes_nothing_and_never_wins():
    """Two proposals a frame, alone and padded with invalid ones to four."""
    two = tiny_segmenter("aamn.proposals=2")
    four = tiny_segmenter("aamn.proposals=4")
    four.load_state_dict(two.state_dict())
    sample = random_sample(two, seed=5)
    p, pad = sample.proposals, 2

    def padded(x):
        return torch.cat([x, x.new_zeros(x.shape[0], pad, *x.shape[2:])], 1)

    wide = Proposals(p.frame_indices, *(padded(x) for x in (p.boxes, p.scores, p.labels, p.valid)))
    with torch.no_grad():
        four.heads["actor"].matching.score.bias.fill_(-9.0)
        two.heads["actor"].matching.score.bias.fill_(-9.0)
    for a, b in zip(
        two.segment(sample.clip, p, sample.queries),
        four.segment(sample.clip, wide, sample.queries),
        strict=True,
    ):
        torch.testing.assert_close(scores_of(b)[:, :2], scores_of(a), atol=1e-5, rtol=1e-4)
        assert torch.isneginf(b.scores.total[2:]).all()
        assert a.tube == b.tube and torch.equal(a.masks, b.masks)


def test_a_clip_without_any_proposal_has_empty_masks():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter)
    p = sample.proposals
    nothing = replace(p, boxes=torch.zeros_like(p.boxes), valid=torch.zeros_like(p.valid))
    tracks = segmenter.segment(sample.clip, nothing, sample.queries)
    assert all(track.tube == -1 and not track.masks.any() for track in tracks)
    assert [track.text for track in tracks] == [query.text for query in sample.queries]
    for track in tracks:
        assert track.masks.shape == (3, 36, 60) and track.score == float("-inf")
        assert track.frame_indices.tolist() == sample.clip.frame_indices.tolist()
    losses = segmenter([replace(sample, proposals=nothing)])
    assert losses["total"].item() == 0 and losses["count/unmatched"] == len(sample.queries)
    losses["total"].backward()


def test_mask_head_runs_the_chosen_tubes_as_one_batch():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter, lengths=(2, 3, 4, 5))
    sizes = []
    segmenter.mask_head.register_forward_hook(lambda m, args, out: sizes.append(len(out)))
    tracks = segmenter.segment(sample.clip, sample.proposals, sample.queries)
    assert sizes == [len({track.tube for track in tracks}) * len(segmenter.input_spec.offsets)]


def test_masks_lie_in_their_boxes_at_the_original_size():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter, size=(37, 61))
    for track in segmenter.segment(sample.clip, sample.proposals, sample.queries):
        assert track.masks.shape == (3, 37, 61)
        for mask, (x1, y1, x2, y2) in zip(track.masks, track.boxes.tolist(), strict=True):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            assert len(rows), "an untrained head should mark about half of each box"
            # A pixel half a cell outside its box still blends to one half of the edge cell.
            slack = max(x2 - x1, y2 - y1) / 28
            assert rows.min() + 0.5 >= y1 - slack and rows.max() + 0.5 <= y2 + slack
            assert columns.min() + 0.5 >= x1 - slack and columns.max() + 0.5 <= x2 + slack


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS)
def test_every_parameter_learns(overrides):
    segmenter = tiny_segmenter(*overrides).train()
    samples = [random_sample(segmenter, seed=s, video=f"v{s}") for s in range(3)]
    segmenter(samples)["total"].backward()
    still = [
        name
        for name, parameter in segmenter.named_parameters()
        if parameter.grad is None
        or (parameter.grad.abs().max() == 0 and not name.endswith("score.bias"))
    ]
    # A constant cannot change a difference of scores, so the score's bias has a zero gradient.
    assert not still


def test_loss_falls_on_two_samples():
    segmenter = tiny_segmenter().train()
    samples = [random_sample(segmenter, seed=s, video=f"v{s}") for s in range(2)]
    optimiser = torch.optim.Adam(segmenter.parameters(), 0.01)
    torch.manual_seed(0)
    curve = []
    for _ in range(60):
        losses = segmenter(samples)
        curve.append([float(losses[name].detach()) for name in ("matching", "mask")])
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
    for first, last in zip(curve[0], curve[-1], strict=True):
        assert last < 0.4 * first


def test_most_confident_ignores_the_sentence():
    aamn = tiny_segmenter()
    config = replace(tiny_config(), system="most_confident")
    baseline = build_segmenter(config, 23).eval()
    baseline.load_state_dict(aamn.state_dict())
    sample = random_sample(aamn, seed=1, lengths=(1, 2, 3, 4, 5, 6))
    assert {t.tube for t in baseline.segment(sample.clip, sample.proposals, sample.queries)} == {0}
    valid = sample.proposals.valid.clone()
    valid[1, 0] = False  # of the key frame
    later = replace(sample.proposals, valid=valid)
    assert {t.tube for t in baseline.segment(sample.clip, later, sample.queries)} == {1}


def test_without_proposals_there_is_nothing_to_choose():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter)
    with pytest.raises(ValueError, match="proposals"):
        segmenter.segment(sample.clip, None, sample.queries)


@pytest.mark.parametrize("lacking", ["proposals", "flow"])
def test_a_sample_that_lacks_something_is_not_left_out(lacking):
    segmenter = tiny_segmenter()
    whole = random_sample(segmenter)
    if lacking == "flow":
        other = replace(whole, clip=replace(whole.clip, flow=None))
    else:
        other = replace(whole, proposals=None)
    with pytest.raises(ValueError, match=f"wanted {lacking} of every sample; 1 have none"):
        segmenter([whole, other])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("aamn.streams=rgb",), "mask_head.features"),
        (("aamn.streams=flow",), "link_features is 'rgb'"),
        (("aamn.action.features=rgb",), "action.features and action.fusion"),
        (("aamn.action.features=flow", "aamn.action.fusion=none"), "action.context: 'none'"),
        (
            ("aamn.link_features=flow", "aamn.streams=rgb", "aamn.mask_head.features=rgb"),
            "link_features",
        ),
        (("aamn.actor.enabled=false", "aamn.action.enabled=false"), "at least one"),
        (("aamn.action.features=flow",), "action"),
    ],
)
def test_contradictions_are_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        tiny_segmenter(*overrides)
