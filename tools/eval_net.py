"""Evaluates a trained segmenter on a data set's test split."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch
from command_line import make_parser, run
from full_video_option import evaluate_videos
from torch.utils.data import DataLoader

from aamn.checkpoint import Loaded, extend_words, load_segmenter
from aamn.coco import ScoredMask, scored_masks
from aamn.config import DataConfig
from aamn.data.a2d_labels import ACTORS
from aamn.data.clips import SampleDataset
from aamn.data.flow_store import FlowStore
from aamn.data.readers import open_source
from aamn.evaluation import evaluate, format_table, write_metrics
from aamn.models.segmenter import Segmenter
from aamn.report import Case, Evaluation, pick_cases, write_report
from proposals.store import ProposalStore

log = logging.getLogger("aamn")


@dataclass(frozen=True)
class Run:
    """One system, its samples and what it answered to them."""

    segmenter: Segmenter
    dataset: SampleDataset
    evaluation: Evaluation


def open_samples(loaded: Loaded, data: DataConfig, split: str) -> SampleDataset:
    """The split's samples as a segmenter needs them, with the words of its file of vectors."""
    needs = loaded.segmenter.needs
    source = open_source(data, split)
    return SampleDataset(
        source,
        needs,
        extend_words(loaded, source.texts()).vocabulary,
        ProposalStore.read(data.proposals) if needs.proposals else None,
        FlowStore.read(data.flow) if needs.flow and data.flow else None,
        flow_config=loaded.config.flow,
    )


def evaluate_checkpoint(
    checkpoint: Path | str,
    overrides: Sequence[str] = (),
    config_file: Path | str | None = None,
    split: str = "",
    places: Mapping[str, str | None] | None = None,
) -> Run:
    """Evaluates a checkpoint on a split of its data set; `places` are other values of data.root,
    data.proposals and data.flow, where not empty."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_segmenter(checkpoint, device, config_file, overrides)
    data = replace(loaded.config.data, **{k: v for k, v in (places or {}).items() if v})
    split = split or data.test_split
    dataset = open_samples(loaded, data, split)
    samples = DataLoader(dataset, batch_size=None, num_workers=data.workers)
    masks: list[ScoredMask] = []
    report = evaluate(
        loaded.segmenter,
        samples,
        system=loaded.config.system,
        data=f"{data.root} ({split})",
        total=len(dataset),
        observe=lambda *seen: masks.extend(scored_masks(*seen)),
    )
    return Run(loaded.segmenter, dataset, Evaluation(report, masks))


def _cases(run: Run, places: Sequence[int]) -> list[Case]:
    """The answers at the places of the report's rows, made again for their pictures."""
    counts = [len(key_frame.expressions) for key_frame in run.dataset.source.key_frames]
    ends, needs, cases = list(accumulate(counts)), run.segmenter.needs, []
    for place in places:
        index = bisect_right(ends, place)
        own = place - (ends[index] - counts[index])
        sample = run.dataset[index]
        query = sample.queries[own]
        track = run.segmenter.segment(sample.clip, sample.proposals, [query])[0]
        frames = run.dataset.source.frames(sample.clip.video_id).read(track.frame_indices.tolist())
        boxes = sample.proposals and sample.proposals.boxes[needs.key].numpy()
        key = needs.key if needs.predicts == "clip" else 0
        row = run.evaluation.report.rows[place]
        cases.append(Case(row, query.tokens, frames, key, sample.targets[own], track, boxes))
    return cases


def _write_page(folder: Path, runs: Sequence[Run], pictures: int) -> Path:
    """The page about the first run, with the others beside it in its tables and curves."""
    rows, source = runs[0].evaluation.report.rows, runs[0].dataset.source
    expressions = [e for key_frame in source.key_frames for e in key_frame.expressions]
    non_trivial: list[bool] = []
    if hasattr(source, "non_trivial"):
        chosen = source.non_trivial()
        non_trivial = [(e.video_id, e.instance) in chosen for e in expressions]
    best, worst = pick_cases(rows, pictures)
    page = folder / "index.html"
    write_report(
        page,
        [run.evaluation for run in runs],
        _cases(runs[0], best),
        _cases(runs[0], worst),
        actors=[ACTORS[e.actor - 1] if e.actor else "" for e in expressions],
        non_trivial=non_trivial,
    )
    return page


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
        choices=["most_confident"],
        help="also evaluate the same masks on the detector's most confident box",
    )
    parser.add_argument(
        "--report", metavar="DIR", help="also write DIR/index.html: tables, curves, pictures"
    )
    parser.add_argument(
        "--pictures", type=int, default=6, metavar="N", help="best and worst answers on the page"
    )
    parser.add_argument(
        "--full-video", action="store_true", help="whole videos: bbox and pixel protocols, VP@X"
    )
    parser.add_argument("--index", metavar="DIR", help="of --full-video: where indexes are kept")
    args = parser.parse_args()
    if args.full_video:
        evaluate_videos(args)
        return
    places = {"root": args.data, "proposals": args.proposals, "flow": args.flow}
    runs = [
        evaluate_checkpoint(
            args.checkpoint, [*args.overrides, *change], args.config, args.split or "", places
        )
        for change in ([], *([f"system={system}"] for system in args.compare))
    ]
    reports = [run.evaluation.report for run in runs]
    print(format_table(reports))
    out = Path(args.out or Path(args.checkpoint).with_name("metrics.json"))
    write_metrics(reports, out)
    log.info("wrote %s", out)
    if args.report:
        log.info("wrote %s", _write_page(Path(args.report), runs, args.pictures))


if __name__ == "__main__":
    run(main)
