"""The program that segments whole videos: its options, files and exit codes, on tiny videos."""

import json
import logging
import shutil
from functools import cache

import cv2
import numpy as np
import programs
import pytest
import torch
from PIL import Image
from tiny_models import tiny_config, tiny_segmenter

from aamn.data.samples import load_clip, load_proposals
from aamn.index.file import NO_END, WHOLE, IndexFile, Selection
from aamn.index.video_index import VideoIndex
from aamn.inference.checkpoint import load_segmenter, save_checkpoint
from aamn.jobs import inputs as inputs_module
from proposals.frames import open_frames
from proposals.store import ProposalStore
from proposals.store_writer import write_proposals

MODEL = ("aamn.streams=rgb", "aamn.mask_head.features=rgb", "data.kind=folder")
OTHER = ("--set", "system=most_confident")  # a system that is run clip by clip, without an index
SENTENCES = "video_id,instance_id,query,split\na,0,w3 w4,test\na,1,w5,test\nb,0,w6,test\n"
SENTENCES += "c,0,w7 w8,test\nb,0,w9,train\n"
FRAMES, SIZE = 7, (24, 40)
WINDOWS = ((1, (0, 1, 2)), (4, (3, 4, 5)), (5, (6,)))  # key frame, the frames answered for


def write_video(folder, seed, size=SIZE):
    """Seven frames of coarse noise; the same for the same seed."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for n in range(FRAMES):
        coarse = rng.integers(0, 255, (6, 10, 3), np.uint8)
        Image.fromarray(coarse).resize(size[::-1]).save(folder / f"{n:05d}.png")


def write_boxes(path, videos=("a", "b", "c"), size=SIZE):
    """Four boxes in every frame, of whatever score and place."""
    with write_proposals(path, "by hand") as writer:
        for seed, video in enumerate(videos):
            rng = np.random.default_rng(seed)
            corners = rng.uniform(0, 10, (FRAMES, 4, 2)).astype(np.float32)
            boxes = np.concatenate([corners, corners + rng.uniform(8, 13, (FRAMES, 4, 2))], -1)
            scores = -np.sort(-rng.random((FRAMES, 4)), 1)
            labels = np.zeros((FRAMES, 4), np.int64)
            writer.add(video, list(boxes.astype(np.float32)), list(scores), list(labels), size)


@pytest.fixture(scope="module", autouse=True)
def _read_once():
    """A checkpoint is read once for all calls that change nothing in it."""

    @cache
    def read(path, device, config, overrides):
        return load_segmenter(path, device, config, overrides)

    def load(path, device, config, overrides):
        return read(str(path), device, config, tuple(overrides))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs_module, "load_segmenter", load)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A checkpoint, a data set of three videos, their boxes, and the index of the first."""
    root = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    save_checkpoint(root / "last.pt", tiny_segmenter(*MODEL, seed=4), tiny_config(*MODEL), 0)
    for seed, name in enumerate("abc"):
        write_video(root / "own" / "videos" / name, seed)
    (root / "own" / "sentences.csv").write_text(SENTENCES)
    write_boxes(root / "boxes.h5")
    assert call(*video(root), "--query", "w3", "--out", root / "first") == 0
    return root


def call(*words):
    """Runs the program in this process, as if from the command line; returns its exit code."""
    return programs.call("segment_video", *words)


def common(root):
    return ("--checkpoint", root / "last.pt", "--proposals", root / "boxes.h5")


def video(root):
    return (*common(root), "--video", root / "own" / "videos" / "a")


def data(root):
    return (*common(root), "--data", root / "own")


def asked(root):
    return ("--checkpoint", root / "last.pt", "--index", root / "first" / "index" / "a.h5")


def masks_of(folder):
    """Masks by frame."""
    paths = sorted((folder / "masks").iterdir())
    return {int(path.stem): cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths}


def record_of(folder):
    return json.loads((folder / "result.json").read_text())


def directly(root, text, *overrides):
    """The answer of each clip of video a to one sentence, by the segmenter itself: (track, places
    of the answered frames in it)."""
    loaded = load_segmenter(root / "last.pt", "cpu", None, overrides)
    store, found = ProposalStore.read(root / "boxes.h5"), []
    frames = open_frames(root / "own" / "videos" / "a")
    for key, answered in WINDOWS:
        clip = load_clip("a", frames, key, loaded.segmenter.input_spec)
        boxes = load_proposals(store, "a", clip.frame_indices, 4)
        with torch.no_grad():
            (track,) = loaded.segmenter.segment(clip, boxes, [loaded.vocabulary.encode(text)])
        found.append((track, [n - (key - 1) for n in answered]))
    store.close()
    return found


def test_another_system_writes_exactly_what_it_answers(world, tmp_path, capsys):
    assert call(*video(world), *OTHER, "--query", "w3 w4", "--out", tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "00_w3_w4")]
    direct = directly(world, "w3 w4", "system=most_confident")
    wanted = torch.cat([track.masks[places] for track, places in direct]).numpy()
    found = masks_of(tmp_path / "00_w3_w4")
    assert list(found) == list(range(FRAMES)) and wanted.any()
    for n, mask in found.items():
        assert np.array_equal(mask, wanted[n] * np.uint8(255)), n


def test_the_paper_s_linking_takes_each_clips_best_tube(world, tmp_path):
    assert call(*video(world), "--linking", "clip", "--query", "w3 w4", "--out", tmp_path) == 0
    record, direct = record_of(tmp_path / "00_w3_w4"), directly(world, "w3 w4")
    assert record["linking"] == "clip" and record["video_id"] == "a"
    assert [clip["frames"] for clip in record["clips"]] == [[0, 3], [3, 6], [6, 7]]
    found = masks_of(tmp_path / "00_w3_w4")
    for entry, (track, places) in zip(record["clips"], direct, strict=True):
        assert entry["tube"] == track.tube == int(np.argmax(entry["total_scores"]))
        np.testing.assert_allclose(entry["boxes"], track.boxes[places], atol=0.006)
        np.testing.assert_allclose(entry["score"], track.score, atol=1e-4)
        masks = np.stack([found[n] > 0 for n in range(*entry["frames"])])
        assert (masks == track.masks[places].numpy()).mean() > 0.98, "but for rounding"
    # A clip counts as many times as it answers for frames: three, three and one.
    mean = np.average([clip["score"] for clip in record["clips"]], weights=[3, 3, 1])
    assert record["score"] == pytest.approx(mean, abs=1e-5)


def test_the_weight_of_links_reaches_the_paths(world, tmp_path):
    index = VideoIndex.read(world / "first" / "index" / "a.h5", load_segmenter(world / "last.pt"))
    tubes = {}
    for weight in (0, 1000):
        out = tmp_path / str(weight)
        assert call(*asked(world), "--transition-cost", weight, "--query", "w5", "--out", out) == 0
        record = record_of(out / "00_w5")
        assert record["linking"] == "video"
        tubes[weight] = [clip["tube"] for clip in record["clips"]]
        (track,) = index.query(["w5"], transition_cost=weight)
        assert track.tubes.tolist() == tubes[weight]
        best = [int(np.argmax(clip["total_scores"])) for clip in record["clips"]]
        assert (tubes[weight] == best) == (weight == 0), "links outweigh the scores"
    (usual,) = index.query(["w5"])
    assert call(*asked(world), "--query", "w5", "--out", tmp_path / "o") == 0
    found = [clip["tube"] for clip in record_of(tmp_path / "o" / "00_w5")["clips"]]
    assert found == usual.tubes.tolist()


SPANS = [
    (("--start", 2), range(2, 7)),
    (("--end", 4), range(4)),
    (("--end", 700), range(7)),
    (("--start", 1, "--end", 6, "--stride", 2), range(1, 6, 2)),
    (("--stride", 5), range(0, 7, 5)),
    (("--start", 6), range(6, 7)),
    (("--every-frame",), range(7)),
]


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """Masks of all frames by both ways of working."""
    out = tmp_path_factory.mktemp("whole")
    assert call(*video(world), *OTHER, "--query", "w3", "--out", out) == 0
    return {"aamn": masks_of(world / "first" / "00_w3"), "other": masks_of(out / "00_w3")}


@pytest.mark.parametrize("system", ["aamn", "other"])
@pytest.mark.parametrize(("options", "wanted"), SPANS, ids=str)
def test_only_the_wanted_frames_are_written(world, whole, tmp_path, system, options, wanted):
    words = asked(world) if system == "aamn" else (*video(world), *OTHER)
    words = (*words, "--query", "w3", *options, "--out", tmp_path)
    assert call(*words) == 0
    found = masks_of(tmp_path / "00_w3")
    assert list(found) == list(wanted)
    for n, mask in found.items():
        assert np.array_equal(mask, whole[system][n]), n
    assert not (tmp_path / "palette").exists()
    with Image.open(tmp_path / "00_w3" / "sheet.png") as sheet:  # all of them, four side by side
        rows, columns = -(-len(wanted) // 4), min(4, len(wanted))
        assert sheet.size == (columns * (40 + 4), rows * (24 + 18 + 4))
    entries = record_of(tmp_path / "00_w3")["clips"]
    shares = [[n for n in answered if n in wanted] for _, answered in WINDOWS]
    shares = [share for share in shares if share]
    assert [entry["frames"] for entry in entries] == [[s[0], s[-1] + 1] for s in shares]
    assert [len(entry["boxes"]) for entry in entries] == [len(share) for share in shares]


@pytest.mark.parametrize(
    ("options", "selection", "keys"),
    [
        ((), WHOLE, [1, 4, 5]),
        (("--stride", 3), WHOLE, [1, 4, 5]),  # every clip of three frames has one of them
        (("--stride", 4), Selection(range(0, NO_END, 4)), [1, 4]),
        (("--start", 1, "--stride", 2), Selection(range(1, NO_END)), [1, 4, 5]),
        (("--end", 4), Selection(range(4)), [1, 4]),
        (("--start", 3, "--end", 6, "--stride", 5), Selection(range(3, 6, 5)), [4]),
    ],
    ids=str,
)
def test_only_the_clips_of_wanted_frames_are_indexed(world, tmp_path, options, selection, keys):
    assert call(*video(world), "--query", "w3", *options, "--out", tmp_path) == 0
    file = IndexFile.read(tmp_path / "index" / "a.h5")
    assert str(file.header.selection) == str(selection) and file.header.video_id == "a"
    assert file.array("windows")[:, 0].tolist() == keys
    file.close()


def test_one_video_that_fails_does_not_take_the_others_with_it(world, tmp_path, caplog, capsys):
    root = shutil.copytree(world / "own", tmp_path / "own")
    (root / "videos" / "b" / "00004.png").write_bytes(b"no picture")
    words = (*common(world), "--data", root, "--out", tmp_path / "out")
    for options in ((), OTHER):
        with caplog.at_level(logging.ERROR, "aamn"):
            caplog.clear()
            assert call(*words, *options) == 1
        (error,) = [record.getMessage() for record in caplog.records]
        assert error.startswith("b: ") and "00004.png" in error
        for folder in ("a/00_w3_w4", "a/01_w5", "c/00_w7_w8"):
            assert list(masks_of(tmp_path / "out" / folder)) == list(range(FRAMES))
        assert not list((tmp_path / "out").glob("b/*/result.json"))
        shutil.rmtree(tmp_path / "out")
    capsys.readouterr()


def test_all_videos_of_a_data_set_are_segmented_by_their_own_sentences(world, tmp_path, capsys):
    capsys.readouterr()
    assert call(*data(world), *OTHER, "--end", 1, "--out", tmp_path) == 0
    folders = ["a/00_w3_w4", "a/01_w5", "b/00_w6", "c/00_w7_w8"]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / name) for name in folders]
    for name in folders:
        record = record_of(tmp_path / name)
        assert record["video_id"] == name[0] and f"_{name[4:]}".endswith(record["words"][-1])


@pytest.mark.parametrize(
    ("options", "folders"),
    [
        (("--count", 2), {"a/00_w3_w4", "a/01_w5", "b/00_w6"}),
        (("--query", "w9", "--count", 2), {"a/00_w9", "b/00_w9"}),
        (("--count", 1), {"00_w3_w4", "01_w5"}),  # one video needs no folder of its own
        (("--split", "train"), {"00_w9"}),
    ],
    ids=["two", "one sentence", "one", "another split"],
)
def test_which_videos_and_sentences_of_a_data_set(world, tmp_path, options, folders):
    assert call(*data(world), *OTHER, *options, "--end", 1, "--out", tmp_path) == 0
    found = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("result.json")}
    assert found == folders


def test_sentences_of_a_file_follow_those_of_the_command(world, tmp_path):
    (tmp_path / "s.txt").write_text("w4\n\n  \nw5 w6\n", encoding="utf-8")
    words = ("--queries", tmp_path / "s.txt", "--query", "w3", "--end", 1, "--out", tmp_path / "o")
    assert call(*video(world), *OTHER, *words, "--palette") == 0
    folders = {path.name for path in (tmp_path / "o").iterdir()}
    assert folders == {"00_w3", "01_w4", "02_w5_w6", "palette", "run.json"}


def test_results_lie_in_runs_where_no_other_place_is_named(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*video(world), *OTHER, "--query", "w3", "--end", 1) == 0
    assert (tmp_path / "runs" / "a" / "00_w3" / "result.json").is_file()
    assert call(*data(world), *OTHER, "--count", 2, "--query", "w3", "--end", 1) == 0
    for name in "ab":
        assert (tmp_path / "runs" / "videos" / name / "00_w3" / "result.json").is_file()


def test_a_video_has_another_name_in_the_files_than_on_the_disk(world, tmp_path):
    words = ("--query", "w3", "--end", 1)
    named = shutil.copytree(world / "own" / "videos" / "a", tmp_path / "copy.of")
    given = (*common(world), "--video", named, *words, "--out", tmp_path / "o")
    assert call(*given, *OTHER) == 2, "no boxes of a video copy.of"
    assert call(*given, *OTHER, "--video-id", "a") == 0
    assert record_of(tmp_path / "o" / "00_w3")["video_id"] == "a"
    found = masks_of(tmp_path / "o" / "00_w3")[0]
    (track, _), *_ = directly(world, "w3", "system=most_confident")
    assert np.array_equal(found > 0, track.masks[0].numpy())


def test_an_index_knows_its_video(world, tmp_path):
    assert call(*asked(world), "--query", "w3", "--out", tmp_path) == 0
    assert record_of(tmp_path / "00_w3")["video_id"] == "a"
    for path in (tmp_path / "00_w3" / "masks").iterdir():
        same = world / "first" / "00_w3" / "masks" / path.name
        assert path.read_bytes() == same.read_bytes()


@pytest.mark.parametrize("system", [(), OTHER], ids=["aamn", "other"])
def test_words_that_are_not_known_are_named(world, tmp_path, caplog, system):
    words = ("--query", "w3 zebra", "--query", "okapi", "--end", 1, "--out", tmp_path)
    assert call(*video(world), *system, *words) == 0
    said = [r.getMessage() for r in caplog.records if "does not know" in r.getMessage()]
    assert said == [
        "'w3 zebra': words the segmenter does not know: zebra",
        "'okapi': words the segmenter does not know: okapi",
    ]
    first, second = (record_of(tmp_path / name) for name in ("00_w3_zebra", "01_okapi"))
    assert first["matched"] and second["matched"] is False
    assert (second["score"], second["reason"]) == (None, "none of its words is known: okapi")
    assert not any(mask.any() for mask in masks_of(tmp_path / "01_okapi").values())


def thresholds(root):
    """The scores of two sentences, the higher first, with their texts."""
    index = VideoIndex.read(root / "first" / "index" / "a.h5", load_segmenter(root / "last.pt"))
    tracks = sorted(index.query(["w3", "w12 w7"]), key=lambda track: -track.score)
    assert tracks[0].score > tracks[1].score and tracks[1].masks().any()
    return [(track.score, track.text) for track in tracks]


@pytest.mark.parametrize("way", ["given", "auto"])
def test_sentences_below_the_threshold_are_nobodys(world, tmp_path, caplog, way):
    (high, present), (low, absent) = thresholds(world)
    threshold = high if way == "given" else (high + low) / 2  # who just reaches it is present
    words = ("--absent-threshold", repr(threshold))
    segmenter = asked(world)
    if way == "auto":
        bundle = tmp_path / "bundle"
        bundle.mkdir()
        shutil.copy(world / "last.pt", bundle / "segmenter.pt")
        (bundle / "detector.pt").write_bytes(b"not needed, the video is indexed")
        kind = {"format": "aamn-bundle", "version": 1, "absent_threshold": threshold}
        (bundle / "bundle.json").write_text(json.dumps(kind))
        segmenter, words = ("--bundle", bundle, *segmenter[2:]), ("--absent-threshold", "auto")
    with caplog.at_level(logging.INFO, "aamn"):
        queries = ("--query", present, "--query", absent)
        assert call(*segmenter, *words, *queries, "--out", tmp_path / "o") == 0
    names = (f"00_{present.replace(' ', '_')}", f"01_{absent.replace(' ', '_')}")
    first, second = (tmp_path / "o" / name for name in names)
    assert record_of(first)["matched"] is True and record_of(second)["matched"] is False
    assert record_of(second)["score"] == pytest.approx(low, abs=1e-6)
    assert all(clip["tube"] == -1 for clip in record_of(second)["clips"])
    assert any(mask.any() for mask in masks_of(first).values())
    assert not any(mask.any() for mask in masks_of(second).values())
    said = [r.getMessage() for r in caplog.records if " in a: score " in r.getMessage()]
    assert said == [
        f"{present!r} in a: score {high:.3f}, match (threshold {threshold:.3f})",
        f"{absent!r} in a: score {low:.3f}, no match (threshold {threshold:.3f})",
    ]
    assert record_of(second)["reason"] == "its score is below the threshold"


def test_mistakes_are_one_line_that_names_what_is_wrong(world, tmp_path, capsys):
    write_video(tmp_path / "large" / "a", 0, (30, 50))
    large = (*common(world), "--video", tmp_path / "large" / "a", "--query", "w3")
    short = (*video(world), "--query", "w3")
    cases = {
        "no sentence": (video(world), "--query"),
        "no sentence of an index": (asked(world), "--query"),
        "no file of sentences": ((*video(world), "--queries", "no.txt"), "no.txt"),
        "neither segmenter": (("--proposals", "x.h5", *video(world)[4:]), "--bundle"),
        "both segmenters": ((*short, "--bundle", "b"), "--bundle"),
        "auto without a bundle": ((*short, "--absent-threshold", "auto"), "--bundle"),
        "starts at the end": ((*short, "--start", 7), "frames 7 to the end"),
        "starts at the end, other": ((*short, *OTHER, "--start", 7), "the video has 7 frames"),
        "starts before": ((*short, *OTHER, "--start", -1), "'--start': -1"),
        "stride of none": ((*short, *OTHER, "--stride", 0), "'--stride': 0"),
        "nothing at all": ((*short, *OTHER, "--end", 0), "'--end': 0"),
        "other size": (large, "50x30"),
        "other size, other system": ((*large, *OTHER), "50x30"),
        "other size than the index": ((*large[:2], *large[4:], *asked(world)[2:]), "50x30"),
        "unknown split": ((*data(world), "--split", "validation"), "validation"),
        "a threshold of another system": (
            (*short, *OTHER, "--absent-threshold", 1),
            "--absent-threshold: for aamn and zeroshot alone",
        ),
        "a cost of another system": (
            (*short, *OTHER, "--transition-cost", 0.7),
            "--transition-cost: for aamn and zeroshot alone",
        ),
        "a sentence without a word": ((*short, "--query", "?!"), "holds no word"),
    }
    for name, (words, named) in cases.items():
        capsys.readouterr()
        assert call(*words, "--out", tmp_path / "o") == 2, name
        lines = [line for line in capsys.readouterr().err.splitlines() if line[:6] == "error:"]
        assert len(lines) == 1 and named in lines[0], (name, lines)
        assert "50x30" not in named or "40x24" in lines[0], name
    assert not list((tmp_path / "o").rglob("result.json"))


@pytest.mark.parametrize(
    "words", [("--stride", 2, "--every-frame"), ("--linking", "frame"), ("--absent-threshold", "x")]
)
def test_options_that_cannot_be_are_refused_by_the_command_line(world, words, capsys):
    assert call(*video(world), "--query", "w3", *words) == 2
    assert words[0] in capsys.readouterr().err
