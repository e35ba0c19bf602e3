"""Your own videos, and choosing the reader."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle

from aamn.config.schema import DataConfig
from aamn.data.datasets.folder import YourVideos, videos_in
from aamn.data.datasets.registry import READERS, open_all, open_source
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


@pytest.mark.parametrize(
    "rows",
    [
        "cats,0,a cat, white and black,test\ndogs,0,dog,train\n",
        'cats,0,"a cat, white and black",test\ndogs,0,dog,train\n',
        "cats,0,A  Cat, white and black, test \n\ndogs,0,dog,train\n",
    ],
)
def test_a_sentence_with_commas_stays_in_its_split(root: Path, rows: str) -> None:
    path = root / "sentences.csv"
    path.write_text(f"video_id,instance_id,query,split\n{rows}", encoding="utf-8-sig")
    assert YourVideos(root, "test").texts() == ["a cat, white and black"]
    assert YourVideos(root, "train").texts() == ["dog"]


def test_videos_may_lie_in_the_root(root: Path) -> None:
    for folder in sorted((root / "videos").iterdir()):
        folder.rename(root / folder.name)
    (root / "videos").rmdir()
    source = YourVideos(root)
    assert source.video_path("dogs") == root / "dogs" and len(source.frames("dogs")) == 3


def test_key_frames_name_the_sentences_whose_object_they_show(root: Path) -> None:
    (root / "sentences.csv").write_text(
        "video_id,instance_id,query\ncats,0,one\ncats,1,two\ncats,0,three\ndogs,0,dog\n"
    )
    for instance, frames in ((0, (2, 10)), (1, (2, 0))):
        folder = root / "masks" / "cats" / str(instance)
        folder.mkdir(parents=True)
        for frame in frames:
            Image.fromarray(np.full((6, 8), 10 * instance + frame + 1, np.uint8)).save(
                folder / f"{frame}.png"
            )
    found = [(k.frame, [e.text for e in k.expressions]) for k in YourVideos(root).key_frames]
    assert found == [(0, ["two"]), (2, ["one", "two", "three"]), (10, ["one", "three"])]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_mask_is_where_a_picture_is_not_zero(root: Path, mode: str) -> None:
    folder = root / "masks" / "cats" / "0"
    folder.mkdir(parents=True)
    values = {"1": mask_of(1) > 0, "L": 3 * mask_of(1), "P": mask_of(1)}
    values["RGB"] = np.stack([mask_of(1) * 9] * 3, -1)
    picture = Image.fromarray(values[mode], mode if mode == "P" else None)
    if mode == "P":
        picture.putpalette([0, 0, 0, 0, 0, 0])  # the index counts, not its colour
    picture.save(folder / "0.png")
    source = YourVideos(root)
    (target,) = source.targets(source.key_frames[0])
    assert np.array_equal(target.mask.numpy(), mask_of(1) > 0)
    (folder / "0.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(InputError, match=r"0/0\.png is no readable image"):
        source.targets(source.key_frames[0])


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
        content = {"annotations": rows} if form == "rle" else rows
        (root / "masks.json").write_text(json.dumps(content))
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


@pytest.mark.parametrize(
    ("frames", "seen"),
    [
        ((0, 1), None),
        ((1, 2, 3), None),  # numbers from 1 on: frame 0 has none
        ((0, 1, 3), None),
        ((0, 1, 2), [0, 1, 2]),
        ((0, 1, 2, 3), [0, 1, 2]),  # the video has three
        ((0, 10, 1, 2), [0, 1, 2]),
    ],
)
def test_a_full_video_has_a_mask_of_each_frame(
    root: Path, frames: tuple[int, ...], seen: list[int] | None
) -> None:
    folder = root / "masks" / "dogs" / "0"
    folder.mkdir(parents=True)
    for frame in frames:
        Image.fromarray(mask_of(min(frame, 4)) * 255).save(folder / f"{frame}.png")
    truth = YourVideos(root).full_video_targets("dogs", 0)
    assert (truth and truth.boxes[:, 0].tolist()) == seen
    assert YourVideos(root).full_video_targets("dogs", 1) is None


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
        ("cats,0,cat\ncats,1.5,cat", "line 3: wanted a whole number and a sentence"),
        ("cats,\u00b2,cat", "line 2: wanted a whole number and a sentence"),
        ("cats,-1,cat", "line 2: wanted a whole number and a sentence"),
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
    (root / "masks.json").write_text(json.dumps([{**row, "frame": -1}]))
    with pytest.raises(InputError, match=r"masks\.json: .*frame -1"):
        YourVideos(root)
    (root / "masks.json").write_text(json.dumps([row]))
    source = YourVideos(root)
    with pytest.raises(InputError, match="no COCO RLE"):
        source.targets(source.key_frames[0])
    (root / "masks" / "cats" / "zero").mkdir(parents=True)
    (root / "masks" / "cats" / "zero" / "0.png").touch()
    with pytest.raises(InputError, match="in numbers"):
        YourVideos(root)


KEYS = ("video_id", "instance_id", "frame", "segmentation")
LEAVES = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["cats", "0", ""])
VALUES = LEAVES | st.lists(LEAVES, max_size=2) | st.dictionaries(st.sampled_from(KEYS), LEAVES)
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(KEYS, LEAVES)) | VALUES, max_size=3)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(ROWS | VALUES | st.fixed_dictionaries({"annotations": ROWS | VALUES}))
def test_any_json_is_a_list_of_masks_or_named(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    root = tmp_path_factory.getbasetemp() / "own"
    (root / "videos" / "cats").mkdir(parents=True, exist_ok=True)
    (root / "videos" / "cats" / "0.png").touch()
    (root / "sentences.csv").write_text("video_id,instance_id,query\ncats,0,a cat\n")
    (root / "masks.json").write_text(json.dumps(content))
    try:
        found = {key.frame for key in YourVideos(root).key_frames}
    except InputError as error:
        assert "masks.json" in str(error)
    else:
        rows = content["annotations"] if isinstance(content, dict) else content
        cats = [row for row in rows if (row["video_id"], int(row["instance_id"])) == ("cats", 0)]
        assert found == {int(row["frame"]) for row in cats} and min(found, default=0) >= 0


def test_videos_of_a_folder(a2d_root: Path, root: Path, tmp_path: Path) -> None:
    clips = a2d_root / "Release" / "clips320H"
    assert sorted(videos_in(clips)) == ["--first", "sec_ond", "third-3"]
    assert videos_in(root / "videos") == {n: root / "videos" / n for n in ("cats", "dogs")}
    (root / "videos" / "empty").mkdir()
    (root / "videos" / "notes.txt").touch()
    (root / "videos" / "birds.MP4").touch()
    assert sorted(videos_in(root / "videos")) == ["birds", "cats", "dogs"]
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
    parts = open_all(DataConfig(kind="folder", root=str(root), train_split="x", test_split="y"))
    assert [source.split for source in parts] == ["x", "y"]
    with pytest.raises(InputError, match=r"data\.root names no folder"):
        open_source(DataConfig(), "train")
