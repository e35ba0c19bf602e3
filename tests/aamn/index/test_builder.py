"""What goes into the networks while a video is indexed, and what comes out, against naive loops."""

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_videos import SIZE, Frames, Store, Unchecked, built, job, loaded

from aamn.config.schema import FlowConfig
from aamn.data.samples import load_clip, load_proposals
from aamn.index import builder as indexing
from aamn.index import encoder, reader, timer
from aamn.index.box_source import StoredBoxes
from aamn.index.builder import build_index
from aamn.index.file import (
    ARRAYS,
    NO_END,
    WHOLE,
    ClipBlock,
    Header,
    IndexFile,
    Origin,
    Selection,
)
from aamn.index.growing import GrowingIndex
from aamn.index.indexed_video import IndexedVideo
from aamn.index.job import model_hash
from aamn.index.query_encoder import QueryEncoder
from aamn.index.timer import Timer
from aamn.index.video_index import VideoIndex
from proposals.errors import InputError
from proposals.store import Attributes, BoxWindow

CONTENT = (38, 48)  # SIZE in a square of 48 pixels


class Sparse(Store):
    """Four boxes in every frame but those named, which have none."""

    def __init__(self, empty=()):
        self.empty = empty

    def window(self, video_id, frame_indices, top):
        n = len(frame_indices)
        boxes, valid = np.zeros((n, top, 4), np.float32), np.zeros((n, top), bool)
        for place, frame in enumerate(np.asarray(frame_indices).tolist()):
            if frame not in self.empty:
                corner = np.random.default_rng(frame).uniform(0, 15, (top, 2))
                boxes[place] = np.hstack([corner, corner + np.arange(12, 12 + top)[:, None]])
                valid[place] = True
        return BoxWindow(boxes, np.zeros((n, top), np.float32), np.zeros((n, top), int), valid)


def job_of(model, count, boxes=None, selection=WHOLE, **changes):
    boxes = StoredBoxes(boxes or Store(), "v", SIZE)
    return replace(job(model, Frames(count)), boxes=boxes, selection=selection, **changes)


def arrays(path):
    file = IndexFile.read(path)
    return {name: file.array(name)[:] for name in ARRAYS if file.array(name) is not None}


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


class NaiveLinks:
    """Equation (1) between two clips' tubes, one pair and one frame at a time."""

    def __init__(self, found, features, boxes, radius, balance):
        self.found, self.features, self.radius = found, features, radius
        self.proposals, self.balance = boxes, balance

    def at(self, clip, tube, frame):
        """Box and feature by which a tube is linked at a frame: where the frame has no box, those
        of the nearest one towards the key frame that has."""
        key = int(self.found["windows"][clip, 0])
        box = self.found["boxes"][clip, frame - key + self.radius, tube]
        while not self.proposals.window("v", [frame], 4).valid.any():
            frame += 1 if frame < key else -1
        apart = np.abs(self.proposals.window("v", [frame], 4).boxes[0] - box).sum(1)
        assert apart.min() == 0, "a tube carries on its last box"
        return box.tolist(), self.features[frame][apart.argmin()]

    def between(self, clip):
        """Links from the clip before (rows) to the clip (columns); nan where a tube is none."""
        before, own = self.found["windows"][clip - 1 : clip + 1]
        links = np.full(self.found["links"].shape[1:], np.nan)
        for i in np.flatnonzero(self.found["valid"][clip - 1]):
            for j in np.flatnonzero(self.found["valid"][clip]):
                box_a, feature_a = self.at(clip - 1, i, before[2] - 1)
                box_b, feature_b = self.at(clip, j, own[1])
                distance = float((feature_a - feature_b).pow(2).sum().sqrt())
                links[i, j] = iou(box_a, box_b) + self.balance / (1 + distance)
        return links


def remember_link_features(model, monkeypatch):
    """Frame number -> its proposals' features in (1), filled while one index of it is built."""
    features, describe = [], model.segmenter.describe_rois

    def remember(maps, batch):
        found = describe(maps, batch)
        features.extend(model.segmenter.link_features(found.roi_features))
        return found

    monkeypatch.setattr(model.segmenter, "describe_rois", remember)
    return features


@pytest.mark.parametrize("clips_at_once", [1, 100])
@pytest.mark.parametrize(
    ("count", "radius", "empty", "selection", "overrides"),
    [
        (11, 1, (), WHOLE, ()),
        (12, 1, (2, 5, 6), WHOLE, ("aamn.link_balance=0.3",)),
        (16, 3, (5, 6, 7, 8, 13, 14), WHOLE, ("aamn.link_features=rgb+flow",)),
        (20, 3, (6, 14, 15, 19), WHOLE, ("aamn.linking=anchor",)),
        (24, 2, (7,), WHOLE, ()),
        (21, 1, (11,), Selection(range(1, NO_END, 9)), ()),
        (11, 0, (), Selection(key_frames=(0, 4, 10)), ()),
    ],
    ids=["boxes everywhere", "none at edges", "none in a late part of the last clip",
         "none in an early part", "none at a key frame", "gaps", "key frames"],
)  # fmt: skip
def test_links_are_equation_1_where_clips_meet_however_many_are_made_at_once(
    count, radius, empty, selection, overrides, clips_at_once, tmp_path, monkeypatch
):
    monkeypatch.setitem(indexing.FRAMES_AT_ONCE, "cpu", clips_at_once * (2 * radius + 1))
    model = loaded(f"aamn.radius={radius}", *overrides)
    features = remember_link_features(model, monkeypatch)
    build_index(job_of(model, count, Sparse(), WHOLE), tmp_path / "all.h5")
    features = {frame: feature for frame, feature in enumerate(features[:count])}
    boxes = Sparse(empty)
    build_index(job_of(model, count, boxes, selection), tmp_path / "v.h5")
    found = arrays(tmp_path / "v.h5")
    naive = NaiveLinks(found, features, boxes, radius, model.config.aamn.link_balance)
    assert not found["links"][0].any() and len(found["links"]) > 2
    linked = 0
    for clip in range(1, len(found["links"])):
        wanted = naive.between(clip)
        real = np.isfinite(wanted)
        linked += real.sum()
        np.testing.assert_allclose(found["links"][clip][real], wanted[real], atol=2e-5)
        assert real.all() or not real.any(), "a clip has four tubes or none"
    assert linked >= 16


@pytest.mark.parametrize(
    ("radius", "selection"),
    [(0, WHOLE), (2, WHOLE), (2, Selection(key_frames=(0, 3, 4, 5, 12, 13, 14, 22)))],
    ids=["frames", "clips", "key frames"],
)
def test_small_blocks_make_the_index_that_one_block_makes(radius, selection, tmp_path, monkeypatch):
    model, found = loaded(f"aamn.radius={radius}"), []
    for frames in (1, 7, 1000):
        monkeypatch.setitem(indexing.FRAMES_AT_ONCE, "cpu", frames)
        build_index(job_of(model, 23, selection=selection), tmp_path / f"{frames}.h5")
        found.append(arrays(tmp_path / f"{frames}.h5"))
    for name, wanted in found[-1].items():
        atol = 1 if name == "masks" else 1e-5
        for one in found[:-1]:
            np.testing.assert_allclose(one[name].astype(float), wanted, atol=atol, err_msg=name)


@pytest.mark.parametrize(
    ("count", "radius", "windows"),
    [
        (1, 0, [(0, 0, 1)]),
        (3, 0, [(0, 0, 1), (1, 1, 2), (2, 2, 3)]),
        (1, 1, [(0, 0, 1)]),
        (2, 1, [(0, 0, 2)]),
        (3, 1, [(1, 0, 3)]),
        (4, 1, [(1, 0, 3), (2, 3, 4)]),
        (5, 1, [(1, 0, 3), (3, 3, 5)]),
        (6, 1, [(1, 0, 3), (4, 3, 6)]),
        (3, 2, [(1, 0, 3)]),
        (4, 2, [(1, 0, 4)]),
        (7, 2, [(2, 0, 5), (4, 5, 7)]),
        (15, 2, [(2, 0, 5), (7, 5, 10), (12, 10, 15)]),  # the frames of one block
        (16, 2, [(2, 0, 5), (7, 5, 10), (12, 10, 15), (13, 15, 16)]),
    ],
)
def test_clips_lie_side_by_side_and_the_last_one_stays_in_the_video(
    count, radius, windows, tmp_path
):
    build_index(job_of(loaded(f"aamn.radius={radius}"), count), tmp_path / "v.h5")
    file = IndexFile.read(tmp_path / "v.h5")
    assert [tuple(row) for row in file.array("windows")[:].tolist()] == windows
    assert file.header.frames == count


@pytest.mark.parametrize("wanted", [range(4, NO_END), range(5, 6), range(4, 90, 40)], ids=str)
def test_frames_behind_the_end_are_none_though_their_clip_would_hold_others(wanted, tmp_path):
    with pytest.raises(InputError, match=f"noise has none of the wanted frames {wanted.start}"):
        build_index(job_of(loaded(), 4, selection=Selection(wanted)), tmp_path / "v.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("count", "keys", "windows"),
    [
        (9, (0, 3, 8), [0, 3, 8]),
        (9, (3, 4, 5), [3, 4, 5]),
        (9, (8, 9, 30), [8]),
        (9, (2, 30), [2, 8]),
        (1, (0, 7), [0]),
        (40, (13, 14, 15, 16, 39), [13, 14, 15, 16, 39]),
    ],
)
def test_key_frames_get_one_clip_each_and_late_ones_the_last_frame_s(
    count, keys, windows, tmp_path
):
    model, path = loaded(), tmp_path / "v.h5"
    build_index(job_of(model, count, Sparse(), Selection(key_frames=keys)), path)
    found = arrays(path)
    assert found["windows"].tolist() == [[key, key, key + 1] for key in windows]
    boxes = Sparse().window("v", windows, 4).boxes
    np.testing.assert_array_equal(found["boxes"][:, 1], boxes, "radius 1: the key frame is second")


class Grey(Frames):
    """Frame n is of brightness 7 n everywhere."""

    def __init__(self, count):
        super().__init__(count)
        self.video = np.empty((count, *SIZE, 3), np.uint8)
        self.video[:] = 7 * np.arange(count)[:, None, None, None]


def remember_inputs(model, monkeypatch):
    """The streams' inputs by frame number, as the brightness of `Grey` tells it."""
    inputs, encode = {}, model.segmenter.encode_maps

    def remember(images):
        for rgb, flow in zip(images["rgb"], images["flow"], strict=True):
            inputs[round(float(rgb[0, 0, 0]) * 255 / 7)] = (rgb.numpy(), flow.numpy())
        return encode(images)

    monkeypatch.setattr(model.segmenter, "encode_maps", remember)
    return inputs


def in_the_square(*channels):
    """An input of the network whose content has these values, one a channel, and nothing beside."""
    square = np.zeros((len(channels), 48, 48), np.float32)
    square[:, : CONTENT[0], : CONTENT[1]] = np.array(channels)[:, None, None]
    return square


@pytest.mark.parametrize(
    ("count", "radius", "wanted", "encoded"),
    [
        (1, 1, None, {0}),
        (2, 1, None, {0, 1}),
        (35, 1, None, {*range(35)}),
        (35, 1, range(4, 8), {*range(3, 9)}),
        (35, 1, range(33, NO_END), {*range(32, 35)}),
        (34, 1, range(33, NO_END), {*range(31, 34)}),  # the last clip begins before its own frames
        (35, 1, range(1, NO_END, 12), {0, 1, 2, 12, 13, 14, 24, 25, 26}),
        (33, 1, range(31, 32), {30, 31, 32}),
        (5, 0, range(4, NO_END), {4}),
    ],
)
def test_every_frame_enters_as_it_is_with_the_flow_to_the_next_one(
    count, radius, wanted, encoded, tmp_path, monkeypatch
):
    def estimate(one, two):
        return np.stack([np.full(CONTENT, float(frame.mean()), np.float32) for frame in (one, two)])

    monkeypatch.setattr(reader, "build_estimator", lambda config: estimate)
    model = loaded(f"aamn.radius={radius}")
    inputs = remember_inputs(model, monkeypatch)
    grey = job_of(model, count, selection=Selection(wanted), frames=Grey(count))
    build_index(grey, tmp_path / "v.h5")
    assert set(inputs) == encoded
    for frame, (rgb, flow) in inputs.items():
        np.testing.assert_allclose(rgb, in_the_square(*[7 * frame / 255] * 3), atol=1e-6)
        first = min(frame, count - 2)  # the last frame repeats the flow before it
        moved = (7 * first, 7 * (first + 1)) if count > 1 else (0, 0)
        np.testing.assert_allclose(flow, in_the_square(*moved), atol=1e-4)


@pytest.mark.parametrize(
    ("count", "radius", "every", "wanted", "encoded"),
    [
        (12, 1, 2, None, {0, 2, 4, 6, 8, 10}),
        (11, 1, 2, None, {0, 2, 4, 6, 8, 10}),
        (10, 0, 3, None, {0, 3, 6, 9}),
        (5, 1, 9, None, {0}),
        (40, 0, 2, range(21, 26), {20, 22, 24, 26}),
    ],
)
def test_of_every_so_many_frames_one_enters_with_the_flow_to_the_one_after_it(
    count, radius, every, wanted, encoded, tmp_path, monkeypatch
):
    def estimate(one, two):
        return np.stack([np.full(CONTENT, float(frame.mean()), np.float32) for frame in (one, two)])

    monkeypatch.setattr(reader, "build_estimator", lambda config: estimate)
    model = loaded(f"aamn.radius={radius}")
    inputs, before = {}, encoder.Encoder.encode

    def remember(self, block, start):
        for place, picture in enumerate(block, start):
            inputs[place * every] = picture
        return before(self, block, start)

    monkeypatch.setattr(encoder.Encoder, "encode", remember)
    selection = WHOLE if wanted is None else Selection(wanted)
    thinned = job_of(model, count, selection=selection, frames=Grey(count), every=every)
    build_index(thinned, tmp_path / "v.h5")
    assert set(inputs) == encoded
    for frame, picture in inputs.items():
        assert (picture.original == 7 * frame).all()
        first = min(frame, count - 2)
        np.testing.assert_allclose(picture.flow[:, 0, 0], (7 * first, 7 * (first + 1)))
    index = VideoIndex.read(tmp_path / "v.h5", model)
    assert index.frames == (wanted or range(count)) and index.header.origin.every == every
    track = index.query("w3")[0]
    assert track.masks().shape == (len(index.frames), *SIZE)
    with pytest.raises(InputError, match=f"every is {every} in the one and 1"):
        build_index(replace(thinned, every=1), tmp_path / "v.h5")


def test_frames_are_not_left_out_where_key_frames_are_wanted(tmp_path):
    wanted = job_of(loaded(), 5, selection=Selection(key_frames=(2,)), every=2)
    with pytest.raises(InputError, match="every: wanted 1, or more where whole videos are, got 2"):
        build_index(wanted, tmp_path / "v.h5")


def index_by_hand(every, *clips):
    """Clips of three frames each with one tube: boxes that move to the right, masks all True."""
    origin = Origin("m", {}, {}, every=every)
    header = Header("v", "v.mp4", (8, 40), 10.0, {"actor": 1}, origin)
    blocks = []
    for number, lefts in enumerate(clips):
        first = 3 * number
        boxes = np.array([[[x, 0, x + 4, 4]] for x in lefts], np.float32)
        windows = np.array([[first + 1, first, first + 3]]) * every
        masks = np.full((1, 1, 3, 2, 2), 255, np.uint8)
        blocks.append(ClipBlock(windows, boxes[None], *(np.ones((1, 1, 1)),) * 2, masks, None))
    return IndexedVideo(GrowingIndex(header, blocks))


@pytest.mark.parametrize(
    ("every", "clips", "lefts"),
    [
        (1, [(0, 2, 4)], [0, 2, 4]),
        (2, [(0, 2, 4)], [0, 1, 2, 3, 4, 4]),
        (4, [(0, 2, 4)], [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4, 4, 4]),
        (2, [(0, 2, 4), (6, 8, 8)], [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8]),
        # in a clip a tube may move by more than its size; where two clips meet, it is another actor
        (2, [(0, 9, 9), (20, 20, 20)], [0, 4.5, 9, 9, 9, 9, 20, 20, 20, 20, 20, 20]),
        (3, [(0, 0, 0), (20, 20, 20)], [0] * 8 + [20] * 10),
    ],
)
def test_boxes_and_masks_between_two_frames(every, clips, lefts):
    index, frames = index_by_hand(every, *clips), np.arange(len(lefts))
    tubes = np.zeros(len(clips), int)
    boxes = index.shown_boxes(frames, tubes)
    np.testing.assert_allclose(boxes, [[x, 0, x + 4, 4] for x in lefts])
    for left, mask in zip(lefts, index.shown_masks(frames, tubes), strict=True):
        if left == int(left):
            wanted = np.zeros((8, 40), bool)
            wanted[:4, int(left) : int(left) + 4] = True
            np.testing.assert_array_equal(mask, wanted)
    tubes[-1] = -1
    nobody = index.shown_boxes(frames, tubes)
    assert not nobody[-3 * every :].any()
    np.testing.assert_array_equal(nobody[: -4 * every], boxes[: -4 * every])


class Flow(Unchecked):
    """Stored flow at half the video's size: frame n moves by (n, -2 n) of its pixels."""

    attributes = {"method": "stored", "longest_side": 25}  # noqa: RUF012

    def window(self, video_id, indices):
        assert video_id == "v"
        flow = np.empty((len(indices), 2, 20, 25), np.float32)
        flow[:, 0], flow[:, 1] = (f * np.asarray(indices)[:, None, None] for f in (1, -2))
        return flow


def test_stored_flow_enters_in_pixels_of_the_network(tmp_path, monkeypatch):
    model = loaded()
    monkeypatch.setattr(reader, "build_estimator", None)  # nothing is computed
    inputs = remember_inputs(model, monkeypatch)
    grey = job_of(model, 20, frames=Grey(20), flow=Flow(), selection=Selection(range(4, 18)))
    build_index(grey, tmp_path / "v.h5")
    assert set(inputs) == {*range(3, 18)}
    for frame, (_, flow) in inputs.items():
        moved = (frame * 48 / 25, -2 * frame * 38 / 20)
        np.testing.assert_allclose(flow, in_the_square(*moved), rtol=1e-5)
    assert IndexFile.read(tmp_path / "v.h5").header.origin.flow == Flow.attributes


@pytest.mark.parametrize(("count", "radius"), [(4, 1), (8, 2)])
def test_masks_are_the_mask_head_s_probabilities_to_the_nearest_of_255_steps(
    count, radius, tmp_path
):
    model, video, k = loaded(f"aamn.radius={radius}"), Frames(count), 4
    segmenter, found = model.segmenter, arrays(built(model, count, tmp_path / "v.h5").file.path)
    length, tubes = 2 * radius + 1, 0
    for clip, (key, _, _) in enumerate(found["windows"].tolist()):
        inputs = load_clip("v", video, key, segmenter.input_spec, flow_config=FlowConfig())
        boxes = load_proposals(Store(), "v", inputs.frame_indices, k)
        with torch.inference_mode():
            encoded = segmenter.encode([inputs], [boxes])
            frames = torch.arange(length).repeat(k)
            logits = segmenter.mask_logits(encoded, frames, encoded.tubes.boxes.reshape(-1, 4))
        wanted = 255 * logits.sigmoid().unflatten(0, (k, length)).numpy()
        for tube in range(k):
            if found["valid"][clip, tube]:
                apart = np.abs(found["masks"][clip, tube] - wanted[tube])
                assert apart.max() < 0.51 and apart.std() > 0.1
                tubes += 1
            else:
                assert not found["masks"][clip, tube].any()
    assert tubes > 2


def test_a_segmenter_in_training_makes_the_index_of_one_that_is_not(tmp_path):
    model, found = loaded("aamn.backbone.dropout=0.5"), []
    for name in ("a", "b"):
        model.segmenter.train()
        build_index(job_of(model, 7), tmp_path / f"{name}.h5")
        found.append(arrays(tmp_path / f"{name}.h5"))
    model.segmenter.eval()
    build_index(job_of(model, 7), tmp_path / "c.h5")
    for name, wanted in arrays(tmp_path / "c.h5").items():
        assert all((one[name] == wanted).all() for one in found), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_streams_and_mask_head_compute_in_the_precision_and_all_else_in_float32(
    precision, tmp_path
):
    model, seen = loaded(), {}

    def see(name):
        return lambda _, __, output: seen.update({name: output.dtype})

    segmenter = model.segmenter
    convolution = next(m for m in segmenter.modules() if isinstance(m, torch.nn.Conv2d))
    convolution.register_forward_hook(see("streams"))
    segmenter.mask_head.register_forward_hook(see("mask head"))
    linear = [m for m in segmenter.streams["rgb"].modules() if isinstance(m, torch.nn.Linear)]
    linear[0].register_forward_hook(see("regions"))
    segmenter.tube_layers["rgb"].register_forward_hook(see("tubes"))
    build_index(job_of(model, 4, precision=precision), tmp_path / "v.h5")
    half = getattr(torch, precision)
    assert seen == dict.fromkeys(("streams", "mask head", "regions"), half) | {
        "tubes": torch.float32
    }
    assert IndexFile.read(tmp_path / "v.h5").header.origin.precision == precision
    types = {name: str(value.dtype) for name, value in arrays(tmp_path / "v.h5").items()}
    assert types == {
        "windows": "int64", "boxes": "float32", "vectors": "float32", "valid": "bool",
        "masks": "uint8", "links": "float32", "context": "float32",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        (("aamn.margin=0.7",), True),
        (("aamn.mask_loss_weight=3",), True),
        (("aamn.match_iou=0.7",), True),
        (("aamn.language.attention=random",), True),
        (("aamn.backbone.weights=a.pt", "aamn.backbone.flow_weights=b.pt"), True),
        (("aamn.backbone.frozen_stages=1", "aamn.backbone.dropout=0.5"), True),
        (("train.batch=3", "words.trainable=true"), True),
        (("aamn.radius=2",), False),
        (("aamn.proposals=3",), False),
        (("aamn.size=64",), False),
        (("aamn.linking=anchor",), False),
        (("aamn.link_balance=2",), False),
        (("aamn.link_features=flow",), False),
        (("aamn.aggregation=average",), False),
        (("aamn.backbone.flow_range=4",), False),
        (("aamn.backbone.roi_samples=1",), False),
        (("aamn.mask_head.resolution=7",), False),
    ],
    ids=str,
)
def test_options_change_the_hash_where_they_change_the_index(overrides, same):
    model, other = loaded(), loaded(*overrides)
    state = other.segmenter.state_dict()
    state.update({n: v for n, v in model.segmenter.state_dict().items() if n in state})
    fits = all(v.shape == other.segmenter.state_dict()[n].shape for n, v in state.items())
    if fits:
        other.segmenter.load_state_dict(state)
    assert (model_hash(other.segmenter) == model_hash(model.segmenter)) == same


def test_every_number_of_the_video_s_side_changes_the_hash_and_none_of_the_language_s():
    model = loaded()
    before, state = model_hash(model.segmenter), model.segmenter.state_dict()
    assert before == model_hash(loaded().segmenter) and len(before) == 16
    of_words = {name for name in state if name.split(".")[0] == "language"}
    sides = ("matching.textual.weight", "matching.textual.bias", "matching.score.weight")
    of_words |= {name for name in state if name.endswith((*sides, "matching.score.bias"))}
    assert len(of_words) > 8 and any("score" in name for name in of_words)
    for name, value in state.items():
        kept, last = value.clone(), value.view(-1)[-1:]
        last.add_(1)
        assert (model_hash(model.segmenter) == before) == (name in of_words), name
        value.copy_(kept)


def test_an_origin_says_model_boxes_flow_and_precision():
    model = loaded("flow.preset=fast")
    boxes = StoredBoxes(Store(), "v", SIZE)
    encoder = QueryEncoder(model)
    made = encoder.job("v", Frames(3), boxes, None, Selection(range(2)), "bfloat16", 4)
    assert (made.segmenter, made.video_id, made.boxes) == (encoder.video_side, "v", boxes)
    assert (made.every, made.origin.every) == (4, 4)
    assert made.selection == Selection(range(2)) and made.flow is None
    origin = made.origin
    assert (origin.model, origin.precision) == (model_hash(model.segmenter), "bfloat16")
    assert origin.boxes == {"detector": "hand", "weights": "", "classes": [], "settings": {}}
    assert origin.flow == {"method": "dis", "preset": "fast", "weights": "", "longest_side": 256}
    assert QueryEncoder(model).job("v", Frames(3), boxes, Flow()).origin.flow == Flow.attributes
    rgb = ("aamn.streams=rgb", "aamn.mask_head.features=rgb", "aamn.action.features=rgb")
    without = job_of(loaded(*rgb, "aamn.action.fusion=none"), 3, flow=Flow())
    assert without.origin.flow == {}, "flow that is not looked at"


class Other(Store):
    attributes = Attributes("hand", "other weights", (), {})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"boxes": StoredBoxes(Other(), "v", SIZE)}, "boxes is .*other weights"),
        ({"flow_config": FlowConfig(preset="fast")}, "flow is .*fast"),
        ({"flow": Flow()}, "flow is .*stored"),
        ({"precision": "bfloat16"}, "precision is .*bfloat16"),
        ({"model": "another"}, "model is .*another"),
    ],
)
def test_another_origin_is_refused_and_with_replace_worked_in(changes, named, tmp_path):
    model, path = loaded(), tmp_path / "v.h5"
    build_index(job_of(model, 4), path)
    before, other = path.read_bytes(), replace(job_of(model, 4), **changes)
    with pytest.raises(InputError, match=named) as found:
        build_index(other, path)
    assert str(path) in str(found.value) and path.read_bytes() == before
    assert build_index(other, path, replace=True)
    assert IndexFile.read(path).header.origin == other.origin
    assert not build_index(other, path, replace=True), "it is of this origin now"


def test_the_header_is_the_job_s(tmp_path):
    wanted = Selection(range(2, NO_END))
    build_index(replace(job_of(loaded(), 8, selection=wanted), video_id="w"), tmp_path / "v.h5")
    header = IndexFile.read(tmp_path / "v.h5").header
    assert (header.video_id, header.path, header.size, header.fps) == ("w", "noise", SIZE, 10.0)
    assert (header.frames, header.selection) == (8, wanted)


def test_seconds_are_told_by_part_and_add_up(tmp_path, monkeypatch):
    ticks = count()
    monkeypatch.setattr(timer.time, "perf_counter", lambda: float(next(ticks)))
    costs = Timer()
    build_index(job_of(loaded(), 20), tmp_path / "v.h5", costs)
    parts = {"preparing", "streams", "boxes", "tubes", "masks", "writing"}
    assert set(costs.seconds) == parts | {"decoding", "flow", "waiting"}
    assert min(costs.seconds.values()) > 0
    assert costs.seconds["flow"] >= 19, "a tick for each pair of frames"
    assert costs.ahead == costs.seconds["decoding"] + costs.seconds["flow"]
    assert costs.working == sum(costs.seconds[part] for part in parts)
    assert costs.working + costs.seconds["waiting"] < next(ticks)
    with pytest.raises(InputError), costs.of("failing"):
        raise InputError("x")
    assert costs.seconds["failing"] == 1


def test_an_index_of_an_unknown_precision_is_refused_before_the_work(tmp_path):
    frames = Frames(5)
    wrong = replace(job(loaded(), frames), precision="float16")
    with pytest.raises(InputError, match=r"float16.*float32, bfloat16"):
        build_index(wrong, tmp_path / "v.h5")
    assert not frames.read_once and not list(tmp_path.iterdir())


def test_memory_holds_the_frames_of_a_block_and_those_clips_share(tmp_path, monkeypatch):
    held, make = [], encoder.Encoder.clips

    def see(builder, known, windows, frames):
        held.append(len(known))
        return make(builder, known, windows, frames)

    monkeypatch.setattr(encoder.Encoder, "clips", see)
    model = loaded("aamn.radius=2")
    build_index(job_of(model, 64), tmp_path / "v.h5")
    assert max(held) <= 15 + 4, "blocks of 15 frames, four of which two clips may share"
    assert len(VideoIndex.read(tmp_path / "v.h5", model)) == 64


@pytest.mark.parametrize(
    ("size", "device", "frames"),
    [((320, 568), "cuda", 96), ((1080, 1920), "cpu", 16), ((4320, 7680), "cpu", 10)],
)
def test_frames_in_memory_are_bounded_in_bytes(size, device, frames):
    """8K video has 99.5 million bytes a frame."""
    segmenter = SimpleNamespace(
        device=SimpleNamespace(type=device), input_spec=SimpleNamespace(offsets=(0,))
    )
    job = SimpleNamespace(segmenter=segmenter, frames=SimpleNamespace(size=size))
    assert indexing._frames_at_once(job) == frames
    segmenter.input_spec.offsets = range(-20, 21)
    assert indexing._frames_at_once(job) in (41, 82), "whole clips, at least one"
