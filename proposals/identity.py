"""Which video a file was made from, by its content: a name says little, and another day's clip may
be just as long."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from proposals import places
from proposals.errors import InputError
from proposals.frames import FrameSource, ImageList, SpooledFrames, images_in

log = logging.getLogger("proposals")

BLOCK = 64 << 10  # bytes
BLOCKS = 5  # of a file, from its first bytes to its last
PICTURES = 5  # of a folder, from its first to its last, whose blocks are looked at
KINDS = ("file", "folder", "frames", "unknown")


@dataclass(frozen=True)
class Identity:
    """What tells a video from others, wherever it lies; its id and its size in pixels stand beside
    it in whatever was made from it.

    `kind` is one of KINDS, `path` absolute or a URL, or the name of frames in memory; `bytes` those
    of the file, or of a folder's pictures; `blocks` a hash: of a few blocks of the file, of the
    names and sizes of all of a folder's pictures and blocks of a few, or of all frames in memory.
    Nothing but its name is known of what is "unknown".
    """

    kind: str
    path: str
    bytes: int = 0
    blocks: str = ""

    def equals(self, other: Identity) -> bool | None:
        """Whether both are the same video; None where that cannot be told."""
        kinds = {self.kind, other.kind}
        if "unknown" in kinds or ("frames" in kinds and len(kinds) > 1):
            return None
        return (self.kind, self.bytes, self.blocks) == (other.kind, other.bytes, other.blocks)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Identity | None:
        """The inverse of `to_json`; "" is None, as older files have it.

        Raises:
            ValueError: another text.
        """
        if not text:
            return None
        try:
            found = cls(**json.loads(text))
            types = [type(value) for value in asdict(found).values()]
        except (TypeError, ValueError):
            types = []
        if types != [str, str, int, str] or found.kind not in KINDS:
            raise ValueError(f"{text[:200]!r} is no identity of a video")
        return found


def identity_of(video: FrameSource | Path | str) -> Identity:
    """The identity of a video's file or folder of pictures, or of frames in memory; what was read
    already and has kept its time and size is not read again.

    Raises:
        InputError: it cannot be read.
    """
    path = video.path if isinstance(video, FrameSource) else places.local_name(video)
    places.fetch(path)
    try:
        if path.is_dir():
            return _of_files("folder", path, images_in(path))
        if path.is_file():
            return _of_files("file", path, [path])
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if isinstance(video, SpooledFrames | ImageList):  # named by a hash of their frames
        return Identity("frames", path.name, blocks=path.name.rpartition("-")[2])
    return Identity("unknown", str(path))


def check_same(
    stored: Identity | None, video: FrameSource | Path, file: Path, what: str, advice: str
) -> None:
    """Compares the video that `what` in `file` was made from with the one it is to be used with;
    says so where that cannot be done. (That `stored` is None is said when a file is opened.)

    Raises:
        InputError: they differ; `advice` says what to do.
    """
    found = identity_of(video)
    same = found.equals(stored) if stored else None
    if stored and same is False:
        raise InputError(f"{file}: {what} was made from {_other(stored, found)}; {advice}")
    if stored and same is None:
        say_once(f"{file}: nothing tells whether {what} is of {found.path}: it cannot be checked")


def is_outdated(
    stored: Identity | None, found: Identity, file: Path, what: str, replace: bool = False
) -> bool:
    """Whether `what`, which `file` keeps for later runs, must be made again, because another video
    has taken the place of the one it was made from; the log says so.

    Args:
        replace: also where that one is still there under the same id, and not lost.

    Raises:
        InputError: it is still there, and not `replace`.
    """
    if stored is None:
        unchecked(file)
    if stored is None or found.equals(stored) is not False:
        return False
    other = _other(stored, found)
    if not replace and stored.path != found.path and _is_there(stored):
        raise InputError(
            f"{file}: {what} was made from {other}, of the same id; choose another --out"
        )
    log.warning("%s: %s was made from %s: made again", file, what, other)
    return True


def unchecked(file: Path) -> None:
    """Says once that a file from before files said it does not tell its videos."""
    say_once(f"{file} does not say which video it was made from: that cannot be checked")


def describe_unknown(identities: Sequence[Identity | None], file: Path) -> None:
    """Says once how many videos of a file do not say which they are."""
    unknown = sum(one is None for one in identities)
    if unknown:
        say_once(
            f"{file}: {unknown} of {len(identities)} videos are stored without their identity; "
            "that they are those they are used with cannot be checked"
        )


def _other(stored: Identity, found: Identity) -> str:
    if stored.path == found.path:
        return f"what {found.path} was before it was replaced"
    return f"{stored.path}, another video than {found.path}"


def _is_there(stored: Identity) -> bool:
    try:
        return identity_of(stored.path).equals(stored) is True
    except InputError:
        return False


@functools.lru_cache(maxsize=4096)
def say_once(line: str) -> None:
    """A warning that a process gives once, however often it comes by."""
    log.warning("%s", line)


def _of_files(kind: str, path: Path, files: Sequence[Path]) -> Identity:
    states = ((str(file.absolute()), file.stat()) for file in files)
    known = tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)
    whole = sum(size for _, size, _ in known)
    return Identity(kind, places.shown(path), whole, _hash_of(kind, known))


@functools.lru_cache(maxsize=4096)
def _hash_of(kind: str, files: tuple[tuple[str, int, int], ...]) -> str:
    """Of (path, size, time of change) of files; the times only tell when to look again."""
    digest = hashlib.blake2b(digest_size=16)
    for name, size, _ in files:
        digest.update(f"{os.path.basename(name) if kind == 'folder' else ''}\0{size}\0".encode())
    for place in _spread(len(files) - 1, PICTURES):
        name, size, _ = files[place]
        for block in _blocks(name, size):
            digest.update(block)
    return digest.hexdigest()


def _blocks(name: str, size: int) -> Iterator[bytes]:
    with open(name, "rb") as file:
        for start in _spread(max(0, size - BLOCK), BLOCKS):
            file.seek(start)
            yield file.read(BLOCK)


def _spread(last: int, count: int) -> list[int]:
    """Up to `count` different whole numbers from 0 to `last`, both included; none below 0."""
    return sorted({last * n // (count - 1) for n in range(count)}) if last >= 0 else []
