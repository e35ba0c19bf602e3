"""Sentences that are cut, unknown or no sentences, and words that belong to rows."""

import copy
import json
import pickle
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from fault_cases import called, contents, refused
from tiny_models import FROM_NOUGHT, WORDS, tiny_config, tiny_segmenter

import aamn
from aamn.data import word_vectors
from aamn.data.word_vectors import open_vectors
from aamn.inference.checkpoint import load_segmenter, save_checkpoint
from aamn.predictor import write_bundle
from proposals.errors import InputError

LONG = " ".join(f"w{n % 9}" for n in range(20)) + " red dog"
ROWS = {"purple": (1, -2, 0.5, 3, -1, 2), "zebra": (-3, 1, 2, -0.5, 4, -2)}


@pytest.fixture(scope="module")
def index(things, tmp_path_factory):
    """The clip's index, in a folder of its own."""
    folder = tmp_path_factory.mktemp("indexes")
    aamn.load(things.bundle, "cpu").index(things.clip, folder)
    return folder / "clip.h5"


@pytest.fixture
def vectors(tmp_path):
    """A text file of the vectors of two words."""
    path = tmp_path / "vectors.txt"
    lines = [" ".join(map(str, (word, *row))) for word, row in ROWS.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def bundle_with(things, folder, **changes):
    """A copy of the bundle whose record says something else."""
    shutil.copytree(things.bundle, folder)
    record = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**record, **changes}))
    return folder


# What is said of a sentence: sentence, threshold of the bundle, options, the console's lines

SAID = {
    "known": ("w1", -1e6, (), (", match (threshold -1000000.000)",)),
    "unknown": ("zebra", -1e6, (), ("no match, none of its words is known: zebra",)),
    "Chinese": ("斑马", -1e6, (), ("no match, none of its words is known: 斑马",)),
    "unknown, no threshold": ("zebra okapi", None, (), ("no match, none of its words",)),
    "unknown, turned off": (
        "zebra",
        0.0,
        ("--absent-threshold", "none"),
        ("no match, none of its words",),
    ),
    "partly unknown": ("w1 zebra w2", -1e6, (), ("the segmenter does not know: zebra", " match (")),
    "too long": (LONG, -1e6, (), ("its first 20 words are read; left out: red dog", " match (")),
    "below": ("w1", 1e6, (), ("no match (threshold 1000000.000)",)),
    "turned off": ("w1", 1e6, ("--absent-threshold", "none"), (", match (no threshold)",)),
    "another": ("w1", 1e6, ("--absent-threshold", "-9"), (", match (threshold -9.000)",)),
    "not calibrated": ("w1", None, (), (", match (no threshold)",)),
}


@pytest.mark.parametrize("name", SAID)
def test_every_answer_says_what_it_is_worth(name, things, index, tmp_path, capsys, caplog):
    text, threshold, options, lines = SAID[name]
    bundle = bundle_with(things, tmp_path / "b", absent_threshold=threshold)
    before = contents(bundle, things.clip)
    caplog.set_level("INFO", "aamn")
    words = ("segment", "--index", index, "--query", text, "--bundle", bundle, "--end", 2)
    found = called(capsys, *words, *options, "--out", tmp_path / "o")
    assert found.code == 0 and contents(bundle, things.clip) == before
    for line in lines:
        assert line in caplog.text, (line, caplog.text)
    (folder,) = map(str.strip, found.out.splitlines())
    record = json.loads((tmp_path / "o" / folder / "result.json").read_text())
    matched = "no match" not in "".join(lines)
    assert record["matched"] is matched and ("reason" in record) is not matched
    assert (record["score"] is None) == ("none of its words" in "".join(lines))
    masks = [cv2.imread(str(path)) for path in (tmp_path / "o").rglob("masks/*.png")]
    assert len(masks) == 2 and (matched or not np.any(masks))


def test_a_system_without_indexes_refuses_unknown_words_too(things, tmp_path, capsys, caplog):
    caplog.set_level("INFO", "aamn")
    words = ("segment", things.clip, "zebra", "w1", "--bundle", things.bundle, "--end", 2)
    words += ("--set", "system=most_confident", "--out", tmp_path / "o")
    found = called(capsys, *words)
    assert found.code == 0
    assert "'zebra' in clip: no match, none of its words is known: zebra" in caplog.text
    zebra, w1 = (
        json.loads((tmp_path / "o" / f / "result.json").read_text()) for f in ("00_zebra", "01_w1")
    )
    assert (zebra["matched"], zebra["score"]) == (False, None) and w1["matched"]
    assert w1["score"] == pytest.approx(np.mean([c["score"] for c in w1["clips"]]), abs=1e-5)
    assert not np.any([cv2.imread(str(p)) for p in (tmp_path / "o/00_zebra/masks").iterdir()])
    refused(
        capsys,
        (*words, "--absent-threshold", "1"),
        "--absent-threshold: for aamn and zeroshot alone",
        (tmp_path,),
    )


def test_a_search_says_it_too(things, index, tmp_path, capsys):
    bundle = bundle_with(things, tmp_path / "b", absent_threshold=1e6)
    words = ("search", index.parent, "w1", "zebra", "--bundle", bundle)
    found = called(capsys, *words, "--out", tmp_path / "f.json")
    first, hit, second, none = found.out.splitlines()
    assert first == "w1 (1 videos, threshold 1000000.000)" and "no match  clip, frames" in hit
    assert (second, none) == (
        "zebra (1 videos, threshold 1000000.000)",
        "no match, none of its words is known: zebra",
    )
    record = json.loads((tmp_path / "f.json").read_text())
    assert record["zebra"] == [] and record["w1"][0]["matched"] is False
    assert "no match" not in called(capsys, *words[:3], *words[4:], "--absent-threshold=none").out


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (5, "as text, got 5"),
        (None, "as text, got None"),
        (["w1", b"w2"], r"as text, got b'w2'"),
        ([], "at least one sentence"),
        (["w1", "?!"], "holds no word"),
        ("", "holds no word"),
    ],
)
def test_what_is_no_sentence_is_refused_at_every_door(texts, said, things, index):
    segmenter = aamn.load(things.bundle, "cpu")
    doors = (
        segmenter.read_index(index).query,
        segmenter.open_indexes(index.parent).search,
        lambda texts: segmenter.segment(things.clip, texts),
    )
    for door in doors:
        with pytest.raises(InputError, match=said):
            door(texts)


def test_a_text_alone_is_one_sentence_and_the_bundle_s_threshold_counts(things, index, tmp_path):
    segmenter = aamn.load(bundle_with(things, tmp_path / "b", absent_threshold=1e6), "cpu")
    asked = segmenter.read_index(index)
    (track,) = asked.query("w1 w2")
    assert track.text == "w1 w2" and not track.present and not track.masks().any()
    assert track.facts["absent_threshold"] == 1e6 and "below" in track.reason
    (free,) = asked.query("w1 w2", absent_threshold=None)
    assert free.present and free.masks().any() and free.score == track.score
    (unknown,) = asked.query("zebra", absent_threshold=None, top=3)
    assert unknown.score == -np.inf and not unknown.boxes().any()
    with pytest.raises(InputError, match="wanted a score, None or 'calibrated', got 'auto'"):
        asked.query("w1", absent_threshold="auto")
    ((hit,), none) = segmenter.open_indexes(index.parent).search(["w1", "zebra"])
    assert not hit.matched and none == []


def test_a_sentence_is_warned_of_once(things, index, caplog):
    asked = aamn.load(things.bundle, "cpu").read_index(index)
    for _ in range(3):
        asked.query(["w1 zebra", LONG])
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 2


# Words and their rows


def test_words_and_rows_stay_together_whoever_adds_them(things, index, vectors, tmp_path):
    loaded = load_segmenter(things.checkpoint, overrides=[f"words.vectors={vectors}"])
    one = replace(aamn.load(things.bundle, "cpu").read_index(index).query_encoder.loaded)
    both = [aamn.index.query_encoder.QueryEncoder(loaded) for _ in range(2)]
    first, second = both[0].queries("purple"), both[1].queries("zebra purple")
    assert first[0].words.tolist() == [WORDS]
    assert second[0].words.tolist() == [WORDS + 1, WORDS]
    save_checkpoint(tmp_path / "s.pt", loaded.segmenter, loaded.config, 1)
    again = load_segmenter(tmp_path / "s.pt")
    for copied in (loaded, again, copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        words = copied.words
        assert len(words.vocabulary) == len(words.weight) == words.num_embeddings == WORDS + 2
        for word, row in ROWS.items():
            (query,) = words.queries(word)
            assert words(query.words).tolist() == [list(map(float, row))]
    assert len(one.vocabulary) == WORDS


def test_a_file_of_vectors_is_read_once(things, tmp_path, monkeypatch):
    path, rng = tmp_path / "vectors.txt", np.random.default_rng(0)
    rows = [f"x{n} " + " ".join(f"{v:.6f}" for v in rng.normal(size=6)) for n in range(40000)]
    path.write_text("\n".join(rows))
    read, pread = [], word_vectors.os.pread
    monkeypatch.setattr(
        word_vectors.os, "pread", lambda *given: read.append(pread(*given)) or read[-1]
    )
    one, other = (
        load_segmenter(things.checkpoint, overrides=[f"words.vectors={path}"]) for _ in range(2)
    )

    def taken(loaded, text):
        read.clear()
        (query,) = loaded.words.queries(text)
        return query.unknown, sum(map(len, read))

    size = path.stat().st_size
    assert size > 2 * word_vectors.BLOCK
    unknown, count = taken(one, "x5")
    assert not unknown and count < size / 2, "as far as the word"
    unknown, count = taken(one, "x39999 nonsense")
    assert unknown == ("nonsense",) and count < size + 3 * word_vectors.LINE
    assert taken(one, "nonsense rubbish") == (("nonsense", "rubbish"), 0), "it is known to lack"
    assert taken(other, "nonsense") == (("nonsense",), 0)
    assert taken(other, "x20000")[1] <= word_vectors.LINE
    assert taken(one, "x5") == ((), 0)


DAMAGED = {
    "nan": ("purple 1 2 nan 3 4 5\n", "the vector of 'purple' is not finite"),
    "text": ("purple 1 2 three 3 4 5\n", "the vector of 'purple' is no list of numbers"),
    "short": ("a 1 2 3 4 5 6\nb 1 2\npurple 1 2 3 4 5 6\n", "vector 2 is no word with 6 numbers"),
    "another dimension": ("purple 1 2\n", "has 2 numbers a word, .* trained with 6"),
    "empty": ("", "vector 1 is no word"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_of_vectors_is_named(name, things, index, vectors, tmp_path, capsys):
    content, said = DAMAGED[name]
    vectors.write_text(content)
    words = ("segment", "--index", index, "--query", "purple", "--bundle", things.bundle)
    words += ("--set", f"words.vectors={vectors}", "--out", tmp_path / "o")
    refused(capsys, words, f"vectors.txt.*{said}", (things.bundle, vectors))
    with pytest.raises(InputError, match=said):
        load_segmenter(things.bundle / "segmenter.pt", overrides=[words[-3]]).words.queries(
            "purple"
        )


# Bundles


@pytest.fixture
def trained(things, vectors, tmp_path):
    """A checkpoint that was trained with a file of vectors."""
    config = tiny_config(f"words.vectors={vectors}")
    save_checkpoint(tmp_path / "s.pt", tiny_segmenter(vocabulary=FROM_NOUGHT), config, 7)
    return tmp_path / "s.pt"


def test_a_bundle_carries_the_vectors_of_other_words(things, trained, vectors, tmp_path, capsys):
    given = ("bundle", "--checkpoint", trained, "--detector", things.detector)
    assert called(capsys, *given, "--out", tmp_path / "b").code == 0
    assert called(capsys, *given, "--words", 1, "--out", tmp_path / "one").code == 0
    assert called(capsys, *given, "--words", 0, "--out", tmp_path / "none").code == 0
    vectors.unlink()
    (tmp_path / "b").rename(tmp_path / "moved")
    loaded = aamn.load(tmp_path / "moved", "cpu").loaded
    (query,) = loaded.words.queries("zebra w1")
    assert query.unknown == ()
    assert loaded.words(query.words[:1]).tolist() == [list(map(float, ROWS["zebra"]))]
    one = aamn.load(tmp_path / "one", "cpu").loaded.words
    assert [q.unknown for q in one.queries(["purple", "zebra"])] == [(), ("zebra",)]
    write_bundle(tmp_path / "again", things.detector, tmp_path / "moved" / "segmenter.pt")
    assert open_vectors(tmp_path / "again" / "words.npz").find("zebra").tolist() == [*ROWS["zebra"]]
    assert not (tmp_path / "none" / "words.npz").exists()


def test_a_bundle_without_them_says_so(things, trained, vectors, index, tmp_path, capsys, caplog):
    vectors.unlink()
    given = ("bundle", "--checkpoint", trained, "--detector", things.detector)
    found = called(capsys, *given, "--out", tmp_path / "b")
    assert found.code == 0 and f"no word vectors at {vectors}" in caplog.text
    words = ("segment", "--index", index, "--query", "zebra", "--bundle", tmp_path / "b")
    found = called(capsys, *words, "--end", 1, "--out", tmp_path / "o")
    assert found.code == 0
    assert f"zebra (no word vectors at {vectors}: the words of the training alone" in caplog.text
    other = tmp_path / "other.txt"
    other.write_text("a 1 2\n")
    refused(
        capsys, (*given, "--vectors", other, "--out", tmp_path / "c"), "2 numbers a word", (other,)
    )
    assert not (tmp_path / "c").exists()
    refused(capsys, (*given, "--vectors", vectors, "--out", tmp_path / "c"), "vectors.txt")
    (tmp_path / "b" / "words.npz").write_bytes(b"PK")
    words += ("--set", f"words.vectors={tmp_path / 'b' / 'words.npz'}", "--out", tmp_path / "p")
    refused(capsys, words, r"words\.npz holds no word vectors, or is damaged")


def test_rows_added_in_inference_mode_can_still_be_learned(things, vectors):
    loaded = load_segmenter(things.checkpoint, overrides=[f"words.vectors={vectors}"])
    with torch.inference_mode():
        loaded.words.queries("purple")
    (query,) = loaded.words.queries("purple")
    loaded.words(query.words).sum().backward()
    assert loaded.words.weight.grad[WORDS].any()
