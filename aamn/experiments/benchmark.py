"""Measures what an index costs and what it saves, as ratios within one run, and what a frame costs
beside the paper's system."""

from __future__ import annotations

import copy
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from torch import nn

from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.data.words import Vocabulary, Words
from aamn.experiments.cost_model import chain_line, cost_table, measure_machine, part_costs
from aamn.experiments.flops import frame_bytes, frame_flops
from aamn.index.box_source import BoxSource, DetectedBoxes, SharedBoxes, detected_boxes
from aamn.index.builder import FRAMES_AT_ONCE, build_index
from aamn.index.job import IndexJob
from aamn.index.query_encoder import QueryEncoder
from aamn.index.timer import AHEAD, Timer
from aamn.index.video_index import VideoIndex
from aamn.inference.checkpoint import Loaded
from aamn.inference.clip_by_clip import segment_video
from aamn.models.aamn import AAMN, as_aamn
from aamn.models.build import build_segmenter
from aamn.structures import Query
from proposals.build import best_device, build_detector
from proposals.config import DetectorConfig
from proposals.detector import TorchDetector
from proposals.errors import InputError
from proposals.frames import FrameSource
from proposals.store import Attributes, BoxWindow, ProposalStore

PAPERS = ("aamn_vgg16_a2d", "detector_resnet101_fpn")  # the system to be beaten


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured: a recipe, a detector's recipe (none: boxes as given), the video's size;
    whether also compiled on the CPU, and the memory of longer videos."""

    config: str | None = None
    overrides: tuple[str, ...] = ()
    detector: str | None = None
    frames: int = 120
    width: int = 320
    height: int = 240
    compile: bool = False
    memory: bool = True
    only_index: bool = False
    precision: str = "float32"


Network = TypeVar("Network", bound=nn.Module)

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
        indices, top = np.asarray(given[1]), cast(int, given[2])
        (h, w), n = self.size, len(indices)
        rng = np.random.default_rng(1)
        corner = rng.uniform(0, 0.6, (top, 2)) * (w, h)
        boxes = np.concatenate([corner, corner + rng.uniform(0.2, 0.4, (top, 2)) * (w, h)], 1)
        drift = indices[:, None, None] % 8 * np.array([1, 0, 1, 0])
        shape = (n, top)
        return BoxWindow(
            np.clip(boxes + drift, 0, (w, h, w, h)).astype(np.float32),
            np.ones(shape, np.float32),
            np.zeros(shape, np.int64),
            np.ones(shape, bool),
        )


def _seconds(work: Callable[[], object], times: int = 1) -> float:
    """The median duration of `times` calls; on a GPU by its own clock."""
    taken = []
    for _ in range(times):
        if torch.cuda.is_available():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize()
            taken.append(begin.elapsed_time(end) / 1000)
        else:
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return float(np.median(taken))


@dataclass(frozen=True)
class Variant:
    """A way to compute the same networks."""

    name: str
    half: bool = False
    channels_last: bool = False
    compiled: bool = False

    def of(self, network: Network) -> Network:
        """A copy of the network for this way; the network itself for the plain one."""
        if not (self.channels_last or self.compiled):
            return network
        network = copy.deepcopy(network)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.compiled:
            network.compile()
        return network


PLAIN = Variant("float32")
VARIANTS = (
    PLAIN,
    Variant("channels_last", channels_last=True),
    Variant("bfloat16", half=True),
    Variant("bfloat16, channels_last", half=True, channels_last=True),
)
COMPILED = (
    Variant("compiled", compiled=True),
    Variant("compiled, bfloat16", half=True, compiled=True),
)


class ForwardPasses:
    """The networks alone on inputs of an index's sizes, a block of frames at a time: the detector,
    both streams with their FC layers, the mask head with its RoIAlign on every proposal."""

    def __init__(self, job: IndexJob, variant: Variant = PLAIN) -> None:
        self.job, self.half = job, variant.half
        segmenter, input_spec = as_aamn(job.segmenter), job.segmenter.input_spec
        length, (h, w) = len(input_spec.offsets), input_spec.network_size
        self.frames = length * max(1, FRAMES_AT_ONCE[segmenter.device.type] // length)
        self.streams = {name: variant.of(stream) for name, stream in segmenter.streams.items()}
        self.mask_head = variant.of(segmenter.mask_head)
        rgb = torch.rand(self.frames, 3, h, w, device=segmenter.device)
        if variant.channels_last:
            rgb = rgb.contiguous(memory_format=torch.channels_last)
        self.images = {name: rgb[:, : 3 if name == "rgb" else 2] for name in self.streams}
        self.pictures = list(job.frames.read(np.zeros(self.frames, np.int64)))
        k = input_spec.proposals
        image = torch.arange(self.frames, device=segmenter.device).float()
        box = torch.tensor([0.2 * w, 0.2 * h, 0.6 * w, 0.6 * h], device=segmenter.device)
        image = image.repeat_interleave(k + 1)
        self.rois = torch.cat([image[:, None], box.expand(len(image), 4)], 1)
        self.boxes = self.rois.view(self.frames, k + 1, 5)[:, 1:].reshape(-1, 5)

    @torch.inference_mode()
    def once(self) -> None:
        """One block of frames."""
        segmenter, streams = as_aamn(self.job.segmenter), self.streams
        with torch.autocast(segmenter.device.type, torch.bfloat16, enabled=self.half):
            maps = {name: stream(self.images[name]) for name, stream in streams.items()}
            for name in segmenter.described:
                streams[name].features(maps[name], self.rois)
            side, first = segmenter.config.mask_head.resolution, segmenter.mask_sources[0]
            grids = [streams[n].grids(maps[n], self.boxes, side) for n in segmenter.mask_sources]
            details = streams[first].details(maps[first], self.boxes, 2 * side)
            self.mask_head(torch.cat(grids, 1), *details)
        self._detect(maps.get("rgb", ()))

    def _detect(self, maps: tuple[torch.Tensor, ...]) -> None:
        source = self.job.boxes
        if isinstance(source, SharedBoxes):
            shared = as_aamn(self.job.segmenter).streams["rgb"].shared(maps)
            source.window_from(self.images["rgb"], shared, self.job.frames.size, 1)
        elif isinstance(source, DetectedBoxes):
            source.window(self.pictures, np.arange(self.frames), 1)

    def seconds(self, count: int) -> float:
        """Of `count` frames."""
        self.once()
        return _seconds(self.once, 3) * count / self.frames


def _peak(options: BenchmarkOptions, frames: int) -> float:
    """Peak memory in MiB of a process of its own that indexes a video of so many frames."""
    words = [sys.executable, "-m", "aamn", "benchmark", "--only-index", "--frames", str(frames)]
    words += ["--width", str(options.width), "--height", str(options.height)]
    words += ["--config", options.config] if options.config else []
    words += ["--detector", options.detector] if options.detector else []
    words += ["--precision", options.precision] if options.precision != "float32" else []
    words += [word for value in options.overrides for word in ("--set", value)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise InputError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout.split()[-1])


def benchmark_job(options: BenchmarkOptions) -> tuple[Loaded, IndexJob]:
    """A segmenter with random weights, and a video of noise to index."""
    config = load_config(Config, options.config, options.overrides)
    torch.manual_seed(0)
    vocabulary = Vocabulary(WORDS)
    words = Words(vocabulary, config.words.dimension)
    segmenter = as_aamn(build_segmenter(config, words).eval())
    segmenter.to(best_device())
    size, loaded = (options.height, options.width), Loaded(segmenter, config, 0)
    boxes: BoxSource = DriftingBoxes(size)
    if options.detector:
        boxes = _detected(options.detector, segmenter, options.precision)
    job = QueryEncoder(loaded).job(
        "noise", Noise(options.frames, size), boxes, precision=options.precision
    )
    return loaded, job


def _detected(recipe: str, segmenter: AAMN, precision: str) -> DetectedBoxes:
    """Boxes of a detector with random weights, whose backbone is the segmenter's where their forms
    and squares are the same."""
    config = _detector_config(recipe)
    config.score_threshold = 0.0  # random weights are sure of nothing
    network = build_detector(config).to(segmenter.device).eval()
    if config.square and "rgb" in segmenter.streams:
        backbone = segmenter.streams["rgb"].backbone.network.state_dict()
        shapes = [
            {key: v.shape for key, v in s.items()}
            for s in (backbone, network.backbone.state_dict())
        ]
        if shapes[0] == shapes[1]:
            network.backbone.load_state_dict(backbone)
    return detected_boxes(TorchDetector(network, precision), segmenter)


def _detector_config(recipe: str | Path) -> DetectorConfig:
    config = load_config(DetectorConfig, recipe)
    return replace(config, weights="", backbone_from="", classes=config.classes or ("anything",))


def _clip_by_clip(loaded: Loaded, job: IndexJob, query: Query) -> None:
    """The paper's way: boxes as they were extracted, all else again for a sentence."""
    store = cast(ProposalStore, DriftingBoxes(job.frames.size))  # as far as it is asked
    found = segment_video(
        loaded.segmenter, "noise", job.frames, [query], store, None, loaded.config.flow
    )
    for _ in found:
        pass


def _print_variants(job: IndexJob, learned: AAMN, compiled: bool) -> None:
    """The forward passes computed in other ways; `learned` is the segmenter as it left training."""
    chosen = VARIANTS + COMPILED * (compiled or torch.cuda.is_available())
    found = {v.name: ForwardPasses(job, v).seconds(len(job.frames)) for v in chosen}
    as_learned = ForwardPasses(replace(job, segmenter=learned))
    found["float32, streams as learned"] = as_learned.seconds(len(job.frames))
    print(f"\n{'forward passes':<32}{'ms':>10}{'/ float32':>18}")
    for name, value in found.items():
        print(f"{name:<32}{1000 * value:10.1f}{value / found[PLAIN.name]:18.3f}")
    print(f"fastest here: {min(found, key=lambda name: found[name])}")


def _print_frame_costs(options: BenchmarkOptions, config: Config) -> None:
    """GFLOP a frame by part, and of the paper's system."""
    size = (options.height, options.width)
    detector = _detector_config(options.detector) if options.detector else None
    own = frame_flops(config, detector, size)
    print(f"\n{'a frame':<32}{'GFLOP':>10}")
    for name, value in own.items():
        print(f"{name:<32}{value / 1e9:10.2f}")
    print(f"{'all':<32}{sum(own.values()) / 1e9:10.2f}")
    papers = load_config(Config, PAPERS[0]), _detector_config(PAPERS[1])
    total = sum(frame_flops(*papers, size).values())
    print(f"{'paper: two VGG-16, ResNet-101':<32}{total / 1e9:10.2f}")


def _print_cost_model(
    options: BenchmarkOptions, config: Config, job: IndexJob, costs: Timer
) -> None:
    """Operations, bytes and seconds of a frame by part, beside what the machine can do."""
    size = (options.height, options.width)
    detector = _detector_config(options.detector) if options.detector else None
    flops, moved = (count(config, detector, size) for count in (frame_flops, frame_bytes))
    machine = measure_machine(options.precision == "bfloat16", job.segmenter.device)
    print(f"\n{cost_table(part_costs(costs, options.frames, flops, moved), machine)}")


def benchmark(options: BenchmarkOptions) -> None:
    """Prints the table; with `only_index` the peak memory of indexing in MiB and nothing else."""
    loaded, job = benchmark_job(options)
    costs = Timer(synchronise=torch.cuda.is_available())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.h5"
        if not options.only_index:  # the first calls of the networks choose their algorithms
            short = Noise(len(job.segmenter.input_spec.offsets), job.frames.size)
            build_index(replace(job, frames=short), Path(folder) / "short.h5")
        indexing = _seconds(lambda: build_index(job, path, costs))
        if options.only_index:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            return
        index = VideoIndex.read(path, loaded)
        ask = lambda: [track.masks() for track in index.query(["red dog jumping"])]  # noqa: E731
        first, further = _seconds(ask), _seconds(ask, 5)
        stored = path.stat().st_size
    again = _seconds(lambda: _clip_by_clip(loaded, job, loaded.vocabulary.encode("red dog")))
    pure = ForwardPasses(job).seconds(options.frames) + costs.seconds["flow"]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    threads = torch.get_num_threads()
    print(
        f"{options.frames} frames of {options.width}x{options.height}; {device}, {threads} threads"
    )
    rows = [("indexing", indexing)]
    own = {part: value for part, value in costs.seconds.items() if part not in AHEAD}
    rows += [(f"  {part}", value) for part, value in sorted(own.items())]
    rows += [("  rest", indexing - sum(own.values()))]
    rows += [(f"ahead, {part}", costs.seconds[part]) for part in AHEAD if part in costs.seconds]
    rows += [("forward passes and flow alone", pure), ("first sentence", first)]
    rows += [("each further sentence", further), ("clip by clip, one sentence", again)]
    print(f"{'part':<32}{'ms':>10}{'/ forward passes':>18}{'/ further sentence':>20}")
    for name, value in rows:
        print(f"{name:<32}{1000 * value:10.1f}{value / pure:18.3f}{value / further:20.1f}")
    print(f"index: {stored / 1024:.0f} KiB, {stored / 1024 / options.frames:.1f} a frame")
    print(chain_line(costs, indexing))
    _print_variants(job, as_aamn(loaded.segmenter), options.compile)
    _print_frame_costs(options, loaded.config)
    _print_cost_model(options, loaded.config, job, costs)
    if options.memory:
        print()
        peaks = [_peak(options, options.frames * n) for n in LENGTHS]
        for n, peak in zip(LENGTHS, peaks, strict=True):
            print(f"peak memory at {n:>2}x: {peak:8.0f} MiB, {peak / peaks[0]:.3f} of 1x")
