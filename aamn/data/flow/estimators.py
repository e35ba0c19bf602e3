"""Optical flow between neighbouring frames: where each pixel goes, in pixels of the grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np

from aamn.config.schema import FlowConfig
from proposals.frames import FrameSource, resize_frame

Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]

_DIS_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
_DIS_LEAST, _DIS_PATCH = 12, 8  # pixels of a side


def build_estimator(config: FlowConfig) -> Estimator:
    """A function of two frames (h, w, 3) uint8 RGB that returns the flow (2, h, w) float32, (x, y)
    pixels, from the first to the second.

    Raises:
        InputError: RAFT without its weights.
    """
    methods = {"dis": _dis, "farneback": _farneback, "raft": _raft}
    return methods[config.method](config)


def grid_size(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    """(h, w) of frames of `size` (H0, W0) shrunk so that the longer side has at most
    `longest_side` pixels (0: as they are)."""
    scale = min(1.0, longest_side / max(size)) if longest_side else 1.0
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize_flow(flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Flow (T, 2, h, w) on another grid (T, 2, *size), its values in pixels of the new one."""
    (h, w), (h1, w1) = flow.shape[2:], size
    if (h, w) == (h1, w1):
        return flow
    frames = [resize_frame(np.ascontiguousarray(one.transpose(1, 2, 0)), size) for one in flow]
    factors = np.array([w1 / w, h1 / h], np.float32)[:, None, None]
    return np.stack(frames).transpose(0, 3, 1, 2) * factors


def iterate_flow(frames: Iterable[np.ndarray], estimate: Estimator) -> Iterator[np.ndarray]:
    """Flow (2, h, w) float32 from each frame (h, w, 3) to its successor; the last frame repeats
    the flow before it, and a single frame has none (zeros)."""
    for _, flow in wanted_flow(frames, estimate, lambda number: True):
        yield flow


def wanted_flow(
    frames: Iterable[np.ndarray], estimate: Estimator, wanted: Callable[[int], bool]
) -> Iterator[tuple[int, np.ndarray]]:
    """`iterate_flow` of those frames alone whose numbers are wanted, each with its number."""
    earlier, before, flow, number = None, None, None, -1
    for number, frame in enumerate(frames):
        if before is not None:
            flow = estimate(before, frame) if wanted(number - 1) else None
            if flow is not None:
                yield number - 1, flow
        earlier, before = before, frame
    if before is None or not wanted(number):
        return
    if flow is None and earlier is not None:
        flow = estimate(earlier, before)
    yield number, np.zeros((2, *before.shape[:2]), np.float32) if flow is None else flow


def flow_between(frames: Iterable[np.ndarray], estimate: Estimator) -> np.ndarray:
    """`iterate_flow` of all frames at once: (n, 2, h, w) float32."""
    return np.stack(list(iterate_flow(frames, estimate)))


def window_flow(
    frames: FrameSource, indices: np.ndarray, size: tuple[int, int], estimate: Estimator
) -> np.ndarray:
    """Flow (T, 2, *size) of the frames at `indices` (T,), computed at `size`; the video's last
    frame repeats the flow before it, as in `flow_between`."""
    last = len(frames) - 1
    if last == 0:
        return np.zeros((len(indices), 2, *size), np.float32)
    starts, inverse = np.unique(np.minimum(indices, last - 1), return_inverse=True)
    needed = np.union1d(starts, starts + 1)
    pictures = {
        int(index): resize_frame(frame, size)
        for index, frame in zip(needed, frames.read(needed), strict=True)
    }
    flows = np.stack([estimate(pictures[int(i)], pictures[int(i) + 1]) for i in starts])
    return flows[inverse.reshape(-1)]


def _grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def _grown(grey: np.ndarray) -> np.ndarray:
    """The picture with its last row and column repeated up to the least size that DIS takes: of
    small pictures it chooses the coarsest scale by their width alone, and where that leaves less
    height than a patch has it reads and writes beside the picture."""
    h, w = grey.shape
    coarsest = 1 << int(math.log2(max(w, 20) / 20))
    least = max(_DIS_LEAST, min(4, coarsest) * _DIS_PATCH)
    below, beside = max(0, least - h), max(0, _DIS_LEAST - w)
    return cv2.copyMakeBorder(grey, 0, below, 0, beside, cv2.BORDER_REPLICATE)


def _dis(config: FlowConfig) -> Estimator:
    """Dense inverse search (Kroeger et al., ECCV 2016)."""
    search = cv2.DISOpticalFlow.create(_DIS_PRESETS[config.preset])

    def estimate(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        h, w = one.shape[:2]
        flow = search.calc(_grown(_grey(one)), _grown(_grey(two)), np.empty(0, np.float32))
        return np.ascontiguousarray(flow[:h, :w].transpose(2, 0, 1))

    return estimate


def _farneback(config: FlowConfig) -> Estimator:
    """Polynomial expansion (Farneback, SCIA 2003), with OpenCV's usual parameters."""

    def estimate(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        flow = cv2.calcOpticalFlowFarneback(
            _grey(one),
            _grey(two),
            np.empty(0, np.float32),
            pyr_scale=0.5,
            levels=4,
            winsize=15,
            iterations=3,
            poly_n=5,
            poly_sigma=1.2,
            flags=0,
        )
        return np.ascontiguousarray(flow.transpose(2, 0, 1))

    return estimate


def _raft(config: FlowConfig) -> Estimator:
    """RAFT (Teed and Deng, ECCV 2020) from torchvision; `weights` is "small", "large" or a file of
    either's state."""
    from aamn.data.flow.raft import RaftEstimator

    return RaftEstimator(config.weights)
