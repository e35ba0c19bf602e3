"""Tiny sequences with masks in DAVIS's layout: a textured actor that walks over a grey ground."""

from pathlib import Path

import cv2
import numpy as np

SIZE = 72, 96  # H, W
WHO = {
    "brown-dog": ("a dog walking", (150, 110, 70)),
    "old-car": ("a car crossing", (120, 125, 140)),
    "young-man": ("a man riding", (90, 100, 150)),
    "zoo-swan": ("a swan", (60, 60, 70)),
}


def actor_mask(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """An ellipse (H, W) bool of 44 x 26 pixels that moves a pixel every second frame."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return ((x - 30 - index / 2) / 22) ** 2 + ((y - 36) / 13) ** 2 <= 1


def write_davis(root: Path, frames: int = 24, who: dict | None = None) -> Path:
    """The sequences in `root`, which is returned."""
    who = WHO if who is None else who
    lines = ["video_id,object_id,expression"]
    for name, (expression, colour) in who.items():
        lines.append(f"{name},1,{expression}")
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / name).mkdir(parents=True)
        rng = np.random.default_rng(len(name))
        ground = rng.integers(110, 140, (*SIZE, 3))
        coat = np.clip(np.array(colour) + rng.integers(-40, 41, (*SIZE, 1)), 0, 255)
        for index in range(frames):
            mask = actor_mask(index)
            picture = np.where(mask[..., None], coat, ground).astype(np.uint8)
            frame = root / "JPEGImages" / "480p" / name / f"{index:05d}.jpg"
            cv2.imwrite(str(frame), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
            file = root / "Annotations" / "480p" / name / f"{index:05d}.png"
            cv2.imwrite(str(file), mask.astype(np.uint8) * 255)
    (root / "expressions.csv").write_text("\n".join(lines) + "\n")
    return root
