"""Search through many videos against asking each of them."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_videos import Frames, Store, job, loaded

from aamn.index import Asker, VideoIndex
from aamn.indexing import build_index
from aamn.search import IndexFolder
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
    library = IndexFolder(folder, Asker(model))
    answers = library.search(TEXTS, top)
    for text, hits in zip(TEXTS, answers, strict=True):
        wanted = asked_one_by_one(folder, model, text)[:top]
        assert [(hit.video_id, hit.frames) for hit in hits] == [one[1:] for one in wanted]
        assert [hit.score for hit in hits] == pytest.approx([one[0] for one in wanted], abs=1e-5)
        alone = library.search([text], top)[0]
        assert [hit.video_id for hit in alone] == [hit.video_id for hit in hits]
    track = library.open(answers[0][0]).query([TEXTS[0]])[0]
    assert track.index.video_id == answers[0][0].video_id


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
        IndexFolder(tmp_path, Asker(model))
    (tmp_path / "b.h5").write_bytes((folder / "b.h5").read_bytes())
    library = IndexFolder(tmp_path, Asker(model))
    assert len(library) == 1 and [hit.video_id for hit in library.search(["w3"])[0]] == ["b"]


def test_foreign_and_damaged_indexes_are_named(indexed, tmp_path):
    folder, model = indexed
    with pytest.raises(InputError, match=r"a\.h5 was made by another segmenter"):
        IndexFolder(folder, Asker(loaded(seed=1)))
    (tmp_path / "x.h5").write_text("no index")
    with pytest.raises(InputError, match=r"x\.h5"):
        IndexFolder(tmp_path, Asker(model))
