"""The speeds that are promised: of reading windows, and of everything around the detector."""

import os
import time

import cv2
import numpy as np
import pytest
import torch

from proposals.detector import DetectorConfig, TorchDetector, build_detector
from proposals.extract import JobOptions, extract, find_videos
from proposals.store import ProposalStore

VIDEOS, FRAMES, BOXES = 1000, 60, 100


@pytest.mark.slow
def test_a_store_of_a_thousand_videos_serves_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the writing is not what is measured
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 200, (FRAMES, BOXES, 2)).astype(np.float32)
    boxes = np.concatenate([low, low + rng.uniform(5, 50, low.shape).astype(np.float32)], 2)
    scores = -np.sort(-rng.random((FRAMES, BOXES), np.float32), 1)
    labels = rng.integers(0, 80, (FRAMES, BOXES))
    with ProposalStore.write(tmp_path / "p.h5", "random") as writer:
        for video in range(VIDEOS):
            boxes[:, :, 0] = np.maximum(0, boxes[:, :, 0] - video / VIDEOS / FRAMES)
            writer.add(f"{video:04d}", list(boxes), list(scores), list(labels), (300, 300))

    begin = time.process_time()
    store = ProposalStore.read(tmp_path / "p.h5")
    opening = time.process_time() - begin
    wanted = [(f"{v:04d}", range(f, f + 9)) for v, f in rng.integers(0, (VIDEOS, 52), (4000, 2))]
    begin = time.process_time()
    for video_id, frames in wanted:
        window = store.window(video_id, frames, 6)
    rate = len(wanted) / (time.process_time() - begin)
    assert window.valid.all()
    print(f"opened in {opening * 1000:.0f} ms, {rate:.0f} windows of 9 frames a second")
    assert opening < 1 and rate > 2000


@pytest.mark.slow
def test_nearly_all_the_time_is_the_detector_s(tmp_path):
    """ResNet-50-FPN, frames of 320 pixels, on CPU."""
    for name in ("a", "b"):
        writer = cv2.VideoWriter(
            str(tmp_path / f"{name}.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (426, 320)
        )
        for _ in range(6):
            noise = np.random.default_rng(0).integers(0, 255, (20, 27, 3), dtype=np.uint8)
            writer.write(cv2.resize(noise, (426, 320)))
        writer.release()
    torch.manual_seed(0)
    detector = TorchDetector(build_detector(DetectorConfig(weights="", classes=("a",))))
    videos = find_videos([tmp_path])
    report = extract(detector, videos, tmp_path / "p.h5", JobOptions.for_device("cpu"))
    print(*report.lines())
    assert report.frames == 12
    assert report.detecting > 0.9 * report.seconds
