"""From frames to masks on a GPU: boxes, flow, index, answers and whole videos are the CPU's."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from tiny_models import WORDS, tiny_config, tiny_segmenter
from tiny_videos import Frames, Store, job, loaded
from torchvision.models.optical_flow import raft_small

import aamn
from aamn import predictor
from aamn.config.schema import FlowConfig
from aamn.data.flow import raft
from aamn.index import box_source as index_boxes
from aamn.index import builder as indexing
from aamn.index.builder import build_index
from aamn.index.file import Selection
from aamn.index.timer import Timer
from aamn.index.video_index import VideoIndex
from aamn.inference.checkpoint import save_checkpoint
from aamn.inference.clip_by_clip import segment_video
from aamn.models.build import start_backbones
from aamn.predictor import write_bundle
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.decoding import Video
from proposals.detector import TorchDetector, save_detector
from proposals.extract import JobOptions, extract
from proposals.store import ProposalStore

COUNT = 11
ARRAYS = ("boxes", "vectors", "valid", "links", "context", "windows")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A folder of frames."""
    folder = tmp_path_factory.mktemp("frames") / "v"
    folder.mkdir()
    for number, frame in enumerate(Frames(COUNT).video):
        cv2.imwrite(str(folder / f"{number:02}.png"), frame)
    return folder


@pytest.fixture
def network():
    """A detector whose random weights tell boxes apart."""
    torch.manual_seed(5)
    config = DetectorConfig(
        name="small", weights="", classes=("a", "b"), square=48, widths=(8, 16), strides=(4, 2),
        head=16, proposals=8, score_threshold=0.0,
    )  # fmt: skip
    network = build_detector(config).eval()
    with torch.no_grad():
        network.rcnn.rpn.head.cls_logits.weight.mul_(100)
        network.rcnn.roi_heads.box_predictor.cls_score.weight.mul_(100)
    return network


@pytest.fixture
def small_blocks(monkeypatch):
    """So that a clip lies across two blocks."""
    monkeypatch.setattr(indexing, "FRAMES_AT_ONCE", {"cpu": 6, "cuda": 6})
    monkeypatch.setattr(index_boxes, "DETECTED_AT_ONCE", {"cpu": 4, "cuda": 4})


def same_index(found: VideoIndex, wanted: VideoIndex, vectors: float = 1e-4) -> None:
    """But for rounding; a mask is stored in 255 steps."""
    for name in ARRAYS:
        one, other = (index.file.array(name)[:].astype(float) for index in (found, wanted))
        np.testing.assert_allclose(one, other, atol=max(vectors, 1e-3), rtol=1e-3, err_msg=name)
    one, other = (index.file.array("masks")[:].astype(int) for index in (found, wanted))
    assert (abs(one - other) > 1).mean() < 1e-3
    texts = ["w3 w4", "w5", "w1 w2 w6"]
    for track, same in zip(found.query(texts), wanted.query(texts), strict=True):
        assert track.score == pytest.approx(same.score, abs=1e-3)
        assert (track.tubes == same.tubes).all() and same.masks().any()
        assert (track.masks() != same.masks()).mean() < 0.005


@pytest.mark.parametrize(
    "selection", [Selection(), Selection(key_frames=(2, 8))], ids=["whole", "key frames"]
)
def test_index_and_answers(gpu, tmp_path, small_blocks, selection):
    model = loaded()
    work = replace(job(model, Frames(COUNT)), selection=selection)
    build_index(work, tmp_path / "cpu.h5")
    wanted = VideoIndex.read(tmp_path / "cpu.h5", loaded())
    with gpu() as device:
        model.segmenter.to(device)
        build_index(work, tmp_path / "gpu.h5")
        found = VideoIndex.read(tmp_path / "gpu.h5", model)
        if selection.key_frames is None:
            same_index(found, wanted)
        else:
            for name in ARRAYS:
                one, other = (index.file.array(name)[:] for index in (found, wanted))
                np.testing.assert_allclose(one, other, atol=1e-3, rtol=1e-3, err_msg=name)


@pytest.mark.gpu
def test_an_index_in_half_precision_is_near_and_its_costs_are_the_gpu_s(tmp_path):
    model = loaded()
    build_index(job(model, Frames(COUNT)), tmp_path / "whole.h5")
    model.segmenter.to("cuda")
    costs = Timer(synchronise=True)
    half = replace(job(model, Frames(COUNT)), precision="bfloat16")
    build_index(half, tmp_path / "half.h5", costs)
    assert all(costs.seconds[part] > 0 for part in ("streams", "tubes", "masks"))
    whole, found = (VideoIndex.read(tmp_path / f"{n}.h5", model).file for n in ("whole", "half"))
    key = model.segmenter.input_spec.key  # elsewhere, rounding may link other boxes
    masks = [file.array("masks")[:, :, key].astype(int) for file in (whole, found)]
    assert abs(masks[0] - masks[1]).max() < 16
    np.testing.assert_allclose(found.array("vectors")[:], whole.array("vectors")[:], atol=0.05)


def test_a_bundle_segments_a_video(gpu, tmp_path, video, network, small_blocks, monkeypatch):
    """One pass of the shared backbone, then any sentence; words of another file can be added."""
    save_detector(network, tmp_path / "d.pt")
    weights = f"aamn.backbone.weights={tmp_path / 'd.pt'}"
    segmenter = tiny_segmenter(weights)
    start_backbones(segmenter, tiny_config(weights))
    save_checkpoint(tmp_path / "s.pt", segmenter, tiny_config(), 1)
    write_bundle(tmp_path / "b", tmp_path / "d.pt", tmp_path / "s.pt")
    wanted = aamn.load(tmp_path / "b", "cpu").index(video)
    with gpu() as device:
        if not torch.cuda.is_available():  # it is only pretended: none is counted
            monkeypatch.setattr(predictor, "checked_device", torch.device)
        bundle = aamn.load(tmp_path / "b", device)
        assert bundle.loaded.segmenter.device.type == bundle.boxes.network.device.type == "cuda"
        same_index(bundle.index(video), wanted)
        (tmp_path / "vectors.txt").write_text("purple 1 2 3 4 5 6\n")
        bundle.loaded.words.vectors = str(tmp_path / "vectors.txt")
        (query,) = bundle.loaded.segmenter.embed_queries(bundle.loaded.words.queries("purple"))
        assert query.vector.isfinite().all() and len(bundle.loaded.vocabulary) == WORDS + 1
        assert query.vector.device.type == "cuda"


def test_clip_by_clip(gpu):
    model = loaded()
    queries = [model.vocabulary.encode(text) for text in ("w3 w4", "w5")]
    segmenter = model.segmenter

    def answers():
        given = (segmenter, "v", Frames(8), queries, Store(), None, FlowConfig())
        return [track for answer in segment_video(*given) for track in answer.tracks]

    wanted = answers()
    with gpu() as device:
        segmenter.to(device)
        for track, same in zip(answers(), wanted, strict=True):
            assert track.score == pytest.approx(same.score, abs=1e-3)
            torch.testing.assert_close(track.boxes, same.boxes, atol=1e-2, rtol=1e-4)
            assert (track.masks != same.masks).float().mean() <= 0.005
    assert any(track.masks.any() for track in wanted)


@pytest.mark.parametrize(("precision", "pixels"), [("float32", 0.05), ("float16", 2.0)])
def test_extraction_of_proposals(gpu, tmp_path, video, network, precision, pixels):
    """In half precision, as the programs extract on a GPU; most boxes have a near one."""
    extract(TorchDetector(network), [Video("v", video)], tmp_path / "cpu.h5")
    with gpu() as device:
        detector = TorchDetector(network.to(device), precision)
        options = JobOptions.for_device(device, workers=0)
        report = extract(detector, [Video("v", video)], tmp_path / "gpu.h5", options)
    assert (report.stored, report.frames, options.batch) == (1, COUNT, 16)
    found, wanted = (ProposalStore.read(tmp_path / f"{n}.h5") for n in ("gpu", "cpu"))
    assert found.attributes.settings["precision"] == precision
    one, other = (store.window("v", np.arange(COUNT), 8) for store in (found, wanted))
    near = abs(other.boxes[:, :, None] - one.boxes[:, None]).max(-1).min(-1) <= pixels
    assert near[other.valid].mean() > (0.95 if precision == "float32" else 0.6)
    assert abs(one.valid.sum() - other.valid.sum()) <= 0.2 * other.valid.sum()


def test_flow(gpu, tmp_path):
    """RAFT with random weights of a file."""
    torch.manual_seed(0)
    torch.save(raft_small().state_dict(), tmp_path / "raft.pt")
    one, two = np.random.default_rng(0).integers(0, 255, (2, 40, 56, 3), dtype=np.uint8)
    raft.load_raft.cache_clear()
    estimate = raft.RaftEstimator(str(tmp_path / "raft.pt"))
    wanted_on = "cuda" if torch.cuda.is_available() else "cpu"
    assert next(estimate.model.parameters()).device.type == wanted_on
    estimate.model.cpu()
    wanted = estimate(one, two)
    with gpu() as device:
        estimate.model.to(device)
        found = estimate(one, two)
    raft.load_raft.cache_clear()
    assert found.shape == (2, 40, 56) and abs(wanted).max() > 0.1
    assert abs(found - wanted).max() < 0.02 * abs(wanted).max()
