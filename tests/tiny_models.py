"""Tiny clips, proposals, sentences and models for the tests of segmenters."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import torch

from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.data.words import Vocabulary, Words
from aamn.models.build import build_segmenter
from aamn.models.segmenter import Segmenter
from aamn.structures import Clip, Geometry, Proposals, Query, Sample, Target

WORDS = 23
VOCABULARY = Vocabulary([f"w{n}" for n in range(2, WORDS)])  # each word at its number
FROM_NOUGHT = Vocabulary([f"w{n}" for n in range(WORDS - 2)])
TINY = (
    "train.precision=32-true",
    "words.dimension=6",
    "aamn.radius=1",
    "aamn.proposals=4",
    "aamn.size=48",
    "aamn.tube_channels=14",
    "aamn.match_channels=10",
    "aamn.backbone.name=small",
    "aamn.backbone.widths=[8,16]",
    "aamn.backbone.strides=[4,2]",
    "aamn.backbone.fc=12",
    "aamn.backbone.dropout=0",
    "aamn.language.hidden=5",
    "aamn.action.context_hidden=9",
    "aamn.mask_head.channels=7",
    "aamn.mask_head.convolutions=1",
)


@cache
def _read(overrides: tuple[str, ...]) -> Config:
    """Merging a tree for every override takes long, and most tests want the same ones."""
    return load_config(Config, None, overrides, _read(TINY) if overrides != TINY else None)


def tiny_config(*overrides: str) -> Config:
    return deepcopy(_read(overrides))


def tiny_segmenter(
    *overrides: str, seed: int = 0, vocabulary: Vocabulary = VOCABULARY
) -> Segmenter:
    torch.manual_seed(seed)
    config = tiny_config(*overrides)
    words = Words(vocabulary, config.words.dimension, config.words.vectors)
    segmenter = build_segmenter(config, words).eval()
    with torch.no_grad():  # what starts as ones or zeros gets values that every test sees
        for name, parameter in segmenter.named_parameters():
            if name.endswith("norm2.weight"):
                parameter.fill_(1.0)
            if name.endswith("matching.score.weight"):
                parameter.copy_(torch.randn_like(parameter))
            if name.endswith("matching.score.bias"):
                parameter.fill_(0.37)
    return segmenter


def random_query(length: int, generator: torch.Generator) -> Query:
    words = torch.randint(2, WORDS, (length,), generator=generator)
    tokens = tuple(f"w{int(word)}" for word in words)
    return Query(" ".join(tokens), tokens, words)


def random_sample(
    segmenter: Segmenter,
    seed: int = 0,
    video: str = "v",
    lengths: tuple[int, ...] = (3, 1, 5),
    size: tuple[int, int] = (36, 60),
) -> Sample:
    """A clip of noise whose sentences refer to its key frame's first boxes, one after another."""
    g, input_spec = torch.Generator().manual_seed(seed), segmenter.input_spec
    t, k, (h, w) = len(input_spec.offsets), input_spec.proposals or 4, input_spec.network_size
    flow = torch.randn(t, 2, h, w, generator=g) * 2 if input_spec.flow else None
    rgb = torch.rand(t, 3, h, w, generator=g)
    frames = torch.arange(t)
    clip = Clip(video, frames, rgb, flow, Geometry.fit(size, (h, w)), input_spec.key)
    corner = torch.rand(t, k, 2, generator=g) * torch.tensor([size[1] * 0.5, size[0] * 0.5])
    extent = 8 + torch.rand(t, k, 2, generator=g) * torch.tensor([size[1] * 0.3, size[0] * 0.3])
    boxes = torch.cat([corner, corner + extent], -1)
    scores = torch.rand(t, k, generator=g).sort(descending=True).values
    ones = torch.ones(t, k, dtype=torch.bool)
    proposals = Proposals(frames, boxes, scores, torch.zeros(t, k, dtype=torch.long), ones)
    targets = []
    for i in range(len(lengths)):
        mask = torch.zeros(size, dtype=torch.bool)
        x1, y1, x2, y2 = boxes[input_spec.key, i % k].round().long().tolist()
        mask[y1:y2, x1:x2] = True
        targets.append(Target(i % k, boxes[input_spec.key, i % k], mask))
    queries = tuple(random_query(n, g) for n in lengths)
    return Sample(clip, proposals, queries, tuple(targets))
