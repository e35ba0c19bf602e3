"""The options --proposals, --detector and --flow of the programs that segment videos."""

from __future__ import annotations

import argparse
from functools import cached_property
from pathlib import Path

from aamn.data.flow.store import FlowStore, stored_flow
from aamn.index.box_source import BoxSource, DetectedBoxes, StoredBoxes, detected_boxes
from aamn.index.builder import build_index
from aamn.index.file import WHOLE, Selection
from aamn.index.query_encoder import Asker
from aamn.models.segmenter import Segmenter
from proposals.build import load_detector
from proposals.decoding import Video
from proposals.detector import TorchDetector
from proposals.errors import InputError
from proposals.frames import FrameSource, open_frames
from proposals.store import ProposalStore


class Inputs:
    """The boxes and the flow that the options name, each opened once, when it is first wanted."""

    def __init__(self, args: argparse.Namespace, segmenter: Segmenter) -> None:
        self.args, self.segmenter = args, segmenter

    @cached_property
    def store(self) -> ProposalStore | None:
        """The proposals file, where one is named."""
        return ProposalStore.read(self.args.proposals) if self.args.proposals else None

    @cached_property
    def detector(self) -> TorchDetector:
        """The detector that finds boxes where no file holds them.

        Raises:
            InputError: none is named.
        """
        if not self.args.detector:
            raise InputError("wanted --proposals HDF5 or --detector PT: the boxes to choose among")
        return load_detector(self.args.detector, self.segmenter.device)

    @cached_property
    def flow(self) -> FlowStore | None:
        """The flow file, where one is named and wanted."""
        return stored_flow(self.args.flow, self.segmenter.needs)


class Indexer:
    """Indexes videos by the segmenter that asks."""

    def __init__(self, inputs: Inputs, asker: Asker) -> None:
        self.inputs, self.asker = inputs, asker

    @cached_property
    def _detected(self) -> DetectedBoxes:
        return detected_boxes(self.inputs.detector, self.asker.loaded.segmenter)

    def open(self) -> None:
        """Opens what all videos share, so that a mistake in it is found before the first one."""
        _ = self.inputs.flow
        if self.inputs.store is None:
            _ = self._detected

    def index(
        self,
        video: Video,
        path: Path,
        selection: Selection = WHOLE,
        precision: str = "float32",
        replace: bool = False,
    ) -> bool:
        """Writes a video's index to `path`; False when it is there already.

        Raises:
            InputError: as `build_index`, or the video cannot be opened.
        """
        with open_frames(video.path) as frames:
            boxes, flow = self._boxes(video.video_id, frames), self.inputs.flow
            job = self.asker.job(video.video_id, frames, boxes, flow, selection, precision)
            return build_index(job, path, replace=replace)

    def _boxes(self, video_id: str, frames: FrameSource) -> BoxSource:
        if self.inputs.store is None:
            return self._detected
        return StoredBoxes(self.inputs.store, video_id, frames.size)
