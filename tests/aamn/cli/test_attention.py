"""The program that draws what ACGA and CSTM attend to, on untrained ones and a film of noise."""

import json

import cv2
import h5py
import numpy as np
import pytest
import torch
from programs import call

from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.data.flow.store import FlowStore
from aamn.data.samples import load_clip
from aamn.data.words import Vocabulary, Words
from aamn.inference.checkpoint import load_segmenter, save_checkpoint
from aamn.models.build import build_segmenter
from aamn.visualization.attention import attended_picture, word_names, word_sheet
from proposals.frames import open_frames

VOCABULARY = Vocabulary(["red", "dog", "walking"])
SMALL = ("words.dimension=6", "words.max_words=5")
ACGA = ("system=acga", "acga.size=64", "acga.frames=4", "acga.i3d.width=0.05")
CSTM = ("system=cstm", "cstm.size=64", "cstm.frames=4", "cstm.i3d.width=0.05")
CSTM += ("cstm.spatial=resnet18", "cstm.text_channels=6", "cstm.channels=4")


@pytest.fixture
def video(tmp_path):
    folder = tmp_path / "noise"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(5):
        picture = rng.integers(0, 255, (30, 40, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{n:05d}.png"), picture)
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    """Overrides -> a checkpoint of an untrained system."""

    def make(*overrides):
        torch.manual_seed(0)
        config = load_config(Config, None, [*SMALL, *overrides])
        segmenter = build_segmenter(config, Words(VOCABULARY, config.words.dimension))
        save_checkpoint(tmp_path / "last.pt", segmenter, config, 0)
        return tmp_path / "last.pt"

    return make


def draw(*words):
    return call("draw_attention", *words)


def test_acga_in_both_streams(checkpoint, video, tmp_path):
    path, out = checkpoint(*ACGA, "acga.streams=rgb+flow", "acga.channels=[4,3,2]"), tmp_path / "o"
    words = ("--checkpoint", path, "--video", video, "--query", "Red dog", "--out", out)
    assert draw(*words, "--frame", 1, "--pixel", 35, 5) == 0
    assert {p.name for p in out.iterdir()} == {
        *(f"{kind}_{stream}.png" for kind in ("words", "attended") for stream in ("rgb", "flow")),
        "attention.json",
    }
    record = json.loads((out / "attention.json").read_text())
    loaded = load_segmenter(path)
    with open_frames(video) as frames:
        clip = load_clip("noise", frames, 1, loaded.segmenter.input_spec)
    seen = loaded.segmenter.attention(clip, loaded.vocabulary.encode("red dog"), "flow")
    row, column = record["flow"]["cell"]
    assert (row, column) == (0, 3), "pixel 35 of 40 in a grid of four"
    at = seen.words[:, row, column].tolist()
    names, weights = zip(*record["flow"]["words"], strict=True)
    assert names == ("red", "dog", "<0s>")
    assert weights == pytest.approx([at[0], at[1], sum(at[2:])], abs=1e-5)
    assert record["frame"] == 1 and record["pixel"] == [35, 5]
    assert record["video_id"] == "noise" and record["sentence"] == "Red dog"
    frame = cv2.cvtColor(cv2.imread(str(video / "00001.png")), cv2.COLOR_BGR2RGB)
    for stream in ("rgb", "flow"):
        seen = loaded.segmenter.attention(clip, loaded.vocabulary.encode("red dog"), stream)
        names, weights = word_names(("red", "dog"), seen.words.numpy())
        assert names == ["red", "dog", "<0s>"]
        words = word_sheet(frame, names, weights, clip.geometry, (35, 5))
        assert np.array_equal(picture(out / f"words_{stream}.png"), words)
        attended = attended_picture(frame, seen.cells.numpy(), clip.geometry, (35, 5))
        assert np.array_equal(picture(out / f"attended_{stream}.png"), attended)


def picture(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_the_middle_of_the_video_and_of_the_frame_are_drawn_with_stored_flow(
    checkpoint, video, tmp_path, capsys
):
    path = checkpoint(*ACGA, "acga.streams=flow", "acga.channels=[4,3,2]")
    stored, out = tmp_path / "flow.h5", tmp_path / "o"
    rng = np.random.default_rng(7)
    with h5py.File(stored, "w") as file:
        file.attrs.update({"format": "aamn-flow", "version": 1, "method": "by hand"})
        flow = rng.normal(0, 20, (5, 2, 30, 40)).astype(np.float16)
        file.create_dataset("videos/other", data=flow).attrs["frame_size"] = (30, 40)
    words = ("--checkpoint", path, "--video", video, "--query", "dog", "--out", out)
    assert draw(*words, "--flow", stored) == 2
    assert "noise" in capsys.readouterr().err, "the file's video has another name"
    assert draw(*words, "--flow", stored, "--video-id", "other") == 0
    record = json.loads((out / "attention.json").read_text())
    assert (record["frame"], record["pixel"], record["video_id"]) == (2, [20, 15], "other")
    loaded = load_segmenter(path)
    store = FlowStore.read(stored)
    with open_frames(video) as frames:
        clip = load_clip("other", frames, 2, loaded.segmenter.input_spec, store)
        plain = load_clip("noise", frames, 2, loaded.segmenter.input_spec)
    query = loaded.vocabulary.encode("dog")
    row, column = record["flow"]["cell"]
    own, other = (loaded.segmenter.attention(one, query, "flow").words for one in (clip, plain))
    said = dict(record["flow"]["words"])["dog"]
    assert said == pytest.approx(float(own[0, row, column]), abs=1e-6)
    assert abs(said - float(other[0, row, column])) > 3e-5, "not the flow that is computed"


def test_cstm_at_the_stages_with_lgfs(checkpoint, video, tmp_path):
    path, out = checkpoint(*CSTM, "cstm.lgfs=[5,3]"), tmp_path / "o"
    assert draw("--checkpoint", path, "--video", video, "--query", "dog", "--out", out) == 0
    names = {p.name for p in out.iterdir()}
    assert names == {"selection_5.png", "selection_3.png", "attention.json"}
    record = json.loads((out / "attention.json").read_text())
    for stage in ("stage 5", "stage 3"):
        pair = np.array([record[stage]["spatial"], record[stage]["temporal"]])
        np.testing.assert_allclose(pair.sum(0), np.ones(4), atol=1e-5)


@pytest.mark.parametrize(
    ("system", "words", "message"),
    [
        (ACGA, ("--pixel", 40, 0), "--pixel 40 0: wanted a pixel of the frame, which is 40x30"),
        (ACGA, ("--frame", 5), "noise has 5 frames"),
        (CSTM, (), "this CSTM was trained without LGFS"),
        (
            (*(s.replace("acga", "gavrilyuk") for s in ACGA), "gavrilyuk.channels=[4,3]"),
            (),
            "only acga and cstm are drawn here, this checkpoint is of Gavrilyuk",
        ),
    ],
)
def test_mistakes_are_one_line(checkpoint, video, tmp_path, capsys, system, words, message):
    given = ("--checkpoint", checkpoint(*system), "--video", video, "--query", "dog")
    assert draw(*given, "--out", tmp_path / "o", *words) == 2
    error = capsys.readouterr().err.splitlines()
    assert len([line for line in error if line.startswith("error:")]) == 1
    assert message in error[-1]
