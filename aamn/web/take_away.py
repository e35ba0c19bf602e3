"""What a visitor takes home: the masks as files, and the lines of Python that make them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from aamn.index.video_index import VideoIndex
from aamn.inference.results import OutputOptions, write_results
from aamn.inference.track import answers

NOTE = """What `aamn segment --palette` writes: for each sentence a folder with masks/ (PNG, 0 and
255, the video's size), masks.json (COCO run lengths), overlay.mp4, sheet.png, attention.png and
result.json; palette/ has one indexed PNG a frame, where index n is the n-th sentence.
"""
LINES = """import aamn
from aamn.inference.track import write_davis

segmenter = aamn.load({bundle!r})
index = segmenter.index({video!r})  # the visual work, once
tracks = index.query({texts!r}, absent_threshold={threshold!r})
for place, track in enumerate(tracks):
    print(track.text, track.score, "match" if track.present else f"no match: {{track.reason}}")
    masks = track.masks()  # (frames, height, width) bool
    track.save(f"results/{{place:02d}}")  # mask PNGs, overlay video, COCO run lengths
write_davis(tracks, "results/palette")  # one indexed PNG a frame
"""


def write_zip(index: VideoIndex, texts: Sequence[str], threshold: float | None, out: Path) -> None:
    """Writes the results of `aamn segment --palette` for these sentences into the zip file `out`.

    Raises:
        InputError: a sentence cannot be asked, or the video cannot be read any more.
    """
    tracks = index.query(texts, absent_threshold=threshold)
    frames = index.frames
    with tempfile.TemporaryDirectory(prefix="zip-", dir=out.parent) as folder:
        results = Path(folder) / "results"
        with index.video() as video:
            write_results(
                results,
                index.video_id,
                video,
                [track.query for track in tracks],
                answers(tracks, frames),
                OutputOptions(frames, palette=True),
                [track.facts for track in tracks],
            )
        (results / "README.txt").write_text(NOTE, encoding="utf-8")
        shutil.make_archive(str(out.with_suffix("")), "zip", results)


def python_lines(
    bundle: Path | str, video: str, texts: Sequence[str], threshold: float | None
) -> str:
    """A program that makes the same masks of the same video."""
    return LINES.format(bundle=str(bundle), video=video, texts=list(texts), threshold=threshold)
