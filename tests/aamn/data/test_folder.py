"""Your own videos, and choosing the reader."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from aamn.config import DataConfig
from aamn.data.folder import YourVideos, videos_in
from aamn.data.readers import READERS, open_all, open_source
from proposals.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two folders of three images, as videos."""
    for name in ("cats", "dogs"):
        folder = tmp_path / "own" / "videos" / name
        folder.mkdir(parents=True)
        for frame in range(3):
            Image.fromarray(np.full((6, 8, 3), frame, np.uint8)).save(folder / f"{frame}.png")
    (tmp_path / "own" / "sentences.csv").write_text(
        "video_id,instance_id,query\ncats,0,A black  cat\ncats,1,a cat, white\ndogs,0,dog\n"
    )
    return tmp_path / "own"


def mask_of(frame: int) -> np.ndarray:
    mask = np.zeros((6, 8), np.uint8)
    mask[1:3, frame : frame + 3] = 1
    return mask


def test_videos_without_masks(root: Path) -> None:
    source = YourVideos(root, "any")
    assert source.video_ids == ["cats", "dogs"]
    assert source.texts() == ["a black cat", "a cat, white", "dog"]
    assert source.key_frames == []
    assert len(source.frames("cats")) == 3
    assert source.full_video_targets("cats", 0) is None


@pytest.mark.parametrize("form", ["png", "rle", "counts"])
def test_masks(root: Path, form: str) -> None:
    rows = []
    for frame in (0, 2):
        mask = mask_of(frame)
        if form == "png":
            folder = root / "masks" / "cats" / "1"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask * 255).save(folder / f"{frame:05d}.png")
        elif form == "rle":
            code = rle.encode(np.asfortranarray(mask))
            segmentation = {"size": code["size"], "counts": code["counts"].decode()}
        else:
            flat = mask.flatten(order="F")
            runs = np.diff(np.flatnonzero(np.diff(flat, prepend=0, append=0)), prepend=0)
            segmentation = {"size": [6, 8], "counts": [*runs.tolist(), 48 - int(runs.sum())]}
        if form != "png":
            row = {"video_id": "cats", "instance_id": 1, "frame": frame}
            rows.append({**row, "segmentation": segmentation})
    if rows:
        (root / "masks.json").write_text(json.dumps(rows))
    source = pickle.loads(pickle.dumps(YourVideos(root)))
    assert [(k.video_id, k.frame) for k in source.key_frames] == [("cats", 0), ("cats", 2)]
    (target,) = source.targets(source.key_frames[1])
    assert (target.instance, target.box.tolist()) == (1, [2, 1, 5, 3])
    assert np.array_equal(target.mask.numpy(), mask_of(2).astype(bool))
    assert source.full_video_targets("cats", 1) is None  # frame 1 has no mask


def test_full_video_masks(root: Path) -> None:
    folder = root / "masks" / "dogs" / "0"
    folder.mkdir(parents=True)
    for frame in range(3):
        Image.fromarray(mask_of(frame) * 255).save(folder / f"{frame}.png")
    truth = YourVideos(root).full_video_targets("dogs", 0)
    assert truth.masks.sum((1, 2)).tolist() == [6, 6, 6]
    assert truth.boxes.tolist() == [[0, 1, 3, 3], [1, 1, 4, 3], [2, 1, 5, 3]]


def test_splits(root: Path) -> None:
    (root / "sentences.csv").write_text(
        "video_id,instance_id,query,split\ncats,0,cat,train\ndogs,0,dog,test\n"
    )
    assert YourVideos(root, "train").video_ids == ["cats"]
    assert YourVideos(root, "test").video_ids == ["dogs"]
    with pytest.raises(InputError, match="no sentence of the split 'val'"):
        YourVideos(root, "val")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("bears,0,bear", r"line 2: .* has no video bears"),
        ("cats,first,cat", "line 2: wanted a whole number and a sentence"),
        ("cats,0, ", "line 2: wanted a whole number and a sentence"),
        ("cats,0", "line 2: wanted 3 columns"),
    ],
)
def test_faults_of_the_sentences(root: Path, rows: str, message: str) -> None:
    (root / "sentences.csv").write_text(f"video_id,instance_id,query\n{rows}\n")
    with pytest.raises(InputError, match=message):
        YourVideos(root)


def test_faults_of_the_masks(root: Path) -> None:
    (root / "masks.json").write_text('[{"video_id": "cats"}]')
    with pytest.raises(InputError, match=r"masks.json: wanted a list of"):
        YourVideos(root)
    row = {"video_id": "cats", "instance_id": 0, "frame": 0, "segmentation": {"size": [6]}}
    (root / "masks.json").write_text(json.dumps([row]))
    source = YourVideos(root)
    with pytest.raises(InputError, match="no COCO RLE"):
        source.targets(source.key_frames[0])
    (root / "masks" / "cats" / "zero").mkdir(parents=True)
    (root / "masks" / "cats" / "zero" / "0.png").touch()
    with pytest.raises(InputError, match="in numbers"):
        YourVideos(root)


def test_videos_of_a_folder(a2d_root: Path, root: Path, tmp_path: Path) -> None:
    clips = a2d_root / "Release" / "clips320H"
    assert sorted(videos_in(clips)) == ["--first", "sec_ond", "third-3"]
    assert videos_in(root / "videos") == {n: root / "videos" / n for n in ("cats", "dogs")}
    (root / "videos" / "cats.mp4").touch()
    with pytest.raises(InputError, match="the same video id cats"):
        videos_in(root / "videos")
    with pytest.raises(InputError, match="no video there"):
        videos_in(a2d_root)
    with pytest.raises(InputError, match="no folder at"):
        videos_in(tmp_path / "none")


def test_the_reader_is_configuration(a2d_root: Path, root: Path) -> None:
    assert sorted(READERS) == ["a2d", "folder", "jhmdb", "refvos"]
    assert open_source(DataConfig(root=str(a2d_root)), "test").video_ids == ["third-3"]
    sources = open_all(DataConfig(root=str(a2d_root), train_split="x", test_split="y"))
    assert [source.split for source in sources] == ["train", "test"]
    own = open_all(DataConfig(kind="folder", root=str(root), train_split="x", test_split="x"))
    assert [source.video_ids for source in own] == [["cats", "dogs"]]
    with pytest.raises(InputError, match=r"data\.kind: wanted one of"):
        open_source(DataConfig(kind="coco", root="x"), "train")
    with pytest.raises(InputError, match=r"data\.root names no folder"):
        open_source(DataConfig(), "train")
