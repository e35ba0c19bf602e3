"""Retrieval: ranks, chance and spans by hand, and a search whose answers are known."""

import math

import pytest
import torch

from aamn.data.datasets.source import Expression, FullTarget, SentencesByVideo
from aamn.data.synthetic.config import SyntheticConfig
from aamn.data.synthetic.scenes import plan_scene
from aamn.data.synthetic.truth import true_of, videos_by_sentence
from aamn.evaluation.retrieval import (
    chance_at,
    first_rank,
    format_retrieval,
    measure,
    recall_at,
    span_iou,
)
from aamn.search.folder import Hit
from proposals.errors import InputError


def test_ranks_count_from_one_and_any_true_video_is_right():
    assert first_rank("abc", {"a"}) == 1
    assert first_rank("abc", {"c", "b"}) == 2
    assert first_rank("abc", {"z"}) == math.inf
    assert recall_at([1, 2, 6, math.inf], 1) == 0.25 and recall_at([1, 2, 6, math.inf], 6) == 0.75


@pytest.mark.parametrize(
    ("true", "videos", "top", "chance"),
    [(1, 4, 1, 1 / 4), (1, 4, 2, 2 / 4), (2, 4, 2, 1 - 1 / 6), (3, 4, 2, 1), (1, 4, 10, 1)],
)
def test_chance_is_that_of_blind_draws(true, videos, top, chance):
    assert chance_at(true, videos, top) == pytest.approx(chance)


def test_spans_are_compared_as_sets_of_frames():
    assert span_iou(range(0, 4), {2, 3, 4, 5}) == 2 / 6
    assert span_iou(range(3), {7}) == 0 and span_iou(range(3), {0, 1, 2}) == 1


class Source(SentencesByVideo):
    """Three videos; of the second it is not said where its actors are."""

    def __init__(self):
        self._sentences = {
            "a": (Expression("a", 0, "red dog"), Expression("a", 1, "cat")),
            "b": (Expression("b", 0, "cat"),),
            "c": (Expression("c", 0, "bird"),),
        }

    def full_video_targets(self, video_id, instance):
        if video_id == "b":
            return None
        boxes = torch.zeros(10, 4)
        boxes[2:6, 2:] = 5.0  # it is there in frames 2 to 5
        return FullTarget(instance, boxes, None)


class Library:
    def search(self, texts, top, absent_threshold):
        ranked = {"red dog": "bac", "cat": "cab", "bird": ""}[texts[0]]
        assert (top, absent_threshold) == (3, None)
        return [[Hit(video, None, 0.0, range(4), texts[0]) for video in ranked]]


def test_every_sentence_is_asked_once_and_right_wherever_it_is_true():
    found = measure(Library(), Source(), {"cat": {"c", "elsewhere"}})
    assert (found.sentences, found.videos) == (3, 3)
    assert found.recall == {"1": 1 / 3, "5": 2 / 3, "10": 2 / 3}  # of cat, c is right
    assert found.median_rank == 2  # of 2, 1 and inf
    assert found.chance["1"] == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert found.span_iou == pytest.approx(2 / 6)  # twice, frames 0 to 3 against 2 to 5
    assert found.span_inside == pytest.approx(1 / 2)
    said = format_retrieval(found)
    assert "3 sentences, 3 videos" in said and "recall@1" in said and " 33.3" in said


def test_a_sentence_is_true_of_each_video_with_such_an_actor(tmp_path):
    config = SyntheticConfig(seed=3)
    scenes = [plan_scene(config, "test", index) for index in range(12)]
    true, several = true_of(scenes), 0
    for scene in scenes:
        for sentence in scene.sentences:
            assert scene.video_id in true[sentence.text]
            said = sentence.description
            if said.place is None:
                wanted = {
                    one.video_id
                    for one in scenes
                    for actor in one.actors
                    if actor.name == said.name
                    and said.colour in (None, actor.colour)
                    and said.action in (None, actor.action)
                }
                assert true[sentence.text] == wanted
                several += len(wanted) > 1
    assert several, "some sentences are true of several videos"
    assert videos_by_sentence(tmp_path, "test") is None
    (tmp_path / "synthetic.json").write_text("{}")
    with pytest.raises(InputError, match=r"synthetic\.json cannot be read"):
        videos_by_sentence(tmp_path, "test")
