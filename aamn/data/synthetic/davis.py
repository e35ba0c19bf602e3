"""Folders in DAVIS's layout: frames, and a mask for each, of real sequences.

    JPEGImages/480p/SEQUENCE/00000.jpg     frames
    Annotations/480p/SEQUENCE/00000.png    masks: 0 the background, else the object's number
    expressions.csv                        video_id,object_id,expression: who the objects are

Without an expression the sequence's name says who it shows (`car-shadow`, `dog`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proposals.errors import InputError
from proposals.files import numbered_csv
from proposals.frames import images_in
from proposals.pictures import opened_picture, read_picture

_RESOLUTION = "480p"
_WANTED = "wanted JPEGImages/480p/SEQUENCE/*.jpg and Annotations/480p/SEQUENCE/*.png"

# The words by which an expression names one of A2D's actors.
_ACTOR_WORDS = {
    "adult": "man woman person boy girl guy lady rider biker cyclist surfer skater dancer",
    "baby": "baby toddler infant",
    "ball": "ball football",
    "bird": "bird swan blackswan duck mallard goose flamingo parrot pigeon",
    "car": "car taxi automobile van",
    "cat": "cat kitten",
    "dog": "dog puppy",
}
_ACTOR_OF = {word: actor for actor, words in _ACTOR_WORDS.items() for word in words.split()}


@dataclass(frozen=True)
class DavisObject:
    """An object of a sequence: its number in the masks, and which of A2D's actors it is."""

    number: int
    actor: str


@dataclass(frozen=True)
class DavisSequence:
    """A sequence's files, a mask for each frame, and those of its objects that are actors."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    objects: tuple[DavisObject, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A frame (H0, W0, 3) uint8 RGB and the object's number at each of its pixels (H0, W0).

        Raises:
            InputError: a file that cannot be read, or a mask of another size.
        """
        frame, file = read_picture(self.frames[index]), self.masks[index]
        with opened_picture(file) as image:
            mask = np.asarray(image if image.mode in ("P", "L", "1") else image.convert("L"))
        if mask.shape != frame.shape[:2]:
            (h, w), (h0, w0) = mask.shape, frame.shape[:2]
            raise InputError(
                f"{file}: the mask is {w}x{h}, its frame {w0}x{h0}; give both one size"
            )
        if set(np.unique(mask)) <= {0, 255}:
            mask = (mask > 0).astype(np.uint8)
        return frame, mask


def find_sequences(folder: Path) -> list[DavisSequence]:
    """All sequences of a folder, which has DAVIS's layout itself or holds folders that have it, by
    name.

    Raises:
        InputError: no folder, no sequence in it, a frame without a mask, the same sequence twice,
            or nobody that A2D knows in any of them.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; {_WANTED} in it")
    roots = [root for root in (folder, *sorted(folder.iterdir())) if _is_root(root)]
    found = sorted((s for root in roots for s in _sequences(root)), key=lambda one: one.name)
    if not found:
        raise InputError(f"{folder} holds no sequence in DAVIS's layout: {_WANTED}")
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{folder}: the sequence {twice} is there twice; remove one")
    if not any(one.objects for one in found):
        raise InputError(
            f"{folder}: no expression and no name tells of one of A2D's actors "
            f"({', '.join(_ACTOR_WORDS)}); say in expressions.csv (video_id,object_id,expression) "
            "who the objects are"
        )
    return found


def fingerprint(sequences: list[DavisSequence]) -> str:
    """A hash of the names and sizes of all files, and of who they show."""
    digest = hashlib.sha256()
    for one in sequences:
        digest.update(repr((one.name, one.objects)).encode())
        for file in (*one.frames, *one.masks):
            digest.update(f"{file.name}:{file.stat().st_size};".encode())
    return digest.hexdigest()[:16]


def _is_root(folder: Path) -> bool:
    return (folder / "JPEGImages").is_dir()


def _resolution(folder: Path) -> Path:
    """The folder of sequences: 480p where there are several resolutions."""
    usual = folder / _RESOLUTION
    if usual.is_dir():
        return usual
    return next((one for one in sorted(folder.iterdir()) if one.is_dir()), usual)


def _sequences(root: Path) -> Iterator[DavisSequence]:
    frames = _resolution(root / "JPEGImages")
    masks = root / "Annotations" / frames.name
    said = _expressions(root / "expressions.csv")
    for folder in sorted(frames.iterdir()) if frames.is_dir() else ():
        if folder.is_dir():
            yield _sequence(folder, masks / folder.name, said.get(folder.name, {}))


def _sequence(folder: Path, masks: Path, said: dict[int, str]) -> DavisSequence:
    frames = tuple(images_in(folder))
    if not frames:
        raise InputError(f"{folder}: the sequence holds no image; add its frames or remove it")
    files = tuple(masks / f"{frame.stem}.png" for frame in frames)
    lacking = next((file for file in files if not file.is_file()), None)
    if lacking is not None:
        raise InputError(f"{lacking} is not there: every frame of {folder} wants a mask")
    told = said or {1: folder.name}
    actors = {number: _actor(text) for number, text in told.items()}
    objects = (DavisObject(number, actor) for number, actor in sorted(actors.items()) if actor)
    return DavisSequence(folder.name, frames, files, tuple(objects))


def _actor(text: str) -> str:
    """The actor that the first of its words names that names one; "" for none."""
    words = re.findall(r"[a-z]+", text.lower())
    return next((_ACTOR_OF[word] for word in words if word in _ACTOR_OF), "")


def _expressions(file: Path) -> dict[str, dict[int, str]]:
    """Sequence -> number of an object -> the first expression about it."""
    found: dict[str, dict[int, str]] = {}
    if not file.is_file():
        return found
    for line, row in numbered_csv(file):
        if not row or row[0] == "video_id":
            continue
        if len(row) < 3 or not row[1].strip().isdigit():
            raise InputError(f"{file}, line {line}: wanted video_id,object_id,expression")
        found.setdefault(row[0], {}).setdefault(int(row[1]), row[2])
    return found
