"""The index file by itself: what is written is read again, and it is whole or absent."""

import errno
import fcntl
import json
import pickle
from dataclasses import fields, replace

import h5py
import numpy as np
import pytest

from aamn.index.file import (
    NO_END,
    WHOLE,
    ClipBlock,
    Header,
    IndexFile,
    Origin,
    Selection,
    index_path,
    written_index,
)
from proposals.errors import InputError

C, T, K, D, G = 5, 3, 2, 7, 4
ORIGIN = Origin("0123", {"detector": "d", "weights": "w"}, {"method": "dis"}, "bfloat16")
HEADER = Header(
    "a/b", "films/b.mp4", (40, 50), 12.5, {"b": 4, "a": 3}, ORIGIN, Selection(range(3, 9, 2))
)


def block(start, count, context=True):
    """Clips start, start + 1, ..., every number of which is another one."""
    rng = np.random.default_rng(start)
    windows = np.array([(n * T + 1, n * T, n * T + T) for n in range(start, start + count)])
    return ClipBlock(
        windows=windows,
        boxes=rng.random((count, T, K, 4), np.float32),
        vectors=rng.random((count, K, D), np.float32),
        valid=rng.random((count, K)) < 0.5,
        masks=rng.integers(0, 256, (count, K, T, G, G), np.uint8),
        links=rng.random((count, K, K), np.float32),
        context=rng.random((count, K, 1 + K), np.float32) if context else None,
    )


def written(path, blocks, header=HEADER):
    with written_index(path, header) as writer:
        for one in blocks:
            writer.add(one)
    return path


@pytest.mark.parametrize("context", [True, False], ids=["with context", "without"])
def test_blocks_are_read_again_as_one_with_their_header(context, tmp_path):
    blocks = [block(0, 2, context), block(2, 1, context), block(3, 2, context)]
    file = IndexFile.read(written(tmp_path / "new" / "v.h5", blocks))
    for name in (one.name for one in fields(ClipBlock)):
        parts = [getattr(one, name) for one in blocks]
        if parts[0] is None:
            assert file.optional(name) is None
            continue
        found, wanted = file.array(name)[:], np.concatenate(parts)
        assert found.dtype == wanted.dtype and (found == wanted).all(), name
    assert file.header == replace(HEADER, frames=C * T), "its end is that of the last clip"
    assert list(file.header.heads) == ["b", "a"], "in the order of their vectors"


def test_a_sentence_reads_one_tube_s_masks_from_the_disk(tmp_path):
    masks = IndexFile.read(written(tmp_path / "v.h5", [block(0, C)])).array("masks").data
    assert masks.chunks == (1, 1, T, G, G) and (masks.compression, masks.compression_opts) == (
        "gzip",
        1,
    )


def test_attributes_are_those_of_the_contract(tmp_path):
    with h5py.File(written(tmp_path / "v.h5", [block(0, C)])) as file:
        found = dict(file.attrs)
    assert found["selection"] == '{"frames": [3, 9, 2], "key_frames": null}'
    assert found["heads"] == '{"b": 4, "a": 3}' and found["size"].tolist() == [40, 50]
    assert (found["format"], found["version"], found["frames"]) == ("aamn-index", 3, 15)
    assert (found["video_id"], found["path"], found["fps"]) == ("a/b", "films/b.mp4", 12.5)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: f.attrs.__delitem__("fps"), "fps"),
        (lambda f: f.attrs.__setitem__("origin", "{"), "damaged"),
        (lambda f: f.attrs.__setitem__("origin", "{}"), "damaged"),
        (lambda f: f.attrs.__setitem__("size", [1, 2, 3]), "damaged"),
        (lambda f: f.__delitem__("links"), "damaged"),
        (lambda f: f["vectors"].resize(4, 0), r"of \[4, 5\] clips"),
        (lambda f: f["context"].resize(4, 0), r"of \[4, 5\] clips"),
        (lambda f: [f[name].resize(0, 0) for name in f], r"of \[0\] clips"),
        (lambda f: f.attrs.__setitem__("format", "aamn-flow"), "no index of a video"),
        (lambda f: f.attrs.__setitem__("version", 1), "version 1 .* reads 3"),
    ],
)
def test_damage_is_named_with_its_file(damage, said, tmp_path):
    path = written(tmp_path / "v.h5", [block(0, C)])
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(InputError, match=said) as found:
        IndexFile.read(path)
    assert str(path) in str(found.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "full"), "no space left"),
        (OSError(errno.EROFS, "read-only file system"), "file system is read-only"),
        (InputError("frame 3 cannot be decoded"), "frame 3 cannot be decoded"),
    ],
)
def test_an_error_leaves_the_index_that_was_there_and_nothing_else(error, said, tmp_path):
    path = written(tmp_path / "v.h5", [block(0, 1)])
    before = path.read_bytes()
    with pytest.raises(InputError, match=said), written_index(path, HEADER) as writer:
        writer.add(block(0, 2))
        raise error
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["v.h5"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file"):
        written(tmp_path / "file" / "v.h5", [block(0, 1)])


def test_a_file_is_written_by_one_at_a_time(tmp_path):
    path = tmp_path / "v.h5"
    with written_index(path, HEADER) as writer:
        with pytest.raises(InputError, match=r"v\.h5 is being written by process \d+"):
            written(path, [block(0, 1)])
        assert not path.exists()
        writer.add(block(0, 3))
    assert len(IndexFile.read(path).array("windows")) == 3


@pytest.mark.parametrize("other", ["removes it", "writes it anew"])
def test_who_gets_the_lock_of_a_file_that_is_gone_makes_its_own(other, tmp_path, monkeypatch):
    path, lock, locked = tmp_path / "v.h5", fcntl.flock, []

    def late(descriptor, mode):
        if not locked:  # between opening and locking, another one has ended
            held = path.with_name(".v.h5.lock")
            held.unlink()
            if other == "writes it anew":
                held.write_text("")
        locked.append(descriptor)
        lock(descriptor, mode)

    monkeypatch.setattr(fcntl, "flock", late)
    written(path, [block(0, 2)])
    assert len(locked) >= 2 and [p.name for p in tmp_path.iterdir()] == ["v.h5"]
    assert len(IndexFile.read(path).array("windows")) == 2


def test_a_file_is_opened_again_after_closing_pickling_and_in_another_process(tmp_path):
    file = IndexFile.read(written(tmp_path / "v.h5", [block(0, C)]))
    first = file.array("windows")
    assert file.array("windows").data.file.id == first.data.file.id, "opened once"
    copy = pickle.loads(pickle.dumps(file))
    file.close()
    assert not first.data, "its file is closed"
    for one in (file, copy):
        assert len(one.array("windows")) == C
    forked, file._process = file._file, -1
    assert len(file.array("windows")) == C and file._file is not forked


@pytest.mark.parametrize(
    ("mine", "theirs", "named"),
    [
        ({}, {}, ""),
        ({"model": "a"}, {"model": "b"}, "model"),
        ({"boxes": {"weights": "a"}}, {"boxes": {"weights": "b"}}, "boxes"),
        ({"flow": {"preset": "a"}}, {"flow": {}}, "flow"),
        ({"precision": "float32"}, {"precision": "bfloat16"}, "precision"),
        ({"flow": {"a": 1, "b": 2}}, {"flow": {"b": 2, "a": 1}}, ""),
    ],
)
def test_origins_differ_by_their_first_difference(mine, theirs, named):
    one, other = replace(ORIGIN, **mine), replace(ORIGIN, **theirs)
    found = one.difference(other)
    assert found.startswith(f"{named} is") if named else found == ""
    if named and mine[named]:
        values = (json.dumps(part[named]) for part in (mine, theirs))
        places = [found.index(words) for words in (*values, "in the one", "in the other")]
        assert places[0] < places[2] < places[1] < places[3]


@pytest.mark.parametrize(
    ("selection", "clip", "wanted"),
    [
        (WHOLE, range(0, 3), True),
        (Selection(key_frames=(5,)), range(9, 12), True),
        (Selection(range(4, 6)), range(1, 4), False),
        (Selection(range(4, 6)), range(2, 5), True),
        (Selection(range(4, 6)), range(5, 8), True),
        (Selection(range(4, 6)), range(6, 9), False),
        (Selection(range(0, 90, 10)), range(11, 20), False),
        (Selection(range(0, 90, 10)), range(12, 21), True),
        (Selection(range(7, NO_END)), range(1000, 1003), True),
    ],
)
def test_clips_that_a_selection_wants(selection, clip, wanted):
    assert selection.wants(clip) == wanted


@pytest.mark.parametrize(
    ("selection", "said", "stored", "whole"),
    [
        (WHOLE, "frames", '{"frames": null, "key_frames": null}', True),
        (Selection(range(4, 5)), "frames 4 to 4",
         '{"frames": [4, 5, 1], "key_frames": null}', False),
        (Selection(range(0, NO_END)), "frames 0 to the end",
         '{"frames": [0, null, 1], "key_frames": null}', False),
        (Selection(range(2, NO_END, 3)), "frames 2 to the end in steps of 3",
         '{"frames": [2, null, 3], "key_frames": null}', False),
        (Selection(key_frames=(1, 8)), "2 key frames",
         '{"frames": null, "key_frames": [1, 8]}', False),
    ],
)  # fmt: skip
def test_a_selection_in_words_and_in_the_file(selection, said, stored, whole):
    assert (str(selection), selection.to_json(), selection.whole) == (said, stored, whole)
    assert Selection.from_json(stored) == selection


@pytest.mark.parametrize(
    ("held", "wanted", "enough"),
    [
        (Selection(range(3, 9)), Selection(range(2, 9)), False),
        (Selection(range(3, 9)), Selection(range(3, 10)), False),
        (Selection(range(3, 9, 2)), Selection(range(3, 9)), False),
        (Selection(range(3, 9)), WHOLE, False),
        (WHOLE, WHOLE, True),
        (Selection(key_frames=(3,)), Selection(range(3, 4)), False),
        (Selection(range(3, 4)), Selection(key_frames=(3,)), False),
        (Selection(key_frames=(3, 5)), Selection(key_frames=(3,)), False),
    ],
)
def test_a_part_never_stands_in_for_more(held, wanted, enough):
    assert held.covers(wanted) == enough


@pytest.mark.parametrize(
    "frames", [range(4, 4), range(5, 4), range(-1, 4), range(4, 0, -1)], ids=str
)
def test_frames_that_are_none_are_refused_where_they_are_chosen(frames):
    with pytest.raises(InputError, match="start < end"):
        Selection(frames)


@pytest.mark.parametrize("keys", [(), (3, 1), (2, 2), (-1, 2)], ids=str)
def test_key_frames_that_do_not_rise_are_refused_where_they_are_chosen(keys):
    with pytest.raises(InputError, match="key frames"):
        Selection(key_frames=keys)


def test_a_video_s_id_is_one_name_of_a_file():
    names = {index_path("x", name).name for name in ("a/b", "a%2Fb", "a%b", "a b", "ä.mp4")}
    assert names == {"a%2Fb.h5", "a%252Fb.h5", "a%25b.h5", "a b.h5", "ä.mp4.h5"}
