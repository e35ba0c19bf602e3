"""What `aamn table` adds to a table of several systems: budget, parameters, speed."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from aamn.config.schema import Config
from aamn.data.samples import SampleDataset
from aamn.evaluation.systems import open_system
from aamn.experiments.speed import VideoSeconds, pair_seconds, video_seconds
from aamn.inference.checkpoint import Loaded
from aamn.models.baselines.one_stage import learned_parameters
from proposals.files import write_json

log = logging.getLogger("aamn")

PAIRS = 21  # clips of the test split, the first of which warms up
VIDEOS = 3
HEADS = (
    "learned parameters",
    "clip and sentence, ms",
    "video frame, ms",
    "video frame, further sentence, ms",
    "input",
    "started from",
)
NOTE = (
    "Learned parameters leave out frozen layers and word vectors. Times are medians on {device}, "
    "one sentence, boxes and flow read from their files: of a clip and a sentence ({pairs} clips, "
    "from the loaded clip to the mask); of a frame of a whole video, decoding included ({videos} "
    "videos); and of a frame for a further sentence about the same video, where the system keeps "
    "what it has seen (AAMN's index). -: nothing is kept, all the work is done again."
)


@dataclass(frozen=True)
class Costs:
    """What a trained row costs: numbers learned, medians in milliseconds on `device`, frames and
    size of its input, weights that it started from."""

    device: str
    parameters: int
    pair: float
    frame: float
    further: float | None
    input: str
    start: str

    def cells(self) -> dict[str, str | float]:
        """Head -> value."""
        further = "" if self.further is None else round(self.further, 2)
        times = (round(self.pair, 1), round(self.frame, 1), further)
        return dict(zip(HEADS, (self.parameters, *times, self.input, self.start), strict=True))


def measure_costs(runs: Mapping[str, Path]) -> dict[str, Costs]:
    """Label -> costs of the checkpoint in its run's folder; what was measured before on the same
    device is kept there."""
    return {label: _kept_costs(folder) for label, folder in runs.items()}


def _kept_costs(folder: Path) -> Costs:
    path = folder / "costs.json"
    if path.is_file():
        kept = Costs(**json.loads(path.read_text(encoding="utf-8")))
        if kept.device == device_name():
            return kept
    log.info("measuring the speed of %s", folder)
    costs = _costs(folder / "last.pt")
    write_json(path, asdict(costs))
    return costs


def device_name() -> str:
    """The device that the programs compute on, with its threads where it is a CPU."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"a CPU with {torch.get_num_threads()} thread(s)"


def _costs(checkpoint: Path) -> Costs:
    system = open_system(checkpoint)
    samples = system.dataset
    loaded = system.loaded
    chosen = (samples[place] for place in range(min(PAIRS, len(samples))))
    pair = pair_seconds(loaded.segmenter, chosen)
    with tempfile.TemporaryDirectory() as folder:
        videos = list(_video_seconds(loaded, samples, Path(folder)))
    further = [one.further for one in videos if one.further is not None]
    h, w = samples.input_spec.network_size
    return Costs(
        device=device_name(),
        parameters=learned_parameters(loaded.segmenter),
        pair=1000 * pair,
        frame=1000 * median(one.first for one in videos),
        further=1000 * median(further) if further else None,
        input=f"{len(samples.input_spec.offsets)} frames of {w}x{h}",
        start=start_of(loaded.config),
    )


def _video_seconds(loaded: Loaded, samples: SampleDataset, folder: Path) -> Iterator[VideoSeconds]:
    source = samples.source
    for video_id in islice(source.video_ids, VIDEOS):
        texts = [expression.text for expression in source.sentences(video_id)]
        with closing(source.frames(video_id)) as frames:
            yield video_seconds(
                loaded, video_id, frames, texts, samples.store, samples.flow, folder
            )


def start_of(config: Config) -> str:
    """The weight files that a training by this configuration started from."""
    part = getattr(config, config.system)
    if config.system == "aamn":
        named = {
            stream: getattr(part.backbone, key)
            for stream, key in (("rgb", "weights"), ("flow", "flow_weights"))
            if stream in part.streams
        }
    else:
        named = {"rgb": part.i3d.rgb_weights, "flow": part.i3d.flow_weights}
        named["spatial"] = getattr(part, "spatial_weights", "")
    files = [f"{Path(weights).name} ({stream})" for stream, weights in named.items() if weights]
    return ", ".join(files) or "random weights"


def budget_text(config: Config) -> str:
    """What all rows have in common, as a sentence."""
    train = config.train
    return (
        f"Every row: {train.optimiser.iterations} iterations of {train.batch} clips with all their "
        "sentences, the same clips in the same order, augmented alike; optimiser, rate and sizes "
        "are each recipe's own."
    )


def to_markdown(costs: Mapping[str, Costs]) -> str:
    """The rows' costs as a table, below what the numbers mean."""
    devices = dict.fromkeys(one.device for one in costs.values())
    note = NOTE.format(device=", ".join(devices), pairs=PAIRS - 1, videos=VIDEOS)
    lines = [note, "", f"| model | {' | '.join(HEADS)} |", f"| --- |{' ---: |' * 4} --- | --- |"]
    for label, one in costs.items():
        cells = (f"{cell:,}" if isinstance(cell, int) else cell for cell in one.cells().values())
        lines.append(f"| {label} | {' | '.join(str(cell) or '-' for cell in cells)} |")
    return "\n".join(lines) + "\n"
