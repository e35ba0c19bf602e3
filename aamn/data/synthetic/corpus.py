"""Writing the corpus in the file layout of A2D Sentences, one process a video."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from aamn.config.loading import to_dict
from aamn.data.synthetic.collage import Casting, Collages
from aamn.data.synthetic.config import CollageConfig, SyntheticConfig
from aamn.data.synthetic.cutouts import read_cutouts, write_cutouts
from aamn.data.synthetic.davis import find_sequences, fingerprint
from aamn.data.synthetic.labels import label
from aamn.data.synthetic.preview import contact_sheet
from aamn.data.synthetic.scenes import Scene, make_video_id, plan_scene, render_scene, video_seed
from aamn.data.synthetic.sentences import KINDS
from aamn.data.synthetic.studio import DRAWINGS, Studio
from proposals.errors import InputError
from proposals.files import hdf5_aside, write_text, written_aside
from proposals.workers import worker_pool

# Raised whenever the same configuration would give other files.
VERSION = 1

_PREVIEWED = 8

# The columns that each list of the sentences has behind video_id, instance_id and query.
_SENTENCE_FILES = {
    "a2d_annotation.txt": (),
    "expression_kinds.csv": ("kind",),
    "distractors.csv": ("distractors",),
}


@dataclass(frozen=True, order=True)
class Entry:
    """A video's place in the corpus; the split is train, test or missed."""

    split: str
    index: int


@dataclass(frozen=True)
class CorpusSummary:
    """What a corpus holds: videos of each split, sentences of each kind over both splits,
    annotated frames, and `written`, the videos that this call had to make."""

    train_videos: int
    test_videos: int
    sentences: dict[str, int]
    annotated_frames: int
    written: int


@dataclass(frozen=True)
class _Layout:
    """Where the files of a corpus lie."""

    root: Path

    @property
    def note(self) -> Path:
        return self.root / "synthetic.json"

    @property
    def cutouts(self) -> Path:
        return self.root / "cutouts.h5"

    @property
    def text(self) -> Path:
        return self.root / "text_annotations"

    def clip(self, video: str) -> Path:
        return self.root / "Release" / "clips320H" / f"{video}.mp4"

    def frame(self, video: str, frame: int) -> Path:
        return self.text / "a2d_annotation_with_instances" / video / f"{frame + 1:05d}.h5"

    def full_video(self, video: str) -> Path:
        return self.text / "full_video" / f"{video}.h5"


def _write_lines(path: Path, lines: Iterable[str], end: str = "\n") -> None:
    write_text(path, "\n".join(lines) + end)


def _write_clip(path: Path, frames: np.ndarray, config: SyntheticConfig) -> None:
    height, width = frames.shape[1:3]
    code = cv2.VideoWriter.fourcc(*config.codec)
    with written_aside(path, suffix=path.suffix) as aside:
        writer = cv2.VideoWriter(str(aside), code, config.fps, (width, height))
        if not writer.isOpened():
            raise InputError(f"codec: OpenCV cannot write {config.codec!r}; mp4v always works")
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()


def _write_h5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with hdf5_aside(path, durable=False) as file:
        for name, array in arrays.items():
            packed = "gzip" if array.dtype == np.uint8 else None
            file.create_dataset(name, data=array, compression=packed, track_times=False)


def _write_image(path: Path, image: np.ndarray) -> None:
    with written_aside(path, suffix=path.suffix) as aside:
        cv2.imwrite(str(aside), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def box_of(mask: np.ndarray) -> np.ndarray:
    """The box (4,) float32 of a mask (H, W), right and bottom edge exclusive; zeros if empty."""
    ys, xs = np.nonzero(mask)
    if not xs.size:
        return np.zeros(4, np.float32)
    return np.array((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), np.float32)


def _frame_annotation(scene: Scene, masks: np.ndarray) -> dict[str, np.ndarray]:
    """The datasets of one annotated frame, as MATLAB's writer leaves them: masks (n, H, W) of all
    actors come out transposed, and without the first axis when only one actor is there."""
    present = [i for i in range(len(scene.actors)) if masks[i].any()]
    masks = masks[present]
    labels = [label(scene.actors[i].name, scene.actors[i].action) for i in present]
    stacked = masks.astype(np.uint8).transpose(0, 2, 1)
    classes = np.zeros(masks.shape[:0:-1], np.uint8)
    for number, mask in zip(labels, stacked, strict=True):
        classes[mask > 0] = number
    return {
        "instance": np.array([scene.actors[i].instance for i in present], np.int64),
        "reMask": stacked[0] if len(present) == 1 else stacked,
        "reBBox": np.stack([box_of(mask) for mask in masks], 1).astype(np.float64),
        "id": np.array([labels], np.float64),
        "reS_id": classes,
    }


def _full_video(scene: Scene, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Boxes and masks of every actor in every frame, for full-video evaluation."""
    return {
        "instance": np.array([actor.instance for actor in scene.actors], np.int64),
        "boxes": np.array([[box_of(mask) for mask in row] for row in masks], np.float32),
        "masks": masks.astype(np.uint8),
    }


@lru_cache(maxsize=2)
def _collages(path: Path, _: int, casting: Casting) -> Collages:
    return Collages(read_cutouts(path), casting)


def _studio(root: Path, config: SyntheticConfig, entry: Entry) -> Studio:
    """What gives the pixels of a video."""
    if not isinstance(config, CollageConfig):
        return DRAWINGS
    path = _Layout(root).cutouts
    written = path.stat().st_mtime_ns if path.exists() else 0
    casting = Casting(config.validation_share, tuple(config.busy), tuple(config.train_only))
    collages = _collages(path, written, casting)
    seed = video_seed(config.seed, entry.split, entry.index)
    return collages.studio(entry.split, make_video_id(seed, entry.index))


def plan_video(root: Path, config: SyntheticConfig, entry: Entry) -> Scene:
    """The scene of one video of the corpus in `root`.

    Raises:
        InputError: as `plan_scene`; a collage without its file of cut-outs.
    """
    return plan_scene(config, entry.split, entry.index, _studio(root, config, entry))


def _write_video(root: Path, config: SyntheticConfig, entry: Entry) -> None:
    scene = plan_video(root, config, entry)
    rendering = render_scene(scene, config.noise)
    layout = _Layout(root)
    _write_clip(layout.clip(scene.video_id), rendering.frames, config)
    if entry.split == "missed":
        return
    for frame in scene.annotated:
        annotation = _frame_annotation(scene, rendering.masks[:, frame])
        _write_h5(layout.frame(scene.video_id, frame), annotation)
    _write_h5(layout.full_video(scene.video_id), _full_video(scene, rendering.masks))


def _write_job(job: tuple[Path, SyntheticConfig, Entry]) -> None:
    cv2.setNumThreads(1)
    _write_video(*job)


def _finished(layout: _Layout, entry: Entry, scene: Scene) -> bool:
    """Whether all files of the video are there; each of them came into being complete."""
    files = [layout.clip(scene.video_id)]
    if entry.split != "missed":
        files += [layout.frame(scene.video_id, frame) for frame in scene.annotated]
        files.append(layout.full_video(scene.video_id))
    return all(file.exists() for file in files)


def _claim(root: Path, config: SyntheticConfig, cutouts: str) -> None:
    """Notes the configuration, and the fingerprint of the cut-outs if there are any, in the root
    folder, or compares them with those noted there."""
    note = _Layout(root).note
    mine: dict[str, Any] = {"version": VERSION, "config": _plain(config)}
    if cutouts:
        mine["cutouts"] = cutouts
    if not note.exists():
        if root.exists() and any(root.iterdir()):
            raise InputError(f"{root} holds other files: name a new folder for the corpus")
        _write_lines(note, [json.dumps(mine, indent=2)])
        return
    try:
        theirs = json.loads(note.read_text(encoding="utf-8"))
        before = _noted(theirs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{note} cannot be read: delete the folder or name a new one") from None
    if theirs != mine:
        changed = sorted({key for key, _ in _noted(mine) ^ before})
        what = ", ".join(changed) or "the program's version"
        raise InputError(
            f"{root} holds a corpus of another configuration ({what} changed): delete the folder "
            "or name a new one"
        )


def _plain(config: SyntheticConfig) -> dict[str, Any]:
    """The configuration as JSON gives it back."""
    found: dict[str, Any] = json.loads(json.dumps(to_dict(config)))
    return found


def _noted(note: dict[str, Any]) -> set[tuple[str, str]]:
    """What a note says of the configuration and of the cut-outs."""
    values = {**note["config"], "cutouts": note.get("cutouts", "")}
    return {(key, json.dumps(value)) for key, value in values.items()}


def read_note(root: Path) -> SyntheticConfig | None:
    """The configuration that a corpus was written with; None for what is no such corpus.

    Raises:
        InputError: the note is damaged.
    """
    note = _Layout(Path(root)).note
    if not note.exists():
        return None
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        schema = CollageConfig if "cutouts" in content else SyntheticConfig
        return schema(**content["config"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{note} cannot be read: delete the folder or name a new one") from None


def _entries(config: SyntheticConfig) -> list[Entry]:
    counts = {
        "train": config.train_videos,
        "test": config.test_videos,
        "missed": config.missed_videos,
    }
    return [Entry(split, i) for split, count in counts.items() for i in range(count)]


def _run(jobs: Sequence[tuple[Path, SyntheticConfig, Entry]], workers: int) -> None:
    bar = tqdm(total=len(jobs), desc="videos", unit="video", disable=not jobs)
    with bar:
        if workers < 2 or len(jobs) < 2:
            for job in jobs:
                _write_job(job)
                bar.update()
            return
        with worker_pool(min(workers, len(jobs))) as pool:
            for _ in pool.map(_write_job, jobs, chunksize=4):
                bar.update()


def _videoset_row(scene: Scene, entry: Entry, config: SyntheticConfig) -> str:
    seconds = max(1, round(len(scene.camera.shake) / config.fps))
    first = min(scene.actors, key=lambda actor: actor.instance)
    fields = (
        scene.video_id,
        label(first.name, first.action),
        "00:00:00",
        f"00:00:{seconds:02d}",
        config.height,
        config.width,
        scene.frames,
        len(scene.annotated),
        int(entry.split == "test"),
    )
    return ",".join(map(str, fields))


def _write_lists(root: Path, config: SyntheticConfig, scenes: dict[Entry, Scene]) -> None:
    """The files that describe the corpus as a whole."""
    layout = _Layout(root)
    ordered = sorted(scenes.items(), key=lambda item: item[1].video_id)
    rows = [_videoset_row(scene, entry, config) for entry, scene in ordered]
    _write_lines(root / "Release" / "videoset.csv", rows)
    missed = [scene.video_id for entry, scene in ordered if entry.split == "missed"]
    _write_lines(layout.text / "a2d_missed_videos.txt", missed, end="")
    spoken = [
        (scene.video_id, sentence)
        for entry, scene in ordered
        if entry.split != "missed"
        for sentence in scene.sentences
    ]
    for name, extra in _SENTENCE_FILES.items():
        lines = [",".join(("video_id", "instance_id", "query", *extra))]
        for video, sentence in spoken:
            more = (getattr(sentence, column) for column in extra)
            lines.append(",".join(map(str, (video, sentence.instance, sentence.text, *more))))
        _write_lines(layout.text / name, lines)


def _cut_out(root: Path, config: SyntheticConfig, folder: Path | None, workers: int) -> None:
    """Claims the root folder, and fills it with what collages are made of."""
    if folder is None:
        _claim(root, config, "")
        return
    sequences = find_sequences(folder)
    _claim(root, config, fingerprint(sequences))
    if not _Layout(root).cutouts.exists():
        write_cutouts(_Layout(root).cutouts, sequences, config.height, workers)


def write_corpus(
    root: Path, config: SyntheticConfig, workers: int, cutouts: Path | None = None
) -> CorpusSummary:
    """Writes the corpus into the folder `root` with `workers` processes; videos that are finished
    there already are kept. A collage takes its actors from the folder `cutouts`, in DAVIS's layout.

    Raises:
        InputError: when `root` holds a corpus of another configuration, or something else; when
            `cutouts` cannot be used, or is given for drawings, or is missing for a collage.
    """
    root = Path(root)
    if isinstance(config, CollageConfig) != (cutouts is not None):
        raise InputError("cut-outs: a collage wants a folder of sequences, drawings want none")
    _cut_out(root, config, cutouts, workers)
    layout = _Layout(root)
    scenes = {entry: plan_video(root, config, entry) for entry in _entries(config)}
    todo = [e for e, scene in scenes.items() if not _finished(layout, e, scene)]
    _run([(root, config, entry) for entry in todo], workers)
    _write_lists(root, config, scenes)
    told = {entry: scene for entry, scene in scenes.items() if entry.split != "missed"}
    preview = root / "preview.png"
    if told and (todo or not preview.exists()):
        shown = [told[entry] for entry in sorted(told)[:_PREVIEWED]]
        _write_image(preview, contact_sheet(shown, config.noise))
    kinds = Counter(s.kind for scene in told.values() for s in scene.sentences)
    return CorpusSummary(
        config.train_videos,
        config.test_videos,
        {kind: kinds[kind] for kind in KINDS},
        sum(len(scene.annotated) for scene in told.values()),
        len(todo),
    )
