"""The video's side of an index: clips with their tubes, boxes and masks, without any network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aamn.index.file import Header, IndexFile
from aamn.index.growing import GrowingIndex
from aamn.ops.masks import MaskCrop, paste_binary_masks, paste_crops
from proposals import places
from proposals.errors import InputError
from proposals.frames import FrameSource, open_frames
from proposals.identity import check_same, identity_of, unchecked

CROPS_AT_ONCE = 64  # grids in memory


class IndexedVideo:
    """What an index file holds of a video. Copies and pickled ones read the file for themselves,
    as long as it is there."""

    def __init__(
        self,
        file: IndexFile | GrowingIndex,
        owner: Any = None,
        given: FrameSource | None = None,
    ) -> None:
        """`owner` is kept as long as the index, such as the temporary folder it lies in; `given`
        are the video's frames where no path leads to them."""
        self.file, self._owner, self._given = file, owner, given

    @property
    def header(self) -> Header:
        return self.file.header

    @property
    def video_id(self) -> str:
        return self.header.video_id

    @property
    def size(self) -> tuple[int, int]:
        """(H0, W0)."""
        return self.header.size

    @cached_property
    def frames(self) -> range:
        """The frames it answers for if it is not told which: the video's, or those it was made of.

        Raises:
            InputError: it holds clips around key frames, not a span of the video.
        """
        wanted = self.header.selection
        if wanted.key_frames is not None:
            raise InputError(
                f"{self.file.path} is an index of {wanted} alone; index the video again"
            )
        if wanted.frames is None:
            return range(self.header.frames)
        end = min(wanted.frames.stop, self.header.frames)
        return range(wanted.frames.start, end, wanted.frames.step)

    def __len__(self) -> int:
        """How many `frames` there are."""
        return len(self.frames)

    @cached_property
    def windows(self) -> np.ndarray:
        """(C, 3): key frame, first frame and end of the frames each clip answers for."""
        return self.file.array("windows")[:]

    @cached_property
    def boxes(self) -> np.ndarray:
        """(C, T, K, 4) of all tubes, original pixels."""
        return self.file.array("boxes")[:]

    @cached_property
    def context(self) -> np.ndarray | None:
        """(C, K, 1 + K): how much the whole clip, then each tube, contributes to a tube's context;
        None without a contextual LSTM."""
        data = self.file.optional("context")
        return None if data is None else data[:]

    def locate(self, frames: Sequence[int] | np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The clip that answers for each of the frames (n,), and the frame's place in it.

        Raises:
            InputError: a frame outside the video, or outside the part of it that was indexed.
        """
        wanted = np.asarray(self.frames if frames is None else frames, np.int64)
        clips = np.searchsorted(self.windows[:, 1], wanted, side="right") - 1
        outside = wanted[(clips < 0) | (wanted >= self.windows[clips, 2])]
        if len(outside):
            selection = self.header.selection
            held = f"{self.header.frames} frames" if selection.whole else f"{selection} alone"
            raise InputError(f"{self.file.path}: wanted frame {outside[0]}, it has {held}")
        length, every = self.boxes.shape[1], self.header.origin.every
        return clips, wanted // every - self.windows[clips, 0] // every + length // 2

    def grids(self, clips: np.ndarray, indices: np.ndarray, tubes: np.ndarray) -> np.ndarray:
        """Mask probabilities (n, g, g) uint8 of tubes (n,) at indices (n,) of clips (n,)."""
        data = self.file.array("masks")
        grids = np.empty((len(clips), *data.shape[3:]), np.uint8)
        for clip, tube in dict.fromkeys(zip(clips.tolist(), tubes.tolist(), strict=True)):
            rows = (clips == clip) & (tubes == tube)
            grids[rows] = data[clip, tube][indices[rows]]
        return grids

    def shown_boxes(self, frames: np.ndarray, tubes: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) float32 of frames (n,) by the chosen tube of each clip (C,); zeros where it
        is -1.

        Raises:
            InputError: as `locate`.
        """
        shown = np.flatnonzero(tubes[self.locate(frames)[0]] >= 0)
        boxes = np.zeros((len(frames), 4), np.float32)
        if len(shown):
            boxes[shown] = self._shown_boxes(frames[shown], tubes)
        return boxes

    def _shown_boxes(self, frames: np.ndarray, tubes: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) of frames (n,) where somebody is shown; of frames between two that went
        through the networks, between these."""
        own = self._boxes_at(frames, tubes)
        if self.header.origin.every == 1:
            return own
        after, share = self._between(frames, tubes)
        following = self._boxes_at(after, tubes)
        return own + share[:, None] * (following - own)

    def _boxes_at(self, frames: np.ndarray, tubes: np.ndarray) -> np.ndarray:
        clips, indices = self.locate(frames)
        return self.boxes[clips, indices, tubes[clips].clip(min=0)]

    def _between(self, frames: np.ndarray, tubes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each of the frames (n,), the next one that went through the networks, and how far on
        the way to it from the one before it lies, from 0 to 1. Where two clips meet in boxes that
        do not touch, another actor may be shown from there on: then it is 0 or 1."""
        every = self.header.origin.every
        if every == 1:
            return frames, np.zeros(len(frames), np.float32)
        used = frames // every * every
        after = np.minimum(used + every, (self.windows[-1, 2] - 1) // every * every)
        share = np.where(after > used, (frames - used) / every, 0)
        here, there = self.locate(frames)[0], self.locate(after)[0]
        own, following = self._boxes_at(frames, tubes), self._boxes_at(after, tubes)
        sides = np.minimum(own, following)[:, 2:] - np.maximum(own, following)[:, :2]
        share = np.where((here != there) & (sides <= 0).any(1), share.round(), share)
        return after, np.where(tubes[there] < 0, 0, share).astype(np.float32)

    def shown_masks(self, frames: np.ndarray, tubes: np.ndarray) -> np.ndarray:
        """Masks (n, H0, W0) bool, as `shown_boxes`."""
        shown = np.flatnonzero(tubes[self.locate(frames)[0]] >= 0)
        masks = np.zeros((len(frames), *self.size), bool)
        if len(shown):
            pasted = paste_binary_masks(*self._shown_grids(frames[shown], tubes), self.size)
            if len(shown) == len(frames):
                return pasted.numpy()
            masks[shown] = pasted.numpy()
        return masks

    def shown_crops(self, frames: np.ndarray, tubes: np.ndarray) -> Iterator[MaskCrop]:
        """The parts of the masks inside the boxes, of frames (n,) where somebody is shown."""
        for start in range(0, len(frames), CROPS_AT_ONCE):
            part = frames[start : start + CROPS_AT_ONCE]
            yield from paste_crops(*self._shown_grids(part, tubes), self.size)

    def _shown_grids(self, frames: np.ndarray, tubes: np.ndarray) -> tuple[Tensor, Tensor]:
        """Probabilities (n, g, g) and boxes (n, 4) of frames (n,) where somebody is shown."""
        grids, boxes = self._grids_at(frames, tubes), self._shown_boxes(frames, tubes)
        after, share = self._between(frames, tubes)
        moving = np.flatnonzero(share)
        if len(moving):
            following = self._grids_at(after[moving], tubes)
            weight = torch.from_numpy(share[moving])[:, None, None]
            grids[moving] = torch.lerp(grids[moving], following, weight)
        return grids, torch.from_numpy(boxes)

    def _grids_at(self, frames: np.ndarray, tubes: np.ndarray) -> Tensor:
        clips, indices = self.locate(frames)
        return torch.from_numpy(self.grids(clips, indices, tubes[clips])).float().div_(255)

    def spans(self, frames: range | None = None) -> Iterator[range]:
        """Each clip's share of the frames (all by default), where it has one."""
        frames = self.frames if frames is None else frames
        for _, first, end in self.windows.tolist():
            skipped = max(0, -(-(first - frames.start) // frames.step))
            span = range(frames.start + skipped * frames.step, min(end, frames.stop), frames.step)
            if len(span):
                yield span

    def video(self) -> FrameSource:
        """The frames it was made from.

        Raises:
            InputError: as `video_of`.
        """
        if self._given is not None:
            return self._given
        frames = open_frames(video_of(self.file))
        self.check(frames)
        return frames

    def check(self, frames: FrameSource) -> None:
        """Raises:
        InputError: these are not the frames that it was made from.
        """
        (h, w), (h0, w0), path = frames.size, self.size, self.file.path
        if (h, w) != (h0, w0):
            raise InputError(
                f"{frames.path} has frames of {w}x{h}, the index {path} is of a video of {w0}x{h0}"
            )
        identity = self.header.identity
        if identity is None:
            unchecked(path)
        advice = "give that video, or index this one"
        check_same(identity, frames, path, "the index", advice)

    def close(self) -> None:
        """Frees the file; the next read opens it again."""
        self.file.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        """Frees the file, and removes it where it lies in a temporary folder: read masks before."""
        self.close()
        if hasattr(self._owner, "cleanup"):
            self._owner.cleanup()

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "_owner": None, "_given": None}

    def __repr__(self) -> str:
        (h, w), selection = self.size, self.header.selection
        held = f"{self.header.frames} frames" if selection.whole else str(selection)
        return f"{type(self).__name__}({self.video_id!r}, {held} of {w}x{h})"


def video_of(file: IndexFile | GrowingIndex) -> Path:
    """Where the video of an index lies: where it lay, beside the index, or in the working
    directory, under its name.

    Raises:
        InputError: it is at none of these, or another video is.
    """
    header, stored = file.header, places.local_name(file.header.path)
    if header.identity is None and stored.exists():  # of an older version: it cannot be told
        return stored
    if not stored.exists():
        places.fetch(stored, missing_ok=True)
    there = [
        path
        for path in (stored, file.path.parent / stored.name, Path(stored.name))
        if path.exists()
    ]
    for path in there:
        if header.identity is not None and identity_of(path).equals(header.identity):
            return path
    others = f" (another one is at {there[0]})" if there else ""
    raise InputError(
        f"{file.path}: the frames of {header.video_id} ({header.path}) are not there, nor beside "
        f"the index or in the working directory{others}; give them as --video or video="
    )
