"""Makes a bundle of a detector and a segmenter."""

from __future__ import annotations

import json
from pathlib import Path

from aamn.cli.command_line import make_parser, run
from aamn.predictor import write_bundle
from proposals.errors import InputError


def _threshold(path: str) -> float:
    """The calibrated threshold in a file of `eval_net --full-video`."""
    try:
        return float(json.loads(Path(path).read_text(encoding="utf-8"))["absence"]["threshold"])
    except FileNotFoundError:
        raise InputError(
            f"no metrics at {path}; tools/eval_net.py --full-video --calibrate writes them"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} holds no calibrated threshold; tools/eval_net.py --full-video --calibrate "
            "writes one"
        ) from None


def main() -> None:
    parser = make_parser(
        "Puts a detector and a segmenter into one folder, which aamn.load() and --bundle of the "
        "other programs read.",
        "python tools/make_bundle.py --checkpoint runs/a2d/aamn/last.pt "
        "--detector runs/a2d/detector/detector.pt --out runs/a2d/bundle",
    )
    parser.add_argument("--checkpoint", required=True, metavar="PT", help="from train_net")
    parser.add_argument("--detector", required=True, metavar="PT", help="from train_detector")
    parser.add_argument(
        "--absent-threshold", type=float, metavar="SCORE", help="below it a sentence means nobody"
    )
    parser.add_argument(
        "--metrics", metavar="JSON", help="of eval_net --full-video --calibrate, which finds it"
    )
    args = parser.parse_args()
    if not args.out:
        raise InputError("--out: name the folder for the bundle")
    threshold = args.absent_threshold
    if threshold is None and args.metrics:
        threshold = _threshold(args.metrics)
    write_bundle(args.out, args.detector, args.checkpoint, threshold)
    print(args.out)


if __name__ == "__main__":
    run(main)
