"""Sentences as word numbers, and pretrained vectors for the words."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from torch import nn

from aamn.config.schema import Config
from aamn.data.word_vectors import VectorFile, open_vectors
from aamn.structures import UNKNOWN_NUMBER, Query
from proposals.errors import InputError

log = logging.getLogger("aamn")

PADDING, UNKNOWN = "<pad>", "<unk>"
TOLD = 10_000  # sentences of which is remembered that something was said of them
_GROWING = RLock()  # of all `Words`: a vocabulary and its rows grow in one step

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

    @property
    def known(self) -> Set[str]:
        """All words, the special ones among them."""
        return self._numbers.keys()

    def encode(self, text: str) -> Query:
        """The sentence's first `max_words` words and their numbers (L,) int64.

        Raises:
            InputError: the sentence holds no word.
        """
        tokens = tokenise(text)
        if not tokens:
            raise InputError(f"the sentence {text!r} holds no word; say what to look for")
        read, left_out = tokens[: self.max_words], tokens[self.max_words :]
        numbers = [self._numbers.get(token, UNKNOWN_NUMBER) for token in read]
        return Query(text, tuple(read), torch.tensor(numbers), tuple(left_out))

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
    """The vectors of `words` (such as `Vocabulary.words`) from a file; logs how many words it
    covers.

    Raises:
        InputError: as `open_vectors`, or a vector of the file is none.
    """
    file = open_vectors(path, allow_pickle)
    mean = file.mean()
    found = {word: vector for word in words if (vector := file.find(word)) is not None}
    vectors = np.stack([found.get(word, mean) for word in words]).astype(np.float32)
    known = np.array([word in found for word in words])
    vectors[[word == PADDING for word in words]] = 0
    _report(path, [word for word in words if word not in (PADDING, UNKNOWN)], found)
    return WordVectors(vectors, known)


def _report(path: str | Path, words: list[str], found: Mapping[str, np.ndarray]) -> None:
    unknown = [word for word in words if word not in found]
    share = 100 * len(unknown) / max(1, len(words))
    some = ": " + ", ".join(unknown[:8]) + (" ..." if len(unknown) > 8 else "") if unknown else ""
    log.info("%s: %d of %d words unknown (%.1f %%)%s", path, len(unknown), len(words), share, some)


def first_words(file: VectorFile, count: int) -> list[str]:
    """The file's first words that a sentence can hold, at most `count`, each once."""
    fitting = dict.fromkeys(word for word in file.words() if tokenise(word) == [word])
    return list(islice(fitting, count))


def as_sentences(texts: str | Iterable[str]) -> list[str]:
    """What a user asks as a list of sentences; a text alone is one.

    Raises:
        InputError: no sentence, or something that is no text.
    """
    if isinstance(texts, str):
        return [texts]
    found = list(texts) if isinstance(texts, Iterable) else [texts]
    for text in found:
        if not isinstance(text, str):
            raise InputError(f"wanted a sentence or several as text, got {text!r}")
    if not found:
        raise InputError("wanted at least one sentence, got none")
    return found


class Words(nn.Embedding):
    """The words a segmenter knows, each with its row of numbers (C_e,), as one object: a number is
    never another word's row, and whatever copies, pickles or saves it has both.

    It grows by words that training has not seen, from the file that `vectors` names; the numbers of
    those before stay, so that queries made earlier stay right.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        dimension: int,
        vectors: Path | str = "",
        allow_pickle: bool = False,
        **options: Any,
    ) -> None:
        """`allow_pickle`: of `vectors`, see `open_vectors`; `options` are nn.Embedding's."""
        super().__init__(len(vocabulary), dimension, padding_idx=0, **options)
        self.vocabulary, self.vectors = vocabulary, str(vectors)
        self.allow_pickle = allow_pickle
        self._told: set[str] = set()

    def queries(self, texts: str | Iterable[str]) -> list[Query]:
        """What a user asks, one text or several, as word numbers. Says, once a sentence, which of
        its words are left out, and which are not known here or in the file of vectors.

        Raises:
            InputError: no sentence, one without a word, or as `learn`.
        """
        found = self.encoded(as_sentences(texts))
        for query in found:
            if query.text not in self._told:
                if len(self._told) == TOLD:
                    self._told.clear()
                self._told.add(query.text)
                self._tell(query)
        return found

    def encoded(self, texts: Sequence[str]) -> list[Query]:
        """The same of several texts, with nothing said.

        Raises:
            InputError: as `queries`.
        """
        self._grow(texts)
        return [self.vocabulary.encode(text) for text in texts]

    def learn(self, texts: Iterable[str]) -> None:
        """Gives the words of a data set's sentences that training has not seen their rows, where
        the file of vectors is at hand and has them, and logs the others.

        Raises:
            InputError: the file holds no vectors, or vectors of another dimension.
        """
        if unknown := self._grow(texts):
            log.warning("words the segmenter does not know: %s%s", ", ".join(unknown), self._hint)

    def _grow(self, texts: Iterable[str]) -> list[str]:
        """The words that stay unknown, in alphabetical order."""
        with _GROWING:
            wanted = sorted({w for text in texts for w in tokenise(text)} - self.vocabulary.known)
            if wanted and self.vectors and Path(self.vectors).is_file():
                self._add(wanted, self._file())
            return [word for word in wanted if word not in self.vocabulary]

    def _file(self) -> VectorFile:
        file = open_vectors(self.vectors, self.allow_pickle)
        if file.dimension != self.embedding_dim:
            raise InputError(
                f"words.vectors: {self.vectors} has {file.dimension} numbers a word, the segmenter "
                f"was trained with {self.embedding_dim}"
            )
        return file

    def _add(self, words: Sequence[str], file: VectorFile) -> None:
        found = {word: vector for word in words if (vector := file.find(word)) is not None}
        if found:
            self._append(found)

    def _append(self, found: Mapping[str, np.ndarray]) -> None:
        """New words behind the others, with their rows."""
        with torch.inference_mode(False), torch.no_grad():
            rows = torch.from_numpy(np.stack([*found.values()])).to(self.weight)
            weight = nn.Parameter(torch.cat([self.weight, rows]), self.weight.requires_grad)
        self.weight, self.num_embeddings = weight, len(weight)
        self.vocabulary = self.vocabulary.extend(found)

    @property
    def _hint(self) -> str:
        if not self.vectors or Path(self.vectors).is_file():
            return ""
        return f" (no word vectors at {self.vectors}: the words of the training alone are known)"

    def _tell(self, query: Query) -> None:
        if query.left_out:
            log.warning(
                "%r: its first %d words are read; left out: %s",
                query.text,
                len(query.tokens),
                " ".join(query.left_out),
            )
        if query.unknown:
            log.warning(
                "%r: words the segmenter does not know: %s%s",
                query.text,
                ", ".join(query.unknown),
                self._hint,
            )


class AnyWords(Words):
    """The words of a text model that reads any: none is unknown, and one without a vector has a
    row of zeros."""

    def _grow(self, texts: Iterable[str]) -> list[str]:
        with _GROWING:
            unknown = super()._grow(texts)
            if unknown:
                self._append(dict.fromkeys(unknown, np.zeros(self.embedding_dim)))
            return []


def words_kind(config: Config) -> type[Words]:
    """The words of a system: those of one that asks an image-text model are any."""
    asks = config.system in ("zeroshot", "adapted") and "image_text" in config.zeroshot.describers
    return AnyWords if asks else Words
