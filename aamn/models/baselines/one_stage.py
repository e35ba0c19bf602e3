"""What the one-stage systems have in common: a network a stream from clips and words to response
maps of the whole frame, no proposals, an answer for the key frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aamn.models.baselines.responses import (
    ResponseLoss,
    content_probabilities,
    half_maximum_mask,
    network_mask,
)
from aamn.models.modules import Modules
from aamn.models.segmenter import Segmenter
from aamn.ops.masks import boxes_of_masks
from aamn.structures import Clip, InputSpec, MaskTrack, Proposals, Query, Sample
from proposals.errors import InputError


class ResponseNetwork(nn.Module):
    """One stream: the video once, then any number of sentences about it."""

    def encode(self, video: Tensor) -> Any:
        """What all sentences share of clips (N, C, T, H, W)."""
        raise NotImplementedError

    def respond(self, encoded: Any, owner: Tensor, words: Tensor) -> list[Tensor]:
        """Response maps (S, 1, h, w), coarse to fine, of S sentences (S, L, C_e); sentence s is
        about clip owner[s]."""
        raise NotImplementedError

    def load_pretrained(self) -> None:
        """Loads the weights a fresh training starts from, as the configuration names them."""
        raise NotImplementedError


def clip_needs(size: int, multiple: int, frames: int, stride: int, flow: bool) -> InputSpec:
    """`frames` frames, `stride` apart, around the key frame, which is index frames // 2.

    Raises:
        InputError: a size that the network's strides do not divide, or no frame.
    """
    if size < multiple or size % multiple:
        raise InputError(f"size: wanted a multiple of {multiple} pixels, got {size}")
    if frames < 1 or stride < 1:
        raise InputError(f"frames and stride must be at least 1, got {frames} and {stride}")
    offsets = tuple(stride * (i - frames // 2) for i in range(frames))
    return InputSpec(offsets, (size, size), flow, proposals=0, predicts="key")


def stack_stream(clips: Sequence[Clip], stream: str, device: torch.device) -> Tensor:
    """One stream of clips of one size: (N, C, T, H, W)."""
    videos = [getattr(clip, stream) for clip in clips]
    for clip, video in zip(clips, videos, strict=True):
        if video is None:
            raise InputError(
                f"video {clip.video_id}: the clip has no {stream}, the system needs it"
            )
    return torch.stack(videos).to(device).transpose(1, 2)


def learned_parameters(system: nn.Module) -> int:
    """How many numbers a system learns, as ACGA's supplement counts them (Table 1): neither what is
    frozen nor the word vectors."""
    words = {m.weight for m in system.modules() if isinstance(m, nn.Embedding)}
    return sum(p.numel() for p in system.parameters() if p.requires_grad and p not in words)


class OneStage(Segmenter):
    """Networks for one or two streams; the answer is the mean of their finest responses.

    Each stream learns by its own loss, as if it were trained alone. The released ACGA covers the
    square with the frame and crops its centre; here the whole frame lies in it, padded, as for
    every system of this library, so that all see the same picture and are scored on the full
    frame: maximum and mask are taken where the frame lies.
    """

    def __init__(
        self,
        networks: dict[str, ResponseNetwork],
        embedding: nn.Embedding,
        input_spec: InputSpec,
        loss: ResponseLoss,
        max_words: int,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.networks: Modules[ResponseNetwork] = Modules(networks)
        self.input_spec = input_spec
        self.loss = loss
        self.max_words = max_words

    def forward(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        clips = [sample.clip for sample in samples]
        counts = torch.tensor([len(sample.queries) for sample in samples])
        owner = torch.arange(len(samples)).repeat_interleave(counts).to(self.device)
        words = self.word_vectors([query for sample in samples for query in sample.queries])
        masks = [
            network_mask(target.mask.to(self.device), sample.clip.geometry)
            for sample in samples
            for target in sample.targets
        ]
        losses = [
            self.loss(network.respond(self.encode(stream, clips), owner, words), torch.stack(masks))
            for stream, network in self.networks.items()
        ]
        return {name: torch.stack([each[name] for each in losses]).sum() for name in losses[0]}

    @torch.no_grad()
    def segment(
        self, clip: Clip, proposals: Proposals | None, queries: Sequence[Query]
    ) -> list[MaskTrack]:
        encoded = {stream: self.encode(stream, [clip]) for stream in self.networks}
        return [self._track(clip, query, self.response(encoded, query)) for query in queries]

    def load_pretrained(self) -> None:
        """Loads the weights a fresh training starts from, as the configuration names them.

        Raises:
            InputError: weights that cannot be had, or those of another network.
        """
        for network in self.networks.values():
            network.load_pretrained()

    def encode(self, stream: str, clips: Sequence[Clip]) -> Any:
        """What the sentences share of clips, in one stream."""
        return self.networks[stream].encode(stack_stream(clips, stream, self.device))

    def response(self, encoded: dict[str, Any], query: Query) -> Tensor:
        """The finest response (H, W) to one sentence about one clip, the mean over the streams."""
        owner = torch.zeros(1, dtype=torch.long, device=self.device)
        words = self.word_vectors([query])
        finest = [
            network.respond(encoded[stream], owner, words)[-1]
            for stream, network in self.networks.items()
        ]
        return torch.stack(finest).mean(0)[0, 0]

    def word_vectors(self, queries: Sequence[Query]) -> Tensor:
        """Vectors (S, L, C_e) of sentences, zero-padded to `max_words`."""
        ids = torch.zeros(len(queries), self.max_words, dtype=torch.long)
        for row, query in zip(ids, queries, strict=True):
            if len(query.words) > self.max_words:
                raise ValueError(f"{query.text!r}: more than {self.max_words} words")
            row[: len(query.words)] = query.words
        return self.embedding(ids.to(self.device))

    def _track(self, clip: Clip, query: Query, response: Tensor) -> MaskTrack:
        probabilities = content_probabilities(response, clip.geometry)
        mask = half_maximum_mask(probabilities, clip.geometry.original_size)[None].cpu()
        return MaskTrack(
            clip.video_id,
            query.text,
            clip.frame_indices[clip.key : clip.key + 1].cpu(),
            boxes_of_masks(mask),
            mask,
            float(probabilities.max()),
        )
