"""Checks a data set before anyone trains on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from aamn.cli.command_line import make_parser, run
from aamn.config.loading import load_config
from aamn.config.schema import Config, DataConfig
from aamn.data.datasets.registry import READERS, open_all
from aamn.data.verify.a2d import verify_a2d
from aamn.data.verify.checks import Verification, verify_sources
from proposals.errors import InputError

PUBLISHED = {"jhmdb": {"videos": 928, "sentences": 928}}


def _verify(data: DataConfig, deep: bool) -> Verification:
    root = Path(data.root)
    if not root.is_dir():
        raise InputError(f"no folder at {root}")
    if data.kind == "a2d":
        return verify_a2d(root, deep)
    return verify_sources(open_all(data), deep, root, PUBLISHED.get(data.kind, {}))


def main() -> int:
    parser = make_parser(
        "Checks layout, counts, videos, masks and sentences of a data set and prints what is wrong "
        "with it. The exit code is 1 when something fatal was found.",
        "python tools/verify_dataset.py --data data/a2d --deep --fix-list again.txt",
    )
    parser.add_argument("--data", metavar="ROOT", help="the data set; default: data.root")
    parser.add_argument("--kind", choices=sorted(READERS), help="its layout; default: data.kind")
    parser.add_argument("--deep", action="store_true", help="decode every frame and every mask")
    parser.add_argument(
        "--fix-list", metavar="FILE", help="write the paths to download again, one a line"
    )
    args = parser.parse_args()
    data = load_config(Config, args.config, args.overrides).data
    data = replace(data, root=args.data or data.root, kind=args.kind or data.kind)
    if not data.root:
        raise InputError("wanted --data ROOT, the data set to check")
    found = _verify(data, args.deep)
    print(found.table())
    if args.fix_list:
        Path(args.fix_list).write_text("".join(f"{path}\n" for path in found.fix_list()))
    if args.out:
        Path(args.out).write_text(json.dumps(found.to_dict(), indent=1) + "\n")
    return 1 if found.fatal else 0


if __name__ == "__main__":
    run(main)
