"""Writes the COCO JSON that detectors are fine-tuned on."""

from __future__ import annotations

import json
from pathlib import Path

from aamn.cli.command_line import make_parser, run
from aamn.data.datasets.a2d import SPLITS
from aamn.data.datasets.held_out import HELD_OUT, check_share
from aamn.data.datasets.manifest import make_manifest
from proposals.errors import InputError


def main() -> None:
    parser = make_parser(
        "Write a COCO JSON of the annotated frames of one split of A2D Sentences; its images name"
        " a video and a frame in it, no picture is written.",
        "python tools/make_manifest.py --data datasets/a2d --split train --out runs/train.json",
    )
    parser.add_argument("--data", required=True, metavar="ROOT", help="root of the data set")
    parser.add_argument("--split", default="train", choices=(*SPLITS, HELD_OUT))
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the training videos, as data.held_out: train without them, or the split held_out",
    )
    options = parser.parse_args()
    if not options.out:
        raise InputError("--out: name the JSON file to write")
    out = Path(options.out)
    check_share(options.held_out, "--held-out")
    root, folder = Path(options.data), out.resolve().parent
    manifest = make_manifest(root, options.split, folder, options.held_out)
    if not manifest["annotations"]:
        raise InputError(f"{options.data}: the {options.split} split has no annotated frame")
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(out.name + ".tmp")
    aside.write_text(json.dumps(manifest), encoding="utf-8")
    aside.replace(out)
    print(f"{out}: {len(manifest['images'])} frames, {len(manifest['annotations'])} boxes")


if __name__ == "__main__":
    run(main)
