"""The page of `aamn report`: which answers it shows, made again for their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from aamn.data.datasets.a2d_labels import ACTORS
from aamn.report.cases import Case, Contrast, pick_cases, pick_contrasts
from aamn.report.page import Pictures, write_report
from aamn.report.scenes import Scene, pick_scenes

if TYPE_CHECKING:
    from aamn.evaluation.systems import Run, System

SCENES = 3  # videos of several sentences


def write_page(folder: Path, runs: Sequence[Run], shuffled: System | None, count: int) -> Path:
    """The page about the first run, with the others beside it in its tables, curves and scenes.

    Args:
        shuffled: the first run's segmenter with words weighted at random, where it weighs words.
        count: of best answers, of answers with random weights, of worst answers.
    """
    rows, system = runs[0].evaluation.report.rows, runs[0].system
    best, worst = pick_cases(rows, count)
    pictures = Pictures(
        [_case(runs[0], place) for place in best],
        _contrasts(runs[0], shuffled, pick_contrasts(rows, count)) if shuffled else (),
        [_scene(runs, indices) for indices in pick_scenes(rows, min(count, SCENES))],
        [_case(runs[0], place) for place in worst],
    )
    source, page = system.dataset.source, folder / "index.html"
    expressions = [e for key_frame in source.key_frames for e in key_frame.expressions]
    non_trivial: list[bool] = []
    if hasattr(source, "non_trivial"):
        chosen = source.non_trivial()
        non_trivial = [(e.video_id, e.instance) in chosen for e in expressions]
    write_report(
        page,
        [run.evaluation for run in runs],
        pictures,
        actors=[ACTORS[e.actor - 1] if e.actor else "" for e in expressions],
        non_trivial=non_trivial,
    )
    return page


def _case(run: Run, place: int) -> Case:
    """The answer at a place of the report's rows."""
    sample, own = run.system.sample_of(place)
    track = run.system.answer(sample, own)
    input_spec = run.system.segmenter.input_spec
    frames = run.system.dataset.source.frames(track.video_id).read(track.frame_indices.tolist())
    boxes = None if sample.proposals is None else sample.proposals.boxes[input_spec.key].numpy()
    row, tokens = run.evaluation.report.rows[place], sample.queries[own].tokens
    return Case(row, tokens, frames, run.system.key, sample.targets[own], track, boxes)


def _contrasts(run: Run, shuffled: System, indices: Sequence[int]) -> list[Contrast]:
    """The answers beside those with random word weights, which are the same every time."""
    torch.manual_seed(0)
    return [
        Contrast(_case(run, place), shuffled.answer(*shuffled.sample_of(place)), shuffled.key)
        for place in indices
    ]


def _scene(runs: Sequence[Run], indices: Sequence[int]) -> Scene:
    """What all systems answer to the sentences of these rows, which are of one video."""
    rows, source = runs[0].evaluation.report.rows, runs[0].system.dataset.source
    numbers = sorted({rows[i].frame for i in indices})
    sentences = list(dict.fromkeys((rows[i].instance, rows[i].text) for i in indices))
    cells = {
        i: (numbers.index(rows[i].frame), sentences.index((rows[i].instance, rows[i].text)))
        for i in indices
    }
    frames = source.frames(rows[indices[0]].video_id).read(numbers)
    truth: dict[tuple[int, int], np.ndarray] = {}
    answers: dict[str, dict[tuple[int, int], np.ndarray]] = {
        run.evaluation.report.system: {} for run in runs
    }
    for place, cell in cells.items():
        sample, own = runs[0].system.sample_of(place)
        truth[cell] = sample.targets[own].mask.numpy()
        for run in runs:
            asked_of = (sample, own) if run is runs[0] else run.system.sample_of(place)
            mask = run.system.answer(*asked_of).masks[run.system.key]
            answers[run.evaluation.report.system][cell] = mask.numpy()
    shape = (len(numbers), len(sentences))
    asked = np.zeros(shape, bool)
    asked[tuple(zip(*cells.values(), strict=True))] = True
    return Scene(
        rows[indices[0]].video_id,
        numbers,
        [text for _, text in sentences],
        frames,
        asked,
        _filled(truth, (*shape, *frames.shape[1:3])),
        {name: _filled(own, (*shape, *frames.shape[1:3])) for name, own in answers.items()},
    )


def _filled(masks: Mapping[tuple[int, int], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Masks by (frame, sentence) as one array (F, S, H0, W0) bool."""
    result = np.zeros(shape, bool)
    for cell, mask in masks.items():
        result[cell] = mask
    return result
