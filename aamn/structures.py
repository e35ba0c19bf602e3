"""The nouns that pass between the rooms: small frozen records, validated where they are made.

Letters used in every shape of this library:

    T  frames of a clip            K  tubes (proposals of the key frame)   L  words of a sentence
    Q  sentences of a sample       D  channels of an embedding             A  annotated frames
    H, W   pixels of the network's input square                H0, W0   pixels of the original video

Conventions: boxes are float32 (x1, y1, x2, y2) in pixels of the original frame; frame indices are
0-based; RGB lies in [0, 1]; flow is in pixels of the H x W grid. "Radius" is the paper's letter L,
the number of frames on either side of the key frame, so that T = 2 * radius + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from proposals.frames import scaled_size

UNKNOWN_NUMBER = 1  # of the row that stands for any unknown word


def _check(value: Tensor, name: str, *shape: int | None) -> None:
    """Raises ValueError unless `value` has `shape` (None matches any length)."""
    same = value.dim() == len(shape) and all(
        want is None or want == got for want, got in zip(shape, value.shape, strict=True)
    )
    if not same:
        want = tuple("any" if n is None else n for n in shape)
        raise ValueError(f"{name}: wanted shape {want}, got {tuple(value.shape)}")


@dataclass(frozen=True)
class Geometry:
    """Where an original frame lies in the network's input: scaled by one factor, padded at the
    right and at the bottom.

    `original_size` is (H0, W0), `network_size` is (H, W), `scale` is network pixels per original
    pixel.
    """

    original_size: tuple[int, int]
    network_size: tuple[int, int]
    scale: float

    @classmethod
    def fit(cls, original_size: tuple[int, int], network_size: tuple[int, int]) -> Geometry:
        """The largest scale at which the whole original frame fits into the network's input."""
        (h0, w0), (h, w) = original_size, network_size
        if min(h0, w0, h, w) < 1:
            raise ValueError(f"sizes must be positive, got {original_size} and {network_size}")
        return cls((h0, w0), (h, w), min(h / h0, w / w0))

    @property
    def content_size(self) -> tuple[int, int]:
        """(height, width) in network pixels that the frame covers; the rest is padding."""
        return scaled_size(self.original_size, self.scale, self.network_size)

    @property
    def scale_xyxy(self) -> tuple[float, float, float, float]:
        """Factors that take an original box to network pixels, exact for the rounded content."""
        (h, w), (h0, w0) = self.content_size, self.original_size
        return w / w0, h / h0, w / w0, h / h0

    def to_network(self, boxes: Tensor) -> Tensor:
        """Boxes (..., 4) of the original frame in network pixels."""
        return boxes * boxes.new_tensor(self.scale_xyxy)


@dataclass(frozen=True)
class Clip:
    """A window of frames around a key frame, at the network's size.

    frame_indices (T,) int64, clamped at the video's ends, so that entries may repeat; rgb
    (T, 3, H, W) float32 in [0, 1]; flow (T, 2, H, W) float32 (x, y) in network pixels towards the
    next frame, or None when the segmenter needs none; key is the key frame's place in 0..T-1.
    """

    video_id: str
    frame_indices: Tensor
    rgb: Tensor
    flow: Tensor | None
    geometry: Geometry
    key: int

    def __post_init__(self) -> None:
        t = self.frame_indices.numel()
        h, w = self.geometry.network_size
        _check(self.frame_indices, "Clip.frame_indices", None)
        _check(self.rgb, "Clip.rgb", t, 3, h, w)
        if self.flow is not None:
            _check(self.flow, "Clip.flow", t, 2, h, w)
        if not 0 <= self.key < t:
            raise ValueError(f"Clip.key: wanted 0..{t - 1}, got {self.key}")


@dataclass(frozen=True)
class Query:
    """A sentence: its text, its tokens as the vocabulary split them, and their ids (L,) int64;
    `left_out` are the tokens behind those that a segmenter reads."""

    text: str
    tokens: tuple[str, ...]
    words: Tensor
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self.words, "Query.words", len(self.tokens))
        if not self.tokens:
            raise ValueError(f"the sentence {self.text!r} holds no word")

    @property
    def unknown(self) -> tuple[str, ...]:
        """The tokens that the vocabulary does not have, each once."""
        pairs = zip(self.tokens, self.words.tolist(), strict=True)
        return tuple(dict.fromkeys(token for token, n in pairs if n == UNKNOWN_NUMBER))

    @property
    def known(self) -> bool:
        """Whether any of its words is."""
        return bool((self.words != UNKNOWN_NUMBER).any())


@dataclass(frozen=True)
class Proposals:
    """The K most confident boxes of each frame of a clip, best first, padded with invalid ones.

    boxes (T, K, 4) float32 original pixels; scores (T, K) float32; labels (T, K) int64; valid
    (T, K) bool. An invalid box is all zeros.
    """

    frame_indices: Tensor
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        _check(self.boxes, "Proposals.boxes", self.frame_indices.numel(), None, 4)
        t, k, _ = self.boxes.shape
        for name in ("scores", "labels", "valid"):
            _check(getattr(self, name), f"Proposals.{name}", t, k)


@dataclass(frozen=True)
class TubeEmbedding:
    """The video's side of the score: vectors (K, D), which no sentence has touched, and their
    validity (K,). The score of tube k for a sentence is <vectors[k], query.vector> + query.bias.
    """

    vectors: Tensor
    valid: Tensor


@dataclass(frozen=True)
class QueryEmbedding:
    """The sentence's side of the score: vector (D,), which no video has touched, the constant
    `bias` that every tube's score gets, and the word attention (L,) of both modules."""

    vector: Tensor
    bias: Tensor
    actor_attention: Tensor
    action_attention: Tensor


@dataclass(frozen=True)
class TubeScores:
    """Scores of every tube for one sentence: total = actor + action, each (K,), -inf where a tube
    is invalid; word attention (L,) of both modules; context_attention (K, S) says how much the
    contextual LSTM's S inputs (whole clip first, then the other tubes) contribute to each tube,
    and context_members (K, S) which tube each input is (-1: the whole clip)."""

    total: Tensor
    actor: Tensor
    action: Tensor
    actor_attention: Tensor
    action_attention: Tensor
    context_attention: Tensor | None = None
    context_members: Tensor | None = None


@dataclass(frozen=True)
class Target:
    """What one sentence of a sample refers to, in its key frame.

    mask (H0, W0) bool and box (4,) in original pixels; `instance` is the data set's id of the
    object; `kind` tags the sentence ("" when the data set has no tags); `distractors` counts the
    objects, the target among them, that only the sentence's deciding words tell apart (0: unknown).
    """

    instance: int
    box: Tensor
    mask: Tensor
    kind: str = ""
    distractors: int = 0


@dataclass(frozen=True)
class Sample:
    """A clip with all the sentences of its key frame, so that the visual work is done once.

    `queries[i]` refers to `targets[i]`; several sentences may share a target. `proposals` is None
    for a segmenter that needs none. `strangers` are sentences about other videos.
    """

    clip: Clip
    proposals: Proposals | None
    queries: tuple[Query, ...]
    targets: tuple[Target, ...]
    strangers: tuple[Query, ...] = ()

    def __post_init__(self) -> None:
        if len(self.queries) != len(self.targets):
            raise ValueError(f"{len(self.queries)} queries but {len(self.targets)} targets")


@dataclass(frozen=True)
class MaskTrack:
    """A segmenter's answer to one sentence about one clip: a box and a mask in each of its frames.

    frame_indices (T,) int64; boxes (T, 4) original pixels; masks (T, H0, W0) bool; `score` of the
    winner; `scores` behind it (None for systems without tubes), `tube` the winner's place in them
    (-1: no tube; all masks empty).
    """

    video_id: str
    text: str
    frame_indices: Tensor
    boxes: Tensor
    masks: Tensor
    score: float
    scores: TubeScores | None = None
    tube: int = -1

    def __post_init__(self) -> None:
        t = self.frame_indices.numel()
        _check(self.boxes, "MaskTrack.boxes", t, 4)
        _check(self.masks, "MaskTrack.masks", t, None, None)

    def at(self, indices: Sequence[int]) -> MaskTrack:
        """The frames at these indices of the track."""
        rows = torch.as_tensor(indices, device=self.frame_indices.device)
        return replace(
            self,
            frame_indices=self.frame_indices[rows],
            boxes=self.boxes[rows],
            masks=self.masks[rows],
        )


@dataclass(frozen=True)
class InputSpec:
    """What a segmenter wants to be fed, so that loaders never ask which one they serve.

    offsets: frame offsets of a clip around its key frame (0 among them); network_size (H, W);
    flow: whether clips carry flow; proposals: K boxes a frame, 0 for none; predicts: "clip" when
    `segment` answers for every frame of the clip, "key" when for the key frame alone; strangers:
    how many sentences about other videos come with a sample that is learned from.
    """

    offsets: tuple[int, ...]
    network_size: tuple[int, int]
    flow: bool
    proposals: int
    predicts: str = "clip"
    strangers: int = 0

    def __post_init__(self) -> None:
        if 0 not in self.offsets:
            raise ValueError(f"InputSpec.offsets must hold 0 (the key frame), got {self.offsets}")
        if self.predicts not in ("clip", "key"):
            raise ValueError(f"InputSpec.predicts: wanted 'clip' or 'key', got {self.predicts!r}")

    @property
    def key(self) -> int:
        """The key frame's place in a clip."""
        return self.offsets.index(0)


@dataclass(frozen=True)
class Row:
    """One (sample, sentence) of an evaluation: the counts from which every aggregate derives.

    intersection and union count pixels; box_iou is the chosen key-frame box against the target's
    (nan for a system without boxes); distractors as in Target.
    """

    video_id: str
    instance: int
    frame: int
    text: str
    kind: str
    intersection: int
    union: int
    box_iou: float = float("nan")
    distractors: int = 0

    @property
    def iou(self) -> float:
        """Intersection over union; two empty masks agree, so their IoU is 1."""
        return self.intersection / self.union if self.union else 1.0


@dataclass(frozen=True)
class Report:
    """The rows of one evaluation; `system` and `data` say what was evaluated on what."""

    rows: tuple[Row, ...]
    system: str
    data: str


def empty_track(video_id: str, text: str, frames: Tensor, size: tuple[int, int]) -> MaskTrack:
    """The answer "nobody": empty masks in every frame (a clip without any proposal)."""
    t = frames.numel()
    return MaskTrack(
        video_id,
        text,
        frames,
        torch.zeros(t, 4),
        torch.zeros(t, *size, dtype=torch.bool),
        float("-inf"),
    )
