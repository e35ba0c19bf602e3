"""The sentence's side of an index: text in, vectors out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import torch

from aamn.data.flow.store import FlowStore
from aamn.index.box_source import BoxSource
from aamn.index.file import WHOLE, Selection
from aamn.index.job import IndexJob, indexable, model_hash
from aamn.inference.checkpoint import Loaded
from aamn.inference.verdict import UNCALIBRATED, NoMatch, checked_number
from aamn.models.encoded import EncodedSentences
from aamn.models.indexable import IndexableSegmenter
from aamn.structures import Query
from proposals.errors import InputError
from proposals.frames import FrameSource
from proposals.inference_form import inference_form

CALIBRATED = "calibrated"


class QueryEncoder:
    """The sentence's side of a segmenter: words in, one vector a module out; `model` is the hash
    that the indexes it can be asked of have. `no_match` says when a sentence means nobody."""

    def __init__(self, loaded: Loaded, no_match: NoMatch = UNCALIBRATED) -> None:
        """Raises:
        InputError: the checkpoint is of a system that cannot index videos.
        """
        self.model, self.loaded = model_hash(loaded.segmenter), loaded
        self.no_match = no_match

    @property
    def absent_threshold(self) -> float | None:
        """The score below which a sentence means nobody; None where it was not calibrated."""
        return self.no_match.threshold

    def threshold(self, wanted: float | str | None = CALIBRATED) -> float | None:
        """The score that counts: the calibrated one, where there is one, another one, or none.

        Raises:
            InputError: another word than "calibrated", or no number.
        """
        if wanted == CALIBRATED:
            return self.absent_threshold
        if isinstance(wanted, str):
            raise InputError(
                f"absent_threshold: wanted a score, None or {CALIBRATED!r}, got {wanted!r}"
            )
        return None if wanted is None else checked_number(wanted, "absent_threshold")

    @property
    def segmenter(self) -> IndexableSegmenter:
        """What makes the indexes' vectors and the sentences'."""
        return indexable(self.loaded.segmenter)

    @cached_property
    def video_side(self) -> IndexableSegmenter:
        """The segmenter in the form in which it sees videos."""
        return inference_form(self.segmenter)

    def job(
        self,
        video_id: str,
        frames: FrameSource,
        boxes: BoxSource,
        flow: FlowStore | None = None,
        selection: Selection = WHOLE,
        precision: str = "float32",
        every: int = 1,
    ) -> IndexJob:
        """A video to index, so that it can be asked here; see `IndexJob`."""
        return IndexJob(
            self.video_side,
            video_id,
            frames,
            boxes,
            flow,
            self.loaded.config.flow,
            selection,
            precision,
            self.model,
            every,
        )

    def queries(self, texts: str | Iterable[str]) -> list[Query]:
        """What a user asks as word numbers; a text alone is one sentence. See `Words.queries`.

        Raises:
            InputError: no sentence, or one without a word.
        """
        return self.loaded.words.queries(texts)

    def expressions(self, texts: Iterable[str]) -> list[Query]:
        """A data set's sentences as word numbers, by the words that are known now."""
        return [self.loaded.vocabulary.encode(text) for text in texts]

    @torch.inference_mode()
    def encode(self, queries: Sequence[Query]) -> EncodedSentences:
        """The sentences' vectors, on the CPU."""
        found = self.segmenter.encode_sentences(queries)
        return EncodedSentences(
            *(
                {name: value.detach().float().cpu() for name, value in part.items()}
                for part in (found.sides, found.biases, found.attention)
            )
        )
