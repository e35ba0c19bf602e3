"""A tiny bundle, a short video, and a real server on loopback."""

import pytest
import torch
from page_server import served, write_clip
from tiny_models import FROM_NOUGHT, tiny_config, tiny_segmenter

import aamn
from aamn.inference.checkpoint import save_checkpoint
from aamn.predictor import write_bundle
from aamn.web.limits import Limits
from aamn.web.videos import Example
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.decoding import Video
from proposals.detector import save_detector


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    torch.manual_seed(0)
    small = {"widths": (8, 8), "strides": (4, 2), "head": 16, "min_size": 40, "max_size": 60}
    config = DetectorConfig(name="small", weights="", classes=("a", "b"), score_threshold=0.0,
                            proposals=8, **small)  # fmt: skip
    save_detector(build_detector(config), folder / "d.pt")
    segmenter = tiny_segmenter(vocabulary=FROM_NOUGHT)
    save_checkpoint(folder / "s.pt", segmenter, tiny_config(), 7, {})
    write_bundle(folder / "b", folder / "d.pt", folder / "s.pt", absent_threshold=-5.0)
    return folder / "b"


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
