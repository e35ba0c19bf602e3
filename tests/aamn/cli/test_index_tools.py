"""The subcommands that make indexes and bundles, and those that ask them, on tiny videos."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from programs import call as call_program
from tiny_models import FROM_NOUGHT, WORDS, tiny_config, tiny_segmenter
from tiny_videos import SIZE, Frames, Store, loaded

from aamn import predictor
from aamn.config.schema import FlowConfig
from aamn.data.datasets.source import Expression, KeyFrame
from aamn.data.flow.store import extract_flow
from aamn.evaluation import systems
from aamn.index.box_source import DetectedBoxes, StoredBoxes
from aamn.index.file import IndexFile, Selection
from aamn.index.query_encoder import QueryEncoder
from aamn.index.video_index import VideoIndex
from aamn.inference.checkpoint import load_segmenter, read_checkpoint, save_checkpoint
from aamn.inference.verdict import Probability
from aamn.jobs import inputs as inputs_module
from aamn.jobs import segment as segment_module
from aamn.jobs.inputs import InputOptions, Inputs
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
    save_checkpoint(
        folder / "segmenter.pt", tiny_segmenter(vocabulary=FROM_NOUGHT), tiny_config(), 7
    )
    write_bundle(folder / "bundle", folder / "detector.pt", folder / "segmenter.pt", 0.25)
    videos = {name: folder / "videos" / name for name in COUNTS}
    detector = load_detector(folder / "detector.pt")
    jobs = [Video(*one) for one in videos.items()]
    extract(detector, jobs, folder / "p.h5", JobOptions(workers=0))
    extract_flow(videos, folder / "f.h5", FlowConfig(preset="fast"), workers=0)
    return folder


@pytest.fixture
def call(capsys):
    """Runs a subcommand: (exit code, what it printed, its errors)."""

    def run(program, *words):
        capsys.readouterr()
        return call_program(program, *words), *capsys.readouterr()

    return run


# aamn index


def test_videos_are_indexed_by_a_bundle_and_found_again(made, tmp_path, call):
    words = (made / "videos", "--bundle", made / "bundle", "--out", tmp_path)
    code, out, _ = call("index_video", *words)
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
    code, out, _ = call("index_video", *words)
    assert code == 0 and paths[0].stat().st_mtime_ns == before[0] and paths[1].is_file()
    first, second = [line for line in out.splitlines() if "KiB" in line]
    assert first.endswith("each, was there") and second.endswith("each")


def test_boxes_flow_and_precision_are_those_of_the_options(made, tmp_path, call):
    given = ("--checkpoint", made / "segmenter.pt", "--out", tmp_path, "--precision", "bfloat16")
    files = ("--proposals", made / "p.h5", "--flow", made / "f.h5", "--set", "flow.preset=fast")
    assert call("index_video", made / "videos" / "a", *given, *files)[0] == 0
    header = IndexFile.read(tmp_path / "a.h5").header
    assert header.origin.precision == "bfloat16" and header.origin.flow["preset"] == "fast"
    stored = ProposalStore.read(made / "p.h5")
    assert header.origin.boxes == json.loads(stored.attributes.to_json())
    boxes = IndexFile.read(tmp_path / "a.h5").array("boxes")[:, 1]  # at the key frames 1 and 3
    assert (boxes == stored.window("a", [1, 3], 4).boxes).all()
    changed = ("--set", "aamn.link_balance=2")
    code, _, errors = call("index_video", made / "videos" / "a", *given, *files, *changed)
    assert code == 2 and "a.h5" in errors and "model is" in errors


def test_a_bundle_s_detector_makes_way_for_a_file_of_boxes(made, tmp_path, call):
    with write_proposals(tmp_path / "hand.h5", "hand") as store:
        box = np.array([[3, 4, 20, 30]], np.float32)
        store.add("b", [box + n for n in range(4)], [[0.5]] * 4, [[0]] * 4, frame_size=SIZE)
    words = ("--bundle", made / "bundle", "--proposals", tmp_path / "hand.h5", "--out", tmp_path)
    assert call("index_video", made / "videos" / "b", *words)[0] == 0
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
        assert call("index_video", *videos, *words)[0] == 1
    assert [one.name for one in (tmp_path / "i").iterdir()] == ["b.h5"]
    failed = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert len(failed) == 1 and failed[0].startswith("broken: ")
    code, _, errors = call("index_video", tmp_path / "broken.mp4", *words)
    assert code == 2 and errors.splitlines()[-1].startswith("error: ") and "broken.mp4" in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bundle", "bundle"), "--out"),
        (("--out", "i"), "--bundle DIR and --checkpoint PT"),
        (("--out", "i", "--bundle", "bundle", "--checkpoint", "segmenter.pt"), "--checkpoint PT"),
        (("--out", "i", "--checkpoint", "segmenter.pt"), "--proposals HDF5 or --detector PT"),
        (("--out", "i", "--bundle", "bundle", "--proposals", "p.h5", "--detector", "detector.pt"),
         "--detector: wanted without --proposals"),
        (("--out", "i", "--bundle", "bundle", "--detector", "none.pt"), "no detector at none.pt"),
        (("--out", "i", "--checkpoint", "none.pt"), "no checkpoint at none.pt"),
        (("--out", "i", "--bundle", "bundle", "--proposals", "none.h5"), "none.h5"),
        (("--out", "i", "--bundle", "bundle", "--flow", "none.h5"), "none.h5"),
        (("--out", "i", "--bundle", "bundle", "--set", "aamn.sise=3"), "aamn.sise"),
        (("--out", "i", "--bundle", "bundle", "--precision", "half"), "half"),
        (("--out", "i", "--bundle", "nowhere"), "nowhere"),
        (("--out", "i", "--bundle", "bundle", "--detector", "segmenter.pt"), "segmenter.pt"),
    ],
)  # fmt: skip
def test_what_cannot_be_indexed_is_said_before_the_first_video(
    made, words, said, call, monkeypatch
):
    monkeypatch.chdir(made)
    monkeypatch.setattr(predictor, "open_frames", None)  # nothing is opened
    code, _, errors = call("index_video", "videos", *words)
    assert code == 2 and said in errors.splitlines()[-1]
    assert not (made / "i").exists()


# aamn search


@pytest.fixture(scope="module")
def indexes(made, tmp_path_factory):
    """A folder of the indexes of both videos."""
    folder = tmp_path_factory.mktemp("indexes")
    options = InputOptions(checkpoint=made / "segmenter.pt", proposals=made / "p.h5")
    segmenter = Inputs(options).video_segmenter()
    for name in COUNTS:
        assert segmenter.build(Video(name, made / "videos" / name), folder / f"{name}.h5")
    return folder


@pytest.mark.parametrize("segmenter", [("--bundle", "bundle"), ("--checkpoint", "segmenter.pt")])
@pytest.mark.parametrize("top", [1, 2])
def test_a_search_prints_and_writes_the_hits_best_first(
    made, indexes, tmp_path, call, monkeypatch, segmenter, top
):
    monkeypatch.chdir(made)
    library = IndexFolder(indexes, QueryEncoder(load_segmenter(made / "segmenter.pt")))
    texts = ["w3 w4", "w9"]
    limit = 0.25 if segmenter[0] == "--bundle" else None
    queries = [word for text in texts for word in ("--query", text)]
    words = (indexes, *segmenter, *queries, "--top", top, "--out", tmp_path / "found.json")
    code, out, _ = call("search_index", *words)
    lines, written = iter(out.splitlines()), json.loads((tmp_path / "found.json").read_text())
    assert code == 0 and list(written) == texts
    for text, hits in zip(texts, library.search(texts, top, limit), strict=True):
        said = "threshold 0.250" if limit else "no threshold"
        assert (
            next(lines) == f"{text} (2 videos, {said})" and len(hits) == len(written[text]) == top
        )
        for place, (hit, record) in enumerate(zip(hits, written[text], strict=True), start=1):
            first, stop = hit.frames.start, hit.frames.stop
            found = "match" if hit.score >= (limit or -1e9) else "no match"
            columns = [str(place), f"{hit.score:.3f}", *found.split(), f"{hit.video_id},", "frames"]
            times = [f"{first / hit.fps:.1f}", "to", f"{stop / hit.fps:.1f}", "s"]
            assert next(lines).split() == [*columns, str(first), "to", f"{stop - 1},", *times]
            assert record.pop("matched") is hit.matched is (found == "match")
            assert record.pop("score") == pytest.approx(hit.score)
            path = str(indexes / f"{hit.video_id}.h5")
            assert record == {"video_id": hit.video_id, "path": path, "frames": [first, stop]}
    assert next(lines, None) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bundle", "bundle"), "at least one QUERY"),
        (("--bundle", "bundle", "--query", "w3", "--top", "0"), "--top"),
        (("--bundle", "bundle", "--query", "..."), "'...'"),
        (("--query", "w3"), "--bundle DIR and --checkpoint PT"),
        (("--query", "w3", "--checkpoint", "none.pt"), "no checkpoint at none.pt"),
        (("--bundle", "bundle", "--query", "w3", "--set", "aamn.link_balance=2"), "a.h5"),
    ],
)
def test_what_cannot_be_searched_is_one_line(made, indexes, words, said, call, monkeypatch):
    monkeypatch.chdir(made)
    code, out, errors = call("search_index", indexes, *words)
    assert (code, out) == (2, "") and said in errors.splitlines()[-1]


# aamn bundle


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), None),
        (("--absent-threshold", "-1.5"), -1.5),
        (("--metrics", "m.json"), 0.336),
        (("--metrics", "more.json"), 0.336),
        (("--absent-threshold", "0"), 0.0),
    ],
)
def test_a_bundle_holds_both_parts_and_the_threshold(
    made, tmp_path, options, wanted, call, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    line = {"slope": 2.0, "intercept": -1.0}
    Path("m.json").write_text('{"absence": {"threshold": 0.336}}')
    Path("more.json").write_text(json.dumps({"absence": {"threshold": 0.336, "probability": line}}))
    parts = ("--checkpoint", made / "segmenter.pt", "--detector", made / "detector.pt")
    assert call("make_bundle", *parts, *options, "--out", "b")[:2] == (0, "b\n")
    bundle = read_bundle("b")
    known = Probability(**line) if "more.json" in options else None
    assert (bundle.absent_threshold, bundle.no_match.probability) == (wanted, known)
    assert bundle.detector.read_bytes() == (made / "detector.pt").read_bytes()
    assert read_checkpoint(bundle.segmenter)["iteration"] == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "b", "--metrics", "none.json"), "no metrics at none.json"),
        (("--out", "b", "--metrics", "text.json", "--absent-threshold", "0"), "--absent-threshold"),
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
    code, _, errors = call("make_bundle", *parts, *options)
    assert code == 2 and said in errors and not Path("b").exists()


# The options they share


@pytest.fixture
def segmented(monkeypatch):
    """Calls `aamn segment` on nothing; its exit code and what it would have done."""

    def call(*words):
        asked = []
        monkeypatch.setattr(segment_module, "segment_videos", lambda *a: asked.append(a) or 0)
        code = call_program("segment_video", *words)
        return code, *(asked[0] if asked else (None, None))

    return call


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ((), None),
        (("--absent-threshold", "auto"), "auto"),
        (("--absent-threshold", "-0.5"), -0.5),
        (("--absent-threshold", "1e3"), 1000.0),
    ],
)
def test_a_threshold_is_a_score_or_the_bundle_s(made, segmented, words, value):
    code, _, options = segmented("--bundle", made / "bundle", *words)
    assert code == 0 and options.absent_threshold == value
    assert type(options.absent_threshold) is type(value)


def test_a_threshold_is_no_other_word(made, segmented, capsys):
    assert segmented("--bundle", made / "bundle", "--absent-threshold", "much")[0] == 2
    assert "'much'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "taken"), [("auto", 0.25), (0.0, 0.0), (None, 0.25), ("none", None)]
)
def test_the_threshold_is_the_bundle_s_unless_another_is_named(made, given, taken):
    inputs = Inputs(InputOptions(bundle=made / "bundle"))
    assert inputs.absent_threshold(given) == taken


def test_auto_needs_a_bundle_with_a_threshold(made, tmp_path):
    with pytest.raises(InputError, match="wanted --bundle"):
        Inputs(InputOptions(checkpoint=made / "segmenter.pt")).absent_threshold("auto")
    write_bundle(tmp_path / "b", made / "detector.pt", made / "segmenter.pt")
    with pytest.raises(InputError, match=f"{tmp_path / 'b'} holds no score"):
        Inputs(InputOptions(bundle=tmp_path / "b")).absent_threshold("auto")
    with pytest.raises(InputError, match=r"^--absent-threshold"):
        Inputs(InputOptions(bundle=tmp_path / "b")).absent_threshold(float("nan"))


@pytest.mark.parametrize(
    ("given", "checkpoint", "boxes"),
    [
        ({"bundle": "bundle"}, "bundle/segmenter.pt", "bundle/detector.pt"),
        ({"bundle": "bundle", "detector": "d.pt"}, "bundle/segmenter.pt", "d.pt"),
        ({"bundle": "bundle", "proposals": "p.h5"}, "bundle/segmenter.pt", "p.h5"),
        ({"checkpoint": "s.pt", "proposals": "p.h5"}, "s.pt", "p.h5"),
        ({"checkpoint": "s.pt", "detector": "d.pt"}, "s.pt", "d.pt"),
    ],
)
def test_a_bundle_stands_for_its_parts(made, given, checkpoint, boxes, monkeypatch):
    monkeypatch.chdir(made)
    opened, model = [], loaded()
    monkeypatch.setattr(
        inputs_module, "load_segmenter", lambda path, *_: opened.append(str(path)) or model
    )
    monkeypatch.setattr(inputs_module, "load_detector", lambda path, device: str(path))
    found = Inputs(InputOptions(**{name: Path(path) for name, path in given.items()}))
    segmenter = found.video_segmenter()
    own, calibrated = segmenter.boxes, segmenter.query_encoder.absent_threshold
    assert opened == [checkpoint] and calibrated == (0.25 if "bundle" in given else None)
    assert (str(own.path) if "proposals" in given else own) == boxes


@pytest.mark.parametrize(
    "given", [{}, {"bundle": "bundle", "checkpoint": "segmenter.pt"}, {"proposals": "p.h5"}]
)
def test_the_segmenter_is_named_once(made, given):
    with pytest.raises(InputError, match="wanted one of --bundle DIR and --checkpoint PT"):
        Inputs(InputOptions(**{name: made / path for name, path in given.items()}))


def test_a_segmenter_is_opened_with_its_configuration_changed(made, tmp_path):
    (tmp_path / "c.yaml").write_text("flow: {preset: fast}\n")
    checkpoint = made / "segmenter.pt"
    assert Inputs(InputOptions(checkpoint=checkpoint)).loaded.config.flow.preset == "medium"
    changed = {"config": str(tmp_path / "c.yaml"), "overrides": ("aamn.link_balance=2",)}
    found = Inputs(InputOptions(checkpoint=checkpoint, **changed)).loaded
    assert found.config.flow.preset == "fast" and found.segmenter.config.link_balance == 2


def test_inputs_are_what_is_named_and_opened_once(made):
    checkpoint = {"checkpoint": made / "segmenter.pt"}
    names = {"proposals": made / "p.h5", "detector": made / "detector.pt", "flow": made / "f.h5"}
    checkpoint["overrides"] = ("flow.preset=fast",)  # as the flow was made
    full = Inputs(InputOptions(**checkpoint, **names))
    assert full.store.video_ids == ["a", "b"] and full.store is full.store
    assert full.flow.frame_count("b") == 4 and full.detector is full.detector
    assert full.loaded is full.loaded
    none = Inputs(InputOptions(**checkpoint))
    assert none.store is None and none.flow is None
    with pytest.raises(InputError, match="--proposals HDF5 or --detector PT"):
        _ = none.detector
    with pytest.raises(InputError, match="--proposals HDF5 or --detector PT"):
        none.video_segmenter()
    assert none.video_segmenter(boxes_needed=False).boxes is None
    with open_frames(made / "videos" / "a") as frames:
        stored = full.video_segmenter()._boxes("a", frames, "float32")
        assert type(stored) is StoredBoxes and stored.video_id == "a"
        found = Inputs(InputOptions(**checkpoint, **{**names, "proposals": None}))
        detecting = found.video_segmenter()
        assert type(detecting._boxes("a", frames, "float32")) is DetectedBoxes
        one, other = (detecting._boxes(name, frames, "float32") for name in "ab")
        assert one is other


def test_an_index_s_frames_and_replacement_are_the_caller_s(made, tmp_path, monkeypatch):
    given, build = [], predictor.build_index
    monkeypatch.setattr(
        predictor, "build_index", lambda *a, **k: given.append((a, k)) or build(*a, **k)
    )
    model, path = load_segmenter(made / "segmenter.pt"), tmp_path / "a.h5"
    files = {"proposals": made / "p.h5", "flow": made / "f.h5"}
    preset = ("flow.preset=fast",)
    options = InputOptions(checkpoint=made / "segmenter.pt", overrides=preset, **files)
    segmenter, video = Inputs(options).video_segmenter(), Video("a", made / "videos" / "a")
    part = Selection(range(3, 4))
    assert segmenter.build(video, path, part)
    assert VideoIndex.read(path, model).frames == range(3, 4)
    assert not segmenter.build(video, path, part)
    with pytest.raises(InputError, match="precision is"):
        segmenter.build(video, path, precision="bfloat16")
    assert segmenter.build(video, path, precision="bfloat16", again=True)
    assert IndexFile.read(path).header.selection.whole
    assert len(given) == 4 and all(job.flow is segmenter.flow for (job, _), _ in given)


def test_the_words_of_segment_reach_the_job(made, segmented, tmp_path):
    clip, texts = made / "videos" / "a", tmp_path / "s.txt"
    texts.write_text("w5\n\nw6\n")
    bundle = ("--bundle", made / "bundle")
    code, inputs, options = segmented(clip, "w3", "--query", "w4", "--queries", texts, *bundle)
    assert code == 0 and inputs.options == InputOptions(bundle=made / "bundle")
    assert (options.video, options.texts) == (clip, ("w3", "w4", "w5", "w6"))
    default = segment_module.SegmentOptions(clip, options.texts)
    assert options == default, "what is not said is as the library has it"
    words = {
        "--video-id": ("video_id", "x"),
        "--linking": ("linking", "clip"),
        "--transition-cost": ("transition_cost", 0.5),
        "--start": ("start", 2),
        "--end": ("end", 9),
        "--stride": ("stride", 4),
        "--every": ("every", 3),
        "--out": ("out", tmp_path),
    }
    for word, (name, value) in words.items():
        found = segmented("--video", clip, "w3", word, value, *bundle)[2]
        assert getattr(found, name) == value, word
        assert (found.video, found.texts) == (clip, ("w3",)), word
    found = segmented("w3", "--data", "root", "--split", "train", "--count", 3, *bundle)[2]
    assert (found.data, found.split, found.count) == ("root", "train", 3)
    assert segmented(clip, "w3", "--palette", *bundle)[2].palette
    assert segmented(clip, "w3", "--every-frame", *bundle)[2].stride == 1
    files = ("--flow", made / "f.h5", "--set", "aamn.link_balance=3")
    detector = ("--detector", made / "detector.pt", "--config", "aamn_demo")
    found = segmented(clip, "w3", "--checkpoint", made / "segmenter.pt", *files, *detector)[1]
    assert found.options == InputOptions(
        None, made / "segmenter.pt", made / "detector.pt", None, made / "f.h5",
        "aamn_demo", ("aamn.link_balance=3",),
    )  # fmt: skip
    found = segmented(clip, "w3", "--proposals", made / "p.h5", *bundle)[1]
    assert found.options == InputOptions(made / "bundle", proposals=made / "p.h5")
    without = segmented("w3", "--data", "root", *bundle)[2]
    assert (without.video, without.texts) == (None, ("w3",)), "a data set's videos, one sentence"
    (tmp_path / "i.h5").touch()
    without = segmented("w3", "w4", "--index", tmp_path / "i.h5", *bundle)[2]
    assert (without.video, without.texts) == (None, ("w3", "w4")), "an index knows its video"


# aamn evaluate --index


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
    monkeypatch.setattr(systems, "load_segmenter", lambda *_: model)
    monkeypatch.setattr(systems, "open_source", lambda *_: Source())
    monkeypatch.setattr(systems.ProposalStore, "read", lambda _: Store())
    direct = systems.open_system("s.pt")
    indexed = systems.through_indexes(direct, tmp_path)
    for place in range(3):
        found, wanted = (one.answer(*one.sample_of(place)) for one in (indexed, direct))
        torch.testing.assert_close(found.scores.total, wanted.scores.total, atol=1e-5, rtol=0)
        assert wanted.scores.total.isfinite().any()
    assert len(direct.loaded.vocabulary) == WORDS + 2


@pytest.mark.parametrize("every", ["0", "65", "1.5"])
def test_every_how_many_frames_is_a_small_whole_number(made, every, call):
    words = ("clip.mp4", "w3", "--bundle", made / "bundle", "--every", every)
    code, _, errors = call("segment_video", *words)
    assert code == 2 and "--every" in errors.splitlines()[-1]
