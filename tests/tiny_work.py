"""A work that processes without any network do in a test: what becomes of a video is its name."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from aamn.jobs.engine import Call, Outcome
from proposals.decoding import Video
from proposals.errors import Busy, CannotWrite, InputError
from proposals.files import write_text


@dataclass(frozen=True)
class Tell:
    """Writes a file of the video's name; "kills-N" ends its process the first N times."""

    out: Path
    broken: str = ""

    def open(self) -> Call:
        if self.broken:
            raise InputError(self.broken)
        return self

    def __call__(self, video: Video, patient: bool) -> Outcome:
        what, _, number = video.video_id.partition("-")
        if what == "kills" and self._times(video) <= int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "broken":
            raise InputError(f"{video.path} is broken")
        if what == "bug":
            raise KeyError("no such thing")
        if what == "full":
            raise CannotWrite("the disk is full")
        if what == "busy" and not patient:
            raise Busy(f"another one writes {video.video_id}")
        write_text(self.out / video.video_id, f"{video.video_id} {patient}")
        return Outcome(lacking="ends early" if what == "short" else "")

    def _times(self, video: Video) -> int:
        """How often it was begun, this time included."""
        begun = self.out / f".{video.video_id}"
        with begun.open("a") as file:
            file.write("x")
        return begun.stat().st_size
