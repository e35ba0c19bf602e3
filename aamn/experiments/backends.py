"""What runs a bundle's networks fastest: torch, onnxruntime or OpenVINO, in one run and by turns,
and whether the answers stay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import torch
from torch import Tensor

from aamn.data.datasets.registry import open_source
from aamn.data.datasets.source import VideoTextSource
from aamn.export.graphs import Graph
from aamn.export.manifest import read_manifest
from aamn.export.openvino_runtime import OpenVinoGraph
from aamn.export.parts import (
    DETECTOR_TRUNK,
    MASKS,
    Part,
    detector_parts,
    regions_name,
    segmenter_parts,
    stream_name,
)
from aamn.export.segmenter import GraphAAMN
from aamn.jobs.export import export_bundle
from aamn.models.aamn import as_aamn
from aamn.ops.boxes import pairwise_iou
from aamn.predictor import VideoSegmenter, load
from proposals.detector import TorchDetector
from proposals.errors import InputError
from proposals.inference_form import inference_form
from proposals.torchvision_rcnn import TorchvisionRCNN

BASE = "torch, bfloat16"
TRUNKS = (*map(stream_name, ("rgb", "flow")), DETECTOR_TRUNK)
CONVOLUTIONS = (*TRUNKS, *map(regions_name, ("rgb", "flow")), MASKS)
EXAMPLES = 16  # images by which ranges of 8 bits are found
ROUNDS = 5
SAME = 0.5  # IoU above which two boxes are the same tube's


@dataclass
class Recorder:
    """A graph that keeps what it is given."""

    graph: Graph
    calls: list[dict[str, Tensor]] = field(default_factory=list)

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if len(self.calls) < EXAMPLES:
            self.calls.append({name: value.clone() for name, value in inputs.items()})
        return self.graph(inputs)


@dataclass
class Way:
    """A way to compute a bundle's networks: seconds a frame of each video's index, and the boxes
    (sentences, frames, 4) that it shows."""

    segmenter: VideoSegmenter
    precision: str = "float32"
    seconds: list[float] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)

    def see(self, path: Path, frames: int, texts: Sequence[str]) -> None:
        """Indexes the video's first frames and asks its sentences."""
        before = time.perf_counter()
        chosen = self.segmenter.index(path, precision=self.precision, frames=range(frames))
        self.seconds.append((time.perf_counter() - before) / len(chosen))
        tracks = chosen.query(texts, absent_threshold=None)
        self.boxes.append(np.stack([track.boxes() for track in tracks]))


def compare_backends(
    bundle: Path, root: Path | None = None, frames: int = 40, videos: int = 10
) -> None:
    """Prints two tables: milliseconds of each part's calls as an index makes them, and seconds a
    frame of whole indexes of a data set's test videos, each beside torch's inference form in
    bfloat16, with the share of (frame, sentence) pairs whose tube is that of float32.

    Args:
        bundle: whose configuration names the data set.
        root: where that lies; None: where the configuration says.
        frames: of each video, at most.

    Raises:
        InputError: as `export_bundle` and `open_source`.
    """
    eager = load(bundle, "cpu")
    data = eager.loaded.config.data
    data = replace(data, root=str(root or data.root))
    source = open_source(data, data.test_split)
    chosen = source.video_ids[: videos + 1]
    with TemporaryDirectory(prefix="aamn-backends-") as folder:
        out = Path(folder)
        export_bundle(bundle, out)
        calls = _recorded(out, source.video_path(chosen[0]), frames)
        print(f"{torch.get_num_threads()} threads; medians of rounds in turn")
        _print_parts(_part_ways(eager, out, calls), calls)
        ways = {"torch, float32": Way(eager), BASE: Way(eager, "bfloat16")}
        ways |= {name: Way(found) for name, found in _exports(out, calls)}
        for video_id in chosen:
            for way in ways.values():
                way.see(source.video_path(video_id), frames, _texts(source, video_id))
    _print_indexes(ways, len(chosen) - 1, frames)


def _texts(source: VideoTextSource, video_id: str) -> list[str]:
    return [expression.text for expression in source.sentences(video_id)]


def _graphs(segmenter: VideoSegmenter) -> dict[str, Graph]:
    """Those of an export, which detector and segmenter share."""
    return cast(dict[str, Graph], cast(GraphAAMN, segmenter.query_encoder.segmenter).graphs)


def _recorded(out: Path, video: Path, frames: int) -> dict[str, list[dict[str, Tensor]]]:
    """Part -> what it is given while a video is indexed and asked."""
    segmenter = load(out)
    graphs = _graphs(segmenter)
    found = {name: Recorder(graph) for name, graph in graphs.items()}
    graphs.update(found)
    segmenter.index(video, frames=range(frames)).query("the")
    return {name: recorder.calls for name, recorder in found.items()}


def _examples(calls: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Images one by one."""
    images = torch.cat([one["images"] for one in calls])
    chosen = torch.linspace(0, len(images) - 1, EXAMPLES).long()
    return [{"images": images[place : place + 1]} for place in chosen.tolist()]


def _openvino(
    out: Path, calls: dict[str, list[dict[str, Tensor]]]
) -> dict[str, Callable[[str], Graph]]:
    """Each way of OpenVINO: part -> its graph; none where it is not installed."""
    files = read_manifest(out).files

    def in_8_bits(part: str) -> Graph:
        given = _examples(calls[part]) if part in TRUNKS else ()
        return OpenVinoGraph(files[part], "bfloat16", given)

    return {
        "OpenVINO, float32": lambda part: OpenVinoGraph(files[part]),
        "OpenVINO, bfloat16": lambda part: OpenVinoGraph(files[part], "bfloat16"),
        "OpenVINO, 8-bit trunks": in_8_bits,
    }


def _exports(
    out: Path, calls: dict[str, list[dict[str, Tensor]]]
) -> Iterator[tuple[str, VideoSegmenter]]:
    """The export by onnxruntime, and with its convolutions, or trunks alone, by OpenVINO."""
    yield "onnxruntime", load(out)
    for name, opened in _openvino(out, calls).items():
        try:
            graphs = {part: opened(part) for part in CONVOLUTIONS if part in calls}
        except InputError as error:
            print(f"{name}: {error}")
            continue
        for kind, parts in (("", CONVOLUTIONS), ("; trunks alone", TRUNKS)):
            segmenter = load(out)
            _graphs(segmenter).update({part: graphs[part] for part in parts if part in graphs})
            yield name + kind, segmenter


PartWays = dict[str, dict[str, Callable[[dict[str, Tensor]], object]]]


def _part_ways(
    eager: VideoSegmenter, out: Path, calls: dict[str, list[dict[str, Tensor]]]
) -> PartWays:
    """Part -> name of a way -> what computes it."""
    detector = cast(TorchDetector, eager.boxes).network
    segmenter = as_aamn(eager.query_encoder.video_side)
    whole, half = inference_form(detector), detector.in_bfloat16()
    found: PartWays = {name: {} for name in calls}
    for name, network, cast_to in (("torch, float32", whole, False), (BASE, half, True)):
        for part in segmenter_parts(segmenter):
            found[part.name][name] = _eager(part, cast_to)
        for part in detector_parts(cast(TorchvisionRCNN, network)):
            found[part.name][name] = _eager(part, False)
    for part_name, graph in _graphs(load(out)).items():
        found[part_name]["onnxruntime"] = graph
    for name, opened in _openvino(out, calls).items():
        for part_name in CONVOLUTIONS:
            with suppress(InputError):
                if part_name in calls:
                    found[part_name][name] = opened(part_name)
    return found


def _eager(part: Part, half: bool) -> Callable[[dict[str, Tensor]], object]:
    network = part.network.eval()

    def compute(inputs: dict[str, Tensor]) -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return network(*(inputs[name] for name in part.inputs))

    return compute


def _print_parts(ways: PartWays, calls: dict[str, list[dict[str, Tensor]]]) -> None:
    names = list(next(iter(ways.values())))
    print(f"\n{'ms a call (torch, bfloat16 / it)':<34}" + "".join(f"{n:>26}" for n in names))
    for part, own in ways.items():
        taken: dict[str, list[float]] = {name: [] for name in own}
        for number in range(ROUNDS + 1):
            for name, compute in own.items():
                seconds = _seconds(compute, calls[part][0])
                if number:  # the first round warms up
                    taken[name].append(seconds)
        cells = (_cell(taken[name], taken[BASE]) if name in own else "" for name in names)
        print(f"{part:<34}" + "".join(f"{cell:>26}" for cell in cells))


@torch.inference_mode()
def _seconds(compute: Callable[[dict[str, Tensor]], object], inputs: dict[str, Tensor]) -> float:
    before = time.perf_counter()
    compute(inputs)
    return time.perf_counter() - before


def _cell(taken: Sequence[float], base: Sequence[float]) -> str:
    return f"{1000 * median(taken):.2f} ({_ratio(base, taken):.2f})"


def _ratio(base: Sequence[float], own: Sequence[float]) -> float:
    """The median over rounds of how many times as long the other one takes."""
    return median(a / b for a, b in zip(base, own, strict=True))


def _print_indexes(ways: dict[str, Way], videos: int, frames: int) -> None:
    """The first video only warms up."""
    plain, base = next(iter(ways.values())), ways[BASE]
    pairs = sum(boxes[..., 0].size for boxes in plain.boxes[1:])
    print(f"\nindexes of {videos} videos, {frames} frames at most; {pairs} (frame, sentence) pairs")
    print(f"{'':<40}{'s a frame':>12}{f'{BASE} / it':>24}{'same tube, %':>14}")
    for name, way in ways.items():
        ratio = _ratio(base.seconds[1:], way.seconds[1:])
        same = 100 * _same(plain.boxes[1:], way.boxes[1:])
        print(f"{name:<40}{median(way.seconds[1:]):12.4f}{ratio:24.2f}{same:14.2f}")


def _same(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """The share of (frame, sentence) pairs whose boxes overlap by more than SAME."""
    pairs = [
        torch.from_numpy(np.stack(pair)).flatten(1, 2) for pair in zip(wanted, found, strict=True)
    ]
    overlap = [pairwise_iou(a[:, None], b[:, None])[:, 0, 0] for a, b in pairs]
    return float((torch.cat(overlap) > SAME).float().mean())
