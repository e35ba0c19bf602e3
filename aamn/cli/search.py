"""Finds, among indexed videos, those that a sentence is about."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from aamn.cli.command_line import make_parser, run
from aamn.cli.options import checkpoint_of, open_segmenter
from aamn.index.query_encoder import Asker
from aamn.inference.checkpoint import extend_words
from aamn.search.folder import Hit, IndexFolder
from proposals.errors import InputError
from proposals.files import write_json


def _line(place: int, hit: Hit) -> str:
    frames = f"frames {hit.frames.start} to {hit.frames.stop - 1}"
    return f"{place:3d}  {hit.score:8.3f}  {hit.video_id}, {frames}"


def _record(hit: Hit) -> dict:
    frames = [hit.frames.start, hit.frames.stop]
    return {**asdict(hit), "path": str(hit.path), "frames": frames}


def main() -> None:
    parser = make_parser(
        "Prints, for each sentence, the videos of a folder of indexes whose best tube fits it "
        "best, and the frames in which that tube is; --out also writes them as JSON.",
        "python tools/search_index.py runs/a2d/index --bundle runs/a2d/bundle "
        '--query "man in red jumping"',
    )
    parser.add_argument("folder", metavar="DIR", help="from index_video")
    parser.add_argument("--bundle", metavar="DIR", help="a segmenter with its detector")
    parser.add_argument("--checkpoint", metavar="PT", help="from train_net, without a bundle")
    parser.add_argument("--query", action="append", default=[], help="a sentence; may be repeated")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="videos a sentence")
    args = parser.parse_args()
    if not args.query or args.top < 1:
        raise InputError('wanted at least one --query "SENTENCE", and --top above 0')
    args.checkpoint = checkpoint_of(args)
    loaded = open_segmenter(args)
    folder = IndexFolder(args.folder, Asker(extend_words(loaded, args.query)))
    found = dict(zip(args.query, folder.search(args.query, args.top), strict=True))
    for text, hits in found.items():
        print(f"{text} ({len(folder)} videos)")
        for place, hit in enumerate(hits, start=1):
            print(_line(place, hit))
    if args.out:
        records = {text: [_record(hit) for hit in hits] for text, hits in found.items()}
        write_json(Path(args.out), records)


if __name__ == "__main__":
    run(main)
