"""RAFT (Teed and Deng, ECCV 2020) as torchvision has it, as a flow estimator."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import get_worker_info
from torchvision.models.optical_flow import (
    Raft_Large_Weights,
    Raft_Small_Weights,
    raft_large,
    raft_small,
)

from proposals.errors import InputError
from proposals.weights import read_tensors

_MODELS = {
    "small": (raft_small, Raft_Small_Weights.DEFAULT),
    "large": (raft_large, Raft_Large_Weights.DEFAULT),
}
_STRIDE = 8  # sides must be multiples of it
_SMALLEST = 128  # the coarsest of its correlation volumes must not vanish


@lru_cache(maxsize=1)
def load_raft(weights: str) -> nn.Module:
    """RAFT with the published weights "small" or "large", which are downloaded, or those of a
    file, on the GPU where there is one; in a loading process on the CPU, because the GPU cannot be
    used in a process that was forked from one which uses it.

    Raises:
        InputError: the weights cannot be had.
    """
    if weights in _MODELS:
        build, published = _MODELS[weights]
        try:
            model = build(weights=published)
        except (URLError, OSError, RuntimeError) as error:
            raise InputError(
                f"RAFT's {weights} weights could not be downloaded ({error}); get "
                f"{published.url}, set flow.weights to the file, or set flow.method=dis"
            ) from None
    else:
        model = _from_file(weights)
    gpu = torch.cuda.is_available() and get_worker_info() is None
    return model.eval().to("cuda" if gpu else "cpu")


def _from_file(weights: str) -> nn.Module:
    if not weights or not Path(weights).is_file():
        raise InputError(
            f"flow.weights: wanted small, large or a file of either for RAFT, got {weights!r}; "
            "--set flow.weights=FILE names it"
        )
    state = read_tensors(weights, advice="; flow.weights names it")
    for build, _ in _MODELS.values():
        model = build()
        if isinstance(state, dict) and model.state_dict().keys() == state.keys():
            model.load_state_dict(state)
            return model
    raise InputError(f"{weights} fits neither of torchvision's raft_small and raft_large")


class RaftEstimator:
    """Flow (2, h, w) float32 pixels from one frame (h, w, 3) uint8 to another."""

    def __init__(self, weights: str) -> None:
        self.model = load_raft(weights)

    @torch.inference_mode()
    def __call__(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        h, w = one.shape[:2]
        size = tuple(max(_SMALLEST, _STRIDE * round(n / _STRIDE)) for n in (h, w))
        device = next(self.model.parameters()).device
        flow = self.model(_picture(one, size, device), _picture(two, size, device))[-1]
        flow = interpolate(flow, (h, w), mode="bilinear", align_corners=False)[0]
        factors = flow.new_tensor([w / size[1], h / size[0]])[:, None, None]
        return (flow * factors).cpu().numpy()


def _picture(frame: np.ndarray, size: tuple[int, int], device: torch.device) -> Tensor:
    """The frame (1, 3, *size) in [-1, 1]."""
    picture = torch.from_numpy(np.ascontiguousarray(frame)).to(device).permute(2, 0, 1)[None]
    picture = picture / 127.5 - 1
    return interpolate(picture, size, mode="bilinear", align_corners=False, antialias=True)
