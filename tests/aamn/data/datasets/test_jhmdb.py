"""J-HMDB Sentences: key frames, masks, and the one complete real clip."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from aamn.config.schema import FlowConfig
from aamn.data.datasets.jhmdb import (
    JHMDBSentences,
    count_puppet_masks,
    read_puppet_masks,
    uniform_frames,
)
from aamn.data.flow.estimators import build_estimator, flow_between
from aamn.data.samples import SampleDataset
from aamn.data.words import Vocabulary
from aamn.structures import InputSpec
from aamn.visualization.overlays import overlay
from proposals.errors import InputError

NAMES = {"Fight!_(1)@home_run_0": "run", "plain_walk_1": "walk"}
CLIP = "Goal_Keeping_Tips_catch_f_cm_np1_fr_med_2"


def puppet(frame: int) -> np.ndarray:
    """The mask (6, 8) of a frame (0-based)."""
    mask = np.zeros((6, 8), np.uint8)
    mask[1:4, frame : frame + 2] = 1
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two videos of 7 frames, of which 6 have a mask."""
    lines = ["video_id,query"]
    for name, action in NAMES.items():
        lines.append(f"{name}, A person, {action}s ")
        images = tmp_path / "Rename_Images" / action / name
        images.mkdir(parents=True)
        for frame in range(7):
            picture = np.full((6, 8, 3), 30 * frame, np.uint8)
            Image.fromarray(picture).save(images / f"{frame + 1:05d}.png")
        masks = tmp_path / "puppet_mask" / action / name
        masks.mkdir(parents=True)
        stack = np.stack([puppet(frame) for frame in range(6)], -1)
        savemat(masks / "puppet_mask.mat", {"part_mask": stack})
    (tmp_path / "jhmdb_annotation.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("count", "frames"),
    [(40, [6, 20, 33]), (15, [2, 7, 12]), (3, [0, 1, 2]), (2, [0, 1]), (1, [0])],
)
def test_three_frames_uniformly(count: int, frames: list[int]) -> None:
    assert uniform_frames(count) == frames


def test_what_it_holds(root: Path) -> None:
    source = JHMDBSentences(root)
    assert source.video_ids == list(NAMES)
    assert source.texts() == ["a person, runs", "a person, walks"]
    found = [(key.video_id, key.frame) for key in source.key_frames]
    assert found == [(name, frame) for name in NAMES for frame in (1, 3, 5)]
    frames = source.frames("Fight!_(1)@home_run_0")
    assert len(frames) == 7 and frames.read([2])[0, 0, 0, 0] == 60
    (target,) = source.targets(source.key_frames[1])
    assert np.array_equal(target.mask.numpy(), puppet(3).astype(bool))
    assert target.box.tolist() == [3, 1, 5, 4]
    truth = source.full_video_targets("plain_walk_1", 0)
    assert truth.masks.shape == (6, 6, 8) and truth.boxes[5].tolist() == [5, 1, 7, 4]


def test_a_mask_of_one_frame_has_lost_its_last_axis(root: Path) -> None:
    path = JHMDBSentences(root).mask_path("plain_walk_1")
    savemat(path, {"part_mask": puppet(2)})
    assert (count_puppet_masks(path), read_puppet_masks(path).shape) == (1, (1, 6, 8))
    source = JHMDBSentences(root)
    assert [key.frame for key in source.key_frames] == [1, 3, 5, 0]
    (target,) = source.targets(source.key_frames[3])
    assert np.array_equal(target.mask.numpy(), puppet(2) > 0)


def test_puppets_are_read_upright(root: Path) -> None:
    path = JHMDBSentences(root).mask_path("plain_walk_1")
    masks = read_puppet_masks(path)
    assert masks.dtype == bool and count_puppet_masks(path) == len(masks) == 6
    for frame in range(6):
        assert np.array_equal(masks[frame], puppet(frame) > 0)


def test_videos_without_masks_are_left_out_and_counted(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "aamn"):
        JHMDBSentences(root)
    assert "2 videos with one sentence each, 6 annotated frames" in caplog.text
    assert "left out" not in caplog.text
    shutil.rmtree(root / "puppet_mask" / "walk")
    (root / "puppet_mask" / "notes.txt").touch()
    with caplog.at_level(logging.INFO, "aamn"):
        source = JHMDBSentences(root)
    assert {key.video_id for key in source.key_frames} == {"Fight!_(1)@home_run_0"}
    assert source.video_ids == list(NAMES) and "1 of 2 videos have no folder" in caplog.text
    assert source.mask_path("plain_walk_1") == (
        root / "puppet_mask" / "walk" / "plain_walk_1" / "puppet_mask.mat"
    )


@pytest.mark.parametrize("folder", ["puppet_mask", "Rename_Images"])
def test_a_missing_folder_is_named(root: Path, folder: str) -> None:
    shutil.rmtree(root / folder)
    with pytest.raises(InputError, match=rf"no folder .*{folder}; wanted {folder}/<action>"):
        JHMDBSentences(root)


def test_where_missing_images_should_be(root: Path) -> None:
    wanted = root / "Rename_Images" / "walk" / "plain_walk_1"
    shutil.rmtree(wanted)
    source = JHMDBSentences(root)
    assert source.video_path("plain_walk_1") == wanted
    with pytest.raises(InputError, match=r"no video at .*plain_walk_1"):
        source.frames("plain_walk_1")


LEAVES = st.none() | st.integers(-1, 3) | st.sampled_from(["plain_walk_1", "0.png", "00002.png"])
ROWS = st.lists(LEAVES | st.lists(LEAVES, max_size=2) | st.dictionaries(st.just("0"), LEAVES))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(["plain_walk_1", "", None]), LEAVES)) | ROWS | LEAVES)
def test_any_list_of_frames_is_read_or_named(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    root = tmp_path_factory.getbasetemp() / "listed"
    for folder in ("puppet_mask", "Rename_Images"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "jhmdb_annotation.txt").write_text("video_id,query\nplain_walk_1,a man\n")
    path = root / "eval_samples.json"
    path.write_text(json.dumps(content))
    try:
        found = [(key.video_id, key.frame) for key in JHMDBSentences(root).key_frames]
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert found == [("plain_walk_1", 1)] * len(content)


def test_the_fixed_list(root: Path) -> None:
    rows = [["plain_walk_1", "./x/plain_walk_1/00002.png", "m.mat", 6, "a person"]]
    (root / "eval_samples.json").write_text(json.dumps(rows))
    source = JHMDBSentences(root)
    assert [(key.video_id, key.frame) for key in source.key_frames] == [("plain_walk_1", 1)]
    (root / "eval_samples.json").write_text(json.dumps([["other", "1.png"]]))
    with pytest.raises(InputError, match="other is not in"):
        JHMDBSentences(root)
    for row in (["plain_walk_1", "00000.png"], ["plain_walk_1"]):
        (root / "eval_samples.json").write_text(json.dumps([row]))
        with pytest.raises(InputError, match=r"eval_samples\.json: wanted a list of"):
            JHMDBSentences(root)
    (root / "eval_samples.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="wanted a list of"):
        JHMDBSentences(root)


def test_faults_are_named(root: Path) -> None:
    with pytest.raises(InputError, match="the split test alone, not 'train'"):
        JHMDBSentences(root, "train")
    source = JHMDBSentences(root)
    late = source.key_frames[0].__class__("plain_walk_1", 6, source.key_frames[3].expressions)
    with pytest.raises(InputError, match="masks of 6 frames, wanted frame 7"):
        source.targets(late)
    path = source.mask_path("plain_walk_1")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"puppet_mask.mat: cannot read part_mask"):
        source.targets(source.key_frames[-1])
    path.unlink()
    with pytest.raises(InputError, match="no masks at"):
        JHMDBSentences(root)
    with pytest.raises(InputError, match="no video zebra"):
        source.sentences("zebra")


def test_the_real_clip_overlays_its_frames(real_data: Path, output_folder: Path) -> None:
    source = JHMDBSentences(real_data / "jhmdb")
    assert len(source.video_ids) == 928 and len(source.key_frames) == 2784
    (expression,) = source.sentences(CLIP)
    assert expression.text == "girl catching the football"
    frames, truth = source.frames(CLIP), source.full_video_targets(CLIP, 0)
    assert len(frames) == 40 and truth.masks.shape == (40, 240, 320)
    keys = [i for i, key in enumerate(source.key_frames) if key.video_id == CLIP]
    input_spec = InputSpec((-1, 0, 1), (320, 320), flow=False, proposals=0)
    data = SampleDataset(source, input_spec, Vocabulary.build(source.texts()))
    pictures = []
    for index in keys:
        sample, place = data[index], source.key_frames[index].frame
        mask = sample.targets[0].mask
        assert torch.equal(mask, truth.masks[place])
        assert torch.equal(sample.targets[0].box, truth.boxes[place])
        pictures.append(overlay(frames.read([place])[0], mask.numpy(), box=truth.boxes[place]))
    Image.fromarray(np.concatenate(pictures, 1)).save(output_folder / "jhmdb_clip.png")


def test_the_real_masks_lie_on_what_moves(real_data: Path) -> None:
    """The girl moves against the camera's motion: more inside her masks than outside, and more
    than inside the same masks mirrored, moved or in the wrong order."""
    source = JHMDBSentences(real_data / "jhmdb")
    pictures = list(source.frames(CLIP).iterate())
    masks = source.full_video_targets(CLIP, 0).masks.numpy()
    flow = flow_between(pictures, build_estimator(FlowConfig()))
    speed = np.linalg.norm(flow - np.median(flow, axis=(2, 3), keepdims=True), axis=1)

    def contrast(masks: np.ndarray) -> float:
        return float(speed[masks].mean() / speed[~masks].mean())

    wrong = [masks[:, :, ::-1], masks[::-1], np.roll(masks, 30, 2), np.roll(masks, -30, 2)]
    assert contrast(masks) > 1.2
    assert contrast(masks) > max(contrast(other) for other in wrong)


def test_every_real_mask_file_is_read(real_data: Path) -> None:
    source = JHMDBSentences(real_data / "jhmdb")
    there = [v for v in source.video_ids if source.mask_path(v).is_file()]
    assert len(there) == 21
    for video_id in there:
        truth = source.full_video_targets(video_id, 0)
        assert truth.masks.shape[1:] == (240, 320) and 15 <= len(truth.masks) <= 40
        assert truth.masks.flatten(1).any(1).all()
        listed = [key.frame for key in source.key_frames if key.video_id == video_id]
        assert max(listed) < len(truth.masks)
