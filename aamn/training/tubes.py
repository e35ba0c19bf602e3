"""Matching learned from tubes that were described once.

No sentence touches a tube's description, so while the streams do not learn it is the same in
every epoch: it is computed for every key frame, as it is and mirrored, and kept beside the run.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from aamn.config.schema import AugmentConfig, DataConfig
from aamn.data.augment import Change, swap_sides
from aamn.data.samples import SampleDataset
from aamn.models.assignment import Referents
from aamn.models.encoded import TubeSample
from aamn.models.tube_matching import TubeMatching
from aamn.models.visual import DescribedTubes
from aamn.structures import Sample
from proposals.errors import InputError
from proposals.files import binary_aside
from proposals.workers import end_with_parent, loaded

log = logging.getLogger("aamn")

FILE = "tubes.pt"
CLIPS = 4  # described at a time


@dataclass(frozen=True)
class KeptTubes:
    """The described tubes of N key frames in V views (as they are, mirrored): V * N clips, view by
    view; `boxes` (V, S, 4) and `instances` (S,) of all sentences' actors, of which those of key
    frame n stand at first[n]..first[n + 1] - 1; `identity` of what they were made by and from."""

    tubes: DescribedTubes
    boxes: Tensor
    instances: Tensor
    first: Tensor
    identity: str

    def sample(self, view: int, index: int) -> DescribedTubes:
        """The tubes of one key frame, a batch of one clip."""
        place = view * (len(self.first) - 1) + index
        return self.tubes.map(lambda value: _single(value[place : place + 1]))

    def referents(self, view: int, index: int, video: str, sentences: tuple[int, ...]) -> Referents:
        """Whom these sentences about a key frame mean."""
        places = int(self.first[index]) + torch.tensor(sentences, dtype=torch.long)
        return Referents(video, tuple(self.instances[places].tolist()), self.boxes[view, places])


class TubeDataset(Dataset):
    """(epoch, index) -> TubeSample, with the same draws as the samples it was made from."""

    def __init__(self, samples: SampleDataset, kept: KeptTubes) -> None:
        self.samples, self.kept = samples, kept

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: tuple[int, int]) -> TubeSample:
        draw = self.samples.draw(*place)
        key_frame, view = self.samples.source.key_frames[place[1]], int(draw.change.flip)
        told = (key_frame.expressions[i].text for i in draw.sentences)
        encode = self.samples.vocabulary.encode
        return TubeSample(
            self.kept.sample(view, place[1]),
            tuple(encode(swap_sides(text) if view else text) for text in told),
            self.kept.referents(view, place[1], key_frame.video_id, draw.sentences),
            draw.strangers,
        )


def keep_tubes(
    segmenter: TubeMatching, samples: SampleDataset, folder: Path, data: DataConfig
) -> KeptTubes:
    """The described tubes of all key frames, from the folder's file where it holds these.

    Raises:
        InputError: augmentation that changes more than the side, or the file cannot be written.
    """
    views = _views(samples.augment)
    identity = _identity(segmenter, samples, len(views))
    path = folder / FILE
    found = _read(path, identity)
    if found is None:
        found = _describe(segmenter, samples, views, identity, data.workers)
        with binary_aside(path) as file:
            torch.save(_state(found), file)
        log.info("%s keeps the tubes of %d key frames", path, len(samples))
    return found


def _views(augment: AugmentConfig | None) -> tuple[Change, ...]:
    """The ways in which each key frame is shown."""
    assert augment is not None, "wanted samples that are learned from"
    for name in ("colour", "scale"):
        if getattr(augment, name):
            raise InputError(
                f"augment.{name}: tubes that are described once cannot be changed each time; set "
                f"it to 0, or show no tubes in train.phases"
            )
    return (Change(), Change(flip=True)) if augment.flip else (Change(),)


def _identity(segmenter: TubeMatching, samples: SampleDataset, views: int) -> str:
    """A hash of the weights that describe, of what is described, and of how."""
    options, weights = segmenter.describing()
    digest = hashlib.sha256(f"{views} {segmenter.input_spec} {options}".encode())
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    for frame in samples.source.key_frames:
        digest.update(f"{frame.video_id} {frame.frame} {len(frame.expressions)} ".encode())
    return digest.hexdigest()


class _Views(Dataset):
    """A key frame's sample in every view."""

    def __init__(self, samples: SampleDataset, views: tuple[Change, ...]) -> None:
        self.samples, self.views = samples, views

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> list[Sample]:
        return self.samples.views(index, self.views)


@torch.no_grad()
def _describe(
    segmenter: TubeMatching,
    samples: SampleDataset,
    views: tuple[Change, ...],
    identity: str,
    workers: int,
) -> KeptTubes:
    loader = DataLoader(
        _Views(samples, views),
        batch_size=CLIPS,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=end_with_parent,
    )
    learning = segmenter.training
    segmenter.eval()
    tubes: list[list[DescribedTubes]] = [[] for _ in views]
    referents: list[list[Referents]] = [[] for _ in views]
    for batch in tqdm(loaded(loader), total=len(loader), desc="describing tubes", unit="batch"):
        for place, shown in enumerate(zip(*batch, strict=True)):
            described = segmenter.describe_clips(
                [sample.clip for sample in shown],
                [sample.proposals for sample in shown if sample.proposals is not None],
            )
            tubes[place].append(described.map(_half))
            referents[place] += [Referents.of(sample) for sample in shown]
    segmenter.train(learning)
    counts = torch.tensor([0, *(len(one.instances) for one in referents[0])])
    with torch.autocast("cpu", enabled=False):  # which refuses to put halves together
        together = DescribedTubes.cat([part for view in tubes for part in view])
    return KeptTubes(
        together,
        torch.stack([torch.cat([one.boxes for one in view]) for view in referents]),
        torch.tensor([number for one in referents[0] for number in one.instances]),
        counts.cumsum(0),
        identity,
    )


def _half(value: Tensor) -> Tensor:
    """Long rows of numbers in half precision; boxes and places as they are."""
    narrow = value.is_floating_point() and value.shape[-1] > 5
    return (value.half() if narrow else value).cpu()


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _state(kept: KeptTubes) -> dict[str, Any]:
    tubes = kept.tubes
    return {
        "identity": kept.identity,
        "tubes": {name: getattr(tubes, name) for name in DescribedTubes.__dataclass_fields__},
        "boxes": kept.boxes,
        "instances": kept.instances,
        "first": kept.first,
    }


def _read(path: Path, identity: str) -> KeptTubes | None:
    """The file's tubes where they are whole and of this identity."""
    if not path.is_file():
        return None
    try:
        state = torch.load(path, weights_only=True, mmap=True)
        if state["identity"] != identity:
            return None
        return KeptTubes(DescribedTubes(**state.pop("tubes")), **state)
    except Exception as error:  # whatever is in a file that can be made again
        log.warning("%s cannot be read (%s): the tubes are described anew", path, error)
        return None
