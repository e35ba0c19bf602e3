"""The page's search through a folder of indexes: hits with a picture of what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aamn.index.file import IndexFile
from aamn.predictor import VideoSegmenter
from aamn.search.folder import Hit, IndexFolder
from aamn.web.pictures import thumbnail
from proposals.errors import InputError


class Library:
    """A folder of indexes; a video is named by its place among them, so that no path is told."""

    def __init__(self, segmenter: VideoSegmenter, folder: Path | str) -> None:
        """Raises:
        InputError: as `IndexFolder`, or it is a library of another kind.
        """
        indexes = segmenter.open_indexes(folder)
        if not isinstance(indexes, IndexFolder):
            raise InputError(f"--library {folder}: wanted a folder of indexes, of `aamn index`")
        self.indexes = indexes
        self._places = {file.path: place for place, file in enumerate(self.indexes.files)}

    def __len__(self) -> int:
        return len(self.indexes)

    @property
    def files(self) -> list[IndexFile]:
        return self.indexes.files

    def file(self, place: int) -> IndexFile:
        """Raises:
        InputError: there is no such video.
        """
        if not 0 <= place < len(self.files):
            raise InputError(f"there is no video {place} in the library")
        return self.files[place]

    def search(self, text: str, top: int) -> list[dict[str, Any]]:
        """The `top` videos that fit a sentence best, as plain values.

        Raises:
            InputError: a sentence without a word.
        """
        (hits,) = self.indexes.search([text], top)
        return [self._record(hit) for hit in hits]

    def _record(self, hit: Hit) -> dict[str, Any]:
        place = self._places[hit.path]
        fps = self.files[place].header.fps or 25.0
        return {
            "place": place,
            "video_id": hit.video_id,
            "score": round(hit.score, 4),
            "matched": hit.matched,
            "frames": [hit.frames.start, hit.frames.stop],
            "seconds": [round(hit.frames.start / fps, 2), round(hit.frames.stop / fps, 2)],
        }

    def thumbnail(self, place: int, text: str, frame: int) -> bytes:
        """A JPEG of one frame of a video with what the sentence means in it highlighted.

        Raises:
            InputError: no such video or frame, or its file is not there any more.
        """
        file = self.file(place)
        index = self.indexes.open(Hit(file.header.video_id, file.path, 0.0, range(1)))
        try:
            (track,) = index.query(text, absent_threshold=None)
            mask = track.masks([frame])[0]
            with index.video() as video:
                return thumbnail(video.read([frame])[0], [mask])
        finally:
            index.close()
