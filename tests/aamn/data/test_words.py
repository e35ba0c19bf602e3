"""Tokens, vocabularies and pretrained vectors."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from aamn.data.words import Vocabulary, load_vectors, tokenise
from proposals.errors import InputError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The man's  t-shirt isn't RED, 3rd.", "the man 's t-shirt is n't red 3rd"),
        ("dogs' ball", "dogs ball"),
        ("the horse\u2019s rider", "the horse 's rider"),
        ("'quoted' (words): a/b", "quoted words a b"),
        ("caf\u00e9 100m", "caf\u00e9 100m"),
        (" -- ... ", ""),
    ],
)
def test_tokenise(text: str, words: str) -> None:
    assert tokenise(text) == words.split()


def test_vocabulary_numbers_words_by_frequency() -> None:
    vocabulary = Vocabulary.build(["a dog runs", "a cat runs", "a bird"], max_words=4)
    assert vocabulary.words == ("<pad>", "<unk>", "a", "runs", "bird", "cat", "dog")
    query = vocabulary.encode("A zebra runs past a dog")
    assert query.tokens == ("a", "zebra", "runs", "past")  # cut to four words
    assert query.words.tolist() == [2, 1, 3, 1]
    assert query.text == "A zebra runs past a dog"


def test_a_vocabulary_survives_its_state_and_grows_behind_its_end() -> None:
    vocabulary = Vocabulary(["dog", "cat"], max_words=7)
    same = Vocabulary.from_state(vocabulary.state())
    assert (same.words, same.max_words) == (vocabulary.words, 7)
    grown = vocabulary.extend(["cat", "zebra", "zebra", "<unk>", "ant"])
    assert grown.words == ("<pad>", "<unk>", "dog", "cat", "zebra", "ant")
    assert grown.encode("ant dog").words.tolist() == [5, 2]
    assert "zebra" not in vocabulary


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_an_empty_sentence_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="holds no word"):
        Vocabulary(["dog"]).encode(text)


def write_text(path: Path, header: str = "") -> Path:
    lines = ["dog 1 2 3", ". . . 4 4 4", "cat -1 0 6", "new york 0 2 3"]
    path.write_text(header + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("header", ["", "4 3\n"])
def test_vectors_of_a_text_file(tmp_path: Path, header: str) -> None:
    path = write_text(tmp_path / "vectors.txt", header)
    read = load_vectors(path, ["<pad>", "<unk>", "cat", "zebra", "new york", "dog"])
    mean = [1, 2, 4]
    assert read.vectors.tolist() == [[0, 0, 0], mean, [-1, 0, 6], mean, [0, 2, 3], [1, 2, 3]]
    assert read.vectors.dtype == np.float32
    assert read.known.tolist() == [False, False, True, False, True, True]


@pytest.mark.parametrize("name", ["vectors.bin", "vectors.kv"])
def test_vectors_of_gensims_formats(tmp_path: Path, name: str) -> None:
    stored = KeyedVectors(vector_size=5)
    values = np.arange(15, dtype=np.float32).reshape(3, 5)
    stored.add_vectors(["dog", "cat", "new_york"], values)
    path = tmp_path / name
    if name.endswith(".kv"):
        stored.save(str(path))
    else:
        stored.save_word2vec_format(str(path), binary=True)
    read = load_vectors(path, ["cat", "zebra"])
    assert read.vectors.tolist() == [values[1].tolist(), values.mean(0).tolist()]
    assert read.known.tolist() == [True, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dog 1 2 3\ncat 1 2\n", "vector 2 is no word with 3 numbers: 'cat 1 2"),
        ("dog 1 2 3\ncat 1 two 3\n", "vector of 'cat' is no list of numbers"),
        ("", "vector 1 is no word"),
    ],
)
def test_a_damaged_text_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        load_vectors(path, ["dog"])
    assert str(path) in str(error.value)


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no word vectors at"):
        load_vectors(tmp_path / "none.txt", ["dog"])
    (tmp_path / "foreign.bin").write_bytes(b"PK\x03\x04 nothing of the kind\n")
    with pytest.raises(InputError, match="is no word2vec file"):
        load_vectors(tmp_path / "foreign.bin", ["dog"])


def test_glove_covers_what_an_independent_count_says(
    real_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = real_data / "glove" / "glove.6B.50d.first9163.txt"
    with (real_data / "a2d" / "a2d_annotation.txt").open(newline="") as file:
        texts = [row["query"] for row in csv.DictReader(file)]
    vocabulary = Vocabulary.build(texts)
    with caplog.at_level(logging.INFO, "aamn"):
        read = load_vectors(path, vocabulary.words)
    covered = {line.split(" ", 1)[0] for line in path.read_text(encoding="utf-8").splitlines()}
    words = {w for text in texts for w in text.lower().replace("'s", " 's").split()}
    assert words == set(vocabulary.words[2:])
    assert read.vectors.shape == (len(words) + 2, 50)
    assert int(read.known.sum()) == len(words & covered)
    occurrences = [w for text in texts for w in text.lower().replace("'s", " 's").split()]
    share = np.mean([w in covered for w in occurrences])
    known = dict(zip(vocabulary.words, read.known, strict=True))
    assert np.mean([known[w] for text in texts for w in tokenise(text)]) == pytest.approx(share)
    assert 0.94 < share < 0.96
    assert f"{len(words - covered)} of {len(words)} words unknown" in caplog.text
