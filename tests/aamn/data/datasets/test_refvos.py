"""Referring video object segmentation: reading the layouts and writing results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle

from aamn.config.schema import DataConfig
from aamn.data.datasets.manifest import write_manifest
from aamn.data.datasets.refvos import ReferringVideos, read_labels, read_listings
from aamn.inference.labels import davis_palette, merge_objects
from aamn.inference.submission import write_video
from aamn.inference.track import JoinedTrack
from aamn.structures import MaskTrack, Query
from proposals.errors import InputError
from proposals.manifest import read_manifest

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FRAMES = ("00000", "00005", "00010")
SIZE = (12, 16)


def labels_of(place: int) -> np.ndarray:
    """Object 1 moves right; object 2 is there from the second frame on."""
    labels = np.zeros(SIZE, np.uint8)
    labels[2:6, place : place + 4] = 1
    if place:
        labels[7:11, 8:12] = 2
    return labels


def write_images(folder: Path, video_id: str = "vid") -> None:
    (folder / "JPEGImages" / video_id).mkdir(parents=True)
    for place, name in enumerate(FRAMES):
        picture = np.full((*SIZE, 3), 80 * place, np.uint8)
        Image.fromarray(picture).save(folder / "JPEGImages" / video_id / f"{name}.jpg")


def write_annotations(folder: Path) -> None:
    (folder / "Annotations" / "vid").mkdir(parents=True)
    for place, name in enumerate(FRAMES):
        picture = Image.fromarray(labels_of(place), "P")
        picture.putpalette(davis_palette())
        picture.save(folder / "Annotations" / "vid" / f"{name}.png")


def write_meta(path: Path, expressions: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    video = {"expressions": expressions, "frames": list(FRAMES)}
    path.write_text(json.dumps({"videos": {"vid": video}}))


EXPRESSIONS = {
    "0": {"exp": "A Man  walking", "obj_id": "1"},
    "1": {"exp": "the dog", "obj_id": "2"},
    "2": {"exp": "the walking man", "obj_id": "1"},
}


@pytest.fixture(params=["own folder", "common folder", "no split"])
def youtube(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Ref-YouTube-VOS in the places where its list has been seen."""
    folder = tmp_path if request.param == "no split" else tmp_path / "train"
    write_images(folder)
    write_annotations(folder)
    lists = {
        "own folder": tmp_path / "train" / "meta_expressions.json",
        "common folder": tmp_path / "meta_expressions" / "train" / "meta_expressions.json",
        "no split": tmp_path / "meta_expressions.json",
    }
    write_meta(lists[request.param], EXPRESSIONS)
    return tmp_path


def test_reading_indexed_masks(youtube: Path) -> None:
    source = ReferringVideos(youtube, "train")
    assert source.texts() == ["a man walking", "the dog", "the walking man"]
    assert [e.instance for e in source.sentences("vid")] == [1, 2, 1]
    assert [key.frame for key in source.key_frames] == [0, 1, 2]
    assert len(source.frames("vid")) == 3
    man, dog, same = source.targets(source.key_frames[2])
    assert np.array_equal(man.mask.numpy(), labels_of(2) == 1)
    assert man.box.tolist() == [2, 2, 6, 6]
    assert torch.equal(man.mask, same.mask)
    assert np.array_equal(dog.mask.numpy(), labels_of(2) == 2)
    absent = source.targets(source.key_frames[0])[1]
    assert not absent.mask.any() and absent.box.tolist() == [0, 0, 0, 0]
    truth = source.full_video_targets("vid", 2)
    assert truth.masks.sum((1, 2)).tolist() == [0, 16, 16]
    assert source.full_video_targets("vid", 9) is None


def test_frames_without_annotation_are_no_key_frames(youtube: Path) -> None:
    next(youtube.rglob("Annotations/vid/00005.png")).unlink()
    source = ReferringVideos(youtube, "train")
    assert [key.frame for key in source.key_frames] == [0, 2]
    assert source.full_video_targets("vid", 1) is None


def test_a_split_without_objects(tmp_path: Path) -> None:
    write_images(tmp_path / "valid")
    write_meta(tmp_path / "valid" / "meta_expressions.json", {"0": {"exp": "a man"}})
    source = ReferringVideos(tmp_path, "valid")
    assert source.key_frames == [] and source.texts() == ["a man"]
    assert len(source.frames("vid")) == 3


def test_sentences_of_several_objects_as_in_mevis(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    codes = {}
    for number in (1, 2):
        masks = [np.asfortranarray(labels_of(place) == number) for place in range(3)]
        found = [rle.encode(m.astype(np.uint8)) if m.any() else None for m in masks]
        codes[str(40 + number)] = [
            c and {"size": c["size"], "counts": c["counts"].decode()} for c in found
        ]
    (tmp_path / "train" / "mask_dict.json").write_text(json.dumps(codes))
    both = {"exp": "man and dog", "obj_id": [0, 1], "anno_id": [41, 42]}
    dog = {"exp": "the dog", "obj_id": [1], "anno_id": [42]}
    meta = tmp_path / "train" / "meta_expressions.json"
    write_meta(meta, {"0": both, "1": dog, "2": {**both, "exp": "the pair"}})
    source = ReferringVideos(tmp_path, "train")
    assert [e.instance for e in source.sentences("vid")] == [10_000, 42, 10_000]
    pair, dog, _ = source.targets(source.key_frames[1])
    assert np.array_equal(pair.mask.numpy(), labels_of(1) > 0)
    assert np.array_equal(dog.mask.numpy(), labels_of(1) == 2)
    assert not source.targets(source.key_frames[0])[1].mask.any()


def test_an_object_of_number_0_is_one(tmp_path: Path) -> None:
    write_images(tmp_path)
    code = rle.encode(np.asfortranarray((labels_of(1) == 2).astype(np.uint8)))
    masks = [None, {"size": code["size"], "counts": code["counts"].decode()}, None]
    (tmp_path / "mask_dict.json").write_text(json.dumps({"0": masks}))
    write_meta(tmp_path / "meta_expressions.json", {"0": {"exp": "the dog", "anno_id": [0]}})
    source = ReferringVideos(tmp_path)
    assert [key.frame for key in source.key_frames] == [0, 1, 2]
    areas = [int(source.targets(key)[0].mask.sum()) for key in source.key_frames]
    assert areas == [0, 16, 0]


def test_each_group_of_objects_has_its_number(tmp_path: Path) -> None:
    write_images(tmp_path)
    write_annotations(tmp_path)
    expressions = {
        "0": {"exp": "both", "obj_id": [1, 2]},
        "1": {"exp": "the man", "obj_id": 1},
        "2": {"exp": "both and another", "obj_id": ["1", "2", "3"]},
        "3": {"exp": "the pair", "obj_id": ["1", "2"]},
        "4": {"exp": "nobody knows whom"},
        "5": {"exp": "by the annotation's id", "obj_id": [7], "anno_id": [2]},
    }
    write_meta(tmp_path / "meta_expressions.json", expressions)
    source = ReferringVideos(tmp_path)
    assert [e.instance for e in source.sentences("vid")] == [10_000, 1, 10_001, 10_000, -1, 2]
    key = source.key_frames[2]
    assert [e.instance for e in key.expressions] == [10_000, 1, 10_001, 10_000, 2]
    areas = [int(target.mask.sum()) for target in source.targets(key)]
    assert areas == [32, 16, 32, 32, 16]
    boxes = [target.box.tolist() for target in source.targets(key)]
    assert boxes[0] == boxes[2] == boxes[3] == [2, 2, 12, 11] and boxes[4] == [8, 7, 12, 11]


@pytest.mark.parametrize(
    ("mode", "values", "labels"),
    [
        ("P", [0, 1, 2, 255], [0, 1, 2, 255]),
        ("P", [0, 255, 255, 0], [0, 255, 255, 0]),
        ("L", [0, 1, 2, 3], [0, 1, 2, 3]),
        ("L", [0, 255, 255, 0], [0, 1, 1, 0]),  # black and white
        ("L", [0, 255, 254, 0], [0, 255, 254, 0]),
        ("L", [0, 0, 0, 0], [0, 0, 0, 0]),
        ("1", [0, 255, 255, 0], [0, 1, 1, 0]),
    ],
)
def test_labels_of_pictures(
    tmp_path: Path, mode: str, values: list[int], labels: list[int]
) -> None:
    picture = Image.new(mode, (4, 1))
    picture.putdata(values)
    if mode == "P":
        picture.putpalette(davis_palette())
    picture.save(tmp_path / "1.png")
    assert read_labels(tmp_path / "1.png").tolist() == [labels]


def test_damaged_masks_of_mevis_are_named(tmp_path: Path) -> None:
    write_images(tmp_path)
    write_meta(tmp_path / "meta_expressions.json", {"0": {"exp": "a man", "anno_id": [41]}})
    lists = tmp_path / "mask_dict.json"
    for content in ({}, {"41": [None]}, {"41": [None, 5, 5]}, {"41": [None, {"size": [1]}]}):
        lists.write_text(json.dumps(content))
        source = ReferringVideos(tmp_path)
        with pytest.raises(InputError, match=r"mask_dict\.json: .*vid, frame 2, objects 41"):
            source.targets(source.key_frames[1])
    lists.write_text(json.dumps({"41": [None, None, None]}))
    truth = ReferringVideos(tmp_path).full_video_targets("vid", 41)
    assert truth.masks.shape == (3, *SIZE) and not truth.masks.any() and not truth.boxes.any()


KEYS = ("expressions", "frames", "exp", "obj_id", "anno_id", "0", "videos")
LEAVES = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "a", "1", "00000"])
JSON = LEAVES | st.lists(LEAVES, max_size=2) | st.dictionaries(st.sampled_from(KEYS), LEAVES)
EXPRESSION = st.fixed_dictionaries({"exp": LEAVES}, optional={"obj_id": JSON, "anno_id": JSON})
ENTRIES = st.fixed_dictionaries(
    {"expressions": st.dictionaries(LEAVES.map(str), EXPRESSION | LEAVES), "frames": JSON}
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.fixed_dictionaries({"videos": st.fixed_dictionaries({"vid": ENTRIES | JSON}) | JSON}))
def test_any_list_of_expressions_is_read_or_named(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "meta_expressions.json"
    path.write_text(json.dumps(content))
    try:
        listings = read_listings(path)
    except InputError as error:
        assert str(path) in str(error)
        return
    for video_id, listing in listings.items():
        said = content["videos"][video_id]["expressions"]
        assert listing.sentences == {e: " ".join(v["exp"].lower().split()) for e, v in said.items()}
        assert all(int(name) == float(name) for names in listing.objects.values() for name in names)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.text("ab-_9", min_size=1, max_size=4),
        st.lists(st.tuples(st.text('aB ,"é', min_size=1), st.lists(st.integers(0, 9), max_size=3))),
        max_size=3,
    )
)
def test_expressions_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, videos: dict[str, list[tuple[str, list[int]]]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "meta_expressions.json"
    entries = {
        video_id: {
            "expressions": {f"{n}": {"exp": t, "obj_id": ids} for n, (t, ids) in enumerate(found)},
            "frames": ["00000", "00007"],
        }
        for video_id, found in videos.items()
    }
    path.write_text(json.dumps({"videos": entries}))
    listings = read_listings(path)
    assert list(listings) == list(videos)
    for video_id, found in videos.items():
        assert listings[video_id].frames == ("00000", "00007")
        texts = [" ".join(text.lower().split()) for text, _ in found]
        assert list(listings[video_id].sentences.values()) == texts
        objects = {f"{n}": tuple(map(str, ids)) for n, (_, ids) in enumerate(found) if ids}
        assert listings[video_id].objects == objects


def test_real_davis_masks(real_data: Path, tmp_path: Path) -> None:
    davis = real_data / "davis"
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / folder).symlink_to(davis / folder / "480p")
    videos = {}
    for line in (davis / "expressions.csv").read_text().splitlines()[1:]:
        video_id, obj_id, text = line.split(",")
        names = sorted(p.stem for p in (tmp_path / "JPEGImages" / video_id).iterdir())
        expressions = {"0": {"exp": text, "obj_id": obj_id}}
        videos[video_id] = {"expressions": expressions, "frames": names}
    (tmp_path / "meta_expressions.json").write_text(json.dumps({"videos": videos}))
    source = ReferringVideos(tmp_path, "test")
    assert len(source.key_frames) == sum(len(v["frames"]) for v in videos.values())
    for video_id in videos:
        key = next(key for key in source.key_frames if key.video_id == video_id)
        (target,) = source.targets(key)
        path = tmp_path / "Annotations" / video_id / f"{videos[video_id]['frames'][0]}.png"
        with Image.open(path) as image:
            white = np.array(image) == 255
        assert target.mask.shape == (480, 854) and 0.005 < white.mean() < 0.3
        assert np.array_equal(target.mask.numpy(), white)


def track(text: str, masks: np.ndarray, score: float = 1.0) -> JoinedTrack:
    """In clips of two frames."""
    parts = [(torch.arange(n, min(n + 2, len(masks))), masks[n : n + 2]) for n in (0, 2)]
    clips = [
        MaskTrack("vid", text, frames, torch.zeros(len(own), 4), torch.from_numpy(own), score)
        for frames, own in parts
        if len(own)
    ]
    return JoinedTrack(Query("dog", ("dog",), torch.tensor([2])), score, tuple(clips))


def answers(source: ReferringVideos) -> list[JoinedTrack]:
    """The truth, as answers to all sentences."""
    return [
        track(e.text, source.full_video_targets("vid", e.instance).masks.numpy())
        for e in source.sentences("vid")
    ]


@pytest.mark.parametrize(("layout", "top"), [("ref-youtube-vos", "Annotations"), ("mevis", ".")])
def test_results_a_sentence(youtube: Path, tmp_path: Path, layout: str, top: str) -> None:
    source, out = ReferringVideos(youtube, "train"), tmp_path / "out"
    write_video(source, "vid", answers(source), out, layout)
    files = sorted(str(p.relative_to(out / top)) for p in out.rglob("*") if p.is_file())
    assert files == [f"vid/{eid}/{name}.png" for eid in "012" for name in FRAMES]
    with Image.open(out / top / "vid" / "1" / "00005.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.array(image), 255 * (labels_of(1) == 2).astype(np.uint8))


def test_results_of_davis_are_read_back(tmp_path: Path) -> None:
    write_images(tmp_path)
    write_annotations(tmp_path)
    expressions = {  # two annotators, two objects
        "0": {"exp": "a man", "obj_id": "1"},
        "1": {"exp": "the person", "obj_id": "1"},
        "2": {"exp": "a dog", "obj_id": "2"},
        "3": {"exp": "the animal", "obj_id": "2"},
    }
    write_meta(tmp_path / "meta_expressions.json", expressions)
    source = ReferringVideos(tmp_path, "valid")
    tracks = answers(source)
    nothing = np.zeros((3, *SIZE), bool)
    write_video(
        source, "vid", [tracks[0], track("", nothing), *tracks[2:]], tmp_path / "out", "davis"
    )
    for annotator, wanted in ((0, labels_of(2)), (1, labels_of(2) * (labels_of(2) == 2))):
        with Image.open(tmp_path / "out" / f"anno_{annotator}" / "vid" / "00010.png") as image:
            assert image.mode == "P"
            assert np.array_equal(np.array(image), wanted)
            assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    del expressions["3"]
    write_meta(tmp_path / "meta_expressions.json", expressions)
    with pytest.raises(InputError, match="as many sentences for each object"):
        write_video(ReferringVideos(tmp_path), "vid", tracks[:3], tmp_path / "out", "davis")


def test_four_sentences_in_a_row_are_one_object_where_none_is_named(tmp_path: Path) -> None:
    write_images(tmp_path)
    write_meta(
        tmp_path / "meta_expressions.json", {str(n): {"exp": f"sentence {n}"} for n in range(8)}
    )
    source = ReferringVideos(tmp_path)
    tracks = [
        track("", np.broadcast_to(labels_of(2) == 1 + n // 4, (3, *SIZE)).copy()) for n in range(8)
    ]
    write_video(source, "vid", tracks, tmp_path / "out", "davis")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"anno_{n}" for n in range(4)]
    with Image.open(tmp_path / "out" / "anno_3" / "vid" / "00000.png") as image:
        assert np.array_equal(np.array(image), labels_of(2))


@pytest.mark.parametrize(
    ("man", "dog", "both"), [(0.9, 0.2, 1), (0.2, 0.9, 2), (-3.0, -0.5, 2), (7.0, 0.5, 1)]
)
def test_objects_are_numbered_by_their_ids_and_overlap_by_score(
    tmp_path: Path, man: float, dog: float, both: int
) -> None:
    write_images(tmp_path)
    expressions = {"0": {"exp": "a dog", "obj_id": "10"}, "1": {"exp": "a man", "obj_id": "2"}}
    write_meta(tmp_path / "meta_expressions.json", expressions)
    masks = np.zeros((2, 3, *SIZE), bool)
    masks[0, :, 2:6, 2:8] = masks[1, :, 2:6, 6:12] = True
    tracks = [track("", masks[0], dog), track("", masks[1], man)]
    write_video(ReferringVideos(tmp_path), "vid", tracks, tmp_path / "out", "davis")
    for name in FRAMES:
        with Image.open(tmp_path / "out" / "anno_0" / "vid" / f"{name}.png") as image:
            row = np.array(image)[3].tolist()
        assert row == [0, 0, 2, 2, 2, 2, both, both, 1, 1, 1, 1, 0, 0, 0, 0]


def test_where_objects_overlap_the_better_score_wins() -> None:
    masks = np.array([[[[1, 1, 0, 0]]], [[[0, 1, 1, 0]]]], bool)
    assert merge_objects(masks, [0.9, 0.2]).tolist() == [[[1, 1, 2, 0]]]
    assert merge_objects(masks, [0.1, 0.2]).tolist() == [[[1, 2, 2, 0]]]


def test_the_palette_of_davis() -> None:
    palette = np.array(davis_palette()).reshape(-1, 3)
    assert palette.shape == (256, 3)
    wanted = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]]
    assert palette[:6].tolist() == wanted
    assert palette[8].tolist() == [64, 0, 0] and palette[255].tolist() == [224, 224, 192]
    assert len({tuple(colour) for colour in palette}) == 256


def test_faults_are_named(youtube: Path, tmp_path: Path) -> None:
    source = ReferringVideos(youtube, "train")
    picture = next(youtube.rglob("Annotations/vid/00005.png"))
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(picture)
    with pytest.raises(InputError, match="wanted an indexed PNG, got mode RGB"):
        source.targets(source.key_frames[1])
    picture.write_bytes(b"\x89PNG nothing")
    with pytest.raises(InputError, match=r"00005.png is no readable image"):
        source.targets(source.key_frames[1])
    picture.unlink()
    with pytest.raises(InputError, match=r"no annotation at .*vid/00005\.png"):
        source.targets(source.key_frames[1])
    last = next(youtube.rglob("JPEGImages/vid/00010.jpg"))
    Image.new("RGB", SIZE[::-1]).save(last.with_stem("00011"))
    with pytest.raises(InputError, match="the image 00011 is not listed"):
        source.frames("vid")
    last.with_stem("00011").unlink()
    last.unlink()
    with pytest.raises(InputError, match="the image 00010 is missing"):
        source.frames("vid")
    with pytest.raises(InputError, match="has no video zebra"):
        source.sentences("zebra")
    with pytest.raises(InputError, match="one of the layouts"):
        write_video(source, "vid", answers_of_nothing(source), tmp_path, "coco")
    short = [track(e.text, np.zeros((3, *SIZE), bool)) for e in source.sentences("vid")]
    short[2] = track("", np.zeros((2, *SIZE), bool))
    with pytest.raises(ValueError, match="vid: 3 frames, 2 masks"):
        write_video(source, "vid", short, tmp_path)
    with pytest.raises(ValueError, match="3 sentences, 1 tracks"):
        write_video(source, "vid", answers_of_nothing(source)[:1], tmp_path)
    meta = next(youtube.rglob("meta_expressions.json"))
    meta.write_text(json.dumps({"videos": {"vid": {"frames": []}}}))
    with pytest.raises(InputError, match="the video vid has no usable expressions"):
        ReferringVideos(youtube, "train")
    for content in ("[]", '{"videos": []}', '{"video": {}}'):
        meta.write_text(content)
        with pytest.raises(InputError, match=r"meta_expressions\.json: wanted"):
            ReferringVideos(youtube, "train")
    meta.write_text("[")
    with pytest.raises(InputError, match="no readable JSON"):
        ReferringVideos(youtube, "train")
    meta.unlink()
    with pytest.raises(InputError, match=r"no meta_expressions\.json of the split 'train'"):
        ReferringVideos(youtube, "train")


def answers_of_nothing(source: ReferringVideos) -> list[JoinedTrack]:
    return [track(e.text, np.zeros((3, *SIZE), bool)) for e in source.sentences("vid")]


def test_a_manifest_holds_each_object_once_a_frame(youtube, tmp_path):
    out = tmp_path / "m.json"
    found = write_manifest(DataConfig("refvos", str(youtube)), "train", out)
    boxes = [(a["image_id"], a["bbox"], a["category_id"]) for a in found["annotations"]]
    first = [(n + 1, [n, 2, 4, 4], 1) for n in range(3)]
    assert boxes == [first[0], first[1], (2, [8, 7, 4, 4], 1), first[2], (3, [8, 7, 4, 4], 1)]
    assert [frame.frame for frame in read_manifest(out).frames] == [0, 1, 2]
