"""Videos, proposals, indexes and a library on a real server of the S3 protocol, by the command."""

import json

import cv2
import numpy as np
import pytest
import torch
from programs import call
from s3_server import s3_server
from tiny_models import FROM_NOUGHT, tiny_config, tiny_segmenter

from aamn.index.file import IndexFile
from aamn.inference.checkpoint import save_checkpoint
from aamn.predictor import write_bundle
from proposals import places
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.detector import save_detector
from proposals.store import ProposalStore

SMALL = DetectorConfig(
    name="small", weights="", classes=("a", "b"), widths=(8, 8), strides=(4, 2), head=16,
    min_size=40, max_size=60, proposals=8, score_threshold=0.0,
)  # fmt: skip
NAMES = ("a", "b c")


def write_video(path, seed):
    rng = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(5):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle and its parts, and a folder of two videos."""
    folder = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    save_detector(build_detector(SMALL), folder / "detector.pt")
    segmenter = tiny_segmenter(vocabulary=FROM_NOUGHT)
    save_checkpoint(folder / "segmenter.pt", segmenter, tiny_config(), 7)
    write_bundle(folder / "bundle", folder / "detector.pt", folder / "segmenter.pt", 0.25)
    (folder / "videos").mkdir()
    for seed, name in enumerate(NAMES):
        write_video(folder / "videos" / f"{name}.mp4", seed)
    return folder


@pytest.fixture(scope="module")
def store(made, tmp_path_factory):
    """The bucket s3://corpus with videos/ and bundle/, and a cache of its own."""
    with pytest.MonkeyPatch.context() as patch, s3_server(patch):
        patch.setenv("AAMN_CACHE", str(tmp_path_factory.mktemp("cache")))
        import s3fs

        bucket = s3fs.S3FileSystem()
        for name in ("videos", "bundle"):
            bucket.put(f"{made / name}/", f"corpus/{name}/", recursive=True)
        yield bucket


def test_indexes_are_the_same_wherever_they_are_written(made, store, tmp_path, capsys):
    words = ("index_video", "s3://corpus/videos", "--bundle", "s3://corpus/bundle", "--out")
    assert call(*words, tmp_path) == 0
    assert call(*words, "s3://corpus/index") == 0
    for name in NAMES:
        local, remote = tmp_path / f"{name}.h5", f"corpus/index/{name}.h5"
        assert store.cat_file(remote) == local.read_bytes()
        header = IndexFile.read(local).header
        assert header.path == f"s3://corpus/videos/{name}.mp4", "where it lies, not its copy here"
    written = store.info("corpus/index/a.h5")["LastModified"]
    assert call(*words, "s3://corpus/index") == 0
    assert capsys.readouterr().out.count("was there") == 2
    assert store.info("corpus/index/a.h5")["LastModified"] == written
    assert sorted(store.ls("corpus/index")) == [f"corpus/index/{name}.h5" for name in NAMES]
    assert not places.local_name("s3://corpus/videos/a.mp4").exists(), "videos do not stay"


def test_a_search_there_finds_what_a_search_here_does(made, store, tmp_path, capsys):
    given = ("--bundle", made / "bundle", "--query", "w3 w4", "--out", tmp_path / "found.json")
    there = ("s3://corpus/videos", "--bundle", made / "bundle")
    pytest.importorskip("lancedb", reason="the extra search is not installed")
    library = ("--library", "s3://corpus/library")
    assert call("index_video", *there, "--out", "s3://corpus/index", *library) == 0
    assert call("index_video", *there, "--out", tmp_path / "index") == 0
    found = []
    for place in (tmp_path / "index", "s3://corpus/index", "s3://corpus/library"):
        assert call("search_index", place, *given) == 0
        (hits,) = json.loads((tmp_path / "found.json").read_text()).values()
        found.append(hits)
        assert [hit.pop("path").rpartition("/")[2] for hit in hits] == [
            f"{hit['video_id']}.h5" for hit in hits
        ]
    assert len(found[0]) == 2 and found[0] == found[1]
    scores = [[hit.pop("score") for hit in hits] for hits in found]
    assert found[2] == found[0] and scores[2] == pytest.approx(scores[0], abs=1e-5)
    sheet = tmp_path / "sheet.png"
    assert call("search_index", "s3://corpus/library", *given, "--sheet", sheet) == 0
    assert cv2.imread(str(sheet)).shape[1] == 2 * (64 + 4)


def test_proposals_and_flow_are_written_there(made, store, tmp_path):
    words = ("s3://corpus/videos", "--detector", made / "detector.pt", "--out")
    assert call("extract_proposals", *words, "s3://corpus/boxes.h5") == 0
    assert call("extract_proposals", *words, tmp_path / "one.h5", "--processes", 1) == 0
    found = ProposalStore.read(places.fetch(places.local_name("s3://corpus/boxes.h5")))
    assert sorted(found.video_ids) == sorted(NAMES)
    assert store.cat_file("corpus/boxes.h5") == (tmp_path / "one.h5").read_bytes()
    assert call("extract_flow", "s3://corpus/videos", "--out", "s3://corpus/flow.h5") == 0
    assert store.exists("corpus/flow.h5") and not store.exists("corpus/flow.h5.parts")
    left = [name for name in store.find("corpus") if ".parts" in name]
    assert left == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("s3://corpus/nothing", "--out", "i"), "nothing at s3://corpus/nothing"),
        (("s3://corpus/videos", "--out", "s3://nobucket/i"), "no bucket nobucket"),
        (("s3://nobucket/videos", "--out", "i"), "s3://nobucket/videos"),
    ],
)
def test_what_is_not_there_is_one_line(made, store, words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("index_video", *words, "--bundle", made / "bundle") == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_server_that_does_not_answer_is_one_line(made, store, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    type(store).clear_instance_cache()
    words = ("s3://other/videos", "--bundle", made / "bundle", "--out", tmp_path)
    assert call("index_video", *words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: s3://other/videos cannot be reached (") and "127.0.0.1:1" in said
    assert call("search_index", "s3://other/library", "w3", "--bundle", made / "bundle") == 2
    assert "s3://other/library" in capsys.readouterr().err.splitlines()[-1]
