"""Videos that lie in a folder, and your own data: such videos with a CSV of sentences."""

from __future__ import annotations

import glob
from pathlib import Path

from proposals.errors import InputError
from proposals.frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES


def find_videos(where: str | Path) -> dict[str, Path]:
    """Videos by id, which is the name without the suffix. `where` is a video, a folder of videos,
    a folder of images (one video) or of such folders, a pattern with * or ?, or a .txt file that
    lists any of these, one a line.

    Raises:
        InputError: there is none, or two have the same id.
    """
    found: dict[str, Path] = {}
    for path in _paths(str(where)):
        video_id = path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
        if found.setdefault(video_id, path) != path:
            raise InputError(f"{found[video_id]} and {path} have the same video id {video_id}")
    if not found:
        raise InputError(f"{where}: no video there; wanted {' '.join(sorted(VIDEO_SUFFIXES))}")
    return found


def _paths(where: str) -> list[Path]:
    path = Path(where)
    if path.is_dir():
        return _videos_of(path)
    if path.suffix == ".txt" and path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        return [found for line in lines if line.strip() for found in _paths(line.strip())]
    if any(letter in where for letter in "*?["):
        return [Path(match) for match in sorted(glob.glob(where, recursive=True))]
    if not path.exists():
        raise InputError(f"no video at {path}")
    return [path]


def _videos_of(folder: Path) -> list[Path]:
    """The folder itself when it holds images, else the videos and folders of images in it."""
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if any(path.suffix.lower() in IMAGE_SUFFIXES for path in inside):
        return [folder]
    return [
        path
        for path in inside
        if path.suffix.lower() in VIDEO_SUFFIXES
        or (path.is_dir() and any(f.suffix.lower() in IMAGE_SUFFIXES for f in path.iterdir()))
    ]
