"""The flow file: one compressed HDF5 that holds the flow of every frame of many videos.

Attributes of the file: format, version and how the flow was computed (method, preset, weights,
longest_side). One data set a video under /videos, named by the video's id with "%25" for "%" and
"%2F" for "/": (N, 2, h, w) float16, (x, y) in pixels of its own h x w grid from each frame to the
next, the last frame repeating the flow before it; its attribute frame_size is (H0, W0), identity
that of the video (JSON; lacks in older files). Chunks have checksums (Fletcher-32), files of
version 0.1 none.

Extraction writes one small file a video beside the result, each complete or absent, and at the
end joins them into the result: whatever kills it costs the videos in progress, no more.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import as_completed
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args, get_type_hints

import cv2
import h5py
import numpy as np
from tqdm import tqdm

from aamn.config.schema import FlowConfig
from aamn.data.flow.estimators import build_estimator, grid_size, iterate_flow
from aamn.structures import InputSpec
from proposals.errors import CannotWrite, InputError
from proposals.files import (
    escaped,
    hdf5_aside,
    locked,
    open_hdf5,
    sweep,
    unescaped,
)
from proposals.frames import FrameSource, open_frames, resize_frame
from proposals.identity import (
    Identity,
    check_same,
    describe_unknown,
    identity_of,
    is_outdated,
    say_once,
)
from proposals.limits import read_array
from proposals.terminal import printable
from proposals.workers import worker_pool

log = logging.getLogger("aamn")

FORMAT, VERSION = "aamn-flow", 1
Job = tuple[str, Path, Path, FlowConfig]  # a video's id and path, the folder of parts
Runner = Callable[[list[Job]], Iterable[tuple[str, str]]]  # (video_id, "" or what went wrong)
BLOCK = 64  # frames of flow that are written at once
METHODS = get_args(get_type_hints(FlowConfig)["method"])


class FlowStore:
    """The reading side of a flow file; picklable, each process opens the file for itself."""

    def __init__(
        self,
        path: Path,
        attributes: dict[str, Any],
        frames: dict[str, int],
        identities: Mapping[str, Identity | None],
    ) -> None:
        self.path, self.attributes, self._counts = path, attributes, frames
        self.identities = identities
        self._file: h5py.File | None = None
        self._process = -1

    @classmethod
    def read(cls, path: str | Path) -> FlowStore:
        """Opens a flow file.

        Raises:
            InputError: the file is missing, damaged, or no flow file of this version.
        """
        path = Path(path)
        with _open(path) as file:
            _check_format(path, file)
            videos = {unescaped(name): data for name, data in file["videos"].items()}
            counts = {video_id: len(data) for video_id, data in videos.items()}
            identities = {video_id: _identity(path, data) for video_id, data in videos.items()}
            return cls(path, _plain(file.attrs), counts, identities)

    @property
    def video_ids(self) -> list[str]:
        """The videos in the file."""
        return list(self._counts)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._counts

    def frame_count(self, video_id: str) -> int:
        """Frames of one video; InputError when the file lacks it."""
        self._check(video_id)
        return self._counts[video_id]

    def check(self, video_id: str, frames: FrameSource, config: FlowConfig | None = None) -> None:
        """Raises:
        InputError: the file lacks the video, its flow is that of another one, or was not computed
            as the configuration says.
        """
        self._check(video_id)
        if config is not None:
            self.check_settings(config)
        advice = "run `aamn flow` with its --out again, or name another flow file"
        check_same(self.identities[video_id], frames, self.path, f"{video_id!r}", advice)

    def check_settings(self, config: FlowConfig) -> None:
        """Flow of a method that is none of ours cannot be compared, and is said to be.

        Raises:
            InputError: the flow was not computed as the configuration says.
        """
        method = self.attributes.get("method")
        if method not in METHODS:
            say_once(f"{self.path}: flow by {method!r}, which nothing compares with flow.method")
            return
        key = self.difference(config)
        if key:
            raise InputError(
                f"{self.path} was made with flow.{key} {self.attributes.get(key)!r}, the "
                f"configuration has {getattr(config, key)!r}; compute the flow again, or give "
                f"--set flow.{key}={self.attributes.get(key)}"
            )

    def difference(self, config: FlowConfig) -> str:
        """The first key of the configuration that was another when the file was made; "" when all
        were the same. Weights are known by their file's name."""
        for key, value in asdict(config).items():
            made = self.attributes.get(key)
            if made != value and (key != "weights" or Path(str(made)).name != Path(value).name):
                return key
        return ""

    def window(self, video_id: str, frame_indices: np.ndarray) -> np.ndarray:
        """Flow (T, 2, h, w) float32 of the frames at `frame_indices` (T,), in pixels of the stored
        grid.

        Raises:
            InputError: the file lacks the video or a frame, or is damaged there.
        """
        self._check(video_id)
        indices = np.asarray(frame_indices, np.int64)
        first, last = int(indices.min()), int(indices.max())
        if first < 0 or last >= self._counts[video_id]:
            raise InputError(
                f"{self.path}: wanted frame {last if first >= 0 else first} of {video_id}, the "
                f"file has {self._counts[video_id]}; the video has changed: extract its flow again"
            )
        where = f"{self.path}, video {printable(video_id)}"
        stored = read_array(self._videos()[escaped(video_id)], where, slice(first, last + 1))
        flow = stored[indices - first].astype(np.float32)
        if not np.isfinite(flow).all():
            raise InputError(f"{where}: the flow is not finite; extract it again")
        return flow

    def _check(self, video_id: str) -> None:
        if video_id not in self._counts:
            raise InputError(
                f"{self.path} has no flow of video {video_id}; run `aamn flow` with the "
                "same --out again to add it"
            )

    def _videos(self) -> h5py.Group:
        if self._file is None or self._process != os.getpid():  # HDF5 files do not survive a fork
            self._file, self._process = _open(self.path), os.getpid()
        return self._file["videos"]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_process": -1}


def stored_flow(
    path: str | Path | None, input_spec: InputSpec, config: FlowConfig
) -> FlowStore | None:
    """The flow file, where one is named and flow is wanted.

    Raises:
        InputError: as `FlowStore.read` and `FlowStore.check_settings`.
    """
    if not path or not input_spec.flow:
        return None
    store = FlowStore.read(path)
    store.check_settings(config)
    describe_unknown(list(store.identities.values()), store.path)
    return store


def extract_flow(
    videos: Mapping[str, str | Path],
    out: str | Path,
    config: FlowConfig,
    workers: int = 2,
    run: Runner | None = None,
) -> dict[str, str]:
    """Adds the flow of `videos` (id: file or folder of frames) to the file `out`; what it or an
    interrupted run has done already is kept, unless the video was replaced since. Returns what
    went wrong, by video. `run` does the videos that lack; default: so many processes.

    Raises:
        InputError: `out` was computed in another way, or cannot be written.
    """
    out = Path(out)
    parts = out.with_name(out.name + ".parts")
    build_estimator(config)
    with locked(parts / "lock", out):
        for stray in parts.glob(".*.tmp"):
            stray.unlink()
        sweep(out)
        failures = _extract(videos, out, parts, config, run or partial(_run, workers=workers))
    with suppress(OSError):  # not empty: it waits for the next run
        parts.rmdir()
    return failures


def _extract(
    videos: Mapping[str, str | Path], out: Path, parts: Path, config: FlowConfig, run: Runner
) -> dict[str, str]:
    done, failures = _finished(out, parts, config), {}
    jobs = []
    for video_id, path in videos.items():
        try:
            if not _is_there(done, video_id, Path(path), out):
                jobs.append((video_id, Path(path), parts, config))
        except InputError as conflict:
            failures[video_id] = str(conflict)
    there = len(videos) - len(jobs) - len(failures)
    if there:
        log.info("%s: %d of %d videos are there already", out, there, len(videos))
    for video_id, error in run(jobs):
        if error:
            failures[video_id] = error
    _join(out, parts, config)
    return failures


def _is_there(done: Mapping[str, Identity | None], video_id: str, path: Path, out: Path) -> bool:
    """Whether the flow of this very video is done.

    Raises:
        InputError: another video of its id is, and lies where it lay.
    """
    return video_id in done and not is_outdated(
        done[video_id], identity_of(path), out, repr(video_id)
    )


def _join(out: Path, parts: Path, config: FlowConfig) -> None:
    """Makes one file of `out`, where it exists, and the videos in `parts`, which it empties; a part
    is never older than what it is joined to."""
    new = sorted(parts.glob("*.h5"))
    if out.exists() and not new:
        return
    sources = [path for path in (*new, out) if path.exists()]
    with hdf5_aside(out) as joined:
        _describe(joined, config)
        for path in sources:
            with _open(path) as file:
                for name, data in file["videos"].items():
                    if name not in joined["videos"]:
                        file.copy(data, joined["videos"], name)
    for part in new:
        part.unlink()


def _run(jobs: list[Job], workers: int) -> Iterator[tuple[str, str]]:
    """(video_id, "" or what went wrong) of each job as it ends."""
    with tqdm(total=len(jobs), desc="flow", unit="video") as bar:
        for result in _results(jobs, workers):
            bar.update()
            yield result


def _results(jobs: list[Job], workers: int) -> Iterator[tuple[str, str]]:
    if workers < 1 or len(jobs) < 2:
        yield from map(extract_one, jobs)
        return
    with worker_pool(min(workers, len(jobs))) as pool:
        for future in as_completed([pool.submit(extract_one, job) for job in jobs]):
            yield future.result()


def extract_one(job: Job) -> tuple[str, str]:
    """Writes one video's flow into a file of its own, whole or not at all; (video_id, "" or what
    went wrong).

    Raises:
        CannotWrite: the disk is full.
    """
    video_id, path, parts, config = job
    cv2.setNumThreads(1)
    try:
        with open_frames(path) as frames, hdf5_aside(part_path(parts, video_id)) as file:
            _describe(file, config)
            identity = identity_of(path)  # before its frames are read
            _write_flow(file, video_id, frames, config)
            file["videos"][escaped(video_id)].attrs["identity"] = identity.to_json()
            return video_id, frames.lacking()
    except CannotWrite:
        raise
    except InputError as error:
        return video_id, str(error)


def _write_flow(file: h5py.File, video_id: str, frames: FrameSource, config: FlowConfig) -> None:
    """Adds the flow of one video, a block of frames at a time: videos may be long."""
    size = grid_size(frames.size, config.longest_side)
    name = escaped(video_id)
    data = file["videos"].create_dataset(
        name,
        (0, 2, *size),
        np.float16,
        maxshape=(None, 2, *size),
        chunks=(1, 2, *size),
        compression="lzf",
        shuffle=True,
        fletcher32=True,
    )
    data.attrs["frame_size"] = frames.size
    pictures = (resize_frame(frame, size) for frame in frames.iterate())
    flows = iterate_flow(pictures, build_estimator(config))
    while block := list(islice(flows, BLOCK)):
        values = np.stack(block).astype(np.float16)
        if not np.isfinite(values).all():
            raise InputError(f"{frames.path}: {config.method} found flow that is not finite")
        data = file["videos"][name]  # a full disk ends it here
        data.resize(len(data) + len(block), 0)
        data[-len(block) :] = values


def _finished(out: Path, parts: Path, config: FlowConfig) -> dict[str, Identity | None]:
    """Videos whose flow is in the file or in its parts, all computed as `config` says."""
    done: dict[str, Identity | None] = {}
    for path in (out, *parts.glob("*.h5")):
        if path.exists():
            store = FlowStore.read(path)
            key = store.difference(config)
            if key:
                raise InputError(
                    f"{path} was made with another flow.{key} ({store.attributes.get(key)!r}); "
                    "remove it or choose another --out"
                )
            done.update(store.identities)
    return done


def _describe(file: h5py.File, config: FlowConfig) -> None:
    file.attrs.update({"format": FORMAT, "version": VERSION, **asdict(config)})
    file.create_group("videos")


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as Python's own numbers and texts."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in attributes.items()}


def _identity(path: Path, video: h5py.Dataset) -> Identity | None:
    try:
        return Identity.from_json(str(video.attrs.get("identity", "")))
    except ValueError as error:
        raise InputError(f"{path}, {video.name}: {error}; compute the flow again") from None


def _check_format(path: Path, file: h5py.File) -> None:
    if file.attrs.get("format") != FORMAT or "videos" not in file:
        raise InputError(f"{path} is no flow file; `aamn flow` writes one")
    if file.attrs["version"] != VERSION:
        raise InputError(
            f"{path} has version {file.attrs['version']} of the flow format, this program reads "
            f"version {VERSION}; extract the flow again"
        )


def _open(path: Path) -> h5py.File:
    return open_hdf5(path, "flow file", "`aamn flow` writes one")


def part_path(parts: Path, video_id: str) -> Path:
    """Where one video's flow waits for the others."""
    return parts / f"{hashlib.sha256(video_id.encode()).hexdigest()[:24]}.h5"
