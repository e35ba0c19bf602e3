"""A contact sheet of the corpus, so that a person can judge it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from aamn.data.synthetic.scenes import Scene, render_scene

_ZOOM = 2
_OFFSETS = (-6, -3, 0, 3)
_TEXT_WIDTH = 560
_OUTLINES = ((255, 60, 200), (60, 255, 255), (255, 255, 80), (120, 255, 120))


def contact_sheet(scenes: Sequence[Scene], noise: float) -> np.ndarray:
    """One row a scene: frames around its middle annotated one with the outlines of the visible
    masks, and its sentences in the outlines' colours. RGB uint8."""
    return np.concatenate([_row(scene, noise) for scene in scenes])


def _row(scene: Scene, noise: float) -> np.ndarray:
    rendering = render_scene(scene, noise)
    key = scene.annotated[len(scene.annotated) // 2]
    pictures = []
    for offset in _OFFSETS:
        frame = min(max(key + offset, 0), scene.frames - 1)
        picture = cv2.resize(rendering.frames[frame], None, fx=_ZOOM, fy=_ZOOM)
        if offset == 0:
            for actor, mask in zip(scene.actors, rendering.masks[:, frame], strict=True):
                _outline(picture, mask, _OUTLINES[actor.instance])
        pictures.append(picture)
    return np.concatenate((*pictures, _captions(scene, pictures[0].shape[0])), axis=1)


def _outline(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    size = picture.shape[1::-1]
    large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, 1)


def _captions(scene: Scene, height: int) -> np.ndarray:
    panel = np.full((height, _TEXT_WIDTH, 3), 24, np.uint8)
    lines = [(f"{scene.video_id} ({scene.kind})", (200, 200, 200))]
    lines += [
        (f"{s.kind[:3]} 1/{s.distractors}  {s.text.strip()}", _OUTLINES[s.instance])
        for s in scene.sentences
    ]
    for number, (text, colour) in enumerate(lines):
        place = 12, 28 + 30 * number
        cv2.putText(panel, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.55, colour, 1, cv2.LINE_AA)
    return panel
