"""Files that were changed, are nobody's friends', or ask for more than there is: each is one line,
and nothing that it names is opened or run."""

import json
import shutil
import zipfile

import pytest
import torch
from fault_cases import called, refused

from aamn.data.datasets.refvos import read_listings
from aamn.inference.checkpoint import load_segmenter
from aamn.predictor import load
from proposals.build import load_network
from proposals.errors import InputError


@pytest.fixture
def bundle(things, tmp_path):
    return shutil.copytree(things.bundle, tmp_path / "bundle")


def segment(folder, *more):
    return ("segment", *more, "--bundle", folder)


def zeroed(path, record, length=8):
    """Overwrites the middle of one record of a zip archive by zeros."""
    with zipfile.ZipFile(path) as archive:
        info = max((i for i in archive.infolist() if record in i.filename), key=_size)
    content = bytearray(path.read_bytes())
    place = content.index(zipfile.ZipFile(path).read(info)[:64]) + info.file_size // 2
    content[place : place + length] = bytes(length)
    path.write_bytes(content)


def _size(info):
    return info.file_size


def rewritten(path, change):
    """The checkpoint with its content changed, its checksums right."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    record = path.parent / "bundle.json"
    values = json.loads(record.read_text())
    values.pop("sha256", None)
    record.write_text(json.dumps(values))


def compressed(path):
    """The same archive, packed, with a record of many zeros."""
    with zipfile.ZipFile(path) as archive:
        records = {i.filename: archive.read(i) for i in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content + bytes(1 << 22) * ("data/0" in name))


def first(state):
    return next(name for name, value in state.items() if value.is_floating_point())


def without_number(state):
    state[first(state)].view(-1)[0] = float("nan")


def huge(state):
    state[first(state)] = torch.zeros(1).expand(10**12)


def sparse(state):
    state[first(state)] = torch.sparse_coo_tensor(size=(10**6, 10**6))


FILES = {"segmenter.pt": "model", "detector.pt": "state"}
STATES = {
    "NaN": (without_number, "not finite"),
    "a tensor that repeats itself": (huge, "larger than"),
    "a sparse tensor": (sparse, "no dense tensor"),
    "an entry less": (lambda s: s.pop(first(s)), "do not fit"),
    "no entry": (lambda s: s.clear(), "do not fit"),
}


@pytest.mark.parametrize("fault", STATES)
def test_weights_that_are_none_are_named(fault, bundle):
    change, said = STATES[fault]
    for file, read in {"segmenter.pt": load_segmenter, "detector.pt": load_network}.items():
        rewritten(bundle / file, lambda content, file=file: change(content[FILES[file]]))
        with pytest.raises(InputError, match=rf"{file}.*{said}"):
            read(bundle / file)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: zeroed(path, "data/"), "changed since"),
        (lambda path: zeroed(path, "data.pkl"), "damaged"),
        (compressed, "would unpack to"),
    ],
    ids=["zeros in weights", "zeros in names", "a bomb"],
)
def test_changed_weights_are_named(change, said, file, things, bundle, capsys):
    record = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**record, "sha256": {}}))
    change(bundle / file)
    words = segment(bundle, things.clip, "w1", "--out", bundle / "out")
    refused(capsys, words, rf"{file}.*{said}", (bundle, things.clip))


class Intruder:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_a_bundle_does_not_run_the_pickle_it_names(things, bundle, tmp_path, capsys):
    import pickle

    trap = tmp_path / "ran"
    (tmp_path / "words.kv").write_bytes(pickle.dumps(Intruder(trap)))

    def name_it(content):
        content["config"]["words"].update(vectors=str(tmp_path / "words.kv"), allow_pickle=True)

    rewritten(bundle / "segmenter.pt", name_it)
    words = segment(bundle, things.clip, "zebra", "--out", tmp_path / "out")
    refused(capsys, words, r"words\.kv.*pickle.*words\.allow_pickle=true", (bundle,))
    assert not trap.exists()


def test_a_checkpoint_names_no_file_that_is_opened(things, bundle, caplog):
    def name_them(content):
        config = content["config"]
        config["flow"].update(method="raft", weights="/there/raft.pt")
        config["acga"]["backbone_cache"] = config["gavrilyuk"]["backbone_cache"] = "/there"

    rewritten(bundle / "segmenter.pt", name_them)
    config = load(bundle, "cpu").loaded.config
    assert (config.flow.weights, config.acga.backbone_cache) == ("", "")
    assert "--set flow.weights=/there/raft.pt" in caplog.text
    config = load(bundle, "cpu", ["flow.weights=/there/raft.pt"]).loaded.config
    assert config.flow.weights == "/there/raft.pt"


def test_a_network_larger_than_its_weights_takes_no_memory(things, bundle, capsys):
    rewritten(bundle / "segmenter.pt", lambda c: c["config"]["aamn"]["backbone"].update(fc=10**7))
    words = segment(bundle, things.clip, "w1", "--out", bundle / "out")
    refused(capsys, words, r"segmenter\.pt: its weights do not fit", (bundle,))


@pytest.mark.parametrize("value", ["nan"])
def test_vectors_without_numbers_are_named(value, things, bundle, tmp_path, capsys):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text(f"zebra 1 2 3 4 5 6\nlion 1 2 {value} 4 5 6\n")
    words = ("--set", f"words.vectors={vectors}", "--out", tmp_path / "out")
    refused(capsys, segment(bundle, things.clip, "lion", *words), r"vectors\.txt.*'lion'.*finite")


IDS = ["../../evil", "/tmp/evil", "a\0b", ".."]


@pytest.mark.parametrize("video_id", IDS)
def test_a_list_s_ids_do_not_leave_its_folder(video_id, things, tmp_path, capsys):
    root = tmp_path / "a2d"
    (root / "Release").mkdir(parents=True)
    (root / "text_annotations").mkdir()
    (root / "Release/videoset.csv").write_text(f"{video_id},1,0,0,40,50,7,1,1\n")
    words = segment(things.bundle, "--data", root, "--out", tmp_path / "out")
    refused(capsys, words, r"videoset\.csv: wanted the name", (tmp_path,))
    with pytest.raises(InputError, match="wanted the name"):
        read_listings(listed(root / "meta.json", {video_id: {"frames": [], "expressions": {}}}))
    for entry in (
        {"frames": [video_id], "expressions": {}},
        {"frames": [], "expressions": {video_id: {"exp": "dog"}}},
    ):
        with pytest.raises(InputError, match="wanted the name"):
            read_listings(listed(root / "meta.json", {"v": entry}))


def listed(path, videos):
    path.write_text(json.dumps({"videos": videos}))
    return path


def test_a_given_id_stays_below_the_results(things, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = segment(things.bundle, things.clip, "w1", "--video-id", "../../e\x1b[2J")
    found = called(capsys, *words)
    assert found.code == 0 and [p.name for p in tmp_path.iterdir()] == ["runs"]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["%2E.%2F..%2Fe%1B[2J"]
    assert "\x1b" not in found.out + found.err
