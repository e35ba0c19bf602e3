"""The Detector protocol (frames in, ranked boxes out) and its checkpoint.

A detector of your own needs `attributes` and `detect`; or write its boxes with
`write_proposals`, without any of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from proposals.backbones import weights_hash
from proposals.config import DetectorConfig, config_to_dict
from proposals.errors import InputError
from proposals.inference_form import inference_form
from proposals.store import Attributes
from proposals.weights import save_tensors

CHECKPOINT_FORMAT = "aamn-detector"
CHECKPOINT_VERSION = 1
DETECTRON2 = "detectron2_"  # prefix of the names that detectron2_rcnn.py builds


@dataclass(frozen=True)
class FrameDetections:
    """One frame's boxes (n, 4) float32 xyxy in pixels of the original frame and inside it, scores
    (n,) float32 falling, labels (n,) int64: places in the detector's classes."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class Detector(Protocol):
    """What extraction drives; `attributes` is stored with the boxes."""

    attributes: Attributes

    def detect(self, frames: Sequence[np.ndarray]) -> list[FrameDetections]:
        """The boxes of each frame, uint8 RGB (H0, W0, 3), all of one size; an InputError means that
        it cannot take frames such as these."""


class TrainableDetector(nn.Module):
    """What both families share: a network, its configuration, and losses to fine-tune it by."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def backbone(self) -> nn.Module:
        """The layers below the heads."""
        raise NotImplementedError

    def freeze(self, trainable: int) -> None:
        """Lets only the top `trainable` stages of the backbone learn; 0: none of them."""
        raise NotImplementedError

    def losses(
        self, frames: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Named losses of a batch: frames uint8 (3, H0, W0), boxes (n, 4), labels (n,) int64."""
        raise NotImplementedError

    def predict(self, frames: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes, scores and labels of each of the frames (B, 3, H0, W0) uint8, best first."""
        raise NotImplementedError

    def predict_from(
        self, images: Tensor, maps: Sequence[Tensor], size: tuple[int, int]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The same from the backbone's maps, finest first, of squares `images` (B, 3, S, S) into
        which the frames of `size` (H0, W0) were fitted."""
        raise NotImplementedError

    def in_bfloat16(self) -> TrainableDetector:
        """Its inference form, with the layers that take long in bfloat16, on a CPU.

        Raises:
            InputError: a family that has none.
        """
        raise InputError(f"{self.config.name}: precision bfloat16 needs a GPU; use float32")


class TorchDetector:
    """A TrainableDetector behind the Detector protocol, in its inference form."""

    def __init__(self, network: TrainableDetector, precision: str = "float32") -> None:
        """`precision` is float32, bfloat16 or float16, which needs a GPU. `network` stays as it
        is; what it learns later is not seen here.

        Raises:
            InputError: float16 without a GPU, or another name.
        """
        names = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
        if precision not in names:
            raise InputError(f"precision {precision!r}: wanted one of {', '.join(names)}")
        on_gpu = network.device.type == "cuda"
        if precision == "float16" and not on_gpu:
            raise InputError(f"precision {precision} needs a GPU; use float32")
        self.network, self.precision = network.eval(), precision
        self._dtype, self._cast = names[precision], on_gpu and precision != "float32"
        whole = on_gpu or precision == "float32"
        self._form = inference_form(network) if whole else network.in_bfloat16()
        config = network.config
        self.attributes = Attributes(
            detector=config.name,
            weights=weights_hash(network),
            classes=config.classes,
            settings={**config.settings(), "precision": precision},
        )

    @torch.inference_mode()
    def detect(self, frames: Sequence[np.ndarray]) -> list[FrameDetections]:
        """The boxes of each frame, uint8 RGB (H0, W0, 3), all of one size.

        Raises:
            InputError: scaled to the network's size a side of them would vanish.
        """
        _check_shape(frames[0].shape, self.network.config)
        device = self.network.device
        batch = torch.from_numpy(np.stack(frames)).to(device).permute(0, 3, 1, 2)
        with torch.autocast(device.type, self._dtype, enabled=self._cast):
            found = self._form.predict(batch)
        return [_as_arrays(*one) for one in found]

    @property
    def square(self) -> int:
        """Pixels of the squares into which frames are fitted; 0 where they are not, or where
        float16 would make maps of the backbone that nobody else can use."""
        return self.network.config.square if self._dtype != torch.float16 else 0

    def computing_in(self, precision: str) -> TorchDetector:
        """The same network in another precision.

        Raises:
            InputError: as the constructor.
        """
        return self if precision == self.precision else TorchDetector(self.network, precision)

    @property
    def backbone_hash(self) -> str:
        """A hash of the weights below the heads."""
        return weights_hash(self.network.backbone)

    @torch.inference_mode()
    def detect_from(
        self, images: Tensor, maps: Sequence[Tensor], size: tuple[int, int]
    ) -> list[FrameDetections]:
        """The boxes of frames of `size` (H0, W0) from maps (B, C, h, w) of the backbone, finest
        first; images (B, 3, S, S) are what the backbone saw, in [0, 1]."""
        return [_as_arrays(*one) for one in self._form.predict_from(images, maps, size)]


def _check_shape(size: Sequence[int], config: DetectorConfig) -> None:
    short, long = sorted(size[:2])
    if not config.square and short * config.max_size / long < 1:
        raise InputError(
            f"frames of {size[1]}x{size[0]} pixels are too narrow for the detector, which scales "
            f"their longer side to {config.max_size}; crop them"
        )


def _as_arrays(boxes: Tensor, scores: Tensor, labels: Tensor) -> FrameDetections:
    return FrameDetections(
        boxes.float().cpu().numpy(), scores.float().cpu().numpy(), labels.cpu().numpy()
    )


def rank_boxes(
    boxes: Tensor, scores: Tensor, frame_size: tuple[int, int], config: DetectorConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """What is kept of one frame: each RoI with its best class, class-agnostic NMS, best first, so
    that the top K boxes are K different objects.

    boxes (n, C, 4) of each class in pixels of the frame (H0, W0); scores (n, C) of the C classes
    without background. Returns boxes (m, 4), scores (m,), labels (m,).
    """
    from torchvision.ops import nms

    scores, labels = scores.float().max(dim=1)
    boxes = boxes.float()[torch.arange(len(labels), device=labels.device), labels]
    h0, w0 = frame_size
    boxes = torch.stack([boxes[:, 0::2].clamp(0, w0), boxes[:, 1::2].clamp(0, h0)], dim=2).flatten(
        1
    )
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = (scores > config.score_threshold) & (sides > 1).all(1) & boxes.isfinite().all(1)
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    best = nms(boxes, scores, config.nms_iou)[: config.boxes_per_frame]
    return boxes[best], scores[best], labels[best]


def save_detector(network: TrainableDetector, path: Path) -> None:
    """Writes a checkpoint that rebuilds itself, atomically."""
    save_tensors(
        {
            "format": CHECKPOINT_FORMAT,
            "version": CHECKPOINT_VERSION,
            "config": config_to_dict(network.config),
            "state": {key: value.cpu() for key, value in network.state_dict().items()},
        },
        path,
    )
