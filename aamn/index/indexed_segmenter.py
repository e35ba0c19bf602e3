"""Indexes behind the segmenters' door, so that an evaluation can ask them about key frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from aamn.data.datasets.source import VideoTextSource
from aamn.data.flow.store import FlowStore
from aamn.index.box_source import StoredBoxes
from aamn.index.builder import build_index
from aamn.index.file import WHOLE, IndexFile, Selection, index_path
from aamn.index.query_encoder import QueryEncoder
from aamn.index.video_index import VideoIndex, of_clip
from aamn.models.segmenter import Segmenter
from aamn.structures import Clip, InputSpec, MaskTrack, Proposals, Query
from proposals.store import ProposalStore


@dataclass(frozen=True)
class StoredIndexes:
    """The indexes of a data set's videos; those that `folder` lacks are made when they are asked
    for, with stored boxes and, where there is none, flow that is computed then."""

    folder: Path
    query_encoder: QueryEncoder
    source: VideoTextSource
    store: ProposalStore
    flow: FlowStore | None = None
    every: int = 1

    def of(self, video_id: str) -> IndexFile:
        """A video's index.

        Raises:
            InputError: as `build_index`, with an index of another origin replaced.
        """
        path = index_path(self.folder, video_id)
        with self.source.frames(video_id) as video:
            boxes = StoredBoxes(self.store, video_id, video.size)
            job = self.query_encoder.job(
                video_id, video, boxes, self.flow, self.selection(video_id), every=self.every
            )
            build_index(job, path, replace=True)
        return IndexFile.read(path)

    def selection(self, video_id: str) -> Selection:
        """The clips that are wanted of a video."""
        return WHOLE


class KeyFrameIndexes(StoredIndexes):
    """The same with one clip around each annotated frame."""

    def selection(self, video_id: str) -> Selection:
        frames = {key.frame for key in self.source.key_frames if key.video_id == video_id}
        return Selection(key_frames=tuple(sorted(frames)))


class IndexedSegmenter(Segmenter):
    """Answers for key frames from the indexes of their videos; it needs nothing of a clip but its
    name and place."""

    def __init__(self, indexes: KeyFrameIndexes) -> None:
        super().__init__()
        size = indexes.query_encoder.loaded.segmenter.input_spec.network_size
        self.input_spec = InputSpec((0,), size, flow=False, proposals=0, predicts="key")
        self.indexes = indexes
        self.last: VideoIndex | None = None  # key frames come video by video

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def segment(
        self, clip: Clip, proposals: Proposals | None, queries: Sequence[Query]
    ) -> list[MaskTrack]:
        """One track a query over the key frame; the clip around it chooses."""
        index = self._index(clip.video_id)
        frame = int(clip.frame_indices[clip.key])
        number = int(index.locate([frame])[0][0])
        tracks = index.answer(queries, linking="clip")
        return [of_clip(track, number, range(frame, frame + 1)) for track in tracks]

    def _index(self, video_id: str) -> VideoIndex:
        if self.last is None or self.last.video_id != video_id:
            if self.last is not None:
                self.last.close()
            self.last = VideoIndex(self.indexes.of(video_id), self.indexes.query_encoder)
        return self.last
