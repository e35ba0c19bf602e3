"""Sentences as word numbers, and pretrained vectors for the words."""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aamn.structures import Query
from proposals.errors import InputError
from proposals.limits import check_bytes

log = logging.getLogger("aamn")

PADDING, UNKNOWN = "<pad>", "<unk>"

# Letters and digits, with inner hyphens and apostrophes: GloVe has "t-shirt" as one word. A
# possessive 's and the n't of a contraction are words of their own there.
_WORD = re.compile(r"n't\b|'s\b|[^\W_]+?(?=n't\b)|[^\W_]+(?:[-'](?!s\b)[^\W_]+)*")


def tokenise(text: str) -> list[str]:
    """The words of a sentence in lower case, without punctuation; "man's" is "man" and "'s"."""
    return _WORD.findall(text.lower().replace("’", "'"))


class Vocabulary:
    """The words a model knows: number 0 is padding, 1 any unknown word, then `words`.

    `words` of an instance holds all of them in the order of their numbers.
    """

    def __init__(self, words: Sequence[str], max_words: int = 20) -> None:
        if max_words < 1:
            raise InputError(f"words.max_words must be at least 1, got {max_words}")
        repeated = [word for word, count in Counter(words).items() if count > 1]
        if repeated or PADDING in words or UNKNOWN in words:
            raise ValueError(f"words must be distinct and not special, got {repeated[:5]}")
        self.words: tuple[str, ...] = (PADDING, UNKNOWN, *words)
        self.max_words = max_words
        self._numbers = {word: number for number, word in enumerate(self.words)}

    @classmethod
    def build(cls, texts: Iterable[str], max_words: int = 20) -> Vocabulary:
        """Every word of the sentences, the most frequent first, ties in alphabetical order."""
        counts = Counter(word for text in texts for word in tokenise(text))
        return cls(sorted(counts, key=lambda word: (-counts[word], word)), max_words)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._numbers

    def encode(self, text: str) -> Query:
        """The sentence's first `max_words` words and their numbers (L,) int64.

        Raises:
            InputError: the sentence holds no word.
        """
        tokens = tokenise(text)[: self.max_words]
        if not tokens:
            raise InputError(f"the sentence {text!r} holds no word; say what to look for")
        numbers = [self._numbers.get(token, 1) for token in tokens]
        return Query(text, tuple(tokens), torch.tensor(numbers))

    def extend(self, words: Iterable[str]) -> Vocabulary:
        """A vocabulary with the unknown ones among `words` behind its own, whose numbers stay."""
        new = [word for word in dict.fromkeys(words) if word not in self._numbers]
        return Vocabulary([*self.words[2:], *new], self.max_words)

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"words": list(self.words[2:]), "max_words": self.max_words}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Vocabulary:
        """The inverse of `state`."""
        return cls(state["words"], state["max_words"])


@dataclass(frozen=True)
class WordVectors:
    """Pretrained vectors (V, C_e) float32 of V words; where `known` (V,) bool is False the vector
    is the file's mean, and zero for padding."""

    vectors: np.ndarray
    known: np.ndarray


def load_vectors(path: str | Path, words: Sequence[str], allow_pickle: bool = False) -> WordVectors:
    """The vectors of `words` (such as `Vocabulary.words`) from a GloVe or word2vec text file, from
    a word2vec binary (.bin, .bin.gz) file, or with `allow_pickle` from one of gensim's (.kv), which
    runs the code in it; logs how many words it covers.

    Raises:
        InputError: the file is missing, is none of these, or its numbers are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no word vectors at {path}; words.vectors names a GloVe or word2vec file")
    if path.suffix == ".kv" and not allow_pickle:
        raise InputError(
            f"{path}: a .kv file is a pickle, which can run any code; convert it by gensim's "
            "KeyedVectors.load(...).save_word2vec_format(..., binary=True), or, if you trust it, "
            "--set words.allow_pickle=true"
        )
    binary = path.name.endswith((".bin", ".bin.gz", ".kv"))
    found, mean = (_from_gensim if binary else _from_text)(path, set(words))
    vectors = np.stack([found.get(word, mean) for word in words]).astype(np.float32)
    for word, vector in zip(words, vectors, strict=True):
        if not np.isfinite(vector).all():
            which = repr(word) if word in found else "its mean, for words it lacks,"
            raise InputError(f"{path}: the vector of {which} is not finite; get the file again")
    known = np.array([word in found for word in words])
    vectors[[word == PADDING for word in words]] = 0
    _report(path, [word for word in words if word not in (PADDING, UNKNOWN)], found)
    return WordVectors(vectors, known)


def _report(path: Path, words: list[str], found: Mapping[str, np.ndarray]) -> None:
    unknown = [word for word in words if word not in found]
    share = 100 * len(unknown) / max(1, len(words))
    some = ": " + ", ".join(unknown[:8]) + (" ..." if len(unknown) > 8 else "") if unknown else ""
    log.info("%s: %d of %d words unknown (%.1f %%)%s", path, len(unknown), len(words), share, some)


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Word and numbers of every line. The split is from the right: GloVe's 840B file has words
    that hold spaces. A first line of two whole numbers (word2vec's header) is left out."""
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        first = file.readline()
        header = re.fullmatch(r"\d+ (\d+)\s*", first)
        dimension = int(header[1]) if header else max(1, first.strip().count(" "))
        for number, line in enumerate(file if header else chain([first], file), start=1):
            word, *numbers = line.rstrip("\r\n ").rsplit(" ", dimension)
            if len(numbers) != dimension:
                raise InputError(
                    f"{path}: vector {number} is no word with {dimension} numbers: {line[:40]!r}"
                )
            yield word, numbers


def _from_text(path: Path, wanted: set[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The wanted words' vectors, and the mean of all vectors of the file."""
    found: dict[str, np.ndarray] = {}
    total, count = np.zeros(1), 0
    for word, numbers in _rows(path):
        try:
            vector = np.array(numbers, dtype=np.float64)
        except ValueError:
            raise InputError(f"{path}: the vector of {word!r} is no list of numbers") from None
        total, count = total + vector, count + 1
        if word in wanted:
            found.setdefault(word, vector)
    if not count:
        raise InputError(f"{path} holds no vector")
    return found, total / count


def _from_gensim(path: Path, wanted: set[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    from gensim.models import KeyedVectors  # a slow import that only pretrained vectors need

    try:
        if path.suffix == ".kv":
            vectors = KeyedVectors.load(str(path))
        else:
            _check_header(path)
            vectors = KeyedVectors.load_word2vec_format(str(path), binary=True)
    except InputError:
        raise
    except (ValueError, EOFError, OSError, AttributeError, zlib.error) as error:
        raise InputError(f"{path} is no word2vec file: {' '.join(str(error).split())}") from None
    found = {word: vectors[word] for word in wanted if word in vectors}
    return found, vectors.vectors.mean(0, dtype=np.float64)


def _check_header(path: Path) -> None:
    """Compares the sizes that a word2vec binary file announces with the file's own.

    Raises:
        InputError: they would not fit into it, or, if it is compressed, into memory.
    """
    packed = path.suffix == ".gz"
    with gzip.open(path) if packed else path.open("rb") as file:
        header = re.fullmatch(rb"(\d+) (\d+)\n", file.readline(60))
    if header is None:
        raise ValueError("it begins with no two sizes")
    size = 4 * int(header[1]) * int(header[2])
    check_bytes(size, str(path))
    if not packed and size > path.stat().st_size:
        raise ValueError(f"it announces {size} bytes")
