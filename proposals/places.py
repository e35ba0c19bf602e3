"""Places beyond this machine's folders: an fsspec URL (s3://, gs://, ...) has a local name, a path
in the cache, by which all else of the project knows it. It is fetched to there when it is read, and
put from there when it was written; a put object is there whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from proposals.errors import InputError
from proposals.files import escaped, unescaped, write_json, written_aside

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)", re.DOTALL)
_VERSION = ("size", "ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "created")
_WHOLE_PUTS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "memory"}  # an object appears when complete
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}


def is_url(place: object) -> bool:
    """Whether a place is a URL and not a path."""
    return isinstance(place, str) and _URL.fullmatch(place) is not None


def cache() -> Path:
    """Where what is fetched lies: AAMN_CACHE, else the user's folder for such things."""
    own = os.environ.get("AAMN_CACHE")
    common = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(own) if own else Path(common).expanduser() / "aamn").absolute() / "places"


def local_name(place: str | Path) -> Path:
    """The path by which a place is known here; nothing is fetched. A path is its own.

    Raises:
        InputError: a URL without a bucket, or with an empty part.
    """
    found = _URL.fullmatch(place) if isinstance(place, str) else None
    if found is None:
        return Path(place)
    protocol, rest = found.groups()
    if protocol in ("file", "local"):
        return Path(rest)
    parts = rest.rstrip("/").split("/")
    if not all(parts):
        raise InputError(f"{place}: wanted {protocol}://BUCKET/NAME without an empty part")
    return cache().joinpath(protocol, *map(escaped, parts))


def url_of(path: Path | str) -> str | None:
    """The URL that a local name stands for; None for other paths."""
    try:
        protocol, *parts = Path(path).absolute().relative_to(cache()).parts
    except ValueError:
        return None
    return f"{protocol}://{'/'.join(map(unescaped, parts))}"


def shown(path: Path) -> str:
    """Where a path leads, wherever one stands: its URL, or itself as an absolute path."""
    return url_of(path) or os.path.abspath(path)


def fetch(path: Path, missing_ok: bool = False) -> Path:
    """Brings the file, or all files of the folder, that a local name stands for, unless this very
    version is here; other paths are left alone. Returns `path`.

    Raises:
        InputError: nothing is there (unless `missing_ok`), it cannot be reached, the disk is full.
    """
    url = url_of(path)
    if url is None:
        return path
    with _reaching(url):
        fs, name = _opened(url)
        try:
            info = fs.info(name)
        except FileNotFoundError:
            if missing_ok:
                return path
            raise InputError(f"nothing at {url}") from None
        if info["type"] != "directory":
            _fetch_file(fs, name, info, path)
            return path
        for below, info in fs.find(name, detail=True).items():
            relative = below[len(name) :].strip("/")
            if relative:
                _fetch_file(fs, below, info, path.joinpath(*map(escaped, relative.split("/"))))
    return path


@contextmanager
def fetched(path: Path) -> Iterator[Path]:
    """`fetch` for as long as the block lasts: what was not here before does not stay."""
    stays = url_of(path) is None or path.exists()
    yield fetch(path)
    if not stays:
        for one in (path, _record_of(path)):
            one.unlink(missing_ok=True)


def put(path: Path) -> None:
    """Writes what has changed at a local name, a file or a folder, to its URL; other paths are left
    alone.

    Raises:
        InputError: it cannot be reached or written.
    """
    url = url_of(path)
    if url is None or not path.exists():
        return
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if not file.name.startswith(".") and file.suffix not in (".parts", ".lock"):
                put(file)
        return
    if _record(path).get("here") == _state(path):
        return
    with _reaching(url):
        fs, name = _opened(url)
        _put_file(fs, path, name)
        _remember(path, fs.info(name))


def remove(path: Path) -> None:
    """Removes a file, and what its local name stands for."""
    url = url_of(path)
    if url is not None:
        with _reaching(url):
            fs, name = _opened(url)
            with suppress(FileNotFoundError):
                fs.rm_file(name)
        _record_of(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def listed(url: str) -> list[str]:
    """The URLs of the files at a URL: itself, those directly in a folder, or those a pattern (*, ?)
    fits; sorted.

    Raises:
        InputError: nothing is there, or it cannot be reached.
    """
    with _reaching(url):
        fs, name = _opened(url)
        names: list[str] = []
        if "*" in name or "?" in name:
            names = fs.glob(name)
        elif fs.isfile(name):
            return [url]
        elif fs.isdir(name):
            names = [one["name"] for one in fs.ls(name, detail=True) if one["type"] == "file"]
        if not names:
            raise InputError(f"nothing at {url}")
        protocol = url.partition("://")[0]
        return sorted(f"{protocol}://{one.lstrip('/')}" for one in names)


def is_there(url: str) -> bool:
    """Whether a file or folder is at a URL; raises InputError where it cannot be reached."""
    with _reaching(url):
        fs, name = _opened(url)
        return bool(fs.exists(name))


def check_bucket(path: Path) -> None:
    """Finds out, before hours of work, whether a local name's store answers and has the bucket.

    Raises:
        InputError: it does not.
    """
    url = url_of(path)
    if url is None:
        return
    with _reaching(url):
        fs, name = _opened(url)
        bucket = name.strip("/").split("/")[0]
        if url.partition("://")[0] in _EXTRAS and not fs.exists(bucket):
            raise InputError(f"{url}: no bucket {bucket}; make it, or choose another")


def _opened(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    fs, name = url_to_fs(url, use_listings_cache=False)
    return fs, name


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """One line for whatever goes wrong on the way to a URL."""
    protocol = url.partition("://")[0]
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        advice = f"pip install 'aamn[{extra}]'" if extra else " ".join(str(error).split())
        raise InputError(f"{url}: {protocol}:// wants a package: {advice}") from None
    except Exception as error:  # each store has its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{url} cannot be reached ({reason}); check the address, the network and the key"
        ) from None


def _fetch_file(fs: Any, name: str, info: dict[str, Any], path: Path) -> None:
    if path.is_file() and _record(path).get("there") == _version(info):
        return
    with written_aside(path) as aside:
        fs.get_file(name, str(aside))
        os.utime(aside)
    _remember(path, info)


def _put_file(fs: Any, path: Path, name: str) -> None:
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else {*fs.protocol}
    if protocols & _WHOLE_PUTS:
        fs.put_file(str(path), name)
        return
    folder, _, last = name.rpartition("/")
    aside = f"{folder}/.{last}.{os.getpid()}.tmp"
    fs.makedirs(folder, exist_ok=True)
    fs.put_file(str(path), aside)
    fs.mv(aside, name)


def _record_of(path: Path) -> Path:
    """Beside a local name: which version of its URL lies there."""
    return path.with_name(f".{path.name}.place")


def _record(path: Path) -> dict[str, Any]:
    try:
        return json.loads(_record_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _remember(path: Path, info: dict[str, Any]) -> None:
    write_json(_record_of(path), {"there": _version(info), "here": _state(path)})


def _version(info: dict[str, Any]) -> list[str]:
    return [str(info.get(key)) for key in _VERSION]


def _state(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]
