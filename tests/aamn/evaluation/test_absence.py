"""Whole videos and the threshold of absence, with answers that are looked up in a table."""

import json
import logging
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aamn.config.schema import DataConfig
from aamn.data.datasets.source import Expression, FullTarget
from aamn.evaluation import absence as absence_module
from aamn.evaluation.absence import VideoEvaluation, evaluate_videos, strangers, write_videos
from aamn.index.indexed_segmenter import StoredIndexes
from aamn.inference.clip_by_clip import Answer
from aamn.structures import MaskTrack
from proposals.errors import InputError

LOADED = SimpleNamespace(
    segmenter=SimpleNamespace(input_spec="needs"),
    config=SimpleNamespace(flow="way"),
    words=SimpleNamespace(learn=None),
)
DATA = DataConfig(root="demo", proposals="boxes.h5", flow="flow.h5")


def said(text, actor=0, video="v", instance=1):
    return Expression(video, instance, text, actor=actor)


@pytest.mark.parametrize(
    ("own", "foreign", "found"),
    [
        ([said("a dog", 1)], [said("a cat", 2), said("a pup", 1)], {"a cat"}),
        ([said("a dog", 1), said("a cat", 2)], [said("cats", 2), said("cars", 3)], {"cars"}),
        ([said("a dog")], [said("a dog"), said("a cat")], {"a cat"}),  # of no known class
        ([said("a dog")], [said("a dog", 3), said("a cat", 3)], {"a cat"}),
        ([said("a dog", 1)], [said("a pup"), said("a dog")], {"a pup"}),
        ([], [said("a dog", 1)], {"a dog"}),
        ([said("a dog", 1)], [], set()),
    ],
)
def test_strangers_are_sentences_about_nobody_here(own, foreign, found):
    assert strangers(own, foreign) == found


@dataclass
class Source:
    """Videos of two frames of 2 x 2; `actors`: video -> its sentences' classes; truth: videos whose
    objects are known, as their upper halves."""

    actors: dict[str, tuple[int, ...]]
    truth: tuple[str, ...] = ()

    @property
    def video_ids(self):
        return list(self.actors)

    def sentences(self, video_id):
        return tuple(
            said(f"{video_id}{n}", actor, video_id, n)
            for n, actor in enumerate(self.actors[video_id])
        )

    def texts(self):
        return [e.text for video in self.actors for e in self.sentences(video)]

    def full_video_targets(self, video_id, instance):
        if video_id not in self.truth or instance:
            return None
        return FullTarget(instance, torch.tensor([[0.0, 0.0, 2.0, 1.0]] * 2), None)


class Program:
    """What write_videos touches: indexes that answer by table, with the sentences it asked."""

    def __init__(self, monkeypatch, sources, scores=lambda video, text: 0.0):
        self.asked, self.open, self.made = {}, [], []
        self.extended, program = [], self

        class Index:
            def __init__(self, video_id, query_encoder):
                assert query_encoder == "query encoder" and not program.open, "one at a time"
                self.video_id, self.frames = video_id, range(2)
                self.query_encoder = SimpleNamespace(expressions=list)
                program.open.append(self)

            def answer(self, texts, linking="video"):
                program.asked.setdefault((self.video_id, linking), []).append(list(texts))
                return [
                    SimpleNamespace(text=t, linking=linking, score=scores(self.video_id, t))
                    for t in texts
                ]

            def close(self):
                program.open.remove(self)

        class Indexes(StoredIndexes):
            def of(self, video_id):
                assert video_id in self.source.actors
                program.made.append((self.folder, self.store, self.flow))
                return video_id

        def answers(tracks, frames):
            """Linked through the video the upper half, by clip the left pixel of it."""
            for frame in frames:
                yield Answer(frame, frame + 1, tuple(one_frame(t, frame) for t in tracks))

        def one_frame(track, frame):
            mask = torch.zeros(1, 2, 2, dtype=torch.bool)
            mask[0, 0, : 2 if track.linking == "video" else 1] = True
            return MaskTrack("v", track.text, torch.tensor([frame]), torch.zeros(1, 4), mask, 0.0)

        def query_encoder(loaded):
            assert loaded is LOADED and program.extended, "one that knows the words of the split"
            return "query encoder"

        monkeypatch.setattr(LOADED.words, "learn", program.extended.extend)
        swap = {
            "VideoIndex": Index,
            "StoredIndexes": Indexes,
            "answers": answers,
            "QueryEncoder": query_encoder,
            "open_source": lambda data, split: sources[split],
            "stored_flow": lambda path, input_spec, config: (path, input_spec, config),
            "ProposalStore": SimpleNamespace(read=lambda path: path),
        }
        for name, value in swap.items():
            monkeypatch.setattr(absence_module, name, value)


def test_both_linkings_are_measured_on_the_objects_that_are_known(monkeypatch, tmp_path, capsys):
    source = Source({"a": (1, 2), "b": (3,), "c": (4,)}, truth=("a", "c"))
    program = Program(monkeypatch, {"test": source})
    write_videos(LOADED, DATA, "test", tmp_path / "out.json", tmp_path / "index")
    content = json.loads((tmp_path / "out.json").read_text())
    assert (content["data"], content["absence"]) == ("demo (test)", {})
    by_video, by_clip = content["systems"]["aamn, by video"], content["systems"]["aamn, by clip"]
    assert list(by_video) == list(by_clip) == ["bbox", "pixel"]
    assert (by_video["pixel"]["Mean IoU"], by_clip["pixel"]["Mean IoU"]) == (1.0, 0.5)
    assert (by_video["pixel"]["VP@0.5"], by_clip["pixel"]["VP@0.5"]) == (1.0, 0.0)
    printed = capsys.readouterr().out
    assert re.search(r"aamn, by video +pixel +2 +100\.0", printed)
    assert re.search(r"aamn, by clip +pixel +2 +0\.0", printed)
    # The second sentence of video a, and video b, have no truth: they are not asked for it.
    assert program.asked["a", "clip"] == [["a0"]] and program.asked["c", "clip"] == [["c0"]]
    assert ("b", "clip") not in program.asked
    assert program.extended == ["a0", "a1", "b0", "c0"]
    assert program.made == [(tmp_path / "index", "boxes.h5", ("flow.h5", "needs", "way"))] * 3
    assert not program.open, "every index is closed"


def test_a_data_set_without_whole_truth_is_an_error(monkeypatch, tmp_path):
    Program(monkeypatch, {"test": Source({"a": (1,), "b": (2,)})})
    with pytest.raises(InputError, match="demo has no full-video truth"):
        write_videos(LOADED, DATA, "test", tmp_path / "out.json", tmp_path / "index")
    assert not (tmp_path / "out.json").exists()


def test_a_video_is_asked_its_own_sentences_and_those_of_the_next_three(monkeypatch, tmp_path):
    """Round the end of the list; sentences about an actor that the video shows are left out."""
    actors = {"e": (1,), "d": (2, 2), "c": (3,), "b": (1,), "a": (5,)}
    program = Program(monkeypatch, {"test": Source(actors, truth=("e",))})
    write_videos(LOADED, DATA, "test", tmp_path / "out.json", tmp_path / "index")
    asked = {video: program.asked[video, "video"] for video in actors}
    assert asked.pop("e") == [["e0"], ["e0"], ["c0", "d0", "d1"]]  # the truth's first; not b's
    assert asked == {
        "d": [["d0", "d1"], ["a0", "b0", "c0"]],
        "c": [["c0"], ["a0", "b0", "e0"]],
        "b": [["b0"], ["a0", "d0", "d1"]],
        "a": [["a0"], ["c0", "d0", "d1", "e0"]],
    }


def test_two_videos_are_each_others_strangers(monkeypatch, tmp_path):
    program = Program(monkeypatch, {"test": Source({"a": (1,), "b": (2,)}, truth=("a",))})
    write_videos(LOADED, DATA, "test", tmp_path / "out.json", tmp_path / "index")
    assert program.asked["b", "video"] == [["b0"], ["a0"]]


def test_the_threshold_is_found_on_one_split_and_tried_on_the_other(monkeypatch, tmp_path, capsys):
    test = Source({"a": (1,), "b": (2,), "c": (3,), "d": (4,)}, truth=("a",))
    other = Source({"p": (1,), "q": (2,)})
    table = {
        ("p", "p0"): 0.9,
        ("p", "q0"): 0.1,
        ("q", "q0"): 0.7,
        ("q", "p0"): 0.3,  # the middle of 0.3 and 0.7 separates them all
        ("a", "a0"): 0.8,
        ("b", "b0"): 0.5,  # at the threshold or above it: kept
        ("c", "c0"): 0.6,
        ("d", "d0"): 0.2,  # one true sentence of four is refused
        ("a", "b0"): 0.9,
        ("a", "c0"): 0.7,
        ("b", "a0"): 0.6,  # three of twelve strangers are kept
    }
    program = Program(
        monkeypatch, {"test": test, "validation": other}, lambda *who: table.get(who, 0.0)
    )
    write_videos(LOADED, DATA, "test", tmp_path / "out.json", tmp_path / "index", "validation")
    absence = json.loads((tmp_path / "out.json").read_text())["absence"]
    line = absence.pop("probability")
    assert line["intercept"] == pytest.approx(-0.5 * line["slope"]), "even odds in the middle"
    assert absence["test"].pop("auroc") == (11 + 9 + 9.5 + 9) / (4 * 12)
    assert sum(one["count"] for one in absence["test"].pop("reliability")) == 16
    assert 0 < absence["test"].pop("ece") < 1
    assert absence == {
        "threshold": pytest.approx(0.5),
        "balanced_accuracy": 1.0,
        "calibrated_on": {"split": "validation", "videos": 2, "present": 2, "absent": 2},
        "test": {"kept": 0.75, "refused": 0.75, "present": 4, "absent": 12},
    }
    printed = capsys.readouterr().out
    assert "below 0.500, found on 2 videos of validation (balanced accuracy 100.0)" in printed
    assert "on test 75.0 % of 12 sentences" in printed and "25.0 % of 4 true ones" in printed
    assert not program.open


def test_where_nobody_is_ever_found_no_score_has_a_probability(monkeypatch, tmp_path):
    test, other = Source({"a": (1,), "b": (2,)}, truth=("a",)), Source({"p": (1,), "q": (2,)})
    scores = lambda video, text: 1.0 if video == text[0] else -math.inf  # noqa: E731
    Program(monkeypatch, {"test": test, "validation": other}, scores)
    write_videos(LOADED, DATA, "test", tmp_path / "out.json", tmp_path / "index", "validation")
    absence = json.loads((tmp_path / "out.json").read_text())["absence"]
    assert "probability" not in absence and "auroc" not in absence["test"]
    assert absence["test"]["kept"] == absence["test"]["refused"] == 1.0


@pytest.mark.parametrize(
    ("most", "videos"), [(60, "pqrst"), (5, "pqrst"), (4, "prt"), (2, "ps"), (1, "p")]
)
def test_calibration_draws_videos_evenly(monkeypatch, tmp_path, most, videos):
    """Strangers are the next ones of those drawn."""
    test = Source({"a": (1,), "b": (2,)}, truth=("a",))
    other = Source({name: (n,) for n, name in enumerate("pqrst", start=1)})
    program = Program(monkeypatch, {"test": test, "validation": other})
    monkeypatch.setattr(absence_module, "CALIBRATION_VIDEOS", most)
    write_videos(LOADED, DATA, "test", tmp_path / "out.json", tmp_path / "index", "validation")
    asked = [video for video, _ in program.asked if video in other.actors]
    assert asked == list(videos)
    nexts = sorted(f"{name}0" for name in videos[1:4])
    assert program.asked["p", "video"] == [["p0"], *([nexts] if nexts else [])]
    absence = json.loads((tmp_path / "out.json").read_text())["absence"]
    assert (absence["calibrated_on"]["videos"] if absence else 1) == len(videos)


def test_sixty_videos_are_enough_to_calibrate_on(monkeypatch, tmp_path):
    test = Source({"a": (1,), "b": (2,)}, truth=("a",))
    for count, drawn in ((60, 60), (61, 31)):
        other = Source({f"v{n}": (1 + n,) for n in range(count)})
        Program(monkeypatch, {"test": test, "validation": other})
        write_videos(LOADED, DATA, "test", tmp_path / "out.json", tmp_path / "index", "validation")
        found = json.loads((tmp_path / "out.json").read_text())["absence"]["calibrated_on"]
        assert found["videos"] == found["present"] == drawn


@pytest.mark.parametrize("alone", ["test", "validation"])
def test_without_strangers_there_is_no_threshold(monkeypatch, tmp_path, caplog, alone):
    sources = {
        "test": Source({"a": (1,), "b": (2,)}, ("a",)),
        "validation": Source({"p": (1,), "q": (2,)}),
    }
    first = next(iter(sources[alone].actors))
    sources[alone] = replace(sources[alone], actors={first: (1,)})
    Program(monkeypatch, sources)
    with caplog.at_level(logging.WARNING, "aamn"):
        write_videos(LOADED, DATA, "test", tmp_path / "out.json", tmp_path / "index", "validation")
    assert json.loads((tmp_path / "out.json").read_text())["absence"] == {}
    assert "no threshold of absence" in caplog.text


@pytest.fixture
def called(monkeypatch):
    """What evaluate_videos hands on, for given options."""
    loaded = SimpleNamespace(config=SimpleNamespace(data=replace(DATA, test_split="val")))
    calls = []
    monkeypatch.setattr(absence_module, "write_videos", lambda *a: calls.append(a))

    def call(**given):
        evaluate_videos(loaded, Path("runs/full/last.pt"), VideoEvaluation(**given))
        first, *rest = calls.pop()
        assert first is loaded
        return rest

    return call


def test_options_stand_above_the_checkpoints_data(called):
    data, split, out, folder, calibrate, every = called()
    assert every == 1 and called(every=3)[5] == 3
    assert data == replace(DATA, test_split="val") and (split, calibrate) == ("val", "")
    assert out == Path("runs/full/full_video.json")
    assert folder == Path("runs/full/full_video.index")
    changed = called(data="d", proposals="p", flow="f", split="train", calibrate="val")
    assert changed[0] == DataConfig(root="d", proposals="p", flow="f", test_split="val")
    assert (changed[1], changed[4]) == ("train", "val")
    assert called(out=Path("x/y.json"))[2:4] == [Path("x/y.json"), Path("x/y.index")]
    assert called(index=Path("kept"), out=Path("x/y.json"))[2:4] == [Path("x/y.json"), Path("kept")]


@pytest.mark.parametrize("words", [{"calibrate": "val"}, {"calibrate": "b", "split": "b"}])
def test_the_evaluated_split_is_not_calibrated_on(called, words):
    with pytest.raises(InputError, match=f"--calibrate {words['calibrate']}"):
        called(**words)
