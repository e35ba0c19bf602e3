"""What the programs that segment videos are given: a segmenter, and the boxes and the flow to use,
each opened once, when it is first wanted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aamn.data.flow.store import FlowStore, stored_flow
from aamn.export.manifest import is_export
from aamn.export.reader import ExportedParts, read_export
from aamn.index.query_encoder import QueryEncoder
from aamn.inference.checkpoint import Loaded, load_segmenter
from aamn.inference.verdict import UNCALIBRATED, NoMatch, checked_number
from aamn.predictor import Bundle, VideoSegmenter, read_bundle
from aamn.zeroshot.assemble import ZeroShotParts, complete, is_zeroshot, load_zeroshot
from proposals import places
from proposals.build import best_device, load_detector
from proposals.detector import TorchDetector
from proposals.errors import InputError
from proposals.store import ProposalStore


@dataclass(frozen=True)
class InputOptions:
    """Files by the names of their options; the segmenter is changed as `config` and `overrides`
    say."""

    bundle: Path | None = None
    checkpoint: Path | None = None
    detector: Path | None = None
    proposals: Path | None = None
    flow: Path | None = None
    config: str | None = None
    overrides: tuple[str, ...] = ()
    weights: Path | None = None
    describe_every: int | None = None

    @property
    def changes(self) -> tuple[str, ...]:
        """The overrides, with the value of --describe-every among them."""
        own = self.describe_every
        described = () if own is None else (f"zeroshot.describe_every={own}",)
        return (*self.overrides, *described)

    def fetched(self) -> InputOptions:
        """The same, with their files on this machine.

        Raises:
            InputError: as `places.fetch`.
        """
        for path in (self.bundle, self.checkpoint, self.detector, self.proposals, self.flow):
            if path is not None:
                places.fetch(path)
        return self


class Inputs:
    """The segmenter, boxes and flow that options name."""

    def __init__(self, options: InputOptions) -> None:
        """Raises:
        InputError: no bundle there; both a bundle and a checkpoint, or neither; settings for an
            export.
        """
        if bool(options.bundle) == bool(options.checkpoint):
            raise InputError("wanted one of --bundle DIR and --checkpoint PT: the segmenter")
        self.options = options
        self.zeroshot = bool(options.bundle) and is_zeroshot(str(options.bundle))
        self.exported = options.bundle is not None and is_export(options.bundle)
        if self.exported and (options.config or options.overrides):
            raise InputError(f"{options.bundle} is an export, whose configuration is fixed")
        of_bundle = None if self.zeroshot or self.exported else options.bundle
        self.bundle: Bundle | None = read_bundle(of_bundle) if of_bundle else None

    @cached_property
    def loaded(self) -> Loaded:
        """The segmenter, on a GPU where there is one.

        Raises:
            InputError: as `load_segmenter`.
        """
        return self._parts.loaded

    @cached_property
    def _parts(self) -> ZeroShotParts | ExportedParts:
        """The segmenter, and the public parts that it stands on, or the graphs, if it does."""
        options = self.options
        if self.exported:
            if options.weights:
                raise InputError(f"--weights: {options.bundle} is an export, which holds its own")
            return read_export(str(options.bundle))
        read = (best_device(), options.config, options.changes)
        if self.zeroshot:
            return load_zeroshot(str(options.bundle), *read, options.weights)
        path = self.bundle.segmenter if self.bundle else options.checkpoint
        assert path is not None  # __init__ sees to it
        loaded = load_segmenter(path, *read)
        if options.weights and loaded.config.system != "adapted":
            raise InputError(
                "--weights: wanted with --bundle zeroshot, or what was trained from it; else it "
                "does nothing"
            )
        return complete(loaded, options.weights)

    @cached_property
    def store(self) -> ProposalStore | None:
        """The proposals file, where one is named."""
        return ProposalStore.read(self.options.proposals) if self.options.proposals else None

    @cached_property
    def detector(self) -> TorchDetector:
        """The detector that finds boxes where no file holds them: the one that is named, else the
        bundle's.

        Raises:
            InputError: there is none.
        """
        path = self.options.detector or (self.bundle and self.bundle.detector)
        if not path and self._parts.detector:
            return self._parts.detector
        if not path:
            raise InputError("wanted --proposals HDF5 or --detector PT: the boxes to choose among")
        return load_detector(path, self.loaded.segmenter.device)

    @cached_property
    def flow(self) -> FlowStore | None:
        """The flow file, where one is named and wanted."""
        loaded = self.loaded
        return stored_flow(self.options.flow, loaded.segmenter.input_spec, loaded.config.flow)

    @property
    def _calibrated(self) -> NoMatch:
        if self.zeroshot or self.exported:
            return self._parts.no_match
        return self.bundle.no_match if self.bundle else UNCALIBRATED

    def absent_threshold(self, wanted: float | str | None) -> float | None:
        """The score below which a sentence means nobody; None: the bundle's, where it has one;
        "auto": the bundle's, which it must have; "none": there is none.

        Raises:
            InputError: "auto" without a bundle, or with one that is not calibrated.
        """
        if wanted is None:
            return self._calibrated.threshold
        if wanted == "none":
            return None
        if not isinstance(wanted, str):
            return checked_number(wanted, "--absent-threshold")
        if self.zeroshot:
            return self._calibrated.threshold
        if self.options.bundle is None:
            raise InputError("--absent-threshold auto: wanted --bundle, which holds the score")
        if self._calibrated.threshold is None:
            raise InputError(
                f"{self.options.bundle} holds no score for --absent-threshold auto; make it again "
                "with `aamn bundle --metrics`, from `aamn evaluate --full-video --calibrate`"
            )
        return self._calibrated.threshold

    def video_segmenter(self, boxes_needed: bool = True) -> VideoSegmenter:
        """All of them together, ready for videos; a mistake in one is found now. Without
        `boxes_needed` it only reads indexes that are there."""
        boxes = (self.store or self.detector) if boxes_needed else None
        return VideoSegmenter(QueryEncoder(self.loaded, self._calibrated), boxes, self.flow)
