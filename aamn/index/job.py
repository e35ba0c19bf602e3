"""What is indexed, and what an index is made from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, cast

from aamn.config.schema import FlowConfig
from aamn.data.flow.store import FlowStore
from aamn.index.box_source import BoxSource, StoredBoxes
from aamn.index.file import WHOLE, Origin, Selection
from aamn.models.aamn import MostConfident
from aamn.models.indexable import IndexableSegmenter
from aamn.models.segmenter import Segmenter
from proposals.errors import InputError
from proposals.frames import FrameSource


def is_indexable(segmenter: Segmenter) -> bool:
    """Whether a segmenter's video side can be kept."""
    return isinstance(segmenter, IndexableSegmenter) and not isinstance(segmenter, MostConfident)


def indexable(segmenter: Segmenter) -> IndexableSegmenter:
    """The segmenter, whose video's side can be kept.

    Raises:
        InputError: a system whose answers cannot be split into a video's and a sentence's side.
    """
    if is_indexable(segmenter):
        return cast(IndexableSegmenter, segmenter)
    name = type(segmenter).__name__
    raise InputError(
        "only the systems aamn, zeroshot and adapted can index videos, this checkpoint is run as "
        f"{name}"
    )


def model_hash(segmenter: Segmenter) -> str:
    """A short hash of what a segmenter does with videos: weights and options, those of its
    language side aside, so that a re-trained language side can use an old index.

    Raises:
        InputError: as `indexable`.
    """
    segmenter = indexable(segmenter)
    if segmenter.known_hash:
        return segmenter.known_hash
    digest = hashlib.sha256()
    digest.update(json.dumps(segmenter.video_options(), sort_keys=True).encode())
    for name, value in sorted(segmenter.state_dict().items()):
        if not any(part in name for part in segmenter.text_side):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class IndexJob:
    """A video to index: where its boxes and flow come from, and what works them in.

    `flow` None computes flow at the network's size, as `flow_config` says. `selection` says which
    clips are wanted: only their frames go through the networks, save with key frames, where all do.
    `precision` bfloat16 halves the convolutions' time where the machine has instructions for it;
    tubes are linked and scored in float32 all the same. `model` is the segmenter's `model_hash`
    where it has been taken already. Of `every` above 1, only every so many-th frame goes through
    the networks; its flow is still that to the frame after it.
    """

    segmenter: IndexableSegmenter
    video_id: str
    frames: FrameSource
    boxes: BoxSource
    flow: FlowStore | None
    flow_config: FlowConfig
    selection: Selection = WHOLE
    precision: str = "float32"
    model: str = ""
    every: int = 1

    def check(self) -> None:
        """Raises:
        InputError: boxes whose labels are of other classes than the segmenter's, stored boxes
            or flow of another video than the frames, or flow that is not as the configuration
            says; frames are left out where key frames are wanted.
        """
        if self.every < 1 or (self.every > 1 and self.selection.key_frames is not None):
            raise InputError(f"every: wanted 1, or more where whole videos are, got {self.every}")
        attributes = self.boxes.attributes
        self.segmenter.check_classes(attributes.classes, attributes.detector)
        if isinstance(self.boxes, StoredBoxes):
            self.boxes.store.check_identity(self.boxes.video_id, self.frames)
        if self.flow is not None and self.segmenter.input_spec.flow:
            self.flow.check(self.video_id, self.frames, self.flow_config)

    @property
    def origin(self) -> Origin:
        """What the index is made from."""
        flow: dict[str, Any] = {}
        if self.segmenter.input_spec.flow:
            flow = asdict(self.flow_config) if self.flow is None else dict(self.flow.attributes)
        boxes = json.loads(self.boxes.attributes.to_json())
        model = self.model or model_hash(self.segmenter)
        return Origin(model, boxes, flow, self.precision, self.every)
