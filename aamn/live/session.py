"""What sentences mean in the last few clips of a stream. Memory does not grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from aamn.index.builder import header_of
from aamn.index.encoder import Encoder
from aamn.index.file import ClipBlock
from aamn.index.growing import GrowingIndex
from aamn.index.reader import FrameReader
from aamn.index.timer import Timer
from aamn.index.video_index import VideoIndex, VideoTrack
from aamn.inference.clip_by_clip import Window
from aamn.live.source import TakenClip
from aamn.predictor import VideoSegmenter
from proposals.errors import InputError
from proposals.frames import ImageList
from proposals.identity import Identity

NAME = "live"


@dataclass(frozen=True)
class LiveAnswer:
    """The tracks of the sentences through the last clips, of which `clip` is the newest; boxes
    (T, 4) and masks (T, H0, W0) in the newest, one of each a sentence."""

    clip: range
    tracks: tuple[VideoTrack, ...]
    boxes: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...]


class LiveSession:
    """Answers for each clip of a stream by the path through the last `window` clips.

    The sentences (`ask`) can be changed between any two clips.
    """

    def __init__(
        self,
        segmenter: VideoSegmenter,
        texts: str | Sequence[str],
        window: int = 8,
        precision: str = "float32",
        absent_threshold: float | None = None,
    ) -> None:
        """Raises:
        InputError: no sentence, one without a word, or boxes that come from a file.
        """
        self.segmenter, self.absent_threshold = segmenter, absent_threshold
        self.boxes, self.precision = segmenter.live_boxes(precision)
        self.blocks: deque[ClipBlock] = deque(maxlen=window)
        self._encoder: Encoder | None = None
        self.ask(texts)

    def ask(self, texts: str | Sequence[str]) -> None:
        """The sentences from the next clip on.

        Raises:
            InputError: no sentence, or one without a word; the old ones stay.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        self.segmenter.query_encoder.queries(texts)
        self.texts = texts

    @property
    def length(self) -> int:
        """Frames of a clip, T."""
        return len(self.segmenter.query_encoder.segmenter.input_spec.offsets)

    @torch.inference_mode()
    def answer(self, clip: TakenClip) -> LiveAnswer:
        """What the sentences mean now.

        Raises:
            InputError: frames of another size than those before, or of another shape or type.
        """
        encoder = self._encoder_of(clip)
        pictures = encoder.reader.pictures(range(self.length))
        known = encoder.encode(list(pictures), 0)
        key = self.segmenter.query_encoder.segmenter.input_spec.key
        block = encoder.clips(known, [Window(key, 0, self.length)], self.length)
        self.blocks.append(replace(block, windows=block.windows + clip.first))
        header = header_of(encoder.job, Identity("unknown", NAME))
        index = VideoIndex(GrowingIndex(header, self.blocks), self.segmenter.query_encoder)
        tracks = index.query(self.texts, absent_threshold=self.absent_threshold)
        newest = range(clip.first, clip.first + self.length)
        return LiveAnswer(
            newest,
            tuple(tracks),
            tuple(track.boxes(newest) for track in tracks),
            tuple(track.masks(newest) for track in tracks),
        )

    def _encoder_of(self, clip: TakenClip) -> Encoder:
        """The one encoder of the stream, which is given the clip's frames."""
        frames = ImageList(clip.frames, Path(NAME))
        if self._encoder is None:
            query_encoder = self.segmenter.query_encoder
            job = query_encoder.job(NAME, frames, self.boxes, precision=self.precision)
            job.segmenter.eval()
            self._encoder = Encoder(job, FrameReader(job, Timer()), Timer())
        encoder = self._encoder
        if frames.size != encoder.job.frames.size:
            (h, w), (h0, w0) = frames.size, encoder.job.frames.size
            raise InputError(f"{NAME}: a frame of {w}x{h} after frames of {w0}x{h0}")
        encoder.reader = FrameReader(replace(encoder.job, frames=frames), encoder.timer)
        return encoder
