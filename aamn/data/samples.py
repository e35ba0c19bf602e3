"""From a key frame to what a segmenter is fed: a window of frames, flow and proposals.

A frame is scaled as a whole to fit the network's square and lies in its top left corner; the rest
of the square is zero, in rgb and in flow.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from aamn.config.schema import AugmentConfig, FlowConfig
from aamn.data.augment import UNCHANGED, Change, change_sample, check_augmentation, draw_change
from aamn.data.cache import ByteLimitedCache, bytes_of, in_memory
from aamn.data.datasets.source import KeyFrame, VideoTextSource
from aamn.data.flow.estimators import build_estimator, resize_flow, window_flow
from aamn.data.flow.store import FlowStore
from aamn.data.words import Vocabulary
from aamn.structures import Clip, Geometry, InputSpec, Proposals, Query, Sample, Target
from proposals.errors import InputError
from proposals.frames import FrameSource, resize_frame
from proposals.store import ProposalStore

log = logging.getLogger("aamn")

FRAME_BYTES = 1 << 30  # of decoded video that each loading process keeps
TARGET_BYTES = 128 << 20  # of masks


def clip_indices(key_frame: int, offsets: tuple[int, ...], count: int) -> np.ndarray:
    """The frames (T,) int64 at `offsets` around the key frame, clamped to 0..count - 1."""
    return np.clip(key_frame + np.array(offsets, np.int64), 0, count - 1)


def load_clip(
    video_id: str,
    frames: FrameSource,
    key_frame: int,
    input_spec: InputSpec,
    flow: FlowStore | None = None,
    flow_config: FlowConfig | None = None,
    shrink: float = 1.0,
) -> Clip:
    """The window around `key_frame` at the network's size, with flow from the store, or computed
    as `flow_config` says when there is none; `shrink` scales the frame inside the square.

    Raises:
        InputError: the video cannot be decoded, or the flow file lacks it or has another one's.
    """
    geometry = _geometry(frames.size, input_spec.network_size, shrink)
    indices = clip_indices(key_frame, input_spec.offsets, len(frames))
    clip_flow = None
    if input_spec.flow:
        if flow is not None:
            flow.check(video_id, frames, flow_config)
            content = resize_flow(flow.window(video_id, indices), geometry.content_size)
        else:
            estimate = build_estimator(flow_config or FlowConfig())
            content = window_flow(frames, indices, geometry.content_size, estimate)
        clip_flow = pad_to_network(torch.from_numpy(content), geometry)
    return Clip(
        video_id,
        torch.from_numpy(indices),
        pad_to_network(_pictures(frames, indices, geometry), geometry).div_(255),
        clip_flow,
        geometry,
        input_spec.key,
    )


def load_proposals(
    store: ProposalStore, video_id: str, frame_indices: np.ndarray | torch.Tensor, top: int
) -> Proposals:
    """The `top` most confident boxes of each frame at `frame_indices` (T,).

    Raises:
        InputError: the file lacks the video or a frame.
    """
    indices = np.asarray(frame_indices, np.int64)
    window = store.window(video_id, indices, top)
    return Proposals(
        torch.from_numpy(indices),
        torch.from_numpy(window.boxes),
        torch.from_numpy(window.scores),
        torch.from_numpy(window.labels),
        torch.from_numpy(window.valid),
    )


@dataclass(frozen=True)
class Draw:
    """What chance decides about a sample: how its clip is changed, which of its sentences are
    there, and sentences about other videos."""

    change: Change
    sentences: tuple[int, ...]
    strangers: tuple[Query, ...]


class SampleDataset(Dataset):
    """The key frames of a source as samples, each with all its sentences.

    What a sample holds depends on `input_spec` alone; with `augment` its change is fixed by (seed,
    epoch, index). Loading processes keep decoded videos and targets in memory within fixed limits.

    Raises:
        InputError: a segmenter that needs proposals is given no store.
    """

    def __init__(
        self,
        source: VideoTextSource,
        input_spec: InputSpec,
        vocabulary: Vocabulary,
        store: ProposalStore | None = None,
        flow: FlowStore | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        flow_config: FlowConfig | None = None,
    ) -> None:
        if input_spec.proposals and store is None:
            raise InputError("this system needs proposals; data.proposals names no file")
        if augment is not None:
            check_augmentation(augment)
        self.source, self.input_spec, self.vocabulary = source, input_spec, vocabulary
        self.store, self.flow = store, flow
        self.augment, self.seed, self.flow_config = augment, seed, flow_config
        self._frames: ByteLimitedCache[FrameSource] = ByteLimitedCache(FRAME_BYTES)
        self._targets: ByteLimitedCache[tuple[Target, ...]] = ByteLimitedCache(TARGET_BYTES)
        self.late_key_frames: set[tuple[str, int]] = set()

    def __len__(self) -> int:
        return len(self.source.key_frames)

    def __getitem__(self, place: int | tuple[int, int]) -> Sample:
        """The sample at an index, or at (epoch, index) where augmentation is to differ by epoch."""
        epoch, index = place if isinstance(place, tuple) else (0, place)
        if self.augment is None:
            return self.at(index)
        draw = self.draw(epoch, index)
        sample = self.at(index, draw.change)
        return replace(
            sample,
            queries=tuple(sample.queries[i] for i in draw.sentences),
            targets=tuple(sample.targets[i] for i in draw.sentences),
            strangers=draw.strangers,
        )

    def at(self, index: int, change: Change = UNCHANGED) -> Sample:
        """The sample at an index with all its sentences, changed in one way."""
        return self.views(index, (change,))[0]

    def views(self, index: int, changes: Sequence[Change]) -> list[Sample]:
        """The sample at an index with all its sentences, once for each way to change it."""
        if get_worker_info() is not None:
            cv2.setNumThreads(0)
        key_frame = self.source.key_frames[index]
        loaded = {s: self._load(key_frame, s) for s in {change.shrink for change in changes}}
        return [change_sample(loaded[c.shrink], c, self.vocabulary) for c in changes]

    def draw(self, epoch: int, index: int) -> Draw:
        """What chance decides about a sample in an epoch, always the same."""
        assert self.augment is not None, "wanted the draws of samples that are learned from"
        key_frame, seed = self.source.key_frames[index], (self.seed, epoch, index)
        count = len(key_frame.expressions)
        places = np.arange(count)
        if 0 < self.augment.sentences < count:
            rng = np.random.default_rng((*seed, 2))
            places = np.sort(rng.choice(count, self.augment.sentences, replace=False))
        change = draw_change(self.augment, seed)
        return Draw(change, tuple(places.tolist()), self._strangers(key_frame, seed))

    def of_key_frames(self) -> SampleDataset:
        """The same samples with the key frame alone in each clip."""
        alone = copy(self)  # which keeps the same videos and targets in memory
        alone.input_spec = replace(self.input_spec, offsets=(0,), strangers=0)
        return alone

    def _strangers(self, key_frame: KeyFrame, draw: tuple[int, ...]) -> tuple[Query, ...]:
        """Sentences about other videos that are not said of this one, drawn at random."""
        if not self.input_spec.strangers:
            return ()
        own = {expression.text for expression in key_frame.expressions}
        order = np.random.default_rng((*draw, 1)).permutation(len(self._said))
        said = (self._said[place] for place in order)
        others = (text for video, text in said if video != key_frame.video_id and text not in own)
        chosen = islice(others, self.input_spec.strangers)
        return tuple(self.vocabulary.encode(text) for text in chosen)

    @cached_property
    def _said(self) -> list[tuple[str, str]]:
        """(video, sentence) of the whole split, each once."""
        frames = self.source.key_frames
        return list(dict.fromkeys((e.video_id, e.text) for f in frames for e in f.expressions))

    def _load(self, key_frame: KeyFrame, shrink: float) -> Sample:
        video_id = key_frame.video_id
        frames = self._frames.get(
            video_id, lambda: in_memory(self.source.frames(video_id)), bytes_of
        )
        frame = self._within(key_frame, len(frames))
        clip = load_clip(
            video_id, frames, frame, self.input_spec, self.flow, self.flow_config, shrink
        )
        proposals = None
        if self.input_spec.proposals:
            assert self.store is not None, "wanted the proposals of a segmenter that needs them"
            self.store.check(video_id, frames)
            proposals = load_proposals(
                self.store, video_id, clip.frame_indices, self.input_spec.proposals
            )
        targets = self._targets.get(
            (video_id, key_frame.frame),
            lambda: self.source.targets(key_frame),
            _mask_bytes,
        )
        _check_sizes(targets, key_frame, frames)
        queries = tuple(self.vocabulary.encode(e.text) for e in key_frame.expressions)
        return Sample(clip, proposals, queries, targets)

    def _within(self, key_frame: KeyFrame, count: int) -> int:
        """The key frame, or the last decoded one where it lies past the end."""
        if key_frame.frame >= count:
            if not self.late_key_frames:
                log.warning(
                    "%s: frame %d is annotated but only %d could be decoded; the last one stands "
                    "in, here and wherever this happens (`aamn verify --deep` lists all)",
                    key_frame.video_id,
                    key_frame.frame + 1,
                    count,
                )
            self.late_key_frames.add((key_frame.video_id, key_frame.frame))
        return min(key_frame.frame, count - 1)


def _mask_bytes(targets: tuple[Target, ...]) -> int:
    """What they hold; sentences about one actor share its mask."""
    return sum({t.mask.data_ptr(): t.mask.numel() for t in targets}.values())


def _geometry(size: tuple[int, int], network: tuple[int, int], shrink: float) -> Geometry:
    fitted = Geometry.fit(size, network)
    return Geometry(size, network, fitted.scale * shrink)


def _pictures(frames: FrameSource, indices: np.ndarray, geometry: Geometry) -> torch.Tensor:
    """The frames (T, 3, h, w) uint8 at the content's size, each decoded once."""
    needed, inverse = np.unique(indices, return_inverse=True)
    pictures = np.stack([resize_frame(f, geometry.content_size) for f in frames.read(needed)])
    return torch.from_numpy(pictures[inverse.reshape(-1)]).permute(0, 3, 1, 2)


def pad_to_network(content: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Content (T, C, h, w) in the top left corner of (T, C, H, W) float32, zeros elsewhere."""
    square = torch.zeros(*content.shape[:2], *geometry.network_size)
    square[..., : content.shape[2], : content.shape[3]] = content
    return square


def _check_sizes(targets: tuple[Target, ...], key_frame: KeyFrame, frames: FrameSource) -> None:
    for target in targets:
        if tuple(target.mask.shape) != tuple(frames.size):
            raise InputError(
                f"{frames.path}: frames are {frames.size[1]}x{frames.size[0]} but the mask of "
                f"frame {key_frame.frame + 1} is {target.mask.shape[1]}x{target.mask.shape[0]}; "
                "download the video again"
            )
