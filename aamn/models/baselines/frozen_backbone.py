"""The part of I3D that does not learn, and the folder that keeps what it computed."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import h5py
import torch
from torch import Tensor, nn

from proposals.files import hdf5_aside

log = logging.getLogger("aamn")


class FrozenBackbone(nn.Module):
    """Layers that never learn: always in evaluation mode, without gradients.

    (N, C, T, H, W) -> (N, C', T', h, w).
    """

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> FrozenBackbone:
        return super().train(False)

    @torch.no_grad()
    def forward(self, video: Tensor) -> Tensor:
        return self.layers(video)

    def forget(self) -> None:
        """To be called when the weights have changed."""


class CachedBackbone(FrozenBackbone):
    """A frozen backbone that computes each clip once and keeps it in `folder`, half precision.

    One HDF5 file a clip, `<hash of the layers>/<hash of the clip's pixels>.h5`: other weights,
    another size or an augmented clip is another file, so that a stale one is never read. A file
    appears under its name only when it is whole. Fresh features are rounded as stored ones are, so
    that the first epoch and the later ones see the same numbers.
    """

    def __init__(self, layers: nn.Sequential, folder: str | Path) -> None:
        super().__init__(layers)
        self.folder = Path(folder)
        self._weights_hash = ""
        self.register_load_state_dict_post_hook(_forget)

    @torch.no_grad()
    def forward(self, video: Tensor) -> Tensor:
        return torch.stack([self._features(clip) for clip in video])

    def weights_hash(self) -> str:
        """Sixteen hexadecimal digits that change with any weight and any normalisation's eps."""
        if not self._weights_hash:
            digest = hashlib.blake2b(digest_size=8)
            for name, value in self.layers.state_dict().items():
                digest.update(name.encode() + value.double().cpu().numpy().tobytes())
            norms = [part for part in self.layers.modules() if isinstance(part, nn.BatchNorm3d)]
            digest.update(repr([norm.eps for norm in norms]).encode())
            self._weights_hash = digest.hexdigest()
            log.info("backbone features are kept in %s", self.folder / self._weights_hash)
        return self._weights_hash

    def path(self, clip: Tensor) -> Path:
        """Where the features of a clip (C, T, H, W) lie."""
        pixels = clip.detach().float().cpu().contiguous().numpy()
        digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
        digest.update(pixels.data)
        return self.folder / self.weights_hash() / f"{digest.hexdigest()}.h5"

    def _features(self, clip: Tensor) -> Tensor:
        path = self.path(clip)
        features = _read(path) if path.exists() else None
        if features is None:
            features = super().forward(clip[None])[0].half().cpu()
            _write(path, features)
        return features.to(clip)

    def forget(self) -> None:
        self._weights_hash = ""


def _forget(backbone: CachedBackbone, _incompatible: object) -> None:
    backbone.forget()


def _read(path: Path) -> Tensor | None:
    """Features (C', T', h, w) float16, or None when the file cannot be read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return torch.from_numpy(file["features"][()])
    except (OSError, KeyError):
        log.warning("%s is damaged; its features are computed again", path)
        return None


def _write(path: Path, features: Tensor) -> None:
    """Writes the features beside their place and moves them there when they are whole."""
    with hdf5_aside(path, durable=False) as file:
        file.create_dataset("features", data=features.numpy(), compression="lzf")


def build_frozen_backbone(layers: nn.Sequential, cache: str) -> FrozenBackbone:
    """The backbone, with the folder `cache` when one is named."""
    return CachedBackbone(layers, cache) if cache else FrozenBackbone(layers)
