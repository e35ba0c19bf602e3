"""The programs that make indexes and bundles, and those that ask them, on tiny videos."""

import json
import logging
import sys
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from aamn.cli.inputs import Indexer, Inputs
from aamn.cli.options import checkpoint_of, open_segmenter, take_bundle, take_threshold, threshold
from tiny_models import WORDS, tiny_config, tiny_segmenter
from tiny_videos import SIZE, Frames, Store, loaded

from aamn.cli import bundle as make_bundle
from aamn.cli import command_line
from aamn.cli import evaluate as eval_net
from aamn.cli import index as index_video
from aamn.cli import inputs as input_options
from aamn.cli import search as search_index
from aamn.config.schema import FlowConfig
from aamn.data.datasets.source import Expression, KeyFrame
from aamn.data.flow.store import extract_flow
from aamn.data.words import Vocabulary
from aamn.index.box_source import DetectedBoxes, StoredBoxes
from aamn.index.file import IndexFile
from aamn.index.query_encoder import Asker
from aamn.index.video_index import VideoIndex
from aamn.inference.checkpoint import load_segmenter, read_checkpoint, save_checkpoint
from aamn.predictor import read_bundle, write_bundle
from aamn.search.folder import IndexFolder
from aamn.structures import Target
from proposals.build import build_detector, load_detector
from proposals.config import DetectorConfig
from proposals.decoding import Video
from proposals.detector import save_detector
from proposals.errors import InputError
from proposals.extract import JobOptions, extract
from proposals.frames import open_frames
from proposals.store import ProposalStore
from proposals.store_writer import write_proposals

COUNTS = {"a": 5, "b": 4}  # frames of the videos
SMALL = DetectorConfig(
    name="small", weights="", classes=("a", "b"), widths=(8, 8), strides=(4, 2), head=16,
    min_size=40, max_size=60, proposals=8, score_threshold=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with videos/a and videos/b, detector.pt, segmenter.pt, their bundle, p.h5, f.h5."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    for name, count in COUNTS.items():
        (folder / "videos" / name).mkdir(parents=True)
        for n in range(count):
            frame = rng.integers(0, 255, (*SIZE, 3), np.uint8)
            cv2.imwrite(str(folder / "videos" / name / f"{n}.png"), frame)
    torch.manual_seed(0)
    save_detector(build_detector(SMALL), folder / "detector.pt")
    vocabulary = Vocabulary([f"w{n}" for n in range(WORDS - 2)])
    save_checkpoint(folder / "segmenter.pt", tiny_segmenter(), vocabulary, tiny_config(), 7)
    write_bundle(folder / "bundle", folder / "detector.pt", folder / "segmenter.pt", 0.25)
    videos = {name: folder / "videos" / name for name in COUNTS}
    detector = load_detector(folder / "detector.pt")
    jobs = [Video(*one) for one in videos.items()]
    extract(detector, jobs, folder / "p.h5", JobOptions(workers=0))
    extract_flow(videos, folder / "f.h5", FlowConfig(preset="fast"), workers=0)
    return folder


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs a program as if from the command line: (exit code, what it printed, its errors)."""

    def run(module, *words):
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            command_line.run(module.main)
        return ended.value.code, *capsys.readouterr()

    return run


# index_video


def test_videos_are_indexed_by_a_bundle_and_found_again(made, tmp_path, call):
    words = (made / "videos", "--bundle", made / "bundle", "--out", tmp_path)
    code, out, _ = call(index_video, *words)
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    assert code == 0 and sorted(tmp_path.iterdir()) == paths
    for path, (name, count) in zip(paths, COUNTS.items(), strict=True):
        header = IndexFile.read(path).header
        size = path.stat().st_size / count / 1024
        assert (header.video_id, header.frames, header.selection.whole) == (name, count, True)
        assert f"{path}: {count} frames, {size:.1f} KiB each\n" in out
        assert header.origin.boxes["detector"] == "small" and header.origin.precision == "float32"
    before = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    code, out, _ = call(index_video, *words)
    assert code == 0 and paths[0].stat().st_mtime_ns == before[0] and paths[1].is_file()
    first, second = [line for line in out.splitlines() if "KiB" in line]
    assert first.endswith("each, was there") and second.endswith("each")


def test_boxes_flow_and_precision_are_those_of_the_options(made, tmp_path, call):
    given = ("--checkpoint", made / "segmenter.pt", "--out", tmp_path, "--precision", "bfloat16")
    files = ("--proposals", made / "p.h5", "--flow", made / "f.h5")
    assert call(index_video, made / "videos" / "a", *given, *files)[0] == 0
    header = IndexFile.read(tmp_path / "a.h5").header
    assert header.origin.precision == "bfloat16" and header.origin.flow["preset"] == "fast"
    stored = ProposalStore.read(made / "p.h5")
    assert header.origin.boxes == json.loads(stored.attributes.to_json())
    boxes = IndexFile.read(tmp_path / "a.h5").array("boxes")[:, 1]  # at the key frames 1 and 3
    assert (boxes == stored.window("a", [1, 3], 4).boxes).all()
    changed = ("--set", "aamn.link_balance=2")
    code, _, errors = call(index_video, made / "videos" / "a", *given, *files, *changed)
    assert code == 2 and "a.h5" in errors and "model is" in errors


def test_a_bundle_s_detector_makes_way_for_a_file_of_boxes(made, tmp_path, call):
    with write_proposals(tmp_path / "hand.h5", "hand") as store:
        box = np.array([[3, 4, 20, 30]], np.float32)
        store.add("b", [box + n for n in range(4)], [[0.5]] * 4, [[0]] * 4, frame_size=SIZE)
    words = ("--bundle", made / "bundle", "--proposals", tmp_path / "hand.h5", "--out", tmp_path)
    assert call(index_video, made / "videos" / "b", *words)[0] == 0
    found = IndexFile.read(tmp_path / "b.h5")
    assert found.header.origin.boxes["detector"] == "hand"
    assert found.array("boxes")[0, :, 0].tolist() == [
        [3 + n, 4 + n, 20 + n, 30 + n] for n in range(3)
    ]


def test_a_broken_video_is_named_and_the_others_are_indexed(made, tmp_path, call, caplog):
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 99)
    words = ("--bundle", made / "bundle", "--out", tmp_path / "i")
    videos = (tmp_path / "broken.mp4", made / "videos" / "b")
    with caplog.at_level(logging.INFO, "aamn"):
        assert call(index_video, *videos, *words)[0] == 1
    assert [one.name for one in (tmp_path / "i").iterdir()] == ["b.h5"]
    failed = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert len(failed) == 1 and failed[0].startswith("broken: ")
    code, _, errors = call(index_video, tmp_path / "broken.mp4", *words)
    assert code == 2 and errors.splitlines()[-1].startswith("error: ") and "broken.mp4" in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bundle", "bundle"), "--out"),
        (("--out", "i"), "--bundle DIR and --checkpoint PT"),
        (("--out", "i", "--bundle", "bundle", "--checkpoint", "segmenter.pt"), "--checkpoint PT"),
        (("--out", "i", "--checkpoint", "segmenter.pt"), "--proposals HDF5 or --detector PT"),
        (("--out", "i", "--bundle", "bundle", "--proposals", "p.h5", "--detector", "d.pt"),
         "--proposals HDF5 and --detector PT"),
        (("--out", "i", "--bundle", "bundle", "--proposals", "none.h5"), "none.h5"),
        (("--out", "i", "--bundle", "bundle", "--flow", "none.h5"), "none.h5"),
        (("--out", "i", "--bundle", "bundle", "--set", "aamn.sise=3"), "aamn.sise"),
        (("--out", "i", "--bundle", "bundle", "--precision", "half"), "half"),
        (("--out", "i", "--bundle", "nowhere"), "nowhere"),
        (("--out", "i", "--bundle", "bundle", "--detector", "segmenter.pt"), "segmenter.pt"),
    ],
)  # fmt: skip
def test_what_index_video_cannot_do_is_said_before_the_first_video(
    made, words, said, call, monkeypatch
):
    monkeypatch.chdir(made)
    monkeypatch.setattr(index_video, "find_videos", None)  # nothing is opened
    code, _, errors = call(index_video, "videos", *words)
    assert code == 2 and said in errors.splitlines()[-1]
    assert not (made / "i").exists()


# search_index


@pytest.fixture(scope="module")
def indexes(made, tmp_path_factory):
    """A folder of the indexes of both videos."""
    folder, loaded_ = tmp_path_factory.mktemp("indexes"), load_segmenter(made / "segmenter.pt")
    args = Namespace(proposals=str(made / "p.h5"), detector=None, flow=None)
    indexer = Indexer(Inputs(args, loaded_.segmenter), Asker(loaded_))
    for name in COUNTS:
        assert indexer.index(Video(name, made / "videos" / name), folder / f"{name}.h5")
    return folder


@pytest.mark.parametrize("segmenter", [("--bundle", "bundle"), ("--checkpoint", "segmenter.pt")])
@pytest.mark.parametrize("top", [1, 2])
def test_a_search_prints_and_writes_the_hits_best_first(
    made, indexes, tmp_path, call, monkeypatch, segmenter, top
):
    monkeypatch.chdir(made)
    library = IndexFolder(indexes, Asker(load_segmenter(made / "segmenter.pt")))
    texts = ["w3 w4", "w9"]
    queries = [word for text in texts for word in ("--query", text)]
    words = (indexes, *segmenter, *queries, "--top", top, "--out", tmp_path / "found.json")
    code, out, _ = call(search_index, *words)
    lines, written = iter(out.splitlines()), json.loads((tmp_path / "found.json").read_text())
    assert code == 0 and list(written) == texts
    for text, hits in zip(texts, library.search(texts, top), strict=True):
        assert next(lines) == f"{text} (2 videos)" and len(hits) == len(written[text]) == top
        for place, (hit, record) in enumerate(zip(hits, written[text], strict=True), start=1):
            first, stop = hit.frames.start, hit.frames.stop
            columns = [str(place), f"{hit.score:.3f}", f"{hit.video_id},", "frames"]
            assert next(lines).split() == [*columns, str(first), "to", str(stop - 1)]
            assert record.pop("score") == pytest.approx(hit.score)
            path = str(indexes / f"{hit.video_id}.h5")
            assert record == {"video_id": hit.video_id, "path": path, "frames": [first, stop]}
    assert next(lines, None) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bundle", "bundle"), "--query"),
        (("--bundle", "bundle", "--query", "w3", "--top", "0"), "--top"),
        (("--bundle", "bundle", "--query", "..."), "'...'"),
        (("--query", "w3"), "--bundle DIR and --checkpoint PT"),
        (("--bundle", "bundle", "--query", "w3", "--set", "aamn.link_balance=2"), "a.h5"),
    ],
)
def test_what_search_index_cannot_do_is_one_line(made, indexes, words, said, call, monkeypatch):
    monkeypatch.chdir(made)
    code, out, errors = call(search_index, indexes, *words)
    assert (code, out) == (2, "") and said in errors.splitlines()[-1]


# make_bundle


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), None),
        (("--absent-threshold", "-1.5"), -1.5),
        (("--metrics", "m.json"), 0.336),
        (("--metrics", "m.json", "--absent-threshold", "0"), 0.0),
    ],
)
def test_a_bundle_holds_both_parts_and_the_threshold(
    made, tmp_path, options, wanted, call, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("m.json").write_text('{"absence": {"threshold": 0.336}}')
    parts = ("--checkpoint", made / "segmenter.pt", "--detector", made / "detector.pt")
    assert call(make_bundle, *parts, *options, "--out", "b")[:2] == (0, "b\n")
    bundle = read_bundle("b")
    assert bundle.absent_threshold == wanted
    assert bundle.detector.read_bytes() == (made / "detector.pt").read_bytes()
    assert read_checkpoint(bundle.segmenter)["iteration"] == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "b", "--metrics", "none.json"), "no metrics at none.json"),
        (("--out", "b", "--metrics", "text.json"), "text.json holds no calibrated threshold"),
        (("--out", "b", "--metrics", "other.json"), "other.json holds no calibrated threshold"),
        (("--out", "b", "--metrics", "null.json"), "null.json holds no calibrated threshold"),
        ((), "--out"),
    ],
)
def test_a_bundle_without_its_threshold_is_not_made(
    made, tmp_path, options, said, call, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("text.json").write_text("{")
    Path("other.json").write_text('{"absence": {}}')
    Path("null.json").write_text('{"absence": {"threshold": null}}')
    parts = ("--checkpoint", made / "segmenter.pt", "--detector", made / "detector.pt")
    code, _, errors = call(make_bundle, *parts, *options)
    assert code == 2 and said in errors and not Path("b").exists()


# The options they share


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("-0.5", -0.5), ("1e3", 1000.0)])
def test_a_threshold_is_a_score_or_the_bundle_s(text, value):
    assert threshold(text) == value and type(threshold(text)) is type(value)
    with pytest.raises(ValueError, match="much"):
        threshold("much")


@pytest.mark.parametrize(("given", "taken"), [("auto", 0.25), (0.0, 0.0), (None, None)])
def test_auto_is_the_threshold_of_the_bundle(made, given, taken):
    args = Namespace(absent_threshold=given, bundle=str(made / "bundle"))
    take_threshold(args)
    assert args.absent_threshold == taken


def test_auto_needs_a_bundle_with_a_threshold(made, tmp_path):
    with pytest.raises(InputError, match="--bundle"):
        take_threshold(Namespace(absent_threshold="auto", bundle=None))
    write_bundle(tmp_path / "b", made / "detector.pt", made / "segmenter.pt")
    with pytest.raises(InputError, match=f"{tmp_path / 'b'} holds no score"):
        take_threshold(Namespace(absent_threshold="auto", bundle=str(tmp_path / "b")))


@pytest.mark.parametrize(
    ("given", "checkpoint", "detector"),
    [
        ({"bundle": "bundle"}, "bundle/segmenter.pt", "bundle/detector.pt"),
        ({"bundle": "bundle", "detector": "d.pt"}, "bundle/segmenter.pt", "d.pt"),
        ({"bundle": "bundle", "proposals": "p.h5"}, "bundle/segmenter.pt", None),
        ({"checkpoint": "s.pt"}, "s.pt", None),
        ({"checkpoint": "s.pt", "detector": "d.pt"}, "s.pt", "d.pt"),
    ],
)
def test_a_bundle_stands_for_its_parts(made, given, checkpoint, detector, monkeypatch):
    monkeypatch.chdir(made)
    empty = {"bundle": None, "checkpoint": None, "detector": None, "proposals": None}
    args = Namespace(**{**empty, **given})
    assert checkpoint_of(args) == checkpoint
    take_bundle(args)
    assert (args.checkpoint, args.detector) == (checkpoint, detector)


def test_a_segmenter_is_opened_with_its_configuration_changed(made, tmp_path):
    (tmp_path / "c.yaml").write_text("flow: {preset: fast}\n")
    args = Namespace(checkpoint=str(made / "segmenter.pt"), config=None, overrides=[])
    assert open_segmenter(args).config.flow.preset == "medium"
    args.config, args.overrides = str(tmp_path / "c.yaml"), ["aamn.link_balance=2"]
    found = open_segmenter(args)
    assert found.config.flow.preset == "fast" and found.segmenter.config.link_balance == 2


def test_inputs_are_what_is_named_and_opened_once(made):
    segmenter = load_segmenter(made / "segmenter.pt").segmenter
    names = {"proposals": made / "p.h5", "detector": made / "detector.pt", "flow": made / "f.h5"}
    full = Inputs(Namespace(**names), segmenter)
    assert full.store.video_ids == ["a", "b"] and full.store is full.store
    assert full.flow.frame_count("b") == 4 and full.detector is full.detector
    none = Inputs(Namespace(proposals=None, detector=None, flow=None), segmenter)
    assert none.store is None and none.flow is None
    with pytest.raises(InputError, match="--proposals HDF5 or --detector PT"):
        _ = none.detector
    with open_frames(made / "videos" / "a") as frames:
        stored = Indexer(full, Asker(loaded()))._boxes("a", frames)
        assert type(stored) is StoredBoxes and stored.video_id == "a"
        found = Inputs(Namespace(**{**names, "proposals": None}), segmenter)
        detected = Indexer(found, Asker(loaded()))
        assert type(detected._boxes("a", frames)) is DetectedBoxes
        assert detected._boxes("a", frames) is detected._boxes("b", frames)


def test_an_indexer_s_frames_and_replacement_are_the_caller_s(made, tmp_path, monkeypatch):
    given, build = [], input_options.build_index
    monkeypatch.setattr(
        input_options, "build_index", lambda *a, **k: given.append((a, k)) or build(*a, **k)
    )
    model, path = load_segmenter(made / "segmenter.pt"), tmp_path / "a.h5"
    args = Namespace(proposals=str(made / "p.h5"), detector=None, flow=str(made / "f.h5"))
    indexer, video = Indexer(Inputs(args, model.segmenter), Asker(model)), made / "videos" / "a"
    part = input_options.Selection(range(3, 4))
    assert indexer.index(Video("a", video), path, part)
    assert VideoIndex.read(path, model).frames == range(3, 4)
    assert not indexer.index(Video("a", video), path, part)
    with pytest.raises(InputError, match="precision is"):
        indexer.index(Video("a", video), path, precision="bfloat16")
    assert indexer.index(Video("a", video), path, precision="bfloat16", replace=True)
    assert IndexFile.read(path).header.selection.whole
    assert all(job.flow is indexer.inputs.flow for (job, _), _ in given)


# eval_net --index


class Source:
    """One video of noise; what is in it is called by words of the file of vectors."""

    key_frames = tuple(
        KeyFrame("v", frame, (Expression("v", 1, f"w3 {word}"),))
        for frame, word in ((1, "zebra"), (4, "purple"), (7, "zebra"))
    )

    def texts(self):
        return [one.text for frame in self.key_frames for one in frame.expressions]

    def frames(self, video_id):
        return Frames(9)

    def targets(self, key_frame):
        box = torch.tensor([5.0, 5, 20, 20])
        return (Target(1, box, torch.zeros(SIZE, dtype=torch.bool)),)


def test_new_words_score_the_same_through_indexes_as_directly(tmp_path, monkeypatch):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("purple 1 -2 .5 3 -1 2\nzebra -3 1 2 -.5 4 -2\n")
    model = loaded(f"words.vectors={vectors}")
    monkeypatch.setattr(eval_net, "load_segmenter", lambda *_: model)
    monkeypatch.setattr(eval_net, "open_source", lambda *_: Source())
    monkeypatch.setattr(eval_net.ProposalStore, "read", lambda _: Store())
    direct = eval_net.open_system("s.pt")
    indexed = eval_net.through_indexes(direct, tmp_path)
    for place in range(3):
        found, wanted = (one.answer(*one.sample_of(place)) for one in (indexed, direct))
        torch.testing.assert_close(found.scores.total, wanted.scores.total, atol=1e-5, rtol=0)
        assert wanted.scores.total.isfinite().any()
    assert len(direct.loaded.vocabulary) == WORDS + 2
