"""How good a search is: whether a sentence finds a video of which it is true, and when in it."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

from tqdm import tqdm

from aamn.config.schema import DataConfig
from aamn.data.datasets.a2d import normalise
from aamn.data.datasets.registry import open_source
from aamn.data.datasets.source import VideoTextSource
from aamn.data.flow.store import stored_flow
from aamn.data.synthetic.truth import videos_by_sentence
from aamn.evaluation.absence import VideoEvaluation
from aamn.index.indexed_segmenter import StoredIndexes
from aamn.index.query_encoder import QueryEncoder
from aamn.inference.checkpoint import Loaded
from aamn.search.folder import Hit, IndexFolder, Searched
from proposals.files import write_json
from proposals.outputs import check_output
from proposals.store import ProposalStore

log = logging.getLogger("aamn")

TOPS = (1, 5, 10)


@dataclass(frozen=True)
class Retrieval:
    """Shares from 0 to 1. `recall`: of the sentences with a true video among the first N; ranks
    count from 1. `span_iou`: mean IoU of a hit's frames and those in which the actor is, in the
    sentence's own video; `span_inside`: the share of the hit's frames that are among these; None
    where the data set does not say."""

    sentences: int
    videos: int
    recall: dict[str, float]
    median_rank: float
    chance: dict[str, float]
    span_iou: float | None = None
    span_inside: float | None = None


def first_rank(ranked: Sequence[str], true: set[str]) -> float:
    """The rank of the best true video, from 1; inf where there is none."""
    return next((place for place, video in enumerate(ranked, 1) if video in true), math.inf)


def recall_at(ranks: Sequence[float], top: int) -> float:
    """The share of sentences with a true video among the first `top`."""
    return fmean(rank <= top for rank in ranks)


def chance_at(true: int, videos: int, top: int) -> float:
    """The probability that `top` videos drawn blindly hold one of the true ones."""
    top = min(top, videos)
    return 1 - math.comb(videos - true, top) / math.comb(videos, top)


def span_iou(found: Iterable[int], true: set[int]) -> float:
    """The intersection of two sets of frames over their union."""
    found = {*found}
    return len(found & true) / max(1, len(found | true))


def same_text(source: VideoTextSource) -> dict[str, set[str]]:
    """Sentence -> the videos of which it was written."""
    found: dict[str, set[str]] = defaultdict(set)
    for video_id in source.video_ids:
        for expression in source.sentences(video_id):
            found[expression.text].add(video_id)
    return dict(found)


def measure(library: Searched, source: VideoTextSource, true: Mapping[str, set[str]]) -> Retrieval:
    """Asks a library that holds exactly the source's videos every sentence once.

    Args:
        true: sentence -> the videos of which it is true; one that it was written of always counts.
    """
    videos, written = source.video_ids, same_text(source)
    right = {text: own | true.get(text, set()) & {*videos} for text, own in written.items()}
    ranks, overlaps, inside = [], [], []
    for text in tqdm(written, desc="searching", unit="sentence"):
        (hits,) = library.search([text], len(videos), None)
        ranks.append(first_rank([hit.video_id for hit in hits], right[text]))
        for hit, frames in _located(hits, source, text):
            overlaps.append(span_iou(hit.frames, frames))
            inside.append(len({*hit.frames} & frames) / len(hit.frames))
    counts = [len(found) for found in right.values()]
    return Retrieval(
        len(ranks),
        len(videos),
        {str(top): recall_at(ranks, top) for top in TOPS},
        median(ranks),
        {str(top): fmean(chance_at(n, len(videos), top) for n in counts) for top in TOPS},
        fmean(overlaps) if overlaps else None,
        fmean(inside) if inside else None,
    )


def _located(
    hits: Sequence[Hit], source: VideoTextSource, text: str
) -> Iterable[tuple[Hit, set[int]]]:
    """The hits in the videos that a sentence was written of, with the frames where its actor is."""
    for hit in hits:
        for expression in source.sentences(hit.video_id):
            if expression.text == text:
                target = source.full_video_targets(hit.video_id, expression.instance)
                if target is not None:
                    seen = (target.boxes[:, 2] > target.boxes[:, 0]).nonzero()[:, 0]
                    yield hit, {*seen.tolist()}


def format_retrieval(found: Retrieval) -> str:
    """The figures in lines, in per cent."""
    head = f"{found.sentences} sentences, {found.videos} videos"
    lines = [head, f"{'':<24}search   chance"]
    for top in found.recall:
        shares = f"{100 * found.recall[top]:6.1f}   {100 * found.chance[top]:6.1f}"
        lines.append(f"{'recall@' + top:<24}{shares}")
    lines.append(f"{'median rank':<24}{found.median_rank:6.1f}")
    if found.span_iou is not None and found.span_inside is not None:
        lines.append(f"{'IoU of the span':<24}{100 * found.span_iou:6.1f}")
        lines.append(f"{'of it with the actor':<24}{100 * found.span_inside:6.1f}")
    return "\n".join(lines)


def evaluate_retrieval(loaded: Loaded, checkpoint: Path, options: VideoEvaluation) -> None:
    """Prints the figures of a split and writes them; indexes that lack are made.

    A sentence is right for every video of which it is true: of a synthetic corpus by the actors
    that were drawn, of others by its text.
    """
    data, split = options.where(loaded)
    out = options.out or checkpoint.with_name("retrieval.json")
    check_output(out)
    source = open_source(data, split)
    loaded.words.learn(source.texts())
    library = _library(loaded, data, source, options.index or out.with_suffix(".index"))
    true: dict[str, set[str]] = defaultdict(set)
    for text, videos in (videos_by_sentence(Path(data.root), split) or {}).items():
        true[normalise(text)] |= videos
    found = measure(library, source, true)
    print(format_retrieval(found))
    write_json(out, {"split": split, **asdict(found)})
    log.info("wrote %s", out)


def _library(
    loaded: Loaded, data: DataConfig, source: VideoTextSource, folder: Path
) -> IndexFolder:
    """All videos of the source, ready to be searched."""
    store = ProposalStore.read(data.proposals)
    flow = stored_flow(data.flow, loaded.segmenter.input_spec, loaded.config.flow)
    encoder = QueryEncoder(loaded)
    indexes = StoredIndexes(folder, encoder, source, store, flow)
    videos = tqdm(source.video_ids, desc="indexing", unit="video")
    return IndexFolder([indexes.of(video_id).path for video_id in videos], encoder)
