"""A video's frames on their way into the networks, each with its flow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from aamn.data.flow.estimators import build_estimator, resize_flow, wanted_flow
from aamn.data.samples import pad_to_network
from aamn.index.job import IndexJob
from aamn.index.timer import Timer
from aamn.structures import Geometry
from proposals.frames import resize_frame


@dataclass(frozen=True)
class Picture:
    """A frame on its way in: original (H0, W0, 3) and picture (h, w, 3) uint8, flow (2, h, w)
    where it is computed here."""

    original: np.ndarray
    picture: np.ndarray
    flow: np.ndarray | None


class FrameReader:
    """Reads a job's video in order, at the network's size."""

    def __init__(self, job: IndexJob, timer: Timer) -> None:
        self.job, self.timer, self.input_spec = job, timer, job.segmenter.input_spec
        self.geometry = Geometry.fit(job.frames.size, self.input_spec.network_size)

    def pictures(self, span: range) -> Iterator[Picture]:
        """These of every `job.every`-th frame in order, as far as there are any, each with its flow
        where this is computed here."""
        every = self.job.every
        wanted = range(span.start * every, span.stop * every, every)
        if self.input_spec.flow and self.job.flow is None:
            yield from self._with_flow(wanted)
            return
        for frame, picture in self._resized(wanted):
            yield Picture(frame, picture, None)

    def _with_flow(self, wanted: range) -> Iterator[Picture]:
        """The wanted frames, each with its flow."""
        first = max(0, wanted.start - 1)  # whose flow may be the last frame's, too
        seen: deque[tuple[int, np.ndarray, np.ndarray]] = deque()
        search = build_estimator(self.job.flow_config)

        def resized() -> Iterator[np.ndarray]:
            span = range(first, wanted.stop - wanted.step + 2)  # with the frame after the last
            for number, pair in enumerate(self._resized(span)):
                seen.append((number, *pair))
                yield pair[1]

        def estimate(one: np.ndarray, two: np.ndarray) -> np.ndarray:
            with self.timer.of("flow"):
                return search(one, two)

        for number, flow in wanted_flow(resized(), estimate, lambda n: first + n in wanted):
            while seen[0][0] < number:
                seen.popleft()
            yield Picture(*seen.popleft()[1:], flow)

    def _resized(self, span: range) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """These frames as they are and at the content's size, as far as there are any."""
        frames = self.job.frames.iterate(span.start, span.stop, span.step)
        while True:
            with self.timer.of("decoding"):
                frame = next(frames, None)
                if frame is None:
                    return
                pair = frame, resize_frame(frame, self.geometry.content_size)
            yield pair

    def images(self, block: Sequence[Picture], indices: np.ndarray) -> dict[str, Tensor]:
        """The streams' inputs, as `load_clip` makes them."""
        images = {}
        if "rgb" in self.job.segmenter.inputs:
            pictures = torch.from_numpy(np.stack([one.picture for one in block]))
            images["rgb"] = pad_to_network(pictures.permute(0, 3, 1, 2), self.geometry).div_(255)
        if self.input_spec.flow:
            if self.job.flow is None:
                flow = np.stack([cast(np.ndarray, one.flow) for one in block])
            else:
                stored = self.job.flow.window(self.job.video_id, indices)
                flow = resize_flow(stored, self.geometry.content_size)
            images["flow"] = pad_to_network(torch.from_numpy(flow), self.geometry)
        return images
