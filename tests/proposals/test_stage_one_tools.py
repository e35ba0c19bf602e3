"""`aamn manifest`, `train-detector` and `extract`: what they do, and the one line that each wrong
input gets."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import programs
import pytest
import torch

from aamn.cli.main import run
from aamn.config.loading import load_config
from aamn.data.datasets.validation import in_validation
from aamn.jobs import detector as detector_job
from aamn.jobs import detector_choice
from proposals import decoding
from proposals import extract as extract_module
from proposals.build import build_detector, load_network
from proposals.config import DetectorConfig, FineTuneConfig
from proposals.decoding import Video
from proposals.detector import save_detector
from proposals.extract import JobOptions, Report
from proposals.frames import open_frames
from proposals.store import ProposalStore, shard_path
from proposals.store_writer import write_proposals

SIZE = (48, 64)
TINY = DetectorConfig(
    name="small",
    weights="",
    classes=("adult", "baby", "ball", "bird", "car", "cat", "dog"),
    min_size=48,
    max_size=96,
    proposals=20,
    score_threshold=0.0,
    widths=(8, 8, 16, 16),
    head=16,
    pool=3,
    finetune=FineTuneConfig(iterations=2, batch=2, optimiser="adamw"),
)
TINY_SET = (
    *("--set", "name=small", "--set", "weights=''", "--set", "min_size=48", "--set", "max_size=96"),
    *("--set", "widths=[8,8,16,16]", "--set", "head=16", "--set", "pool=3"),
    *("--set", "finetune.iterations=2", "--set", "finetune.batch=2"),
)


def call(program: str, *words: object, capsys) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a program that is run in this process."""
    code = programs.call(program, *words)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def write_video(path: Path, frames: int = 6, size=SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(frames)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, size[::-1])
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """An A2D root of two videos: one instance with transposed mask, and two."""
    root = tmp_path_factory.mktemp("a2d")
    text = root / "text_annotations"
    (root / "Release/clips320H").mkdir(parents=True)
    rows, queries = [], ["video_id,instance_id,query"]
    for split, (video, n) in enumerate((("-a_b", 1), ("c", 2))):
        write_video(root / f"Release/clips320H/{video}.mp4")
        rows.append(f"{video},11,0:00,0:01,48,64,6,1,{split}")
        queries.append(f"{video},1,a thing")
        folder = text / "a2d_annotation_with_instances" / video
        folder.mkdir(parents=True)
        with h5py.File(folder / "00004.h5", "w") as file:
            file["instance"] = np.arange(1, n + 1)
            file["id"] = np.array([[10 * (k + 1) + 1 for k in range(n)]])
            masks = np.zeros((n, 64, 48), np.uint8)
            file["reMask"] = masks[0] if n == 1 else masks
            boxes = [[5.0 + k, 6, 35, 40] for k in range(n)]
            file["reBBox"] = np.array(boxes).T
    (root / "Release/videoset.csv").write_text("\n".join(rows) + "\n")
    (text / "a2d_annotation.txt").write_text("\n".join(queries) + "\n")
    (text / "a2d_missed_videos.txt").write_text("")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "detector.pt"
    save_detector(build_detector(replace(TINY)), path)
    return path


def test_a_manifest_of_a2d(corpus, tmp_path, capsys):
    out = tmp_path / "test.json"
    code, shown, _ = call(
        *("make_manifest", "--data", corpus, "--split", "test", "--out", out), capsys=capsys
    )
    assert code == 0 and "1 frames, 2 boxes" in shown
    content = json.loads(out.read_text())
    (image,) = content["images"]
    assert (tmp_path / image["file_name"]).resolve() == corpus / "Release/clips320H/c.mp4"
    assert (image["frame"], image["width"], image["height"]) == (3, 64, 48)
    assert [a["bbox"] for a in content["annotations"]] == [[5, 6, 30, 34], [6, 6, 29, 34]]
    assert [a["category_id"] for a in content["annotations"]] == [1, 2]
    assert [c["name"] for c in content["categories"]][:3] == ["adult", "baby", "ball"]


def test_a_manifest_of_several_frames_links_boxes_to_frames(corpus, tmp_path, capsys):
    """The train split, which is the default, with a second annotated frame."""
    root = Path(shutil.copytree(corpus, tmp_path / "a2d"))
    folder = root / "text_annotations/a2d_annotation_with_instances/-a_b"
    with h5py.File(folder / "00001.h5", "w") as file:
        file["instance"], file["id"] = np.array([1]), np.array([[71]])
        file["reMask"], file["reBBox"] = np.zeros((64, 48), np.uint8), np.array([[1.0, 2, 9, 12]]).T
    out = tmp_path / "lists/train.json"
    code, shown, _ = call("make_manifest", "--data", root, "--out", out, capsys=capsys)
    assert code == 0 and "2 frames, 2 boxes" in shown
    content = json.loads(out.read_text())
    assert [(i["id"], i["frame"]) for i in content["images"]] == [(1, 0), (2, 3)]
    assert {i["video_id"] for i in content["images"]} == {"-a_b"}
    assert [
        (a["id"], a["image_id"], a["category_id"], a["bbox"], a["area"], a["iscrowd"])
        for a in content["annotations"]
    ] == [(1, 1, 7, [1, 2, 8, 10], 80, 0), (2, 2, 1, [5, 6, 30, 34], 1020, 0)]
    assert content["categories"][6] == {"id": 7, "name": "dog"}
    assert [path.name for path in out.parent.iterdir()] == ["train.json"]


def test_a_manifest_leaves_out_the_validation_videos(corpus, tmp_path, capsys):
    def videos(*options):
        code, _, error = call(
            *("make_manifest", "--data", corpus, "--out", tmp_path / "m.json", *options),
            capsys=capsys,
        )
        if code:
            return error
        images = json.loads((tmp_path / "m.json").read_text())["images"]
        return {Path(image["file_name"]).stem for image in images}

    (only,) = videos()
    share = next(s / 1000 for s in range(1000) if in_validation(only, s / 1000))
    held, kept = ("--validation-share", share), ("--validation-share", share - 0.001)
    assert videos(*held, "--split", "validation") == videos(*kept) == {only}
    assert "the train split has no annotated frame" in videos(*held)
    assert "the validation split has no annotated frame" in videos(*kept, "--split", "validation")
    assert videos(*held, "--split", "test") == {"c"}
    assert "1.0 is not in the range 0<=x<1" in videos("--validation-share", 1)


def test_training_measures_and_is_not_repeated(corpus, tmp_path, capsys):
    for split in ("train", "test"):
        options = ("--split", split, "--out", tmp_path / f"{split}.json")
        call("make_manifest", "--data", corpus, *options, capsys=capsys)
    command = (
        *("train_detector", "--manifest", tmp_path / "train.json"),
        *("--validation", tmp_path / "test.json", "--out", tmp_path / "d", *TINY_SET),
    )
    code, shown, _ = call(*command, capsys=capsys)
    assert code == 0 and "recall@6 IoU 0.5" in shown
    measured = json.loads((tmp_path / "d/metrics.json").read_text())
    assert {"AP", "AP50", "recall@2 IoU 0.5", "recall@12 IoU 0.7", "recall@100 IoU 0.5"} <= set(
        measured
    )
    before = (tmp_path / "d/detector.pt").stat().st_mtime_ns
    assert call(*command, capsys=capsys)[0] == 0
    assert (tmp_path / "d/detector.pt").stat().st_mtime_ns == before
    code, _, error = call(*command, "--set", "finetune.lr=1", capsys=capsys)
    assert code == 2 and "was trained with another configuration" in error


def test_the_frames_that_are_learned_are_not_those_that_are_measured(
    corpus, tmp_path, capsys, monkeypatch
):
    measured = []

    def evaluate(detector, manifest, cache_mb):
        measured.append((detector.network, manifest, cache_mb))
        return {"AP": 0.25, "recall@2 IoU 0.5": float("nan")}

    monkeypatch.setattr(detector_job, "evaluate", evaluate)
    for split in ("train", "test"):
        options = ("--split", split, "--out", tmp_path / f"{split}.json")
        call("make_manifest", "--data", corpus, *options, capsys=capsys)
    manifests = ("--manifest", tmp_path / "train.json", "--validation", tmp_path / "test.json")
    (tmp_path / "c.yaml").write_text("min_size: 40\nfinetune:\n  cache_mb: 3\n")
    out, recipe = tmp_path / "d", ("--config", tmp_path / "c.yaml", *TINY_SET)
    code, shown, _ = call("train_detector", *manifests, "--out", out, *recipe, capsys=capsys)
    ((network, manifest, cache_mb),) = measured
    assert code == 0 and manifest.path == tmp_path / "test.json" and cache_mb == 3
    assert json.loads((out / "metrics.json").read_text()) == {"AP": 0.25}
    assert "AP                    0.250" in shown
    saved = load_config(DetectorConfig, out / "config.yaml")
    assert saved == network.config == load_network(out / "detector.pt").config
    assert (saved.min_size, saved.widths, saved.classes) == (48, (8, 8, 16, 16), TINY.classes)
    assert saved.finetune.iterations == 2


def test_without_validation_nothing_is_measured(corpus, tmp_path, capsys):
    manifest = ("--manifest", tmp_path / "m.json")
    call("make_manifest", "--data", corpus, "--out", tmp_path / "m.json", capsys=capsys)
    out = tmp_path / "d"
    code, shown, _ = call("train_detector", *manifest, "--out", out, *TINY_SET, capsys=capsys)
    assert code == 0 and shown == ""
    assert sorted(p.name for p in out.iterdir()) == ["config.yaml", "detector.pt", "last.pt"]


def test_extraction_by_shards_is_the_whole_extraction(corpus, weights, tmp_path, capsys):
    source = ("--data", corpus, "--detector", weights, "--workers", 0)
    whole, parts = tmp_path / "whole.h5", tmp_path / "p.h5"
    code, shown, _ = call("extract_proposals", *source, "--out", whole, capsys=capsys)
    assert code == 0 and "2 videos stored, 0 were there; 12 frames" in shown
    assert "inside the detector" in shown
    for index in range(2):
        shard = ("--shard", f"{index}/2", "--out", parts)
        assert call("extract_proposals", *source, *shard, capsys=capsys)[0] == 0
    a, b = ProposalStore.read(whole), ProposalStore.read(parts)
    assert a.video_ids == b.video_ids == ["-a_b", "c"]
    np.testing.assert_array_equal(
        a.window("c", range(6), 9).boxes, b.window("c", range(6), 9).boxes
    )
    assert a.attributes.classes == TINY.classes and a.attributes.settings["proposals"] == 20


def test_fresh_forgets_what_was_there(corpus, weights, tmp_path, capsys):
    out = tmp_path / "p.h5"
    with write_proposals(out, "another"):
        pass
    command = ("extract_proposals", "--data", corpus, "--detector", weights, "--out", out)
    assert call(*command, "--workers", 0, capsys=capsys)[0] == 2
    assert call(*command, "--workers", 0, "--fresh", capsys=capsys)[0] == 0


def test_failures_end_the_program_with_1(corpus, weights, tmp_path, capsys):
    (tmp_path / "-bad.mp4").write_bytes(b"\0" * 500)
    code, shown, error = call(
        *("extract_proposals", "--videos", tmp_path, corpus / "Release/clips320H/c.mp4"),
        *("--detector", weights, "--workers", 0, "--out", tmp_path / "p.h5"),
        capsys=capsys,
    )
    assert code == 1 and "Traceback" not in error
    assert "1 videos stored" in shown and "1 videos failed:" in shown
    assert "  -bad: " in shown and "no frame can be decoded" in shown


def test_a_decoder_that_raises_on_the_way_fails_its_video_alone(
    corpus, weights, tmp_path, capsys, monkeypatch
):
    """The third of four videos breaks after twenty of its frames; the others are whole."""
    for name in ("-a", "b", "c", "d"):
        write_video(tmp_path / f"clips/{name}.mp4", 24)

    def opened(path):
        source = open_frames(path)
        if path.stem == "c":
            real = source._frame

            def frame(index):
                if index == 20:
                    raise RuntimeError("bad macroblock")
                return real(index)

            monkeypatch.setattr(source, "_frame", frame)
        return source

    monkeypatch.setattr(decoding, "open_frames", opened)
    code, shown, error = call(
        *("extract_proposals", "--videos", tmp_path / "clips", "--detector", weights),
        *("--workers", 0, "--out", tmp_path / "p.h5"),
        capsys=capsys,
    )
    assert code == 1 and "Traceback" not in error
    assert "3 videos stored" in shown and "1 videos failed:" in shown
    (line,) = (line for line in shown.splitlines() if line.startswith("  c: "))
    assert str(tmp_path / "clips/c.mp4") in line and "bad macroblock" in line
    store = ProposalStore.read(tmp_path / "p.h5")
    assert {v: store.frame_count(v) for v in store.video_ids} == {"-a": 24, "b": 24, "d": 24}


@pytest.fixture
def extracted(monkeypatch):
    """What `aamn extract` hands to the job, which does nothing."""
    calls = []
    monkeypatch.setattr(extract_module, "extract", lambda *given: calls.append(given) or Report())
    return calls


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), JobOptions(batch=4, group=1, workers=1)),
        (("--batch", 7), JobOptions(batch=7, group=1, workers=1)),
        (("--workers", 0), JobOptions(batch=4, group=1, workers=0)),
        (("--workers", 3, "--fresh"), JobOptions(batch=4, group=1, workers=3, fresh=True)),
    ],
)
def test_the_job_s_options_are_the_program_s(
    corpus, weights, tmp_path, capsys, monkeypatch, extracted, words, wanted
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "p.h5"
    call(
        *("extract_proposals", "--data", corpus, "--detector", weights, "--out", out, *words),
        capsys=capsys,
    )
    ((detector, videos, path, options),) = extracted
    assert options == wanted and path == out
    clips = corpus / "Release/clips320H"
    assert videos == [Video("-a_b", clips / "-a_b.mp4"), Video("c", clips / "c.mp4")]
    assert detector.attributes.settings["precision"] == "float32"
    assert detector.attributes.settings["proposals"] == TINY.proposals


@pytest.mark.parametrize(
    ("words", "environment", "videos", "name"),
    [
        (("--shard", "1/2"), {}, ["c"], "p.shard-1-of-2.h5"),
        ((), {"RANK": "0", "WORLD_SIZE": "2"}, ["-a_b"], "p.shard-0-of-2.h5"),
        (("--shard", "0/1"), {"RANK": "1", "WORLD_SIZE": "2"}, ["-a_b", "c"], "p.h5"),
    ],
)
def test_a_worker_extracts_its_shard(
    corpus, weights, tmp_path, capsys, monkeypatch, extracted, words, environment, videos, name
):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    source = ("--data", corpus, "--detector", weights, "--out", tmp_path / "p.h5")
    code, shown, _ = call("extract_proposals", *source, *words, capsys=capsys)
    ((_, share, path, _),) = extracted
    assert [video.video_id for video in share] == videos
    assert path == tmp_path / name and code == 0 and str(path) in shown


def test_a_recipe_makes_the_detector(corpus, tmp_path, capsys, extracted):
    (tmp_path / "c.yaml").write_text("name: small\nweights: ''\nclasses: [a, b]\nmin_size: 56\n")
    command = ("--config", tmp_path / "c.yaml", "--set", "nms_iou=0.4", "--set", "widths=[8,8,8,8]")
    call(
        *("extract_proposals", "--data", corpus, "--out", tmp_path / "p.h5", *command),
        capsys=capsys,
    )
    attributes = extracted[0][0].attributes
    assert (attributes.detector, attributes.classes) == ("small", ("a", "b"))
    assert attributes.settings["min_size"] == 56 and attributes.settings["nms_iou"] == 0.4


@pytest.mark.parametrize(
    ("environment", "gpus", "wanted"),
    [
        ({}, 0, "cpu"),
        ({}, 2, "cuda:0"),
        ({"LOCAL_RANK": "1"}, 4, "cuda:1"),
        ({"SLURM_LOCALID": "3"}, 4, "cuda:3"),
        ({"LOCAL_RANK": "2", "SLURM_LOCALID": "3"}, 4, "cuda:2"),
        ({"SLURM_LOCALID": "3"}, 2, "cuda:1"),
    ],
)
def test_each_worker_has_a_gpu_of_its_own(monkeypatch, environment, gpus, wanted):
    for key in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert detector_choice.worker_device() == wanted


@pytest.mark.parametrize(
    ("device", "asked", "wanted"),
    [
        ("cpu", None, "float32"),
        ("cuda:1", None, "float16"),
        ("cuda", "bfloat16", "bfloat16"),
        ("cuda", "float32", "float32"),
    ],
)
@pytest.mark.parametrize("source", ["a checkpoint", "a recipe"])
def test_half_precision_is_a_gpu_s_default(monkeypatch, device, asked, wanted, source):
    monkeypatch.setattr(detector_choice, "load_network", lambda path, device: (path, device))
    monkeypatch.setattr(
        detector_choice, "build_detector", lambda _: SimpleNamespace(to=lambda d: (None, d))
    )
    monkeypatch.setattr(detector_choice, "TorchDetector", lambda *given: given)
    path = Path("d.pt") if source == "a checkpoint" else None
    assert detector_choice.DetectorChoice(path, None, (), asked).load(device) == (
        (path, device),
        wanted,
    )


@pytest.mark.parametrize("words", [("--videos", "V", "W"), ("V", "--videos", "W"), ("V", "W")])
def test_videos_are_named_with_the_option_and_without(
    corpus, weights, tmp_path, capsys, extracted, words
):
    clips = {name: corpus / f"Release/clips320H/{name}.mp4" for name in ("-a_b", "c")}
    places = {"V": clips["c"], "W": clips["-a_b"]}
    words = [places.get(word, word) for word in words]
    out = ("--detector", weights, "--out", tmp_path / "p.h5")
    assert call("extract_proposals", *words, *out, capsys=capsys)[0] == 0
    (job,) = extracted
    assert {video.video_id: video.path for video in job[1]} == clips


@pytest.mark.parametrize("program", ["make_manifest", "train_detector", "extract_proposals"])
def test_help_shows_an_example(program, capsys):
    code, shown, _ = call(program, "--help", capsys=capsys)
    assert code == 0 and f"Example:\n  aamn {programs.SUBCOMMANDS[program]} " in shown


def bad_inputs() -> list[tuple[str, str]]:
    """The table of docs/stage_one.md: command and message, in which ... stands for anything."""
    page = (Path(__file__).parents[2] / "docs/stage_one.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `aamn ([^`]*)` \| (error: .*) \|$", page, re.MULTILINE)


def test_the_table_is_long():
    assert len(bad_inputs()) >= 30


@pytest.mark.parametrize(("command", "message"), bad_inputs())
def test_wrong_inputs_get_one_line(
    corpus, weights, tmp_path, capsys, monkeypatch, command, message
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if not (corpus / "m.json").exists():
        call(*("make_manifest", "--data", corpus, "--out", corpus / "m.json"), capsys=capsys)
        gone = (corpus / "m.json").read_text().replace("-a_b.mp4", "gone.mp4")
        (corpus / "gone.json").write_text(gone)
        write_video(corpus / "c.mp4")
        (corpus / "broken.h5").write_text("no HDF5")
    other = tmp_path / "other.h5"
    with write_proposals(other, "another"):
        pass
    empty = tmp_path / "empty"
    empty.mkdir()
    places = {
        "CORPUS/c.mp4": corpus / "c.mp4",
        "CORPUS": corpus,
        "EMPTY": empty,
        "DETECTOR": weights,
        "VIDEO": corpus / "Release/clips320H/c.mp4",
        "OTHER": other.with_suffix(""),
    }
    words = command.replace("SMALL", " ".join(TINY_SET))
    for name, place in places.items():
        words = words.replace(name, str(place))
        message = message.replace(name, str(place))
    code, error = run(words.split()), capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert (code, len(lines)) == (2, 1)
    assert re.fullmatch(".*".join(map(re.escape, message.split("..."))), lines[0]), lines[0]
    assert "Traceback" not in error
    assert not shard_path(other, 0, 2).exists()
    assert not [path for path in empty.rglob("*") if path.suffix in (".pt", ".h5")]
