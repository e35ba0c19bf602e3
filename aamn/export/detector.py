"""A detector whose networks are graphs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from aamn.export.graphs import Graph
from aamn.export.parts import DETECTOR_HEADS, DETECTOR_TRUNK, map_names
from proposals.config import DetectorConfig
from proposals.detector import TorchDetector
from proposals.errors import InputError
from proposals.store import Attributes
from proposals.torchvision_rcnn import TorchvisionRCNN


class GraphRCNN(TorchvisionRCNN):
    """A Faster R-CNN whose layers are there without memory; graphs do their work."""

    def __init__(self, config: DetectorConfig, graphs: Mapping[str, Graph]) -> None:
        with torch.device("meta"):
            super().__init__(config)
        self.graphs = graphs

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The backbone's maps of prepared images (B, 3, h, w), the finest first."""
        return self.graphs[DETECTOR_TRUNK]({"images": images})

    def regions(
        self, images: ImageList, features: dict[str, Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """What both heads find on the features of each image, one after another."""
        names, found = map_names("detector", len(features)), []
        for place, size in enumerate(images.image_sizes):
            maps = [one[place : place + 1] for one in features.values()]
            inputs = dict(zip(names, maps, strict=True))
            inputs |= {"image": images.tensors[place : place + 1], "content": torch.tensor(size)}
            outputs = self.graphs[DETECTOR_HEADS](inputs)
            found.append((outputs["boxes"], outputs["scores"]))
        return found


class GraphDetector(TorchDetector):
    """A detector as `aamn export` wrote it, behind the Detector protocol."""

    def __init__(
        self, network: GraphRCNN, weights: str, backbone: str, precision: str = "float32"
    ) -> None:
        """`weights` and `backbone` are the hashes of the network that was exported."""
        self.network, self._form, self.precision = network.eval(), network, precision
        self._dtype, self._cast, self._backbone_hash = torch.float32, False, backbone
        config = network.config
        self.attributes = Attributes(
            detector=config.name,
            weights=weights,
            classes=config.classes,
            settings={**config.settings(), "precision": precision},
        )

    @property
    def backbone_hash(self) -> str:
        """That of the backbone that was exported."""
        return self._backbone_hash

    def computing_in(self, precision: str) -> TorchDetector:
        """Itself.

        Raises:
            InputError: another precision than its own.
        """
        if precision != self.precision:
            raise InputError(f"precision {precision}: this export computes in {self.precision}")
        return self
