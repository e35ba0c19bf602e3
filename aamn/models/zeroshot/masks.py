"""Where masks come from: the COCO detector's own mask head, or, for a detector without one, the
colours inside and around the box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN

from aamn.models.zeroshot.views import SMALL, cut
from proposals.backbones import weights_hash

AROUND = 0.2  # of the box's sides: what is looked at around it
ROUNDS = 3  # of GrabCut
LEAST, MOST = 0.08, 0.95  # shares of the box that a plausible mask covers
SURE = 4.0  # logit of a mask without doubts


class MaskSource(Protocol):
    """What finds masks in boxes."""

    def __call__(self, maps: Sequence[Tensor], frames: Tensor, boxes: Tensor) -> Tensor:
        """Logits (N, 28, 28) over boxes (N, 4), network pixels, of frames (N,) of the maps, whose
        last is the frames themselves."""


class RCNNParts(nn.Module):
    """The backbone and the two heads of torchvision's Mask R-CNN, on squares of stage two; the
    detector that finds the boxes is the same network."""

    def __init__(self, rcnn: MaskRCNN) -> None:
        super().__init__()
        self.rcnn = rcnn
        self.mean: Tensor
        self.std: Tensor
        images = rcnn.transform
        for name, values in (("mean", images.image_mean), ("std", images.image_std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    @property
    def backbone_hash(self) -> str:
        """As the detector's."""
        return weights_hash(self.rcnn.backbone)

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """The pyramid's four maps of frames (N, 3, S, S), the finest first."""
        found = self.rcnn.backbone((images - self.mean) / self.std)
        return tuple(found[name] for name in found if name != "pool")

    def classify(self, maps: Sequence[Tensor], frames: Tensor, boxes: Tensor) -> Tensor:
        """(N, C): what the box head takes boxes (N, 4) of frames (N,) for, without background."""
        heads = self.rcnn.roi_heads
        pooled = self._pool(heads.box_roi_pool, maps, frames, boxes)
        logits, _ = heads.box_predictor(heads.box_head(pooled))
        return logits.float().softmax(1)[:, 1:]

    def forward(self, maps: Sequence[Tensor], frames: Tensor, boxes: Tensor) -> Tensor:
        """The mask head's logits for the class that the box head finds."""
        heads = self.rcnn.roi_heads
        if not len(boxes):
            return boxes.new_zeros(0, SMALL, SMALL)
        labels = self.classify(maps, frames, boxes).argmax(1) + 1
        pooled = self._pool(heads.mask_roi_pool, maps, frames, boxes)
        logits = heads.mask_predictor(heads.mask_head(pooled))
        return logits[torch.arange(len(labels), device=labels.device), labels].float()

    def _pool(
        self, pool: Callable[..., Tensor], maps: Sequence[Tensor], frames: Tensor, boxes: Tensor
    ) -> Tensor:
        """RoIAlign (N, C, s, s) in full precision, in the order of the boxes."""
        levels = maps[:-1]  # the last one are the frames
        order = frames.argsort(stable=True)
        counts = torch.bincount(frames, minlength=len(levels[0])).tolist()
        features = {str(number): level.float() for number, level in enumerate(levels)}
        sizes = [tuple(maps[-1].shape[-2:])] * len(counts)
        with torch.autocast(boxes.device.type, enabled=False):
            found = pool(features, list(boxes[order].float().split(counts)), sizes)
        return found[order.argsort()]


def ellipse(maps: Sequence[Tensor], frames: Tensor, boxes: Tensor) -> Tensor:
    """The ellipse in the box, softly."""
    steps = torch.linspace(-1, 1, SMALL, device=boxes.device)
    logits = SURE * (1 - (steps[:, None].square() + steps.square()))
    return logits.expand(len(boxes), -1, -1)


def grabcut(maps: Sequence[Tensor], frames: Tensor, boxes: Tensor) -> Tensor:
    """GrabCut (Rother et al., SIGGRAPH 2004) inside each box, whose surroundings are background; a
    mask that covers nearly nothing or all gives way to the ellipse."""
    around = (boxes[:, 2:] - boxes[:, :2]) * AROUND
    wide = torch.cat([boxes[:, :2] - around, boxes[:, 2:] + around], 1)
    crops = cut(maps[-1], frames, wide, 2 * SMALL).permute(0, 2, 3, 1)
    pixels = (crops * 255).round().byte().cpu().numpy()
    found = torch.zeros(len(pixels), SMALL, SMALL)
    for number, one in enumerate(pixels):
        found[number] = torch.from_numpy(_foreground(np.ascontiguousarray(one)))
    logits = SURE * (2 * found.to(boxes.device) - 1)
    covered = found.mean((1, 2))
    plausible = ((covered > LEAST) & (covered < MOST)).to(boxes.device)
    return torch.where(plausible[:, None, None], logits, ellipse(maps, frames, boxes))


def _foreground(pixels: np.ndarray) -> np.ndarray:
    """(28, 28) float32 in [0, 1] over the box in the middle of pixels (56, 56, 3) uint8."""
    side = len(pixels)
    margin = round(side * AROUND / (1 + 2 * AROUND))
    inside = slice(margin, side - margin)
    marks = np.full((side, side), cv2.GC_BGD, np.uint8)
    marks[inside, inside] = cv2.GC_PR_FGD
    models = np.zeros((2, 1, 65))
    cv2.setRNGSeed(0)
    nowhere = (0, 0, 1, 1)  # the rectangle that marks stand for
    cv2.grabCut(pixels, marks, nowhere, models[0], models[1], ROUNDS, cv2.GC_INIT_WITH_MASK)
    mask = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return cv2.resize(mask[inside, inside], (SMALL, SMALL), interpolation=cv2.INTER_AREA)


COLOUR_MASKS: dict[str, MaskSource] = {"grabcut": grabcut, "ellipse": ellipse}
