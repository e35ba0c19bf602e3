"""Files that were changed, are nobody's friends', or ask for more than there is: each is one line,
and nothing that it names is opened or run."""

import json
import shutil
import struct
import zipfile
import zlib
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from fault_cases import called, refused

from aamn.config.loading import load_config
from aamn.config.schema import Config, FlowConfig
from aamn.data.datasets.a2d import A2DSentences
from aamn.data.datasets.refvos import read_labels, read_listings
from aamn.data.flow.store import FlowStore, extract_flow
from aamn.index.box_source import DetectedBoxes
from aamn.inference.checkpoint import load_segmenter
from aamn.ops.masks import decode_run_lengths
from aamn.predictor import load, read_bundle
from proposals.build import load_network
from proposals.detector import FrameDetections
from proposals.errors import InputError
from proposals.limits import check_pixels
from proposals.manifest import read_manifest
from proposals.store import Attributes, ProposalStore
from proposals.store_writer import write_proposals


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
    state[first(state)] = torch.sparse_coo_tensor(size=(10**6, 10**6), check_invariants=True)


FILES = {"segmenter.pt": "model", "detector.pt": "state"}
READERS = {"segmenter.pt": load_segmenter, "detector.pt": load_network}
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
    for file, read in READERS.items():
        rewritten(bundle / file, lambda content, file=file: change(content[FILES[file]]))
        with pytest.raises(InputError, match=rf"{file}.*{said}"):
            read(bundle / file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: zeroed(path, "data/"), "changed since"),
        (lambda path: zeroed(path, "data.pkl"), "damaged"),
        (compressed, "would unpack to"),
    ],
    ids=["zeros in weights", "zeros in names", "a bomb"],
)
def test_changed_weights_are_named(change, said, bundle):
    for file, read in READERS.items():
        change(bundle / file)
        with pytest.raises(InputError, match=rf"{file}.*{said}"):
            read(bundle / file)


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


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        ("backbone", {"fc": 2**16}, "its weights do not fit"),
        ("language", {"layers": 10**9}, "wanted a number from 1 to 16"),
        ("mask_head", {"convolutions": 10**9}, "wanted a number from 0 to 64"),
    ],
)
def test_a_network_larger_than_its_weights_takes_no_memory(part, values, said, bundle):
    rewritten(bundle / "segmenter.pt", lambda c: c["config"]["aamn"][part].update(values))
    with pytest.raises(InputError, match=rf"segmenter\.pt: .*{said}"):
        load_segmenter(bundle / "segmenter.pt")


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
    with pytest.raises(InputError, match=r"videoset\.csv(: wanted the name|, line 1: holds a NUL)"):
        A2DSentences(root, "test")
    if video_id == IDS[0]:
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


@pytest.fixture
def proposals(tmp_path):
    path = tmp_path / "boxes.h5"
    boxes = [np.array([[1, 2, 20 + n, 30], [5, 5, 45, 35]], np.float32) for n in range(7)]
    with write_proposals(path, "mine") as store:
        store.add("clip", boxes, [[0.9, 0.5]] * 7, [[0, 1]] * 7, (40, 50))
    return path


def overwritten(path, name, place, value):
    """One number of an HDF5 array changed where it lies in the file, as a bad disk does."""
    with h5py.File(path) as file:
        offset, kind = file[name].id.get_offset(), file[name].dtype
    content = bytearray(path.read_bytes())
    place = offset + place * kind.itemsize
    content[place : place + kind.itemsize] = np.array(value, kind).tobytes()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "place", "value", "said"),
    [
        ("boxes", 18, 0, "have changed"),
        ("scores", 3, 0.25, "have changed"),
        ("labels", 3, 0, "have changed"),
        ("frame_size", 0, 41, "have changed"),
        ("frame_starts", 3, 5, "have changed"),
    ],
)
def test_boxes_that_changed_are_named(name, place, value, said, proposals):
    overwritten(proposals, name, place, value)
    with pytest.raises(InputError, match=rf"boxes\.h5, video clip: its boxes {said}"):
        ProposalStore.read(proposals).window("clip", [0], 2)


@pytest.mark.parametrize("value", [np.nan])
def test_boxes_without_numbers_end_no_process(value, things, proposals, tmp_path, capsys):
    with h5py.File(proposals, "r+") as file:
        file["boxes"][5, 2] = value
        del file["checksums"]  # as other writers leave it
    words = ("--checkpoint", things.checkpoint, "--proposals", proposals, "--out", tmp_path / "out")
    said = r"boxes\.h5, video clip: frame 2 .*finite"
    refused(capsys, ("segment", things.clip, "w1", *words), said, (proposals, things.clip))


def test_a_manifest_s_box_without_numbers_is_named(tmp_path):
    image = {"id": 1, "file_name": "a.png", "width": 9, "height": 9}
    annotation = {"id": 4, "image_id": 1, "category_id": 1, "bbox": [1, 1, float("nan"), 5]}
    content = {"images": [image], "annotations": [annotation], "categories": [{"id": 1}]}
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"m\.json.*annotation 4 has the box \[1, 1, nan, 5\]"):
        read_manifest(tmp_path / "m.json")


def test_an_array_that_is_only_announced_takes_no_memory(proposals, monkeypatch):
    with h5py.File(proposals, "r+") as file:
        del file["frame_starts"]
        file.create_dataset("frame_starts", (10**13,), np.int64, chunks=(1000,))
    with pytest.raises(InputError, match=r"frame_starts announces 80000\.0 gigabytes"):
        ProposalStore.read(proposals)


@pytest.mark.parametrize("score", [np.nan, 0.5])
def test_a_detector_of_anybody_s_finds_numbers(score):
    found = FrameDetections(np.full((1, 4), np.nan * score), np.array([score]), np.array([0]))
    detector = SimpleNamespace(attributes=Attributes("mine"), detect=lambda frames: [found])
    with pytest.raises(InputError, match="no finite number"):
        DetectedBoxes(detector, 1).window([np.zeros((9, 9, 3), np.uint8)], np.arange(1), 2)


def record_of(bundle, **values):
    record = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**record, **values}))


@pytest.mark.parametrize("value", [float("nan"), "high", True, [1]])
def test_a_threshold_that_is_no_number_is_named(value, bundle):
    record_of(bundle, absent_threshold=value)
    with pytest.raises(InputError, match=r"bundle\.json: absent_threshold: wanted a number"):
        read_bundle(bundle)


@pytest.mark.parametrize("option", ["--absent-threshold", "--transition-cost"])
def test_an_option_that_is_no_number_is_named(option, things, tmp_path, capsys):
    words = segment(things.bundle, things.clip, "w1", option, "nan", "--out", tmp_path / "out")
    refused(capsys, words, f"'{option}': nan is no finite number")


def test_nan_is_no_bundle_s_threshold(things, tmp_path, capsys):
    words = ("--detector", things.detector, "--checkpoint", things.checkpoint)
    words = ("bundle", *words, "--absent-threshold", "nan", "--out", tmp_path / "out")
    refused(capsys, words, "'--absent-threshold': nan is no finite number", (tmp_path,))


@pytest.mark.parametrize("file", FILES)
def test_a_bundle_of_parts_of_two_is_named(file, things, bundle, capsys):
    zeroed(bundle / file, "data/")
    words = segment(bundle, things.clip, "w1", "--out", bundle / "out")
    refused(capsys, words, rf"{file} has changed since its bundle", (bundle,))


@pytest.fixture(scope="module")
def segmenter(things):
    return load(things.bundle, "cpu")


@pytest.fixture(scope="module")
def indexed(things, segmenter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexes")
    segmenter.index(things.clip, folder)
    return folder / "clip.h5"


def flipped_chunks(path, name):
    """The chunks of an HDF5 array with one byte of each changed."""
    with h5py.File(path) as file:
        chunks = file[name].id
        offsets = [chunks.get_chunk_info(n).byte_offset for n in range(chunks.get_num_chunks())]
    content = bytearray(path.read_bytes())
    for offset in offsets:
        content[offset] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["windows", "boxes", "vectors", "valid", "masks", "links"])
def test_an_index_that_changed_is_named(name, segmenter, indexed, tmp_path):
    path = shutil.copy(indexed, tmp_path / "clip.h5")
    flipped_chunks(path, name)
    with pytest.raises(InputError, match=rf"clip\.h5, video clip: /{name} is damaged"):
        segmenter.read_index(path).query("w1")[0].masks()


def test_an_index_without_numbers_is_named(segmenter, indexed, tmp_path):
    path = shutil.copy(indexed, tmp_path / "clip.h5")
    with h5py.File(path, "r+") as file:
        file["vectors"][0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"clip\.h5, video clip: /vectors is not finite"):
        segmenter.read_index(path).query("w1")


@pytest.fixture
def flow(things, tmp_path):
    path = tmp_path / "flow.h5"
    assert not extract_flow({"clip": things.clip}, path, FlowConfig(longest_side=48), workers=0)
    return path


def test_flow_that_changed_is_named(flow):
    flipped_chunks(flow, "videos/clip")
    with pytest.raises(InputError, match=r"flow\.h5, video clip: /videos/clip is damaged"):
        FlowStore.read(flow).window("clip", np.arange(2))


def test_flow_without_numbers_is_named(flow, things, monkeypatch):
    with h5py.File(flow, "r+") as file:
        file["videos/clip"][3, 0, 2, 2] = np.nan
    store = FlowStore.read(flow)
    assert np.isfinite(store.window("clip", np.arange(2))).all()
    with pytest.raises(InputError, match=r"flow\.h5, video clip: the flow is not finite"):
        store.window("clip", np.array([3]))
    one = np.full((2, *store.window("clip", np.arange(1)).shape[2:]), np.inf)
    monkeypatch.setattr("aamn.data.flow.store.iterate_flow", lambda *_: iter([one]))
    failed = extract_flow({"clip": things.clip}, flow.with_name("b.h5"), FlowConfig(), workers=0)
    assert "dis found flow that is not finite" in failed["clip"]


RUNS = {
    "too large": ({"size": [100_000, 100_000], "counts": "0"}, "100000x100000 pixels, 10000 mill"),
    "cut": ({"size": [4, 4], "counts": [0, 3]}, "runs are not of 4x4"),
    "long": ({"size": [4, 4], "counts": [0, 10**6]}, "runs are not of 4x4"),
    "wrapping round": ({"size": [4, 4], "counts": [2**62] * 4 + [16]}, "runs are not of 4x4"),
    "negative": ({"size": [4, 4], "counts": [20, -4]}, "runs are not of 4x4"),
    "text too long": ({"size": [4, 4], "counts": "PoPo2"}, "runs are not of 4x4"),
    "no text": ({"size": [4, 4], "counts": "\x01"}, "no COCO RLE"),
    "half a number": ({"size": [4, 4], "counts": "zz"}, "no COCO RLE"),
    "no pixel": ({"size": [-4, 4], "counts": "0"}, "4x-4 pixels"),
    "a number beyond all": ({"size": [4, 4], "counts": [10**30]}, "no COCO RLE"),
    "no list": ({"size": 4, "counts": "0"}, "no COCO RLE"),
}


@pytest.mark.parametrize("name", RUNS)
def test_run_lengths_that_are_no_mask_end_no_process(name):
    code, said = RUNS[name]
    with pytest.raises(InputError, match=rf"^masks\.json.*{said}"):
        decode_run_lengths(code, "masks.json")


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "more than 20000 values"),
        ("a: &a [*a]", "deeper"),
        ("[" * 100_000, "deeper than 100"),
    ],
    ids=["laughs", "in itself", "deep"],
)
def test_yaml_that_has_no_end_is_named(text, said, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"r\.yaml.*{said}"):
        load_config(Config, tmp_path / "r.yaml")


def png_of(size, path):
    """A PNG whose header announces a size; there is no picture behind it."""
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
    return path


def png_chunk(name, content):
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
def test_a_picture_that_is_only_announced_takes_no_memory(size, tmp_path):
    path = png_of(size, tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png.* pixels"):
        read_labels(path)


@pytest.mark.parametrize("value", ["many", "-1", "nan"])
def test_a_limit_is_a_number(value, monkeypatch):
    monkeypatch.setenv("AAMN_MAX_MEGAPIXELS", value)
    with pytest.raises(InputError, match=f"AAMN_MAX_MEGAPIXELS={value}: wanted a number"):
        check_pixels((9, 9), "a picture")
    monkeypatch.setenv("AAMN_MAX_MEGAPIXELS", "0.00008")
    with pytest.raises(InputError, match=r"a picture announces 9x9 .*set AAMN_MAX_MEGAPIXELS=1 if"):
        check_pixels((9, 9), "a picture")
