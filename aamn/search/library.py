"""The library of videos: the rows of all tubes and paths in one LanceDB table, in a folder or on an
object store, of which a sentence finds the best by their inner products without all of them in
memory.

Each `add` or `remove` is one version of the table: it is there as a whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from aamn.index.file import IndexFile
from aamn.index.query_encoder import CALIBRATED, QueryEncoder
from aamn.index.video_index import VideoIndex, VideoTrack
from aamn.inference.verdict import Verdict
from aamn.search.folder import TABLE, Hit
from aamn.search.rows import LEVELS, TUBES, VideoRows, rows_of
from aamn.structures import Query
from proposals import places
from proposals.errors import InputError, cannot_write

try:
    import lancedb
    import pyarrow as pa
    from lancedb.index import IvfFlat
except ImportError:
    raise InputError("a library of videos needs LanceDB: pip install 'aamn[search]'") from None

FORMAT = "aamn-library 1"
ROWS_AT_ONCE = 100_000  # of one version, so much is in memory
FIRST_LOOK, WIDER = 16, 8  # rows for each wanted video, and how many times more the next time
RECALL_OF = 10


class Library:
    """A library that is there, or is made by the first `add`."""

    def __init__(self, place: Path | str) -> None:
        """`place` is a folder or URL.

        Raises:
            InputError: it cannot be reached, or holds another table.
        """
        self.place = str(place)
        with _using(self.place):
            self._db = lancedb.connect(self.place, storage_options=_storage(self.place))
            self.table = _table_of(self._db)
        if self.table is not None and _facts(self.table.schema).get("format") != FORMAT:
            raise InputError(f"{self.place} is no library of videos; `aamn library` makes one")

    @property
    def facts(self) -> dict[str, Any]:
        """The hash of the segmenter whose indexes these are ("model") and its "heads"."""
        return {} if self.table is None else _facts(self.table.schema)

    def add(self, indexes: Iterable[Path]) -> Iterator[str]:
        """Inserts the videos of these indexes, or replaces their rows; those that are there as they
        are stay. Yields the ids of a video when its rows are on the disk.

        Raises:
            InputError: a damaged index, one of another segmenter, no room.
        """
        waiting: list[VideoRows] = []
        rows = 0
        for path in indexes:
            waiting.append(self._checked(rows_of(path)))
            rows += len(waiting[-1].levels)
            if rows >= ROWS_AT_ONCE:
                yield from self.insert(waiting)
                waiting, rows = [], 0
        if waiting:
            yield from self.insert(waiting)

    def _checked(self, video: VideoRows) -> VideoRows:
        facts = _facts_of(video)
        if self.facts and self.facts != facts:
            raise InputError(
                f"{video.source} was made by another segmenter ({facts['model']}, those of "
                f"{self.place} by {self.facts['model']}); index the video again, or choose "
                "another library"
            )
        return video

    def insert(self, videos: Sequence[VideoRows]) -> list[str]:
        """One version with these videos' rows in place of those that they had."""
        there = self._there([video.header.video_id for video in videos])
        wanted = {
            v.header.video_id: v
            for v in videos
            if v.identity == ""
            or there.get(v.header.video_id) != (v.identity, v.source, len(v.levels))
        }
        with _using(self.place):
            if wanted:
                rows = pa.concat_tables(_records(v) for v in wanted.values()).combine_chunks()
                self._write(rows, wanted, there)
        return [video.header.video_id for video in videos]

    def _write(self, rows: pa.Table, wanted: Iterable[str], there: Iterable[str]) -> None:
        replaced = [video_id for video_id in wanted if video_id in {*there}]
        if self.table is None:
            self.table = self._db.create_table(TABLE, rows, exist_ok=False)
        elif replaced:
            merge = self.table.merge_insert("key").when_matched_update_all()
            merge = merge.when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(_one_of(replaced)).execute(rows)
        else:
            self.table.add(rows)

    def _there(self, video_ids: Sequence[str]) -> dict[str, tuple[str, str, int]]:
        """The identity, index and number of rows of those of these videos that are there."""
        if self.table is None:
            return {}
        found: dict[str, tuple[str, str, int]] = {}
        query = self.table.search().where(_one_of(video_ids))
        for row in query.select(["video", "identity", "source"]).to_arrow().to_pylist():
            count = found.get(row["video"], ("", "", 0))[2] + 1
            found[row["video"]] = (row["identity"], row["source"], count)
        return found

    def remove(self, video_ids: Sequence[str]) -> int:
        """Removes these videos' rows; how many videos were there."""
        there = self._there(video_ids)
        if self.table is not None and there:
            with _using(self.place):
                self.table.delete(_one_of([*there]))
        return len(there)

    def cluster(self) -> None:
        """Makes the approximate index: clusters of whole vectors (IVF_FLAT). Rows that are added
        later are scanned beside it.

        Raises:
            InputError: too few rows, no room.
        """
        with _using(self.place):
            assert self.table is not None  # who searches it has seen to it
            self.table.create_index("vector", config=IvfFlat(distance_type="dot"), replace=True)

    def best(
        self, side: np.ndarray, top: int, approximate: bool = False, level: str = TUBES
    ) -> list[dict[str, Any]]:
        """The best row of each of the `top` best videos for a sentence's vector (D,)."""
        return _Looked(self.table, side, _where(level, None, None), approximate).best(top)

    def __len__(self) -> int:
        """Rows."""
        return 0 if self.table is None else self.table.count_rows()

    def searched_by(self, query_encoder: QueryEncoder) -> SearchedLibrary:
        """The library with what turns sentences into vectors.

        Raises:
            InputError: nothing is in it, or it is of another segmenter.
        """
        return SearchedLibrary(self, query_encoder)

    def __repr__(self) -> str:
        return f"Library({self.place!r}, {len(self)} rows)"


class SearchedLibrary:
    """A library, ready to be asked; the same door as `IndexFolder`."""

    narrows = True

    def __init__(self, library: Library, query_encoder: QueryEncoder) -> None:
        if library.table is None:
            raise InputError(f"no library at {library.place}; `aamn library --add` makes one")
        model = library.facts["model"]
        if model != query_encoder.model:
            raise InputError(
                f"{library.place} is of another segmenter ({model}, this one is "
                f"{query_encoder.model}); index its videos again"
            )
        self.library, self.table, self.query_encoder = library, library.table, query_encoder
        self.heads = list(library.facts["heads"])

    def search(
        self,
        texts: str | Sequence[str],
        top: int = 10,
        absent_threshold: float | str | None = CALIBRATED,
        *,
        level: str = TUBES,
        within: str | None = None,
        since: datetime | None = None,
        approximate: bool = False,
    ) -> list[list[Hit]]:
        """As `IndexFolder.search`, and the same hits.

        Args:
            level: a video's score is that of its best tube in a clip ("tubes"), or of its best
                path's mean ("paths").
            within: of this video alone: `top` tubes or paths of it.
            since: of the videos that were added from then on.
            approximate: through `build_approximate`'s index, which may miss some.

        Raises:
            InputError: a sentence without a word, another level, no approximate index.
        """
        if level not in LEVELS:
            raise InputError(f"level: wanted one of {', '.join(LEVELS)}, got {level!r}")
        if approximate and not self.table.list_indices():
            raise InputError(
                f"{self.library.place} has no approximate index; `aamn library --approximate` "
                "makes one"
            )
        threshold = self.query_encoder.threshold(absent_threshold)
        queries = self.query_encoder.queries(texts)
        sides, bias = self._sides(queries)
        where = _where(level, within, since)
        found = []
        for query, side in zip(queries, sides, strict=True):
            rows = _Looked(self.table, side, where, approximate).best(top, within is not None)
            found.append([_hit(row, query, bias, threshold) for row in rows] if query.known else [])
        return found

    def _sides(self, queries: Sequence[Query]) -> tuple[np.ndarray, float]:
        """The sentences' vectors (Q, D) and what is added to all scores."""
        sentences = self.query_encoder.encode(queries)
        sides = np.concatenate([sentences.sides[name].numpy() for name in self.heads], 1)
        return sides, sum(float(sentences.biases[name]) for name in self.heads)

    def build_approximate(self, texts: Sequence[str]) -> float:
        """Makes the approximate index, clusters of whole vectors (IVF_FLAT), and measures which
        share of the best RECALL_OF rows of these sentences it finds.

        Raises:
            InputError: no sentence, too few rows, no room.
        """
        sides, _ = self._sides(self.query_encoder.queries(texts))
        self.library.cluster()
        return recall(self.table, sides)

    def open(self, hit: Hit) -> VideoIndex:
        """The index of a video that was found, fetched where it lies elsewhere."""
        path = places.fetch(places.local_name(hit.source))
        return VideoIndex(IndexFile.read(path), self.query_encoder)

    def track(self, hit: Hit) -> VideoTrack:
        """The track of the sentence in a video that was found for it."""
        return self.open(hit).query(hit.text)[0]

    @property
    def size(self) -> str:
        return f"{len(self.library)} rows"


class _Looked:
    """The rows that fit one side (D,) best, of the table or of its approximate index."""

    def __init__(self, table: Any, side: np.ndarray, where: str, approximate: bool) -> None:
        self.table, self.side, self.where, self.approximate = table, side, where, approximate

    def best(self, top: int, each_row: bool = False) -> list[dict[str, Any]]:
        """The best row of each of the `top` best videos, or with `each_row` the `top` best rows, by
        scores that are computed anew from the whole vectors; best first."""
        wanted, count = top * (1 if each_row else FIRST_LOOK), -1
        while True:
            rows = self._rows(wanted)
            chosen: dict[Any, dict[str, Any]] = {}
            for row in rows:
                chosen.setdefault(row["key"] if each_row else row["video"], row)
            if len(chosen) >= top or len(rows) < wanted or len(rows) == count:
                return list(chosen.values())[:top]
            wanted, count = wanted * WIDER, len(rows)

    def _rows(self, limit: int) -> list[dict[str, Any]]:
        query = self.table.search(self.side, vector_column_name="vector").distance_type("dot")
        query = query if self.approximate else query.bypass_vector_index()
        found = query.where(self.where, prefilter=True).limit(limit).to_arrow()
        vectors = np.array(found["vector"].combine_chunks().flatten())
        scores = vectors.reshape(-1, len(self.side)) @ self.side
        rows = found.drop_columns(["vector"]).to_pylist()
        for row, score in zip(rows, scores.tolist(), strict=True):
            row["score"] = score
        return sorted(rows, key=lambda row: (-row["score"], row["source"], row["first"]))


def recall(table: Any, sides: np.ndarray) -> float:
    """The share of the exact best RECALL_OF rows that the approximate index finds, of sides
    (Q, D)."""
    found = 0.0
    for side in sides:
        exact, near = (
            {row["key"] for row in _Looked(table, side, "true", quick)._rows(RECALL_OF)}
            for quick in (False, True)
        )
        found += len(exact & near) / max(1, len(exact))
    return found / len(sides)


def _table_of(db: lancedb.DBConnection) -> lancedb.table.Table | None:
    """The library's table; None where there is none, or its making was cut short."""
    try:
        return db.open_table(TABLE) if TABLE in db.list_tables().tables else None
    except ValueError as error:
        if "was not found" not in str(error):
            raise
        return None


def _where(level: str, within: str | None, since: datetime | None) -> str:
    parts = [f"level = {LEVELS.index(level)}"]
    if within is not None:
        parts.append(_one_of([within]))
    if since is not None:
        utc = since.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        parts.append(f"added >= timestamp '{utc}'")
    return " AND ".join(parts)


def _hit(row: dict[str, Any], query: Query, bias: float, threshold: float | None) -> Hit:
    verdict = Verdict.of(query, row["score"] + bias, threshold)
    frames = range(row["first"], row["stop"])
    path = places.local_name(row["source"])
    return Hit(row["video"], path, verdict.score, frames, query.text, verdict.matched, row["fps"])


def _facts_of(video: VideoRows) -> dict[str, Any]:
    header = video.header
    return {"format": FORMAT, "model": header.origin.model, "heads": header.heads}


def _facts(schema: pa.Schema) -> dict[str, Any]:
    return json.loads((schema.metadata or {}).get(b"aamn", b"{}"))


def _records(video: VideoRows) -> pa.Table:
    """The rows of a video as they are stored."""
    rows, header = len(video.levels), video.header
    flat = pa.array(video.vectors.ravel(), pa.float32())
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    columns = {
        "key": pa.array([f"{header.video_id}\n{n}" for n in range(rows)]),
        "vector": pa.FixedSizeListArray.from_arrays(flat, video.vectors.shape[1]),
        "video": pa.array([header.video_id] * rows),
        "level": pa.array(video.levels),
        "first": pa.array(video.spans[:, 0], pa.int64()),
        "stop": pa.array(video.spans[:, 1], pa.int64()),
        "fps": pa.array([header.fps] * rows, pa.float64()),
        "identity": pa.array([video.identity] * rows),
        "source": pa.array([video.source] * rows),
        "added": pa.array([now] * rows, pa.timestamp("us")),
    }
    return pa.table(columns).replace_schema_metadata({"aamn": json.dumps(_facts_of(video))})


def _one_of(video_ids: Sequence[str]) -> str:
    """The condition that a row is of one of these videos."""
    names = ", ".join("'" + video_id.replace("'", "''") + "'" for video_id in video_ids)
    return f"video IN ({names})"


def _storage(place: str) -> dict[str, str] | None:
    """What an object store is told beside what the environment says."""
    if not places.is_url(place):
        return None
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options = {"client_max_retries": "2", "client_retry_timeout": "20", "connect_timeout": "5s"}
    if endpoint and place.startswith("s3"):
        options |= {"aws_endpoint": endpoint, "allow_http": "true"}
    return options


@contextmanager
def _using(place: str) -> Iterator[None]:
    """One line for whatever goes wrong with the table."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of Lance, Arrow and the store
        reason = " ".join(str(error).split())
        if "No space left" in reason:
            raise cannot_write(Path(place), OSError(28, "No space left")) from None
        raise InputError(f"{place}: the library cannot be used ({reason[:300]})") from None
