"""The data set checker names what is wrong, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from aamn.config import DataConfig
from aamn.data.readers import open_all
from aamn.data.verify import Finding, verify_sources
from aamn.data.verify_a2d import verify_a2d

SENTENCES = "text_annotations/a2d_annotation.txt"


def annotation(root: Path, video_id: str, frame: int = 3) -> Path:
    folder = root / "text_annotations" / "a2d_annotation_with_instances"
    return folder / video_id / f"{frame:05d}.h5"


def clip(root: Path, video_id: str) -> Path:
    return root / "Release" / "clips320H" / f"{video_id}.mp4"


def add_line(root: Path, name: str, line: str) -> None:
    with (root / name).open("a") as file:
        file.write(f"{line}\n")


def edit_row(root: Path, video_id: str, change: Callable[[list[str]], list[str]]) -> None:
    path = root / "Release" / "videoset.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    rows = [change(row) if row[0] == video_id else row for row in rows]
    path.write_text("".join(",".join(row) + "\n" for row in rows))


def rewrite(path: Path, **members: np.ndarray | None) -> None:
    with h5py.File(path, "r+") as file:
        for name, value in members.items():
            del file[name]
            if value is not None:
                file[name] = value


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def blank_second_half(path: Path) -> None:
    """Zeros in the second half of an mp4's pictures; its index stays."""
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") - 4
    stop = start + int.from_bytes(content[start : start + 4], "big")
    middle = (start + stop) // 2
    content[middle:stop] = bytes(stop - middle)
    path.write_bytes(content)


def write_blank_video(path: Path, size: tuple[int, int], count: int = 12) -> None:
    code = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), code, 10, size[::-1])
    for _ in range(count):
        writer.write(np.zeros((*size, 3), np.uint8))
    writer.release()


def empty_mask(root: Path, video_id: str) -> None:
    masks = np.zeros((2, 64, 48), np.uint8)
    masks[0, 3:9, 10:20] = 1
    rewrite(annotation(root, video_id), reMask=masks)


def shift_box(root: Path, video_id: str) -> None:
    with h5py.File(annotation(root, video_id)) as file:
        boxes = file["reBBox"][:]
    boxes[:, 1] = [50, 30, 60, 40]
    rewrite(annotation(root, video_id), reBBox=boxes)


FOLDER = "text_annotations/a2d_annotation_with_instances"
H5 = FOLDER + "/{0}/00003.h5"
MP4 = "Release/clips320H/{0}.mp4"

# what is planted in video {0}; whether only --deep finds it; the finding
FAULTS: dict[str, tuple[Callable[[Path, str], object], bool, tuple[bool, str, str, str]]] = {
    "unknown video": (
        lambda root, v: add_line(root, SENTENCES, f"{v}?,0,a dog"),
        False,
        (True, "a2d_annotation.txt:", "{0}? is not in videoset.csv", ""),
    ),
    "no sentence": (
        lambda root, v: add_line(root, SENTENCES, f"{v},1, "),
        False,
        (True, "a2d_annotation.txt:", "{0} has a row without a sentence", ""),
    ),
    "instance is a word": (
        lambda root, v: add_line(root, SENTENCES, f"{v},two,a dog"),
        False,
        (False, "a2d_annotation.txt:", "{0}: the instance 'two' is no whole number", ""),
    ),
    "instance never shown": (
        lambda root, v: add_line(root, SENTENCES, f"{v},7,a dog"),
        False,
        (False, "{0}", "a sentence names instance 7, which no frame shows", ""),
    ),
    "row too short": (
        lambda root, v: edit_row(root, v, lambda row: row[:6]),
        False,
        (True, "Release/videoset.csv:", "wanted nine columns of numbers", "Release/videoset.csv"),
    ),
    "no such split": (
        lambda root, v: edit_row(root, v, lambda row: [*row[:8], "7"]),
        False,
        (True, "Release/videoset.csv:", "{0} has the split '7'", ""),
    ),
    "video missing": (
        lambda root, v: clip(root, v).unlink(),
        False,
        (True, "{0}", "the video is missing", MP4),
    ),
    "video cut off": (
        lambda root, v: cut(clip(root, v)),
        False,
        (True, "{0}", "the video: no frame can be decoded", MP4),
    ),
    "video of another size": (
        lambda root, v: write_blank_video(clip(root, v), (48, 80)),
        False,
        (True, "{0}", "frames are 80x48, videoset.csv says 64x48", MP4),
    ),
    "wrong size in the list": (
        lambda root, v: edit_row(root, v, lambda row: [*row[:5], "66", *row[6:]]),
        False,
        (False, "{0}", "frames are 64x48, videoset.csv says 66x48", MP4),
    ),
    "video too short": (
        lambda root, v: write_blank_video(clip(root, v), (48, 64), 8),
        False,
        (False, "{0}", "frame 9 is annotated, the video has 8: the last one stands in", MP4),
    ),
    "annotation folder missing": (
        lambda root, v: shutil.rmtree(annotation(root, v).parent),
        False,
        (True, "{0}", "has no annotated frame", FOLDER + "/{0}"),
    ),
    "annotated frame missing": (
        lambda root, v: annotation(root, v, 9).unlink(),
        False,
        (False, "{0}", "1 annotated frames, videoset.csv says 2", ""),
    ),
    "annotation cut off": (
        lambda root, v: cut(annotation(root, v)),
        False,
        (True, "{0}/00003.h5", "it cannot be read", H5),
    ),
    "annotation without masks": (
        lambda root, v: rewrite(annotation(root, v), reMask=None),
        False,
        (True, "{0}/00003.h5", "it cannot be read", H5),
    ),
    "fewer masks than instances": (
        lambda root, v: rewrite(annotation(root, v), instance=np.array([0, 1, 2])),
        False,
        (True, "{0}/00003.h5", "it has 3 instances, but 2 masks and 2 boxes", H5),
    ),
    "masks of another size": (
        lambda root, v: rewrite(annotation(root, v), reMask=np.ones((2, 60, 48), np.uint8)),
        False,
        (True, "{0}/00003.h5", "masks are 60x48, the video 64x48", H5),
    ),
    "decoding stops": (
        lambda root, v: blank_second_half(clip(root, v)),
        True,
        (True, "{0}", "decoding stops after", MP4),
    ),
    "empty mask": (empty_mask, True, (False, "{0}/00003.h5", "mask of instance 1 is empty", "")),
    "box elsewhere": (
        shift_box,
        True,
        (False, "{0}/00003.h5", "the box of instance 1 is not around its mask", ""),
    ),
}


@pytest.fixture
def corpus(tmp_path: Path, corpus_writer: Callable[..., Path]) -> tuple[Path, dict[str, str]]:
    """One video for each fault and two more; names by fault."""
    names = {fault: f"-video_{number}" for number, fault in enumerate(FAULTS)}
    video = ("0", 12, {0: "a man", 1: "a dog"}, [3, 9])
    videos = {name: video for name in [*names.values(), "sound", "also-sound"]}
    return corpus_writer(tmp_path / "a2d", videos), names


def same(finding: Finding, wanted: tuple[bool, str, str, str], video_id: str) -> bool:
    fatal, where, what, fetch = wanted
    return (
        finding.fatal == fatal
        and finding.where.startswith(where.format(video_id))
        and what.format(video_id) in finding.what
        and finding.fetch == fetch.format(video_id)
    )


@pytest.mark.parametrize("deep", [False, True])
def test_all_planted_faults_and_nothing_else(
    corpus: tuple[Path, dict[str, str]], deep: bool
) -> None:
    root, names = corpus
    assert verify_a2d(root, deep).findings == ()
    for fault, (plant, _, _) in FAULTS.items():
        plant(root, names[fault])
    wanted = {fault: found for fault, (_, late, found) in FAULTS.items() if deep or not late}
    found = list(verify_a2d(root, deep).findings)
    for fault, finding in wanted.items():
        match = [f for f in found if same(f, finding, names[fault])]
        assert len(match) == 1, f"{fault}: {match or found}"
        found.remove(match[0])
    assert found == []
    assert len(wanted) == (20 if deep else 17)


def test_glitches_of_the_published_files_are_no_findings(corpus: tuple[Path, dict]) -> None:
    root, _ = corpus
    with h5py.File(annotation(root, "sound")) as file:
        masks, boxes = file["reMask"][:], file["reBBox"][:]
    boxes[2:, 1] += 100  # leaves the image
    rewrite(
        annotation(root, "sound"),
        instance=np.array([0, 0]),
        reMask=np.concatenate([masks, masks[:1]]),
        reBBox=boxes,
    )
    text = (root / SENTENCES).read_text()
    assert "T6bNPuKV-wY,1 (copy)" in text
    assert verify_a2d(root).findings == ()


def test_a_root_without_its_folders(tmp_path: Path) -> None:
    found = verify_a2d(tmp_path)
    assert [(f.fatal, f.where) for f in found.findings] == [
        (True, "a2d_annotation.txt"),
        (True, "a2d_annotation_with_instances"),
        (True, "clips320H"),
        (True, "videoset.csv"),
        (False, "a2d_missed_videos.txt"),
    ]
    assert "Release/clips320H" in found.fix_list()


def test_counts_of_the_real_lists(real_data: Path, tmp_path: Path) -> None:
    a2d, text = real_data / "a2d", tmp_path / "text_annotations"
    for folder in ("Release/clips320H", FOLDER):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(a2d / "videoset.csv", tmp_path / "Release")
    for name in ("a2d_annotation.txt", "a2d_missed_videos.txt"):
        shutil.copy(a2d / name, text)
    found = verify_a2d(tmp_path)
    assert all(count.found == count.published for count in found.counts)
    assert {f.what for f in found.findings} == {"the video is missing", "has no annotated frame"}
    assert len(found.findings) == 2 * 3754 and len(found.fix_list()) == 2 * 3754
    add_line(tmp_path, SENTENCES, "-4KMQsUaSAQ,0,one more")
    (unlike,) = [f for f in verify_a2d(tmp_path).findings if not f.fatal]
    assert (unlike.where, unlike.what) == ("sentences", "6656, but 6655 were published")


def test_other_layouts(tmp_path: Path, video_writer: Callable[..., Path]) -> None:
    for name in ("one", "two", "three"):
        video_writer(tmp_path / "videos" / f"{name}.mp4", np.full((10, 32, 48, 3), 90, np.uint8))
    rows = ["one,0,a dog", "two,0,?!", "two,1,a cat", "three,0,a bird"]
    (tmp_path / "sentences.csv").write_text("\n".join(["video_id,instance_id,query", *rows]))
    for video_id, frame, size in (
        ("one", 3, (32, 48)),
        ("one", 4, (16, 24)),
        ("two", 40, (32, 48)),
    ):
        path = tmp_path / "masks" / video_id / "0" / f"{frame}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, 255, np.uint8)).save(path)
    sources = open_all(DataConfig("folder", str(tmp_path), train_split="x", test_split="x"))
    assert len(verify_sources(sources, False, tmp_path, {"videos": 3}).findings) == 2
    cut(tmp_path / "videos" / "three.mp4")
    found = verify_sources(sources, True, tmp_path, {"videos": 4}).findings
    assert [(f.fatal, f.where, f.fetch) for f in found] == [
        (True, "one frame 4", ""),
        (True, "three", "videos/three.mp4"),
        (True, "two", ""),
        (True, "two frame 40", ""),
        (False, "videos", ""),
    ]


def test_the_program(
    corpus: tuple[Path, dict[str, str]], tmp_path: Path, run_tool: Callable[..., Any]
) -> None:
    root, _ = corpus
    sound = run_tool("verify_dataset", "--data", root)
    assert sound.code == 0 and "0 fatal findings, 0 warnings" in sound.output
    clip(root, "sound").unlink()
    again, report = tmp_path / "again.txt", tmp_path / "report.json"
    options = ("--deep", "--fix-list", again, "--out", report)
    broken = run_tool("verify_dataset", "--data", root, *options)
    assert broken.code == 1 and "fatal    sound  the video is missing" in broken.output
    assert again.read_text() == "Release/clips320H/sound.mp4\n"
    assert json.loads(report.read_text())["findings"][0]["where"] == "sound"
    assert run_tool("verify_dataset").errors.startswith("error: wanted --data ROOT")
    none = run_tool("verify_dataset", "--data", tmp_path / "none")
    assert none.code == 2 and none.errors.startswith("error: no folder at")
