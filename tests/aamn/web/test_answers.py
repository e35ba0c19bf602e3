"""What the page is told, against what the library answers."""

import io
import json
import shutil
import zipfile

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from aamn.web.answers import ask, describe, describe_clip
from aamn.web.library import Library
from aamn.web.limits import Limits
from aamn.web.pictures import jpeg, thumbnail
from aamn.web.take_away import python_lines, write_zip
from proposals.errors import InputError


@pytest.fixture(scope="module")
def index(segmenter, clip):
    with segmenter.index(clip) as index:
        yield index


def test_a_sentence_s_answer_is_the_library_s(index):
    found = ask(index, ["w3 w4", "?!", "w7 zebra"])
    one, refused, other = json.loads(json.dumps(found["answers"]))
    assert "holds no word" in refused["error"] and found["ms"] > 0
    for answer, text in ((one, "w3 w4"), (other, "w7 zebra")):
        (track,) = index.query(text, absent_threshold=None)
        assert answer["score"] == pytest.approx(track.score, abs=1e-4)
        assert answer["probability"] == pytest.approx(track.probability, abs=1e-4)
        assert answer["tubes"] == track.tubes.tolist()
        for name in ("total", "actor"):
            wanted = getattr(track, name)
            given = np.array(answer[name], float)
            assert np.allclose(np.nan_to_num(given, nan=-np.inf), wanted, atol=1e-4)
        assert [word["actor"] for word in answer["words"]] == pytest.approx(
            track.actor_attention.tolist(), abs=1e-3
        )
    assert other["unknown"] == ["zebra"] and [w["word"] for w in one["words"]] == ["w3", "w4"]


def test_a_sentence_of_unknown_words_has_no_score_and_a_reason(index):
    (answer,) = ask(index, ["zebra"])["answers"]
    assert answer["score"] is None and answer["reason"] == "none of its words is known: zebra"
    assert ask(index, [])["answers"] == []


def test_clips_hold_every_tube_s_boxes_and_masks(index):
    facts = describe(index)
    assert facts["frames"] == 23 and facts["size"] == [40, 50] and facts["threshold"] == -5.0
    assert [n for first, end in facts["clips"] for n in range(first, end)] == list(range(23))
    for number in (0, len(facts["clips"]) - 1):
        clip = json.loads(json.dumps(describe_clip(index, number)))
        frames = np.arange(*clip["frames"])
        assert clip["tubes"]
        for place, tube in enumerate(clip["tubes"]):
            chosen = np.full(len(facts["clips"]), tube["tube"])
            masks = [
                coco_mask.decode({"size": [40, 50], "counts": counts}) for counts in tube["masks"]
            ]
            assert (np.array(masks, bool) == index.shown_masks(frames, chosen)).all()
            assert np.allclose(tube["boxes"], index.shown_boxes(frames, chosen), atol=0.06)
            if clip["context"] is not None:
                shares = index.context[number][tube["tube"]]
                assert sum(clip["context"][place]) == pytest.approx(shares.sum(), abs=1e-3)
    with pytest.raises(InputError, match="wanted clip 99"):
        describe_clip(index, 99)


@pytest.mark.parametrize(
    ("texts", "said"), [(["a"] * 9, "at most 8"), (["a" * 201], "longer than 200 letters")]
)
def test_questions_have_limits(texts, said):
    Limits().check_sentences(texts[:1] if len(texts) > 1 else ["a" * 200])
    with pytest.raises(InputError, match=said):
        Limits().check_sentences(texts)


def test_pictures_are_scaled_down_and_show_the_masks():
    frame = np.full((100, 2560, 3), (200, 100, 50), np.uint8)
    small = cv2.imdecode(np.frombuffer(jpeg(frame), np.uint8), cv2.IMREAD_COLOR)
    assert (
        small.shape == (50, 1280, 3) and abs(small[20, 20].astype(int) - (50, 100, 200)).max() < 6
    )
    mask = np.zeros((100, 2560), bool)
    mask[:, 1280:] = True
    lit = cv2.imdecode(np.frombuffer(thumbnail(frame, [mask]), np.uint8), cv2.IMREAD_COLOR)
    assert lit.shape[1] == 320 and lit[5, 300].max() > 190 and lit[5, 20].max() < 90


def test_the_zip_holds_what_the_command_writes(index, tmp_path):
    out = tmp_path / "masks.zip"
    write_zip(index, ["w3 w4", "w7"], None, out)
    assert [path.name for path in tmp_path.iterdir()] == ["masks.zip"]
    with zipfile.ZipFile(out) as archive:
        names = set(archive.namelist())
        for folder in ("00_w3_w4", "01_w7"):
            for name in ("overlay.mp4", "masks.json", "result.json", "masks/00022.png"):
                assert f"{folder}/{name}" in names
        assert {"palette/00000.png", "README.txt"} <= names
        png = np.frombuffer(archive.read("01_w7/masks/00003.png"), np.uint8)
        (track,) = index.query("w7", absent_threshold=None)
        assert (cv2.imdecode(png, cv2.IMREAD_GRAYSCALE) == 255 * track.masks(3)).all()
        codes = json.load(io.BytesIO(archive.read("01_w7/masks.json")))
        assert (coco_mask.decode(codes[3]["segmentation"]) == track.masks(3)).all()


def test_the_zip_of_no_match_is_empty_masks(index, tmp_path):
    write_zip(index, ["w7"], 1e6, tmp_path / "m.zip")
    with zipfile.ZipFile(tmp_path / "m.zip") as archive:
        assert json.loads(archive.read("00_w7/result.json"))["matched"] is False
        png = np.frombuffer(archive.read("00_w7/masks/00003.png"), np.uint8)
        assert not cv2.imdecode(png, cv2.IMREAD_GRAYSCALE).any()


def test_the_python_runs(index, bundle, clip, tmp_path, monkeypatch, capsys):
    lines = python_lines(bundle, str(clip), ["w3 'quoted\" w4", "w7"], None)
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, "program.py", "exec"), {})
    assert "w7" in capsys.readouterr().out
    (track,) = index.query("w7", absent_threshold=None)
    png = cv2.imread(str(tmp_path / "results/01/masks/00003.png"), cv2.IMREAD_GRAYSCALE)
    assert (png == 255 * track.masks(3)).all()


def test_the_library_s_hits_are_the_search_s(segmenter, library):
    shelf, indexes = Library(segmenter, library), segmenter.open_indexes(library)
    found = shelf.search("w3 w4", 2)
    wanted = indexes.search(["w3 w4"], 2)[0]
    assert [hit["video_id"] for hit in found] == [hit.video_id for hit in wanted]
    assert [hit["score"] for hit in found] == pytest.approx([h.score for h in wanted], abs=1e-4)
    first = found[0]
    assert first["frames"] == [wanted[0].frames.start, wanted[0].frames.stop]
    assert first["seconds"] == [n / 10 for n in first["frames"]] and "path" not in first
    picture = shelf.thumbnail(first["place"], "w3 w4", first["frames"][0])
    assert picture[:2] == b"\xff\xd8"
    for place, frame, said in ((7, 0, "no video 7"), (0, 999, "wanted frame 999")):
        with pytest.raises(InputError, match=said):
            shelf.thumbnail(place, "w3", frame)


def test_a_library_whose_videos_are_gone_is_still_searched(segmenter, clip, tmp_path):
    path = tmp_path / "gone.mp4"
    shutil.copyfile(clip, path)
    segmenter.index(path, tmp_path).close()
    path.unlink()
    library = Library(segmenter, tmp_path)
    (hit,) = library.search("w3", 5)
    assert hit["video_id"] == "gone"
    with pytest.raises(InputError, match="the frames of gone"):
        library.thumbnail(0, "w3", 0)
