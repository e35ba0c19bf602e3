"""Tubes among tubes: what is missing is not seen, and how boxes lie to each other is."""

from dataclasses import replace

import pytest
import torch
from tiny_models import random_sample, tiny_segmenter

from aamn.config.schema import RelationConfig
from aamn.models.relation import RelationModule, relative_geometry
from aamn.models.visual import TubeFeatures
from proposals.errors import InputError

PLUS = (
    "aamn.matching=relation",
    "aamn.statistics=colour+motion",
    "aamn.objective.loss=softmax",
    "aamn.objective.across=0.5",
    "aamn.language.values=states",
    "aamn.relation.channels=16",
    "aamn.relation.dropout=0",
    "aamn.language.word_dropout=0",
)


def features(k=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    corners = torch.rand(1, k, 2, generator=g) * 20
    return TubeFeatures(
        streams={name: torch.randn(1, k, 6, generator=g) for name in ("rgb", "flow")},
        whole=torch.randn(1, 6, generator=g),
        location=torch.rand(1, k, 5, generator=g),
        boxes=torch.cat([corners, corners + 10], -1),
        valid=torch.ones(1, k, dtype=torch.bool),
    )


def module():
    torch.manual_seed(0)
    return RelationModule(RelationConfig(channels=16, heads=2), 6, 12, 5, 8).eval()


def test_geometry_by_hand():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [10, 0, 30, 10]]])
    found = relative_geometry(boxes)[0]
    assert found[0, 0].tolist() == [0, 0, 0, 0, 1, 1]
    wanted = [torch.tensor(1.5).tanh().item(), 0, torch.tensor(2.0).log().item(), 0, 0, 0]
    assert found[0, 1].tolist() == pytest.approx(wanted)
    assert found[1, 0, 0].item() == pytest.approx(-torch.tensor(15 / 200**0.5).tanh().item())


def test_a_missing_tube_is_seen_by_nobody():
    tubes, relation = features(), module()
    tubes.valid[0, 2] = False
    with torch.no_grad():
        before = relation.represent(tubes)
        tubes.streams["rgb"][0, 2] += 5
        tubes.boxes[0, 2] = 0
        after = relation.represent(tubes)
    assert torch.equal(before[0, :2], after[0, :2]) and before.isfinite().all()


def test_the_others_matter_in_any_order():
    tubes, relation = features(), module()
    order = [2, 0, 1]
    moved = TubeFeatures(
        {name: value[:, order] for name, value in tubes.streams.items()},
        tubes.whole,
        tubes.location[:, order],
        tubes.boxes[:, order],
        tubes.valid[:, order],
    )
    with torch.no_grad():
        found, other = relation.represent(tubes), relation.represent(moved)
        torch.testing.assert_close(found[:, order], other)
        tubes.boxes[0, 1] += 7
        assert not torch.allclose(found[0, 0], relation.represent(tubes)[0, 0])


def test_the_score_is_an_inner_product_and_masks_know_no_sentence():
    segmenter = tiny_segmenter(*PLUS)
    sample = random_sample(segmenter, lengths=(2, 5, 1))
    with torch.no_grad():
        clips = segmenter.encode([sample.clip], [sample.proposals])
        tubes = clips.embedding(0).vectors
        sides = segmenter.embed_queries(sample.queries)
        scores = [
            track.scores.total
            for track in segmenter.segment(sample.clip, sample.proposals, sample.queries)
        ]
    for side, score in zip(sides, scores, strict=True):
        torch.testing.assert_close(tubes @ side.vector + side.bias, score)


def test_everything_learns():
    segmenter = tiny_segmenter(*PLUS).train()
    samples = [random_sample(segmenter, seed=s, video=f"v{s}", lengths=(2, 3)) for s in (1, 2)]
    segmenter(samples)["total"].backward()
    still = [
        name
        for name, value in segmenter.named_parameters()
        if value.requires_grad and (value.grad is None or not value.grad.any())
    ]
    assert set(still) <= {"heads.relation.matching.score.bias"}, "it cancels in the softmax"


ONE_STREAM = (*PLUS, "aamn.streams=rgb", "aamn.mask_head.features=rgb")


def test_statistics_need_no_network_that_looks_at_the_flow():
    segmenter = tiny_segmenter(*ONE_STREAM)
    assert list(segmenter.streams) == ["rgb"] and segmenter.inputs == ("rgb", "flow")
    sample = random_sample(segmenter, lengths=(2,))
    still = replace(sample.clip, flow=torch.zeros_like(sample.clip.flow))
    with torch.no_grad():
        moving, resting = (
            segmenter.encode([clip], [sample.proposals]).embedding(0).vectors
            for clip in (sample.clip, still)
        )
    assert not torch.allclose(moving, resting)


def test_statistics_without_what_uses_them_are_refused():
    with pytest.raises(InputError, match=r"aamn\.statistics is for aamn\.matching 'relation'"):
        tiny_segmenter("aamn.statistics=colour")


def test_channels_that_its_heads_cannot_share_are_refused():
    with pytest.raises(InputError, match="16 channels cannot be divided among 3 heads"):
        tiny_segmenter(*PLUS, "aamn.relation.heads=3")
