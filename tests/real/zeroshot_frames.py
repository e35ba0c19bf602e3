"""The zero-shot system without an image-text model on real frames: DAVIS sequences, the boxes of
a small COCO detector, GloVe, masks by GrabCut. Prints a table a sequence, and which half of two
sequences side by side a sentence finds; writes a contact sheet of each.

    PYTHONPATH=.:tests python tests/real/zeroshot_frames.py --out runs/real_frames [--frames 40]
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from test_real_frames import REAL_DATA, YOLOX, detect
from torchvision.ops import box_iou

from aamn.config.zeroshot import COCO
from aamn.index.query_encoder import QueryEncoder
from aamn.index.video_index import VideoIndex, VideoTrack
from aamn.ops.masks import boxes_of_masks
from aamn.predictor import VideoSegmenter
from aamn.zeroshot.assemble import load_zeroshot
from proposals.frames import open_frames
from proposals.store import Attributes

SENTENCES = Path(__file__).with_name("davis_sentences.csv")
PAIRS = (("dog", "car-shadow"), ("blackswan", "scooter-black"))


@dataclass(frozen=True)
class Found:
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class Yolox:
    """YOLOX-nano behind the door of detectors."""

    attributes = Attributes("YOLOX-nano", "", COCO, {})

    def __init__(self) -> None:
        self.network = cv2.dnn.readNetFromONNX(str(YOLOX))

    def detect(self, frames: Sequence[np.ndarray]) -> list[Found]:
        return [Found(*detect(self.network, frame)) for frame in frames]


@dataclass(frozen=True)
class Davis:
    """A DAVIS sequence: frames (N, H0, W0, 3) and masks of the annotated object (N, H0, W0)."""

    name: str
    limit: int

    @property
    def folder(self) -> Path:
        (found,) = REAL_DATA.glob(f"davis*/JPEGImages/480p/{self.name}")
        return found

    @cached_property
    def frames(self) -> np.ndarray:
        source = open_frames(self.folder)
        return np.stack(source.read(range(min(len(source), self.limit))))

    @cached_property
    def masks(self) -> torch.Tensor:
        place = self.folder.parents[2] / "Annotations/480p" / self.name
        files = sorted(place.glob("*.png"))[: len(self.frames)]
        return (
            torch.stack([torch.from_numpy(np.array(Image.open(f).convert("L"))) for f in files]) > 0
        )


def segmenter(glove: Path) -> VideoSegmenter:
    parts = load_zeroshot("zeroshot_boxes", overrides=[f"words.vectors={glove}"])
    return VideoSegmenter(QueryEncoder(parts.loaded, parts.no_match), Yolox())


def measure(track: VideoTrack, masks: torch.Tensor) -> tuple[float, float]:
    """Mean box IoU over the frames that show the object, and mean J of the masks."""
    truth = boxes_of_masks(masks)
    shown = masks.flatten(1).any(1)
    boxes = torch.from_numpy(track.boxes())
    overlap = box_iou(boxes[shown], truth[shown]).diagonal().mean().item()
    found = torch.from_numpy(track.masks())
    both, either = (found & masks).flatten(1).sum(1), (found | masks).flatten(1).sum(1)
    return overlap, (both[shown] / either[shown].clamp(min=1)).mean().item()


def best_of_tubes(index: VideoIndex, masks: torch.Tensor) -> float:
    """The mean over the frames of the best box there is: what any choice could reach."""
    truth = boxes_of_masks(masks)
    clips, places = index.locate(None)
    boxes = torch.from_numpy(index.boxes[clips, places])  # (N, K, 4)
    best = [box_iou(own, one[None]).max() for own, one in zip(boxes, truth, strict=True)]
    return torch.stack(best)[masks.flatten(1).any(1)].mean().item()


def one_sequence(asked: VideoSegmenter, name: str, limit: int, out: Path) -> None:
    sequence = Davis(name, limit)
    index = asked.index(sequence.frames)
    with SENTENCES.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["video_id"] == name]
    tracks = index.query([row["sentence"] for row in rows], absent_threshold=None)
    best = best_of_tubes(index, sequence.masks)
    print(f"\n{name}: {len(sequence.frames)} frames, best box {best:.3f}")
    print(f"  {'sentence':<40}{'fits':>5}{'score':>8}{'match':>7}{'box IoU':>9}{'mask J':>8}")
    for row, track in zip(rows, tracks, strict=True):
        overlap, jaccard = measure(track, sequence.masks)
        match = "yes" if track.score >= 0 else "no"
        line = f"  {track.text:<40}{row['fits']:>5}{track.score:8.2f}{match:>7}"
        print(f"{line}{overlap:9.3f}{jaccard:8.3f}", flush=True)
    draw(sequence.frames, tracks[0], out / f"{name}.png")


def side_by_side(asked: VideoSegmenter, names: Sequence[str], limit: int, out: Path) -> None:
    """Two sequences as the halves of one picture; each one's own sentence."""
    parts = [Davis(name, limit).frames for name in names]
    count = min(map(len, parts))
    frames = np.concatenate([part[:count] for part in parts], 2)
    index = asked.index(frames)
    with SENTENCES.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for half, name in enumerate(names):
        text = next(row["sentence"] for row in rows if row["video_id"] == name)
        (track,) = index.query(text, absent_threshold=None)
        boxes = track.boxes()
        right = (boxes[:, 0] + boxes[:, 2]) / 2 >= frames.shape[2] / 2
        share = float((right == half).mean())
        print(f"{names[0]} | {names[1]}: {text!r} is in its half in {100 * share:.0f} % of frames")
        draw(frames, track, out / f"{names[0]}_{names[1]}_{half}.png")


def draw(frames: np.ndarray, track: VideoTrack, path: Path) -> None:
    """Four frames with box and mask."""
    chosen = np.linspace(0, len(frames) - 1, 4).round().astype(int)
    pictures = []
    for number in chosen:
        picture = frames[number].copy()
        mask = track.masks(range(number, number + 1))[0]
        picture[mask] = picture[mask] // 2 + np.array([0, 110, 0], np.uint8)
        x1, y1, x2, y2 = track.boxes(range(number, number + 1))[0].round().astype(int).tolist()
        cv2.rectangle(picture, (x1, y1), (x2, y2), (255, 0, 0), 3)
        pictures.append(cv2.resize(picture, None, fx=0.5, fy=0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(pictures)[:, :, ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/real_frames"))
    parser.add_argument("--frames", type=int, default=1000, help="at most, of each sequence")
    parser.add_argument("--only", nargs="*", default=(), help="sequences; default: all ten")
    options = parser.parse_args()
    (glove,) = sorted((REAL_DATA / "glove").glob("*.txt"))[:1]
    asked = segmenter(glove)
    names = sorted(path.name for path in REAL_DATA.glob("davis*/JPEGImages/480p/*"))
    for name in names:
        if not options.only or name in options.only:
            one_sequence(asked, name, options.frames, options.out)
    for pair in PAIRS:
        if not options.only:
            side_by_side(asked, pair, options.frames, options.out)


if __name__ == "__main__":
    main()
