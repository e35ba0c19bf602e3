"""Text-based video segmentation with actor and action modular networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aamn.version import __version__ as __version__

if TYPE_CHECKING:
    import torch

    from aamn.predictor import VideoSegmenter


def load(path: Path | str, device: torch.device | str | None = None) -> VideoSegmenter:
    """The detector and the segmenter of a bundle (`aamn bundle`), on a GPU where there is
    one.

    Raises:
        InputError: no bundle, or one that cannot be read.
    """
    from aamn.predictor import load_bundle

    return load_bundle(path, device)
