"""A bundle: one folder in, tracks out; and what a broken one says."""

import importlib
import inspect
import json
import math
import shutil
import subprocess
import sys
import typing
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from tiny_bundle import save_bundle
from tiny_models import WORDS
from tiny_videos import Unchecked

import aamn
from aamn import predictor
from aamn.index import builder, job, query_encoder
from aamn.inference.checkpoint import read_checkpoint
from aamn.inference.verdict import NoMatch, Probability
from aamn.predictor import read_bundle, write_bundle
from proposals.build import checked_device
from proposals.errors import InputError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    return save_bundle(folder, -1e6, {"momentum": torch.zeros(1000)})


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


def test_a_video_answers_while_it_comes(bundle, video, monkeypatch):
    """Blocks of three frames: what is complete is answered before the last frame has come."""
    monkeypatch.setitem(builder.FRAMES_AT_ONCE, "cpu", 3)
    segmenter, given = aamn.load(bundle, "cpu"), []

    def coming():
        for frame in np.concatenate([frames_of(video)] * 3):
            given.append(frame)
            yield frame

    stream = segmenter.stream(coming())
    first = next(stream)
    assert first.header.video_id == "frames" and len(first) == 3
    assert first.query("w3 w4")[0].masks().shape == (3, 40, 50) and len(given) < 12
    *_, last = stream
    whole = segmenter.index(np.concatenate([frames_of(video)] * 3))
    for one, other in zip(last.query(["w3 w4", "w7"]), whole.query(["w3 w4", "w7"]), strict=True):
        assert one.score == other.score and (one.masks() == other.masks()).all()
    assert [len(index) for index in segmenter.stream(video, frames=range(4))] == [3, 4]


@pytest.mark.parametrize(
    ("there", "fast", "wanted"),
    [(None, True, "bfloat16"), (None, False, "float32"), ("float32", True, "float32")],
)
def test_auto_is_what_the_machine_is_faster_with_or_what_is_there(
    bundle, video, tmp_path, monkeypatch, there, fast, wanted
):
    segmenter = aamn.load(bundle, "cpu")
    if there:
        segmenter.index(video, tmp_path, precision=there)
    monkeypatch.setattr(predictor, "computes_in_bfloat16", lambda device: fast)
    origin = segmenter.index(video, tmp_path, precision="auto").header.origin
    assert origin.precision == origin.boxes["settings"]["precision"] == wanted


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
    class Flow(Unchecked):
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


def frames_of(folder):
    """The fixture's images (7, 40, 50, 3) RGB."""
    return np.stack([cv2.imread(str(folder / f"{n}.png"))[..., ::-1] for n in range(7)])


@pytest.mark.parametrize(
    "form",
    [
        lambda folder: frames_of(folder),
        lambda folder: [folder / f"{n}.png" for n in range(7)],
        lambda folder: iter(frames_of(folder)),
    ],
    ids=["array", "paths", "iterator"],
)
def test_frames_at_hand_are_indexed_as_their_folder_is(bundle, video, tmp_path, form):
    segmenter = aamn.load(bundle, "cpu")
    (wanted,) = segmenter.index(video).query("w3 w4")
    index = segmenter.index(form(video), tmp_path)
    (track,) = index.query("w3 w4")
    assert (track.masks() == wanted.masks()).all() and track.score == wanted.score
    assert index.video_id.startswith("frames-") and (tmp_path / f"{index.video_id}.h5").is_file()
    assert segmenter.index(frames_of(video), tmp_path).video_id == index.video_id, "found again"
    other = segmenter.index(frames_of(video)[:6], tmp_path)
    assert other.video_id != index.video_id and len(other) == 6
    track.save(tmp_path / "saved")
    assert len(list((tmp_path / "saved" / "masks").iterdir())) == 7


def test_a_camera_ends_with_the_wanted_frames(bundle, video, monkeypatch):
    class Camera:
        isOpened = lambda self: True  # noqa: E731
        release = lambda self: None  # noqa: E731
        get = lambda self, key: 10.0  # noqa: E731
        read = lambda self, frames=iter(frames_of(video)): (True, next(frames))  # noqa: B008, E731

    monkeypatch.setattr(cv2, "VideoCapture", lambda source: Camera())
    segmenter = aamn.load(bundle, "cpu")
    with pytest.raises(aamn.InputError, match="camera-0 never ends"):
        segmenter.index(0)
    index = segmenter.index(0, frames=range(2, 5))
    assert list(index.frames) == [2, 3, 4] and index.header.fps == 10


def test_tracks_in_one_call(bundle, video, tmp_path):
    segmenter = aamn.load(bundle, "cpu")
    index = segmenter.index(video)
    for queries, options in (
        ("w3 w4", {}),
        (["w3 w4", "w7"], {"linking": "clip"}),
        ("w3 w4", {"top": 2, "absent_threshold": 1e9}),
    ):
        tracks, wanted = (
            segmenter.segment(video, queries, **options),
            index.query(queries, **options),
        )
        assert len(tracks) == len(wanted)
        for one, other in zip(tracks, wanted, strict=True):
            assert (one.text, one.score, one.present) == (other.text, other.score, other.present)
            assert (one.masks() == other.masks()).all()
    (track,) = segmenter.segment(video, "w3", frames=range(4, 6))
    assert list(track.frames) == [4, 5]
    chance = 1 / (1 + math.exp(-(0.5 * track.score - 1)))
    assert track.probability == pytest.approx(chance) == track.facts["probability"]
    with pytest.raises(InputError, match="'!'"):
        segmenter.segment(tmp_path / "nowhere.mp4", "!")
    track.save(tmp_path / "saved")
    record = json.loads((tmp_path / "saved" / "result.json").read_text())
    assert (record["linking"], record["matched"], record["video_id"]) == ("video", True, "clip")
    assert record["score"] == pytest.approx(track.score, abs=1e-6)


def test_a_temporary_index_ends_with_its_block(bundle, video):
    segmenter = aamn.load(bundle, "cpu")
    with segmenter.index(video) as index:
        (track,) = index.query("w3")
        folder = index.file.path.parent
        assert track.masks(2).shape == (40, 50) and folder.is_dir()
    assert not folder.exists()
    with pytest.raises(InputError, match=r"no index at .*out=FOLDER\) keeps one"):
        track.masks()


def test_what_a_notebook_shows_is_one_line(bundle, video, tmp_path):
    segmenter = aamn.load(bundle, "cpu")
    assert repr(segmenter) == f"VideoSegmenter(aamn on cpu, {WORDS} words, boxes of small)"
    alone = replace(segmenter, boxes=None)
    assert repr(alone) == f"VideoSegmenter(aamn on cpu, {WORDS} words, no boxes)"
    assert repr(segmenter.index(video)) == "VideoIndex('clip', 7 frames of 50x40)"


def test_frames_that_moved_can_be_given_to_a_track(bundle, video, tmp_path):
    moved = tmp_path / "clip"
    shutil.copytree(video, moved)
    (track,) = aamn.load(bundle, "cpu").segment(moved, "w3")
    moved.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"the frames of clip \(.*\) are not there.*video="):
        track.save(tmp_path / "saved")
    track.save(tmp_path / "saved", video=tmp_path / "elsewhere")
    assert (tmp_path / "saved" / "overlay.mp4").stat().st_size


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:x", 1.5, "meta"])
def test_a_device_is_checked_at_the_door(bundle, device):
    with pytest.raises(InputError, match=rf"device '{device}': this machine has cpu"):
        aamn.load(bundle, device=device)


@pytest.mark.parametrize(
    ("count", "device", "said"),
    [
        (0, "cuda", "has cpu$"),
        (0, "cuda:9", "device 'cuda:9': this machine has cpu$"),
        (2, "cuda:2", "has cpu, cuda:0, cuda:1$"),
        (2, "mps", "has cpu, cuda:0, cuda:1$"),
        (2, "cuda:1", None),
        (1, "cuda", None),
        (0, "cpu", None),
    ],
)
def test_a_gpu_that_is_not_there_is_named(monkeypatch, count, device, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if said is None:
        assert (
            checked_device(device) == checked_device(torch.device(device)) == torch.device(device)
        )
        return
    with pytest.raises(InputError, match=said):
        checked_device(device)


def public(module):
    """The functions and classes of a module that have no underscore, and the classes' methods."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        if inspect.isclass(value):
            yield value
            for method in vars(value).values():
                method = getattr(method, "fget", None) or getattr(method, "__func__", method)
                if inspect.isfunction(method):
                    yield method
        elif inspect.isfunction(value):
            yield value


@pytest.mark.parametrize(
    "module",
    [
        *("aamn.predictor", "aamn.structures", "aamn.search.folder", "aamn.inference.track"),
        *("aamn.inference.results", "aamn.index.video_index", "aamn.index.indexed_video"),
        *("aamn.visualization.overlays", "aamn.visualization.charts", "proposals.frames"),
        *("aamn.index.file", "aamn.index.query_encoder", "aamn.inference.submission"),
    ],
)
def test_types_can_be_asked_for(module):
    found = list(public(importlib.import_module(module)))
    assert found and all(isinstance(typing.get_type_hints(one), dict) for one in found)


def test_the_public_names_are_there():
    for name in aamn.__all__:
        assert name in dir(aamn)
    assert aamn.InputError is InputError
    assert typing.get_type_hints(aamn.load)["return"] is aamn.VideoSegmenter
    with pytest.raises(AttributeError, match="no attribute 'save'"):
        aamn.save  # noqa: B018


def test_a_film_s_index_has_its_name_without_suffix(bundle, tmp_path):
    film = cv2.VideoWriter(str(tmp_path / "a.b.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 8, (50, 40))
    for n in range(3):
        film.write(np.full((40, 50, 3), 60 * n, np.uint8))
    film.release()
    index = aamn.load(bundle, "cpu").index(str(tmp_path / "a.b.avi"), str(tmp_path))
    assert (index.video_id, index.header.fps, len(index)) == ("a.b", 8.0, 3)
    assert (tmp_path / "a.b.h5").is_file()


def test_a_bundle_that_cannot_be_finished_leaves_the_one_before(bundle, tmp_path, monkeypatch):
    out, parts = tmp_path / "b", (bundle / "detector.pt", bundle / "segmenter.pt")
    write_bundle(out, *parts, 0.25, probability=Probability(2.0, -1.0))
    assert read_bundle(out).no_match == NoMatch(0.25, Probability(2.0, -1.0))
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
    with pytest.raises(InputError, match=f"cannot write {out}/detector.*: no space left"):
        write_bundle(out, *parts)
    assert read_bundle(out).absent_threshold == 0.25
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
        (lambda b: (b / "segmenter.pt").write_bytes(b"x"), "segmenter.pt has changed"),
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


def test_what_is_loaded_has_the_bundle_s_threshold_and_lies_on_the_device(bundle, monkeypatch):
    asked = []

    def load_segmenter(path, device, **more):
        asked.append((path.name, str(device)))
        return loaded_segmenter(path, device, **more)

    loaded_segmenter = predictor.load_segmenter
    monkeypatch.setattr(predictor, "load_segmenter", load_segmenter)
    assert aamn.load(bundle, "cpu").absent_threshold == -1e6
    assert asked == [("segmenter.pt", "cpu")]


def test_an_index_is_read_again_by_its_path(bundle, video, tmp_path):
    segmenter = aamn.load(bundle, "cpu")
    made = segmenter.index(video, tmp_path)
    (path,) = tmp_path.glob("*.h5")
    again = segmenter.read_index(path)
    assert again.file.header == made.file.header
    assert again.query("w3")[0].score == made.query("w3")[0].score
