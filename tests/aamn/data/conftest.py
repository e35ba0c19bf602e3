"""Small corpora that the tests write for themselves, and where the real annotation is."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from programs import call

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real annotation, which is no part of the project."""
    folder = Path(os.environ.get("AAMN_REAL_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set AAMN_REAL_DATA to check against it")
    return folder


@pytest.fixture(scope="session")
def output_folder() -> Path:
    """Where tests leave pictures to look at."""
    folder = PROJECT / "tests" / "output"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def moving_square(count: int, size: tuple[int, int] = (48, 64), step: int = 2) -> np.ndarray:
    """Frames (count, H0, W0, 3): a textured square that moves `step` pixels right a frame over a
    fixed texture."""
    rng = np.random.default_rng(0)
    height, width = size
    ground = cv2.GaussianBlur(rng.integers(0, 255, (height, width, 3), np.uint8), (0, 0), 2)
    square = cv2.GaussianBlur(rng.integers(0, 255, (16, 16, 3), np.uint8), (0, 0), 1)
    frames = np.repeat(ground[None], count, 0)
    for number, frame in enumerate(frames):
        left = min(4 + step * number, width - 16)
        frame[16:32, left : left + 16] = square
    return frames


def write_video(path: Path, frames: np.ndarray) -> Path:
    """An mp4 of the frames (N, H0, W0, 3) RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def write_annotation(
    path: Path,
    instances: Sequence[int],
    masks: np.ndarray,
    boxes: np.ndarray,
    ids: Sequence[int] | None = None,
) -> Path:
    """A frame's .h5 in A2D's order of axes from masks (n, H0, W0) and boxes (n, 4); one mask alone
    loses its first axis, as in the original."""
    path.parent.mkdir(parents=True, exist_ok=True)
    turned = np.asarray(masks, np.uint8).swapaxes(1, 2)
    with h5py.File(path, "w") as file:
        file["instance"] = np.asarray(instances)
        file["reMask"] = turned[0] if len(turned) == 1 else turned
        file["reBBox"] = np.asarray(boxes, float).T
        file["id"] = np.asarray(ids if ids is not None else [11] * len(instances))[None]
    return path


VIDEOS = {  # id: (split, frames, sentences by instance, instances and class numbers by frame)
    "--first": ("0", 12, {0: " Man on the LEFT  walking", 1: "dog on the right"}, [3, 9]),
    "sec_ond": ("0", 8, {0: "the cat runs"}, [1, 8]),
    "third-3": ("1", 10, {0: "a ball", 2: "a bird flying to the right"}, [2, 6]),
}
CLASSES = {0: 18, 1: 77, 2: 44}


@pytest.fixture
def a2d_root(tmp_path: Path) -> Path:
    """Three videos of 64x48 in A2D's layout: in frame n (1-based) instance i has the mask of
    columns 8 i + n to 8 i + n + 6 and rows 10 to 20."""
    return write_corpus(tmp_path / "a2d")


def mask_of(instance: int, frame: int) -> np.ndarray:
    """The mask (48, 64) that `a2d_root` holds of an instance in a frame (1-based)."""
    mask = np.zeros((48, 64), bool)
    left = 8 * instance + frame
    mask[10:20, left : left + 6] = True
    return mask


def write_corpus(root: Path, videos: dict[str, tuple] = VIDEOS) -> Path:
    """A folder in A2D's layout, with one more video that the annotators missed."""
    (root / "Release").mkdir(parents=True)
    text = root / "text_annotations"
    text.mkdir()
    listing, sentences = [], ["video_id,instance_id,query"]
    for video_id, (split, count, queries, annotated) in videos.items():
        listing.append(f"{video_id},18,00:00:00,00:00:01,48,64,{count},{len(annotated)},{split}")
        sentences += [f"{video_id},{instance},{query}" for instance, query in queries.items()]
        write_video(root / "Release" / "clips320H" / f"{video_id}.mp4", moving_square(count))
        for frame in annotated:
            masks = np.stack([mask_of(instance, frame) for instance in queries])
            boxes = np.array([[8 * i + frame, 10, 8 * i + frame + 6, 20] for i in queries])
            write_annotation(
                text / "a2d_annotation_with_instances" / video_id / f"{frame:05d}.h5",
                list(queries),
                masks,
                boxes,
                [CLASSES[i] for i in queries],
            )
    listing.append("missed,18,00:00:00,00:00:01,48,64,9,3,0")
    sentences += ["T6bNPuKV-wY,1 (copy),bird standing in the beach", "missed,0,nobody"]
    (root / "Release" / "videoset.csv").write_text("\n".join(listing) + "\n")
    (text / "a2d_annotation.txt").write_text("\n".join(sentences) + "\n")
    (text / "a2d_missed_videos.txt").write_text("missed")
    return root


@pytest.fixture
def corpus_mask() -> Callable[[int, int], np.ndarray]:
    """`mask_of` for the tests."""
    return mask_of


@dataclass(frozen=True)
class Run:
    """How a program ended: exit code, what it printed, and what it logged."""

    code: int
    output: str
    errors: str
    log: str


@pytest.fixture
def run_tool(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Callable[..., Run]:
    """Runs a program of tools/ in this process."""

    def run(name: str, *arguments: object) -> Run:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            code = call(name, *arguments)
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err, caplog.text)

    return run


@pytest.fixture
def corpus_writer() -> Callable[..., Path]:
    """`write_corpus` for the tests."""
    return write_corpus


@pytest.fixture
def video_writer() -> Callable[[Path, np.ndarray], Path]:
    """`write_video` for the tests."""
    return write_video
