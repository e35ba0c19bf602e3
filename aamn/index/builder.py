"""Builds a video's index: every frame goes through every network once, whatever the clip's length.

Frames stream through in blocks of whole clips; a block's features, and the few frames that the
last clip shares with the one before it, are all that is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aamn.config.loading import to_dict
from aamn.config.schema import FlowConfig
from aamn.data.flow.estimators import build_estimator, iterate_flow, resize_flow
from aamn.data.flow.store import FlowStore
from aamn.data.samples import clip_indices, pad_to_network
from aamn.index.box_source import BoxSource, SharedBoxes
from aamn.index.file import (
    NO_END,
    WHOLE,
    ClipBlock,
    Header,
    IndexFile,
    Origin,
    Selection,
    written_index,
)
from aamn.inference.clip_by_clip import Window, plan_windows
from aamn.models.aamn import AAMN, ClipBatch, EncodedClips, FrameFeatures
from aamn.models.segmenter import Segmenter
from aamn.structures import Geometry
from aamn.tubes.aggregation import gather_members
from aamn.tubes.linking import LinkedTubes, link_scores
from proposals.errors import InputError
from proposals.frames import FrameSource, resize_frame
from proposals.store import BoxWindow

log = logging.getLogger("aamn")

PRECISIONS = ("float32", "bfloat16")
FRAMES_AT_ONCE = {"cpu": 16, "cuda": 96}
TEXT_SIDE = ("language.", ".matching.textual.", ".matching.score.")  # of the parameters' names
TEXT_OPTIONS = ("language", "margin", "balance", "match_iou")  # of AAMNConfig, not in the index


@dataclass
class Costs:
    """Seconds by part of the work; a part inside another counts for itself alone."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    synchronise: bool = False  # wait for the GPU at the end of each part

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        begin, inner = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            if self.synchronise:
                torch.cuda.synchronize()
            nested = sum(self.seconds.values()) - inner
            self.seconds[part] += time.perf_counter() - begin - nested


def model_hash(segmenter: Segmenter) -> str:
    """A short hash of what a segmenter does with videos: weights and options, those of its
    language side aside, so that a re-trained language side can use an old index.

    Raises:
        InputError: a system whose answers cannot be split into a video's and a sentence's side.
    """
    if type(segmenter) is not AAMN:
        name = type(segmenter).__name__
        raise InputError(f"only the system aamn can index videos, this checkpoint is run as {name}")
    digest = hashlib.sha256()
    options = {k: v for k, v in to_dict(segmenter.config).items() if k not in TEXT_OPTIONS}
    for name in ("weights", "flow_weights", "frozen_stages", "dropout"):  # only training sees them
        options["backbone"].pop(name)
    digest.update(json.dumps(options, sort_keys=True).encode())
    for name, value in sorted(segmenter.state_dict().items()):
        if not any(part in name for part in TEXT_SIDE):
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
    where it has been taken already.
    """

    segmenter: AAMN
    video_id: str
    frames: FrameSource
    boxes: BoxSource
    flow: FlowStore | None
    flow_config: FlowConfig
    selection: Selection = WHOLE
    precision: str = "float32"
    model: str = ""

    @property
    def origin(self) -> Origin:
        """What the index is made from."""
        flow: dict[str, Any] = {}
        if self.segmenter.needs.flow:
            flow = asdict(self.flow_config) if self.flow is None else dict(self.flow.attributes)
        boxes = json.loads(self.boxes.attributes.to_json())
        return Origin(self.model or model_hash(self.segmenter), boxes, flow, self.precision)


def build_index(
    job: IndexJob, path: Path, costs: Costs | None = None, replace: bool = False
) -> bool:
    """Writes the index of a video to `path`; False when it is there already. One of another part
    of the video makes way, and with `replace` also one of another origin.

    Raises:
        InputError: the video cannot be decoded or has no frame of the selection, boxes or flow are
            lacking, the file is there but of another origin, another process writes it, the disk
            is full.
    """
    if job.precision not in PRECISIONS:
        raise InputError(f"precision {job.precision!r}: wanted one of {', '.join(PRECISIONS)}")
    origin = job.origin
    if path.exists():
        found = IndexFile.read(path).header
        difference = found.origin.difference(origin)
        if difference and not replace:
            raise InputError(
                f"{path} (the one) was not made as this run (the other) would: {difference}; "
                "choose another --out, or remove the file"
            )
        if not difference and found.selection.covers(job.selection):
            return False
    parts = {name: part.matching.visual.out_features for name, part in job.segmenter.parts.items()}
    header = Header(
        video_id=job.video_id,
        path=str(job.frames.path),
        size=tuple(job.frames.size),
        fps=job.frames.fps,
        parts=parts,
        origin=origin,
        selection=job.selection,
    )
    job.segmenter.eval()
    costs = costs or Costs()
    with written_index(path, header) as writer:
        for block in _Builder(job, costs).blocks():
            with costs.of("writing"):
                writer.add(block)
        if not writer.clips:
            raise InputError(f"{job.frames.path} has none of the wanted {job.selection}")
    return True


@dataclass(frozen=True)
class _Picture:
    """A frame on its way in: original (H0, W0, 3) and picture (h, w, 3) uint8, flow (2, h, w)
    where it is computed here."""

    original: np.ndarray
    picture: np.ndarray
    flow: np.ndarray | None


@dataclass(frozen=True)
class _Encoded:
    """Frames start, start + 1, ... with boxes (N, K, 4), valid (N, K) and their features."""

    start: int
    boxes: Tensor
    valid: Tensor
    features: FrameFeatures

    def __len__(self) -> int:
        return len(self.boxes)

    def at(self, frames: Tensor) -> tuple[Tensor, Tensor, FrameFeatures]:
        """Boxes, validity and features of the frames with these numbers (n,)."""
        places = frames - self.start
        return self.boxes[places], self.valid[places], self.features.at(places)

    def last(self, count: int) -> _Encoded:
        """The last frames, as memory of their own."""
        first = max(0, len(self) - count)
        numbers = torch.arange(self.start + first, self.start + len(self), device=self.boxes.device)
        return _Encoded(self.start + first, *self.at(numbers))

    def after(self, before: _Encoded | None) -> _Encoded:
        """These frames behind those that end where they start."""
        if before is None or not len(before):
            return self
        return _Encoded(
            before.start,
            torch.cat([before.boxes, self.boxes]),
            torch.cat([before.valid, self.valid]),
            self.features.after(before.features),
        )


@dataclass(frozen=True)
class _Edge:
    """What the tubes of C clips are linked by at one frame each: boxes (C, K, 4), features."""

    boxes: Tensor
    features: Tensor


class _Builder:
    """One pass over one video."""

    def __init__(self, job: IndexJob, costs: Costs) -> None:
        self.job, self.costs = job, costs
        self.segmenter, self.needs = job.segmenter, job.segmenter.needs
        self.device = job.segmenter.device
        self.geometry = Geometry.fit(tuple(job.frames.size), self.needs.network_size)
        length = len(self.needs.offsets)
        self.block = length * max(1, FRAMES_AT_ONCE[self.device.type] // length)
        self.edge: _Edge | None = None  # of the last clip so far, at its last frame
        self.planned = 0  # key frames, or the frame up to which clips are done
        self.ended = False  # the video, as far as it has been read

    @torch.inference_mode()
    def blocks(self) -> Iterator[ClipBlock]:
        """The wanted clips of the video, some at a time."""
        for run in self._runs():
            yield from self._blocks(run)
            if self.ended:
                return

    def _runs(self) -> Iterator[range]:
        """The frames of the wanted clips, in runs without a gap; a video may end before."""
        wanted, length = self.job.selection.frames, len(self.needs.offsets)
        if wanted is None:
            yield range(NO_END)
        elif wanted.step <= length:
            last = wanted[-1] // length * length
            yield range(wanted.start // length * length, last + length)
        else:
            for frame in wanted:
                yield range(frame // length * length, frame // length * length + length)

    def _blocks(self, run: range) -> Iterator[ClipBlock]:
        """The clips of one run of frames."""
        pictures, total, length = self._pictures(run), run.start, len(self.needs.offsets)
        known: _Encoded | None = None
        self.planned = run.start
        while total < run.stop and not self.ended:
            wanted = min(self.block, run.stop - total)
            with self.costs.of("decoding"):
                block = list(islice(pictures, wanted))
            self.ended = len(block) < wanted
            if block:
                encoded = self._encode(block, total)
                known = encoded.after(known.last(length - 1) if known else None)
                total += len(block)
            ready = self._ready(total)
            windows = [w for w in ready if self.job.selection.wants(range(w.start, w.stop))]
            if windows:
                if run.start and known.start > windows[-1].stop - length:
                    known = self._whole_last_clip(total)
                yield self._clips(known, windows, total)

    def _whole_last_clip(self, total: int) -> _Encoded:
        """The features of the video's last clip, which begins before the frames of the run."""
        span = range(max(0, total - len(self.needs.offsets)), total)
        return self._encode(list(self._pictures(span)), span.start)

    def _ready(self, total: int) -> list[Window]:
        """The next clips all of whose frames are among the first `total`, which are the whole
        video if it has ended."""
        after, length = max(self.needs.offsets), len(self.needs.offsets)
        if self.job.selection.key_frames is not None:
            keys = self.job.selection.key_frames[self.planned :]
            keys = [k for k in keys if self.ended or k + after < total]
            self.planned += len(keys)
            keys = dict.fromkeys(min(k, total - 1) for k in keys)
            return [Window(k, k, k + 1) for k in keys if total]
        first = self.planned
        whole = (total - first) // length
        self.planned += whole * length
        windows = [
            Window(start + length - 1 - after, start, start + length)
            for start in range(first, self.planned, length)
        ]
        if self.ended and self.planned < total:
            windows.append(plan_windows(total, self.needs)[-1])
        return windows

    def _pictures(self, span: range) -> Iterator[_Picture]:
        """These frames in order, as far as there are any, each with its flow where this is computed
        here."""
        frames, size = self.job.frames, self.geometry.content_size
        if not self.needs.flow or self.job.flow is not None:
            for frame in frames.iterate(span.start, span.stop):
                yield _Picture(frame, resize_frame(frame, size), None)
            return
        waiting: deque[tuple[np.ndarray, np.ndarray]] = deque()
        search = build_estimator(self.job.flow_config)
        before = span.start - 1 if span.start else 0  # its flow is the last frame's, too

        def resized() -> Iterator[np.ndarray]:
            for frame in frames.iterate(before, span.stop + 1):
                waiting.append((frame, resize_frame(frame, size)))
                yield waiting[-1][1]

        def estimate(one: np.ndarray, two: np.ndarray) -> np.ndarray:
            with self.costs.of("flow"):
                return search(one, two)

        flows = enumerate(iterate_flow(resized(), estimate), before)
        for number, flow in islice(flows, span.stop - before):
            picture = _Picture(*waiting.popleft(), flow)
            if number >= span.start:
                yield picture

    def _encode(self, block: Sequence[_Picture], start: int) -> _Encoded:
        """The networks' answers for frames start, start + 1, ..."""
        indices = np.arange(start, start + len(block))
        with self.costs.of("preparing"):
            images = {
                name: value.to(self.device) for name, value in self._images(block, indices).items()
            }
        with self.costs.of("streams"), self._numbers():
            maps = self.segmenter.encode_maps(images)
        with self.costs.of("boxes"):
            found = self._boxes(block, indices, images, maps)
        with self.costs.of("streams"):
            boxes, valid = torch.from_numpy(found.boxes), torch.from_numpy(found.valid)
            batch = self._batch({}, boxes[None], valid[None])
            with self._numbers():
                found = self.segmenter.describe_regions(maps, batch)
            regions = {name: value.float() for name, value in found.regions.items()}
            features = FrameFeatures(maps, regions)
        return _Encoded(start, batch.boxes[0], batch.valid[0], features)

    def _numbers(self) -> torch.autocast:
        """What the streams and the mask head compute in."""
        half = self.job.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def _boxes(
        self,
        block: Sequence[_Picture],
        indices: np.ndarray,
        images: dict[str, Tensor],
        maps: dict[str, tuple[Tensor, ...]],
    ) -> BoxWindow:
        """The best boxes of the block's frames, from the RGB stream's maps where these serve."""
        source, top = self.job.boxes, self.needs.proposals
        if isinstance(source, SharedBoxes):
            shared = self.segmenter.streams["rgb"].shared(maps["rgb"])
            return source.window_from(images["rgb"], shared, self.geometry.original_size, top)
        return source.window([one.original for one in block], indices, top)

    def _images(self, block: Sequence[_Picture], indices: np.ndarray) -> dict[str, Tensor]:
        """The streams' inputs, as `load_clip` makes them."""
        images = {}
        if "rgb" in self.segmenter.streams:
            pictures = torch.from_numpy(np.stack([one.picture for one in block]))
            images["rgb"] = pad_to_network(pictures.permute(0, 3, 1, 2), self.geometry).div_(255)
        if self.needs.flow:
            if self.job.flow is None:
                flow = np.stack([one.flow for one in block])
            else:
                stored = self.job.flow.window(self.job.video_id, indices)
                flow = resize_flow(stored, self.geometry.content_size)
            images["flow"] = pad_to_network(torch.from_numpy(flow), self.geometry)
        return images

    def _batch(self, images: dict[str, Tensor], boxes: Tensor, valid: Tensor) -> ClipBatch:
        """B clips (or runs of frames) of the video: boxes (B, T, K, 4), valid (B, T, K)."""
        (h0, w0), (h, w) = self.geometry.original_size, self.geometry.content_size
        rows = ((h0, w0), self.geometry.scale_xyxy, (0, 0, w, h))
        places = (torch.tensor([row], dtype=torch.float32, device=self.device) for row in rows)
        return ClipBatch(
            {name: value.to(self.device) for name, value in images.items()},
            boxes.to(self.device),
            valid.to(self.device),
            *(place.expand(len(boxes), -1) for place in places),
        )

    def _clips(self, known: _Encoded, windows: Sequence[Window], frames: int) -> ClipBlock:
        """Tubes, vectors, masks and links of the clips of these windows."""
        offsets, c = self.needs.offsets, len(windows)
        numbers = np.stack([clip_indices(w.key_frame, offsets, frames) for w in windows])
        with self.costs.of("tubes"):
            picked = torch.from_numpy(numbers).flatten().to(self.device)
            boxes, valid, features = known.at(picked)
            shape = numbers.shape
            batch = self._batch({}, boxes.unflatten(0, shape), valid.unflatten(0, shape))
            encoded = self.segmenter.encode_tubes(batch, features)
            links = self._links(encoded.tubes, features, windows)
        with self.costs.of("masks"):
            masks = self._masks(encoded).cpu().numpy()
        vectors = torch.stack([encoded.embedding(clip).vectors for clip in range(c)])
        context = _context(encoded)
        return ClipBlock(
            windows=np.array([(w.key_frame, w.start, w.stop) for w in windows], np.int64),
            boxes=encoded.tubes.boxes.transpose(1, 2).cpu().numpy(),
            vectors=vectors.float().cpu().numpy(),
            valid=encoded.tubes.valid.cpu().numpy(),
            masks=masks,
            links=links.cpu().numpy(),
            context=None if context is None else context.float().cpu().numpy(),
        )

    def _masks(self, encoded: EncodedClips) -> Tensor:
        """(C, K, T, g, g) uint8; tubes that share a box of a frame share the mask head's work."""
        boxes = encoded.tubes.boxes  # (C, K, T, 4)
        c, k, t, _ = boxes.shape
        clip = torch.arange(c, device=boxes.device)[:, None, None]
        frame = clip * t + torch.arange(t, device=boxes.device)
        rows = torch.cat([frame.expand(c, k, t)[..., None].to(boxes.dtype), boxes], -1)
        different, place = rows.view(-1, 5).unique(dim=0, return_inverse=True)
        with self._numbers():
            logits = self.segmenter.mask_logits(encoded, different[:, 0].long(), different[:, 1:])
        masks = (logits.float().sigmoid() * 255).round().byte()[place]
        masks = masks.view(c, k, t, *masks.shape[1:])
        return masks * encoded.tubes.valid[:, :, None, None, None]

    def _links(
        self, tubes: LinkedTubes, features: FrameFeatures, windows: Sequence[Window]
    ) -> Tensor:
        """(C, K, K) scores (1) between the last frame that the clip before answers for and the
        first one of the clip; zeros before the video's first clip."""
        link = self.segmenter.link_features(features.regions)
        own = gather_members(link.unflatten(0, tubes.boxes.shape[:1] + (-1,)), tubes.members)
        before = min(self.needs.offsets)
        first = _edge(tubes, own, [w.start - w.key_frame - before for w in windows], self.needs.key)
        last = _edge(
            tubes, own, [w.stop - 1 - w.key_frame - before for w in windows], self.needs.key
        )
        previous = self.edge or _Edge(first.boxes[:1], first.features[:1])
        links = link_scores(
            torch.cat([previous.boxes, last.boxes[:-1]]),
            first.boxes,
            torch.cat([previous.features, last.features[:-1]]),
            first.features,
            self.segmenter.config.link_balance,
        )
        if self.edge is None:
            links[0] = 0
        self.edge = _Edge(last.boxes[-1:], last.features[-1:])
        return links.float()


def _context(encoded: EncodedClips) -> Tensor | None:
    """(C, K, 1 + K): how much the whole clip, then each tube, contributes to a tube's context."""
    found = next((side.context for side in encoded.sides.values() if side.context), None)
    if found is None:
        return None
    c, k, _ = found.attention.shape
    return found.attention.new_zeros(c, k, 1 + k).scatter(2, found.members + 1, found.attention)


def _edge(tubes: LinkedTubes, own: Tensor, places: Sequence[int], key: int) -> _Edge:
    """The tubes at frame places[c] of each clip; where a tube rests on no proposal there, its
    feature is the one it carried on towards that frame, as its box is.

    own (C, K, T, C_v) are the tubes' features.
    """
    time_steps = torch.arange(own.shape[2], device=own.device)
    at = torch.tensor(places, device=own.device)[:, None]
    between = (time_steps >= at.clamp(max=key)) & (time_steps <= at.clamp(min=key))  # (C, T)
    usable = tubes.linked & between[:, None]
    distance = (time_steps - at).abs()[:, None].expand_as(usable)
    nearest = distance.masked_fill(~usable, own.shape[2]).argmin(-1)  # (C, K)
    clip = torch.arange(len(own), device=own.device)
    tube = torch.arange(own.shape[1], device=own.device)
    features = own[clip[:, None], tube, nearest]
    return _Edge(tubes.boxes[clip, :, at[:, 0]], features)
