"""Whole videos, clip by clip and by video-level tubes, and the score below which a sentence means
nobody."""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aamn.config.schema import DataConfig
from aamn.data.datasets.registry import open_source
from aamn.data.datasets.source import Expression, FullTarget, VideoTextSource
from aamn.data.flow.store import stored_flow
from aamn.evaluation.full_video import format_videos, frame_rows, summarise_videos
from aamn.evaluation.probability import fit_probability, trust
from aamn.index.indexed_segmenter import StoredIndexes
from aamn.index.query_encoder import QueryEncoder
from aamn.index.video_index import LINKINGS, VideoIndex
from aamn.inference.checkpoint import Loaded
from aamn.inference.track import answers
from aamn.inference.verdict import NoMatch, Probability, checked_number
from aamn.structures import Row
from aamn.tubes.video_linking import calibrate_absence, shares_at
from proposals.errors import InputError
from proposals.files import write_json
from proposals.outputs import check_output
from proposals.store import ProposalStore

log = logging.getLogger("aamn")

CALIBRATION_VIDEOS = 60  # at most, evenly drawn
STRANGERS = 3  # other videos whose sentences are asked of each

Found = dict[str, dict[str, list[Row]]]  # linking -> protocol -> rows a frame


@dataclass
class Scores:
    """Path scores of sentences that mean somebody in their video, and of those that mean nobody."""

    present: list[float] = field(default_factory=list)
    absent: list[float] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return bool(self.present and self.absent)


def _opened(indexes: StoredIndexes, videos: Sequence[str], title: str) -> Iterator[VideoIndex]:
    """The videos' indexes one after another, each closed when the next one comes."""
    for video_id in tqdm(videos, desc=title, unit="video"):
        index = VideoIndex(indexes.of(video_id), indexes.query_encoder)
        yield index
        index.close()


def write_videos(
    loaded: Loaded,
    data: DataConfig,
    split: str,
    out: Path,
    folder: Path,
    calibrate: str = "",
    every: int = 1,
) -> None:
    """Prints the metrics of a split's whole videos and writes them to `out`; indexes are kept in
    `folder`; `calibrate`: the split to find the threshold of absence on; `every`: only so
    many-th frames go through the networks."""
    source = open_source(data, split)
    loaded.words.learn(source.texts())
    store = ProposalStore.read(data.proposals)
    flow = stored_flow(data.flow, loaded.segmenter.input_spec, loaded.config.flow)
    indexes = StoredIndexes(folder, QueryEncoder(loaded), source, store, flow, every)
    found: Found = {system_name(linking): defaultdict(list) for linking in LINKINGS}
    scores = Scores()
    for index in _opened(indexes, source.video_ids, "full videos"):
        _add_rows(found, source, index)
        _add_scores(scores, source, index, source.video_ids)
    if not any(found.values()):
        raise InputError(f"{data.root} has no full-video truth (docs/data.md)")
    print(format_videos(found))
    content = {
        "data": f"{data.root} ({split})",
        "systems": {
            system: {name: summarise_videos(rows) for name, rows in protocols.items()}
            for system, protocols in found.items()
        },
        "absence": {},
    }
    if calibrate:
        other = replace(indexes, source=open_source(data, calibrate))
        content["absence"] = _absence(other, calibrate, scores, split)
    write_json(out, content)


def system_name(linking: str) -> str:
    """What the results are called in tables and in the JSON file."""
    return f"aamn, by {linking}"


def _add_rows(found: Found, source: VideoTextSource, index: VideoIndex) -> None:
    pairs: list[tuple[Expression, FullTarget]] = []
    for expression in source.sentences(index.video_id):
        target = source.full_video_targets(index.video_id, expression.instance)
        if target is not None:
            pairs.append((expression, target))
    if not pairs:
        return
    expressions, targets = zip(*pairs, strict=True)
    for linking in LINKINGS:
        queries = index.query_encoder.expressions(e.text for e in expressions)
        tracks = index.answer(queries, linking=linking)
        clips = (answer.tracks for answer in answers(tracks, index.frames))
        for protocol, rows in frame_rows(expressions, targets, clips).items():
            found[system_name(linking)][protocol] += rows


def _add_scores(
    scores: Scores, source: VideoTextSource, index: VideoIndex, videos: Sequence[str]
) -> None:
    """The video's own sentences, and those of the next videos that mean nobody here."""
    place, own = videos.index(index.video_id), source.sentences(index.video_id)
    others = {videos[(place + n) % len(videos)] for n in range(1, STRANGERS + 1)}
    foreign = [e for other in sorted(others - {index.video_id}) for e in source.sentences(other)]
    for known, texts in (
        (scores.present, {e.text for e in own}),
        (scores.absent, strangers(own, foreign)),
    ):
        if texts:
            queries = index.query_encoder.expressions(sorted(texts))
            known += [track.score for track in index.answer(queries)]


def strangers(own: Sequence[Expression], foreign: Sequence[Expression]) -> set[str]:
    """The foreign sentences about a class of actor that none of the own ones is about; without
    known classes, those that no own one equals."""
    actors, texts = {e.actor for e in own}, {e.text for e in own}
    return {e.text for e in foreign if e.text not in texts and not (e.actor and e.actor in actors)}


def _absence(indexes: StoredIndexes, calibrated_on: str, scores: Scores, split: str) -> dict:
    """The threshold that separates best on another split, and its shares on the evaluated one."""
    videos = indexes.source.video_ids
    step = -(-len(videos) // CALIBRATION_VIDEOS)
    known, videos = Scores(), videos[::step]
    for index in _opened(indexes, videos, f"calibrating on {calibrated_on}"):
        _add_scores(known, indexes.source, index, videos)
    if not (known.complete and scores.complete):
        log.warning("no threshold of absence: too few videos with sentences of their own")
        return {}
    calibration = calibrate_absence(known.present, known.absent)
    shares = shares_at(calibration.threshold, scores.present, scores.absent)
    print(
        f"not present: below {calibration.threshold:.3f}, found on {len(videos)} videos of "
        f"{calibrated_on} (balanced accuracy {100 * calibration.balanced_accuracy:.1f}); on "
        f"{split} {100 * shares.refused:.1f} % of {len(scores.absent)} sentences about nobody get "
        f"empty masks, and {100 * (1 - shares.kept):.1f} % of {len(scores.present)} true ones"
    )
    line, trusted = _trusted(known, scores, split)
    return {
        **vars(calibration),
        **line,
        "calibrated_on": {
            "split": calibrated_on,
            "videos": len(videos),
            "present": len(known.present),
            "absent": len(known.absent),
        },
        split: {
            **vars(shares),
            **trusted,
            "present": len(scores.present),
            "absent": len(scores.absent),
        },
    }


def _trusted(known: Scores, scores: Scores, split: str) -> tuple[dict, dict]:
    """The probability of a match by its score, from known sentences, and how far it can be trusted
    on the evaluated ones; nothing where all known ones of a side found nobody."""
    if not all(any(map(math.isfinite, side)) for side in (known.present, known.absent)):
        return {}, {}
    probability = fit_probability(known.present, known.absent)
    trusted = trust(probability, scores.present, scores.absent)
    print(
        f"a match has the probability 1 / (1 + exp(-({probability.slope:.3f} * score "
        f"{probability.intercept:+.3f}))); on {split} its expected calibration error is "
        f"{100 * trusted['ece']:.1f} %, the area under the ROC curve {100 * trusted['auroc']:.1f} %"
    )
    return {"probability": vars(probability)}, trusted


def read_no_match(path: Path) -> NoMatch:
    """What a file of `aamn evaluate --full-video --calibrate` says of "nobody".

    Raises:
        InputError: the file holds no threshold.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["absence"]
        threshold = checked_number(found["threshold"], f"{path}: absence.threshold")
        return NoMatch(
            threshold, Probability.read(found.get("probability"), f"{path}: absence.probability")
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} holds no calibrated threshold; `aamn evaluate --full-video --calibrate` "
            "writes one"
        ) from None


@dataclass(frozen=True)
class VideoEvaluation:
    """Which whole videos are evaluated, and where the results go; see `aamn evaluate --help`."""

    data: str = ""
    proposals: str = ""
    flow: str = ""
    split: str = ""
    calibrate: str = ""
    out: Path | None = None
    index: Path | None = None
    every: int = 1

    def where(self, loaded: Loaded) -> tuple[DataConfig, str]:
        """The data, where they lie now, and the split."""
        paths = {"root": self.data, "proposals": self.proposals, "flow": self.flow}
        moved: dict[str, Any] = {key: path for key, path in paths.items() if path}
        data = replace(loaded.config.data, **moved)
        return data, self.split or data.test_split


def evaluate_videos(loaded: Loaded, checkpoint: Path, options: VideoEvaluation) -> None:
    """Prints and writes the metrics of whole videos; with `calibrate` also the threshold of
    absence, found on another split, and what it does on this one."""
    data, split = options.where(loaded)
    if options.calibrate == split:
        raise InputError(f"--calibrate {split}: wanted another split than the evaluated one")
    out = options.out or checkpoint.with_name("full_video.json")
    check_output(out)
    folder = options.index or out.with_suffix(".index")
    write_videos(loaded, data, split, out, folder, options.calibrate, options.every)
    log.info("wrote %s", out)
