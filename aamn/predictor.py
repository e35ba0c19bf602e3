"""A bundle: one folder with a detector and a segmenter, which is what users pass around.

bundle.json    versions, what made it, the calibrated threshold for "no match", its files' names
detector.pt    stage one            segmenter.pt    stage two, with vocabulary and configuration
               detector.pt lacks where the public one is meant
words.npz      vectors of words that training has not seen, in half precision; may lack

A bundle that is made again gets files of other names, such as segmenter-5f0c12ab.pt, which the
record names when they are whole; then those of the one before go.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch

from aamn.data.flow.store import FlowStore
from aamn.data.word_vectors import VectorFile, open_vectors, write_vectors
from aamn.data.words import first_words
from aamn.export.manifest import is_export
from aamn.export.reader import read_export
from aamn.index.box_source import BoxSource, DetectedBoxes, Detector, StoredBoxes, detected_boxes
from aamn.index.builder import build_index, grow_index
from aamn.index.file import WHOLE, IndexFile, Selection, index_path
from aamn.index.query_encoder import CALIBRATED, QueryEncoder
from aamn.index.video_index import VideoIndex, VideoTrack
from aamn.inference.checkpoint import Loaded, beside, load_segmenter, read_checkpoint
from aamn.inference.verdict import NoMatch, Probability, checked_number
from aamn.search.folder import IndexFolder, Searched, is_library
from aamn.version import __version__
from aamn.zeroshot.assemble import complete, is_zeroshot, load_zeroshot
from proposals import places
from proposals.build import best_device, checked_device, load_detector
from proposals.decoding import Video
from proposals.detector import TorchDetector
from proposals.errors import InputError
from proposals.files import file_hash, locked, write_json, written_aside
from proposals.frames import (
    FrameSource,
    VideoLike,
    arriving_frames,
    is_path,
    open_frames,
    take_frames,
)
from proposals.inference_form import computes_in_bfloat16
from proposals.outputs import check_output
from proposals.store import ProposalStore
from proposals.weights import save_tensors

log = logging.getLogger("aamn")

WHOLE_PRECISION = "float32"
PRECISIONS = (WHOLE_PRECISION, "bfloat16", "auto")
FORMAT, VERSION = "aamn-bundle", 1
ADAPTED = "adapted"  # the system whose detector may be a public one
DETECTOR, SEGMENTER, RECORD = "detector.pt", "segmenter.pt", "bundle.json"
WORDS, BUNDLED_WORDS = "words.npz", 50_000
_ID = "(-[0-9a-f]{8})"
_OWN = re.compile(rf"(detector|segmenter){_ID}?\.pt|words{_ID}?\.npz")  # names of a bundle's files
_LEFT = re.compile(
    rf"(detector|segmenter){_ID}\.pt|words{_ID}\.npz|\.(detector|segmenter|words|bundle)\S*\.tmp"
)


@dataclass(frozen=True)
class Bundle:
    """Where a bundle's parts lie, by their usual names, when a sentence means nobody, and the
    parts' SHA-256 as far as they are known."""

    parts: dict[str, Path]
    no_match: NoMatch
    sha256: dict[str, str]

    @property
    def absent_threshold(self) -> float | None:
        """The score below which a sentence means nobody; None where it was not calibrated."""
        return self.no_match.threshold

    @property
    def detector(self) -> Path | None:
        """None: the public one, of a system that stands on public parts."""
        return self.parts.get(DETECTOR)

    @property
    def segmenter(self) -> Path:
        return self.parts[SEGMENTER]


@dataclass(frozen=True, repr=False)
class VideoSegmenter:
    """A segmenter, and what finds the boxes it chooses among: ready for videos.

    `boxes` is a detector or a proposals file, None where only indexes are read; `flow` is a flow
    file, None computes flow.
    """

    query_encoder: QueryEncoder
    boxes: Detector | ProposalStore | None = None
    flow: FlowStore | None = None

    def __repr__(self) -> str:
        loaded, boxes = self.loaded, "no boxes"
        if self.boxes is not None:
            boxes = f"boxes of {self.boxes.attributes.detector}"
        words = f"{len(loaded.vocabulary)} words"
        device = loaded.segmenter.device
        return f"VideoSegmenter({loaded.config.system} on {device}, {words}, {boxes})"

    @property
    def loaded(self) -> Loaded:
        """The segmenter with its vocabulary and configuration."""
        return self.query_encoder.loaded

    @property
    def absent_threshold(self) -> float | None:
        """The score below which a sentence means nobody; None where it was not calibrated."""
        return self.query_encoder.absent_threshold

    @cached_property
    def _sources(self) -> dict[str, DetectedBoxes]:
        """The detector as a source of boxes, by the precision in which it computes."""
        return {}

    def _detected(self, precision: str) -> DetectedBoxes:
        detector = self.boxes
        assert detector is not None and not isinstance(detector, ProposalStore)
        if precision not in self._sources:
            if isinstance(detector, TorchDetector) and precision != WHOLE_PRECISION:
                detector = detector.computing_in(precision)
            self._sources[precision] = detected_boxes(detector, self.query_encoder.segmenter)
        return self._sources[precision]

    def segment(
        self,
        video: VideoLike,
        queries: str | Sequence[str],
        *,
        linking: str = "video",
        absent_threshold: float | str | None = CALIBRATED,
        top: int = 1,
        frames: range | None = None,
    ) -> list[VideoTrack]:
        """The tracks of some sentences in a video, in one call: `index`, then `VideoIndex.query`,
        whose arguments these are. Their index is kept as long as they are.

        Raises:
            InputError: as these two.
        """
        self.query_encoder.queries(queries)  # a mistake is found before the work
        index = self.index(video, frames=frames)
        return index.query(queries, linking=linking, absent_threshold=absent_threshold, top=top)

    def index(
        self,
        video: VideoLike,
        out: Path | str | None = None,
        flow: FlowStore | None = None,
        precision: str = "float32",
        frames: range | None = None,
        every: int = 1,
    ) -> VideoIndex:
        """The index of a video, which sentences are asked of.

        Args:
            video: a video file or folder of frames, an array (T, H0, W0, 3) uint8 RGB, a list of
                images (arrays, PIL images or paths), an iterator of frames, an address or a
                camera's number that OpenCV opens. All but files and folders are named by a hash
                of their frames.
            out: the folder of indexes in which it is kept, or found if it is there already; None
                keeps it in a temporary folder as long as it, or a track of it, is used.
            flow: stored flow of the video, under its name; None: the segmenter's, or computed.
            precision: of all networks that see the video: float32, bfloat16, or auto: bfloat16
                where the machine has instructions for it; an index that is there keeps its own.
            frames: only their clips are computed; None: all. An index in `out` that holds more
                serves as well. Of a camera they say when it ends.
            every: only every so many-th frame goes through the networks; boxes and masks between
                two are interpolated.

        Raises:
            InputError: the video cannot be decoded, or `out` holds an index of another origin.
        """
        selection = Selection(frames)
        source = take_frames(video, None if frames is None else frames.stop)
        video_id = Video.at(video).video_id if is_path(video) else source.path.name
        owner = None
        if out is None:
            owner = tempfile.TemporaryDirectory(prefix="aamn-index-")
            out = owner.name
        target = index_path(out, video_id)
        segmenter = self if flow is None else replace(self, flow=flow)
        with source:
            segmenter._build(video_id, source, target, selection, precision, every=every)
            if lacking := source.lacking():
                log.warning("%s", lacking)
        given = None if is_path(video) else source
        return VideoIndex(IndexFile.read(target), self.query_encoder, owner, given)

    def stream(
        self,
        video: VideoLike,
        flow: FlowStore | None = None,
        precision: str = "float32",
        frames: range | None = None,
    ) -> Iterator[VideoIndex]:
        """The index of a video while it is made, after each block of complete clips: it answers for
        the frames so far, and the last one answers as `index` does. It lives in memory. Frames of
        an iterator, a camera or an address are taken as they come.

        Args: those of `index`.

        Raises:
            InputError: the video cannot be decoded.
        """
        segmenter = self if flow is None else replace(self, flow=flow)
        with arriving_frames(video, None if frames is None else frames.stop) as source:
            video_id = Video.at(video).video_id if is_path(video) else source.path.name
            precision = segmenter._settled(precision)
            boxes = segmenter._boxes(video_id, source, precision)
            job = self.query_encoder.job(
                video_id, source, boxes, segmenter.flow, Selection(frames), precision
            )
            with closing(grow_index(job)) as grown:
                for index in grown:
                    yield VideoIndex(index, self.query_encoder, given=source)
            if lacking := source.lacking():
                log.warning("%s", lacking)

    def live_boxes(self, precision: str) -> tuple[BoxSource, str]:
        """The boxes of frames that come from anywhere, and the precision of the networks.

        Raises:
            InputError: the boxes come from a file.
        """
        if self.boxes is None or isinstance(self.boxes, ProposalStore):
            raise InputError("wanted a detector, or a bundle, which has one: no file holds boxes")
        precision = self._settled(precision)
        return self._detected(precision), precision

    def build(
        self,
        video: Video,
        path: Path,
        selection: Selection = WHOLE,
        precision: str = "float32",
        again: bool = False,
        every: int = 1,
    ) -> bool:
        """Writes the index of a video's selected clips to `path`; False when it is there already.
        With `again` one of another origin makes way.

        Raises:
            InputError: as `build_index`, or the video cannot be opened.
        """
        with open_frames(video.path) as frames:
            return self._build(video.video_id, frames, path, selection, precision, again, every)

    def _build(
        self,
        video_id: str,
        frames: FrameSource,
        path: Path,
        selection: Selection,
        precision: str,
        again: bool = False,
        every: int = 1,
    ) -> bool:
        precision = self._settled(precision, path)
        boxes = self._boxes(video_id, frames, precision)
        job = self.query_encoder.job(
            video_id, frames, boxes, self.flow, selection, precision, every
        )
        return build_index(job, path, replace=again)

    def _settled(self, precision: str, path: Path | None = None) -> str:
        """What "auto" means, for the index at `path` if there is one; another word is itself.

        Raises:
            InputError: another word than those of `PRECISIONS`; the index there is damaged.
        """
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r}: wanted one of {', '.join(PRECISIONS)}")
        if only := self.query_encoder.segmenter.only_precision:
            if precision not in ("auto", WHOLE_PRECISION):
                raise InputError(f"precision {precision}: this export computes in {only}")
            return only
        if precision != "auto":
            return precision
        if path is not None and path.exists():
            return IndexFile.read(path).header.origin.precision
        half = computes_in_bfloat16(self.query_encoder.segmenter.device)
        return "bfloat16" if half else WHOLE_PRECISION

    def _boxes(self, video_id: str, frames: FrameSource, precision: str) -> BoxSource:
        if isinstance(self.boxes, ProposalStore):
            return StoredBoxes(self.boxes, video_id, frames.size)
        return self._detected(precision)

    def read_index(self, path: Path | str) -> VideoIndex:
        """The index at `path`, ready to be asked.

        Raises:
            InputError: no index, a damaged one, or one of another segmenter.
        """
        return VideoIndex(IndexFile.read(path), self.query_encoder)

    def open_indexes(self, folder: Path | str) -> Searched:
        """The indexes of a folder, or a library of them, so that sentences find videos among them;
        either may be a URL.

        Raises:
            InputError: no index there, a damaged one, or one of another segmenter.
        """
        if is_library(folder):
            from aamn.search.library import Library

            return Library(folder).searched_by(self.query_encoder)
        return IndexFolder(places.fetch(places.local_name(folder)), self.query_encoder)


def write_bundle(
    out: Path | str,
    detector: Path | str | None,
    checkpoint: Path | str,
    absent_threshold: float | None = None,
    vectors: Path | str | None = None,
    words: int = BUNDLED_WORDS,
    probability: Probability | None = None,
) -> None:
    """Makes a bundle of a detector's and a segmenter's checkpoint; training state stays behind.

    Args:
        detector: None: the public one, where the segmenter stands on public parts.
        vectors: a file of word vectors, whose first `words` words the bundle's users can ask for
            beside the training's; None: the one of the training, where it is at hand. Without one,
            the bundle knows the words of its training alone, which is logged.
        probability: of a match by its score; None: unknown.

    Raises:
        InputError: a file is missing or of another kind, or `out` cannot be written.
    """
    out = Path(out)
    if absent_threshold is not None:
        absent_threshold = checked_number(absent_threshold, "absent_threshold")
    check_output(out, folder=True)
    content = read_checkpoint(checkpoint)
    _check_detector(detector, content["config"]["system"])
    file = _vectors_for(Path(checkpoint), content, vectors) if words else None
    with locked(out / ".lock", out):
        before = _names_there(out)
        own = f"-{token_hex(4)}" if before else ""
        parts = (*([DETECTOR] if detector else ()), SEGMENTER, *([WORDS] if file else ()))
        files = {name: name.replace(".", f"{own}.") for name in parts}
        settings = content["config"]["words"]
        if file:
            settings = {**settings, "vectors": files[WORDS]}
            write_vectors(file, first_words(file, words), out / files[WORDS])
        content = {**content, "config": {**content["config"], "words": settings}}
        save_tensors({**content, "optimiser": {}}, out / files[SEGMENTER], durable=True)
        if detector:
            with written_aside(out / files[DETECTOR], durable=True) as aside:
                shutil.copyfile(detector, aside)
        record = {
            "format": FORMAT,
            "version": VERSION,
            "made_with": {"aamn": __version__, "torch": torch.__version__},
            "iteration": content["iteration"],
            "absent_threshold": absent_threshold,
            "probability": None if probability is None else vars(probability),
            "files": files,
            "replaced": sorted(before),
            "sha256": {name: file_hash(out / own) for name, own in files.items()},
        }
        write_json(out / RECORD, record, durable=True)  # from now on this is the bundle
        _sweep(out, {*files.values()}, before)


def _check_detector(detector: Path | str | None, system: str) -> None:
    if detector:
        load_detector(detector)
    elif system != ADAPTED:
        raise InputError(
            f"wanted --detector PT: the boxes that the system {system} chooses among; only the "
            f"system {ADAPTED} stands on a public one"
        )


def _names_there(out: Path) -> set[str]:
    """The names of the files of the bundle that is there, and of those that it has replaced."""
    if not (out / RECORD).exists():
        return set()
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
        names = {*_files(record).values(), *filter(_OWN.fullmatch, record.get("replaced", ()))}
        return names & {*os.listdir(out)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {DETECTOR, SEGMENTER, WORDS}  # it is damaged


def _files(record: dict[str, Any]) -> dict[str, str]:
    """The names of a bundle's files, which never lie elsewhere; version 0.1 did not tell them.

    Raises:
        ValueError: other names.
    """
    files = record.get("files", {DETECTOR: DETECTOR, SEGMENTER: SEGMENTER})
    parts = [name for name in (DETECTOR, SEGMENTER, WORDS) if name in files or name == SEGMENTER]
    for name in parts:
        if not (_OWN.fullmatch(files[name]) and files[name].startswith(Path(name).stem)):
            raise ValueError(f"{files[name]!r} is no name of a bundle's file")
    return {name: files[name] for name in parts}


def _sweep(out: Path, kept: set[str], before: set[str]) -> None:
    """Removes the files of bundles before, and what their killed makers have left, and no other."""
    for path in [*out.iterdir()]:
        if path.name not in kept and (path.name in before or _LEFT.fullmatch(path.name)):
            path.unlink()


def _vectors_for(
    checkpoint: Path, content: dict[str, Any], named: Path | str | None
) -> VectorFile | None:
    """The file of word vectors for a checkpoint's content: the named one, else the training's.

    Raises:
        InputError: the named one is missing, or its vectors are of another dimension.
    """
    settings = content["config"]["words"]
    path = named or beside(checkpoint, settings["vectors"])
    if not path:
        return None
    if not named and not Path(path).is_file():
        log.warning(
            "no word vectors at %s, with which the segmenter was trained: the bundle knows the "
            "words of its training alone; --vectors names the file",
            path,
        )
        return None
    file = open_vectors(path)
    if file.dimension != settings["dimension"]:
        raise InputError(
            f"{path} has {file.dimension} numbers a word, the segmenter was trained with "
            f"{settings['dimension']}"
        )
    return file


def read_bundle(path: Path | str) -> Bundle:
    """Where the parts of a bundle lie.

    Raises:
        InputError: no bundle, one of another version, one that lacks a part or whose parts have
            changed, or a threshold that is no number.
    """
    bundle = _read_bundle(Path(path))
    if not all(part.is_file() for part in bundle.parts.values()):
        bundle = _read_bundle(Path(path))  # another may just have taken its place
    for name, part in bundle.parts.items():
        if not part.is_file():
            raise InputError(f"{path} lacks {part.name}; make the bundle again")
        if bundle.sha256.get(name) not in (None, file_hash(part)):
            raise InputError(f"{part} has changed since its bundle; make the bundle again")
    return bundle


def _read_bundle(path: Path) -> Bundle:
    """What its record says."""
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        kind, version, files = record["format"], record["version"], _files(record)
    except FileNotFoundError:
        raise InputError(f"no bundle at {path}; `aamn bundle` makes one") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path / RECORD} is damaged; make the bundle again") from None
    if kind != FORMAT or version != VERSION:
        raise InputError(
            f"{path} is a bundle of {kind} version {version}, this library reads {FORMAT} version "
            f"{VERSION}"
        )
    threshold = record.get("absent_threshold")
    if threshold is not None:
        threshold = checked_number(threshold, f"{path / RECORD}: absent_threshold")
    line = Probability.read(record.get("probability"), f"{path / RECORD}: probability")
    known = record.get("sha256")  # bundles of version 0.1 have none; their parts' own checksums do
    parts = {name: path / own for name, own in files.items()}
    return Bundle(parts, NoMatch(threshold, line), known if isinstance(known, dict) else {})


def load(
    path: Path | str,
    device: torch.device | str | None = None,
    overrides: Sequence[str] = (),
    weights: Path | str | None = None,
) -> VideoSegmenter:
    """The detector and the segmenter of a bundle (`aamn bundle`), on a GPU where there is one.

    Args:
        path: the bundle's folder, or that of its export; "zeroshot", or another recipe whose name
            begins so, puts public pretrained parts together, which are downloaded where they are
            not there yet.
        device: cpu, cuda or cuda:N; None: the GPU where there is one.
        overrides: values of its configuration, as --set has them, such as
            "words.vectors=vectors.txt".
        weights: of "zeroshot" and of what was trained from it, a folder with the public weights;
            None: the caches, or the network.

    Raises:
        InputError: as `read_bundle`, `checked_device` and `load_zeroshot`, or a part that cannot
            be read.
    """
    folder = None if weights is None else Path(weights)
    if is_export(path):
        if folder is not None:
            raise InputError(f"weights: {path} is an export, which holds its own")
        return _exported(path, device, overrides)
    device = checked_device(device or best_device())
    if is_zeroshot(path):
        parts = load_zeroshot(str(path), device, None, overrides, folder)
        return VideoSegmenter(QueryEncoder(parts.loaded, parts.no_match), parts.detector)
    bundle = read_bundle(path)
    loaded = load_segmenter(bundle.segmenter, device, overrides=overrides)
    if folder is not None and loaded.config.system != ADAPTED:
        raise InputError(f"weights: for zeroshot and what stands on it, {path} holds its own")
    public = complete(loaded, folder)
    detector = load_detector(bundle.detector, device) if bundle.detector else public.detector
    return VideoSegmenter(QueryEncoder(loaded, bundle.no_match), detector)


def _exported(
    path: Path | str, device: torch.device | str | None, overrides: Sequence[str]
) -> VideoSegmenter:
    """What `aamn export` wrote.

    Raises:
        InputError: as `read_export`, or something is asked of it that was settled when it was made.
    """
    if overrides:
        raise InputError(f"{path} is an export, whose configuration is fixed; leave out --set")
    if device is not None and torch.device(device).type != "cpu":
        raise InputError(f"{path} is an export, which runs on the CPU; use its bundle on a GPU")
    parts = read_export(path)
    return VideoSegmenter(QueryEncoder(parts.loaded, parts.no_match), parts.detector)
