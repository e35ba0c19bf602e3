"""A bundle: one folder in, tracks out; and what a broken one says."""

import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from tiny_models import WORDS, tiny_config, tiny_segmenter

import aamn
from aamn.data.words import Vocabulary
from aamn.index import job, query_encoder
from aamn.inference.checkpoint import read_checkpoint, save_checkpoint
from aamn.predictor import read_bundle, write_bundle
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.detector import save_detector
from proposals.errors import InputError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    torch.manual_seed(0)
    small = {"widths": (8, 8), "strides": (4, 2), "head": 16, "min_size": 40, "max_size": 60}
    config = DetectorConfig(name="small", weights="", classes=("a", "b"), score_threshold=0.0,
                            proposals=8, **small)  # fmt: skip
    save_detector(build_detector(config), folder / "d.pt")
    vocabulary = Vocabulary([f"w{n}" for n in range(WORDS - 2)])
    training = {"momentum": torch.zeros(1000)}
    save_checkpoint(folder / "s.pt", tiny_segmenter(), vocabulary, tiny_config(), 7, training)
    write_bundle(folder / "b", folder / "d.pt", folder / "s.pt", absent_threshold=-1e6)
    return folder / "b"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video") / "clip"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(7):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 255, (40, 50, 3), np.uint8))
    return folder


def test_a_video_is_indexed_and_asked_in_three_lines(bundle, video, tmp_path):
    segmenter = aamn.load(bundle, "cpu")
    index = segmenter.index(video)
    tracks = index.query(["w3 w4", "w7"], absent_threshold=segmenter.absent_threshold)
    assert [track.text for track in tracks] == ["w3 w4", "w7"]
    for track in tracks:
        assert track.masks().shape == (7, 40, 50) and track.masks().dtype == bool
        assert track.boxes().shape == (7, 4) and track.present
    kept = segmenter.index(video, tmp_path)
    again = kept.query(["w3 w4", "w7"])
    for one, other in zip(tracks, again, strict=True):
        assert one.score == other.score and (one.masks() == other.masks()).all()
    assert [path.name for path in tmp_path.iterdir()] == ["clip.h5"]
    before = (tmp_path / "clip.h5").stat().st_mtime_ns
    segmenter.index(video, tmp_path)
    assert (tmp_path / "clip.h5").stat().st_mtime_ns == before


def test_some_frames_of_a_video_are_indexed_and_the_folder_is_searched(bundle, video, tmp_path):
    segmenter = aamn.load(bundle, "cpu")
    index = segmenter.index(video, tmp_path, frames=range(4, 6))
    assert len(index) == 2 and index.query(["w3"])[0].masks().shape == (2, 40, 50)
    folder = segmenter.open_indexes(tmp_path)
    ((hit,),) = folder.search(["w3 w4"])
    assert hit.video_id == "clip" and hit.frames == range(3, 6)
    (track,) = folder.open(hit).query(["w3 w4"])
    assert hit.score == pytest.approx(track.total.max(), abs=1e-6)


def test_an_index_without_a_folder_lives_as_long_as_it_or_its_tracks_are_used(bundle, video):
    segmenter = aamn.load(bundle, "cpu")
    index = segmenter.index(video)
    folder = index.file.path.parent
    (track,) = index.query(["w3"])
    del index
    assert folder.is_dir() and track.masks().shape == (7, 40, 50)
    track.index.close()
    del track
    assert not folder.exists()


def test_an_index_is_made_as_it_is_asked_for(bundle, video, tmp_path):
    class Flow:
        attributes = {"method": "stored"}  # noqa: RUF012

        def window(self, video_id, indices):
            assert video_id == "clip.v2"
            return np.ones((len(indices), 2, 20, 25), np.float32)

    named = tmp_path / "clip.v2"
    shutil.copytree(video, named)
    segmenter = aamn.load(bundle, "cpu")
    assert segmenter.absent_threshold == -1e6
    with pytest.raises(InputError, match="float16"):
        segmenter.index(named, tmp_path / "i", precision="float16")
    index = segmenter.index(named, tmp_path / "i", Flow(), "bfloat16", range(1, 5, 2))
    assert index.file.path == tmp_path / "i" / "clip.v2.h5", "a folder's name has no suffix"
    assert list(index.frames) == [1, 3] and index.header.video_id == "clip.v2"
    assert index.header.origin.flow == {"method": "stored"}
    assert index.header.origin.precision == "bfloat16"
    assert index.header.origin.boxes["detector"] == "small"
    with pytest.raises(InputError, match="flow is"):
        segmenter.index(named, tmp_path / "i", precision="bfloat16")
    assert index.query(["w3"])[0].masks().shape == (2, 40, 50), "it was not replaced"
    with pytest.raises(InputError, match="start < end"):
        segmenter.index(named, frames=range(3, 3))


def test_a_film_s_index_has_its_name_without_suffix(bundle, tmp_path):
    film = cv2.VideoWriter(str(tmp_path / "a.b.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 8, (50, 40))
    for n in range(3):
        film.write(np.full((40, 50, 3), 60 * n, np.uint8))
    film.release()
    index = aamn.load(bundle, "cpu").index(str(tmp_path / "a.b.avi"), str(tmp_path))
    assert (index.video_id, index.header.fps, len(index)) == ("a.b", 8.0, 3)
    assert (tmp_path / "a.b.h5").is_file()


def test_a_bundle_that_could_not_be_finished_is_none(bundle, tmp_path, monkeypatch):
    out, parts = tmp_path / "b", (bundle / "detector.pt", bundle / "segmenter.pt")
    write_bundle(out, *parts, 0.25)
    assert read_bundle(out).absent_threshold == 0.25
    assert (out / "detector.pt").read_bytes() == (bundle / "detector.pt").read_bytes()
    for path, said in ((tmp_path / "no.pt", "no.pt"), (bundle / "bundle.json", "bundle.json")):
        with pytest.raises(InputError, match=said):
            write_bundle(out, path, parts[1])
        with pytest.raises(InputError, match=said):
            write_bundle(out, parts[0], path)
    assert read_bundle(out).absent_threshold == 0.25, "the one that was there is kept"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(aamn.predictor.shutil, "copyfile", full)
    with pytest.raises(InputError, match=f"cannot write {out}: No space left"):
        write_bundle(out, *parts)
    with pytest.raises(InputError, match=f"no bundle at {out}"):
        read_bundle(out)
    monkeypatch.undo()
    write_bundle(out, *parts)
    assert read_bundle(out).absent_threshold is None, "no threshold unless it is given"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file"):
        write_bundle(tmp_path / "file", *parts)


def test_a_detector_and_a_segmenter_are_not_taken_for_each_other(bundle, tmp_path):
    parts = bundle / "detector.pt", bundle / "segmenter.pt"
    for part in parts:
        with pytest.raises(InputError, match=part.name):
            write_bundle(tmp_path / "b", part, part)
    assert not (tmp_path / "b").exists()


def test_weights_are_hashed_once_however_many_videos(bundle, video, tmp_path, monkeypatch):
    counted, taken = job.model_hash, []
    for module in (job, query_encoder):
        monkeypatch.setattr(module, "model_hash", lambda s: taken.append(s) or counted(s))
    segmenter = aamn.load(bundle, "cpu")
    hashes = {segmenter.index(video, tmp_path / n).header.origin.model for n in ("a", "b")}
    assert hashes == {counted(segmenter.loaded.segmenter)} and len(taken) == 1


def test_a_bundle_holds_no_training_state(bundle):
    content = read_checkpoint(bundle / "segmenter.pt")
    assert content["optimiser"] == {} and content["iteration"] == 7
    record = json.loads((bundle / "bundle.json").read_text())
    assert record["made_with"]["aamn"] == aamn.__version__ and record["iteration"] == 7
    assert read_bundle(bundle).absent_threshold == -1e6


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda b: (b / "detector.pt").unlink(), "lacks detector.pt"),
        (lambda b: (b / "bundle.json").unlink(), "no bundle at"),
        (lambda b: (b / "bundle.json").write_text("{"), "bundle.json is damaged"),
        (lambda b: (b / "bundle.json").write_text('{"format": "x", "version": 1}'), "bundle of x"),
        (lambda b: (b / "segmenter.pt").write_bytes(b"x"), "segmenter.pt is no checkpoint"),
        (lambda b: (b / "segmenter.pt").unlink(), "lacks segmenter.pt"),
        (lambda b: (b / "bundle.json").write_text("[]"), "bundle.json is damaged"),
        (lambda b: (b / "bundle.json").write_text('{"format": "aamn-bundle"}'), "is damaged"),
        (
            lambda b: (b / "bundle.json").write_text('{"format": "aamn-bundle", "version": 2}'),
            "aamn-bundle version 2",
        ),
    ],
)
def test_a_broken_bundle_is_named(bundle, tmp_path, damage, said):
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(tmp_path)
    with pytest.raises(InputError, match=said):
        aamn.load(tmp_path, "cpu")


def test_importing_the_library_loads_no_heavy_module():
    program = (
        "import sys, aamn; print(sorted({'torch', 'cv2', 'h5py', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
