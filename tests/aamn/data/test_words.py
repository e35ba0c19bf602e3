"""Tokens, vocabularies and pretrained vectors."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st

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
        ("don't can't won't", "do n't ca n't wo n't"),
        ("isn\u2019t O'Brien's", "is n't o'brien 's"),
        ("mother-in-law's dog-", "mother-in-law 's dog"),
        ("-left 'tis", "left tis"),
        ("rock-'n'-roll", "rock n roll"),
        ("3.5 m, No.7 2x4", "3 5 m no 7 2x4"),
        ("one_two\tthree\nfour", "one two three four"),
        ("dog\u2014cat; dog/cat", "dog cat dog cat"),
        ("isn'this it", "isn'this it"),
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


def test_a_sentence_may_have_just_as_many_words_as_are_read() -> None:
    words = [f"w{n}" for n in range(25)]
    vocabulary = Vocabulary(words)  # twenty
    assert vocabulary.encode(" ".join(words)).tokens == tuple(words[:20])
    assert vocabulary.encode(" ".join(words)).words.tolist() == list(range(2, 22))
    assert vocabulary.encode(" ".join(words[:20])).tokens == tuple(words[:20])
    assert Vocabulary.build(words).max_words == 20
    assert Vocabulary(["a"], max_words=1).encode("a b").tokens == ("a",)
    with pytest.raises(InputError, match=r"words\.max_words must be at least 1, got 0"):
        Vocabulary(["a"], max_words=0)


def test_numbers_are_whole_and_names_of_the_special_ones_are_no_words() -> None:
    vocabulary = Vocabulary(["dog"])
    query = vocabulary.encode("dog <pad> <unk>")
    assert query.tokens == ("dog", "pad", "unk") and query.words.tolist() == [2, 1, 1]
    assert query.words.dtype == torch.int64 and len(vocabulary) == 3
    assert "dog" in vocabulary and "pad" not in vocabulary


@pytest.mark.parametrize("words", [["a", "b", "a"], ["<pad>"], ["a", "<unk>"]])
def test_words_that_have_a_number_already_are_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="distinct and not special"):
        Vocabulary(words)


SETTINGS = settings(max_examples=30, deadline=None, derandomize=True)
PLAIN_WORDS = st.text("abcXYZ019", min_size=1, max_size=4)
SEPARATORS = st.sampled_from([" ", ", ", ". ", "; ", " (", ") ", "/", "_", " - ", "!? ", "\n"])


@SETTINGS
@given(st.lists(st.tuples(PLAIN_WORDS, SEPARATORS)))
def test_punctuation_parts_words_and_no_more(parts: list[tuple[str, str]]) -> None:
    assert tokenise("".join(word + mark for word, mark in parts)) == [w.lower() for w, _ in parts]


@SETTINGS
@given(st.text("anTS\u2019'-_., 9\u00e9\u00df\u0130\u00b2\u2028\n"))
def test_tokens_are_lower_case_and_hold_neither_blanks_nor_punctuation(text: str) -> None:
    for token in tokenise(text):
        assert token == token.lower()
        assert token[0].isalnum() or token == "'s"
        assert token[-1].isalnum() and not any(c.isspace() or c in '_.,;:!?"()' for c in token)
    assert tokenise(text) == tokenise(f" {text.lower()}. ")


SENTENCES = st.lists(st.lists(st.sampled_from(["a", "dog", "Dog", "cat", "x1"]), min_size=1))


@SETTINGS
@given(SENTENCES, st.integers(1, 6))
def test_a_vocabulary_encodes_what_it_was_built_from(texts: list[list[str]], limit: int) -> None:
    vocabulary = Vocabulary.build([" ".join(text) for text in texts], limit)
    said = [word.lower() for text in texts for word in text]
    counts = [(-said.count(word), word) for word in vocabulary.words[2:]]
    assert set(vocabulary.words[2:]) == set(said) and counts == sorted(counts)
    same = Vocabulary.from_state(json.loads(json.dumps(vocabulary.state())))
    for text in texts:
        query = same.encode(" ".join(text))
        read_back = [vocabulary.words[number] for number in query.words]
        assert read_back == list(query.tokens) == [word.lower() for word in text[:limit]]


def test_a_vocabulary_survives_its_state_and_grows_behind_its_end() -> None:
    vocabulary = Vocabulary(["dog", "cat"], max_words=7)
    same = Vocabulary.from_state(vocabulary.state())
    assert (same.words, same.max_words) == (vocabulary.words, 7)
    grown = vocabulary.extend(["cat", "zebra", "zebra", "<unk>", "ant"])
    assert grown.words == ("<pad>", "<unk>", "dog", "cat", "zebra", "ant")
    assert grown.encode("ant dog").words.tolist() == [5, 2]
    assert "zebra" not in vocabulary and grown.max_words == 7


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


def test_a_text_file_is_read_by_its_line_feeds_alone(tmp_path: Path) -> None:
    """GloVe has words of odd bytes, word2vec a blank at each line's end."""
    path = tmp_path / "vectors.txt"
    lines = ["dog 1 2 \r", "a\x85b\u2028c 3 4", "d\re 5 6", "dog 7 8", "caf\u00e9 9 0"]
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe -7 -2\n")
    read = load_vectors(path, ["dog", "a\x85b\u2028c", "d\re", "caf\u00e9", "other"])
    assert read.vectors[:4].tolist() == [[1, 2], [3, 4], [5, 6], [9, 0]]  # the first dog counts
    assert read.vectors[4].tolist() == [3, 3]  # the mean of all six lines


def test_a_first_word_of_digits_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("7 1 2\ndog 3 4\n")
    assert load_vectors(path, ["7", "dog"]).vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["<pad>", "<unk>", "cat", "dog"], "0 of 2 words unknown (0.0 %)\n"),
        (["<pad>", "<unk>", "cat", "b", "a"], "2 of 3 words unknown (66.7 %): b, a\n"),
        ([*"abcdefgh"], "8 of 8 words unknown (100.0 %): a, b, c, d, e, f, g, h\n"),
        ([*"abcdefghi"], "9 of 9 words unknown (100.0 %): a, b, c, d, e, f, g, h ...\n"),
        (["<pad>", "<unk>"], "0 of 0 words unknown (0.0 %)\n"),
    ],
)
def test_the_share_of_unknown_words_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, words: list[str], said: str
) -> None:
    with caplog.at_level(logging.INFO, "aamn"):
        load_vectors(write_text(tmp_path / "vectors.txt"), words)
    assert caplog.text.endswith(f"vectors.txt: {said}")


@pytest.mark.parametrize("name", ["vectors.bin", "vectors.bin.gz", "vectors.kv"])
def test_vectors_of_gensims_formats(tmp_path: Path, name: str) -> None:
    stored = KeyedVectors(vector_size=5)
    values = np.arange(15, dtype=np.float32).reshape(3, 5)
    stored.add_vectors(["dog", "cat", "new_york"], values)
    path = tmp_path / name
    if name.endswith(".kv"):
        stored.save(str(path))
    else:
        stored.save_word2vec_format(str(path), binary=True)
    if name.endswith(".kv"):
        with pytest.raises(InputError, match=r"a pickle, .*words\.allow_pickle=true"):
            load_vectors(path, ["cat"])
    read = load_vectors(path, ["cat", "zebra"], allow_pickle=name.endswith(".kv"))
    assert read.vectors.tolist() == [values[1].tolist(), values.mean(0).tolist()]
    assert read.known.tolist() == [True, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dog 1 2 3\ncat 1 2\n", "vector 2 is no word with 3 numbers: 'cat 1 2"),
        ("dog 1 2 3\ncat 1 two 3\n", "vector of 'cat' is no list of numbers"),
        ("", "vector 1 is no word"),
        ("0 3\n", "holds no vector"),
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


def test_any_word_is_known_to_a_text_model_and_has_a_row():
    from aamn.data.words import AnyWords

    words = AnyWords(Vocabulary(["dog"]), 3)
    before = words.weight[2].clone()
    (query,) = words.queries("the xylophone dog")
    assert query.known and not query.unknown
    assert torch.equal(words.weight[2], before)
    assert (words.weight[query.words[:2]] == 0).all()
