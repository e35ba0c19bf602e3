"""Systems on the samples of a split: opened, asked, and compared on the same sentences."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from aamn.config.schema import DataConfig
from aamn.data.datasets.registry import open_source
from aamn.data.datasets.source import VideoTextSource
from aamn.data.flow.store import stored_flow
from aamn.data.samples import SampleDataset
from aamn.evaluation.coco_ap import ScoredMask, average_precision, scored_masks
from aamn.evaluation.key_frames import evaluate
from aamn.evaluation.metrics import summarise
from aamn.index.indexed_segmenter import IndexedSegmenter, KeyFrameIndexes
from aamn.index.query_encoder import QueryEncoder
from aamn.inference.checkpoint import Loaded, load_segmenter
from aamn.models.segmenter import Segmenter
from aamn.structures import InputSpec, MaskTrack, Report, Sample
from aamn.zeroshot.assemble import complete
from proposals.build import best_device
from proposals.errors import InputError
from proposals.store import ProposalStore
from proposals.workers import end_with_parent, loaded

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
        input_spec = self.segmenter.input_spec
        return input_spec.key if input_spec.predicts == "clip" else 0

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
    input_spec = loaded.segmenter.input_spec
    return SampleDataset(
        source,
        input_spec,
        loaded.vocabulary,
        ProposalStore.read(data.proposals) if input_spec.proposals else None,
        stored_flow(data.flow, input_spec, loaded.config.flow),
        flow_config=loaded.config.flow,
    )


def open_system(
    checkpoint: Path | str,
    overrides: Sequence[str] = (),
    config_file: Path | str | None = None,
    split: str = "",
    paths: Mapping[str, str | None] | None = None,
) -> System:
    """A checkpoint on a split of its data set; `paths` are other values of data.root,
    data.proposals and data.flow, where not empty. Words of the split that training has not seen
    get the vectors of the segmenter's file."""
    loaded = complete(load_segmenter(checkpoint, best_device(), config_file, overrides)).loaded
    moved: dict[str, Any] = {key: path for key, path in (paths or {}).items() if path}
    data = replace(loaded.config.data, **moved)
    split = split or data.test_split
    source = open_source(data, split)
    loaded.words.learn(source.texts())
    return System(loaded, data, split, open_samples(loaded, data, source))


def through_indexes(system: System, folder: Path) -> System:
    """The same samples, asked of indexes around their frames, which `folder` keeps.

    Raises:
        InputError: the system cannot index videos.
    """
    samples = system.dataset
    query_encoder = QueryEncoder(system.loaded)
    assert samples.store is not None, "a system that can index chooses among proposals"
    indexes = KeyFrameIndexes(folder, query_encoder, samples.source, samples.store, samples.flow)
    segmenter = IndexedSegmenter(indexes)
    return replace(
        system,
        loaded=replace(system.loaded, segmenter=segmenter),
        dataset=SampleDataset(samples.source, segmenter.input_spec, samples.vocabulary),
    )


def evaluate_system(system: System, name: str = "") -> Run:
    """Asks a system all sentences of its samples; `name` stands for it in tables."""
    samples = DataLoader(
        system.dataset,
        batch_size=None,
        num_workers=system.data.workers,
        worker_init_fn=end_with_parent,
    )
    masks: list[ScoredMask] = []
    report = evaluate(
        system.segmenter,
        loaded(samples),
        system=name or system.loaded.config.system,
        data=f"{system.data.root} ({system.split})",
        total=len(system.dataset),
        observe=lambda *seen: masks.extend(scored_masks(*seen)),
    )
    return Run(system, Evaluation(report, masks))


def evaluate_checkpoint(checkpoint: Path | str, overrides: Sequence[str] = ()) -> Run:
    """Evaluates a checkpoint on the test split of the data it was trained on."""
    return evaluate_system(open_system(checkpoint, overrides))


@dataclass(frozen=True)
class Evaluation:
    """One system's rows, and its answers in the same order."""

    report: Report
    masks: Sequence[ScoredMask]

    def metrics(self, indices: Sequence[int]) -> dict[str, float]:
        """Every metric of the rows at `indices`, COCO's among them."""
        rows = [self.report.rows[i] for i in indices]
        return summarise(rows) | average_precision(self.masks[i] for i in indices)


@dataclass(frozen=True)
class EvaluateOptions:
    """A checkpoint, the data it is asked about, and what it is compared with; see `aamn evaluate
    --help`."""

    checkpoint: Path
    config: str | None = None
    overrides: tuple[str, ...] = ()
    data: str = ""
    split: str = ""
    proposals: str = ""
    flow: str = ""
    compare: tuple[str, ...] = ()
    index: Path | None = None


def _refuse_useless(options: EvaluateOptions, wanted: InputSpec, system: str) -> None:
    """Refuses files that no system reads: what one is compared with may want them."""
    if options.compare:
        return
    if options.proposals and not wanted.proposals:
        raise InputError(f"--proposals: {system} chooses among no boxes")
    if options.flow and not wanted.flow:
        raise InputError(f"--flow: this {system} sees no flow")


def evaluate_all(options: EvaluateOptions) -> list[Run]:
    """The checkpoint's run, and those of the systems it is compared with on the same samples."""
    paths = {"root": options.data, "proposals": options.proposals, "flow": options.flow}
    first = open_system(options.checkpoint, options.overrides, options.config, options.split, paths)
    _refuse_useless(options, first.segmenter.input_spec, first.loaded.config.system)
    if options.index:
        first = through_indexes(first, options.index / "key_frames")
    runs = [evaluate_system(first)]
    paths = {key: getattr(first.data, key) for key in ("kind", *paths)}
    for other in options.compare:
        if other == MOST_CONFIDENT:
            words = [*options.overrides, f"system={other}"]
            system = open_system(options.checkpoint, words, options.config, first.split, paths)
        else:
            system = open_system(other, split=first.split, paths=paths)
        name = system.loaded.config.system
        taken = {run.evaluation.report.system for run in runs}
        runs.append(evaluate_system(system, f"{name} ({other})" if name in taken else name))
    return runs


def shuffled_system(options: EvaluateOptions, first: System) -> System | None:
    """The checkpoint with words weighted at random; None where it has learned no weights."""
    config = first.loaded.config
    if config.system != "aamn" or config.aamn.language.attention != "learned":
        return None
    overrides = [*options.overrides, "aamn.language.attention=random"]
    paths = {"root": options.data, "proposals": options.proposals, "flow": options.flow}
    return open_system(options.checkpoint, overrides, options.config, first.split, paths)
