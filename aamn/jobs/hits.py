"""Pictures of what a search has found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aamn.search.folder import Hit, Searched
from aamn.visualization.overlays import caption, contact_sheet, overlay


def sheet_of(library: Searched, hits: Sequence[Hit]) -> np.ndarray:
    """The middle frame of each hit with its mask and score (h, w, 3) uint8 RGB, side by side.

    Raises:
        InputError: an index or a video is not where it was.
    """
    return contact_sheet([_picture(library, hit) for hit in hits])


def _picture(library: Searched, hit: Hit) -> np.ndarray:
    frame = hit.frames[len(hit.frames) // 2]
    with library.open(hit) as index, index.video() as video:
        (track,) = index.query(hit.text, absent_threshold=None)
        picture = overlay(video.read([frame])[0], track.masks(range(frame, frame + 1))[0])
    said = f"{hit.score:.2f}  {hit.video_id}, frame {frame}: {hit.text}"
    return caption(picture, said)
