"""Clips: one geometry for frames, flow, boxes and masks, and samples for training."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_videos import Unchecked
from torch.utils.data import DataLoader

from aamn.config.schema import AugmentConfig, FlowConfig
from aamn.data.augment import Change, change_sample, draw_change
from aamn.data.cache import ByteLimitedCache
from aamn.data.datasets.a2d import A2DSentences
from aamn.data.datasets.source import KeyFrame
from aamn.data.flow.estimators import build_estimator
from aamn.data.flow.store import FlowStore, extract_flow
from aamn.data.samples import SampleDataset, clip_indices, load_clip, load_proposals
from aamn.data.words import Vocabulary
from aamn.structures import InputSpec, Sample
from proposals.errors import InputError
from proposals.frames import FrameSource, VideoFile, open_frames
from proposals.store import ProposalStore
from proposals.store_writer import write_proposals

OFFSETS = (-2, -1, 0, 1, 2)


@pytest.mark.parametrize(
    ("key", "offsets", "count", "wanted"),
    [
        (5, OFFSETS, 12, [3, 4, 5, 6, 7]),
        (0, OFFSETS, 12, [0, 0, 0, 1, 2]),
        (11, OFFSETS, 12, [9, 10, 11, 11, 11]),
        (1, (-4, 0, 4), 3, [0, 1, 2]),
        (7, (0,), 8, [7]),
        (3, (2, 0, -2), 8, [5, 3, 1]),
        (0, OFFSETS, 1, [0, 0, 0, 0, 0]),
    ],
)
def test_windows_are_clamped(key: int, offsets: tuple, count: int, wanted: list[int]) -> None:
    assert clip_indices(key, offsets, count).tolist() == wanted


class Pictures(FrameSource):
    """Frames in memory."""

    def __init__(self, frames: np.ndarray) -> None:
        self.path, self.size, self.fps = Path("memory"), frames.shape[1:3], 25.0
        self.announced, self.frames = len(frames), frames

    def __len__(self) -> int:
        return len(self.frames)

    def _frame(self, index: int) -> np.ndarray | None:
        return self.frames[index] if index < len(self.frames) else None

    def close(self) -> None:
        pass


def test_a_clip_is_scaled_as_a_whole_and_padded_with_zeros() -> None:
    frames = np.full((3, 60, 80, 3), 51, np.uint8)
    frames[:, 20:40, 40:60] = (255, 0, 102)
    input_spec = InputSpec((-1, 0, 1), (40, 40), flow=True, proposals=0)
    clip = load_clip("v", Pictures(frames), 1, input_spec)
    assert clip.geometry.content_size == (30, 40)
    assert clip.rgb.shape == (3, 3, 40, 40) and clip.rgb.dtype == torch.float32
    assert not clip.rgb[..., 30:, :].any() and not clip.flow[..., 30:, :].any()
    assert torch.allclose(clip.rgb[1, :, 15, 25], torch.tensor([1.0, 0.0, 0.4]))
    assert torch.allclose(clip.rgb[1, :, 5, 5], torch.tensor(0.2))
    box = clip.geometry.to_network(torch.tensor([40.0, 20, 60, 40]))
    x1, y1, x2, y2 = box.int().tolist()
    assert (clip.rgb[1, 0, y1:y2, x1:x2] == 1).all()
    assert (clip.rgb[1, 0] == 1).sum() == (x2 - x1) * (y2 - y1)


def numbered(count: int, size: tuple[int, int] = (30, 40)) -> Pictures:
    """A video whose frame n is n in every pixel."""
    values = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return Pictures(np.broadcast_to(values, (count, *size, 3)))


class NumberedFlow(Unchecked):
    """Stands for a flow file with a grid of 10x20; the flow of frame n is (n, n + 100) there."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def window(self, video_id: str, frame_indices: np.ndarray) -> np.ndarray:
        self.asked.append(video_id)
        flow = np.zeros((len(frame_indices), 2, 10, 20), np.float32)
        flow[:, 0] = np.asarray(frame_indices)[:, None, None]
        flow[:, 1] = 100 + flow[:, 0]
        return flow


@pytest.mark.parametrize(
    ("key", "offsets", "frames"),
    [
        (3, (-1, 0, 1), [2, 3, 4]),
        (0, (-2, -1, 0, 1), [0, 0, 0, 1]),
        (5, (0, 1, 2), [5, 5, 5]),
        (2, (3, 0, -1, -9), [5, 2, 1, 0]),
    ],
)
def test_each_place_of_a_clip_holds_its_frame_and_flow(
    key: int, offsets: tuple[int, ...], frames: list[int]
) -> None:
    input_spec = InputSpec(offsets, (15, 20), flow=True, proposals=0)
    stored = NumberedFlow()
    clip = load_clip("v", numbered(6), key, input_spec, stored)
    assert (clip.video_id, clip.key, stored.asked) == ("v", offsets.index(0), ["v"])
    assert clip.frame_indices.tolist() == frames
    assert torch.allclose(clip.rgb[:, 1, 7, 9] * 255, torch.tensor(frames).float())
    assert clip.flow[:, 0, 7, 9].tolist() == frames  # 20 columns there and here
    assert clip.flow[:, 1, 7, 9].tolist() == [1.5 * (100 + n) for n in frames]  # 10 rows, then 15


def test_a_smaller_frame_lies_in_the_corner_with_smaller_flow() -> None:
    input_spec = InputSpec((0,), (40, 40), flow=True, proposals=0)
    frames = Pictures(np.full((3, 30, 40, 3), 255, np.uint8))
    clip = load_clip("v", frames, 1, input_spec, NumberedFlow(), shrink=0.5)
    assert clip.geometry.scale == 0.5 and clip.geometry.content_size == (15, 20)
    assert clip.rgb[..., :15, :20].eq(1).all() and clip.rgb.sum() == 3 * 15 * 20
    assert clip.flow[0, :, :15, :20].flatten(1).unique(dim=1).tolist() == [[1], [151.5]]
    assert not clip.flow[..., 15:, :].any() and not clip.flow[..., 20:].any()


def test_flow_from_the_file_and_on_the_fly_agree(a2d_root: Path, tmp_path: Path) -> None:
    source = A2DSentences(a2d_root)
    config = FlowConfig(longest_side=0)
    extract_flow({"--first": source.video_path("--first")}, tmp_path / "f.h5", config, 0)
    store = FlowStore.read(tmp_path / "f.h5")
    frames = source.frames("--first")
    for network, limit in ((64, 2e-3), (128, 1.0)):
        input_spec = InputSpec(OFFSETS, (network, network), flow=True, proposals=0)
        cached = load_clip("--first", frames, 5, input_spec, store).flow
        computed = load_clip("--first", frames, 5, input_spec, flow_config=config).flow
        moving = computed.abs().amax()
        assert moving > network / 64  # the square moves 2 of the video's 64 columns a frame
        assert (cached - computed).abs().median() < limit
    assert load_clip("--first", frames, 5, InputSpec((0,), (32, 32), False, 0), store).flow is None


@pytest.fixture
def store(a2d_root: Path, tmp_path: Path) -> ProposalStore:
    """Frame n of each video has n mod 3 + 1 boxes, whose left edges are n, n + 1, ..."""
    with write_proposals(tmp_path / "proposals.h5", "test") as writer:
        for video_id, count in (("--first", 12), ("sec_ond", 8), ("third-3", 10)):
            kept = [n % 3 + 1 for n in range(count)]
            boxes = [
                np.array([[n + i, 2, n + i + 9, 12] for i in range(k)]) for n, k in enumerate(kept)
            ]
            scores = [np.linspace(0.9, 0.5, k) for k in kept]
            writer.add(video_id, boxes, scores, [np.ones(k, int) for k in kept], (48, 64))
    return ProposalStore.read(tmp_path / "proposals.h5")


def dataset(root: Path, store: ProposalStore, **options) -> SampleDataset:
    source = A2DSentences(root)
    input_spec = InputSpec(OFFSETS, (64, 64), flow=True, proposals=2)
    return SampleDataset(source, input_spec, Vocabulary.build(source.texts()), store, **options)


def test_a_sample_holds_all_sentences_of_its_key_frame(
    a2d_root: Path, store: ProposalStore
) -> None:
    data = dataset(a2d_root, store)
    assert len(data) == 4
    sample = data[0]  # frame 2 of --first
    assert sample.clip.frame_indices.tolist() == [0, 1, 2, 3, 4]
    assert [query.text for query in sample.queries] == [
        "man on the left walking",
        "dog on the right",
    ]
    assert [target.instance for target in sample.targets] == [0, 1]
    assert sample.proposals.valid.tolist() == [[1, 0], [1, 1], [1, 1], [1, 0], [1, 1]]
    assert sample.proposals.boxes[1].tolist() == [[1, 2, 10, 12], [2, 2, 11, 12]]
    assert not sample.proposals.boxes[0, 1].any()
    with open_frames(a2d_root / "Release" / "clips320H" / "--first.mp4") as frames:
        wanted = torch.from_numpy(frames.read([2])[0]).permute(2, 0, 1) / 255
    assert torch.allclose(sample.clip.rgb[2, :, :48], wanted)


def test_sentences_of_other_videos_come_with_what_is_learned_from(
    a2d_root: Path, store: ProposalStore
) -> None:
    source = A2DSentences(a2d_root)
    input_spec = InputSpec(OFFSETS, (64, 64), flow=True, proposals=2, strangers=2)
    vocabulary = Vocabulary.build(source.texts())
    said = {(e.video_id, e.text) for frame in source.key_frames for e in frame.expressions}
    learned = SampleDataset(source, input_spec, vocabulary, store, augment=AugmentConfig())
    drawn = set()
    for epoch in range(8):
        for index in range(len(learned)):
            sample = learned[epoch, index]
            texts = [query.text for query in sample.strangers]
            others = {text for video, text in said if video != sample.clip.video_id}
            assert len(set(texts)) == len(texts) == min(2, len(others)), "each once"
            assert set(texts) <= others
            assert texts == [query.text for query in learned[epoch, index].strangers]
            drawn.add((index, *texts))
    assert len(drawn) > len(learned), "each epoch draws anew"
    asked = SampleDataset(source, input_spec, vocabulary, store)
    assert asked[0].strangers == ()


def test_boxes_come_with_their_scores_and_labels(tmp_path: Path) -> None:
    boxes = np.array([[5, 6, 7, 8], [9, 10, 11, 12], [1, 2, 3, 4]], float)
    with write_proposals(tmp_path / "p.h5", "test") as writer:
        none = np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)
        first = boxes, np.array([0.75, 0.5, 0.25]), np.array([8, 9, 7])
        writer.add("v", *zip(first, none, first, strict=True), (48, 64))
    found = load_proposals(ProposalStore.read(tmp_path / "p.h5"), "v", torch.tensor([2, 1]), 2)
    assert found.frame_indices.tolist() == [2, 1]
    assert found.boxes.tolist() == [[[5, 6, 7, 8], [9, 10, 11, 12]], [[0] * 4] * 2]
    assert found.scores.tolist() == [[0.75, 0.5], [0, 0]]
    assert found.labels[0].tolist() == [8, 9]
    assert found.valid.tolist() == [[True, True], [False, False]]


def test_key_frames_of_one_video_keep_their_own_targets(
    a2d_root: Path, store: ProposalStore, corpus_mask: Callable[[int, int], np.ndarray]
) -> None:
    data = dataset(a2d_root, store)
    annotated = [(3, (0, 1)), (9, (0, 1)), (1, (0,)), (8, (0,))]  # 1-based frame, instances
    for index in (0, 1, 0, 3, 2, 1):
        frame, instances = annotated[index]
        sample = data[index]
        assert [target.instance for target in sample.targets] == list(instances)
        for target in sample.targets:
            assert np.array_equal(target.mask.numpy(), corpus_mask(target.instance, frame))
            left = 8 * target.instance + frame
            assert target.box.tolist() == [left, 10, left + 6, 20]
        last = {0: 12, 1: 12, 2: 8, 3: 8}[index] - 1
        around = [min(max(frame - 1 + offset, 0), last) for offset in OFFSETS]
        assert sample.clip.frame_indices.tolist() == around
        assert sample.proposals.frame_indices.tolist() == around
        assert sample.proposals.boxes[:, 0, 0].tolist() == around


def test_a_video_and_its_targets_are_read_once(
    a2d_root: Path, store: ProposalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, read = dataset(a2d_root, store), []
    frames, targets = data.source.frames, data.source.targets
    monkeypatch.setattr(data.source, "frames", lambda v: read.append(v) or frames(v))
    monkeypatch.setattr(data.source, "targets", lambda k: read.append(k.frame) or targets(k))
    for index in (0, 1, 0, 2, 1):
        data[index]
    assert read == ["--first", 2, 8, "sec_ond", 0]


def test_the_flow_of_a_sample_is_the_files_or_of_the_configured_method(
    a2d_root: Path, store: ProposalStore
) -> None:
    stored = dataset(a2d_root, store, flow=NumberedFlow())[1].clip.flow
    assert stored[:, 0, 20, 30].tolist() == pytest.approx([64 / 20 * n for n in range(6, 11)])
    own, other = (
        dataset(a2d_root, store, flow_config=FlowConfig(method))[1]
        for method in ("dis", "farneback")
    )
    assert not torch.equal(own.clip.flow, other.clip.flow)
    frames = A2DSentences(a2d_root).frames("--first").read([6, 7])
    wanted = build_estimator(FlowConfig("farneback"))(frames[0], frames[1])
    assert np.array_equal(other.clip.flow[0, :, :48].numpy(), wanted)


def test_views_of_a_sample_share_what_is_loaded(
    a2d_root: Path, store: ProposalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, loads = dataset(a2d_root, store), []
    load = data._load

    def counted(key_frame: KeyFrame, shrink: float) -> Sample:
        loads.append(shrink)
        return load(key_frame, shrink)

    monkeypatch.setattr(data, "_load", counted)
    changes = (Change(), Change(flip=True), Change(shrink=0.5), Change(flip=True, shrink=0.5))
    views = data.views(0, changes)
    assert sorted(loads) == [0.5, 1.0]
    for view, change in zip(views, changes, strict=True):
        alone = data.at(0, change)
        assert torch.equal(view.clip.rgb, alone.clip.rgb)
        assert torch.equal(view.proposals.boxes, alone.proposals.boxes)
        assert view.queries[0].text == alone.queries[0].text
    assert not torch.equal(views[0].clip.rgb, views[1].clip.rgb)
    monkeypatch.undo()
    alone = data.of_key_frames()
    assert alone.at(0).clip.rgb.equal(views[0].clip.rgb[2:3]) and len(data.at(0).clip.rgb) == 5


def test_augmented_samples_are_changed_as_drawn(a2d_root: Path, store: ProposalStore) -> None:
    augment = AugmentConfig(flip=0.5, colour=0.3, scale=0.4)
    data, plain = dataset(a2d_root, store, augment=augment, seed=8), dataset(a2d_root, store)
    frames, flips = A2DSentences(a2d_root).frames("--first"), set()
    for epoch, index in ((0, 0), (0, 1), (1, 0), (2, 1), (3, 0), (4, 1)):
        change, before = draw_change(augment, (8, epoch, index)), plain[index]
        key = before.clip.frame_indices[2].item()
        clip = load_clip("--first", frames, key, data.input_spec, shrink=change.shrink)
        wanted = change_sample(replace(before, clip=clip), change, data.vocabulary)
        sample = data[epoch, index]
        assert torch.equal(sample.clip.rgb, wanted.clip.rgb)
        assert torch.equal(sample.clip.flow, wanted.clip.flow)
        assert torch.equal(sample.proposals.boxes, wanted.proposals.boxes)
        assert sample.clip.geometry.scale == pytest.approx(change.shrink)  # 64 columns of 64
        x1, _, x2, _ = before.targets[0].box.tolist()
        edges = [64 - x2, 64 - x1] if change.flip else [x1, x2]
        assert sample.targets[0].box[[0, 2]].tolist() == edges
        side = "right" if change.flip else "left"
        assert sample.queries[0].text == f"man on the {side} walking"
        assert plain[index].clip.rgb.equal(before.clip.rgb)  # what is cached stays as it was
        flips.add(change.flip)
    assert flips == {True, False}
    assert torch.equal(data[1].clip.rgb, data[0, 1].clip.rgb)


@pytest.mark.parametrize(("frame", "late"), [(12, False), (13, True)])
def test_the_last_frame_is_not_late(
    a2d_root: Path,
    store: ProposalStore,
    caplog: pytest.LogCaptureFixture,
    frame: int,
    late: bool,
) -> None:
    folder = a2d_root / "text_annotations" / "a2d_annotation_with_instances" / "--first"
    (folder / "00009.h5").rename(folder / f"{frame:05d}.h5")
    data = dataset(a2d_root, store)
    with caplog.at_level(logging.WARNING, "aamn"):
        assert data[1].clip.frame_indices.tolist() == [9, 10, 11, 11, 11]
    assert ("--first: frame 13 is annotated but only 12" in caplog.text) == late
    assert data.late_key_frames == ({("--first", 12)} if late else set())


def test_workers_load_the_same_samples(a2d_root: Path, store: ProposalStore) -> None:
    data = dataset(a2d_root, store, augment=AugmentConfig(0.5, 0.3, 0.3), seed=3)
    places = [(1, i) for i in range(4)]
    alone = [data[place] for place in places]
    loader = DataLoader(
        data, batch_sampler=[places[:2], places[2:]], num_workers=2, collate_fn=list
    )
    loaded = [sample for batch in loader for sample in batch]
    for one, two in zip(alone, loaded, strict=True):
        assert torch.equal(one.clip.rgb, two.clip.rgb)
        assert torch.equal(one.clip.flow, two.clip.flow)
        assert torch.equal(one.proposals.boxes, two.proposals.boxes)
        assert [q.text for q in one.queries] == [q.text for q in two.queries]


def test_augmentation_is_fixed_by_seed_epoch_and_index(
    a2d_root: Path, store: ProposalStore
) -> None:
    augment = AugmentConfig(flip=0.5, colour=0.4, scale=0.4)

    def pictures(seed: int, epoch: int) -> torch.Tensor:
        data = pickle.loads(pickle.dumps(dataset(a2d_root, store, augment=augment, seed=seed)))
        return torch.stack([data[epoch, i].clip.rgb for i in (3, 0, 1, 2)])

    assert torch.equal(pictures(0, 0), pictures(0, 0))
    assert not torch.equal(pictures(0, 0), pictures(0, 1))
    assert not torch.equal(pictures(0, 0), pictures(1, 0))


def test_a_key_frame_past_the_end_is_clamped_and_logged_once(
    a2d_root: Path, store: ProposalStore, caplog: pytest.LogCaptureFixture
) -> None:
    folder = a2d_root / "text_annotations" / "a2d_annotation_with_instances" / "--first"
    (folder / "00009.h5").rename(folder / "00099.h5")
    (folder / "00003.h5").rename(folder / "00098.h5")
    data = dataset(a2d_root, store)
    with caplog.at_level(logging.WARNING, "aamn"):
        indices = [data[i].clip.frame_indices.tolist() for i in (0, 1, 0)]
    assert indices == [[9, 10, 11, 11, 11]] * 3
    assert len([r for r in caplog.records if "could be decoded" in r.message]) == 1
    assert data.late_key_frames == {("--first", 97), ("--first", 98)}


def test_a_missing_store_and_a_foreign_size_are_refused(
    a2d_root: Path, store: ProposalStore
) -> None:
    with pytest.raises(InputError, match=r"data\.proposals names no file"):
        dataset(a2d_root, None)
    with pytest.raises(InputError, match=r"augment\.flip: wanted 0 to 1"):
        dataset(a2d_root, store, augment=AugmentConfig(flip=2))
    source = A2DSentences(a2d_root)
    other = source.video_path("sec_ond")
    data = dataset(a2d_root, store)
    writer = cv2.VideoWriter(str(other), cv2.VideoWriter_fourcc(*"mp4v"), 10, (32, 32))
    for _ in range(8):
        writer.write(np.zeros((32, 32, 3), np.uint8))
    writer.release()
    with pytest.raises(InputError, match="the boxes of sec_ond are in pixels of 64x48"):
        data[2]
    input_spec = InputSpec((0,), (32, 32), flow=False, proposals=0)
    unboxed = SampleDataset(source, input_spec, Vocabulary.build(source.texts()))
    with pytest.raises(InputError, match="frames are 32x32 but the mask of frame 1 is 64x48"):
        unboxed[2]


def test_the_cache_keeps_to_its_limit() -> None:
    cache: ByteLimitedCache[str] = ByteLimitedCache(limit=5)
    made = []

    def get(key: str) -> str:
        return cache.get(key, lambda: made.append(key) or key, len)

    for key in ("aa", "bb", "aa", "cc", "aa", "bb", "long one", "bb"):
        assert get(key) == key
    assert made == ["aa", "bb", "cc", "bb", "long one", "bb"]
    assert len(cache) == 1 and cache.used == 2
    assert len(pickle.loads(pickle.dumps(cache))) == 0


def test_a_late_clip_is_not_decoded_from_the_start(
    tmp_path: Path, video_writer: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (400, 32, 32, 3), np.uint8)
    frames = open_frames(video_writer(tmp_path / "long.mp4", pictures))
    assert len(frames) == 400
    decoded = []
    advance = VideoFile._advance
    monkeypatch.setattr(VideoFile, "_advance", lambda self: decoded.append(1) or advance(self))
    for key in (390, 200, 395, 300):
        load_clip("long", frames, key, InputSpec((-4, 0, 4), (32, 32), flow=False, proposals=0))
    assert len(decoded) < 4 * 60  # from the start it would be 1300 frames
