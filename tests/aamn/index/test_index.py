"""The index answers as the direct path does, computes every frame once, and is whole or absent."""

import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tiny_models import WORDS
from tiny_videos import SIZE, Frames, Store, built, job, loaded

from aamn.config.schema import FlowConfig
from aamn.index import builder
from aamn.index.box_source import DetectedBoxes, StoredBoxes
from aamn.index.builder import build_index
from aamn.index.file import NO_END, WHOLE, IndexFile, Selection, index_path
from aamn.index.growing import BlockArray
from aamn.index.job import IndexJob, model_hash
from aamn.index.query_encoder import QueryEncoder
from aamn.index.timer import Timer
from aamn.index.video_index import LINKINGS, VideoIndex
from aamn.inference.clip_by_clip import segment_video
from aamn.inference.track import answers
from aamn.inference.verdict import NoMatch, Probability
from aamn.ops.masks import paste_masks
from aamn.tubes.linking import link_scores
from proposals.errors import InputError
from proposals.store import BoxWindow

TEXTS = ("w3 w4", "w7", "w1 w9 w2")


def contexts(scores):
    """(tube, contributor) -> how much it contributes, where it does."""
    rows = zip(scores.context_members.tolist(), scores.context_attention.tolist(), strict=True)
    return {
        (tube, member): weight
        for tube, row in enumerate(rows)
        for member, weight in zip(*row, strict=True)
        if weight
    }


@pytest.mark.parametrize("count", [1, 2, 3, 4, 16, 17, 34])
@pytest.mark.parametrize("radius", [0, 1, 2])
def test_an_index_answers_as_the_clips_do(count, radius, tmp_path):
    model = loaded(f"aamn.radius={radius}")
    index = built(model, count, tmp_path / "v.h5")
    tracks = index.query(TEXTS, linking="clip")
    queries = [model.vocabulary.encode(text) for text in TEXTS]
    answers = list(segment_video(model.segmenter, "v", Frames(count), queries, Store()))
    assert [range(a.start, a.stop) for a in answers] == list(index.spans())
    for clip, answer in enumerate(answers):
        for track, wanted in zip(tracks, answer.tracks, strict=True):
            assert track.tubes[clip] == wanted.tube
            span = range(answer.start, answer.stop)
            if wanted.tube >= 0:
                found = track.clip_scores(clip)
                for name in ("total", "actor", "action"):
                    theirs = getattr(wanted.scores, name)
                    torch.testing.assert_close(getattr(found, name), theirs, atol=1e-5, rtol=0)
                words = (found.actor_attention, found.action_attention)
                theirs = (wanted.scores.actor_attention, wanted.scores.action_attention)
                torch.testing.assert_close(words, theirs)
                assert contexts(found) == pytest.approx(contexts(wanted.scores), abs=1e-5)
            np.testing.assert_allclose(track.boxes(span), wanted.boxes, atol=1e-4)
            masks = track.masks(span)
            assert (masks != wanted.masks.numpy()).mean() < 0.01 and masks.shape[1:] == SIZE


@pytest.mark.parametrize(
    "overrides",
    [
        ("aamn.streams=rgb", "aamn.mask_head.features=rgb", "aamn.action.features=rgb",
         "aamn.action.fusion=none"),
        ("aamn.matching=joint",),
        ("aamn.link_features=rgb+flow", "aamn.linking=anchor"),
        ("aamn.action.enabled=false",),
        ("aamn.streams=rgb", "aamn.mask_head.features=rgb", "aamn.matching=relation",
         "aamn.relation.channels=16", "aamn.statistics=colour+motion"),
    ],
    ids=["rgb", "joint", "both link", "actor", "statistics"],
)  # fmt: skip
def test_variants_can_be_indexed(overrides, tmp_path):
    model = loaded(*overrides)
    index = built(model, 8, tmp_path / "v.h5")
    track = index.query(["w5 w6"], linking="clip")[0]
    query = model.vocabulary.encode("w5 w6")
    answers = list(segment_video(model.segmenter, "v", Frames(8), [query], Store()))
    wanted = [answer.tracks[0].tube for answer in answers]
    assert track.tubes.tolist() == wanted
    assert track.total.max() == pytest.approx(max(a.tracks[0].score for a in answers), abs=1e-5)


@pytest.mark.parametrize("radius", [0, 1, 4])
def test_every_frame_goes_through_every_network_once(radius, tmp_path):
    model, frames = loaded(f"aamn.radius={radius}"), Frames(35)
    seen = {"rgb": 0, "flow": 0}
    for name, stream in model.segmenter.streams.items():
        stream.register_forward_hook(
            lambda _, inputs, __, name=name: seen.update({name: seen[name] + len(inputs[0])})
        )
    build_index(job(model, frames), tmp_path / "v.h5")
    assert seen == {"rgb": 35, "flow": 35}
    assert sorted(frames.read_once)[:35] == list(range(35)) and len(frames.read_once) <= 36


def test_links_are_the_scores_between_the_frames_where_clips_meet(tmp_path):
    model, count = loaded(), 8
    index = built(model, count, tmp_path / "v.h5")
    assert [tuple(w[1:]) for w in index.windows.tolist()] == [(0, 3), (3, 6), (6, 8)]
    links = index.file.array("links")[:]
    assert not links[0].any()
    whole = {}
    original = model.segmenter.describe_rois

    def remember(maps, batch):
        found = original(maps, batch)
        whole["link"] = model.segmenter.link_features(found.roi_features)
        return found

    model.segmenter.describe_rois = remember
    build_index(job(model, Frames(count)), tmp_path / "again.h5")
    boxes = Store().window("v", range(count), 4)
    last, first = index.boxes[0, -1], index.boxes[1, 0]  # tubes in frames 2 and 3, which have boxes
    members = [
        [int(np.abs(boxes.boxes[frame] - box).sum(1).argmin()) for box in tubes]
        for frame, tubes in ((2, last), (3, first))
    ]
    features = [whole["link"][frame][m] for frame, m in zip((2, 3), members, strict=True)]
    wanted = link_scores(torch.from_numpy(last), torch.from_numpy(first), *features, 1.0).numpy()
    valid = index.file.array("valid")[0][:, None] & index.file.array("valid")[1]
    assert valid.any()
    np.testing.assert_allclose(links[1][valid], wanted[valid], atol=1e-5)


def test_frames_are_answered_in_any_order_and_outside_is_refused(tmp_path):
    index = built(loaded(), 11, tmp_path / "v.h5")
    track = index.query(["w3"])[0]
    whole = track.masks()
    some = [10, 0, 5, 5]
    assert (track.masks(some) == whole[some]).all()
    assert (track.boxes(some) == track.boxes()[some]).all()
    with pytest.raises(InputError, match="wanted frame 11, it has 11"):
        track.masks([11])
    assert list(index.spans(range(2, 7))) == [range(2, 3), range(3, 6), range(6, 7)]
    assert [list(span) for span in index.spans(range(1, 11, 4))] == [[1], [5], [9]]


def test_a_sentence_below_the_threshold_gets_empty_masks(tmp_path):
    index = built(loaded(), 6, tmp_path / "v.h5")
    free = index.query(TEXTS)
    limit = sorted(track.score for track in free)[1]
    kept = index.query(TEXTS, absent_threshold=limit)
    assert [track.present for track in kept] == [track.score >= limit for track in free]
    for before, after in zip(free, kept, strict=True):
        shown = before.masks() if after.present else np.zeros_like(before.masks())
        assert (after.masks() == shown).all()
        assert after.present or not after.boxes().any()


def test_a_detector_gives_the_same_index_as_its_stored_boxes(tmp_path):
    class Detector:
        attributes = Store.attributes

        def __init__(self):
            self.frame = 0

        def detect(self, frames):
            found = []
            for _ in frames:
                window = Store().window("v", [self.frame], 4)
                kept = window.valid[0]
                found.append(BoxWindow(window.boxes[0, kept], window.scores[0, kept],
                                       window.labels[0, kept], kept))  # fmt: skip
                self.frame += 1
            return found

    model = loaded()
    stored = built(model, 20, tmp_path / "a.h5")
    detected = IndexJob(
        model.segmenter, "v", Frames(20), DetectedBoxes(Detector(), 3), None, FlowConfig()
    )
    build_index(detected, tmp_path / "b.h5")
    other = VideoIndex.read(tmp_path / "b.h5", model)
    for name in ("boxes", "vectors", "masks", "links", "valid", "windows"):
        assert (stored.file.array(name)[:] == other.file.array(name)[:]).all(), name


def test_a_finished_index_is_kept_and_one_of_another_origin_is_refused(tmp_path):
    path, model = tmp_path / "v.h5", loaded()
    assert build_index(job(model, Frames(5)), path)
    before = path.read_bytes()
    assert not build_index(job(model, Frames(5)), path) and path.read_bytes() == before
    with pytest.raises(InputError, match=r"v\.h5.*model is"):
        build_index(job(loaded(seed=1), Frames(5)), path)
    with pytest.raises(InputError, match="made by another segmenter"):
        VideoIndex.read(path, loaded("aamn.link_balance=2"))


def test_a_segmenter_whose_language_side_learned_on_can_ask_an_old_index(tmp_path):
    model = loaded()
    before, path = model_hash(model.segmenter), tmp_path / "v.h5"
    built(model, 5, path).close()
    with torch.no_grad():
        for part in model.segmenter.heads.values():
            part.matching.textual.weight.add_(0.1)
            part.matching.score.weight.add_(0.1)
        model.segmenter.language.embedding.weight.add_(0.1)
    assert model_hash(model.segmenter) == before
    assert VideoIndex.read(path, model).query(["w3"])
    with torch.no_grad():
        model.segmenter.heads["actor"].matching.visual.weight.add_(0.1)
    assert model_hash(model.segmenter) != before


def test_broken_and_foreign_files_are_refused_by_name(tmp_path):
    model = loaded()
    good = tmp_path / "v.h5"
    built(model, 5, good).close()
    (tmp_path / "cut.h5").write_bytes(good.read_bytes()[:-3000])
    (tmp_path / "text.h5").write_text("no index")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "new.h5").write_bytes(good.read_bytes())
    with h5py.File(tmp_path / "new.h5", "r+") as file:
        file.attrs["version"] = 99
    cases = {
        "cut": "cut.h5",
        "text": "text.h5",
        "other": "no index of a video",
        "new": "version 99",
    }
    for name, said in {**cases, "none": "no index at"}.items():
        with pytest.raises(InputError, match=said):
            IndexFile.read(tmp_path / f"{name}.h5")


def test_an_index_survives_pickling_and_says_its_sizes(tmp_path):
    index = built(loaded(), 7, tmp_path / "v.h5")
    header = pickle.loads(pickle.dumps(index.file)).header
    assert (header.frames, header.size, header.fps, header.video_id) == (7, SIZE, 10.0, "v")
    assert header.heads == {"actor": 10, "action": 10}
    assert index_path("x", "a/b%").name == "a%2Fb%25.h5"


def answers_of(index):
    tracks = index.query(["w3 w4", "w7"])
    return [(track.score, track.masks().tobytes(), track.boxes().tobytes()) for track in tracks]


@pytest.mark.parametrize("radius", [0, 1, 2])
@pytest.mark.parametrize("selection", [WHOLE, Selection(range(3, 17))], ids=str)
def test_an_index_that_grows_answers_for_the_clips_so_far(radius, selection, tmp_path, monkeypatch):
    monkeypatch.setitem(builder.FRAMES_AT_ONCE, "cpu", 6)
    model = loaded(f"aamn.radius={radius}")
    whole = replace(job(model, Frames(20)), selection=selection)
    build_index(whole, tmp_path / "v.h5")
    wanted, encoder = VideoIndex.read(tmp_path / "v.h5", model), QueryEncoder(model)
    grown = [VideoIndex(one, encoder) for one in builder.grow_index(whole)]
    assert len(grown) > 2
    for one in grown:
        clips = len(one.windows)
        assert one.frames == range(wanted.frames.start, int(one.windows[-1, 2]))[: len(one)]
        for name in ("windows", "boxes", "vectors", "valid", "masks", "links", "context"):
            found = one.file.array(name)
            np.testing.assert_array_equal(found[:], wanted.file.array(name)[:clips], name)
            assert found.shape == (clips, *wanted.file.array(name).shape[1:])
        assert one.query(["w3"])[0].masks(one.frames[-1]).shape == SIZE
    assert answers_of(grown[-1]) == answers_of(wanted)
    assert grown[-1].header == wanted.header


def test_a_growing_index_reads_one_tube_of_one_clip():
    parts = tuple(np.arange(n * 3).reshape(n, 3) + 100 * n for n in (2, 1, 4))
    joined = BlockArray(parts)
    assert (len(joined), joined.shape) == (7, (7, 3))
    for clip in range(7):
        assert joined[clip, 1] == joined[:][clip, 1]


def test_a_growing_index_without_any_clip_says_so():
    wanted = replace(job(loaded(), Frames(5)), selection=Selection(range(50, 60)))
    with pytest.raises(InputError, match="none of the wanted frames 50 to 59"):
        list(builder.grow_index(wanted))


def test_blocks_come_before_the_video_is_read_to_its_end(tmp_path):
    frames = Frames(200)
    blocks = builder._blocks(job(loaded(), frames), Timer())
    next(blocks)
    assert max(frames.read_once) < 40
    blocks.close()


@pytest.mark.parametrize(
    "wanted",
    [
        range(0, 4),
        range(5, 12),
        range(16, NO_END),
        range(33, NO_END),
        range(4, 34, 2),
        range(1, NO_END, 8),
    ],
    ids=str,
)
@pytest.mark.parametrize(("count", "radius"), [(34, 0), (35, 1), (36, 3), (2, 1)])
def test_an_index_of_some_frames_holds_their_clips_alone(count, radius, wanted, tmp_path):
    model, frames = loaded(f"aamn.radius={radius}"), Frames(count)
    part = replace(job(model, frames), selection=Selection(wanted))
    path = tmp_path / "part.h5"
    if wanted.start >= count:
        with pytest.raises(InputError, match=f"noise has none of the wanted frames {wanted.start}"):
            build_index(part, path)
        assert not path.exists()
        return
    seen = []
    stream = model.segmenter.streams["rgb"]
    hook = stream.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    build_index(part, path)
    hook.remove()
    whole, some = built(model, count, tmp_path / "v.h5"), VideoIndex.read(path, model)
    existing = [n for n in range(count) if n in wanted]
    clips = sorted(set(whole.locate(existing)[0].tolist()))
    assert list(some.frames) == existing and len(some) == len(existing)
    assert (some.windows == whole.windows[clips]).all()
    for name in ("boxes", "vectors", "valid", "context", "masks"):
        found, same = some.file.array(name)[:], whole.file.array(name)[:][clips]
        np.testing.assert_allclose(found.astype(float), same, atol=1 if name == "masks" else 1e-4)
    tail = 2 * radius if clips[-1] == len(whole.windows) - 1 else 0  # its clip begins earlier
    assert sum(seen) <= sum(end - first for _, first, end in some.windows.tolist()) + tail + radius
    held = {n for _, first, end in some.windows.tolist() for n in range(first, end)}
    for frame in sorted({*range(count)} - held)[:1]:
        with pytest.raises(InputError, match=f"wanted frame {frame}, it has frames .* alone"):
            some.query(["w3"])[0].masks([frame])


@pytest.mark.parametrize(
    ("held", "wanted", "enough"),
    [
        (Selection(), Selection(range(3, 9)), True),
        (Selection(range(0, NO_END)), Selection(), False),
        (Selection(range(3, 9)), Selection(range(3, 9)), True),
        (Selection(range(3, 9)), Selection(range(4, 8, 2)), True),
        (Selection(range(3, 9)), Selection(range(4, NO_END)), False),
        (Selection(range(0, 20, 4)), Selection(range(4, 20, 8)), True),
        (Selection(range(0, 20, 4)), Selection(range(4, 20, 6)), False),
        (Selection(range(0, 20, 4)), Selection(range(5, 20, 4)), False),
        (Selection(), Selection(key_frames=(3,)), False),
        (Selection(key_frames=(3, 5)), Selection(key_frames=(3, 5)), True),
        (Selection(key_frames=(3, 5)), Selection(), False),
    ],
)
def test_which_index_can_stand_in_for_which(held, wanted, enough):
    assert held.covers(wanted) == enough
    assert Selection.from_json(held.to_json()) == held


def test_an_index_of_some_frames_is_never_taken_for_the_whole(tmp_path):
    model, path = loaded(), tmp_path / "v.h5"
    some = replace(job(model, Frames(9)), selection=Selection(range(2, 5)))
    keys = replace(job(model, Frames(9)), selection=Selection(key_frames=(1, 7)))
    assert build_index(some, path) and not build_index(some, path)
    assert str(IndexFile.read(path).header.selection) == "frames 2 to 4"
    assert build_index(job(model, Frames(9)), path), "the whole replaces the part"
    assert not build_index(some, path), "the whole holds the part"
    assert build_index(keys, path) and build_index(some, path), "neither holds the other"
    with pytest.raises(InputError, match="model is"):
        build_index(replace(some, segmenter=loaded(seed=1).segmenter), path)
    build_index(keys, path)
    index = VideoIndex.read(path, model)
    assert index.query(["w3"])[0].masks([7]).shape == (1, *SIZE)
    with pytest.raises(InputError, match="index of 2 key frames alone"):
        index.query(["w3"])[0].masks()
    with pytest.raises(InputError, match="wanted frame 3, it has 2 key frames alone"):
        index.query(["w3"])[0].masks([3])


@pytest.fixture(scope="module")
def gapped(tmp_path_factory):
    """An index of clips 0-4, 5-9, 10-14, 15-19 without any tube, and 20-22, which begins at 18."""
    model = loaded("aamn.radius=2")
    return built(model, 23, tmp_path_factory.mktemp("index") / "v.h5")


def naive_path(total, links, frames, weight):
    """The best of all paths: scores by the clips' share of new frames, less `weight` times what the
    links lie below the best one of either tube, on average."""

    def gain(path):
        got = sum(total[c, tube] * frames[c] / max(frames) for c, tube in enumerate(path))
        for c in range(1, len(path)):
            a, b = path[c - 1 : c + 1]
            if min(a, b) >= 0:
                rows, columns = np.isfinite(total[c - 1]), np.isfinite(total[c])
                best = links[c][a, columns].max() + links[c][rows, b].max()
                got -= weight * (best / 2 - links[c][a, b])
        return got

    total = np.where(np.isfinite(total).any(1, keepdims=True), total, 0)  # -1: no tube, no score
    choices = [np.flatnonzero(np.isfinite(row)) if row.any() else [-1] for row in total]
    return max(itertools.product(*choices), key=gain)


@pytest.mark.parametrize(
    ("options", "weight"),
    [
        ({}, 0.5),
        ({"linking": "video"}, 0.5),
        ({"transition_cost": 0.0}, 0),
        ({"transition_cost": 5.0}, 5),
        ({"linking": "clip"}, 0),
        ({"linking": "clip", "transition_cost": 5.0}, 0),
    ],
    ids=str,
)
def test_a_sentence_takes_the_best_of_all_paths_and_scores_the_mean_of_its_frames(
    gapped, options, weight
):
    frames, links = np.array([5, 5, 5, 5, 3]), gapped.file.array("links")[:]
    for track in gapped.query(TEXTS, **options):
        wanted = naive_path(track.total, links, frames, weight)
        assert track.tubes.tolist() == [-1 if c == 3 else t for c, t in enumerate(wanted)]
        shown = [0, 1, 2, 4]
        scores = track.total[shown, track.tubes[shown]]
        assert track.score == pytest.approx((scores * frames[shown]).sum() / 18, abs=1e-5)


def test_a_link_s_weight_decides_between_the_best_tubes_and_one_identity(gapped):
    paths = {w: [t.tubes.tolist() for t in gapped.query(TEXTS, transition_cost=w)] for w in (0, 50)}
    assert paths[0] != paths[50]
    links, costs = gapped.file.array("links")[:], {}
    for weight, tubes in paths.items():
        costs[weight] = sum(links[c][p[c - 1], p[c]] for p in tubes for c in (1, 2))
    assert costs[50] > costs[0], "who is dear to leave is stayed with"


def test_scores_are_inner_products_of_both_sides_vectors(gapped):
    vectors = gapped.file.array("vectors")[:]
    segmenter = gapped.query_encoder.loaded.segmenter
    for track in gapped.query(TEXTS):
        with torch.inference_mode():
            (side,) = segmenter.embed_queries([track.query])
        for clip, tube in itertools.product(range(5), range(4)):
            wanted = float(vectors[clip, tube] @ side.vector.numpy() + float(side.bias))
            if not gapped.file.array("valid")[clip, tube]:
                wanted = -np.inf
                assert track.actor[clip, tube] == track.action[clip, tube] == wanted
            else:
                both = track.actor[clip, tube] + track.action[clip, tube]
                assert both == pytest.approx(wanted, abs=1e-5)
            assert track.total[clip, tube] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("linking", ["video", "clip"])
def test_boxes_and_masks_are_the_chosen_tubes_in_each_frame(gapped, linking):
    boxes, masks = (gapped.file.array(name)[:] for name in ("boxes", "masks"))
    firsts, pixels = (0, 5, 10, 15, 18), 0  # the clips' first frames
    for track in gapped.query(TEXTS, linking=linking):
        found_boxes, found_masks = track.boxes(), track.masks()
        assert found_boxes.dtype == np.float32 and found_masks.shape == (23, *SIZE)
        for frame in range(23):
            clip = frame // 5
            tube, place = track.tubes[clip], frame - firsts[clip]
            if tube < 0:
                assert not found_boxes[frame].any() and not found_masks[frame].any()
                continue
            box = torch.from_numpy(boxes[clip, place, tube])[None]
            grid = torch.from_numpy(masks[clip, tube, place])[None] / 255
            assert (found_boxes[frame] == box[0].numpy()).all()
            wanted = (paste_masks(grid, box, SIZE)[0] >= 0.5).numpy()
            assert (found_masks[frame] == wanted).all()
            pixels += wanted.sum()
    assert pixels > 1000 and (track.tubes >= 0).sum() == 4


@pytest.mark.parametrize(
    ("above", "present"), [(-1e-3, True), (0, True), (1e-3, False), (np.inf, False)]
)
def test_a_sentence_is_present_from_the_threshold_on(gapped, above, present):
    (free,) = gapped.query(["w3 w4"])
    (track,) = gapped.query(["w3 w4"], absent_threshold=free.score + above)
    assert free.present and track.present is present and track.score == free.score
    assert (track.tubes == free.tubes).all(), "what would have been is told all the same"
    assert track.masks([0, 7]).any() == track.boxes([7]).any() == present


def test_who_has_left_has_empty_masks_where_absence_is_calibrated(gapped, monkeypatch):
    (free,) = gapped.query("w3 w4")
    chosen = free.total[np.arange(5), free.tubes]
    steep = Probability(1e6, -1e6 * float(np.median(chosen[free.tubes >= 0])))
    monkeypatch.setattr(gapped.query_encoder, "no_match", NoMatch(-1e9, steep))
    (track,) = gapped.query("w3 w4")
    gone = (free.tubes >= 0) & (1e6 * chosen + steep.intercept < 0)
    assert 0 < gone.sum() < 4, "the clips below the middle one, whatever it costs to leave"
    np.testing.assert_array_equal(track.tubes, np.where(gone, -1, free.tubes))
    assert track.present and track.score == free.score
    assert track.probability == pytest.approx(steep.of(track.score))
    for frame in range(23):
        assert track.masks(frame).any() == (
            track.tubes[frame // 5] >= 0 and free.masks(frame).any()
        )
    (other,) = gapped.query("w3 w4", absent_threshold=None)
    assert (other.tubes == free.tubes).all(), "only by the calibrated threshold"


@pytest.mark.parametrize("threshold", [None, -1e9])
def test_in_a_video_without_tubes_every_sentence_is_about_nobody(threshold, tmp_path):
    class Empty(Store):
        def window(self, *given):
            window = super().window(*given)
            window.valid[:] = False
            return window

    model, path = loaded(), tmp_path / "v.h5"
    nobody = replace(job(model, Frames(7)), boxes=StoredBoxes(Empty(), "v", SIZE))
    build_index(nobody, path)
    for linking in LINKINGS:
        index = VideoIndex.read(path, model)
        (track,) = index.query(["w3"], linking=linking, absent_threshold=threshold)
        assert track.score == -np.inf and track.tubes.tolist() == [-1, -1, -1]
        assert not track.present and "nobody is found" in track.reason
        assert not track.masks().any() and not track.boxes().any()
        clips = [part.tracks[0] for part in answers([track], index.frames)]
        assert [(one.tube, one.score) for one in clips] == [(-1, -np.inf)] * 3


@pytest.mark.parametrize(
    ("frames", "spans"),
    [
        (range(23), [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14],
                     [15, 16, 17, 18, 19], [20, 21, 22]]),
        (range(4, 6), [[4], [5]]),
        (range(9, 22, 4), [[9], [13], [17], [21]]),
        (range(0, 23, 11), [[0], [11], [22]]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("threshold", [None, 1e9])
def test_answers_come_clip_by_clip_with_their_frames(gapped, frames, spans, threshold):
    tracks = gapped.query(TEXTS, absent_threshold=threshold)
    assert [list(span) for span in gapped.spans(frames)] == spans
    found = list(answers(tracks, frames))
    assert [(one.start, one.stop) for one in found] == [(s[0], s[-1] + 1) for s in spans]
    for part, span in zip(found, spans, strict=True):
        clip = span[0] // 5
        for one, track in zip(part.tracks, tracks, strict=True):
            assert (one.video_id, one.text) == ("v", track.text)
            assert one.frame_indices.tolist() == span
            assert (one.masks.numpy() == track.masks(span)).all()
            assert (one.boxes.numpy() == track.boxes(span)).all()
            tube = track.tubes[clip] if threshold is None else -1
            assert one.tube == tube
            assert one.score == (track.total[clip, tube] if tube >= 0 else -np.inf)
            assert (one.scores.total.numpy() == track.total[clip]).all()


@pytest.mark.parametrize("frame", [-24, 23, 1000])
def test_a_frame_outside_the_video_is_named(gapped, frame):
    (track,) = gapped.query(["w3"])
    for part in (track.boxes, track.masks):
        with pytest.raises(InputError, match=rf"v(\.h5)?: wanted frame {frame}, it has 23"):
            part([3, frame])
    assert track.masks([]).shape == (0, *SIZE) and track.boxes([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (-1, [22]),
        ([-23, 5, -1], [0, 5, 22]),
        (slice(None), list(range(23))),
        (slice(3, 9, 2), [3, 5, 7]),
        (slice(-3, None), [20, 21, 22]),
        (slice(20, 1000), [20, 21, 22]),
        (slice(None, None, -9), [22, 13, 4]),
        (range(4, 1, -1), [4, 3, 2]),
        (np.array([7]), [7]),
    ],
    ids=str,
)
def test_frames_are_taken_as_from_a_sequence(gapped, wanted, numbers):
    (track,) = gapped.query(["w3"])
    boxes, masks = track.boxes(), track.masks()
    found = track.boxes(wanted), track.masks(wanted)
    if isinstance(wanted, int):
        assert found[0].shape == (4,) and found[1].shape == SIZE
        found = found[0][None], found[1][None]
    assert (found[0] == boxes[numbers]).all() and (found[1] == masks[numbers]).all()


@pytest.mark.parametrize("wanted", [1.5, [True, False], "3", [[1, 2]]], ids=str)
def test_what_is_no_frame_s_number_is_refused(gapped, wanted):
    with pytest.raises(InputError, match="frames are numbers or a slice"):
        gapped.query(["w3"])[0].masks(wanted)


def test_slices_of_a_part_go_by_the_frames_numbers(tmp_path):
    path, model = tmp_path / "v.h5", loaded()
    build_index(replace(job(model, Frames(20)), selection=Selection(range(6, 15, 2))), path)
    (track,) = VideoIndex.read(path, model).query("w3")
    whole = track.masks()  # of frames 6, 8, 10, 12, 14
    assert len(track) == 5 and (track.masks(-1) == track.masks(14)).all()
    assert (track.masks(slice(8, 13)) == whole[1:4]).all()
    assert (track.masks(slice(None, None, 3)) == whole[[0, 3]]).all()


def test_a_text_alone_is_one_sentence(gapped):
    (one,) = gapped.query("w3 w4")
    (other,) = gapped.query(["w3 w4"])
    assert (one.text, one.score) == ("w3 w4", other.score)


def naive_instances(track, boxes, limit=0.5):
    """Clip by clip, the tubes in the order of their scores that no better one overlaps."""
    chosen = []
    for clip, row in enumerate(track.total):
        kept = []
        for tube in sorted(np.flatnonzero(np.isfinite(row)), key=lambda k: -row[k]):
            overlaps = [mean_iou(boxes[clip, :, tube], boxes[clip, :, other]) for other in kept]
            if all(value <= limit for value in overlaps):
                kept.append(int(tube))
        chosen.append(kept)
    return chosen


def mean_iou(one, other):
    found = []
    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        found.append(width * height / (sum(areas) - width * height))
    return np.mean(found)


def test_several_actors_of_one_sentence_are_its_tubes_that_do_not_overlap(gapped):
    for text in TEXTS:
        tracks = gapped.query(text, linking="clip", top=9)
        wanted = naive_instances(tracks[0], gapped.boxes)
        assert len(tracks) == max(map(len, wanted)) >= 2
        found = sorted((t.tubes.tolist() for t in tracks), key=lambda path: path.count(-1))
        for clip, kept in enumerate(wanted):
            assert sorted(p[clip] for p in found if p[clip] >= 0) == sorted(kept)
        scores = [track.score for track in tracks]
        assert scores == sorted(scores, reverse=True) and all(t.text == text for t in tracks)


@pytest.mark.parametrize("linking", LINKINGS)
def test_tracks_of_one_sentence_show_different_actors_and_the_first_is_the_best(gapped, linking):
    alone = [gapped.query(text, linking=linking, top=3) for text in TEXTS]
    together = gapped.query(TEXTS, linking=linking, top=3)
    flat = [track for tracks in alone for track in tracks]
    assert [t.text for t in together] == [t.text for t in flat], "sentence by sentence"
    for one, other in zip(together, flat, strict=True):
        assert (one.tubes == other.tubes).all() and one.score == pytest.approx(other.score)
    for text, tracks in zip(TEXTS, alone, strict=True):
        (best,) = gapped.query(text, linking=linking)
        assert len(gapped.query(text, linking=linking, top=2)) == 2
        assert best.tubes.tolist() in [track.tubes.tolist() for track in tracks]
        assert 2 <= len(tracks) <= 3
        for one, other in itertools.combinations(tracks, 2):
            shown = [n for n in range(23) if one.boxes(n).any() and other.boxes(n).any()]
            boxes = one.boxes(shown), other.boxes(shown)
            assert not shown or mean_iou(*boxes) <= 0.5
            assert (one.masks() != other.masks()).any()
    with pytest.raises(InputError, match="at least one track a sentence, got 0"):
        gapped.query("w3", top=0)


def test_a_pickled_track_is_small_and_reads_its_index_as_long_as_it_is_there(tmp_path):
    path = tmp_path / "v.h5"
    (track,) = built(loaded(), 17, path).query("w3 w4")
    boxes, masks = track.boxes(), track.masks()
    data = pickle.dumps(track)
    assert len(data) < 8000, "neither the segmenter nor the boxes of all tubes"
    copy = pickle.loads(data)
    assert (copy.masks() == masks).all() and (copy.boxes() == boxes).all()
    assert (copy.text, copy.score, copy.tubes.tolist()) == (
        track.text,
        track.score,
        track.tubes.tolist(),
    )
    gone = pickle.loads(data)
    path.rename(tmp_path / "w.h5")
    with pytest.raises(InputError, match=r"no index at .*v\.h5; .*segmenter.index\(video, out="):
        gone.masks(3)
    built(loaded(), 16, path).close()
    with pytest.raises(InputError, match=r"v\.h5 is another index by now"):
        gone.masks(3)


def test_a_closed_index_opens_itself_again(tmp_path):
    with built(loaded(), 7, tmp_path / "v.h5") as index:
        (track,) = index.query("w3")
        masks = track.masks()
    assert index.file._file is None and (track.masks() == masks).all()


def test_an_index_and_a_track_say_what_they_are_in_a_line(gapped, tmp_path):
    assert repr(gapped) == "VideoIndex('v', 23 frames of 50x40)"
    (track,) = gapped.query("w3 w4", absent_threshold=1e9)
    score = f"score {track.score:.3f}"
    assert repr(track) == f"Track('w3 w4' in 'v', {score}, no match, 23 frames)"
    assert repr(replace(track, present=True)) == f"Track('w3 w4' in 'v', {score}, 23 frames)"
    model, path = loaded(), tmp_path / "v.h5"
    build_index(replace(job(model, Frames(9)), selection=Selection(range(2, 5))), path)
    assert repr(VideoIndex.read(path, model)) == "VideoIndex('v', frames 2 to 4 of 50x40)"


def test_a_linking_and_a_sentence_that_are_none_are_refused(gapped):
    with pytest.raises(InputError, match=r"video, clip.*'frame'"):
        gapped.query(["w3"], linking="frame")
    with pytest.raises(InputError, match="' - '"):
        gapped.query(["w3", " - "])


@pytest.mark.parametrize(
    ("overrides", "parts", "actor", "action"),
    [
        (("aamn.matching=joint",), ["joint"], True, False),
        (("aamn.action.enabled=false",), ["actor"], True, False),
        (("aamn.actor.enabled=false",), ["action"], False, True),
    ],
    ids=["joint", "actor", "action"],
)
def test_a_module_that_is_alone_gives_the_whole_score(overrides, parts, actor, action, tmp_path):
    index = built(loaded(*overrides), 6, tmp_path / "v.h5")
    (track,) = index.query(["w3 w4 w9"])
    shown = np.isfinite(track.total)
    assert list(index.header.heads) == parts and shown.any()
    for part, whole in ((track.actor, actor), (track.action, action)):
        assert (part[shown] == (track.total[shown] if whole else 0)).all()
    for attention in (track.actor_attention, track.action_attention):
        assert attention.shape == (3,) and attention.sum() == pytest.approx(1)


VECTORS = {"purple": (1, -2, 0.5, 3, -1, 2), "zebra": (-3, 1, 2, -0.5, 4, -2)}


@pytest.fixture
def with_vectors(tmp_path):
    """A segmenter whose file of vectors has words that it was not trained with; and an index."""
    path = tmp_path / "vectors.txt"
    path.write_text("".join(f"{word} {' '.join(map(str, v))}\n" for word, v in VECTORS.items()))
    model = loaded(f"words.vectors={path}")
    built(model, 5, tmp_path / "v.h5").close()
    return model


def told(word, text, path):
    """The scores for a sentence of a segmenter that has learned w5 as the vector of `word`."""
    model = loaded()
    with torch.no_grad():
        model.segmenter.language.embedding.weight[2 + 5] = torch.tensor(VECTORS[word])
    return VideoIndex.read(path, model).query([text.replace(word, "w5")])[0].total


def test_a_word_of_the_file_of_vectors_alone_is_asked_by_its_vector(with_vectors, tmp_path):
    index = VideoIndex.read(tmp_path / "v.h5", with_vectors)
    unknown = index.query(["w3 nonsense"])[0].total
    for text, word in (("w3 purple", "purple"), ("zebra w3", "zebra"), ("w3 purple", "purple")):
        track = index.query([text])[0]
        wanted = told(word, text, tmp_path / "v.h5")
        np.testing.assert_allclose(track.total, wanted, atol=1e-5)
        shown = np.isfinite(wanted)
        assert np.abs(track.total[shown] - unknown[shown]).min() > 1e-4
        assert track.query.tokens == tuple(text.split())
    assert (index.query(["w3 nonsense"])[0].total == unknown).all()


def test_two_readers_of_one_segmenter_share_its_words(with_vectors, tmp_path):
    path = tmp_path / "v.h5"
    one, other = (VideoIndex.read(path, with_vectors) for _ in range(2))
    for index, word in ((one, "purple"), (other, "zebra"), (other, "purple"), (one, "purple")):
        found = index.query([f"w3 {word}"])[0].total
        np.testing.assert_allclose(found, told(word, f"w3 {word}", path), atol=1e-5)
    words = with_vectors.segmenter.language.embedding
    assert words is with_vectors.words is other.query_encoder.loaded.words
    assert len(words.weight) == words.num_embeddings == len(words.vocabulary) == WORDS + 2


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from tiny_videos import Frames, job, loaded
from aamn.index.builder import build_index
frames = Frames(4000)
print("started", flush=True)
build_index(job(loaded(), frames), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_run_leaves_no_index_and_the_next_one_makes_it_whole(tmp_path):
    path = tmp_path / "v.h5"
    unfinished = lambda: list(tmp_path.glob(".v.h5.*.tmp"))  # noqa: E731
    program = KILLED.format(tests=str(Path(__file__).parents[2]))
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        patience = time.monotonic() + 1800  # a child that hangs must not hold up all other tests
        while process.poll() is None and not any(f.stat().st_size > 50_000 for f in unfinished()):
            assert time.monotonic() < patience, "nothing was written"
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)  # it must not end while the second one tries
        assert process.poll() is None, "it ended before it could be killed"
        assert not path.exists(), "it ended before it could be stopped"
        with pytest.raises(InputError, match="is being written by process"):
            build_index(job(loaded(), Frames(5)), path)
    finally:  # a stopped process would stay for ever
        process.kill()
        process.wait()
        process.stdout.close()
    assert not path.exists() and unfinished()
    with pytest.raises(InputError, match="no index at"):
        IndexFile.read(path)
    model = loaded()
    index = built(model, 7, path)
    assert len(index) == 7 and [one.name for one in tmp_path.iterdir()] == ["v.h5"]
    assert index.query(["w3"])[0].masks().shape == (7, *SIZE)


def test_a_failing_video_leaves_nothing_behind(tmp_path):
    class Broken(Frames):
        def _frame(self, index):
            if index == 20:
                raise InputError("noise: frame 20 cannot be decoded")
            return super()._frame(index)

    with pytest.raises(InputError, match="frame 20"):
        build_index(job(loaded(), Broken(30)), tmp_path / "v.h5")
    assert not list(tmp_path.iterdir())


def test_costs_of_nested_parts_count_once(monkeypatch):
    times = iter([0.0, 1.0, 3.0, 7.0])
    monkeypatch.setattr("aamn.index.timer.time.perf_counter", lambda: next(times))
    costs = Timer()
    with costs.of("outer"), costs.of("inner"):
        pass
    assert costs.seconds == {"inner": 2.0, "outer": 5.0}


def test_origin_is_plain_json(tmp_path):
    index = built(loaded(), 3, tmp_path / "v.h5")
    with h5py.File(tmp_path / "v.h5") as file:
        origin = json.loads(file.attrs["origin"])
    assert origin["boxes"]["detector"] == "hand" and origin["flow"]["method"] == "dis"
    assert origin["model"] == index.query_encoder.model
