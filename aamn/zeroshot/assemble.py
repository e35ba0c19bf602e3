"""Puts the zero-shot system together: its public parts, found or downloaded, behind one door."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN

from aamn.config.loading import load_config
from aamn.config.recipes import recipe_names
from aamn.config.schema import Config
from aamn.config.zeroshot import ZeroShotConfig
from aamn.data.word_vectors import open_vectors
from aamn.data.words import Vocabulary, Words, load_vectors, words_kind
from aamn.inference.checkpoint import Loaded
from aamn.inference.verdict import NoMatch
from aamn.models.zeroshot.adapted import Adapted
from aamn.models.zeroshot.attributes import Attributes, table_words
from aamn.models.zeroshot.image_text import ImageText, ImageTextModel, read_image_text
from aamn.models.zeroshot.masks import RCNNParts
from aamn.models.zeroshot.segmenter import ZeroShot
from aamn.zeroshot.weights import find_detector, find_image_text
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.detector import TorchDetector
from proposals.errors import InputError
from proposals.limits import check_bytes
from proposals.torchvision_rcnn import MASKED, TorchvisionRCNN, published_classes

log = logging.getLogger("aamn")

NAME = "zeroshot"  # of the recipes, and of what is given in place of a bundle
WITHOUT_VECTORS = 1  # numbers of a word where no file of vectors is named


@dataclass(frozen=True)
class ZeroShotParts:
    """The segmenter, the detector that it shares its backbone with (None: boxes come from a file),
    and the score below which a sentence has no match (None: any is one)."""

    loaded: Loaded
    detector: TorchDetector | None
    absent_threshold: float | None

    @property
    def no_match(self) -> NoMatch:
        """The same as a calibration."""
        return NoMatch(self.absent_threshold)


def is_zeroshot(name: Path | str) -> bool:
    """Whether what is given in place of a bundle names one of the zero-shot recipes: "zeroshot",
    "zeroshot_attributes", ... A folder of that name is a bundle."""
    text = str(name)
    return text.startswith(NAME) and text in recipe_names() and not Path(text).exists()


def load_zeroshot(
    name: str = NAME,
    device: torch.device | str = "cpu",
    config_file: Path | str | None = None,
    overrides: Sequence[str] = (),
    weights: Path | None = None,
) -> ZeroShotParts:
    """The system of a zero-shot recipe.

    Args:
        config_file: another recipe than `name`'s.
        overrides: values of it, as --set has them.
        weights: a folder with the public weights; None: the caches, or the network.

    Raises:
        InputError: a recipe of another system, weights that are not there or are others than the
            pinned ones, an extra that is not installed, not enough memory.
    """
    config = load_config(Config, config_file or name, overrides)
    if config.system != NAME:
        raise InputError(f"{config_file}: is of the system {config.system}, wanted {NAME}")
    return put_together(config, device, weights)


def complete(loaded: Loaded, weights: Path | None = None) -> ZeroShotParts:
    """A checkpoint's segmenter, with the public parts that it stands on where it has such, and the
    detector among these.

    Raises:
        InputError: as `load_zeroshot`.
    """
    segmenter = loaded.segmenter
    if not isinstance(segmenter, Adapted):
        return ZeroShotParts(loaded, None, None)
    words = replace(loaded.config.words, vectors=_there(loaded.words.vectors))
    parts = put_together(replace(loaded.config, words=words), segmenter.device, weights)
    segmenter.attach(cast(ZeroShot, parts.loaded.segmenter))
    return ZeroShotParts(loaded, parts.detector, None)


def _there(vectors: str) -> str:
    """The file of word vectors, if it is at hand."""
    if vectors and not Path(vectors).is_file():
        log.warning("no word vectors at %s: nouns mean the classes of that name alone", vectors)
        return ""
    return vectors


def put_together(
    config: Config, device: torch.device | str = "cpu", weights: Path | None = None
) -> ZeroShotParts:
    """The zero-shot system of a configuration, from public weights; `weights` as in
    `load_zeroshot`, before `zeroshot.published.folder`.

    Raises:
        InputError: as `load_zeroshot`.
    """
    folder = config.zeroshot.published.folder
    weights = weights or (Path(folder) if folder else None)
    if weights is not None and not weights.is_dir():
        raise InputError(f"--weights {weights}: no folder there")
    detector = _detector(config.zeroshot, weights)
    model = _image_text(config.zeroshot, weights)
    try:
        parts = assemble(config, detector, model)
        parts.loaded.segmenter.to(device)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        reason = str(error).partition("\n")[0]
        raise InputError(f"not enough memory on {device} for {config.name} ({reason})") from None
    return parts


def assemble(
    config: Config,
    network: TorchvisionRCNN | None = None,
    model: tuple[ImageTextModel, str] | None = None,
) -> ZeroShotParts:
    """The system of given parts: a detector with a mask head, and an image-text model with what
    tells it from others.

    Raises:
        InputError: a part that the configuration wants lacks.
    """
    own = config.zeroshot
    if network is not None:
        own = replace(own, classes=network.config.classes)
    words = _words(config, own)
    describers: dict[str, nn.Module] = {}
    for name in own.describers.split("+"):
        if name == "attributes":
            describers[name] = Attributes(own, words)
        elif model is None:
            raise InputError("zeroshot.describers wants an image-text model, none is given")
        else:
            describers[name] = ImageText(own, *model)
    rcnn = None if network is None else RCNNParts(cast(MaskRCNN, network.rcnn))
    segmenter = ZeroShot(own, words, describers, rcnn).eval().requires_grad_(False)
    loaded = Loaded(segmenter, replace(config, zeroshot=own), 0)
    detector = None if network is None else TorchDetector(network)
    return ZeroShotParts(loaded, detector, own.absent_threshold)


def _words(config: Config, own: ZeroShotConfig) -> Words:
    """The tables' words, with vectors where the configuration names a file of them."""
    settings = config.words
    dimension = WITHOUT_VECTORS
    if settings.vectors:
        dimension = open_vectors(settings.vectors, settings.allow_pickle).dimension
    vocabulary = Vocabulary(table_words(own.classes), settings.max_words)
    words = words_kind(config)(vocabulary, dimension, settings.vectors, settings.allow_pickle)
    with torch.no_grad():
        words.weight.zero_()
        if settings.vectors:
            found = load_vectors(settings.vectors, vocabulary.words, settings.allow_pickle)
            words.weight.copy_(torch.from_numpy(found.vectors * found.known[:, None]))
    return words


def _detector(config: ZeroShotConfig, weights: Path | None) -> TorchvisionRCNN | None:
    """The pinned Mask R-CNN, on the squares that the segmenter sees."""
    if config.masks != "rcnn":
        return None
    found = find_detector(config.published, weights)
    settings = DetectorConfig(
        name=MASKED, weights=str(found.path), classes=published_classes(), square=config.size
    )
    return cast(TorchvisionRCNN, build_detector(settings).eval())


def _image_text(config: ZeroShotConfig, weights: Path | None) -> tuple[ImageTextModel, str] | None:
    if "image_text" not in config.describers:
        return None
    found = find_image_text(config.published, weights)
    check_bytes((found.path / "model.safetensors").stat().st_size, str(found.path))
    return read_image_text(found.path), found.sha256
