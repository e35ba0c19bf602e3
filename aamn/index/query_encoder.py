"""The sentence's side of an index: text in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aamn.data.flow.store import FlowStore
from aamn.index.box_source import BoxSource
from aamn.index.file import WHOLE, Selection
from aamn.index.job import IndexJob, indexable, model_hash
from aamn.inference.checkpoint import Loaded, extend_words
from aamn.models.aamn import AAMN
from aamn.models.encoded import EncodedSentences
from aamn.structures import Query
from proposals.frames import FrameSource


class QueryEncoder:
    """The sentence's side of a segmenter: words in, one vector a module out; `model` is the hash
    that the indexes it can be asked of have."""

    def __init__(self, loaded: Loaded) -> None:
        """Raises:
        InputError: the checkpoint is of a system that cannot index videos.
        """
        self.model, self.loaded = model_hash(loaded.segmenter), loaded
        self._known: set[str] = set()

    @property
    def segmenter(self) -> AAMN:
        """What makes the indexes' vectors and the sentences'."""
        return indexable(self.loaded.segmenter)

    def job(
        self,
        video_id: str,
        frames: FrameSource,
        boxes: BoxSource,
        flow: FlowStore | None = None,
        selection: Selection = WHOLE,
        precision: str = "float32",
    ) -> IndexJob:
        """A video to index, so that it can be asked here; see `IndexJob`."""
        return IndexJob(
            self.segmenter,
            video_id,
            frames,
            boxes,
            flow,
            self.loaded.config.flow,
            selection,
            precision,
            self.model,
        )

    def queries(self, texts: str | Sequence[str]) -> list[Query]:
        """The sentences as word numbers; a text alone is one sentence.

        Raises:
            InputError: a sentence without a word.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        self.know(texts)
        return [self.loaded.vocabulary.encode(text) for text in texts]

    def know(self, texts: Sequence[str]) -> None:
        """Takes what words of these sentences training has not seen from the file of vectors, at
        once; texts that were given before cost nothing.

        Raises:
            InputError: as `extend_words`.
        """
        new = [text for text in texts if text not in self._known]
        self.loaded = extend_words(self.loaded, new)
        self._known.update(new)

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
