"""Indexes behind the segmenters' door, so that an evaluation can ask them about key frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from aamn.index import VideoIndex, of_clip
from aamn.models.segmenter import Segmenter
from aamn.structures import Clip, MaskTrack, Needs, Proposals, Query


class IndexedSegmenter(Segmenter):
    """Answers for key frames from the indexes of their videos, which must hold a clip around each
    of these; it needs nothing of a clip but its name and place."""

    def __init__(
        self, network_size: tuple[int, int], index_of: Callable[[str], VideoIndex]
    ) -> None:
        super().__init__()
        self.needs = Needs((0,), network_size, flow=False, proposals=0, predicts="key")
        self.index_of = index_of

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def segment(
        self, clip: Clip, proposals: Proposals | None, queries: Sequence[Query]
    ) -> list[MaskTrack]:
        """One track a query over the key frame; the clip around it chooses."""
        index = self.index_of(clip.video_id)
        frame = int(clip.frame_indices[clip.key])
        number = int(index.locate([frame])[0][0])
        tracks = index.query([query.text for query in queries], linking="clip")
        return [of_clip(track, number, range(frame, frame + 1)) for track in tracks]
