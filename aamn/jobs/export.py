"""A bundle as graphs."""

from __future__ import annotations

from pathlib import Path

from aamn.export.manifest import is_export
from aamn.export.writer import write_export
from aamn.predictor import load, read_bundle
from proposals.detector import TorchDetector
from proposals.errors import InputError


def export_bundle(path: Path | str, out: Path) -> None:
    """Writes the networks of the bundle at `path` into the folder `out`.

    Raises:
        InputError: no bundle, or one of a kind that is not exported; as `write_export`.
    """
    if is_export(path):
        raise InputError(f"{path} is an export itself; give the bundle that it was made of")
    bundle = read_bundle(path)
    segmenter = load(path, "cpu")
    assert isinstance(segmenter.boxes, TorchDetector), "bundles have a detector"
    write_export(
        out, segmenter.loaded, segmenter.boxes, segmenter.query_encoder.no_match, bundle.sha256
    )
