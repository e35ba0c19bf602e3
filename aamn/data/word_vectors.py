"""Files of pretrained word vectors: opened once a process, and asked for single words."""

from __future__ import annotations

import gzip
import os
import re
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from threading import RLock

import numpy as np

from proposals.errors import InputError
from proposals.files import written_aside
from proposals.limits import check_bytes

BLOCK = 1 << 20  # bytes of a text file that are read at once
LINE = 1 << 13  # bytes that hold most files' lines


class VectorFile(ABC):
    """Words with a vector (C_e,) each, float64."""

    path: Path
    dimension: int

    @abstractmethod
    def find(self, word: str) -> np.ndarray | None:
        """The word's vector; None where the file has none.

        Raises:
            InputError: what stands there is no vector.
        """

    @abstractmethod
    def mean(self) -> np.ndarray:
        """Of all vectors.

        Raises:
            InputError: as `find`, or there is none.
        """

    @abstractmethod
    def words(self) -> Iterator[str]:
        """All words in the file's order, which is mostly that of their frequency."""

    def _checked(self, word: str, vector: np.ndarray) -> np.ndarray:
        if not np.isfinite(vector).all():
            raise InputError(
                f"{self.path}: the vector of {word!r} is not finite; get the file again"
            )
        return vector


class TextVectors(VectorFile):
    """GloVe's or word2vec's text, a line a word. Lines are read in their order, each once and no
    more of them than the wanted words need; of a line that was read its place is remembered.

    Reading goes by positions, so that processes that share the open file do not disturb each other.
    """

    def __init__(self, path: Path) -> None:
        """A first line of two whole numbers (word2vec's header) is left out."""
        self.path, self._file = path, path.open("rb", buffering=0)
        first = self._line(0)
        header = re.fullmatch(rb"\d+ (\d+)\s*", first)
        self.dimension = int(header[1]) if header else first.strip().count(b" ")
        if not self.dimension:
            raise InputError(f"{path}: vector 1 is no word with numbers: {first[:40]!r}")
        self._start = len(first) + 1 if header else 0
        self._places: dict[str, int] = {}
        self._unread = self._lines()
        self._mean: np.ndarray | None = None
        self._lock = RLock()

    def find(self, word: str) -> np.ndarray | None:
        with self._lock:
            while word not in self._places:
                if not self._read_on():
                    return None
            place = self._places[word]
        return self._vector(word, self._line(place))

    def mean(self) -> np.ndarray:
        with self._lock:
            if self._mean is None:
                self._mean = self._added()
        return self._mean

    def words(self) -> Iterator[str]:
        return (word for word, _ in self._lines())

    def _read_on(self) -> bool:
        """Reads one line more; False behind the last one."""
        try:
            return next(self._unread, None) is not None
        except InputError:  # who asks again is told again
            self._unread = self._lines()
            raise

    def _added(self) -> np.ndarray:
        total, count = np.zeros(self.dimension), 0
        for word, line in self._lines():
            total += self._vector(word, line)
            count += 1
        if not count:
            raise InputError(f"{self.path} holds no vector")
        self._unread = iter(())
        return total / count

    def _lines(self) -> Iterator[tuple[str, bytes]]:
        """Word and line of each vector. The numbers are counted from the right: GloVe's 840B file
        has words that hold spaces."""
        for number, (place, line) in enumerate(self._split(self._start), start=1):
            line = line.rstrip(b"\r\n ")
            spaces = line.count(b" ")
            if spaces < self.dimension:
                shown = line[:40].decode("utf-8", "replace")
                raise InputError(
                    f"{self.path}: vector {number} is no word with {self.dimension} numbers: "
                    f"{shown!r}"
                )
            end = line.index(b" ") if spaces == self.dimension else self._end(line)
            word = line[:end].decode("utf-8", "replace")
            self._places.setdefault(word, place)
            yield word, line

    def _end(self, line: bytes) -> int:
        return len(line.rsplit(b" ", self.dimension)[0])

    def _split(self, place: int) -> Iterator[tuple[int, bytes]]:
        """The lines from a place on, with their places; only a line feed ends one, because GloVe
        has words of odd bytes."""
        rest = b""
        while block := os.pread(self._file.fileno(), BLOCK, place + len(rest)):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield place, line
                place += len(line) + 1
        if rest:
            yield place, rest

    def _line(self, place: int) -> bytes:
        """The line that begins at a place."""
        found = b""
        while block := os.pread(self._file.fileno(), LINE, place + len(found)):
            found += block
            if b"\n" in block:
                break
        return found.split(b"\n", 1)[0]

    def _vector(self, word: str, line: bytes) -> np.ndarray:
        numbers = line.rstrip(b"\r\n ").rsplit(b" ", self.dimension)[1:]
        try:
            vector = np.array([float(number) for number in numbers])
        except ValueError:
            raise InputError(f"{self.path}: the vector of {word!r} is no list of numbers") from None
        return self._checked(word, vector)


class ArrayVectors(VectorFile):
    """Words and vectors (V, C_e) in memory."""

    def __init__(self, path: Path, words: Sequence[str], vectors: np.ndarray) -> None:
        self.path, self.dimension, self._vectors = path, vectors.shape[1], vectors
        self._rows = {word: row for row, word in reversed([*enumerate(words)])}

    def find(self, word: str) -> np.ndarray | None:
        if word not in self._rows:
            return None
        return self._checked(word, self._vectors[self._rows[word]].astype(np.float64))

    def mean(self) -> np.ndarray:
        return self._checked("the mean", self._vectors.mean(0, dtype=np.float64))

    def words(self) -> Iterator[str]:
        return reversed(self._rows)


def _read_gensim(path: Path) -> ArrayVectors:
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
    return ArrayVectors(path, vectors.index_to_key, vectors.vectors)


def _check_header(path: Path) -> None:
    """Compares the sizes that a word2vec binary file announces with the file's own.

    Raises:
        InputError: they would not fit into it, or, if it is compressed, into memory.
        ValueError: it announces none, or more than it has.
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


def _read_bundled(path: Path) -> ArrayVectors:
    """What `write_vectors` wrote."""
    try:
        with np.load(path, allow_pickle=False) as content:
            words = content["words"].tobytes().decode("utf-8").split("\n")
            vectors = content["vectors"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path} holds no word vectors, or is damaged") from None
    if vectors.ndim != 2 or len(vectors) != len(words):
        raise InputError(f"{path}: {len(words)} words, but vectors of shape {vectors.shape}")
    return ArrayVectors(path, words, vectors)


KINDS: dict[str, Callable[[Path], VectorFile]] = {
    ".bin": _read_gensim,
    ".bin.gz": _read_gensim,
    ".kv": _read_gensim,
    ".npz": _read_bundled,
}


def open_vectors(path: Path | str, allow_pickle: bool = False) -> VectorFile:
    """A GloVe or word2vec text file, a word2vec binary (.bin, .bin.gz) file, a bundle's (.npz) or,
    with `allow_pickle`, one of gensim's (.kv), which runs the code in it. Who asks for the same
    file again gets the one that is open.

    Raises:
        InputError: the file is missing or is none of these.
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
    state = path.stat()
    return _opened(path.absolute(), state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=4)
def _opened(path: Path, *_: int) -> VectorFile:
    named = (read for end, read in KINDS.items() if path.name.endswith(end))
    return next(named, TextVectors)(path)


def write_vectors(file: VectorFile, words: Sequence[str], path: Path) -> None:
    """The vectors of words of a file in half precision, for `open_vectors` to read."""
    found = [vector for word in words if (vector := file.find(word)) is not None]
    vectors = np.array(found, np.float16).reshape(-1, file.dimension)
    named = np.frombuffer("\n".join(words).encode(), np.uint8)
    with written_aside(path) as aside, aside.open("wb") as target:
        np.savez(target, words=named, vectors=vectors)
