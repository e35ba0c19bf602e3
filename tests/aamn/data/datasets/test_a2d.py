"""A2D Sentences: its files as they really are, glitches included."""

from __future__ import annotations

import csv
import logging
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aamn.data.datasets.a2d import (
    A2DSentences,
    Video,
    read_annotation,
    read_sentences,
    read_videoset,
    text_rows,
)
from proposals.errors import InputError


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def rewrite(path: Path, **members: np.ndarray) -> None:
    with h5py.File(path, "r+") as file:
        for name, value in members.items():
            del file[name]
            file[name] = value


def annotation(root: Path, video_id: str, frame: int) -> Path:
    folder = root / "text_annotations" / "a2d_annotation_with_instances"
    return folder / video_id / f"{frame:05d}.h5"


def test_what_a_split_holds(a2d_root: Path) -> None:
    source = A2DSentences(a2d_root, "train")
    assert source.video_ids == ["--first", "sec_ond"]
    assert source.texts() == ["man on the left walking", "dog on the right", "the cat runs"]
    first, dog = source.sentences("--first")
    assert (first.instance, first.actor, first.action) == (0, 1, 8)
    assert (dog.instance, dog.actor, dog.action, dog.kind, dog.distractors) == (1, 7, 7, "", 0)
    found = [(k.video_id, k.frame, len(k.expressions)) for k in source.key_frames]
    assert found == [("--first", 2, 2), ("--first", 8, 2), ("sec_ond", 0, 1), ("sec_ond", 7, 1)]
    assert A2DSentences(a2d_root, "test").video_ids == ["third-3"]


def test_targets_are_the_masks_that_were_written(
    a2d_root: Path, corpus_mask: Callable[[int, int], np.ndarray]
) -> None:
    for split in ("train", "test"):
        source = A2DSentences(a2d_root, split)
        for key in source.key_frames:
            for expression, target in zip(key.expressions, source.targets(key), strict=True):
                wanted = corpus_mask(expression.instance, key.frame + 1)
                assert target.instance == expression.instance
                assert np.array_equal(target.mask.numpy(), wanted)
                left = 8 * expression.instance + key.frame + 1
                assert target.box.tolist() == [left, 10, left + 6, 20]


def test_frames_come_from_either_folder_of_clips(a2d_root: Path) -> None:
    assert len(A2DSentences(a2d_root).frames("--first")) == 12
    release = a2d_root / "Release"
    (release / "clips320H").rename(release / "CLIPS320")
    assert len(A2DSentences(a2d_root).frames("--first")) == 12


def test_an_instance_missing_in_a_frame_has_no_pair_there(a2d_root: Path) -> None:
    path = annotation(a2d_root, "--first", 3)
    with h5py.File(path) as file:
        mask, box = file["reMask"][1], file["reBBox"][:, 1]
    rewrite(path, instance=np.array([1]), reMask=mask, reBBox=box, id=np.array([[77]]))
    source = A2DSentences(a2d_root)
    assert [e.instance for e in source.key_frames[0].expressions] == [1]
    assert source.targets(source.key_frames[0])[0].box.tolist() == [11, 10, 17, 20]
    assert [e.instance for e in source.key_frames[1].expressions] == [0, 1]


def test_of_an_id_listed_twice_the_first_counts(
    a2d_root: Path, corpus_mask: Callable[[int, int], np.ndarray]
) -> None:
    rewrite(annotation(a2d_root, "--first", 3), instance=np.array([1, 1]))
    source = A2DSentences(a2d_root)
    (target,) = source.targets(source.key_frames[0])
    assert np.array_equal(target.mask.numpy(), corpus_mask(0, 3))


def test_surplus_masks_are_left_and_boxes_clipped(tmp_path: Path) -> None:
    path = tmp_path / "00016.h5"
    masks = np.zeros((3, 8, 6), np.uint8)  # (n, W, H)
    masks[0, 2, 1] = masks[2] = 1
    with h5py.File(path, "w") as file:
        file["instance"] = np.array([5, 7])
        file["reMask"] = masks
        file["reBBox"] = np.array([[-2.0, 1], [0, -0.5], [9, 8], [6, 7.5]])
        file["id"] = np.array([[18, 77]])
    read = read_annotation(path)
    assert read.masks.shape == (2, 6, 8)
    assert np.argwhere(read.masks[0]).tolist() == [[1, 2]]  # row, column
    assert not read.masks[1].any()
    assert read.boxes.tolist() == [[0, 0, 8, 6], [1, 0, 8, 6]]


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("flat", [True, False])
def test_one_instance_alone(tmp_path: Path, shape: tuple[int, ...], flat: bool) -> None:
    path = tmp_path / "00001.h5"
    with h5py.File(path, "w") as file:
        file["instance"] = np.array([3]) if flat else np.array([[3]])
        file["reMask"] = np.ones((8, 6), np.uint8)
        file["reBBox"] = np.array([1.0, 2, 5, 6]).reshape(shape)
    read = read_annotation(path)
    assert read.masks.shape == (1, 6, 8)
    assert read.boxes.tolist() == [[1, 2, 5, 6]]
    assert (read.instances.tolist(), read.ids.tolist()) == ([3], [0])


def write_members(path: Path, **members: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in members.items():
            file[name] = value
    return path


def test_classes_that_are_not_said_are_unknown(tmp_path: Path) -> None:
    members = {"reMask": np.full((3, 8, 6), 255, np.uint8), "reBBox": np.ones((4, 3))}
    path = write_members(
        tmp_path / "1.h5", instance=np.array([4, 2, 9]), id=np.array([[18.0, 77]]), **members
    )
    read = read_annotation(path)
    assert (read.instances.tolist(), read.ids.tolist()) == ([4, 2, 9], [18, 77, 0])
    assert read.ids.dtype == np.int64 and read.masks.dtype == bool and read.masks.all()
    assert [read.place(instance) for instance in (4, 2, 9)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("reBBox", np.ones((4, 1)), "2 instances, 2 masks and 1 boxes"),
        ("reBBox", np.ones(6), "2 instances, 2 masks and 0 boxes"),
        ("reMask", np.ones((8, 6), np.uint8), "2 instances, 1 masks and 2 boxes"),
        ("reMask", np.ones((2, 1, 8, 6), np.uint8), "2 instances"),
        ("instance", np.array([1, 2, 3]), "3 instances, 2 masks and 2 boxes"),
    ],
)
def test_annotation_that_is_not_whole_is_named(
    tmp_path: Path, name: str, value: np.ndarray, message: str
) -> None:
    members = {
        "instance": np.array([1, 2]),
        "reMask": np.ones((2, 8, 6)),
        "reBBox": np.ones((4, 2)),
    }
    path = write_members(tmp_path / "00007.h5", **{**members, name: value})
    with pytest.raises(InputError, match=rf"00007\.h5: {message}"):
        read_annotation(path)
    path = write_members(path, **{n: v for n, v in members.items() if n != name})
    with pytest.raises(InputError, match=rf"00007\.h5: cannot read '{name}'"):
        read_annotation(path)
    with pytest.raises(InputError, match=r"no annotation at .*none\.h5"):
        read_annotation(tmp_path / "none.h5")


def test_rows_as_they_are(a2d_root: Path) -> None:
    rows = read_sentences(a2d_root / "text_annotations" / "a2d_annotation.txt")
    assert ("--first", 0, "man on the left walking") in rows
    assert len(rows) == 6  # "1 (copy)" is left out
    videos = read_videoset(a2d_root / "Release" / "videoset.csv")
    assert len(videos) == 4  # the first line is no header
    assert (videos["--first"].height, videos["--first"].frames) == (48, 12)


def test_every_column_of_the_video_list(tmp_path: Path) -> None:
    path = tmp_path / "videoset.csv"
    path.write_text("-a_b,44,00:00:01,00:00:04,320,568,90,3, 1\r\nc,18,0,0,240,320,7,5,0\r\n")
    assert read_videoset(path) == {
        "-a_b": Video("-a_b", 44, 320, 568, 90, 3, "1"),
        "c": Video("c", 18, 240, 320, 7, 5, "0"),
    }


@pytest.mark.parametrize(
    "row", ["c,18,0,0,240,320,7,5", "c,18,0,0,240,320,7,5,0,0", "c,18,0,0,240,wide,7,5,0", ""]
)
def test_a_row_of_the_video_list_that_cannot_be_read_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "videoset.csv"
    path.write_text(f"a,18,0,0,240,320,7,5,0\n{row}\nb,18,0,0,240,320,7,5,0\n")
    with pytest.raises(InputError, match=rf"videoset\.csv, line 2: .* got '{row}'"):
        read_videoset(path)


HEADER = "video_id,instance_id,query"


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (f"{HEADER}\na,0,a dog\n", [["a", "0", "a dog"]]),
        (f"\ufeff{HEADER}\r\na,0,a dog\r\n", [["a", "0", "a dog"]]),
        ("video_id, instance_id, query\na,0,a dog", [["a", "0", "a dog"]]),
        (f"{HEADER}\n\na,0,one\n\nb,1,two\n\n", [["a", "0", "one"], ["b", "1", "two"]]),
        (f"{HEADER}\na,0,black, white, red\n", [["a", "0", "black, white, red"]]),
        (f'{HEADER}\na,0,"black, ""white"""\n', [["a", "0", 'black, "white"']]),
        (f"{HEADER}\na,0,\n", [["a", "0", ""]]),
        (f"{HEADER}\n", []),
    ],
)
def test_tables_as_they_come(tmp_path: Path, content: str, rows: list[list[str]]) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode())
    assert text_rows(path, HEADER) == rows


@pytest.mark.parametrize(
    ("header", "row", "wanted"),
    [
        (f"{HEADER},kind", "a,0,one, two,motion", ["a", "0", "one, two", "motion"]),
        (f"{HEADER},kind", 'a,0,"one, two", motion', ["a", "0", "one, two", " motion"]),
        (f"{HEADER},kind", "a,0,one,two,three,", ["a", "0", "one,two,three", ""]),
        ("video_id,query", "a,one,two", ["a", "one,two"]),
        ("video_id,x1,y1", "a,1,2", ["a", "1", "2"]),
    ],
)
def test_commas_belong_to_the_sentence(
    tmp_path: Path, header: str, row: str, wanted: list[str]
) -> None:
    (tmp_path / "table.csv").write_text(f"{header}\n{row}\n")
    assert text_rows(tmp_path / "table.csv", header) == [wanted]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"wanted the header video_id,instance_id,query, got ''"),
        ("video_id,query\na,dog\n", r"wanted the header .* got 'video_id,query'"),
        (f"{HEADER},split\na,0,dog,test\n", r"wanted the header .* got '.*,split'"),
        (f"{HEADER}\na,0,dog\nb,1\n", "line 3: wanted 3 columns"),
        (f"{HEADER}\nb\n", "line 2: wanted 3 columns"),
    ],
)
def test_a_table_of_another_form_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"table\.csv.*{message}"):
        text_rows(path, HEADER)


SETTINGS = settings(max_examples=30, deadline=None, derandomize=True)
IDS = st.text("aZ9-_()!@", min_size=1, max_size=5)
NUMBERS = st.integers(0, 20)


@SETTINGS
@given(st.lists(st.tuples(IDS, NUMBERS, st.text("aB ,\"'\n\té"))), st.sampled_from(["\n", "\r\n"]))
def test_sentences_are_read_as_csv_writes_them(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, str]], end: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "quoted.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator=end).writerows([HEADER.split(","), *rows])
    assert read_sentences(path) == [(v, n, " ".join(q.lower().split())) for v, n, q in rows]


@SETTINGS
@given(st.lists(st.tuples(IDS, NUMBERS, st.text("aB ,'.\té"))))
def test_sentences_without_quotes_keep_their_commas(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.csv"
    lines = [HEADER, *(f"{video},{number},{query}" for video, number, query in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_sentences(path) == [(v, n, " ".join(q.lower().split())) for v, n, q in rows]


def test_instances_that_are_no_whole_number_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "list.txt"
    wrong = ["1 (copy)", "-1", "2.0", "two", "", "\u00b2"]
    rows = [*(f"w{n},{instance},dog" for n, instance in enumerate(wrong)), "v, 3 ,dog"]
    path.write_text("\n".join([HEADER, *rows]), encoding="utf-8")
    with caplog.at_level(logging.INFO, "aamn"):
        assert read_sentences(path) == [("v", 3, "dog")]
    said = [record.message for record in caplog.records]
    assert len(said) == len(wrong)
    for n, instance in enumerate(wrong):
        assert "list.txt" in said[n] and f"w{n}" in said[n] and repr(instance) in said[n]


def test_what_was_read_is_counted(a2d_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aamn"):
        A2DSentences(a2d_root, "train")
    counts = "2 videos, 3 sentences, 4 annotated frames, 6 (sentence, frame) pairs"
    assert f"{a2d_root}, train: {counts}" in caplog.text and "no annotated" not in caplog.text
    (a2d_root / "text_annotations" / "a2d_missed_videos.txt").unlink()
    with caplog.at_level(logging.INFO, "aamn"):
        source = A2DSentences(a2d_root, "train")
    assert source.video_ids == ["--first", "sec_ond", "missed"]
    assert [key.video_id for key in source.key_frames] == ["--first"] * 2 + ["sec_ond"] * 2
    assert "1 of these videos have no annotated frame" in caplog.text
    assert caplog.text.rstrip().endswith("(first: missed)")


def test_other_files_beside_the_annotation_are_none(a2d_root: Path) -> None:
    path = annotation(a2d_root, "sec_ond", 1)
    for name in ("notes.h5", "\u00b2.h5"):
        (path.parent / name).touch()
    assert [k.frame for k in A2DSentences(a2d_root).key_frames] == [2, 8, 0, 7]


def test_where_a_missing_video_should_be(a2d_root: Path) -> None:
    wanted = a2d_root / "Release" / "clips320H" / "sec_ond.mp4"
    wanted.unlink()
    assert A2DSentences(a2d_root).video_path("sec_ond") == wanted


def test_tags_of_the_sentences(a2d_root: Path) -> None:
    text = a2d_root / "text_annotations"
    (text / "expression_kinds.csv").write_text(
        "video_id,instance_id,query,kind\n--first,0, Man on  the LEFT walking,location \n"
        "--first,1,another dog,motion\nT6bNPuKV-wY,1 (copy),bird standing,motion\n"
    )
    (text / "distractors.csv").write_text(
        "video_id,instance_id,query,distractors\n--first,0,man on the left walking,3\n"
    )
    source = A2DSentences(a2d_root)
    man, dog = source.sentences("--first")
    assert (man.kind, man.distractors, dog.kind, dog.distractors) == ("location", 3, "", 0)
    targets = source.targets(source.key_frames[0])
    assert [(t.kind, t.distractors) for t in targets] == [("location", 3), ("", 0)]
    edit(text / "distractors.csv", lambda s: s.replace(",3", ",three"))
    with pytest.raises(InputError, match=r"distractors\.csv.* 'three'"):
        A2DSentences(a2d_root)
    (text / "distractors.csv").rename(text / "look_alikes.csv")
    with pytest.raises(InputError, match=r"look_alikes\.csv is distractors\.csv by now"):
        A2DSentences(a2d_root)


def test_full_video_truth(a2d_root: Path) -> None:
    assert A2DSentences(a2d_root).full_video_targets("--first", 0) is None
    folder = a2d_root / "text_annotations" / "full_video"
    folder.mkdir()
    boxes = np.arange(2 * 12 * 4, dtype=np.float32).reshape(2, 12, 4)
    masks = np.zeros((2, 12, 48, 64), np.uint8)
    masks[1, 5, 3, 4] = 1
    with h5py.File(folder / "--first.h5", "w") as file:
        file["instance"], file["boxes"], file["masks"] = np.array([0, 1]), boxes, masks
    source = A2DSentences(a2d_root)
    truth = source.full_video_targets("--first", 1)
    assert torch.equal(truth.boxes, torch.from_numpy(boxes[1]))
    assert truth.masks.nonzero().tolist() == [[5, 3, 4]]
    assert source.full_video_targets("--first", 9) is None


def test_full_video_boxes_from_a_table(a2d_root: Path) -> None:
    table = a2d_root / "text_annotations" / "full_video_boxes.csv"
    header = "video_id,instance_id,frame,x1,y1,x2,y2\n"
    table.write_text(header + "--first,0,1,1,2,3,4\n--first,0,12,5,6,7,8\n--first,0,13,0,0,1,1\n")
    truth = A2DSentences(a2d_root).full_video_targets("--first", 0)
    assert truth.masks is None
    assert truth.boxes[[0, 11]].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert len(truth.boxes) == 12 and not truth.boxes[1:11].any()
    table.write_text(header + "--first,0,1,1,2,3,4\n--first,0,2,1,2,3,wide\n")
    with pytest.raises(InputError, match=r"full_video_boxes\.csv, line 3"):
        A2DSentences(a2d_root).full_video_targets("--first", 0)
    table.write_text("video,frame,box\n")
    with pytest.raises(InputError, match=r"wanted the header video_id,instance_id,frame,x1"):
        A2DSentences(a2d_root).full_video_targets("--first", 0)


def test_the_non_trivial_subset(a2d_root: Path, tmp_path: Path) -> None:
    assert A2DSentences(a2d_root).non_trivial() == frozenset()
    rewrite(annotation(a2d_root, "--first", 9), id=np.array([[18, 12]]))
    source = A2DSentences(a2d_root)
    assert source.non_trivial() == frozenset()  # the first frame that shows it says it is a dog
    rewrite(annotation(a2d_root, "--first", 3), id=np.array([[18, 12]]))
    assert A2DSentences(a2d_root).non_trivial() == {("--first", 0), ("--first", 1)}
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "video_id;instance_id;ref_exp;ref_exp_difficulty\n--first;1;dog;Non-trivial\n"
        "sec_ond;0;cat;Trivial\n"
    )
    assert source.non_trivial(labels) == {("--first", 1)}
    labels.write_text("video_id;instance_id;ref_exp\n--first;1;dog\n")
    with pytest.raises(InputError, match=r"labels\.csv: .*ref_exp_difficulty"):
        source.non_trivial(labels)
    labels.unlink()
    with pytest.raises(InputError, match=r"no file .*labels\.csv"):
        source.non_trivial(labels)


@pytest.mark.parametrize("alike", [(18, 17, 2), (18, 28, 0), (77, 71, 2), (10, 19, 2)])
def test_sentences_of_one_actor_class_are_not_trivial(
    a2d_root: Path, alike: tuple[int, int, int]
) -> None:
    *ids, count = alike  # 10 * actor + action: the actor alone decides
    rewrite(annotation(a2d_root, "--first", 3), id=np.array([ids]))
    assert len(A2DSentences(a2d_root).non_trivial()) == count


def test_a_source_is_picklable(a2d_root: Path) -> None:
    source = A2DSentences(a2d_root)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.key_frames == source.key_frames
    assert len(copy.targets(copy.key_frames[0])) == 2


FAULTS = {
    "no video list": (
        lambda root: (root / "Release" / "videoset.csv").unlink(),
        "no video list at",
    ),
    "a list with a header of its own": (
        lambda root: edit(root / "Release" / "videoset.csv", lambda s: "a,b\n" + s),
        "line 1: wanted nine columns",
    ),
    "no sentences": (
        lambda root: (root / "text_annotations" / "a2d_annotation.txt").unlink(),
        "no file at",
    ),
    "sentences without their header": (
        lambda root: edit(
            root / "text_annotations" / "a2d_annotation.txt", lambda s: s.split("\n", 1)[1]
        ),
        "wanted the header video_id,instance_id,query",
    ),
    "an annotation cut short": (
        lambda root: annotation(root, "--first", 3).write_bytes(b"\x89HDF\r\n"),
        "00003.h5 is no annotation, or a damaged one",
    ),
    "an annotation without instances": (
        lambda root: h5py.File(annotation(root, "--first", 3), "w").close(),
        "00003.h5: cannot read 'instance'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(a2d_root: Path, fault: str) -> None:
    plant, message = FAULTS[fault]
    plant(a2d_root)
    with pytest.raises(InputError, match=message):
        A2DSentences(a2d_root)


def test_faults_found_on_reading(a2d_root: Path) -> None:
    source = A2DSentences(a2d_root)
    rewrite(annotation(a2d_root, "--first", 3), reBBox=np.zeros((4, 1)))
    with pytest.raises(InputError, match="2 instances, 2 masks and 1 boxes"):
        source.targets(source.key_frames[0])
    source.video_path("sec_ond").unlink()
    with pytest.raises(InputError, match=r"no video at .*sec_ond.mp4"):
        source.frames("sec_ond")
    with pytest.raises(InputError, match="the train split has no video third-3"):
        source.sentences("third-3")
    with pytest.raises(InputError, match="not 'val'"):
        A2DSentences(a2d_root, "val")


def test_the_real_annotation_has_the_published_counts(real_data: Path, tmp_path: Path) -> None:
    a2d = real_data / "a2d"
    (tmp_path / "Release").mkdir()
    (tmp_path / "text_annotations").mkdir()
    shutil.copy(a2d / "videoset.csv", tmp_path / "Release")
    for name in ("a2d_annotation.txt", "a2d_missed_videos.txt"):
        shutil.copy(a2d / name, tmp_path / "text_annotations")
    text = (a2d / "a2d_annotation.txt").read_text()
    assert len(text.splitlines()) - 1 == 6655
    assert len(read_sentences(a2d / "a2d_annotation.txt")) == 6654
    videos = read_videoset(a2d / "videoset.csv")
    assert len(videos) == 3782
    assert sum(v.split == "0" for v in videos.values()) == 3036
    assert sum(v.annotated for v in videos.values()) == 11_926
    test, train = A2DSentences(tmp_path, "test"), A2DSentences(tmp_path, "train")
    assert (len(test.videos), len(test.video_ids), len(test.texts())) == (737, 737, 1295)
    assert len(test.videos) + len(train.videos) == 3782 - 28
    assert len(test.texts()) + len(train.texts()) == 6654
    labels = a2d / "test_expression_categories.csv"
    assert len(test.non_trivial(labels)) == 434
