"""Tiny models gain nothing from several threads, and the tests run side by side; properties are
tried on the same examples each time, however busy the machine is."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import hypothesis
import pytest
import torch

os.fsync = lambda descriptor: None  # no test cuts the power, and a disk takes its time
torch.set_num_threads(1)
cv2.setNumThreads(1)
hypothesis.settings.register_profile(
    "aamn",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=30,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("aamn")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, files with slow tests come first: at the end, when one process has nothing left
    to do, the other then is busy with a short one (`--no-loadscope-reorder` keeps this order)."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What the imports have made stays to the end: collections of garbage need not look at it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Libraries that count what they leave behind want to see it collected."""
    gc.unfreeze()
