"""Reads what `writer` wrote: a segmenter and a detector whose networks are graphs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from aamn.config.loading import from_dict
from aamn.config.schema import Config
from aamn.config.untrusted import restricted
from aamn.data.words import Vocabulary, Words
from aamn.export.detector import GraphDetector, GraphRCNN
from aamn.export.graphs import open_graphs
from aamn.export.manifest import ADVICE, Manifest, read_manifest
from aamn.export.segmenter import GraphAAMN
from aamn.inference.checkpoint import Loaded
from aamn.inference.verdict import NoMatch, Probability, checked_number
from proposals.config import config_from_dict
from proposals.errors import InputError


@dataclass(frozen=True)
class ExportedParts:
    """A segmenter and a detector that graphs run, and when a sentence means nobody."""

    loaded: Loaded
    detector: GraphDetector
    no_match: NoMatch


def read_export(folder: Path | str, backend: str = "") -> ExportedParts:
    """What `aamn export` wrote, run by its own backend or another one.

    Raises:
        InputError: as `read_manifest` and `open_graphs`, or a setting of the record is damaged.
    """
    manifest = read_manifest(folder)
    graphs = open_graphs(manifest.files, backend or manifest.backend)
    threshold = manifest.absent_threshold
    if threshold is not None:
        threshold = checked_number(threshold, f"{manifest.path}: absent_threshold")
    line = Probability.read(manifest.probability, f"{manifest.path}: probability")
    try:
        own = manifest.segmenter
        config = restricted(
            from_dict(Config, own["config"], str(manifest.path)), str(manifest.path)
        )
        segmenter = GraphAAMN(
            config.aamn,
            _words(manifest, config.words.dimension),
            graphs,
            str(own["model"]),
            str(own["backbone"]),
        )
        loaded = Loaded(segmenter.eval(), config, int(own["iteration"]))
        found = manifest.detector
        settings = replace(config_from_dict(found["config"]), weights="", backbone_from="")
        network = GraphRCNN(settings, graphs)
        detector = GraphDetector(network, str(found["weights"]), str(found["backbone"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{manifest.path} is damaged ({error}){ADVICE}") from None
    return ExportedParts(loaded, detector, NoMatch(threshold, line))


def _words(manifest: Manifest, dimension: int) -> Words:
    """The vocabulary; the words' rows are in the graph."""
    with torch.device("meta"):
        return Words(Vocabulary.from_state(manifest.vocabulary), dimension)
