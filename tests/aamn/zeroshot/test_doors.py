"""What is built for one system works for all: the page, the jobs and the forms in which others take
a track, on indexes of the zero-shot system."""

import json
import urllib.request

import matplotlib
import numpy as np
import pytest
from page_server import served
from PIL import Image
from pycocotools import mask as coco_mask
from tiny_zeroshot import BLUE, RED, SIZE, Squares, box_of, draw, tiny_zeroshot

from aamn.inference.track import write_davis
from aamn.predictor import VideoSegmenter
from aamn.web.limits import Limits
from aamn.web.videos import Example
from proposals.decoding import Video

matplotlib.use("Agg")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FRAMES = draw(6)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos") / "squares"
    folder.mkdir()
    for number, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(folder / f"{number:05d}.png")
    return folder


@pytest.fixture(scope="module")
def segmenter() -> VideoSegmenter:
    return tiny_zeroshot()


@pytest.fixture(scope="module")
def index(segmenter, video):
    with segmenter.index(video) as found:
        yield found


@pytest.fixture(scope="module")
def tracks(index):
    """The red dog, which moves right, and one that is nowhere."""
    return index.query(["the red dog", "a yellow car"])


def red(frame):
    return np.array(box_of(FRAMES[frame], RED), np.float32)


def test_coco(tracks):
    dog, nobody = (json.loads(json.dumps(track.to_coco())) for track in tracks)
    assert [one["image_id"] for one in dog] == [*range(6)] and nobody == []
    for one in dog:
        x, y, width, height = one["bbox"]
        assert np.allclose((x, y, x + width, y + height), red(one["image_id"]), atol=0.1)
        mask = coco_mask.decode(one["segmentation"])
        assert (mask == tracks[0].masks(one["image_id"])).all() and mask.any()


def test_supervision(tracks):
    pytest.importorskip("supervision")
    found = tracks[0].to_supervision(3)
    assert np.allclose(found.xyxy[0], red(3), atol=0.1)
    assert (found.mask[0] == tracks[0].masks(3)).all()
    assert len(tracks[1].to_supervision(3)) == 0


@pytest.mark.parametrize("form", ["davis", "youtube_vos"])
def test_indexed_pictures(tracks, tmp_path, form):
    getattr(tracks[0], f"to_{form}")(tmp_path)
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == 6
    with Image.open(files[4]) as picture:
        assert ((np.array(picture) == 1) == tracks[0].masks(4)).all()
    write_davis(tracks, tmp_path / "both")
    assert len(list((tmp_path / "both").rglob("*.png"))) == 6


def test_files_and_plots(tracks, tmp_path):
    tracks[0].save(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["sentence"] == "the red dog"
    with Image.open(tmp_path / "masks/00002.png") as picture:
        assert ((np.array(picture) > 0) == tracks[0].masks(2)).all()
    assert len(tracks[0].plot([0, 3]).axes) == 2


@pytest.fixture(scope="module")
def page(segmenter, video, tmp_path_factory):
    """A real server with the video as an example, and two indexes to search."""
    pytest.importorskip("fastapi", reason="the page's server: pip install 'aamn[web]'")
    library, brought = (tmp_path_factory.mktemp(name) for name in ("library", "brought"))
    segmenter.index(video, library).close()
    other = [(BLUE, "dog", 10, 10, 20, 0)]
    named = VideoSegmenter(segmenter.query_encoder, Squares(other))
    named.index(draw(6, other), library).close()
    offered = (Example(Video.at(video), ("the red dog",)),)
    with served(
        segmenter, "zeroshot_boxes", brought, examples=offered, library=library, limits=Limits()
    ) as address:
        yield address


def said(url, content=None, method="POST"):
    data = None if content is None else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def test_the_page_s_answers_are_the_library_s(page, tracks):
    facts = said(f"{page}/api/examples/0")
    own = f"{page}/api/videos/{facts['token']}"
    while facts["state"] not in ("ready", "failed"):
        facts = said(own, method="GET")
    assert facts["state"] == "ready" and facts["threshold"] == 0.0
    dog, nobody = said(f"{own}/answers", {"sentences": ["the red dog", "a yellow car"]})["answers"]
    assert dog["score"] == pytest.approx(tracks[0].score, abs=1e-3)
    assert nobody["score"] < 0 < dog["score"]
    weights = {word["word"]: word["actor"] for word in dog["words"]}
    assert weights["red"] > weights["the"] == 0
    clip = said(f"{own}/clips/0", method="GET")
    tube = next(t for t in clip["tubes"] if t["tube"] == dog["tubes"][0])
    mask = coco_mask.decode({"size": list(SIZE), "counts": tube["masks"][0]})
    assert (mask == tracks[0].masks(clip["frames"][0])).all()
    lines = said(f"{own}/python", {"sentences": ["the red dog"]})["lines"]
    assert "aamn.load('zeroshot_boxes')" in lines


def test_the_page_searches_the_library(page):
    hits = said(f"{page}/api/library?sentence=the%20red%20dog", method="GET")["hits"]
    assert len(hits) == 2 and hits[0]["video_id"] == "squares"
    assert hits[0]["score"] > hits[1]["score"]
