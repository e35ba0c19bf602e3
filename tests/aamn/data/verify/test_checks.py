"""The data set checker names what is wrong, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from aamn.config.schema import DataConfig
from aamn.data.datasets.registry import open_all
from aamn.data.verify import a2d as module
from aamn.data.verify.a2d import verify_a2d
from aamn.data.verify.checks import (
    Count,
    Finding,
    compare,
    count_frames,
    is_truncated,
    stops_early,
    unlike_published,
    verification,
    verify_sources,
)

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


def test_oddities_of_the_lists(a2d_root: Path) -> None:
    def found() -> list[tuple[bool, str, str]]:
        return [(f.fatal, f.where, f.what) for f in verify_a2d(a2d_root).findings]

    assert found() == []
    add_line(a2d_root, "text_annotations/a2d_missed_videos.txt", " nobody")
    add_line(a2d_root, "Release/videoset.csv", "sec_ond,18,0,0,48,64,8,2,0")
    add_line(a2d_root, SENTENCES, "sec_ond,1 (copy),the cat")  # known of another video alone
    add_line(a2d_root, SENTENCES, "")
    add_line(a2d_root, SENTENCES, "sec_ond,0,one, two and three")
    add_line(a2d_root, SENTENCES, "sec_ond,0")
    assert found() == [
        (True, "a2d_annotation.txt:12", "sec_ond has a row without a sentence"),
        (False, "Release/videoset.csv:5", "sec_ond is listed twice"),
        (False, "a2d_annotation.txt:9", "sec_ond: the instance '1 (copy)' is no whole number"),
        (False, "a2d_missed_videos.txt", "nobody is not in videoset.csv"),
    ]
    path = a2d_root / SENTENCES
    path.write_text(path.read_text().split("\n", 1)[1])
    report = verify_a2d(a2d_root)
    assert (True, "a2d_annotation.txt") in [(f.fatal, f.where) for f in report.findings]
    assert SENTENCES in report.fix_list()


def test_a_damaged_row_is_said_once(a2d_root: Path) -> None:
    edit_row(a2d_root, "missed", lambda row: row[:5])
    found = [(f.fatal, f.where) for f in verify_a2d(a2d_root).findings]
    assert found == [(True, "Release/videoset.csv:4")]  # and not that a missed video is unknown


def test_what_is_counted_in_the_lists(a2d_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {
        "videos": 4,
        "train videos": 3,
        "test videos": 1,
        "missed videos": 1,
        "sentences": 7,
        "annotated frames": 9,
    }
    report = verify_a2d(a2d_root)
    assert {c.name: c.found for c in report.counts} == counts
    assert {c.published for c in report.counts} == {None}  # a small corpus is another one
    monkeypatch.setattr(module, "OWN_CORPUS", 4)
    report = verify_a2d(a2d_root)
    assert {c.name: c.published for c in report.counts} == module.PUBLISHED
    assert [(f.fatal, f.where, f.what) for f in report.findings] == [
        (False, name, f"{counts[name]}, but {module.PUBLISHED[name]} were published")
        for name in sorted(counts)
    ]


def box(kind: bytes, content: int, header: bytes = b"") -> bytes:
    """A box of an mp4: its size, its kind, and so many bytes."""
    return (header or (8 + content).to_bytes(4, "big")) + kind + bytes(content)


FREE, MOOV, MDAT = box(b"free", 3), box(b"moov", 20), box(b"mdat", 30)


@pytest.mark.parametrize(
    ("content", "cut_off"),
    [
        (FREE + MDAT + MOOV, False),
        (MOOV + MDAT, False),
        (MOOV, False),
        (MOOV + box(b"free", 0), False),
        (b"", True),
        (FREE + MDAT, True),  # no index
        (MOOV + MDAT[:-1], True),
        (MDAT + MOOV[:-1], True),
        (MOOV + MDAT + b"123", True),
        (MOOV + MDAT + b"1234567", True),
        (MOOV + box(b"mdat", 30, bytes(4)), False),  # to the end of the file
        (MOOV + box(b"mdat", 16, bytes(3) + b"\x07"), True),
        (MOOV + b"\x00\x00\x00\x01mdat" + (21).to_bytes(8, "big") + bytes(5), False),
        (MOOV + b"\x00\x00\x00\x01mdat" + (22).to_bytes(8, "big") + bytes(5), True),
        (b"\x00\x00\x00\x01mdat" + (20).to_bytes(8, "big") + bytes(4) + MOOV, False),
    ],
)
def test_an_mp4_is_whole_when_its_boxes_fill_it(
    tmp_path: Path, content: bytes, cut_off: bool
) -> None:
    (tmp_path / "v.mp4").write_bytes(content)
    assert is_truncated(tmp_path / "v.mp4") == cut_off


@dataclass
class Announced:
    """A video that promises `announced` frames and decodes another number."""

    announced: int
    decoded: int

    def __len__(self) -> int:
        return self.decoded


@pytest.mark.parametrize(
    ("announced", "decoded", "early"),
    [
        (100, 100, ""),
        (100, 90, ""),
        (100, 120, ""),
        (0, 3, ""),
        (100, 89, "after 89 of 100 frames"),
    ],
)
def test_a_tenth_of_a_video_may_be_missing(announced: int, decoded: int, early: str) -> None:
    video = Announced(announced, decoded)
    said = stops_early(video)
    assert said.endswith(early) and bool(said) == bool(early)
    assert (count_frames(video, False), count_frames(video, True)) == (announced, decoded)


def test_a_report_puts_the_worst_first() -> None:
    findings = [
        Finding(False, "b", "odd"),
        Finding(True, "long name", "gone", "x/b.mp4"),
        Finding(True, "a", "worse", "x/b.mp4"),
        Finding(True, "a", "bad", "x/a.mp4"),
    ]
    report = verification([Count("videos", 3, 4), Count("sentences", 12)], findings)
    assert report.fatal == 3 and report.fix_list() == ["x/a.mp4", "x/b.mp4"]
    assert report.table().split("\n") == [
        f"{'videos':28} {3:7}  (published: 4)",
        f"{'sentences':28} {12:7}",
        "",
        "fatal    a          bad",
        "fatal    a          worse",
        "fatal    long name  gone",
        "warning  b          odd",
        "",
        "3 fatal findings, 1 warnings",
    ]
    plain = report.to_dict()
    assert plain["counts"][0] == {"name": "videos", "found": 3, "published": 4}
    assert plain["findings"][3] == {
        "fatal": False,
        "where": "b",
        "what": "odd",
        "fetch": "",
        "severity": "warning",
    }
    assert verification([Count("videos", 3)], []).table().endswith("0 fatal findings, 0 warnings")


@pytest.mark.parametrize(
    ("name", "found", "published", "warned"),
    [("videos", 3, 3, False), ("videos", 3, 4, True), ("videos", 3, None, False)],
)
def test_counts_beside_the_published_ones(
    name: str, found: int, published: int | None, warned: bool
) -> None:
    counts = compare({name: found}, {} if published is None else {name: published, "other": 7})
    assert counts == [Count(name, found, published)]
    said = list(unlike_published(counts))
    assert said == ([Finding(False, name, "3, but 4 were published")] if warned else [])


@pytest.mark.parametrize(
    ("shift", "odd"),
    [((0, 0), False), ((3, 0), False), ((4, 0), True), ((0, 6), True), ((0, 5), False)],
)
def test_a_box_may_be_loose_but_not_elsewhere(
    a2d_root: Path, shift: tuple[int, int], odd: bool
) -> None:
    path = annotation(a2d_root, "sec_ond", 1)  # 6 columns and 10 rows, (1, 10) to (7, 20)
    x, y = shift  # of 6 columns 3 overlap: 3 / 9; 2: 2 / 10; of 10 rows 5: 5 / 15; 4: 4 / 16
    rewrite(path, reBBox=np.array([[1.0 + x], [10 + y], [7 + x], [20 + y]]))
    found = [(f.where, f.what) for f in verify_a2d(a2d_root, deep=True).findings]
    said = ("sec_ond/00001.h5", "the box of instance 0 is not around its mask")
    assert found == ([said] if odd else [])


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
        ("two", 10, (32, 48)),
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
        (True, "two frame 10", ""),
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
    empty_mask(root, "also-sound")
    shallow, deep = (run_tool("verify_dataset", "--data", root, *o) for o in ((), ("--deep",)))
    assert "also-sound/00003.h5" not in shallow.output
    assert "warning  also-sound/00003.h5  the mask of instance 1 is empty" in deep.output
    assert run_tool("verify_dataset").errors.startswith("error: wanted --data ROOT")
    none = run_tool("verify_dataset", "--data", tmp_path / "none")
    assert none.code == 2 and none.errors.startswith("error: no folder at")


def test_the_program_checks_other_layouts(
    tmp_path: Path, video_writer: Callable[..., Path], run_tool: Callable[..., Any]
) -> None:
    video_writer(tmp_path / "one.mp4", np.full((4, 32, 48, 3), 90, np.uint8))
    table = tmp_path / "sentences.csv"
    table.write_text("video_id,instance_id,query\none,0,a dog\n")
    by_option = run_tool("verify_dataset", "--data", tmp_path, "--kind", "folder")
    settings = ("--set", f"data.root={tmp_path}", "--set", "data.kind=folder")
    assert by_option.code == 0 and run_tool("verify_dataset", *settings).output == by_option.output
    assert by_option.output.split()[:4] == ["videos", "1", "sentences", "2"]
    for frame, size in ((0, (32, 48)), (2, (16, 24))):
        path = tmp_path / "masks" / "one" / "0" / f"{frame}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, 255, np.uint8)).save(path)
    codes = [run_tool("verify_dataset", *settings, *deep).code for deep in ((), ("--deep",))]
    assert codes == [0, 1]  # the second mask is of another size
    again = tmp_path / "again.txt"
    table.write_text("video_id,instance_id,query\none,0,?!\n")
    broken = run_tool("verify_dataset", *settings, "--fix-list", again)
    assert broken.code == 1 and "fatal    one  the sentence '?!' holds no word" in broken.output
    assert again.read_text() == ""


def test_the_program_knows_what_jhmdb_published(
    tmp_path: Path, run_tool: Callable[..., Any]
) -> None:
    for folder in ("puppet_mask", "Rename_Images"):
        (tmp_path / folder).mkdir()
    (tmp_path / "jhmdb_annotation.txt").write_text("video_id,query\n")
    found = run_tool("verify_dataset", "--data", tmp_path, "--kind", "jhmdb")
    assert found.code == 0 and "0 fatal findings, 2 warnings" in found.output
    for name in ("videos", "sentences"):
        assert f"warning  {name:9}  0, but 928 were published" in found.output
