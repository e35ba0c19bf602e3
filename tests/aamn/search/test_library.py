"""The library of videos: the answers of the folder, from a table that survives kills."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tiny_videos import Frames, job, loaded

from aamn.index.builder import build_index
from aamn.index.file import IndexFile
from aamn.index.indexed_video import IndexedVideo
from aamn.index.query_encoder import QueryEncoder
from aamn.search.folder import IndexFolder, is_library
from proposals.errors import InputError

pytest.importorskip("lancedb", reason="the extra search is not installed")

from aamn.search import library as library_module
from aamn.search.library import Library
from aamn.search.rows import rows_of

TEXTS = ["w3 w4", "w7", "w1 w9 w2", "w3"]
COUNTS = {"a": 1, "b": 5, "c": 17, "it's": 34, "e": 9}


class Shifted(Frames):
    """Another video a seed."""

    def __init__(self, count, seed):
        super().__init__(count)
        self.video = np.roll(self.video, seed, 2)


def build(model, folder, name, count, seed, **options):
    one = replace(job(model, Shifted(count, seed)), video_id=name)
    build_index(one, folder / f"{name}.h5", **options)
    return folder / f"{name}.h5"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("indexes"), loaded()
    for seed, (name, count) in enumerate(COUNTS.items()):
        build(model, folder, name, count, 7 * seed)
    return folder, model


@pytest.fixture
def library(indexed, tmp_path):
    """All videos, in a library of the test's own."""
    made = Library(tmp_path / "library")
    assert [*made.add(sorted(indexed[0].glob("*.h5")))] == sorted(COUNTS)
    return made


def told(hits):
    return [(hit.video_id, hit.frames, hit.text, hit.matched, hit.fps, hit.path) for hit in hits]


@pytest.mark.parametrize("top", [1, 3, 50])
@pytest.mark.parametrize("first_look", [1, 16])  # rows for a video: too few are looked for again
def test_the_hits_are_those_of_the_folder(indexed, library, top, first_look, monkeypatch):
    monkeypatch.setattr(library_module, "FIRST_LOOK", first_look)
    encoder = QueryEncoder(indexed[1])
    folder = IndexFolder(indexed[0], encoder).search(TEXTS, top, 0.3)
    found = library.searched_by(encoder).search(TEXTS, top, 0.3)
    assert [told(hits) for hits in found] == [told(hits) for hits in folder]
    for ours, theirs in zip(found, folder, strict=True):
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-5)


def test_a_path_is_the_weighted_mean_of_one_tube_a_clip(indexed, library):
    """Each path's vector is one of all means of at most a tube a clip, by its new frames."""
    rows = rows_of(indexed[0] / "c.h5")
    with IndexedVideo(IndexFile.read(indexed[0] / "c.h5")) as index:
        vectors, valid = index.file.array("vectors")[:], index.file.array("valid")[:]
        new = (index.windows[:, 2] - index.windows[:, 1]).tolist()
    sums, shares = np.zeros((1, vectors.shape[-1])), np.zeros((1, 1))
    for clip, count in enumerate(new):
        choices = np.vstack([np.zeros((1, vectors.shape[-1])), vectors[clip][valid[clip]] * count])
        taken = np.array([[0.0]] + [[count]] * valid[clip].sum())
        sums = (sums[:, None] + choices).reshape(-1, vectors.shape[-1])
        shares = (shares[:, None] + taken).reshape(-1, 1)
    means = sums[1:] / shares[1:]
    paths = rows.vectors[rows.levels == 1]
    assert len(paths) > 1 and len(np.unique(paths, axis=0)) == len(paths)
    assert max(np.abs(means - path).max(1).min() for path in paths) < 1e-5
    searched = library.searched_by(QueryEncoder(indexed[1]))
    sides, bias = searched._sides(searched.query_encoder.queries("w3 w4"))
    hits = searched.search("w3 w4", 50, level="paths", within="c")[0]
    wanted = sorted((paths @ sides[0] + bias).tolist(), reverse=True)
    assert [hit.score for hit in hits] == pytest.approx(wanted, abs=1e-5)


def test_a_video_alone_and_videos_since(library, indexed):
    searched = library.searched_by(QueryEncoder(indexed[1]))
    (inside,) = searched.search("w7", 4, within="it's")
    assert len(inside) == 4 and {hit.video_id for hit in inside} == {"it's"}
    assert [hit.score for hit in inside] == sorted((h.score for h in inside), reverse=True)
    first, stop = inside[0].frames.start, inside[0].frames.stop
    assert inside[0].seconds == (first / 10, stop / 10)
    hour = timedelta(hours=1)
    assert len(searched.search("w7", since=datetime.now() - hour)[0]) == 5
    assert searched.search("w7", since=datetime.now() + hour) == [[]]
    assert searched.search(["zebra"]) == [[]]
    track = searched.track(inside[0])
    assert track.text == "w7" and track.masks(range(2)).shape == (2, 40, 50)


def test_another_video_of_an_id_takes_the_rows_of_the_first(indexed, tmp_path):
    made, folder = Library(tmp_path / "library"), tmp_path / "indexes"
    folder.mkdir()
    model = indexed[1]
    paths = [build(model, folder, name, 9, 3) for name in "ab"]
    assert [*made.add(paths)] == ["a", "b"]
    rows, version = len(made), made.table.version
    assert [*made.add(paths)] == ["a", "b"] and made.table.version in (version, version + 1)
    assert len(made) == rows
    paths[0].unlink()
    build(model, folder, "a", 17, 5)
    assert [*made.add(paths)] == ["a", "b"]
    wanted = sum(len(rows_of(path).levels) for path in paths)
    assert len(made) == wanted > rows
    folder_hits = IndexFolder(folder, QueryEncoder(model)).search("w7")[0]
    assert told(made.searched_by(QueryEncoder(model)).search("w7")[0]) == told(folder_hits)
    assert made.remove(["a", "nobody"]) == 1
    assert len(made) == len(rows_of(paths[1]).levels)
    assert len(Library(tmp_path / "library")) == len(made), "another process sees the same"


def test_the_approximate_index_says_how_much_it_finds(library, indexed):
    searched = library.searched_by(QueryEncoder(indexed[1]))
    with pytest.raises(InputError, match="no approximate index"):
        searched.search("w7", approximate=True)
    assert searched.build_approximate(TEXTS) == 1.0  # so few rows are one cluster
    exact, near = (searched.search(TEXTS, 3, approximate=quick) for quick in (False, True))
    assert [told(hits) for hits in near] == [told(hits) for hits in exact]


def test_what_cannot_be_used_is_one_line(library, indexed, tmp_path):
    with pytest.raises(InputError, match="no library at"):
        Library(tmp_path / "none").searched_by(QueryEncoder(indexed[1]))
    other = loaded(seed=1)
    with pytest.raises(InputError, match="of another segmenter"):
        library.searched_by(QueryEncoder(other))
    path = build(other, tmp_path, "x", 3, 0)
    with pytest.raises(InputError, match="made by another segmenter"):
        [*library.add([path])]
    with pytest.raises(InputError, match="level: wanted one of tubes, paths"):
        library.searched_by(QueryEncoder(indexed[1])).search("w7", level="words")
    assert is_library(str(tmp_path / "library")) and not is_library(str(tmp_path))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"file: the library cannot be used|cannot write"):
        [*Library(tmp_path / "file").add([indexed[0] / "a.h5"])]


@pytest.mark.slow
def test_rows_of_a_killed_insert_are_those_that_it_had_acknowledged(indexed, tmp_path):
    """SIGKILL at any moment: whole videos, all acknowledged ones, at most one that was not."""
    path, place, root = indexed[0] / "c.h5", tmp_path / "library", Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}"}
    known, rows = 0, len(rows_of(path).levels)
    words = [sys.executable, "-m", "row_work_library", str(place), str(path), "0"]
    started = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    for line in started.stdout:
        known = int(line) + 1
        if known == 5:
            started.send_signal(signal.SIGKILL)
            break
    known += sum(1 for _ in started.stdout)
    started.wait()
    made = Library(place)
    assert len(made) in (known * rows, (known + 1) * rows)
    there = made._there([f"v{n}" for n in range(known + 1)])
    assert {f"v{n}" for n in range(known)} <= there.keys()
    assert all(count == rows for _, _, count in there.values())


def test_a_library_whose_making_was_cut_short_is_made_again(indexed, tmp_path):
    """As a full disk or a kill leaves it: the table's folder, and no table."""
    (tmp_path / "l/videos.lance/data").mkdir(parents=True)
    library = Library(tmp_path / "l")
    assert len(library) == 0
    assert [*library.add([indexed[0] / "a.h5"])] == ["a"]
    assert len(Library(tmp_path / "l")) == len(library) > 0
