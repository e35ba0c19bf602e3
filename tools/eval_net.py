"""Evaluates a trained segmenter on a data set's test split."""

from __future__ import annotations

import argparse
import logging
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from command_line import make_parser, run
from full_video_option import evaluate_videos
from report_option import write_page
from torch.utils.data import DataLoader

from aamn.checkpoint import Loaded, extend_words, load_segmenter
from aamn.coco import ScoredMask, scored_masks
from aamn.config import DataConfig
from aamn.data.clips import SampleDataset
from aamn.data.flow_store import stored_flow
from aamn.data.readers import open_source
from aamn.data.source import VideoTextSource
from aamn.evaluation import evaluate, format_table, write_metrics
from aamn.index import Asker
from aamn.indexed_segmenter import IndexedSegmenter, KeyFrameIndexes
from aamn.models.segmenter import Segmenter
from aamn.report import Evaluation
from aamn.structures import MaskTrack, Sample
from proposals.detector import best_device
from proposals.errors import InputError
from proposals.store import ProposalStore

log = logging.getLogger("aamn")

MOST_CONFIDENT = "most_confident"


@dataclass(frozen=True)
class System:
    """A checkpoint with the samples of a split that it is asked about, which come in one order
    whatever the system."""

    loaded: Loaded
    data: DataConfig
    split: str
    dataset: SampleDataset

    @property
    def segmenter(self) -> Segmenter:
        return self.loaded.segmenter

    @property
    def key(self) -> int:
        """The key frame's place in the segmenter's tracks."""
        needs = self.segmenter.needs
        return needs.key if needs.predicts == "clip" else 0

    def sample_of(self, place: int) -> tuple[Sample, int]:
        """The sample of a row of the report, and the place of the row's sentence in it."""
        counts = [len(key_frame.expressions) for key_frame in self.dataset.source.key_frames]
        ends = list(accumulate(counts))
        index = bisect_right(ends, place)
        return self.dataset[index], place - (ends[index] - counts[index])

    def answer(self, sample: Sample, own: int) -> MaskTrack:
        """What the segmenter says to the sentence at a place of one of its samples."""
        return self.segmenter.segment(sample.clip, sample.proposals, [sample.queries[own]])[0]


@dataclass(frozen=True)
class Run:
    """One system and what it answered to all its samples."""

    system: System
    evaluation: Evaluation


def open_samples(loaded: Loaded, data: DataConfig, source: VideoTextSource) -> SampleDataset:
    """A split's samples as a segmenter needs them."""
    needs = loaded.segmenter.needs
    return SampleDataset(
        source,
        needs,
        loaded.vocabulary,
        ProposalStore.read(data.proposals) if needs.proposals else None,
        stored_flow(data.flow, needs),
        flow_config=loaded.config.flow,
    )


def open_system(
    checkpoint: Path | str,
    overrides: Sequence[str] = (),
    config_file: Path | str | None = None,
    split: str = "",
    places: Mapping[str, str | None] | None = None,
) -> System:
    """A checkpoint on a split of its data set; `places` are other values of data.root,
    data.proposals and data.flow, where not empty. Words of the split that training has not seen
    get the vectors of the segmenter's file."""
    loaded = load_segmenter(checkpoint, best_device(), config_file, overrides)
    data = replace(loaded.config.data, **{k: v for k, v in (places or {}).items() if v})
    split = split or data.test_split
    source = open_source(data, split)
    loaded = extend_words(loaded, source.texts())
    return System(loaded, data, split, open_samples(loaded, data, source))


def through_indexes(system: System, folder: Path) -> System:
    """The same samples, asked of indexes around their frames, which `folder` keeps.

    Raises:
        InputError: the system cannot index videos.
    """
    samples = system.dataset
    asker = Asker(system.loaded)
    indexes = KeyFrameIndexes(folder, asker, samples.source, samples.store, samples.flow)
    segmenter = IndexedSegmenter(indexes)
    return replace(
        system,
        loaded=replace(system.loaded, segmenter=segmenter),
        dataset=SampleDataset(samples.source, segmenter.needs, samples.vocabulary),
    )


def evaluate_system(system: System, name: str = "") -> Run:
    """Asks a system all sentences of its samples; `name` stands for it in tables."""
    samples = DataLoader(system.dataset, batch_size=None, num_workers=system.data.workers)
    masks: list[ScoredMask] = []
    report = evaluate(
        system.segmenter,
        samples,
        system=name or system.loaded.config.system,
        data=f"{system.data.root} ({system.split})",
        total=len(system.dataset),
        observe=lambda *seen: masks.extend(scored_masks(*seen)),
    )
    return Run(system, Evaluation(report, masks))


def evaluate_checkpoint(checkpoint: Path | str, overrides: Sequence[str] = ()) -> Run:
    """Evaluates a checkpoint on the test split of the data it was trained on."""
    return evaluate_system(open_system(checkpoint, overrides))


def _runs(args: argparse.Namespace) -> list[Run]:
    """The checkpoint's run, and those of the systems it is compared with on the same samples."""
    places = {"root": args.data, "proposals": args.proposals, "flow": args.flow}
    first = open_system(args.checkpoint, args.overrides, args.config, args.split or "", places)
    if args.index:
        first = through_indexes(first, Path(args.index) / "key_frames")
    runs = [evaluate_system(first)]
    places = {key: getattr(first.data, key) for key in ("kind", *places)}
    for other in args.compare:
        own = (other, (), None)
        if other == MOST_CONFIDENT:
            own = (args.checkpoint, [*args.overrides, f"system={other}"], args.config)
        system = open_system(*own, first.split, places)
        name = system.loaded.config.system
        taken = {run.evaluation.report.system for run in runs}
        runs.append(evaluate_system(system, f"{name} ({other})" if name in taken else name))
    return runs


def _shuffled(args: argparse.Namespace, first: System) -> System | None:
    """The checkpoint with words weighted at random; None where it has learned no weights."""
    config = first.loaded.config
    if config.system != "aamn" or config.aamn.language.attention != "learned":
        return None
    overrides = [*args.overrides, "aamn.language.attention=random"]
    places = {"root": args.data, "proposals": args.proposals, "flow": args.flow}
    return open_system(args.checkpoint, overrides, args.config, first.split, places)


def main() -> None:
    parser = make_parser(
        "Prints and writes the metrics of a checkpoint, over all sentences and by kind.",
        "python tools/eval_net.py --checkpoint runs/a2d/aamn/last.pt --data datasets/a2d "
        "--out runs/a2d/metrics.json",
    )
    parser.add_argument("--checkpoint", required=True, metavar="PT", help="from train_net")
    parser.add_argument("--data", metavar="ROOT", help="default: the data it was trained on")
    parser.add_argument("--split", help="default: the configuration's data.test_split")
    parser.add_argument("--proposals", metavar="HDF5", help="default: as in training")
    parser.add_argument("--flow", metavar="HDF5", help="default: as in training")
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        metavar="SYSTEM",
        help="also evaluate most_confident, the same masks on the detector's most confident box, "
        "or another checkpoint; may be repeated",
    )
    parser.add_argument(
        "--report", metavar="DIR", help="also write DIR/index.html: tables, curves, pictures"
    )
    parser.add_argument(
        "--pictures", type=int, default=6, metavar="N", help="answers of each kind on the page"
    )
    parser.add_argument(
        "--full-video", action="store_true", help="whole videos: bbox and pixel protocols, VP@X"
    )
    parser.add_argument(
        "--calibrate",
        metavar="SPLIT",
        help="with --full-video: find on this split, such as train, the score below which a "
        "sentence means nobody, and say what it does on the evaluated one",
    )
    parser.add_argument(
        "--index",
        metavar="DIR",
        help="ask indexes, of which those that DIR lacks are made; --full-video always does, by "
        "default in a folder beside its metrics",
    )
    args = parser.parse_args()
    if args.calibrate and not args.full_video:
        raise InputError("--calibrate: wanted with --full-video")
    if args.full_video:
        evaluate_videos(args)
        return
    runs = _runs(args)
    reports = [run.evaluation.report for run in runs]
    print(format_table(reports))
    out = Path(args.out or Path(args.checkpoint).with_name("metrics.json"))
    write_metrics(reports, out)
    log.info("wrote %s", out)
    if args.report:
        shuffled = _shuffled(args, runs[0].system)
        log.info("wrote %s", write_page(Path(args.report), runs, shuffled, args.pictures))


if __name__ == "__main__":
    run(main)
