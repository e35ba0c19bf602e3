"""A video that any sentence can be asked of: scores by one matrix product, paths by dynamic
programming, masks pasted when they are wanted. No network but the sentence's runs here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aamn.index.file import Header, IndexFile
from aamn.index.query_encoder import Asker
from aamn.inference.checkpoint import Loaded
from aamn.inference.clip_by_clip import Answer
from aamn.models.encoded import EncodedSentences, ModuleScores
from aamn.ops.masks import paste_binary_masks
from aamn.structures import MaskTrack, Query, TubeScores
from aamn.tubes.video_linking import (
    LINK_WEIGHT,
    VideoPaths,
    best_paths,
    clip_winners,
)
from proposals.errors import InputError

LINKINGS = ("video", "clip")


@dataclass(frozen=True)
class VideoTrack:
    """One sentence's answer through a video; boxes and masks are made when they are asked for.

    `score` is the mean matching score on the path; `present` says whether it reaches the threshold
    that was given; tubes (C,) the chosen tube of each clip, -1 for none; total, actor and action
    (C, K) the scores of all tubes, -inf where there is none.
    """

    index: VideoIndex
    query: Query
    score: float
    present: bool
    tubes: np.ndarray
    total: np.ndarray
    actor: np.ndarray
    action: np.ndarray
    actor_attention: np.ndarray
    action_attention: np.ndarray

    @property
    def text(self) -> str:
        return self.query.text

    def clip_scores(self, clip: int) -> TubeScores:
        """The scores of one clip's tubes."""
        rows = (self.total[clip], self.actor[clip], self.action[clip])
        attention = (self.actor_attention, self.action_attention)
        total, actor, action, first, last = map(torch.from_numpy, (*rows, *attention))
        if self.index.context is None:
            return TubeScores(total, actor, action, first, last)
        context = torch.from_numpy(self.index.context[clip])
        members = torch.arange(-1, len(context)).expand_as(context)
        return TubeScores(total, actor, action, first, last, context, members)

    def boxes(self, frames: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Boxes (n, 4) float32 xyxy, original pixels, of the given frames (all by default); zeros
        where nobody is found."""
        clips, places = self.index.locate(frames)
        tubes = self._tubes(clips)
        boxes = self.index.boxes[clips, places, tubes.clip(min=0)]
        return np.where(tubes[:, None] >= 0, boxes, 0).astype(np.float32)

    def masks(self, frames: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Masks (n, H0, W0) bool of the given frames (all by default), at the video's size."""
        clips, places = self.index.locate(frames)
        tubes = self._tubes(clips)
        shown = np.flatnonzero(tubes >= 0)
        masks = np.zeros((len(clips), *self.index.size), bool)
        if len(shown):
            grids = self.index.grids(clips[shown], places[shown], tubes[shown])
            boxes = self.index.boxes[clips[shown], places[shown], tubes[shown]]
            probabilities = torch.from_numpy(grids).float().div_(255)
            pasted = paste_binary_masks(probabilities, torch.from_numpy(boxes), self.index.size)
            if len(shown) == len(clips):
                return pasted.numpy()
            masks[shown] = pasted.numpy()
        return masks

    def _tubes(self, clips: np.ndarray) -> np.ndarray:
        """The chosen tube of each of these clips; none where nobody is present."""
        return self.tubes[clips] if self.present else np.full(len(clips), -1)


class VideoIndex:
    """The index of one video, ready to be asked."""

    def __init__(self, file: IndexFile, asker: Asker, owner: object = None) -> None:
        """`owner` is kept as long as the index, such as the temporary folder it lies in.

        Raises:
            InputError: the index was made by another segmenter.
        """
        if file.header.origin.model != asker.model:
            raise InputError(
                f"{file.path} was made by another segmenter ({file.header.origin.model}, this one "
                f"is {asker.model}); index the video again"
            )
        self.file, self.asker, self._owner = file, asker, owner

    @classmethod
    def read(cls, path: Path | str, loaded: Loaded, owner: object = None) -> VideoIndex:
        """The index at `path`, asked through this segmenter.

        Raises:
            InputError: no index, a damaged one, or one of another segmenter.
        """
        return cls(IndexFile.read(path), Asker(loaded), owner)

    @property
    def header(self) -> Header:
        return self.file.header

    @property
    def video_id(self) -> str:
        return self.header.video_id

    @property
    def size(self) -> tuple[int, int]:
        """(H0, W0)."""
        return self.header.size

    @cached_property
    def frames(self) -> range:
        """The frames it answers for if it is not told which: the video's, or those it was made of.

        Raises:
            InputError: it holds clips around key frames, not a span of the video.
        """
        wanted = self.header.selection
        if wanted.key_frames is not None:
            raise InputError(
                f"{self.file.path} is an index of {wanted} alone; index the video again"
            )
        if wanted.frames is None:
            return range(self.header.frames)
        end = min(wanted.frames.stop, self.header.frames)
        return range(wanted.frames.start, end, wanted.frames.step)

    def __len__(self) -> int:
        """How many `frames` there are."""
        return len(self.frames)

    @cached_property
    def windows(self) -> np.ndarray:
        """(C, 3): key frame, first frame and end of the frames each clip answers for."""
        return self.file.array("windows")[:]

    @cached_property
    def boxes(self) -> np.ndarray:
        """(C, T, K, 4) of all tubes, original pixels."""
        return self.file.array("boxes")[:]

    @cached_property
    def _valid(self) -> Tensor:
        return torch.from_numpy(self.file.array("valid")[:])

    @cached_property
    def _vectors(self) -> dict[str, Tensor]:
        """Module name -> (C, K, D_m)."""
        vectors = torch.from_numpy(self.file.array("vectors")[:])
        parts = self.header.parts
        return dict(zip(parts, vectors.split(list(parts.values()), -1), strict=True))

    @cached_property
    def _links(self) -> Tensor:
        return torch.from_numpy(self.file.array("links")[:])

    @cached_property
    def context(self) -> np.ndarray | None:
        """(C, K, 1 + K): how much the whole clip, then each tube, contributes to a tube's context;
        None without a contextual LSTM."""
        data = self.file.optional("context")
        return None if data is None else data[:]

    @cached_property
    def _weights(self) -> Tensor:
        """(C,): each clip's share of new frames; only the last clip repeats some."""
        new = torch.from_numpy(self.windows[:, 2] - self.windows[:, 1]).float()
        return new / new.max()

    def locate(self, frames: Sequence[int] | np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The clip that answers for each of the frames (n,), and the frame's place in it.

        Raises:
            InputError: a frame outside the video, or outside the part of it that was indexed.
        """
        wanted = np.asarray(self.frames if frames is None else frames, np.int64)
        clips = np.searchsorted(self.windows[:, 1], wanted, side="right") - 1
        outside = wanted[(clips < 0) | (wanted >= self.windows[clips, 2])]
        if len(outside):
            selection = self.header.selection
            held = f"{self.header.frames} frames" if selection.whole else f"{selection} alone"
            raise InputError(f"{self.file.path}: wanted frame {outside[0]}, it has {held}")
        length = self.boxes.shape[1]
        return clips, wanted - self.windows[clips, 0] + length // 2

    def grids(self, clips: np.ndarray, places: np.ndarray, tubes: np.ndarray) -> np.ndarray:
        """Mask probabilities (n, g, g) uint8 of tubes (n,) at places (n,) of clips (n,)."""
        data = self.file.array("masks")
        grids = np.empty((len(clips), *data.shape[3:]), np.uint8)
        for clip, tube in dict.fromkeys(zip(clips.tolist(), tubes.tolist(), strict=True)):
            rows = (clips == clip) & (tubes == tube)
            grids[rows] = data[clip, tube][places[rows]]
        return grids

    def scores(self, sentences: EncodedSentences) -> dict[str, Tensor]:
        """Module name -> (Q, C, K), every sentence's score for every tube, padding included."""
        scores = {}
        for name, vectors in self._vectors.items():
            products = vectors.flatten(0, 1) @ sentences.sides[name].T + sentences.biases[name]
            scores[name] = products.T.reshape(-1, *vectors.shape[:2])
        return scores

    def query(
        self,
        texts: Sequence[str],
        *,
        linking: str = "video",
        absent_threshold: float | None = None,
        link_weight: float = LINK_WEIGHT,
    ) -> list[VideoTrack]:
        """One track a sentence, in their order.

        Args:
            linking: "video" keeps one identity through the clips, "clip" lets every clip choose
                its own best tube, as the paper does.
            absent_threshold: sentences whose score is below it get empty masks; None: never.
            link_weight: of the links beside the matching scores.

        Raises:
            InputError: a sentence without a word, or another linking.
        """
        if linking not in LINKINGS:
            raise InputError(f"linking: wanted one of {', '.join(LINKINGS)}, got {linking!r}")
        queries = self.asker.queries(texts)
        sentences = self.asker.encode(queries)
        scores = self.scores(sentences)
        found = ModuleScores.of(scores, self._valid)
        if linking == "clip":
            paths = clip_winners(found.total, self._weights)
        else:
            paths = best_paths(found.total, self._links, self._weights, link_weight)
        return self._tracks(queries, sentences, found, paths, absent_threshold)

    def _tracks(
        self,
        queries: Sequence[Query],
        sentences: EncodedSentences,
        scores: ModuleScores,
        paths: VideoPaths,
        threshold: float | None,
    ) -> list[VideoTrack]:
        names = list(sentences.attention)
        tracks = []
        for i, query in enumerate(queries):
            score, words = float(paths.scores[i]), len(query.tokens)
            tracks.append(
                VideoTrack(
                    index=self,
                    query=query,
                    score=score,
                    present=threshold is None or score >= threshold,
                    tubes=paths.tubes[i].numpy(),
                    total=scores.total[i].numpy(),
                    actor=scores.actor[i].numpy(),
                    action=scores.action[i].numpy(),
                    actor_attention=sentences.attention[names[0]][i, :words].numpy(),
                    action_attention=sentences.attention[names[-1]][i, :words].numpy(),
                )
            )
        return tracks

    def spans(self, frames: range | None = None) -> Iterator[range]:
        """Each clip's share of the frames (all by default), where it has one."""
        frames = self.frames if frames is None else frames
        for _, first, end in self.windows.tolist():
            skipped = max(0, -(-(first - frames.start) // frames.step))
            span = range(frames.start + skipped * frames.step, min(end, frames.stop), frames.step)
            if len(span):
                yield span

    def close(self) -> None:
        """Frees the file."""
        self.file.close()


def answers(tracks: Sequence[VideoTrack], frames: range) -> Iterator[Answer]:
    """The tracks of one index, clip by clip, with their masks; memory holds one clip."""
    index = tracks[0].index
    for span in index.spans(frames):
        clip = int(index.locate(span[:1])[0][0])
        yield Answer(span[0], span[-1] + 1, tuple(of_clip(t, clip, span) for t in tracks))


def of_clip(track: VideoTrack, clip: int, frames: range) -> MaskTrack:
    """The part of a track for which one clip answers, with its masks."""
    tube = int(track.tubes[clip]) if track.present else -1
    return MaskTrack(
        video_id=track.index.video_id,
        text=track.text,
        frame_indices=torch.tensor(frames),
        boxes=torch.from_numpy(track.boxes(frames)),
        masks=torch.from_numpy(track.masks(frames)),
        score=float(track.total[clip, tube]) if tube >= 0 else float("-inf"),
        scores=track.clip_scores(clip),
        tube=tube,
    )
