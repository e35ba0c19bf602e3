"""The nouns: what their geometry computes, and what they refuse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aamn.structures import (
    Clip,
    Geometry,
    InputSpec,
    MaskTrack,
    Proposals,
    Query,
    Row,
    Sample,
    Target,
    empty_track,
)


@pytest.mark.parametrize(
    ("original", "network", "scale", "content"),
    [
        ((240, 320), (160, 160), 0.5, (120, 160)),  # wide: padded below
        ((320, 240), (160, 160), 0.5, (160, 120)),  # high: padded at the right
        ((20, 30), (90, 60), 2.0, (40, 60)),  # smaller than the network's input
        ((36, 60), (48, 48), 0.8, (29, 48)),  # 28.8 rows are 29
        ((1, 1000), (50, 50), 0.05, (1, 50)),  # never nothing
        ((1000, 1), (50, 50), 0.05, (50, 1)),
    ],
)
def test_a_frame_is_fitted_as_a_whole(original, network, scale, content):
    geometry = Geometry.fit(original, network)
    assert (geometry.original_size, geometry.network_size) == (original, network)
    assert geometry.scale == pytest.approx(scale)
    assert geometry.content_size == content
    (h, w), (h0, w0) = content, original
    assert geometry.scale_xyxy == pytest.approx((w / w0, h / h0, w / w0, h / h0))


def test_a_shrunk_frame_covers_less_of_the_input():
    assert Geometry((240, 320), (160, 160), 0.25).content_size == (60, 80)
    assert Geometry((240, 320), (160, 160), 2.0).content_size == (160, 160), "and never more"


def test_boxes_change_frames_by_hand():
    """29 rows for 36: boxes follow the rounded content, not the scale."""
    geometry = Geometry.fit((36, 60), (48, 48))
    network = geometry.to_network(torch.tensor([[0.0, 0.0, 60.0, 36.0], [15.0, 18.0, 30.0, 27.0]]))
    wanted = torch.tensor([[0.0, 0.0, 48.0, 29.0], [12.0, 14.5, 24.0, 21.75]])
    torch.testing.assert_close(network, wanted)


SIDES = st.integers(1, 1500)


@given(original=st.tuples(SIDES, SIDES), network=st.tuples(SIDES, SIDES), seed=st.integers(0, 99))
def test_boxes_go_to_the_network_and_back(original, network, seed):
    geometry = Geometry.fit(original, network)
    (h0, w0), (h, w) = original, geometry.content_size
    assert 1 <= h <= network[0] and 1 <= w <= network[1]
    assert h == network[0] or w == network[1], "as large as it can be"
    ends = torch.tensor([w0, h0, w0, h0])
    boxes = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(seed)) * ends
    inside = geometry.to_network(boxes)
    assert (inside <= torch.tensor([w, h, w, h]) + 1e-2).all()
    torch.testing.assert_close(
        inside / inside.new_tensor(geometry.scale_xyxy), boxes, atol=1e-2, rtol=0
    )


@pytest.mark.parametrize(
    ("original", "network"),
    [((0, 5), (4, 4)), ((5, 0), (4, 4)), ((5, 5), (0, 4)), ((5, 5), (4, 0))],
)
def test_a_size_of_nothing_is_refused(original, network):
    with pytest.raises(ValueError, match="positive") as caught:
        Geometry.fit(original, network)
    assert str(original) in str(caught.value) and str(network) in str(caught.value)


def test_a_size_of_one_is_a_size():
    assert Geometry.fit((1, 1), (1, 1)).content_size == (1, 1)


def clip(**changes):
    fields = {
        "video_id": "v",
        "frame_indices": torch.arange(3),
        "rgb": torch.zeros(3, 3, 8, 10),
        "flow": torch.zeros(3, 2, 8, 10),
        "geometry": Geometry.fit((16, 20), (8, 10)),
        "key": 1,
    }
    return Clip(**fields | changes)


def proposals(**changes):
    fields = {
        "frame_indices": torch.arange(3),
        "boxes": torch.zeros(3, 5, 4),
        "scores": torch.zeros(3, 5),
        "labels": torch.zeros(3, 5),
        "valid": torch.zeros(3, 5),
    }
    return Proposals(**fields | changes)


def track(**changes):
    fields = {
        "video_id": "v",
        "text": "s",
        "frame_indices": torch.arange(3),
        "boxes": torch.zeros(3, 4),
        "masks": torch.zeros(3, 6, 7),
        "score": 0.0,
    }
    return MaskTrack(**fields | changes)


@pytest.mark.parametrize(
    ("made", "field", "value", "wanted"),
    [
        (clip, "frame_indices", (3, 1), "('any',)"),
        (clip, "rgb", (2, 3, 8, 10), "(3, 3, 8, 10)"),
        (clip, "rgb", (3, 1, 8, 10), "(3, 3, 8, 10)"),
        (clip, "rgb", (3, 3, 10, 8), "(3, 3, 8, 10)"),
        (clip, "flow", (2, 2, 8, 10), "(3, 2, 8, 10)"),
        (clip, "flow", (3, 3, 8, 10), "(3, 2, 8, 10)"),
        (clip, "flow", (3, 2, 10, 8), "(3, 2, 8, 10)"),
        (proposals, "boxes", (2, 5, 4), "(3, 'any', 4)"),
        (proposals, "boxes", (3, 5, 5), "(3, 'any', 4)"),
        (proposals, "boxes", (3, 4), "(3, 'any', 4)"),
        (proposals, "scores", (3, 4), "(3, 5)"),
        (proposals, "labels", (2, 5), "(3, 5)"),
        (proposals, "valid", (3, 5, 1), "(3, 5)"),
        (track, "boxes", (1, 4), "(3, 4)"),
        (track, "boxes", (3, 2), "(3, 4)"),
        (track, "masks", (1, 6, 7), "(3, 'any', 'any')"),
        (track, "masks", (3, 42), "(3, 'any', 'any')"),
    ],
)
def test_a_wrong_shape_is_named(made, field, value, wanted):
    made()  # is right without the change
    with pytest.raises(ValueError) as caught:
        made(**{field: torch.zeros(value)})
    for part in (f".{field}", wanted, str(value)):
        assert part in str(caught.value)


@pytest.mark.parametrize("key", [-1, 3])
def test_a_key_frame_lies_in_its_clip(key):
    with pytest.raises(ValueError, match=rf"key.* 0\.\.2, got {key}"):
        clip(key=key)


def test_a_clip_needs_no_flow_and_its_key_may_be_either_end():
    assert clip(flow=None).flow is None
    assert (clip(key=0).key, clip(key=2).key) == (0, 2)


def test_a_sentence_has_a_number_for_each_of_its_words():
    assert Query("a dog", ("a", "dog"), torch.tensor([2, 3])).words.tolist() == [2, 3]
    with pytest.raises(ValueError, match=r"words.*\(2,\).*\(3,\)"):
        Query("a dog", ("a", "dog"), torch.tensor([2, 3, 4]))
    with pytest.raises(ValueError, match=r"'\.\.\.'"):
        Query("...", (), torch.zeros(0))


def test_every_sentence_of_a_sample_has_a_target():
    query = Query("a", ("a",), torch.tensor([2]))
    target = Target(0, torch.zeros(4), torch.zeros(16, 20, dtype=torch.bool))
    assert Sample(clip(), None, (query,), (target,)).targets == (target,)
    with pytest.raises(ValueError, match="2 queries but 1 targets"):
        Sample(clip(), None, (query, query), (target,))


@pytest.mark.parametrize(
    ("offsets", "key"), [((0,), 0), ((-1, 0, 1), 1), ((-8, -4, 0), 2), ((0, 3), 0)]
)
def test_the_key_frame_is_at_the_offset_zero(offsets, key):
    assert InputSpec(offsets, (8, 8), False, 0).key == key


def test_needs_without_a_key_frame_or_with_another_answer_are_refused():
    with pytest.raises(ValueError, match=r"offsets.*\(1, 2\)"):
        InputSpec((1, 2), (8, 8), False, 0)
    for predicts in ("clip", "key"):
        assert InputSpec((0,), (8, 8), False, 0, predicts).predicts == predicts
    with pytest.raises(ValueError, match=r"predicts.*'video'"):
        InputSpec((0,), (8, 8), False, 0, "video")


@pytest.mark.parametrize(("counts", "iou"), [((3, 4), 0.75), ((0, 5), 0.0), ((0, 0), 1.0)])
def test_the_iou_of_a_row(counts, iou):
    assert Row("v", 1, 0, "s", "", *counts).iou == iou


def test_the_answer_nobody_is_empty_everywhere():
    track = empty_track("v", "a dog", torch.tensor([4, 5]), (3, 7))
    assert (track.video_id, track.text, track.frame_indices.tolist()) == ("v", "a dog", [4, 5])
    assert (track.score, track.scores, track.tube) == (float("-inf"), None, -1)
    assert track.masks.shape == (2, 3, 7) and track.masks.dtype == torch.bool
    assert not track.masks.any() and track.boxes.tolist() == [[0.0] * 4] * 2
