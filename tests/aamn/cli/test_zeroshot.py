"""The zero-shot system from the command line, with the boxes of a file: no download."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tiny_zeroshot import CLASSES, RED, Squares, box_of, draw

from aamn.cli.main import run
from proposals.identity import identity_of
from proposals.store_writer import write_proposals

SMALL = (
    *("--set", "zeroshot.size=96", "--set", "zeroshot.radius=1", "--set", "zeroshot.proposals=4"),
    *("--set", f"zeroshot.classes=[{','.join(CLASSES)}]", "--set", "zeroshot.describe_every=3"),
)


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    """A folder with a video, video/, and its boxes, boxes.h5."""
    place, frames = tmp_path_factory.mktemp("zeroshot"), draw(6)
    (place / "video").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(place / f"video/{number:05d}.png")
    found = Squares().detect(frames)
    with write_proposals(place / "boxes.h5", detector="squares", classes=CLASSES) as store:
        store.add(
            "video",
            [one.boxes for one in found],
            [one.scores for one in found],
            [one.labels for one in found],
            frame_size=frames.shape[1:3],
            identity=identity_of(place / "video"),
        )
    return place


def test_masks_of_sentences(there, tmp_path):
    boxes = ("--proposals", str(there / "boxes.h5"))
    bundle = ("--bundle", "zeroshot_boxes", *SMALL)
    words = ("segment", str(there / "video"), "the red dog", "a yellow car")
    assert run([*words, *bundle, *boxes, "--out", str(tmp_path)]) == 0
    results = sorted(tmp_path.glob("*/result.json"))
    red, car = (json.loads(path.read_text()) for path in results)
    assert len(list((results[0].parent / "masks").glob("*.png"))) == 6
    wanted = [float(value) for value in box_of(draw(6)[3], RED)]
    found = json.dumps(red)
    assert str(wanted[0]) in found and red != car
    index = str(tmp_path / "index/video.h5")
    assert (
        run(["segment", "--index", index, "--query", "cat", *bundle, "--out", f"{tmp_path}/c"]) == 0
    )
    assert run(["search", str(tmp_path / "index"), "blue dog", *bundle]) == 0


def test_index_and_search(there, tmp_path, capsys):
    boxes = ("--proposals", str(there / "boxes.h5"))
    bundle = ("--bundle", "zeroshot_boxes", *SMALL)
    assert run(["index", str(there / "video"), *bundle, *boxes, "--out", str(tmp_path)]) == 0
    assert run(["search", str(tmp_path), "blue dog", "a car", *bundle]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = [line[2] for line in lines if "video," in line]
    assert found == ["match", "no"]


def test_how_many_frames_are_described_is_the_index_s(there, tmp_path, capsys):
    boxes = ("--proposals", str(there / "boxes.h5"))
    bundle = ("--bundle", "zeroshot_boxes", *SMALL, "--describe-every")
    words = ["index", str(there / "video"), *bundle, "2", *boxes]
    assert run([*words, "--out", str(tmp_path)]) == 0
    assert run(["search", str(tmp_path), "blue dog", *bundle, "2"]) == 0
    assert run(["search", str(tmp_path), "blue dog", *bundle, "1"]) == 2
    assert "video.h5" in capsys.readouterr().err


def test_a_folder_of_videos_is_a_job(there, tmp_path, caplog):
    """What fails is listed at the end, and the other videos are there."""
    (tmp_path / "videos").mkdir()
    shutil.copytree(there / "video", tmp_path / "videos/video")
    shutil.copytree(there / "video", tmp_path / "videos/other")  # of which there are no boxes
    words = ["index", f"{tmp_path}/videos/*", "--bundle", "zeroshot_boxes", *SMALL]
    words += ["--processes", "1", "--proposals", str(there / "boxes.h5")]
    assert run([*words, "--out", str(tmp_path / "out")]) == 1
    assert "boxes.h5 holds no proposals of the video other" in caplog.text
    assert [path.name for path in (tmp_path / "out").glob("*.h5")] == ["video.h5"]
    assert run([*words, "--out", str(tmp_path / "out")]) == 1, "what is there is left alone"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--bundle", "zeroshot_boxes"), "wanted --proposals HDF5 or --detector PT"),
        (("--bundle", "zeroshot", "--weights", "nowhere"), "--weights nowhere: no folder there"),
        (("--bundle", "nowhere", "--weights", "."), "no bundle at nowhere"),
        (("--bundle", "zeroshot_boxes", "--config", "aamn_demo"), "is of the system aamn"),
        (("--bundle", "zeroshot_attributes", "--weights", "EMPTY"), "lacks maskrcnn_resnet50"),
    ],
)
def test_mistakes_are_one_line(there, tmp_path, capsys, words, wanted):
    (tmp_path / "empty").mkdir()
    words = [str(tmp_path / "empty") if word == "EMPTY" else word for word in words]
    code = run(["segment", str(there / "video"), "a dog", *words, "--out", str(tmp_path / "out")])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert code == 2 and len(said) == 1 and wanted in said[0]
