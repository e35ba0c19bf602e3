"""Every program of the demo, one after another, on a corpus of a few tiny videos."""

import csv
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from programs import SUBCOMMANDS, call
from read_page import Page, table_rows

from proposals.store import ProposalStore

ROOT = Path(__file__).parents[1]
CORPUS = ("train_videos=3", "test_videos=2", "missed_videos=0", "max_frames=26")
DETECTOR = (
    "widths=[8,8,16,16]",
    "head=32",
    "proposals=20",
    "finetune.iterations=30",
    "finetune.batch=2",
    "finetune.warmup=5",
)
SEGMENTER = (
    "words.dimension=8",
    "data.workers=0",
    "aamn.proposals=4",
    "aamn.radius=1",
    "aamn.size=64",
    "aamn.tube_channels=16",
    "aamn.match_channels=16",
    "aamn.backbone.widths=[8,8,16,16]",
    "aamn.backbone.fc=16",
    "aamn.language.hidden=8",
    "aamn.mask_head.channels=8",
    "train.optimiser.iterations=6",
    "train.batch=2",
    "train.log_every=2",
)
PROGRAMS = (
    "make_synthetic",
    "make_manifest",
    "train_detector",
    "extract_proposals",
    "extract_flow",
    "train_net",
    "eval_net",
    "segment_video",
    "index_video",
    "make_bundle",
    "search_index",
    "reproduce_table",
    "draw_attention",
)


def settings(values):
    return [word for value in values for word in ("--set", value)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder that all steps have written into."""
    run = tmp_path_factory.mktemp("demo")
    data, weights = run / "corpus", run / "detector" / "detector.pt"
    steps = (
        ("make_synthetic", "--out", data, "--workers", 1, *settings(CORPUS)),
        ("make_manifest", "--data", data, "--split", "train", "--out", run / "train.json"),
        ("make_manifest", "--data", data, "--split", "test", "--out", run / "test.json"),
        (
            "train_detector",
            *("--config", ROOT / "configs" / "detector_demo.yaml", *settings(DETECTOR)),
            *("--manifest", run / "train.json", "--validation", run / "test.json"),
            *("--out", run / "detector"),
        ),
        ("extract_proposals", "--data", data, "--detector", weights, "--out", run / "proposals.h5"),
        ("extract_flow", "--data", data, "--workers", 0, "--out", run / "flow.h5"),
        (
            "train_net",
            *("--config", ROOT / "configs" / "aamn_demo.yaml", *settings(SEGMENTER)),
            *("--set", f"aamn.backbone.weights={weights}", "--data", data),
            *("--proposals", run / "proposals.h5", "--flow", run / "flow.h5"),
            *("--out", run / "aamn"),
        ),
        (
            "eval_net",
            *("--checkpoint", run / "aamn" / "last.pt", "--compare", "most_confident"),
            *("--out", run / "metrics.json", "--report", run / "page", "--pictures", 2),
        ),
        (
            "segment_video",
            *("--checkpoint", run / "aamn" / "last.pt", "--data", data, "--count", 2),
            *("--proposals", run / "proposals.h5", "--flow", run / "flow.h5"),
            *("--out", run / "videos"),
        ),
    )
    for step in steps:
        assert call(*step) == 0, step[0]
    return run


def test_proposals_hold_every_frame_of_every_video(demo):
    from proposals.frames import open_frames

    store = ProposalStore.read(demo / "proposals.h5")
    clips = sorted((demo / "corpus" / "Release" / "clips320H").glob("*.mp4"))
    assert store.video_ids == sorted(path.stem for path in clips) and len(clips) == 5
    for path in clips:
        assert store.frame_count(path.stem) == len(open_frames(path))


def test_metrics_have_a_row_for_every_sentence_in_every_annotated_frame(demo):
    found = json.loads((demo / "metrics.json").read_text())
    corpus, pairs = demo / "corpus", 0
    split = {
        row[0] for row in csv.reader((corpus / "Release/videoset.csv").open()) if row[8] == "1"
    }
    with (corpus / "text_annotations/a2d_annotation.txt").open() as file:
        sentences = [row for row in list(csv.reader(file))[1:] if row[0] in split]
    for video, instance, _ in sentences:
        folder = corpus / "text_annotations/a2d_annotation_with_instances" / video
        for frame in folder.glob("*.h5"):
            with h5py.File(frame) as annotation:
                pairs += int(instance) in annotation["instance"][:]
    assert found["aamn"]["samples"] == found["most_confident"]["samples"] == pairs > 0
    rows = found["aamn"]["rows"]
    mean = sum(row["iou"] for row in rows) / len(rows)
    assert found["aamn"]["metrics"]["all"]["Mean IoU"] == pytest.approx(mean, abs=1e-5)


def test_every_frame_of_a_segmented_video_has_a_mask_of_its_size(demo):
    folders = sorted((demo / "videos").glob("*/*/result.json"))
    assert len(folders) >= 4
    seen = False
    for result in folders:
        record = json.loads(result.read_text())
        frames = sum(clip["frames"][1] - clip["frames"][0] for clip in record["clips"])
        masks = sorted((result.parent / "masks").glob("*.png"))
        assert [path.name for path in masks] == [f"{n:05d}.png" for n in range(frames)]
        for path in masks:
            mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert mask.dtype == np.uint8 and list(mask.shape) == record["size"] == [120, 160]
            assert set(np.unique(mask)) <= {0, 255}
            seen |= bool(mask.any())
        film = cv2.VideoCapture(str(result.parent / "overlay.mp4"))
        shown = 0
        while film.read()[0]:
            shown += 1
        assert shown == frames
        assert sum(record["actor_attention"]) == pytest.approx(1, abs=1e-4)
        picture = cv2.imread(str(result.parent / "attention.png"))
        assert picture is not None and picture.std() > 0
    assert seen, "not all masks are empty"


def test_the_page_shows_both_systems_and_its_pictures(demo):
    from aamn.data.datasets.a2d import A2DSentences
    from aamn.data.datasets.a2d_labels import ACTORS

    found = json.loads((demo / "metrics.json").read_text())
    source = A2DSentences(demo / "corpus", "test")
    asked = [e for key_frame in source.key_frames for e in key_frame.expressions]
    objects = {(e.video_id, e.instance): e.actor for e in asked}
    company = Counter((video, actor) for (video, _), actor in objects.items())
    alone = sum(company[e.video_id, e.actor] == 1 for e in asked)
    kinds = Counter(e.kind for e in asked if e.kind)
    counts = {"all": len(asked), **dict(sorted(kinds.items()))}
    counts |= {"non-trivial": len(asked) - alone, "trivial": alone}

    page = Page((demo / "page" / "index.html").read_text())
    rows = table_rows(page["Metrics"].tables[0])
    wanted = [(name, str(n)) for name, n in counts.items() if n]
    assert [(row["sentences"], row["n"]) for row in rows] == wanted * 2
    assert [row["system"] for row in rows if row["system"]] == ["aamn", "most_confident"]
    for system, row in zip(("aamn", "most_confident"), (rows[0], rows[len(wanted)]), strict=True):
        for name in ("P@0.5", "Overall IoU", "Mean IoU", "VP@0.5", "Loc P@0.5", "chance"):
            assert row[name] == f"{100 * found[system]['metrics']['all'][name]:.1f}", name
    actors = table_rows(page["By actor class"].tables[0])
    classes = Counter(ACTORS[e.actor - 1] for e in asked)
    assert [(row["actor"], int(row["n"])) for row in actors] == sorted(classes.items())
    for row in actors:
        own = [
            one["iou"]
            for one, e in zip(found["aamn"]["rows"], asked, strict=True)
            if ACTORS[e.actor - 1] == row["actor"]
        ]
        assert float(row["Mean IoU"]) == pytest.approx(100 * np.mean(own), abs=0.051)
    assert page["Best answers"].articles == 2
    captions = [caption for caption, _ in page["Word weights, predicted and random"].pictures]
    assert len([c for c in captions if c.startswith("random weights, IoU")]) == 2
    assert len([c for c in captions if c.startswith("predicted weights, IoU")]) == 2
    scenes = [caption for caption, _ in page["Several sentences about one video"].pictures]
    for system in ("aamn", "most_confident"):
        shown = [c for c in scenes if c.startswith(f"{system}, IoU")]
        assert len(shown) == len([c for c in scenes if c.startswith("ground truth, ")]) > 0


def test_other_checkpoints_are_compared_on_the_same_sentences(demo, tmp_path):
    checkpoint = demo / "aamn" / "last.pt"
    words = ("--checkpoint", checkpoint, "--compare", checkpoint, "--out", tmp_path / "m.json")
    assert call("eval_net", *words, "--set", "system=most_confident") == 0
    found = json.loads((tmp_path / "m.json").read_text())
    before = json.loads((demo / "metrics.json").read_text())
    assert list(found) == ["most_confident", "aamn"]
    assert {name: one["metrics"] for name, one in found.items()} == {
        name: before[name]["metrics"] for name in found
    }
    assert call("eval_net", *words, "--compare", tmp_path / "no.pt") == 2


def test_a_second_call_of_each_long_step_reuses_what_is_there(demo):
    from aamn.inference.checkpoint import read_checkpoint

    data, run = demo / "corpus", demo
    before = {p: p.read_bytes() for p in (run / "proposals.h5", run / "flow.h5")}
    weights = run / "detector" / "detector.pt"
    assert (
        call(
            "extract_proposals",
            "--data",
            data,
            "--detector",
            weights,
            "--out",
            run / "proposals.h5",
        )
        == 0
    )
    assert call("extract_flow", "--data", data, "--workers", 0, "--out", run / "flow.h5") == 0
    assert {path: path.read_bytes() for path in before} == before
    assert read_checkpoint(run / "aamn" / "last.pt")["iteration"] == 6


def test_a_video_without_proposals_file_gets_its_boxes_from_the_detector(demo, tmp_path):
    clip = next((demo / "corpus" / "Release" / "clips320H").glob("*.mp4"))
    video = shutil.copy(clip, tmp_path / "-my clip.mp4")
    words = (
        "--checkpoint",
        demo / "aamn" / "last.pt",
        "--detector",
        demo / "detector" / "detector.pt",
    )
    out = tmp_path / "out"
    words = (*words, "--video", video, "--query", "A red DOG!", "--out", out)
    assert call("segment_video", *words) == 0
    assert len(list((out / "00_a_red_dog" / "masks").glob("*.png"))) >= 20
    other = ("--set", "system=most_confident", "--start", 3, "--end", 5)
    assert call("segment_video", *words, *other) == 0, "it is run clip by clip"
    boxes = []
    for path, name in ((out, video.stem), (demo, clip.stem)):
        with ProposalStore.read(path / "proposals.h5") as store:
            boxes.append(store.window(name, range(20), 4).boxes)
    np.testing.assert_allclose(*boxes, atol=0.1)


@pytest.fixture(scope="module")
def spoken(demo):
    """A sentence that the segmenter was trained on."""
    from aamn.inference.checkpoint import load_segmenter

    words = load_segmenter(demo / "aamn" / "last.pt").words
    return " ".join(words.vocabulary.words[2:5])


@pytest.fixture(scope="module")
def indexed(demo):
    """The folder of the indexes of two videos, by the detector and with flow on the fly."""
    clips = sorted((demo / "corpus" / "Release" / "clips320H").glob("*.mp4"))[:2]
    words = ("--checkpoint", demo / "aamn" / "last.pt", "--out", demo / "index")
    detector = ("--detector", demo / "detector" / "detector.pt")
    assert call("index_video", *clips, *words, *detector) == 0
    return demo / "index"


def test_indexing_again_keeps_what_is_there_and_goes_on_after_a_broken_video(
    demo, indexed, tmp_path
):
    paths = sorted(indexed.iterdir())
    before = {path: path.read_bytes() for path in paths}
    clips = sorted((demo / "corpus" / "Release" / "clips320H").glob("*.mp4"))[:2]
    assert [path.stem for path in paths] == [clip.stem for clip in clips]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    words = ("--checkpoint", demo / "aamn" / "last.pt", "--out", indexed)
    detector = ("--detector", demo / "detector" / "detector.pt")
    assert call("index_video", broken, *clips, *words, *detector) == 1
    assert {path: path.read_bytes() for path in indexed.iterdir()} == before


def test_an_index_is_asked_for_some_frames_and_one_labelling(demo, indexed, tmp_path):
    from PIL import Image
    from pycocotools import mask as coco_mask

    words = ("--checkpoint", demo / "aamn" / "last.pt", "--index", next(indexed.iterdir()))
    queries = ("--query", "a red dog", "--query", "the cat that jumps")
    frames = ("--start", 2, "--end", 13, "--stride", 3, "--palette")
    out = tmp_path / "out"
    assert call("segment_video", *words, *queries, *frames, "--out", out) == 0
    for result in out.glob("0*/result.json"):
        for clip in json.loads(result.read_text())["clips"]:
            context = clip["context_attention"]
            assert len(context["tubes"]) == 4 and context["tubes"][clip["tube"]] == 0
            assert context["clip"] + sum(context["tubes"]) == pytest.approx(1, abs=1e-4)
    folders, names = sorted(out.glob("0*")), [f"{n:05d}.png" for n in (2, 5, 8, 11)]
    masks = []
    for folder in folders:
        files = sorted((folder / "masks").iterdir())
        assert [path.name for path in files] == names
        masks.append([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0 for path in files])
        codes = json.loads((folder / "masks.json").read_text())
        assert [code["frame"] for code in codes] == [2, 5, 8, 11]
        for code, mask in zip(codes, masks[-1], strict=True):
            assert (coco_mask.decode(code["segmentation"]) == mask).all()
    labellings = sorted((out / "palette").iterdir())
    assert [path.name for path in labellings] == names
    for place, path in enumerate(labellings):
        labels = np.array(Image.open(path))
        assert ((labels > 0) == (masks[0][place] | masks[1][place])).all()
        assert (masks[0][place] | (labels != 1)).all() and (masks[1][place] | (labels != 2)).all()


def test_indexed_videos_are_searched(demo, indexed, spoken, tmp_path, capsys):
    other = spoken.split()[0]
    words = ("--checkpoint", demo / "aamn" / "last.pt", "--query", spoken, "--query", other)
    capsys.readouterr()
    assert call("search_index", indexed, *words, "--top", 1, "--out", tmp_path / "found.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == [spoken, other] and all(len(hits) == 1 for hits in found.values())
    printed = capsys.readouterr().out
    for hits in found.values():
        assert hits[0]["video_id"] in printed and Path(hits[0]["path"]).parent == indexed
    assert call("search_index", tmp_path, *words) == 2
    assert f"no index in {tmp_path}" in capsys.readouterr().err


def test_only_the_wanted_frames_are_indexed_and_a_part_is_not_taken_for_the_whole(
    demo, indexed, tmp_path, capsys
):
    from aamn.index.file import IndexFile

    clip = sorted((demo / "corpus" / "Release" / "clips320H").glob("*.mp4"))[0]
    words = ("--checkpoint", demo / "aamn" / "last.pt", "--query", "a red dog")
    boxes = ("--video", clip, "--detector", demo / "detector" / "detector.pt")
    out, part = tmp_path / "out", tmp_path / "out" / "index" / f"{clip.stem}.h5"
    frames = ("--start", 4, "--end", 8)
    assert call("segment_video", *words, *boxes, *frames, "--out", out) == 0
    header = IndexFile.read(part).header
    assert str(header.selection) == "frames 4 to 7" and header.frames == 9
    whole = (*words, "--index", indexed / f"{clip.stem}.h5", "--linking", "clip")
    assert call("segment_video", *whole, *frames, "--out", tmp_path / "whole") == 0
    some = (*words, "--index", part, "--linking", "clip")
    assert call("segment_video", *some, *frames, "--out", tmp_path / "some") == 0
    names = {f"masks/{n:05d}.png" for n in range(4, 8)}
    for name in names:
        one, other = (tmp_path / where / "00_a_red_dog" / name for where in ("whole", "some"))
        assert one.read_bytes() == other.read_bytes()
    capsys.readouterr()
    assert call("segment_video", *some, "--out", tmp_path / "all") == 2
    assert "index of frames 4 to 7 alone" in capsys.readouterr().err
    before = part.stat().st_mtime_ns
    assert call("segment_video", *words, *boxes, "--start", 5, "--end", 7, "--out", out) == 0
    assert part.stat().st_mtime_ns == before, "these frames are there"
    assert call("segment_video", *words, *boxes, "--start", 500, "--out", out) == 2
    assert "frames 500 to the end" in capsys.readouterr().err


def test_annotated_frames_are_evaluated_through_indexes_too(demo, tmp_path):
    out = tmp_path / "metrics.json"
    words = ("--checkpoint", demo / "aamn" / "last.pt", "--out", out, "--index", tmp_path / "index")
    assert call("eval_net", *words) == 0
    direct, found = (json.loads(path.read_text())["aamn"] for path in (demo / "metrics.json", out))
    for one, other in zip(direct["rows"], found["rows"], strict=True):
        assert one["box_iou"] == other["box_iou"] and one["text"] == other["text"]
        assert one["iou"] == pytest.approx(other["iou"], abs=0.03)
    indexes = {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*.h5")}
    assert len(indexes) == 2
    assert call("eval_net", *words) == 0
    assert {path: path.stat().st_mtime_ns for path in indexes} == indexes, "made once"


def test_nobody_is_found_below_the_threshold(demo, indexed, spoken, tmp_path):
    words = ("--checkpoint", demo / "aamn" / "last.pt", "--index", next(indexed.iterdir()))
    out = ("--query", spoken, "--out", tmp_path)
    assert call("segment_video", *words, "--absent-threshold", 1e6, *out) == 0
    (folder,) = tmp_path.glob("00_*")
    record = json.loads((folder / "result.json").read_text())
    assert record["matched"] is False and record["score"] < 1e6
    for path in (folder / "masks").iterdir():
        assert not cv2.imread(str(path), cv2.IMREAD_UNCHANGED).any()


def test_whole_videos_are_evaluated_by_both_linkings(demo, spoken, tmp_path, capsys):
    out = tmp_path / "full_video.json"
    words = ("--checkpoint", demo / "aamn" / "last.pt", "--full-video", "--out", out)
    assert call("eval_net", *words, "--calibrate", "test") == 2
    assert call("eval_net", *words, "--calibrate", "validation") == 2
    assert "there is no validation split" in capsys.readouterr().err
    share = ("--set", "data.validation_share=0.999", "--calibrate", "validation")
    assert call("eval_net", *words, *share) == 0
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())
    for system in ("aamn, by video", "aamn, by clip"):
        assert system in printed
        protocols = found["systems"][system]
        assert set(protocols) == {"bbox", "pixel", "mask"}
        for metrics in protocols.values():
            assert 0 <= metrics["VP@0.5"] <= metrics["P@0.5"] + 1e-9 <= 1 + 1e-9
    bundle = tmp_path / "bundle"
    parts = ("--checkpoint", demo / "aamn" / "last.pt")
    parts += ("--detector", demo / "detector" / "detector.pt", "--metrics", out)
    assert call("make_bundle", *parts, "--out", bundle) == 0
    record = json.loads((bundle / "bundle.json").read_text())
    assert record["absent_threshold"] == found["absence"]["threshold"]
    assert found["absence"]["calibrated_on"]["split"] == "validation"
    shares = found["absence"]["test"]
    assert 0 <= shares["kept"] <= 1 and 0 <= shares["refused"] <= 1
    clip = next((demo / "corpus" / "Release" / "clips320H").glob("*.mp4"))
    words = ("--bundle", bundle, "--video", clip, "--query", spoken, "--end", 3)
    words += ("--absent-threshold", "auto", "--out", tmp_path / "o")
    assert call("segment_video", *words) == 0
    (folder,) = (tmp_path / "o").glob("00_*")
    assert len(list((folder / "masks").iterdir())) == 3
    result = json.loads((folder / "result.json").read_text())
    assert result["matched"] == (result["score"] >= round(record["absent_threshold"], 6))
    assert call("make_bundle", *parts[:4], "--out", bundle) == 0
    capsys.readouterr()
    assert call("segment_video", *words) == 2
    assert "holds no score for --absent-threshold auto" in capsys.readouterr().err


@pytest.mark.slow
def test_tables_are_reproduced_and_share_their_runs(demo, tmp_path):
    out, runs = tmp_path / "tables", tmp_path / "tables" / "runs"
    words = ("--data", demo / "corpus", "--proposals", demo / "proposals.h5", "--out", out)
    words += ("--flow", demo / "flow.h5", *settings((*SEGMENTER, "train.optimiser.iterations=2")))
    assert call("reproduce_table", "6", *words) == 0
    assert {path.name for path in runs.iterdir()} == {"full", "table6_average"}
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("last.pt")}
    assert call("reproduce_table", "9", *words, "--seeds", 2) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished runs are kept"
    assert len(list(runs.rglob("last.pt"))) == len(before) + 1 == 3
    with (out / "table9.csv").open() as file:
        random, prediction = csv.DictReader(file)
    assert (random["model"], random["seeds"], random["Mean IoU paper"]) == ("Random", "2", "51.8")
    metrics = [
        json.loads((runs / "full" / f"seed{n}" / "metrics.json").read_text())["aamn"]["metrics"]
        for n in range(2)
    ]
    own = [100 * one["all"]["Mean IoU"] for one in metrics]
    assert float(prediction["Mean IoU"]) == pytest.approx(sum(own) / 2, abs=1e-3)
    assert float(prediction["Mean IoU spread"]) == pytest.approx(np.std(own, ddof=1), abs=1e-3)
    assert "| Random | ours |" in (out / "table9.md").read_text()
    assert (out / "table6.svg").read_text().startswith("<svg")
    assert call("reproduce_table", "13", *words) == 0
    whole = json.loads((runs / "full" / "seed0" / "metrics_full_video.json").read_text())
    with (out / "table13.csv").open() as file:
        found = {row["model"]: row for row in csv.DictReader(file)}
    for linking, label in (("clip", "AAMN (bbox)"), ("video", "AAMN (bbox), video-level tubes")):
        own = whole["systems"][f"aamn, by {linking}"]["bbox"]
        assert float(found[label]["Mean IoU"]) == pytest.approx(100 * own["Mean IoU"], abs=1e-3)
    assert found["AAMN (bbox)"]["P@0.5 paper"] == "46.7"
    assert call("reproduce_table", "6", *words, "--set", "aamn.margin=0.3") == 1
    assert call("reproduce_table", "99", *words) == 2


OTHER_SYSTEMS = (
    *(f"{system}.{value}" for system in ("acga", "gavrilyuk") for value in ("size=32", "frames=4")),
    *(f"{system}.i3d.width=0.05" for system in ("acga", "gavrilyuk", "cstm")),
    *("acga.channels=[4,3,2]", "gavrilyuk.channels=[4,3]"),
    *("cstm.size=64", "cstm.channels=4", "cstm.text_channels=8", "cstm.spatial=resnet18"),
)


@pytest.mark.slow
def test_systems_are_compared_on_the_same_clips(demo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("aamn.experiments.costs.PAIRS", 3)
    monkeypatch.setattr("aamn.experiments.costs.VIDEOS", 1)
    out = tmp_path / "tables"
    words = ("--data", demo / "corpus", "--proposals", demo / "proposals.h5", "--out", out)
    words += ("--flow", demo / "flow.h5", *settings((*SEGMENTER, "train.optimiser.iterations=2")))
    weights = f"aamn.backbone.weights={demo / 'detector' / 'detector.pt'}"
    words += tuple(settings((weights, *OTHER_SYSTEMS)))
    assert call("reproduce_table", "systems", *words) == 0
    names = {"gavrilyuk_demo", "acga_demo", "cstm_demo", "table4_without_flow_stream", "full"}
    assert {path.name for path in (out / "runs").iterdir()} == names
    seen = []
    for name in names:
        lines = (out / "runs" / name / "seed0" / "log.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["iteration"] == 2
        system = json.loads((out / "runs" / name / "seed0" / "metrics.json").read_text())
        (content,) = system.values()
        seen.append([(row["video_id"], row["frame"], row["text"]) for row in content["rows"]])
    assert all(rows == seen[0] for rows in seen)
    with (out / "systems.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert len(rows) == 5
    for label, row in rows.items():
        aamn = label.startswith("AAMN")
        assert float(row["clip and sentence, ms"]) > 0 and int(row["learned parameters"]) > 0
        assert bool(row["video frame, further sentence, ms"]) == aamn
        assert row["started from"] == ("detector.pt (rgb)" if aamn else "random weights")
    text = (out / "systems.md").read_text()
    assert "Every row: 2 iterations of 2 clips" in text and text in capsys.readouterr().out
    assert (out / "systems.svg").read_text().startswith("<svg")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}
    before |= {path: path.stat().st_mtime_ns for path in out.rglob("costs.json")}
    assert call("reproduce_table", "systems", *words) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "nothing is done twice"


def mistakes(demo, tmp_path):
    """Name -> (program, words, what the message must name)."""
    clip = next((demo / "corpus" / "Release" / "clips320H").glob("*.mp4"))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    checkpoint = ("--checkpoint", demo / "aamn" / "last.pt")
    boxes = ("--proposals", demo / "proposals.h5")
    detector = ("--detector", demo / "detector" / "detector.pt")
    video = (*checkpoint, *boxes, "--out", tmp_path / "o")
    training = ("--data", demo / "corpus", *boxes, "--out", tmp_path / "t")
    return {
        "missing video": (
            "segment_video",
            (*video, "--video", "no/such.mp4", "--query", "dog"),
            "no/such.mp4",
        ),
        "unreadable mp4": (
            "segment_video",
            (*video, "--video", broken, "--query", "dog"),
            "broken.mp4",
        ),
        "empty query": (
            "segment_video",
            (*video, "--video", clip, "--query", " "),
            "holds no word",
        ),
        "no query": ("segment_video", (*video, "--video", clip), "--query"),
        "no video": ("segment_video", (*video, "--query", "dog"), "--video"),
        "unknown key": ("train_net", (*training, "--set", "train.bach=2"), "train.bach"),
        "wrong type": ("train_net", (*training, "--set", "train.batch=x"), "train.batch"),
        "no config": ("train_net", (*training, "--config", "no.yaml"), "no.yaml"),
        "no data": ("train_net", ("--out", tmp_path / "t"), "--data"),
        "wrong data": ("train_net", ("--data", tmp_path, *boxes), "videoset.csv"),
        "no proposals": ("train_net", (*training, "--proposals", "no.h5"), "no.h5"),
        "video lacking": (
            "segment_video",
            (*video, "--video", clip, "--video-id", "other", "--query", "dog"),
            "other",
        ),
        "no boxes": (
            "segment_video",
            (*checkpoint, "--video", clip, "--query", "dog"),
            "--detector",
        ),
        "no index": ("segment_video", (*video, "--index", "no.h5", "--query", "dog"), "no.h5"),
        "no frames": (
            "segment_video",
            (*video, "--video", clip, "--query", "dog", "--start", 9, "--end", 9),
            "--start",
        ),
        "two sources of boxes": (
            "index_video",
            (clip, *checkpoint, *boxes, *detector, "--out", tmp_path / "i"),
            "--detector: wanted without --proposals",
        ),
        "index of nothing": ("index_video", (clip, *checkpoint, *boxes), "--out"),
        "cannot be indexed": (
            "index_video",
            (clip, *checkpoint, *boxes, "--set", "system=most_confident", "--out", tmp_path / "i"),
            "aamn",
        ),
        "no checkpoint": ("eval_net", ("--checkpoint", "no.pt"), "no.pt"),
        "weights do not fit": (
            "eval_net",
            (*checkpoint, "--set", "aamn.match_channels=7", "--out", tmp_path / "m.json"),
            "match_channels",
        ),
    }


def test_a_mistake_is_one_clear_line_and_exit_code_2(demo, tmp_path, capsys):
    for name, (program, words, named) in mistakes(demo, tmp_path).items():
        capsys.readouterr()
        assert call(program, *words) == 2, name
        errors = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")
        ]
        assert len(errors) == 1, name
        if name != "weights do not fit":
            assert named in errors[0], (name, errors[0])


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_has_an_example_and_the_common_options(program, capsys):
    assert call(program, "--help") == 0
    text = capsys.readouterr().out
    assert f"aamn {SUBCOMMANDS[program]} " in text.split("Example:")[1] and "--out" in text
    takes_a_recipe = program not in ("make_manifest", "make_bundle")
    for option in ("--config", "--set"):
        assert (option in text) == takes_a_recipe
    assert takes_a_recipe or call(program, "--set", "seed=1") == 2, "none is taken in silence"


def test_a_mistake_leaves_no_traceback_on_a_real_command_line(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "eval_net.py", "--checkpoint", tmp_path / "no.pt"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: no checkpoint at")
