"""Writes the networks of a bundle as graphs, with their record."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch

from aamn.config.loading import to_dict
from aamn.data.word_vectors import open_vectors
from aamn.data.words import Words, first_words
from aamn.export.graphs import ONNXRUNTIME
from aamn.export.manifest import FORMAT, RECORD, VERSION
from aamn.export.onnx_files import described, write_onnx
from aamn.export.parts import Part, detector_parts, segmenter_parts
from aamn.index.job import model_hash
from aamn.inference.checkpoint import Loaded
from aamn.inference.verdict import UNCALIBRATED, NoMatch
from aamn.models.aamn import AAMN
from aamn.version import __version__
from proposals.backbones import weights_hash
from proposals.config import config_to_dict
from proposals.detector import TorchDetector
from proposals.errors import InputError
from proposals.files import file_hash, locked, write_json, written_aside
from proposals.inference_form import inference_form
from proposals.outputs import check_output
from proposals.torchvision_rcnn import TorchvisionRCNN

MOST_WORDS = 50_000  # of a file of vectors
_NAMES = r"(detector|stream|regions)_[a-z]+|tubes|masks|sentences"
_OWN = re.compile(  # names of an export's files, and what they are called while they are written
    rf"\.?(({_NAMES})(-[0-9a-f]{{8}})?\.onnx|vocabulary(-[0-9a-f]{{8}})?\.json)(\.\S*\.tmp)?"
)


def write_export(
    out: Path,
    loaded: Loaded,
    detector: TorchDetector,
    no_match: NoMatch = UNCALIBRATED,
    sources: dict[str, str] | None = None,
) -> None:
    """Writes the parts of a segmenter and a detector, the vocabulary and, last of all, the record.

    Args:
        loaded: on the CPU; its vocabulary takes all words of its file of vectors along.
        sources: SHA-256 of the files that they come from, by name.

    Raises:
        InputError: they are of a kind that is not exported, onnx is not installed, or `out` cannot
            be written.
    """
    segmenter, network = loaded.segmenter, detector.network
    if type(segmenter) is not AAMN:
        raise InputError(f"aamn export takes the system aamn, not {type(segmenter).__name__}")
    if not isinstance(network, TorchvisionRCNN):
        raise InputError(f"aamn export takes torchvision's detectors, not {network.config.name}")
    check_output(out, folder=True)
    _learn_all(loaded.words)
    with locked(out / ".lock", out):
        suffix = f"-{token_hex(4)}" if (out / RECORD).exists() else ""  # that one stays until then
        record = {
            "format": FORMAT,
            "version": VERSION,
            "made_with": {"aamn": __version__, "torch": torch.__version__},
            "backend": ONNXRUNTIME,
            "sources": sources or {},
            "absent_threshold": no_match.threshold,
            "probability": no_match.probability and vars(no_match.probability),
            "segmenter": _segmenter_record(loaded, segmenter),
            "detector": _detector_record(network),
            "vocabulary": _write_vocabulary(loaded.words, out / f"vocabulary{suffix}.json"),
            "parts": {
                **_write(segmenter_parts(inference_form(segmenter)), out, suffix),
                **_write(detector_parts(inference_form(network)), out, suffix),
            },
        }
        write_json(out / RECORD, record, durable=True)  # from now on this is the export
        _sweep(out, record)


def _learn_all(words: Words) -> None:
    """Gives all words of the file of vectors their numbers: the graph's table does not grow."""
    if words.vectors and Path(words.vectors).is_file():
        file = open_vectors(words.vectors, words.allow_pickle)
        words.learn(first_words(file, MOST_WORDS))


def _sweep(out: Path, record: dict[str, Any]) -> None:
    """Removes the files of exports before, and what their killed makers have left, and no other."""
    kept = {entry["file"] for entry in (*record["parts"].values(), record["vocabulary"])}
    for path in [*out.iterdir()]:
        if path.name not in kept and _OWN.fullmatch(path.name):
            path.unlink()


def _write(parts: Iterable[Part], out: Path, suffix: str) -> dict[str, Any]:
    """What the record says of the parts, which are written."""
    found = {}
    for part in parts:
        path = out / f"{part.name}{suffix}.onnx"
        with written_aside(path, durable=True) as aside:
            write_onnx(part, aside)
        found[part.name] = {"file": path.name, "sha256": file_hash(path), **described(part, path)}
    return found


def _write_vocabulary(words: Words, path: Path) -> dict[str, str]:
    write_json(path, words.vocabulary.state(), durable=True)
    return {"file": path.name, "sha256": file_hash(path)}


def _segmenter_record(loaded: Loaded, segmenter: AAMN) -> dict[str, Any]:
    return {
        "config": to_dict(loaded.config),
        "iteration": loaded.iteration,
        "model": model_hash(segmenter),
        "backbone": segmenter.backbone_hash,
    }


def _detector_record(network: TorchvisionRCNN) -> dict[str, Any]:
    return {
        "config": config_to_dict(network.config),
        "weights": weights_hash(network),
        "backbone": weights_hash(network.backbone),
    }
