"""The door of systems whose videos can be indexed: one inner product between two sides that never
see each other. The index, the search, the page and the jobs use nothing else of a system."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from aamn.models.answers import mask_tracks, tube_scores
from aamn.models.encoded import ClipBatch, EncodedClips, EncodedSentences, FrameFeatures
from aamn.models.matching import TubeSide
from aamn.models.segmenter import Segmenter
from aamn.structures import Clip, MaskTrack, Proposals, Query, TubeScores, empty_track

T = TypeVar("T")


class IndexableSegmenter(Segmenter):
    """A segmenter that scores tubes by <tube embedding, sentence embedding> + constant, and whose
    masks do not depend on the sentence.

    `text_side` are parts of the names of parameters that only sentences go through; `link_balance`
    is rho of (1).
    """

    text_side: tuple[str, ...] = ()
    link_balance: float = 1.0
    # of one whose weights are elsewhere: what an index knows it by, and what it computes in
    known_hash: str = ""
    only_precision: str = ""

    # What the index asks before it begins

    @property
    def inputs(self) -> tuple[str, ...]:
        """What `encode_maps` is given: "rgb", "flow" or both."""
        raise NotImplementedError

    @property
    def head_widths(self) -> dict[str, int]:
        """The matching heads by name, with the widths of their vectors, in their order."""
        raise NotImplementedError

    @property
    def backbone_hash(self) -> str:
        """A hash of the backbone whose maps a detector may go on from; "" where there is none."""
        return ""

    def video_options(self) -> dict[str, Any]:
        """The options that what it does with videos depends on, as plain values."""
        raise NotImplementedError

    def check_classes(self, classes: Sequence[str], source: str) -> None:
        """Raises:
        InputError: boxes of `source` with labels of these classes are not the wanted ones.
        """

    # The video's side

    def encode_maps(self, images: dict[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
        """Stream name -> its maps of frames (N, C, H, W)."""
        raise NotImplementedError

    def shared_maps(self, maps: dict[str, tuple[Tensor, ...]]) -> list[Tensor]:
        """Those of the maps that a detector on the same backbone looks at."""
        raise NotImplementedError

    def describe_rois(self, maps: dict[str, tuple[Tensor, ...]], batch: ClipBatch) -> FrameFeatures:
        """The features of the batch's boxes, whose frames the maps are of."""
        raise NotImplementedError

    def link_features(self, roi_features: dict[str, Tensor]) -> Tensor:
        """What (1) compares (..., K, C) of ROI features (..., 1 + K, C_v)."""
        raise NotImplementedError

    def encode_tubes(self, batch: ClipBatch, frames: FrameFeatures) -> EncodedClips:
        """Tubes and their embeddings of B clips, from the features of their B * T frames."""
        raise NotImplementedError

    def mask_logits(self, clips: EncodedClips, frames: Tensor, boxes: Tensor) -> Tensor:
        """Logits (N, g, g) over boxes (N, 4), original pixels, of frames (N,) counted over all
        clips' frames in a row; one batch, whatever N is."""
        raise NotImplementedError

    # The sentence's side

    def encode_sentences(self, queries: Sequence[Query]) -> EncodedSentences:
        """Word attention and the sentences' side of the score, for Q sentences at once."""
        raise NotImplementedError

    # Where they meet

    def scores(self, sides: dict[str, TubeSide], sentences: EncodedSentences) -> dict[str, Tensor]:
        """Module name -> (Q, B, K) float32: every sentence's score for every tube, padding
        included. In half precision the steps between scores would be coarse beside the margin."""
        with torch.autocast(self.device.type, enabled=False):
            return {
                name: torch.einsum(
                    "qd,bkd->qbk", sentences.sides[name].float(), side.vectors.float()
                )
                + sentences.biases[name]
                for name, side in sides.items()
            }

    def encode(self, clips: Sequence[Clip], proposals: Sequence[Proposals]) -> EncodedClips:
        """Streams, tubes, tube embeddings of B clips."""
        batch = self._batch(clips, proposals)
        return self.encode_tubes(batch, self.encode_frames(batch))

    def encode_frames(self, batch: ClipBatch) -> FrameFeatures:
        """The maps and ROI features of all frames of the batch in a row."""
        return self.describe_rois(self.encode_maps(batch.images), batch)

    def _batch(self, clips: Sequence[Clip], proposals: Sequence[Proposals]) -> ClipBatch:
        images = {"rgb": torch.cat([clip.rgb for clip in clips])} if "rgb" in self.inputs else {}
        if "flow" in self.inputs:
            images["flow"] = torch.cat(all_given([clip.flow for clip in clips], "flow"))
        return ClipBatch.of(
            images,
            torch.stack([p.boxes for p in proposals]),
            torch.stack([p.valid for p in proposals]),
            [clip.geometry for clip in clips],
            self.device,
            torch.stack([p.scores for p in proposals]),
            torch.stack([p.labels for p in proposals]),
        )

    @torch.no_grad()
    def segment(
        self, clip: Clip, proposals: Proposals | None, queries: Sequence[Query]
    ) -> list[MaskTrack]:
        """The best tube's mask in every frame of the clip, for each sentence; the masks of all
        chosen tubes are computed in one batch."""
        if proposals is None:
            raise ValueError(f"{type(self).__name__} chooses among proposals; this clip has none")
        clips = self.encode([clip], [proposals])
        sentences = self.encode_sentences(queries)
        found = tube_scores(clips, sentences, self.scores(clips.sides, sentences), queries)
        if not bool(clips.tubes.valid.any()):
            size = clip.geometry.original_size
            return [empty_track(clip.video_id, q.text, clip.frame_indices, size) for q in queries]
        chosen = [self.choose(scores) for scores in found]
        return mask_tracks(clip, clips, partial(self.mask_logits, clips), queries, found, chosen)

    def choose(self, scores: TubeScores) -> int:
        """The target tube: the one with the highest score."""
        return int(scores.total.argmax())


def all_given(values: Sequence[T | None], what: str) -> list[T]:
    """The same values.

    Raises:
        ValueError: one of them is None.
    """
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        raise ValueError(f"wanted {what} of every sample; {len(values) - len(found)} have none")
    return found
