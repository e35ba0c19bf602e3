"""Checks a data set before anyone trains on it for a day: what is missing, damaged or at odds.

Fast checks look at lists, headers and the first frame of each video; deep ones decode everything.
What is known to be odd in the published files and read as it should be is no finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aamn.data.datasets.source import KeyFrame, VideoTextSource
from aamn.data.words import tokenise
from proposals.errors import InputError
from proposals.frames import FrameSource

SHORT = 0.9  # a video that decodes less than this share of its announced frames is damaged


@dataclass(frozen=True)
class Finding:
    """Something wrong: fatal when reading it fails or teaches nonsense, else a warning. `where`
    is a video or file; `fetch` the path below the root that is to be downloaded again."""

    fatal: bool
    where: str
    what: str
    fetch: str = ""

    @property
    def severity(self) -> str:
        """The word for it."""
        return "fatal" if self.fatal else "warning"


@dataclass(frozen=True)
class Count:
    """How many there are, and how many the published data set has (None: no such number)."""

    name: str
    found: int
    published: int | None = None


@dataclass(frozen=True)
class Verification:
    """What a check counted and found, worst first."""

    counts: tuple[Count, ...]
    findings: tuple[Finding, ...]

    @property
    def fatal(self) -> int:
        """How many findings are fatal."""
        return sum(finding.fatal for finding in self.findings)

    def table(self) -> str:
        """Counts and findings as text."""
        lines = [_count_line(count) for count in self.counts]
        if self.findings:
            width = max(len(finding.where) for finding in self.findings)
            lines += ["", *(f"{f.severity:7}  {f.where:{width}}  {f.what}" for f in self.findings)]
        warnings = len(self.findings) - self.fatal
        return "\n".join([*lines, "", f"{self.fatal} fatal findings, {warnings} warnings"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "counts": [asdict(count) for count in self.counts],
            "findings": [{**asdict(f), "severity": f.severity} for f in self.findings],
        }

    def fix_list(self) -> list[str]:
        """The paths below the root to download again."""
        return sorted({finding.fetch for finding in self.findings if finding.fetch})


def verification(counts: Sequence[Count], findings: Iterable[Finding]) -> Verification:
    """Sorts what was found."""
    ordered = sorted(findings, key=lambda finding: (not finding.fatal, finding.where, finding.what))
    return Verification(tuple(counts), tuple(ordered))


def _count_line(count: Count) -> str:
    published = "" if count.published is None else f"  (published: {count.published})"
    return f"{count.name:28} {count.found:7}{published}"


def is_truncated(path: Path) -> bool:
    """Whether an mp4 ends inside one of its boxes or holds no index ("moov"), from the boxes'
    headers alone."""
    end, at, kinds = path.stat().st_size, 0, set()
    with path.open("rb") as file:
        while at + 8 <= end:
            file.seek(at)
            header = file.read(16)
            size, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if size == 1:
                size = int.from_bytes(header[8:16], "big")
            kinds.add(kind)
            if size == 0:  # the last box goes to the end
                size = end - at
            if size < 8:
                return True
            at += size
    return at != end or b"moov" not in kinds


def count_frames(frames: FrameSource, deep: bool) -> int:
    """How many frames a video has: decoded when `deep`, else as its header says."""
    return len(frames) if deep else frames.announced


def stops_early(frames: FrameSource) -> str:
    """What to say of a video that decodes far fewer frames than it announces; "" of others."""
    decoded = len(frames)
    if decoded >= SHORT * frames.announced:
        return ""
    return f"decoding stops after {decoded} of {frames.announced} frames"


def compare(found: Mapping[str, int], published: Mapping[str, int]) -> list[Count]:
    """The counts beside those of the data set its authors distribute."""
    return [Count(name, number, published.get(name)) for name, number in found.items()]


def unlike_published(counts: Iterable[Count]) -> Iterator[Finding]:
    """A warning for each count that differs from the published one."""
    for count in counts:
        if count.published not in (None, count.found):
            what = f"{count.found}, but {count.published} were published"
            yield Finding(False, count.name, what)


def verify_sources(
    sources: Sequence[VideoTextSource], deep: bool, root: Path, published: Mapping[str, int]
) -> Verification:
    """Checks what any reader offers: frames decode, masks fit them, sentences hold words."""
    found = {
        "videos": len({v for source in sources for v in source.video_ids}),
        "sentences": sum(len(source.texts()) for source in sources),
        "annotated frames": sum(len(source.key_frames) for source in sources),
    }
    counts = compare(found, published)
    findings = [finding for source in sources for finding in _check_source(source, deep, root)]
    return verification(counts, [*unlike_published(counts), *dict.fromkeys(findings)])


def _check_source(source: VideoTextSource, deep: bool, root: Path) -> Iterator[Finding]:
    by_video: dict[str, list[KeyFrame]] = {video_id: [] for video_id in source.video_ids}
    for key_frame in source.key_frames:
        by_video[key_frame.video_id].append(key_frame)
    for video_id, key_frames in tqdm(by_video.items(), desc="videos", unit="video", leave=False):
        for expression in source.sentences(video_id):
            if not tokenise(expression.text):
                yield Finding(True, video_id, f"the sentence {expression.text!r} holds no word")
        yield from _check_video(source, video_id, key_frames, deep, root)


def _check_video(
    source: VideoTextSource, video_id: str, key_frames: list[KeyFrame], deep: bool, root: Path
) -> Iterator[Finding]:
    fetch = _below(root, source.video_path(video_id))
    try:
        frames = source.frames(video_id)
        early = stops_early(frames) if deep else ""
        count = count_frames(frames, deep)
        if deep:
            for _ in frames.iterate():
                pass
    except InputError as error:
        yield Finding(True, video_id, str(error), fetch)
        return
    if early:
        yield Finding(True, video_id, early, fetch)
    for key_frame in key_frames if deep else key_frames[:1]:
        yield from _check_targets(source, key_frame, frames, count)


def _check_targets(
    source: VideoTextSource, key_frame: KeyFrame, frames: FrameSource, count: int
) -> Iterator[Finding]:
    where = f"{key_frame.video_id} frame {key_frame.frame}"
    if key_frame.frame >= count:
        yield Finding(True, where, f"is annotated, but the video has {count} frames")
        return
    try:
        targets = source.targets(key_frame)
    except InputError as error:
        yield Finding(True, where, str(error))
        return
    for target in {target.instance: target for target in targets}.values():
        size = tuple(target.mask.shape)
        if size != tuple(frames.size):
            yield Finding(
                True,
                where,
                f"the mask of instance {target.instance} is {size[1]}x{size[0]}, frames are "
                f"{frames.size[1]}x{frames.size[0]}",
            )


def _below(root: Path, path: Path) -> str:
    """The path relative to the root, or as it is when it lies elsewhere."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
