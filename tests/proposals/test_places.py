"""Places beyond this machine's folders, by a file system in memory and one that says no."""

import errno
from pathlib import Path

import fsspec
import pytest

from proposals import places
from proposals.errors import InputError
from proposals.extract import find_videos
from proposals.identity import identity_of


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """An empty memory:// and a cache of the test's own."""
    monkeypatch.setenv("AAMN_CACHE", str(tmp_path / "cache"))
    store = fsspec.filesystem("memory")
    store.rm("/", recursive=True) if store.exists("/box") else None
    yield store
    if store.exists("/box"):
        store.rm("/box", recursive=True)


def remote(store, name, content):
    store.pipe(f"/box/{name}", content)
    return f"memory://box/{name}"


@pytest.mark.parametrize("url", ["s3://b/a.mp4", "gs://b/c d/%2F.h5", "memory://x", "s3://b/.a/b"])
def test_a_url_and_its_local_name_lead_to_each_other(url, tmp_path):
    path = places.local_name(url)
    assert path.is_relative_to(tmp_path / "cache") and places.url_of(path) == url
    assert places.url_of(places.local_name(url + "/")) == url and places.shown(path) == url


def test_paths_are_left_alone(tmp_path):
    path = tmp_path / "a.mp4"
    assert places.local_name(path) == places.local_name(str(path)) == path
    assert places.local_name(f"file://{path}") == path
    assert places.url_of(path) is None and places.fetch(path) == path
    assert places.shown(Path("a")) == str(Path("a").absolute())
    assert not places.is_url(path) and not places.is_url("a:b") and places.is_url("s3://b/c")


def test_a_file_is_fetched_once_for_each_version(memory):
    path = places.local_name(remote(memory, "clip.mp4", b"one"))
    assert places.fetch(path).read_bytes() == b"one"
    before = path.stat().st_mtime_ns
    assert places.fetch(path).stat().st_mtime_ns == before
    remote(memory, "clip.mp4", b"three")
    assert places.fetch(path).read_bytes() == b"three"
    with places.fetched(path):
        assert path.exists()
    assert path.exists(), "it was here before"
    other = places.local_name(remote(memory, "other.mp4", b"two"))
    with places.fetched(other):
        assert other.read_bytes() == b"two"
    assert not other.exists() and not [*other.parent.glob(".other*")]


def test_what_is_written_is_put_and_found_again(memory, tmp_path):
    folder = places.local_name("memory://box/out")
    folder.mkdir(parents=True)
    for name, content in {"a.h5": b"a", ".b.tmp": b"half", "c.parts/d": b"part"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    places.put(folder)
    assert memory.find("/box") == ["/box/out/a.h5"]
    written = memory.created("/box/out/a.h5")
    places.put(folder)
    assert memory.created("/box/out/a.h5") == written, "it has not changed"
    (folder / "a.h5").unlink()
    assert places.fetch(folder / "a.h5").read_bytes() == b"a"
    places.remove(folder / "a.h5")
    assert not memory.find("/box") and not (folder / "a.h5").exists()
    places.remove(folder / "a.h5")
    places.put(tmp_path)  # a folder of this machine


def test_a_folder_is_fetched_with_what_is_in_it(memory):
    remote(memory, "bundle/bundle.json", b"{}")
    remote(memory, "bundle/deep/x.pt", b"x")
    folder = places.fetch(places.local_name("memory://box/bundle"))
    assert (folder / "bundle.json").read_bytes() == b"{}"
    assert (folder / "deep" / "x.pt").read_bytes() == b"x"
    assert places.is_there("memory://box/bundle") and not places.is_there("memory://box/no")


def test_videos_are_found_at_urls(memory, tmp_path):
    for name in ("a.mp4", "b.avi", "notes.md", "deep/c.mp4"):
        remote(memory, f"videos/{name}", name.encode())
    remote(memory, "list.txt", b"videos/b.avi\nmemory://box/videos/deep\n")

    def ids(*given):
        return [video.video_id for video in find_videos(given)]

    assert ids("memory://box/videos") == ["a", "b"]
    assert ids("memory://box/videos/*.mp4") == ["a"]
    assert ids("memory://box/videos/b.avi", "memory://box/list.txt") == ["b", "c"]
    (tmp_path / "own.txt").write_text("memory://box/videos/a.mp4\n")
    assert ids(tmp_path / "own.txt") == ["a"]
    with pytest.raises(InputError, match="nothing at memory://box/none"):
        ids("memory://box/none")
    with pytest.raises(InputError, match=r"list\.txt.*nothing|notes\.md: no video there"):
        ids("memory://box/videos/notes.md")


def test_a_video_is_known_by_its_url_and_its_content(memory, tmp_path):
    url = remote(memory, "a.mp4", b"frames" * 99)
    (tmp_path / "b.mp4").write_bytes(b"frames" * 99)
    there, here = identity_of(places.local_name(url)), identity_of(tmp_path / "b.mp4")
    assert there.path == url and here.path == str(tmp_path / "b.mp4")
    assert there.equals(here)


REFUSALS = {
    ImportError("install s3fs"): r"s3://b/c: .*: pip install 'aamn\[s3\]'",
    PermissionError(errno.EACCES, "Forbidden"): r"s3://b/c cannot be reached \(.*Forbidden\)",
    OSError("Could not connect\nto host"): r"s3://b/c cannot be reached \(Could not connect to",
    ValueError("no such region"): r"s3://b/c cannot be reached \(no such region\)",
}


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_what_a_store_refuses_is_one_line(error, monkeypatch):
    def refuse(*given, **options):
        raise error

    monkeypatch.setattr(places, "url_to_fs", refuse)
    path = places.local_name("s3://b/c")
    for ask in (places.fetch, places.check_bucket, lambda p: places.listed(places.shown(p))):
        with pytest.raises(InputError, match=REFUSALS[error]):
            ask(path)


def test_a_wrong_url_is_one_line(memory):
    with pytest.raises(InputError, match="without an empty part"):
        places.local_name("s3://bucket//name")
    with pytest.raises(InputError, match="nothing at memory://box/none"):
        places.fetch(places.local_name("memory://box/none"))
    path = places.local_name("memory://box/none")
    assert places.fetch(path, missing_ok=True) == path and not path.exists()
    with pytest.raises(InputError, match="nosuch://a/b cannot be reached"):
        places.fetch(places.local_name("nosuch://a/b"))
