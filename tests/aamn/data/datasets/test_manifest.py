"""Manifests of data sets other than A2D: each object that sentences mean, once a frame."""

import json

import cv2
import numpy as np
import pytest

from aamn.config.schema import DataConfig
from aamn.data.datasets import manifest
from aamn.data.datasets.manifest import write_manifest
from aamn.data.datasets.refvos import GROUP
from aamn.data.datasets.source import Expression, KeyFrame
from proposals.errors import InputError
from proposals.manifest import read_manifest

SIZE = (24, 32)


@pytest.fixture
def folder(tmp_path):
    """Two videos: two sentences of one object in garden, one object in yard that leaves it."""
    root = tmp_path / "data"
    rows = "video_id,instance_id,query,split\n"
    rows += "garden,0,the dog,train\ngarden,0,a brown dog,train\nyard,1,the cat,test\n"
    for video_id in ("garden", "yard"):
        (root / "videos" / video_id).mkdir(parents=True)
        for number in range(4):
            name = str(root / "videos" / video_id / f"{number}.png")
            cv2.imwrite(name, np.zeros((*SIZE, 3), np.uint8))
    (root / "sentences.csv").write_text(rows)
    for video_id, instance, frame, corner in (
        ("garden", 0, 2, (5, 10)),
        ("yard", 1, 0, (1, 3)),
        ("yard", 1, 3, None),
    ):
        mask = np.zeros(SIZE, np.uint8)
        if corner:
            mask[corner[0] : corner[0] + 8, corner[1] : corner[1] + 16] = 255
        path = root / f"masks/{video_id}/{instance}/{frame:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), mask)
    return root


def test_a_folder_s_objects_are_of_one_class(folder, tmp_path):
    for split, boxes in (("train", [[10, 5, 26, 13]]), ("test", [[3, 1, 19, 9], None])):
        out = tmp_path / "lists" / f"{split}.json"
        write_manifest(DataConfig("folder", str(folder)), split, out)
        found = read_manifest(out)
        assert found.classes == ("object",) and [f.size for f in found.frames] == [SIZE] * len(
            boxes
        )
        assert [f.boxes.tolist() for f in found.frames] == [[b] if b else [] for b in boxes]
        assert {f.path.resolve().parent for f in found.frames} == {folder / "videos"}
    assert [f.frame for f in found.frames] == [0, 3], "where it has left is a frame without boxes"


def test_the_validation_split_is_kept_apart_as_in_training(folder, tmp_path):
    data, out = DataConfig("folder", str(folder), validation_share=0.999), tmp_path / "m.json"
    content = write_manifest(data, "validation", out)
    assert {image["video_id"] for image in content["images"]} == {"garden"}
    with pytest.raises(InputError, match="no video of the split 'train' has a sentence"):
        write_manifest(data, "train", out)
    assert json.loads(out.read_text()) == content, "what was there stays"


def test_groups_of_objects_are_left_out_and_counted(folder, tmp_path, monkeypatch, caplog):
    class Grouped:
        """Two sentences about a pair, beside one about a single object."""

        key_frames = (KeyFrame("v", 1, tuple(Expression("v", n, "x") for n in (3, GROUP, GROUP))),)

        def targets(self, key_frame):
            assert [e.instance for e in key_frame.expressions] == [3]
            return ()

    monkeypatch.setattr(manifest, "open_source", lambda *given: Grouped())
    with pytest.raises(InputError, match="the train split has no annotated frame"):
        write_manifest(DataConfig("refvos", "d"), "train", tmp_path / "m.json")
    assert "left out 1 times a group of objects" in caplog.text
