"""Which clips of a video are indexed, and which frames they need."""

from __future__ import annotations

from collections.abc import Iterator

from aamn.index.file import NO_END, Selection
from aamn.inference.clip_by_clip import Window, plan_windows
from aamn.structures import InputSpec


class ClipPlanner:
    """Hands out the clips of a selection as the frames of a video come in."""

    def __init__(self, selection: Selection, input_spec: InputSpec) -> None:
        self.selection, self.input_spec = selection, input_spec
        self.planned = 0  # key frames, or the frame up to which clips are handed out

    def runs(self) -> Iterator[range]:
        """The frames of the wanted clips, in runs without a gap; a video may end before."""
        wanted, length = self.selection.frames, len(self.input_spec.offsets)
        if wanted is None:
            yield range(NO_END)
        elif wanted.step <= length:
            last = wanted[-1] // length * length
            yield range(wanted.start // length * length, last + length)
        else:
            for frame in wanted:
                yield range(frame // length * length, frame // length * length + length)

    def begin(self, run: range) -> None:
        """Goes on with the clips of a run of frames."""
        self.planned = run.start

    def ready(self, total: int, ended: bool) -> list[Window]:
        """The next wanted clips all of whose frames are among the first `total`, which are the
        whole video if it has ended."""
        ready = self._next(total, ended)
        return [w for w in ready if self.selection.wants(range(w.start, w.stop))]

    def _next(self, total: int, ended: bool) -> list[Window]:
        after, length = max(self.input_spec.offsets), len(self.input_spec.offsets)
        if self.selection.key_frames is not None:
            waiting = self.selection.key_frames[self.planned :]
            keys = [k for k in waiting if ended or k + after < total]
            self.planned += len(keys)
            within = dict.fromkeys(min(k, total - 1) for k in keys)
            return [Window(k, k, k + 1) for k in within if total]
        first = self.planned
        whole = (total - first) // length
        self.planned += whole * length
        windows = [
            Window(start + length - 1 - after, start, start + length)
            for start in range(first, self.planned, length)
        ]
        if ended and self.planned < total:
            windows.append(plan_windows(total, self.input_spec)[-1])
        return windows
