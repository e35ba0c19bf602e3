"""A bundle: one folder with a detector and a segmenter, which is what users pass around.

bundle.json    versions, what made it, the calibrated threshold for "not present"
detector.pt    stage one            segmenter.pt    stage two, with vocabulary and configuration
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

import aamn
from aamn.data.flow.store import FlowStore
from aamn.index.box_source import DetectedBoxes, Detector, detected_boxes
from aamn.index.builder import build_index
from aamn.index.file import IndexFile, Selection, index_path
from aamn.index.query_encoder import Asker
from aamn.index.video_index import VideoIndex
from aamn.inference.checkpoint import Loaded, load_segmenter, read_checkpoint, write_atomically
from aamn.search.folder import IndexFolder
from proposals.build import best_device, load_detector
from proposals.errors import InputError
from proposals.files import write_json, written_aside
from proposals.frames import open_frames

FORMAT, VERSION = "aamn-bundle", 1
DETECTOR, SEGMENTER, RECORD = "detector.pt", "segmenter.pt", "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """Where a bundle's parts lie, and the score below which a sentence means nobody (None: it was
    not calibrated)."""

    detector: Path
    segmenter: Path
    absent_threshold: float | None


@dataclass(frozen=True)
class VideoSegmenter:
    """A detector and a segmenter, ready for videos."""

    loaded: Loaded
    detector: Detector
    absent_threshold: float | None

    @cached_property
    def _boxes(self) -> DetectedBoxes:
        return detected_boxes(self.detector, self.loaded.segmenter)

    @cached_property
    def _asker(self) -> Asker:
        return Asker(self.loaded)

    def index(
        self,
        video: Path | str,
        out: Path | str | None = None,
        flow: FlowStore | None = None,
        precision: str = "float32",
        frames: range | None = None,
    ) -> VideoIndex:
        """The index of a video file or folder of frames.

        Args:
            out: the folder of indexes in which it is kept, or found if it is there already; None
                keeps it in a temporary folder as long as it is used.
            flow: stored flow of the video, under its name; None computes it.
            precision: float32, or bfloat16 where the machine is faster with it.
            frames: only their clips are computed; None: all. An index in `out` that holds more
                serves as well.

        Raises:
            InputError: the video cannot be decoded, or `out` holds an index of another origin.
        """
        path = Path(video)
        video_id = path.name if path.is_dir() else path.stem
        owner = None if out is not None else tempfile.TemporaryDirectory(prefix="aamn-index-")
        target = index_path(out if owner is None else owner.name, video_id)
        with open_frames(path) as source:
            job = self._asker.job(video_id, source, self._boxes, flow, Selection(frames), precision)
            build_index(job, target)
        return VideoIndex(IndexFile.read(target), self._asker, owner)

    def open_indexes(self, folder: Path | str) -> IndexFolder:
        """The indexes of a folder, so that sentences find videos among them.

        Raises:
            InputError: no index there, a damaged one, or one of another segmenter.
        """
        return IndexFolder(folder, self._asker)


def write_bundle(
    out: Path | str,
    detector: Path | str,
    checkpoint: Path | str,
    absent_threshold: float | None = None,
) -> None:
    """Makes a bundle of a detector's and a segmenter's checkpoint; training state stays behind.

    Raises:
        InputError: either file is missing or of another kind, or `out` cannot be written.
    """
    out, detector = Path(out), Path(detector)
    content = read_checkpoint(checkpoint)
    load_detector(detector)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / RECORD).unlink(missing_ok=True)
        write_atomically({**content, "optimiser": {}}, out / SEGMENTER)
        with written_aside(out / DETECTOR) as aside:
            shutil.copyfile(detector, aside)
        record = {
            "format": FORMAT,
            "version": VERSION,
            "made_with": {"aamn": aamn.__version__, "torch": torch.__version__},
            "iteration": content["iteration"],
            "absent_threshold": absent_threshold,
        }
        write_json(out / RECORD, record)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None


def read_bundle(path: Path | str) -> Bundle:
    """Where the parts of a bundle lie.

    Raises:
        InputError: no bundle, one of another version, or one that lacks a part.
    """
    path = Path(path)
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        kind, version = record["format"], record["version"]
    except FileNotFoundError:
        raise InputError(f"no bundle at {path}; tools/make_bundle.py makes one") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path / RECORD} is damaged; make the bundle again") from None
    if kind != FORMAT or version != VERSION:
        raise InputError(
            f"{path} is a bundle of {kind} version {version}, this library reads {FORMAT} version "
            f"{VERSION}"
        )
    missing = [name for name in (DETECTOR, SEGMENTER) if not (path / name).is_file()]
    if missing:
        raise InputError(f"{path} lacks {missing[0]}; make the bundle again")
    return Bundle(path / DETECTOR, path / SEGMENTER, record["absent_threshold"])


def load_bundle(path: Path | str, device: torch.device | str | None = None) -> VideoSegmenter:
    """The detector and the segmenter of a bundle, on a GPU where there is one.

    Raises:
        InputError: as `read_bundle`, or a part that cannot be read.
    """
    device = device or best_device()
    bundle = read_bundle(path)
    return VideoSegmenter(
        load_segmenter(bundle.segmenter, device),
        load_detector(bundle.detector, device),
        bundle.absent_threshold,
    )
