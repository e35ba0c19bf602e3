"""A tiny bundle, a short video, and a real server on loopback."""

import pytest
from page_server import served, write_clip
from tiny_bundle import save_bundle

import aamn
from aamn.web.limits import Limits
from aamn.web.videos import Example
from proposals.decoding import Video


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    return save_bundle(folder, -5.0, {})


@pytest.fixture(scope="session")
def segmenter(bundle):
    return aamn.load(bundle, "cpu")


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture(scope="session")
def library(segmenter, tmp_path_factory):
    """A folder of indexes of three videos, whose files are beside it."""
    folder = tmp_path_factory.mktemp("library")
    for seed in (1, 2, 3):
        path = write_clip(folder / f"v{seed}.mp4", 12, seed)
        segmenter.index(path, folder / "indexes").close()
    return folder / "indexes"


@pytest.fixture(scope="session")
def page(segmenter, bundle, clip, library, tmp_path_factory):
    """A server with an example, a library, and small limits."""
    pytest.importorskip("fastapi", reason="the page's server: pip install 'aamn[web]'")
    pytest.importorskip("uvicorn", reason="the page's server: pip install 'aamn[web]'")
    example = Example(Video.at(clip), ("w3 w4", "w7"))
    limits = Limits(megabytes=0.2, frames=60, megapixels=0.01, sentences=3)
    folder = tmp_path_factory.mktemp("brought")
    with served(
        segmenter, bundle, folder, examples=(example,), library=library, limits=limits
    ) as address:
        yield address, folder
