"""What the networks make of a video: frames, and clips of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aamn.data.samples import clip_indices
from aamn.index.box_source import SharedBoxes
from aamn.index.file import ClipBlock
from aamn.index.job import IndexJob
from aamn.index.reader import FrameReader, Picture
from aamn.index.timer import Timer
from aamn.inference.clip_by_clip import Window
from aamn.models.encoded import ClipBatch, EncodedClips, FrameFeatures
from aamn.tubes.aggregation import gather_members
from aamn.tubes.linking import LinkedTubes, link_scores
from proposals.store import BoxWindow


@dataclass(frozen=True)
class EncodedFrames:
    """Frames start, start + 1, ... of those that go in: boxes (N, K, 4), valid (N, K), features."""

    start: int
    boxes: Tensor
    valid: Tensor
    features: FrameFeatures

    def __len__(self) -> int:
        return len(self.boxes)

    def at(self, frames: Tensor) -> tuple[Tensor, Tensor, FrameFeatures]:
        """Boxes, validity and features of the frames with these numbers (n,); of frames that
        follow each other they are views."""
        numbers = frames - self.start
        first, n = int(numbers[0]), len(numbers)
        in_a_row = torch.equal(numbers, torch.arange(first, first + n, device=numbers.device))
        indices = slice(first, first + n) if in_a_row else numbers
        return self.boxes[indices], self.valid[indices], self.features.at(indices)

    def last(self, count: int) -> EncodedFrames:
        """The last frames, as memory of their own."""
        first = max(0, len(self) - count)
        indices = torch.arange(first, len(self), device=self.boxes.device)
        parts = self.boxes[indices], self.valid[indices], self.features.at(indices)
        return EncodedFrames(self.start + first, *parts)

    def after(self, before: EncodedFrames | None) -> EncodedFrames:
        """These frames behind those that end where they start."""
        if before is None or not len(before):
            return self
        return EncodedFrames(
            before.start,
            torch.cat([before.boxes, self.boxes]),
            torch.cat([before.valid, self.valid]),
            self.features.after(before.features),
        )


@dataclass(frozen=True)
class Edge:
    """What the tubes of C clips are linked by at one frame each: boxes (C, K, 4), features."""

    boxes: Tensor
    features: Tensor


class Encoder:
    """One video's frames and clips, from first to last."""

    def __init__(self, job: IndexJob, reader: FrameReader, timer: Timer) -> None:
        self.job, self.reader, self.timer = job, reader, timer
        self.segmenter, self.input_spec = job.segmenter, job.segmenter.input_spec
        self.device = job.segmenter.device
        self.edge: Edge | None = None  # of the last clip so far, at its last frame

    def go_on_after(self, boxes: np.ndarray, features: np.ndarray) -> None:
        """The clip before the next one ends in these tubes, boxes (1, K, 4), features (1, K, C)."""
        self.edge = Edge(*(torch.from_numpy(part).to(self.device) for part in (boxes, features)))

    def encode(self, block: Sequence[Picture], start: int) -> EncodedFrames:
        """The networks' answers for frames start, start + 1, ..."""
        indices = np.arange(start, start + len(block)) * self.job.every
        with self.timer.of("preparing"):
            images = {
                name: value.to(self.device)
                for name, value in self.reader.images(block, indices).items()
            }
        with self.timer.of("streams"), self._numbers():
            maps = self.segmenter.encode_maps(images)
        with self.timer.of("boxes"):
            found = self._boxes(block, indices, images, maps)
        with self.timer.of("streams"):
            boxes, valid = torch.from_numpy(found.boxes), torch.from_numpy(found.valid)
            said = (torch.from_numpy(part)[None] for part in (found.scores, found.labels))
            batch = self._batch({}, boxes[None], valid[None], *said)
            # RoIAlign reads float32 maps channel by channel; once is enough
            batch_maps = {
                name: tuple(one.float().contiguous() for one in own) for name, own in maps.items()
            }
            with self._numbers():
                described = self.segmenter.describe_rois(batch_maps, batch)
            roi_features = {name: value.float() for name, value in described.roi_features.items()}
            features = FrameFeatures(batch_maps, roi_features)
        return EncodedFrames(start, batch.boxes[0], batch.valid[0], features)

    def _numbers(self) -> torch.autocast:
        """What the streams and the mask head compute in."""
        half = self.job.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def _boxes(
        self,
        block: Sequence[Picture],
        indices: np.ndarray,
        images: dict[str, Tensor],
        maps: dict[str, tuple[Tensor, ...]],
    ) -> BoxWindow:
        """The best boxes of the block's frames, from the RGB stream's maps where these serve."""
        source, top = self.job.boxes, self.input_spec.proposals
        if isinstance(source, SharedBoxes):
            shared = self.segmenter.shared_maps(maps)
            return source.window_from(
                images["rgb"], shared, self.reader.geometry.original_size, top
            )
        return source.window([one.original for one in block], indices, top)

    def _batch(
        self, images: dict[str, Tensor], boxes: Tensor, valid: Tensor, *said: Tensor
    ) -> ClipBatch:
        """B clips (or runs of frames) of the video: boxes (B, T, K, 4), valid (B, T, K), and `said`
        of the boxes by their detector, confidence and labels (B, T, K)."""
        geometries = [self.reader.geometry] * len(boxes)
        return ClipBatch.of(images, boxes, valid, geometries, self.device, *said)

    def numbers(self, windows: Sequence[Window], frames: int) -> np.ndarray:
        """(C, T): the frames of the clips of these windows."""
        offsets = self.input_spec.offsets
        return np.stack([clip_indices(w.key_frame, offsets, frames) for w in windows])

    def clips(self, known: EncodedFrames, windows: Sequence[Window], frames: int) -> ClipBlock:
        """Tubes, vectors, masks and links of the clips of these windows."""
        c, numbers = len(windows), self.numbers(windows, frames)
        with self.timer.of("tubes"):
            picked = torch.from_numpy(numbers).flatten().to(self.device)
            boxes, valid, features = known.at(picked)
            shape = numbers.shape
            batch = self._batch({}, boxes.unflatten(0, shape), valid.unflatten(0, shape))
            encoded = self.segmenter.encode_tubes(batch, features)
            links = self._links(encoded.tubes, features, windows)
        with self.timer.of("masks"):
            masks = self._masks(encoded).cpu().numpy()
        vectors = torch.stack([encoded.embedding(clip).vectors for clip in range(c)])
        context = _context(encoded)
        return ClipBlock(
            windows=np.array([(w.key_frame, w.start, w.stop) for w in windows], np.int64)
            * self.job.every,
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
        link = self.segmenter.link_features(features.roi_features)
        own = gather_members(link.unflatten(0, tubes.boxes.shape[:1] + (-1,)), tubes.members)
        before = min(self.input_spec.offsets)
        first = _edge(
            tubes, own, [w.start - w.key_frame - before for w in windows], self.input_spec.key
        )
        last = _edge(
            tubes, own, [w.stop - 1 - w.key_frame - before for w in windows], self.input_spec.key
        )
        previous = self.edge or Edge(first.boxes[:1], first.features[:1])
        links = link_scores(
            torch.cat([previous.boxes, last.boxes[:-1]]),
            first.boxes,
            torch.cat([previous.features, last.features[:-1]]),
            first.features,
            self.segmenter.link_balance,
        )
        if self.edge is None:
            links[0] = 0
        self.edge = Edge(last.boxes[-1:], last.features[-1:])
        return links.float()


def _context(encoded: EncodedClips) -> Tensor | None:
    """(C, K, 1 + K): how much the whole clip, then each tube, contributes to a tube's context."""
    found = next((side.context for side in encoded.sides.values() if side.context), None)
    if found is None:
        return None
    c, k, _ = found.attention.shape
    return found.attention.new_zeros(c, k, 1 + k).scatter(2, found.members + 1, found.attention)


def _edge(tubes: LinkedTubes, own: Tensor, indices: Sequence[int], key: int) -> Edge:
    """The tubes at frame indices[c] of each clip; where a tube rests on no proposal there, its
    feature is the one it carried on towards that frame, as its box is.

    own (C, K, T, C_v) are the tubes' features.
    """
    time_steps = torch.arange(own.shape[2], device=own.device)
    at = torch.tensor(indices, device=own.device)[:, None]
    between = (time_steps >= at.clamp(max=key)) & (time_steps <= at.clamp(min=key))  # (C, T)
    usable = tubes.linked & between[:, None]
    distance = (time_steps - at).abs()[:, None].expand_as(usable)
    nearest = distance.masked_fill(~usable, own.shape[2]).argmin(-1)  # (C, K)
    clip = torch.arange(len(own), device=own.device)
    tube = torch.arange(own.shape[1], device=own.device)
    features = own[clip[:, None], tube, nearest]
    return Edge(tubes.boxes[clip, :, at[:, 0]], features)
