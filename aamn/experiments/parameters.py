"""Counts the paper's model, and times one training and one inference step of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import torch
from torch import nn

from aamn.config.schema import Config
from aamn.models.build import build_segmenter
from aamn.structures import Clip, Geometry, InputSpec, Proposals, Query, Sample, Target
from aamn.training.optimiser import build_optimiser
from proposals.build import best_device

log = logging.getLogger("aamn")

FRAME = (320, 568)  # pixels of a typical video of A2D
WORDS = 2000  # about A2D Sentences' vocabulary


def count_parts(module: nn.Module, depth: int, name: str = "") -> list[tuple[str, int]]:
    """Parameters of the module's parts down to `depth`, the whole first."""
    rows = [(name or "all", sum(p.numel() for p in module.parameters()))]
    if depth:
        for child, part in module.named_children():
            own = count_parts(part, depth - 1, f"{name}.{child}".strip("."))
            rows += own if own[0][1] else []
    return rows


def random_clip(input_spec: InputSpec, sentences: int = 3) -> Sample:
    """A clip of noise in which each sentence means another proposal."""
    t, k, size = len(input_spec.offsets), input_spec.proposals, input_spec.network_size
    frames, corner = torch.arange(t), torch.rand(t, k, 2) * 150
    boxes = torch.cat([corner, corner + 60 + torch.rand(t, k, 2) * 100], -1)
    sure = torch.ones(t, k, dtype=torch.bool)
    proposals = Proposals(frames, boxes, torch.rand(t, k), torch.zeros(t, k).long(), sure)
    flow = torch.randn(t, 2, *size) if input_spec.flow else None
    geometry = Geometry.fit(FRAME, size)
    clip = Clip("noise", frames, torch.rand(t, 3, *size), flow, geometry, input_spec.key)
    words = ("a", "man", "in", "red", "is", "jumping")
    queries = tuple(Query(" ".join(words), words, torch.arange(2, 8)) for _ in range(sentences))
    targets = []
    for i in range(sentences):
        mask = torch.zeros(FRAME, dtype=torch.bool)
        x1, y1, x2, y2 = boxes[input_spec.key, i].round().long().tolist()
        mask[y1:y2, x1:x2] = True
        targets.append(Target(i, boxes[input_spec.key, i], mask))
    return Sample(clip, proposals, queries, tuple(targets))


def time_steps(config: Config, steps: Sequence[str]) -> dict[str, float]:
    """Seconds of one training step (forward, backward, update of the weights) and of one inference
    step (every frame's masks for three sentences), on the GPU where there is one."""
    device = best_device()
    segmenter = build_segmenter(config, WORDS).to(device)
    sample, seconds = random_clip(segmenter.input_spec), {}
    for name in steps:
        start = time.perf_counter()
        if name == "train":
            optimiser = build_optimiser(config.train.optimiser, segmenter.train())
            segmenter([sample])["total"].backward()
            optimiser.step()
            segmenter.zero_grad(set_to_none=True)
        else:
            segmenter.eval().segment(sample.clip, sample.proposals, sample.queries)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds[name] = time.perf_counter() - start
    return seconds


def parameters_table(config: Config, depth: int) -> str:
    """The parameters of every part of a recipe's model down to `depth`, as Markdown; no part is
    made for it."""
    with torch.device("meta"):
        rows = count_parts(build_segmenter(config, WORDS), depth)
    lines = ["| part | parameters |", "| --- | ---: |"]
    return "\n".join([*lines, *(f"| {name} | {count:,} |" for name, count in rows)]) + "\n"
