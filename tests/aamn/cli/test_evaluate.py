"""The program that evaluates a segmenter on annotated frames, and what its page is given."""

import json
import shutil
from functools import cache

import numpy as np
import programs
import pytest
import torch
from PIL import Image
from tiny_models import tiny_config, tiny_segmenter

from aamn.cli.main import run
from aamn.data.samples import load_clip, load_proposals
from aamn.inference.checkpoint import load_segmenter, save_checkpoint
from aamn.report import assemble
from proposals.frames import open_frames
from proposals.store import ProposalStore
from proposals.store_writer import write_proposals

MODEL = ("aamn.streams=rgb", "aamn.mask_head.features=rgb", "data.kind=folder", "data.workers=0")
FRAMES, SIZE = 7, (24, 40)
# video, instance, sentence, split; several sentences may be about one object.
SENTENCES = (
    ("a", 0, "w3 w4", "test"),
    ("a", 1, "w5 w6 w7", "test"),
    ("b", 0, "w8", "test"),
    ("b", 0, "w9 w10", "test"),
    ("b", 0, "w11", "train"),
)
KEYS = {("a", 0): (2, 5), ("a", 1): (5,), ("b", 0): (0,)}  # annotated frames of each object
ROWS = [  # in the order of the frames
    ("a", 2, 0, "w3 w4"),
    ("a", 5, 0, "w3 w4"),
    ("a", 5, 1, "w5 w6 w7"),
    ("b", 0, 0, "w8"),
    ("b", 0, 0, "w9 w10"),
]


def truth(video, instance, frame):
    """Rectangles that differ from each other."""
    mask = np.zeros(SIZE, bool)
    x, y = 3 * frame + 4 * instance, 2 + 4 * (video == "b")
    mask[y : y + 14, x : x + 16] = True
    return mask


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A checkpoint with its configuration's places, and a data set of two annotated videos."""
    root = tmp_path_factory.mktemp("world")
    own = root / "own"
    for seed, video in enumerate("ab"):
        (own / "videos" / video).mkdir(parents=True)
        rng = np.random.default_rng(seed)
        for n in range(FRAMES):
            coarse = Image.fromarray(rng.integers(0, 255, (6, 10, 3), np.uint8))
            coarse.resize(SIZE[::-1]).save(own / "videos" / video / f"{n:05d}.png")
    lines = [",".join(map(str, line)) for line in SENTENCES]
    (own / "sentences.csv").write_text("\n".join(("video_id,instance_id,query,split", *lines)))
    for (video, instance), frames in KEYS.items():
        folder = own / "masks" / video / str(instance)
        folder.mkdir(parents=True)
        for frame in frames:
            mask = truth(video, instance, frame).astype(np.uint8) * 255
            Image.fromarray(mask).save(folder / f"{frame:05d}.png")
    write_boxes(root / "boxes.h5", 0)
    places = (f"data.root={own}", f"data.proposals={root / 'boxes.h5'}")
    config = tiny_config(*MODEL, *places)
    save_checkpoint(root / "last.pt", tiny_segmenter(*MODEL, seed=4), config, 0)
    return root


def write_boxes(path, seed):
    with write_proposals(path, "by hand") as writer:
        for place, video in enumerate("ab"):
            rng = np.random.default_rng(10 * seed + place)
            corners = rng.uniform(0, 10, (FRAMES, 4, 2)) * (2.2, 1)
            boxes = np.concatenate([corners, corners + rng.uniform(8, 13, (FRAMES, 4, 2))], -1)
            scores = -np.sort(-rng.random((FRAMES, 4)), 1)
            labels = np.zeros((FRAMES, 4), np.int64)
            writer.add(video, list(boxes.astype(np.float32)), list(scores), list(labels), SIZE)


def call(*words):
    """Runs the program in this process, as if from the command line; returns its exit code."""
    return programs.call("eval_net", *words)


@cache
def answers(root, *overrides, boxes="boxes.h5", checkpoint="last.pt"):
    """The key frame's mask and box of every row, by the segmenter itself."""
    loaded = load_segmenter(root / checkpoint, "cpu", None, overrides)
    found, input_spec = [], loaded.segmenter.input_spec
    with ProposalStore.read(root / boxes) as store:
        for video, frame, _, text in ROWS:
            frames = open_frames(root / "own" / "videos" / video)
            clip = load_clip(video, frames, frame, input_spec)
            proposals = load_proposals(store, video, clip.frame_indices, 4)
            with torch.no_grad():
                query = loaded.vocabulary.encode(text)
                (track,) = loaded.segmenter.segment(clip, proposals, [query])
            place = input_spec.key if input_spec.predicts == "clip" else 0
            found.append((track.masks[place].numpy(), track.boxes[place].tolist()))
    return found


def ious(root, *overrides, **more):
    found = []
    for (mask, _), (video, frame, instance, _) in zip(
        answers(root, *overrides, **more), ROWS, strict=True
    ):
        true = truth(video, instance, frame)
        found.append((mask & true).sum() / (mask | true).sum())
    return found


def box_iou(box, video, frame, instance):
    """Against the rectangle's box, whose ends are the first pixels beyond it."""
    ys, xs = np.nonzero(truth(video, instance, frame))
    x1, y1, x2, y2 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    across = max(0, min(box[2], x2) - max(box[0], x1))
    down = max(0, min(box[3], y2) - max(box[1], y1))
    areas = (box[2] - box[0]) * (box[3] - box[1]) + (x2 - x1) * (y2 - y1)
    return across * down / (areas - across * down)


def rows_of(path, system="aamn"):
    return json.loads(path.read_text())[system]["rows"]


def test_every_row_is_what_the_segmenter_answers(world, tmp_path, capsys):
    out = tmp_path / "deep" / "m.json"
    assert call("--checkpoint", world / "last.pt", "--out", out) == 0
    found = rows_of(out)
    assert [(r["video_id"], r["frame"], r["instance"], r["text"]) for r in found] == ROWS
    wanted = ious(world)
    assert [row["iou"] for row in found] == [pytest.approx(iou, abs=1e-6) for iou in wanted]
    assert len(set(wanted)) > 3 and max(wanted) > 0.1, "the answers are not all empty"
    for row, (_, box), key in zip(found, answers(world), ROWS, strict=True):
        assert row["box_iou"] == pytest.approx(box_iou(box, *key[:3]), abs=1e-4)
    content = json.loads(out.read_text())
    assert list(content) == ["aamn"] and content["aamn"]["samples"] == 5
    assert content["aamn"]["data"] == f"{world / 'own'} (test)"
    assert content["aamn"]["metrics"]["all"]["Mean IoU"] == pytest.approx(np.mean(wanted))
    printed = capsys.readouterr().out
    assert f"{100 * np.mean(wanted):.1f}" in printed and "aamn" in printed
    assert not list(tmp_path.rglob("*.html")), "no page unasked"


def test_metrics_lie_beside_the_checkpoint_where_no_other_place_is_named(world, tmp_path):
    shutil.copy(world / "last.pt", tmp_path / "last.pt")
    assert call("--checkpoint", tmp_path / "last.pt") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "metrics.json"}


def test_other_data_boxes_and_split_than_in_training(world, tmp_path):
    out, words = tmp_path / "m.json", ("--checkpoint", world / "last.pt")
    write_boxes(world / "others.h5", 1)
    assert call(*words, "--proposals", world / "others.h5", "--out", out) == 0
    found = [row["iou"] for row in rows_of(out)]
    assert found == [pytest.approx(iou, abs=1e-6) for iou in ious(world, boxes="others.h5")]
    assert found != [pytest.approx(iou, abs=1e-6) for iou in ious(world)]
    assert call(*words, "--split", "train", "--out", out) == 0
    assert [row["text"] for row in rows_of(out)] == ["w11"]
    assert json.loads(out.read_text())["aamn"]["data"].endswith("(train)")
    other = shutil.copytree(world / "own", tmp_path / "other")
    shutil.rmtree(other / "masks" / "a" / "1")
    assert call(*words, "--data", other, "--out", out) == 0
    assert [row["text"] for row in rows_of(out)] == ["w3 w4", "w3 w4", "w8", "w9 w10"]
    assert json.loads(out.read_text())["aamn"]["data"].startswith(str(other))


def test_systems_are_compared_under_names_of_their_own(world, tmp_path, capsys):
    second = world / "second.pt"
    config = tiny_config(*MODEL)  # of no data set: it is asked about the first one's
    save_checkpoint(second, tiny_segmenter(*MODEL, seed=2), config, 0)
    words = ("--checkpoint", world / "last.pt", "--compare", "most_confident", "--compare", second)
    assert call(*words, "--out", tmp_path / "m.json") == 0
    found = json.loads((tmp_path / "m.json").read_text())
    assert list(found) == ["aamn", "most_confident", f"aamn ({second})"]
    by_hand = {
        "aamn": ious(world),
        "most_confident": ious(world, "system=most_confident"),
        f"aamn ({second})": ious(world, checkpoint="second.pt"),
    }
    for name, wanted in by_hand.items():
        got = [row["iou"] for row in found[name]["rows"]]
        assert got == [pytest.approx(iou, abs=1e-6) for iou in wanted]
    printed = capsys.readouterr().out
    assert all(name in printed for name in found)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--calibrate", "train"), "--calibrate"),
        (("--split", "validation"), "validation"),
        (("--data", "no/such/folder"), "no/such/folder"),
        (("--proposals", "no.h5"), "no.h5"),
        (("--compare", "no.pt"), "no.pt"),
        (("--config", "no.yaml"), "no.yaml"),
        (("--full-video", "--calibrate", "test"), "--calibrate test"),
        (("--full-video", "--compare", "most_confident"), "--compare: wanted without --full-video"),
        (("--full-video", "--report", "page"), "--report: wanted without --full-video"),
        (("--index", "IN", "--set", "system=most_confident"), "aamn"),
    ],
    ids=str,
)
def test_mistakes_are_one_line_that_names_what_is_wrong(world, tmp_path, capsys, options, named):
    out = tmp_path / "m.json"
    options = [tmp_path / "index" if word == "IN" else word for word in options]
    assert call("--checkpoint", world / "last.pt", "--out", out, *options) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line[:6] == "error:"]
    assert len(lines) == 1 and named in lines[0] and not out.exists()


@pytest.fixture(scope="module")
def page(world, tmp_path_factory):
    """What the page is written from: the evaluations, the pictures and the other arguments."""
    given = {}

    def note(path, evaluations, pictures, **more):
        given.update(path=path, evaluations=evaluations, pictures=pictures, **more)

    out = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "write_report", note)
        words = ("--checkpoint", world / "last.pt", "--compare", "most_confident")
        words += ("--out", out / "m.json", "--report", out / "page", "--pictures", 1)
        assert call(*words) == 0
    return {**given, "out": out}


def test_the_page_has_a_subcommand_of_its_own(world, tmp_path, monkeypatch):
    """The same page and metrics as with --report, both in the folder that --out names."""
    given = []
    monkeypatch.setattr(assemble, "write_report", lambda *seen, **_: given.append(seen))
    words = ("--checkpoint", world / "last.pt", "--compare", "most_confident", "--pictures", 1)
    assert run(list(map(str, ("report", *words, "--out", tmp_path / "page")))) == 0
    ((path, evaluations, pictures),) = given
    assert path == tmp_path / "page" / "index.html" and len(pictures.worst) == 1
    found = json.loads((tmp_path / "page" / "metrics.json").read_text())
    assert list(found) == [one.report.system for one in evaluations] == ["aamn", "most_confident"]
    assert run(["report", *map(str, words)]) == 2, "--out is wanted"


def test_the_page_is_about_all_systems_and_has_no_classes_where_none_are_known(page):
    assert page["path"] == page["out"] / "page" / "index.html"
    assert [one.report.system for one in page["evaluations"]] == ["aamn", "most_confident"]
    assert not any(page["actors"]) and not page["non_trivial"]
    for one in page["evaluations"]:
        assert len(one.masks) == len(one.report.rows) == 5


def frame_of(world, video, frame):
    with Image.open(world / "own" / "videos" / video / f"{frame:05d}.png") as image:
        return np.array(image.convert("RGB"))


def test_cases_are_the_best_and_the_worst_with_their_own_frames(world, page):
    pictures, wanted = page["pictures"], ious(world)
    (best,), (worst,) = pictures.best, pictures.worst
    assert best.row.iou == pytest.approx(max(wanted))
    others = [iou for iou, row in zip(wanted, ROWS, strict=True) if row[0] != best.row.video_id]
    assert worst.row.iou == pytest.approx(min(wanted)) or worst.row.iou == pytest.approx(
        min(others)
    )
    for case in (best, worst):
        row = case.row
        place = ROWS.index((row.video_id, row.frame, row.instance, row.text))
        mask, box = answers(world)[place]
        assert case.tokens == tuple(row.text.split()) and case.key == 1
        assert np.array_equal(case.track.masks[1].numpy(), mask)
        assert case.track.boxes[1].tolist() == pytest.approx(box)
        assert np.array_equal(
            case.target.mask.numpy(), truth(row.video_id, row.instance, row.frame)
        )
        around = [max(0, row.frame - 1), row.frame, row.frame + 1]
        frames = [frame_of(world, row.video_id, n) for n in around]
        assert np.array_equal(case.frames, frames)
        with ProposalStore.read(world / "boxes.h5") as store:
            boxes = store.window(row.video_id, [row.frame], 4).boxes[0]
        np.testing.assert_allclose(case.proposals, boxes)


def test_the_contrast_is_the_same_sentence_with_words_weighted_at_random(world, page):
    (contrast,) = page["pictures"].contrasts
    row = contrast.case.row
    assert row.text == "w5 w6 w7", "the longest one, the second of its frame"
    assert np.array_equal(contrast.case.target.mask.numpy(), truth("a", 1, 5))
    shuffled = load_segmenter(world / "last.pt", "cpu", None, ["aamn.language.attention=random"])
    torch.manual_seed(0)  # the page is the same every time
    again = shuffled.segmenter.encode_sentences([shuffled.vocabulary.encode(row.text)])
    assert contrast.random.text == row.text and contrast.key == 1
    assert contrast.random.video_id == row.video_id
    own, random = contrast.case.track.scores, contrast.random.scores
    assert not torch.allclose(own.actor_attention, random.actor_attention)
    assert torch.allclose(again.attention["actor"][0], random.actor_attention)
    assert float(random.actor_attention.sum()) == pytest.approx(1, abs=1e-5)
    assert contrast.random.frame_indices.tolist() == contrast.case.track.frame_indices.tolist()


def test_the_scene_shows_each_systems_masks_where_a_sentence_is_asked(world, page):
    (scene,) = page["pictures"].scenes
    assert (scene.video_id, list(scene.numbers)) == ("a", [2, 5]), "two objects, b has one"
    assert list(scene.texts) == ["w3 w4", "w5 w6 w7"]
    assert scene.asked.tolist() == [[True, False], [True, True]]
    assert np.array_equal(scene.frames, [frame_of(world, "a", n) for n in (2, 5)])
    shown = {(0, 0): 0, (1, 0): 1, (1, 1): 2}  # (frame, sentence) -> row
    systems = {"aamn": (), "most_confident": ("system=most_confident",)}
    assert list(scene.answers) == list(systems)
    for name, overrides in systems.items():
        found = answers(world, *overrides)
        for cell in np.ndindex(2, 2):
            mask = scene.answers[name][cell]
            if cell in shown:
                assert np.array_equal(mask, found[shown[cell]][0]), (name, cell)
            else:
                assert not mask.any()
    for cell, place in shown.items():
        video, frame, instance, _ = ROWS[place]
        assert np.array_equal(scene.truth[cell], truth(video, instance, frame))
    assert not scene.truth[0, 1].any()


def seen_on_the_page(monkeypatch, *words):
    """The pictures of the page that this call writes."""
    given = []
    monkeypatch.setattr(assemble, "write_report", lambda *seen, **_: given.append(seen[2]))
    assert call(*words) == 0
    (seen,) = given
    return seen


def test_all_systems_are_asked_about_the_split_that_is_named(world, tmp_path, monkeypatch):
    out = tmp_path / "m.json"
    words = ("--checkpoint", world / "last.pt", "--compare", "most_confident", "--split", "train")
    seen = seen_on_the_page(monkeypatch, *words, "--out", out, "--report", tmp_path / "page")
    for system in ("aamn", "most_confident"):
        assert [row["text"] for row in rows_of(out, system)] == ["w11"]
    assert [contrast.random.text for contrast in seen.contrasts] == ["w11"]
    assert [list(scene.texts) for scene in seen.scenes] == [["w11"]]


def test_what_is_set_holds_for_the_most_confident_box_too(world, tmp_path):
    words = ("--checkpoint", world / "last.pt", "--compare", "most_confident")
    size = "aamn.size=64"
    assert call(*words, "--set", size, "--out", tmp_path / "m.json") == 0
    for system, overrides in (("aamn", ()), ("most_confident", ("system=most_confident",))):
        found = [row["iou"] for row in rows_of(tmp_path / "m.json", system)]
        wanted = ious(world, size, *overrides)
        assert found == [pytest.approx(iou, abs=1e-6) for iou in wanted]
        assert wanted != ious(world, *overrides)


def test_a_system_that_answers_for_key_frames_alone_has_a_page_too(world, tmp_path, monkeypatch):
    values = [f"gavrilyuk.{value}" for value in ("size=32", "frames=4", "i3d.width=0.05")]
    values += ["gavrilyuk.channels=[4,3]", "system=gavrilyuk", f"data.root={world / 'own'}"]
    values += [value for value in MODEL if not value.startswith("aamn.")]
    config = tiny_config(*values)
    segmenter = tiny_segmenter(*values)
    assert segmenter.input_spec.predicts == "key" and segmenter.input_spec.key > 0
    save_checkpoint(tmp_path / "key.pt", segmenter, config, 0)
    words = ("--checkpoint", tmp_path / "key.pt", "--out", tmp_path / "m.json", "--pictures", 1)
    words += ("--compare", world / "last.pt", "--proposals", world / "boxes.h5")
    seen = seen_on_the_page(monkeypatch, *words, "--report", tmp_path / "page")
    (case,) = seen.best
    frame = frame_of(world, case.row.video_id, case.row.frame)
    assert case.key == 0 and case.proposals is None and not seen.contrasts
    alone = ("--checkpoint", tmp_path / "key.pt", "--out", tmp_path / "n.json")
    for option in ("--proposals", "--flow"):
        assert call(*alone, option, world / "boxes.h5") == 2, "it reads neither"
    assert not (tmp_path / "n.json").exists()
    assert case.frames.shape == (1, *SIZE, 3) and np.array_equal(case.frames[0], frame)
    (scene,) = seen.scenes
    assert list(scene.answers) == ["gavrilyuk", "aamn"]
    found = answers(world)
    for cell, place in {(0, 0): 0, (1, 0): 1, (1, 1): 2}.items():
        assert np.array_equal(scene.answers["aamn"][cell], found[place][0])
    direct = [row["iou"] for row in rows_of(tmp_path / "m.json")]
    assert direct == [pytest.approx(iou, abs=1e-6) for iou in ious(world)]


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (("--pictures", 0), (0, 0, 0, 0)),
        (("--pictures", 2), (2, 2, 2, 2)),  # two videos, each shown once
        (("--set", "system=most_confident", "--pictures", 1), (1, 0, 1, 1)),
        (("--set", "aamn.language.attention=random", "--pictures", 1), (1, 0, 1, 1)),
    ],
    ids=str,
)
def test_how_many_pictures_of_each_kind(world, tmp_path, monkeypatch, options, kinds):
    words = ("--checkpoint", world / "last.pt", "--out", tmp_path / "m.json")
    seen = seen_on_the_page(monkeypatch, *words, "--report", tmp_path / "page", *options)
    assert (len(seen.best), len(seen.contrasts), len(seen.scenes), len(seen.worst)) == kinds
