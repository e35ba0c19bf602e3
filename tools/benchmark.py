"""Measures what an index costs and what it saves, as ratios within one run."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from command_line import make_parser, run

from aamn.checkpoint import Loaded
from aamn.config import Config, load_config
from aamn.data.words import Vocabulary
from aamn.full_video import segment_video
from aamn.index import VideoIndex
from aamn.indexing import Costs, IndexJob, build_index
from aamn.models.build import build_segmenter
from aamn.structures import Query
from proposals.errors import InputError
from proposals.frames import FrameSource
from proposals.store import Attributes, BoxWindow

WORDS = ("red", "dog", "jumping", "left", "cat", "rolling", "ball", "the")
LENGTHS = (1, 4, 16)


class Noise(FrameSource):
    """A video of drifting noise that costs nothing to decode."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self.count, self.announced, self.size = count, count, size
        self.fps, self.path = 25.0, Path("noise")
        self.picture = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)

    def __len__(self) -> int:
        return self.count

    def _frame(self, index: int) -> np.ndarray | None:
        return np.roll(self.picture, index, 1) if index < self.count else None

    def close(self) -> None:
        """Nothing is open."""


class DriftingBoxes:
    """K boxes in every frame, which drift with the noise: what a detector would have found."""

    attributes = Attributes("drifting")

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def window(self, *given: object) -> BoxWindow:
        """As a store (video, indices, K) and as a source of boxes (frames, indices, K)."""
        _, indices, top = given
        (h, w), n = self.size, len(indices)
        rng = np.random.default_rng(1)
        corner = rng.uniform(0, 0.6, (top, 2)) * (w, h)
        boxes = np.concatenate([corner, corner + rng.uniform(0.2, 0.4, (top, 2)) * (w, h)], 1)
        drift = np.asarray(indices)[:, None, None] % 8 * np.array([1, 0, 1, 0])
        shape = (n, top)
        return BoxWindow(
            np.clip(boxes + drift, 0, (w, h, w, h)).astype(np.float32),
            np.ones(shape, np.float32),
            np.zeros(shape, np.int64),
            np.ones(shape, bool),
        )


def _seconds(work: Callable[[], object], times: int = 1) -> float:
    """The median duration of `times` calls."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def _forward_passes(job: IndexJob) -> float:
    """Seconds of the networks alone on inputs of the index's sizes: both streams with their FC
    layers on every frame, the mask head with its RoIAlign on every proposal."""
    segmenter, needs, count = job.segmenter, job.segmenter.needs, len(job.frames)
    h, w = needs.network_size
    frames, k = min(count, len(needs.offsets)), needs.proposals
    rgb = torch.rand(frames, 3, h, w, device=segmenter.device)
    images = {name: rgb[:, : 3 if name == "rgb" else 2] for name in segmenter.streams}
    image = torch.arange(frames, device=segmenter.device).float().repeat_interleave(k + 1)
    box = torch.tensor([0.2 * w, 0.2 * h, 0.6 * w, 0.6 * h], device=segmenter.device)
    regions = torch.cat([image[:, None], box.expand(len(image), 4)], 1)
    boxes = regions.view(frames, k + 1, 5)[:, 1:].reshape(-1, 5)

    @torch.inference_mode()
    def once() -> None:
        maps = {name: stream(images[name]) for name, stream in segmenter.streams.items()}
        for name in segmenter.described:
            segmenter.streams[name].features(maps[name], regions)
        side = segmenter.config.mask_head.resolution
        grids = [segmenter.streams[n].grids(maps[n], boxes, side) for n in segmenter.mask_sources]
        segmenter.mask_head(torch.cat(grids, 1))

    once()
    return _seconds(once, 3) * count / frames


def _peak(args: argparse.Namespace, frames: int) -> float:
    """Peak memory in MiB of a process of its own that indexes a video of so many frames."""
    words = [sys.executable, __file__, "--only-index", "--frames", str(frames)]
    words += ["--width", str(args.width), "--height", str(args.height)]
    words += ["--config", args.config] if args.config else []
    words += [word for value in args.overrides for word in ("--set", value)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise InputError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout.split()[-1])


def _job(args: argparse.Namespace) -> tuple[Loaded, IndexJob]:
    config = load_config(Config, args.config, args.overrides)
    torch.manual_seed(0)
    vocabulary = Vocabulary(WORDS)
    segmenter = build_segmenter(config, len(vocabulary)).eval()
    segmenter.to("cuda" if torch.cuda.is_available() else "cpu")
    size = (args.height, args.width)
    job = IndexJob(
        segmenter, "noise", Noise(args.frames, size), DriftingBoxes(size), None, config.flow
    )
    return Loaded(segmenter, vocabulary, config, 0), job


def _clip_by_clip(loaded: Loaded, job: IndexJob, query: Query) -> None:
    """The paper's way: every network again for a sentence."""
    found = segment_video(
        loaded.segmenter, "noise", job.frames, [query], job.boxes, None, loaded.config.flow
    )
    for _ in found:
        pass


def main() -> None:
    parser = make_parser(
        "Prints a table: indexing by part, against the forward passes it cannot avoid; the first "
        "and each further sentence; the paper's way; peak memory of longer videos.",
        "python tools/benchmark.py --config configs/aamn_demo.yaml --frames 120 --width 320",
    )
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--width", type=int, default=320, metavar="PIXELS")
    parser.add_argument("--height", type=int, default=240, metavar="PIXELS")
    parser.add_argument("--no-memory", action="store_true", help="leave out the longer videos")
    parser.add_argument("--only-index", action="store_true", help="print the peak memory in MiB")
    args = parser.parse_args()
    loaded, job = _job(args)
    costs = Costs(synchronise=torch.cuda.is_available())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.h5"
        indexing = _seconds(lambda: build_index(job, path, costs))
        if args.only_index:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            return
        index = VideoIndex.read(path, loaded)
        ask = lambda: [track.masks() for track in index.query(["red dog jumping"])]  # noqa: E731
        first, further = _seconds(ask), _seconds(ask, 5)
        stored = path.stat().st_size
    again = _seconds(lambda: _clip_by_clip(loaded, job, loaded.vocabulary.encode("red dog")))
    pure = _forward_passes(job) + costs.seconds["flow"]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    threads = torch.get_num_threads()
    print(f"{args.frames} frames of {args.width}x{args.height}; {device}, {threads} threads")
    rows = [("indexing", indexing)]
    rows += [(f"  {part}", value) for part, value in sorted(costs.seconds.items())]
    rows += [("forward passes and flow alone", pure), ("first sentence", first)]
    rows += [("each further sentence", further), ("clip by clip, one sentence", again)]
    print(f"{'part':<32}{'ms':>10}{'/ forward passes':>18}{'/ further sentence':>20}")
    for name, value in rows:
        print(f"{name:<32}{1000 * value:10.1f}{value / pure:18.3f}{value / further:20.1f}")
    print(f"index: {stored / 1024:.0f} KiB, {stored / 1024 / args.frames:.1f} a frame")
    if not args.no_memory:
        peaks = [_peak(args, args.frames * n) for n in LENGTHS]
        for n, peak in zip(LENGTHS, peaks, strict=True):
            print(f"peak memory at {n:>2}x: {peak:8.0f} MiB, {peak / peaks[0]:.3f} of 1x")


if __name__ == "__main__":
    run(main)
