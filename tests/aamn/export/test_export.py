"""A bundle's export in the place of the bundle: the same answers, and what a broken one says."""

import json
import sys

import cv2
import numpy as np
import pytest
from tiny_bundle import save_parts

import aamn
from aamn.cli.main import run
from aamn.data.word_vectors import open_vectors
from aamn.export import writer
from aamn.export.manifest import RECORD
from aamn.jobs.export import export_bundle
from aamn.predictor import write_bundle
from proposals.errors import InputError

pytest.importorskip("onnx", reason="onnx is not installed (extra export)")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra export)")

TEXTS = ["w3 w4", "w7 w9 w2 w3", "newword w5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bundle b that knows a word of a file beside those of the training, and its export e."""
    folder = tmp_path_factory.mktemp("bundle")
    save_parts(folder)
    rng = np.random.default_rng(0)
    rows = "".join(f"{word} {' '.join(f'{v:.3f}' for v in rng.normal(size=6))}\n"
                   for word in ("newword", "w5", "other"))  # fmt: skip
    (folder / "vectors.txt").write_text(rows)
    write_bundle(folder / "b", folder / "d.pt", folder / "s.pt", -3.5, folder / "vectors.txt")
    assert run(["export", "--bundle", str(folder / "b"), "--out", str(folder / "e")]) == 0
    clip = folder / "clip"
    clip.mkdir()
    for number in range(7):
        cv2.imwrite(str(clip / f"{number}.png"), rng.integers(0, 255, (40, 50, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def pair(folder):
    return aamn.load(folder / "b", "cpu"), aamn.load(folder / "e")


def test_tracks_are_those_of_the_bundle(folder, pair):
    tracks = [segmenter.index(folder / "clip").query(TEXTS) for segmenter in pair]
    for wanted, found in zip(*tracks, strict=True):
        assert found.score == pytest.approx(wanted.score, abs=1e-4)
        assert found.boxes() == pytest.approx(wanted.boxes(), abs=1e-3)
        assert (found.masks() == wanted.masks()).mean() > 0.999
        assert found.present == wanted.present
    assert pair[1].absent_threshold == -3.5


def test_indexes_of_one_are_asked_by_the_other(folder, pair, tmp_path):
    """A video is indexed where there is a GPU, say, and asked where there is none of our networks:
    both know the index by the hash of the segmenter's weights."""
    for place, (made_by, asked_by) in enumerate([pair, pair[::-1]]):
        made_by.index(folder / "clip", tmp_path / str(place))
        index = asked_by.read_index(tmp_path / str(place) / "clip.h5")
        assert len(index.query(TEXTS)[0].boxes()) == 7


def test_words_of_the_bundle_s_file_are_known(folder, pair, caplog):
    bundle, export = pair
    assert "other" in json.loads((folder / "e/vocabulary.json").read_text())["words"]
    query = export.query_encoder.queries("newword w5 unheard")[0]
    assert query.unknown == ("unheard",) and "unheard" in caplog.text
    sentences = export.query_encoder.encode(export.query_encoder.queries(TEXTS))
    wanted = bundle.query_encoder.encode(bundle.query_encoder.queries(TEXTS))
    for name, vectors in wanted.sides.items():
        assert sentences.sides[name].numpy() == pytest.approx(vectors.numpy(), abs=1e-5)
    vector = open_vectors(folder / "vectors.txt").find("newword")
    assert np.linalg.norm(vector) > 0


def test_the_record_names_the_sources_and_every_file(folder):
    record = json.loads((folder / "e" / RECORD).read_text())
    own = json.loads((folder / "b/bundle.json").read_text())
    assert record["sources"] == own["sha256"] and record["backend"] == "onnxruntime"
    parts = {"stream_rgb", "stream_flow", "regions_rgb", "regions_flow", "tubes", "masks"}
    parts |= {"sentences", "detector_trunk", "detector_heads"}
    assert set(record["parts"]) == parts
    names = {part["file"] for part in record["parts"].values()} | {RECORD, "vocabulary.json"}
    assert {path.name for path in (folder / "e").iterdir()} == names


def test_the_command_takes_an_export_for_a_bundle(folder, tmp_path, capsys):
    words = ["segment", str(folder / "clip"), "w3 w4", "--bundle", str(folder / "e")]
    assert run([*words, "--out", str(tmp_path / "r"), "--absent-threshold", "auto"]) == 0
    assert (tmp_path / "r/00_w3_w4/result.json").is_file()
    assert run([*words, "--out", str(tmp_path / "s"), "--set", "aamn.size=64"]) == 2
    assert "configuration is fixed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"device": "cuda"}, "runs on the CPU"),
        ({"overrides": ["words.vectors=x"]}, "configuration is fixed"),
        ({"weights": "w"}, "weights: .* is an export"),
    ],
)
def test_what_is_settled_is_not_asked_again(folder, given, said):
    with pytest.raises(InputError, match=said):
        aamn.load(folder / "e", **given)


def test_an_export_computes_in_its_own_precision(folder, pair):
    with pytest.raises(InputError, match="computes in float32"):
        pair[1].index(folder / "clip", precision="bfloat16")
    index = pair[1].index(folder / "clip", precision="auto", frames=range(1))
    assert index.file.header.origin.precision == "float32"


def test_an_export_of_an_export_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="is an export itself"):
        export_bundle(folder / "e", tmp_path)


def copied(folder, tmp_path):
    for path in (folder / "e").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return json.loads((tmp_path / RECORD).read_text())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("masks.onnx", None, "lacks masks.onnx"),
        ("masks.onnx", b"no graph", "masks.onnx has changed"),
        ("vocabulary.json", b"{}", "vocabulary.json has changed"),
        (RECORD, b"{", "export.json is damaged"),
        (RECORD, b'{"format": "aamn-export", "version": 7}', "version 7, this library reads"),
        (RECORD, b'{"format": "aamn-export", "version": 1}', "export.json is damaged"),
    ],
)
def test_damage_is_one_line(folder, tmp_path, name, content, said):
    copied(folder, tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        aamn.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("backend", "abacus", "backend 'abacus': wanted one of onnxruntime"),
        ("absent_threshold", "high", "absent_threshold"),
        ("segmenter", {}, "damaged"),
        ("detector", {"config": {}}, "damaged"),
        ("vocabulary", {"file": "../v.json", "sha256": ""}, "damaged"),
    ],
)
def test_a_wrong_entry_of_the_record_is_one_line(folder, tmp_path, key, value, said):
    record = copied(folder, tmp_path)
    (tmp_path / RECORD).write_text(json.dumps({**record, key: value}))
    with pytest.raises(InputError, match=said):
        aamn.load(tmp_path)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_what_lacks_is_said_with_the_extra(folder, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install 'aamn\[export\]'"):
        if package == "onnx":
            export_bundle(folder / "b", tmp_path / "e")
        else:
            aamn.load(folder / "e")
    assert not (tmp_path / "e" / RECORD).exists()


def names_in(out):
    return {path.name for path in out.iterdir()}


def test_an_export_made_again_replaces_the_one_before_in_one_step(folder, tmp_path, monkeypatch):
    """Until the new one is whole, the one before is what is there; what is the user's own stays."""
    copied(folder, tmp_path)
    for stray in (".masks-0a1b2c3d.onnx.x1.tmp", "masks-0a1b2c3d.onnx", "mine.onnx"):
        (tmp_path / stray).write_bytes(b"")
    before = names_in(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "detector_parts", lambda network: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export_bundle(folder / "b", tmp_path)
    assert before <= names_in(tmp_path)
    aamn.load(tmp_path)
    export_bundle(folder / "b", tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    files = {part["file"] for part in (*record["parts"].values(), record["vocabulary"])}
    assert names_in(tmp_path) == files | {RECORD, "mine.onnx"} and "masks.onnx" not in files
    aamn.load(tmp_path)
