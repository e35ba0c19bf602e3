"""The whole model: the signature property, padding, batches, masks, gradients."""

from dataclasses import replace

import pytest
import torch
from tiny_models import random_query, random_sample, tiny_config, tiny_segmenter

from aamn.models.build import build_segmenter
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


def test_scores_are_not_rounded_where_the_rest_computes_in_half():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        clips = segmenter.encode([sample.clip], [sample.proposals])
        sentences = segmenter.encode_sentences(sample.queries)
        scores = segmenter.scores(clips, sentences)
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
    segmenter.parts["action"].context.register_forward_hook(lambda m, args, out: found.append(out))
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
        four.parts["actor"].matching.score.bias.fill_(-9.0)
        two.parts["actor"].matching.score.bias.fill_(-9.0)
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
    losses = segmenter([replace(sample, proposals=nothing)])
    assert losses["total"].item() == 0 and losses["count/unmatched"] == len(sample.queries)
    losses["total"].backward()


def test_mask_head_runs_the_chosen_tubes_as_one_batch():
    segmenter = tiny_segmenter()
    sample = random_sample(segmenter, lengths=(2, 3, 4, 5))
    sizes = []
    segmenter.mask_head.register_forward_hook(lambda m, args, out: sizes.append(len(out)))
    tracks = segmenter.segment(sample.clip, sample.proposals, sample.queries)
    assert sizes == [len({track.tube for track in tracks}) * len(segmenter.needs.offsets)]


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("aamn.streams=rgb",), "mask_head.features"),
        (("aamn.streams=depth",), "aamn.streams"),
        (
            ("aamn.link_features=flow", "aamn.streams=rgb", "aamn.mask_head.features=rgb"),
            "link_features",
        ),
        (("aamn.actor.enabled=false", "aamn.action.enabled=false"), "at least one"),
        (("aamn.action.features=flow",), "action"),
        (("aamn.action.context=max",), "action.context"),
        (("aamn.aggregation=max",), "aggregation"),
        (("aamn.backbone.name=alexnet",), "backbone.name"),
        (("aamn.language.attention=hard",), "language.attention"),
        (("system=oracle",), "system"),
    ],
)
def test_contradictions_are_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        tiny_segmenter(*overrides)
