"""One tiny set of everything that a user has, made once; tests that damage it take a copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_models import FROM_NOUGHT, tiny_config, tiny_segmenter

from aamn.inference.checkpoint import save_checkpoint
from aamn.predictor import write_bundle
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.detector import save_detector

SIZE, FRAMES = (40, 50), 7


@dataclass(frozen=True)
class Things:
    """detector and checkpoint are .pt files, bundle a folder of both; clip and other are folders of
    seven pictures of 50x40 pixels with other contents, movie an mp4 of 32x48 pixels."""

    detector: Path
    checkpoint: Path
    bundle: Path
    clip: Path
    other: Path
    movie: Path


def draw_pictures(folder: Path, seed: int, count: int = FRAMES) -> Path:
    """A folder of random pictures of 50x40 pixels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 255, (*SIZE, 3), np.uint8))
    return folder


def draw_movie(path: Path, seed: int, count: int = FRAMES) -> Path:
    """An mp4 of 48x32 pixels, 10 frames a second, of flat pictures that change."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (48, 32))
    for colour in np.random.default_rng(seed).integers(0, 255, (count, 3)):
        writer.write(np.full((32, 48, 3), colour, np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="session")
def things(tmp_path_factory: pytest.TempPathFactory) -> Things:
    """The words the model knows are w0, w1, ... w20; its bundle finds a match for any sentence."""
    folder = tmp_path_factory.mktemp("things")
    torch.manual_seed(0)
    config = DetectorConfig(
        name="small",
        weights="",
        classes=("a", "b"),
        score_threshold=0.0,
        proposals=8,
        widths=(8, 8),
        strides=(4, 2),
        head=16,
        min_size=40,
        max_size=60,
    )
    detector, checkpoint = folder / "detector.pt", folder / "segmenter.pt"
    save_detector(build_detector(config), detector)
    segmenter = tiny_segmenter(vocabulary=FROM_NOUGHT)
    save_checkpoint(checkpoint, segmenter, tiny_config(), 7, {})
    write_bundle(folder / "bundle", detector, checkpoint, absent_threshold=-1e6)
    clip, other = draw_pictures(folder / "clip", 0), draw_pictures(folder / "other", 1)
    movie = draw_movie(folder / "movie.mp4", 2)
    return Things(detector, checkpoint, folder / "bundle", clip, other, movie)
