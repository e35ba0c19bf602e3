"""The complete real test ground truth: written as an A2D folder, read back, and evaluated."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from aamn.data.datasets.a2d import A2DSentences
from aamn.data.samples import SampleDataset
from aamn.data.verify.a2d import verify_a2d
from aamn.data.words import Vocabulary
from aamn.evaluation.key_frames import evaluate, key_frame_rows
from aamn.evaluation.metrics import summarise
from aamn.models.segmenter import Segmenter
from aamn.ops.masks import filled_boxes
from aamn.structures import Clip, InputSpec, MaskTrack, Proposals, Query, Sample
from proposals.frames import FrameSource

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

TWICE = ("EadxBPmQvtg", 25)  # lists id 1 twice


@dataclass(frozen=True)
class Pair:
    """One (expression, frame) pair: a COCO RLE and a box x1 y1 x2 y2."""

    video_id: str
    frame: int  # 1-based
    instance: int
    code: dict
    box: tuple[float, ...]

    @property
    def size(self) -> tuple[int, int]:
        return tuple(self.code["size"])

    def mask(self) -> np.ndarray:
        return rle.decode([self.code])[..., 0] > 0


@pytest.fixture(scope="module")
def pairs(real_data: Path) -> list[Pair]:
    truth = json.loads((real_data / "a2d" / "test_ground_truth_coco.json").read_text())
    found = []
    for row in truth["annotations"]:
        rest, instance = row["image_id"].removeprefix("v_").rsplit("_i_", 1)
        video_id, frame = rest.rsplit("_f_", 1)
        x, y, w, h = row["bbox"]
        code = row["segmentation"]
        found.append(Pair(video_id, int(frame), int(instance), code, (x, y, x + w, y + h)))
    return found


def write_frame(path: Path, pairs: list[Pair], number: int) -> None:
    """A frame's annotation as it was published: MATLAB's axes, a lone instance without its own
    axis, boxes as (4, n), (4, 1) or (4,), and the known glitches."""
    instances = [pair.instance for pair in pairs]
    masks = [pair.mask().T for pair in pairs]
    boxes = np.array([pair.box for pair in pairs]).T
    if (pairs[0].video_id, pairs[0].frame) == TWICE:
        instances.append(1)
        masks.append(np.zeros_like(masks[0]))
        boxes = np.concatenate([boxes, np.zeros((4, 1))], 1)
    elif number % 500 == 0:
        masks.append(np.ones_like(masks[0]))  # more masks than instances
    if len(instances) == 1 and number % 2:
        boxes = boxes[:, 0]
    masks = np.stack(masks).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["instance"] = np.array(instances)
        file["id"] = np.full((1, len(instances)), 18)
        file["reBBox"] = boxes
        stored = masks[0] if len(masks) == 1 else masks
        file.create_dataset("reMask", data=stored, chunks=stored.shape, compression="lzf")


def write_clip(path: Path, size: tuple[int, int], count: int) -> None:
    code = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), code, 25, size[::-1])
    frame = np.full((*size, 3), 90, np.uint8)
    for _ in range(count):
        writer.write(frame)
    writer.release()


@pytest.fixture(scope="module")
def root(
    pairs: list[Pair], real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """An A2D folder of the test split; videos of one size share one grey clip."""
    root = tmp_path_factory.mktemp("a2d")
    text, clips = root / "text_annotations", root / "Release" / "clips320H"
    text.mkdir()
    clips.mkdir(parents=True)
    shutil.copy(real_data / "a2d" / "videoset.csv", root / "Release")
    for name in ("a2d_annotation.txt", "a2d_missed_videos.txt"):
        shutil.copy(real_data / "a2d" / name, text)
    frames, lengths, sizes = defaultdict(list), defaultdict(int), {}
    for pair in pairs:
        frames[pair.video_id, pair.frame].append(pair)
        lengths[pair.size] = max(lengths[pair.size], pair.frame)
        sizes[pair.video_id] = pair.size
    for number, ((video_id, frame), shown) in enumerate(frames.items()):
        folder = text / "a2d_annotation_with_instances" / video_id
        write_frame(folder / f"{frame:05d}.h5", shown, number)
    for size, count in lengths.items():
        write_clip(root / f"{size}.mp4", size, count)
    for video_id, size in sizes.items():
        (clips / f"{video_id}.mp4").symlink_to(root / f"{size}.mp4")
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def source(root: Path) -> A2DSentences:
    return A2DSentences(root, "test")


def test_every_mask_is_read_back(source: A2DSentences, pairs: list[Pair]) -> None:
    assert len(source.video_ids) == 737 and len(source.texts()) == 1295
    assert sum(len(key.expressions) for key in source.key_frames) == 3800
    wanted = {(p.video_id, p.frame, p.instance): p for p in pairs}
    assert len(wanted) == 3800
    left = 0
    for video_id in source.video_ids:
        video = source.videos[video_id]
        assert source.frames(video_id).size == (video.height, video.width)
    for key in source.key_frames:
        for target in source.targets(key):
            pair = wanted.pop((key.video_id, key.frame + 1, target.instance))
            assert np.array_equal(target.mask.numpy(), pair.mask())
            x1, y1, x2, y2 = pair.box
            height, width = pair.size
            left += x1 < 0 or y1 < 0 or x2 > width or y2 > height
            clipped = [max(0, x1), max(0, y1), min(width, x2), min(height, y2)]
            assert np.allclose(target.box, clipped, atol=1e-4)
    assert wanted == {}
    assert left >= 29  # boxes that leave the image


def test_a_folder_without_the_training_videos_has_no_other_fault(
    root: Path, source: A2DSentences
) -> None:
    found = [f for f in verify_a2d(root).findings if f.where.split("/")[0] in source.videos]
    assert {f.what for f in found if f.fatal} == set()


class Grey(FrameSource):
    """As many grey frames as anyone asks for."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.path, self.size, self.fps, self.announced = Path("grey"), size, 25.0, 10_000

    def __len__(self) -> int:
        return self.announced

    def _frame(self, index: int) -> np.ndarray | None:
        return np.full((*self.size, 3), 90, np.uint8)

    def close(self) -> None:
        pass


class StillVideos:
    """A2D's annotation with videos that need no decoding."""

    def __init__(self, source: A2DSentences) -> None:
        self.key_frames, self.targets = source.key_frames, source.targets
        self.videos = source.videos

    def frames(self, video_id: str) -> FrameSource:
        return Grey((self.videos[video_id].height, self.videos[video_id].width))


class Oracle(Segmenter):
    """Answers with the ground truth, drawn as `answer` says."""

    def __init__(
        self,
        pairs: list[Pair],
        instances: dict[tuple[str, int], list[int]],
        answer: Callable[[Pair], torch.Tensor],
    ) -> None:
        super().__init__()
        self.input_spec = InputSpec((0,), (16, 16), flow=False, proposals=0)
        self.answer, self.instances = answer, instances
        self.pairs = {(p.video_id, p.frame, p.instance): p for p in pairs}

    def segment(
        self, clip: Clip, proposals: Proposals | None, queries: tuple[Query, ...]
    ) -> list[MaskTrack]:
        frame = int(clip.frame_indices[0]) + 1
        found = [
            self.pairs[clip.video_id, frame, instance]
            for instance in self.instances[clip.video_id, frame]
        ]
        return [
            MaskTrack(
                clip.video_id,
                query.text,
                clip.frame_indices,
                clipped_box(pair)[None],
                self.answer(pair)[None],
                1.0,
            )
            for query, pair in zip(queries, found, strict=True)
        ]


def clipped_box(pair: Pair) -> torch.Tensor:
    height, width = pair.size
    return torch.tensor(pair.box).clamp(min=0).minimum(torch.tensor([width, height] * 2))


@pytest.fixture(scope="module")
def metrics(source: A2DSentences, pairs: list[Pair]) -> dict[str, dict[str, float]]:
    """Of answers that are the ground truth, and of its boxes, filled; both in one pass."""
    asked = {
        (key.video_id, key.frame + 1): [e.instance for e in key.expressions]
        for key in source.key_frames
    }
    truth = Oracle(pairs, asked, lambda pair: torch.from_numpy(pair.mask()))
    filled = Oracle(pairs, asked, lambda pair: filled_boxes(clipped_box(pair)[None], pair.size)[0])
    rows = []

    def ask_the_other(sample: Sample, _: Sequence[MaskTrack], place: int) -> None:
        tracks = filled.segment(sample.clip, sample.proposals, sample.queries)
        rows.extend(key_frame_rows(sample, tracks, place))

    still = StillVideos(source)
    samples = SampleDataset(still, truth.input_spec, Vocabulary.build(source.texts()))
    every = (samples[i] for i in range(len(samples)))
    report = evaluate(truth, every, system="truth", data="a2d test", observe=ask_the_other)
    assert len(report.rows) == len(rows) == 3800
    return {"truth": summarise(report.rows), "filled boxes": summarise(rows)}


def test_the_ground_truth_scores_100_in_every_column(metrics: dict[str, dict[str, float]]) -> None:
    found = metrics["truth"]
    assert {"P@0.5", "P@0.9", "mAP 0.5:0.95", "Overall IoU", "Mean IoU", "VP@0.9"} <= set(found)
    assert set(found.values()) == {1.0}


def test_filled_boxes_score_what_pycocotools_counts(
    metrics: dict[str, dict[str, float]], pairs: list[Pair]
) -> None:
    ious, intersections, unions, videos = [], 0.0, 0.0, defaultdict(list)
    for pair in pairs:
        height, width = pair.size
        x1, y1, x2, y2 = np.float32(pair.box)
        ys, xs = (np.arange(side, dtype=np.float32) + np.float32(0.5) for side in (height, width))
        inside = ((ys >= y1) & (ys < y2))[:, None] & (xs >= x1) & (xs < x2)
        box = rle.encode(np.asfortranarray(inside.astype(np.uint8)))
        ious.append(rle.iou([box], [pair.code], [0])[0, 0])
        intersections += rle.area(rle.merge([box, pair.code], intersect=True))
        unions += rle.area(rle.merge([box, pair.code]))
        videos[pair.video_id, pair.instance].append(ious[-1])
    ious = np.array(ious)
    worst = np.array([min(values) for values in videos.values()])
    wanted = {f"P@{x}": (ious > x).mean() for x in (0.5, 0.6, 0.7, 0.8, 0.9)}
    wanted |= {f"VP@{x}": (worst > x).mean() for x in (0.5, 0.9)}
    wanted["mAP 0.5:0.95"] = np.mean([(ious > x / 100).mean() for x in range(50, 100, 5)])
    wanted["Overall IoU"], wanted["Mean IoU"] = intersections / unions, ious.mean()
    found = metrics["filled boxes"]
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-9)
    assert 0.3 < found["P@0.5"] < 0.999
