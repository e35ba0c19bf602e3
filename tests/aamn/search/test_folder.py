"""Search through many videos against asking each of them."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from tiny_videos import Frames, Store, job, loaded

from aamn.index.builder import build_index
from aamn.index.query_encoder import QueryEncoder
from aamn.index.video_index import VideoIndex
from aamn.search.folder import IndexFolder
from proposals.errors import InputError

TEXTS = ["w3 w4", "w7", "w1 w9 w2", "w3"]
COUNTS = {"a": 1, "b": 5, "c": 17, "d": 34, "e": 9}


class Shifted(Frames):
    """Another video a seed."""

    def __init__(self, count, seed):
        super().__init__(count)
        self.video = np.roll(self.video, seed, 2)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("indexes"), loaded()
    for seed, (name, count) in enumerate(COUNTS.items()):
        one = replace(job(model, Shifted(count, 7 * seed)), video_id=name)
        build_index(one, folder / f"{name}.h5")
    return folder, model


def asked_one_by_one(folder, model, text):
    """(score, video, frames) of every video's best tube, best first."""
    found = []
    for path in sorted(folder.glob("*.h5")):
        index = VideoIndex.read(path, model)
        total = index.query([text])[0].total
        best, place = max(
            (float(score), (clip, tube))
            for clip, row in enumerate(total)
            for tube, score in enumerate(row)
        )
        if best > -np.inf:
            found.append((best, index.video_id, range(*index.windows[place[0], 1:].tolist())))
    return sorted(found, key=lambda one: -one[0])


@pytest.mark.parametrize("top", [1, 3, 50])
def test_search_finds_what_asking_every_video_finds(indexed, top):
    folder, model = indexed
    library = IndexFolder(folder, QueryEncoder(model))
    answers = library.search(TEXTS, top)
    for text, hits in zip(TEXTS, answers, strict=True):
        wanted = asked_one_by_one(folder, model, text)[:top]
        assert [(hit.video_id, hit.frames) for hit in hits] == [one[1:] for one in wanted]
        assert [hit.score for hit in hits] == pytest.approx([one[0] for one in wanted], abs=1e-5)
        alone = library.search([text], top)[0]
        assert [hit.video_id for hit in alone] == [hit.video_id for hit in hits]
    track = library.open(answers[0][0]).query([TEXTS[0]])[0]
    assert track.index.video_id == answers[0][0].video_id


def test_a_hit_is_the_best_inner_product_of_its_video(indexed):
    folder, model = indexed
    with torch.inference_mode():
        (side,) = model.segmenter.embed_queries([model.vocabulary.encode("w3 w4")])
    wanted = []
    for name in COUNTS:
        with h5py.File(folder / f"{name}.h5") as file:
            scores = file["vectors"][:] @ side.vector.numpy() + float(side.bias)
            scores[~file["valid"][:]] = -np.inf
            clip = np.unravel_index(scores.argmax(), scores.shape)[0]
            frames = range(*file["windows"][clip, 1:].tolist())
            wanted.append((pytest.approx(scores.max(), abs=1e-5), name, frames))
    wanted.sort(key=lambda one: -one[0].expected)
    hits = IndexFolder(folder, QueryEncoder(model)).search(["w3 w4"])[0]
    assert [(hit.score, hit.video_id, hit.frames) for hit in hits] == wanted
    assert [hit.path for hit in hits] == [folder / f"{name}.h5" for _, name, _ in wanted]


def test_a_text_alone_is_one_sentence_and_a_hit_has_its_track(indexed):
    folder, model = indexed
    library = IndexFolder(folder, QueryEncoder(model))
    (hits,) = library.search("w3 w4", 2)
    assert hits == library.search(["w3 w4"], 2)[0] and len(hits) == 2
    track = library.track(hits[0])
    wanted = library.open(hits[0]).query(["w3 w4"])[0]
    assert (track.text, track.video_id) == ("w3 w4", hits[0].video_id)
    assert track.score == wanted.score and (track.tubes == wanted.tubes).all()
    first, last = hits[0].frames[0], hits[0].frames[-1]
    said = f"Hit('w3 w4' in '{hits[0].video_id}', score {hits[0].score:.3f}, "
    assert repr(hits[0]) == f"{said}frames {first} to {last})"
    tubes = sum(
        int(VideoIndex.read(p, model).file.array("valid")[:].sum()) for p in folder.iterdir()
    )
    assert repr(library) == f"IndexFolder(5 videos, {tubes} tubes)"


def test_equal_videos_come_by_name_and_unfinished_files_are_passed_by(indexed, tmp_path):
    folder, model = indexed
    for name in ("x", "m", "a"):
        (tmp_path / f"{name}.h5").write_bytes((folder / "c.h5").read_bytes())
    (tmp_path / "b.h5.tmp").write_text("half")
    library = IndexFolder(tmp_path, QueryEncoder(model))
    hits = library.search(["w3"], 2)[0]
    assert len(library) == 3 and [hit.path.name for hit in hits] == ["a.h5", "m.h5"]
    assert [hit.video_id for hit in hits] == ["c", "c"], "the id is the index's own"
    with pytest.raises(InputError, match=str(tmp_path / "none")):
        IndexFolder(tmp_path / "none", QueryEncoder(model))
    with pytest.raises(InputError, match="'!'"):
        library.search(["w3", "!"])


def test_ten_videos_a_sentence_unless_told(indexed, tmp_path):
    folder, model = indexed
    for number in range(20):
        (tmp_path / f"{number:02}.h5").write_bytes((folder / "b.h5").read_bytes())
    library = IndexFolder(tmp_path, QueryEncoder(model))
    for hits in library.search(["w3", "w4"]):
        assert [hit.path.stem for hit in hits] == [f"{number:02}" for number in range(10)]


def test_a_video_without_boxes_is_never_found(indexed, tmp_path):
    class Empty(Store):
        def window(self, *given):
            window = super().window(*given)
            window.valid[:] = False
            return window

    folder, model = indexed
    nobody = job(model, Frames(5))
    build_index(
        replace(nobody, boxes=type(nobody.boxes)(Empty(), "v", nobody.frames.size)),
        tmp_path / "v.h5",
    )
    with pytest.raises(InputError, match="not one of its 1 videos has a tube"):
        IndexFolder(tmp_path, QueryEncoder(model))
    (tmp_path / "b.h5").write_bytes((folder / "b.h5").read_bytes())
    library = IndexFolder(tmp_path, QueryEncoder(model))
    assert len(library) == 1 and [hit.video_id for hit in library.search(["w3"])[0]] == ["b"]


def test_foreign_and_damaged_indexes_are_named(indexed, tmp_path):
    folder, model = indexed
    with pytest.raises(InputError, match=r"a\.h5 was made by another segmenter"):
        IndexFolder(folder, QueryEncoder(loaded(seed=1)))
    (tmp_path / "x.h5").write_text("no index")
    with pytest.raises(InputError, match=r"x\.h5"):
        IndexFolder(tmp_path, QueryEncoder(model))
