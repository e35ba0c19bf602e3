"""The option --bundle of the programs that segment videos."""

from __future__ import annotations

import argparse

from aamn.inference.checkpoint import Loaded, load_segmenter
from aamn.predictor import read_bundle
from proposals.build import best_device
from proposals.errors import InputError


def threshold(text: str) -> float | str:
    """The value of --absent-threshold: a score, or "auto" for the bundle's."""
    return text if text == "auto" else float(text)


def take_threshold(args: argparse.Namespace) -> None:
    """Sets `absent_threshold`, where it is "auto", to the one that the bundle was made with.

    Raises:
        InputError: no bundle, or one without a calibrated threshold.
    """
    if args.absent_threshold != "auto":
        return
    if not args.bundle:
        raise InputError("--absent-threshold auto: wanted --bundle, which holds the score")
    args.absent_threshold = read_bundle(args.bundle).absent_threshold
    if args.absent_threshold is None:
        raise InputError(
            f"{args.bundle} holds no score for --absent-threshold auto; make it again with "
            "tools/make_bundle.py --metrics, from tools/eval_net.py --full-video --calibrate"
        )


def checkpoint_of(args: argparse.Namespace) -> str:
    """The segmenter of --bundle, or that of --checkpoint.

    Raises:
        InputError: no bundle there; both --bundle and --checkpoint, or neither.
    """
    if bool(args.bundle) == bool(args.checkpoint):
        raise InputError("wanted one of --bundle DIR and --checkpoint PT: the segmenter")
    return str(read_bundle(args.bundle).segmenter) if args.bundle else args.checkpoint


def take_bundle(args: argparse.Namespace) -> None:
    """Sets `checkpoint`, and `detector` where no boxes are given, to those of --bundle.

    Raises:
        InputError: no bundle there; both --bundle and --checkpoint, or neither.
    """
    args.checkpoint = checkpoint_of(args)
    if args.bundle and not args.detector and not args.proposals:
        args.detector = str(read_bundle(args.bundle).detector)


def open_segmenter(args: argparse.Namespace) -> Loaded:
    """The segmenter of --checkpoint, changed as --config and --set say, on a GPU where there is
    one.

    Raises:
        InputError: as `load_segmenter`.
    """
    return load_segmenter(args.checkpoint, best_device(), args.config, args.overrides)
