"""Error branches that nothing else reaches: damage deep in a data set, and bugs in other
processes."""

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from fault_cases import refused
from tiny_videos import Frames, built, loaded

from aamn.config.schema import Config, FlowConfig
from aamn.data.datasets.a2d import Video
from aamn.data.datasets.source import Expression, KeyFrame
from aamn.data.flow.store import FlowStore, extract_flow
from aamn.data.synthetic import SyntheticConfig, write_corpus
from aamn.data.verify.a2d import _check_clip
from aamn.data.verify.checks import verify_sources
from aamn.experiments import runs
from proposals.errors import InputError
from proposals.store import ProposalStore
from proposals.store_writer import write_proposals


def test_a_broken_picture_in_a_video_to_segment_is_the_error(things, tmp_path, capsys):
    """Boxes come from the detector first: what ends its run is what the user is told."""
    clip = Path(shutil.copytree(things.clip, tmp_path / "clip"))
    (clip / "3.png").write_bytes(b"no picture")
    words = ("segment", clip, "w1 w2", "--checkpoint", things.checkpoint, "--set")
    more = ("system=most_confident", "--detector", things.detector, "--out", tmp_path / "out")
    refused(capsys, (*words, *more), r"3\.png", unchanged=(clip,))


def test_a_clip_that_plays_but_is_cut_off_is_found(things, tmp_path):
    """Its index is whole and its last box is not: OpenCV opens it as if nothing were missing."""
    folder = tmp_path / "Release" / "clips320H"
    folder.mkdir(parents=True)
    path = folder / "v.mp4"
    path.write_bytes(things.movie.read_bytes() + (1000).to_bytes(4, "big") + b"free")
    video = Video("v", 18, 32, 48, 7, 1, "0")
    (finding,), size = _check_clip(tmp_path, video, 1, False)
    assert (finding.fatal, finding.where, size) == (True, "v", (32, 48))
    assert finding.what == "the video is cut off: its file is incomplete"
    assert finding.fetch == "Release/clips320H/v.mp4"


class Short(Frames):
    """Announces twice the frames that there are."""

    def __init__(self, count):
        super().__init__(count)
        self.announced = 2 * count


class Damaged:
    """One video of six frames that announces twelve; its annotation cannot be read."""

    video_ids = ("v",)
    key_frames = (KeyFrame("v", 2, (Expression("v", 1, "a dog"),)),)

    def sentences(self, video_id):
        return self.key_frames[0].expressions

    def texts(self):
        return ["a dog"]

    def video_path(self, video_id):
        return Path("v.mp4")

    def frames(self, video_id):
        return Short(6)

    def targets(self, key_frame):
        raise InputError("masks/v.png cannot be read")


def test_a_video_that_stops_early_and_masks_that_cannot_be_read_are_findings():
    found = verify_sources([Damaged()], True, Path(), {})
    assert [(f.fatal, f.where, f.what) for f in found.findings] == [
        (True, "v", "decoding stops after 6 of 12 frames"),
        (True, "v frame 2", "masks/v.png cannot be read"),
    ]


def test_a_bug_in_a_run_beside_others_ends_the_command(tmp_path, monkeypatch):
    def pool(jobs, prepare, *arguments):
        return ThreadPoolExecutor(jobs)

    def aside(work, config, folder):
        return work(config, folder)

    def work(config, folder):
        raise ZeroDivisionError(config.name)

    monkeypatch.setattr(runs, "worker_pool", pool)
    monkeypatch.setattr(runs, "_run_aside", aside)
    with pytest.raises(ZeroDivisionError, match="one"):
        runs.run_rows(work, {tmp_path / "one": Config(name="one")}, 2)


def test_what_a_killed_flow_process_left_is_swept(things, tmp_path):
    out = tmp_path / "flow.h5"
    parts = tmp_path / "flow.h5.parts"
    parts.mkdir()
    (parts / ".a.1234.tmp").write_bytes(b"half a video")
    extract_flow({"v": things.clip}, out, FlowConfig(), workers=0)
    assert FlowStore.read(out).video_ids == ["v"]
    assert [path.name for path in tmp_path.iterdir()] == ["flow.h5"]


def test_a_codec_that_opencv_lacks_is_named(tmp_path):
    config = SyntheticConfig(train_videos=2, test_videos=0, max_frames=24, codec="zzzz")
    with pytest.raises(InputError, match="codec: OpenCV cannot write 'zzzz'; mp4v always works"):
        write_corpus(tmp_path / "corpus", config, workers=1)
    assert not list(tmp_path.rglob("*.mp4"))


def test_boxes_on_a_detector_s_device_are_stored_as_arrays_are(tmp_path):
    boxes = torch.tensor([[1.0, 2, 30, 20]], requires_grad=True)
    arrays = ([boxes], [torch.tensor([0.5])], [torch.tensor([3])])
    plain = ([np.array([[1.0, 2, 30, 20]])], [np.array([0.5])], [np.array([3])])
    with write_proposals(tmp_path / "p.h5", detector="hand") as writer:
        writer.add("tensors", *arrays, frame_size=(40, 50))
        writer.add("arrays", *plain, frame_size=(40, 50))
    store = ProposalStore.read(tmp_path / "p.h5")
    one, other = (store.window(video_id, range(1), 2) for video_id in ("tensors", "arrays"))
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_an_index_without_context_says_what_it_knows_and_travels(tmp_path):
    model = loaded("aamn.action.enabled=false")
    index = built(model, 8, tmp_path / "v.h5")
    track = index.query(["w5 w6"], linking="clip")[0]
    scores = track.clip_scores(0)
    assert scores.context_attention is None and scores.context_members is None
    np.testing.assert_array_equal(scores.total.numpy(), track.total[0])
    again = pickle.loads(pickle.dumps(index)).query(["w5 w6"], linking="clip")[0]
    np.testing.assert_array_equal(again.total, track.total)
