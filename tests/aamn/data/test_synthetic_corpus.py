"""The written files, read back with plain csv, h5py and OpenCV as specified for A2D Sentences."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from aamn.config.loading import load_config
from aamn.data.synthetic import CorpusSummary, SyntheticConfig, write_corpus
from aamn.data.synthetic.labels import COLOURS, label
from aamn.data.synthetic.scenes import plan_scene
from proposals.errors import InputError

PROJECT = Path(__file__).parents[3]
CONFIG = SyntheticConfig(seed=9, train_videos=7, test_videos=3, width=128, height=96, max_frames=30)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[Path, CorpusSummary]:
    root = tmp_path_factory.mktemp("synthetic") / "corpus"
    return root, write_corpus(root, CONFIG, workers=1)


def videoset(root: Path) -> dict[str, list[str]]:
    with (root / "Release" / "videoset.csv").open(newline="") as file:
        return {row[0]: row for row in csv.reader(file)}


def table(root: Path, name: str) -> list[dict[str, str]]:
    with (root / "text_annotations" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def annotations(root: Path, video: str) -> dict[int, Path]:
    folder = root / "text_annotations" / "a2d_annotation_with_instances" / video
    return {int(path.stem) - 1: path for path in sorted(folder.glob("*.h5"))}


def decode(path: Path) -> np.ndarray:
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = capture.read()
        if not there:
            return np.array(frames)[..., ::-1]
        frames.append(frame)


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_videoset_describes_the_clips(corpus):
    root, _ = corpus
    rows = videoset(root)
    splits = Counter(row[8] for row in rows.values())
    assert splits == {"0": 7 + 1, "1": 3}
    missed = (root / "text_annotations" / "a2d_missed_videos.txt").read_text()
    assert missed in rows and not annotations(root, missed)
    for video, row in rows.items():
        assert len(row) == 9
        frames = decode(root / "Release" / "clips320H" / f"{video}.mp4")
        assert (
            frames.shape == (int(row[6]), int(row[4]), int(row[5]), 3) == (len(frames), 96, 128, 3)
        )
        if video != missed:
            assert len(annotations(root, video)) == int(row[7]) in (3, 4, 5)
    assert any(video.startswith("-") for video in rows)


def test_sentences_and_their_tags(corpus):
    root, summary = corpus
    sentences, kinds, alike = (
        table(root, name)
        for name in ("a2d_annotation.txt", "expression_kinds.csv", "distractors.csv")
    )
    assert sentences[0].keys() == {"video_id", "instance_id", "query"}
    for one, two, three in zip(sentences, kinds, alike, strict=True):
        assert one == {key: two[key] for key in one} == {key: three[key] for key in one}
        assert int(three["distractors"]) >= 2
    assert Counter(row["kind"] for row in kinds) == summary.sentences
    told = {(row["video_id"], int(row["instance_id"])) for row in sentences}
    for video in {name for name, _ in told}:
        seen = set()
        for path in annotations(root, video).values():
            with h5py.File(path) as file:
                seen |= set(file["instance"][()].tolist())
        assert seen == {instance for name, instance in told if name == video}


def test_annotated_frames(corpus):
    """Masks are transposed and lose their first axis when there is one instance; boxes enclose
    them; the label map, the full video and the scene agree."""
    root, summary = corpus
    ranks, count = Counter(), 0
    for index in range(CONFIG.train_videos):
        scene = plan_scene(CONFIG, "train", index)
        classes = {a.instance: label(a.name, a.action) for a in scene.actors}
        full = root / "text_annotations" / "full_video" / f"{scene.video_id}.h5"
        with h5py.File(full) as file:
            order, boxes, masks = (file[key][()] for key in ("instance", "boxes", "masks"))
        n = len(scene.actors)
        assert masks.shape == (n, scene.frames, 96, 128) and masks.dtype == np.uint8
        assert boxes.shape == (n, scene.frames, 4) and boxes.dtype == np.float32
        found = annotations(root, scene.video_id)
        assert tuple(found) == scene.annotated
        for frame, path in found.items():
            with h5py.File(path) as file:
                ids, re_mask = file["instance"][()], file["reMask"][()]
                re_box, numbers, label_map = (file[k][()] for k in ("reBBox", "id", "reS_id"))
            ranks[re_mask.ndim] += 1
            own = (re_mask if re_mask.ndim == 3 else re_mask[None]).swapaxes(1, 2)
            assert re_box.shape == (4, len(ids)) and numbers.shape == (1, len(ids))
            assert own.shape == (len(ids), 96, 128) and label_map.shape == (128, 96)
            assert set(np.unique(own)) == {0, 1}
            assert numbers[0].tolist() == [classes[i] for i in ids]
            for mask, box, instance, number in zip(own, re_box.T, ids, numbers[0], strict=True):
                ys, xs = np.nonzero(mask)
                assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                assert set(np.unique(label_map.T[mask > 0])) == {number}
                place = order.tolist().index(instance)
                np.testing.assert_array_equal(mask, masks[place, frame])
                np.testing.assert_array_equal(box, boxes[place, frame])
            count += 1
        absent = ~masks.any((2, 3))
        assert (boxes[absent] == 0).all()
    assert ranks[2] > 0 and ranks[3] > 0, "both shapes of reMask occur"
    assert count < summary.annotated_frames


def test_colours_survive_the_codec(corpus):
    """The most common palette colour of an actor's decoded pixels is the one it is said to have."""
    root, _ = corpus
    names, palette = list(COLOURS), np.array(list(COLOURS.values()), float)
    for index in range(CONFIG.train_videos):
        scene = plan_scene(CONFIG, "train", index)
        frames = decode(root / "Release" / "clips320H" / f"{scene.video_id}.mp4")
        with h5py.File(root / "text_annotations" / "full_video" / f"{scene.video_id}.h5") as file:
            masks = file["masks"][()] > 0
        for actor, rows in zip(scene.actors, masks, strict=True):
            for frame in scene.annotated:
                pixels = frames[frame][rows[frame]].astype(float)
                away = np.linalg.norm(pixels[:, None] - palette, axis=-1)
                near = away.argmin(1)[away.min(1) < 60]
                if len(near):
                    assert names[np.bincount(near).argmax()] == actor.colour


@pytest.mark.slow
def test_writing_again_gives_the_same_bytes_and_keeps_what_is_finished(corpus, tmp_path):
    root, _ = corpus
    again = tmp_path / "again"
    assert write_corpus(again, CONFIG, workers=2).written == 11
    assert digests(again) == digests(root)
    victim = next((again / "Release" / "clips320H").iterdir())
    victim.unlink()
    kept = (again / "Release" / "videoset.csv").read_bytes()
    assert write_corpus(again, CONFIG, workers=1).written == 1
    assert victim.exists() and (again / "Release" / "videoset.csv").read_bytes() == kept
    assert digests(again) == digests(root)


def test_another_configuration_or_other_files_are_refused(corpus, tmp_path):
    root, _ = corpus
    before = digests(root)
    with pytest.raises(InputError, match="noise, seed changed"):
        write_corpus(root, replace(CONFIG, seed=99, noise=0.5), workers=1)
    assert digests(root) == before
    foreign = tmp_path / "foreign"
    (foreign / "Release").mkdir(parents=True)
    with pytest.raises(InputError, match="holds other files"):
        write_corpus(foreign, CONFIG, workers=1)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "synthetic.json").write_text("[1")
    with pytest.raises(InputError, match=r"synthetic\.json cannot be read"):
        write_corpus(tmp_path / "broken", CONFIG, workers=1)


def test_a_picture_without_room_is_one_clear_error(tmp_path):
    narrow = SyntheticConfig(train_videos=2, test_videos=0, width=64, height=256)
    with pytest.raises(InputError, match="64 x 256 pixels leave no room"):
        write_corpus(tmp_path / "narrow", narrow, workers=1)


def test_the_folder_notes_its_configuration_and_shows_a_preview(corpus):
    root, _ = corpus
    note = json.loads((root / "synthetic.json").read_text())
    assert note["config"]["width"] == 128 and note["version"] >= 1
    sheet = cv2.imread(str(root / "preview.png"))
    assert sheet.shape[0] == 8 * 2 * 96 and sheet.std() > 20
    assert not list(root.rglob(".*")), "no half-written file is left"


def test_the_demo_recipe_loads():
    config = load_config(SyntheticConfig, PROJECT / "configs" / "synthetic_demo.yaml")
    assert (config.train_videos, config.test_videos) == (352, 40)
