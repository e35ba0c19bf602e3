"""The option --bundle of the programs that segment videos."""

from __future__ import annotations

import argparse

from aamn.bundle import read_bundle
from proposals.errors import InputError


def take_bundle(args: argparse.Namespace) -> None:
    """Sets `checkpoint`, and `detector` where no boxes are given, to those of --bundle.

    Raises:
        InputError: no bundle there; both --bundle and --checkpoint, or neither.
    """
    if bool(args.bundle) == bool(args.checkpoint):
        raise InputError("wanted one of --bundle DIR and --checkpoint PT: the segmenter")
    if args.bundle:
        bundle = read_bundle(args.bundle)
        args.checkpoint = str(bundle.segmenter)
        if not args.detector and not args.proposals:
            args.detector = str(bundle.detector)
