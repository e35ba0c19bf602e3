"""Referring video object segmentation: reading the layouts and writing results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle

from aamn.data.refvos import ReferringVideos
from aamn.data.submission import davis_palette, merge_objects, write_video
from aamn.structures import MaskTrack
from proposals.errors import InputError

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


def track(text: str, masks: np.ndarray, score: float = 1.0) -> MaskTrack:
    masks = torch.from_numpy(masks)
    return MaskTrack("vid", text, torch.arange(3), torch.zeros(3, 4), masks, score)


def answers(source: ReferringVideos) -> list[MaskTrack]:
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
    with pytest.raises(InputError, match=r"00005.png is no readable PNG"):
        source.targets(source.key_frames[1])
    next(youtube.rglob("JPEGImages/vid/00010.jpg")).unlink()
    with pytest.raises(InputError, match="the image 00010 is missing"):
        source.frames("vid")
    with pytest.raises(InputError, match="has no video zebra"):
        source.sentences("zebra")
    with pytest.raises(InputError, match="one of the layouts"):
        write_video(source, "vid", answers_of_nothing(source), tmp_path, "coco")
    with pytest.raises(ValueError, match="3 sentences, 1 tracks"):
        write_video(source, "vid", answers_of_nothing(source)[:1], tmp_path)
    meta = next(youtube.rglob("meta_expressions.json"))
    meta.write_text(json.dumps({"videos": {"vid": {"frames": []}}}))
    with pytest.raises(InputError, match="the video vid has no usable expressions"):
        ReferringVideos(youtube, "train")
    meta.write_text("[")
    with pytest.raises(InputError, match="no readable JSON"):
        ReferringVideos(youtube, "train")
    meta.unlink()
    with pytest.raises(InputError, match=r"no meta_expressions\.json of the split 'train'"):
        ReferringVideos(youtube, "train")


def answers_of_nothing(source: ReferringVideos) -> list[MaskTrack]:
    return [track(e.text, np.zeros((3, *SIZE), bool)) for e in source.sentences("vid")]
