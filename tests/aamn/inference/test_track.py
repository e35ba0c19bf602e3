"""A track that was made by hand, in the forms in which others take it."""

import json
import pickle
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from pycocotools import mask as coco_mask
from tiny_videos import SIZE, Frames

from aamn.inference.clip_by_clip import Answer
from aamn.inference.results import OutputOptions, write_results
from aamn.inference.track import JoinedTrack, plot_tracks, write_davis, write_youtube_vos
from aamn.structures import MaskTrack, Query
from aamn.visualization.overlays import COLOURS, overlay
from proposals.errors import InputError

matplotlib.use("Agg")

DOG = Query("Red dog", ("red", "dog"), torch.tensor([2, 3]))
CAT = Query("a cat!", ("a", "cat"), torch.tensor([4, 5]))
EMPTY = torch.zeros(SIZE, dtype=torch.bool)


def square(y, x, side=10):
    mask = EMPTY.clone()
    mask[y : y + side, x : x + side] = True
    return mask


def clip(query, frames, masks, boxes):
    return MaskTrack(
        "v", query.text, torch.tensor(frames), torch.tensor(boxes), torch.stack(masks), 0.5
    )


def dog(score=1.5, source=None, video="v"):
    """Frames 0 to 4: a square that moves right, one pixel a frame, and is gone in frame 3."""
    first = clip(DOG, [0, 1], [square(5, 0), square(5, 1)], [[0.0, 5, 10, 15], [1.0, 5, 11, 15]])
    second = clip(
        DOG,
        [2, 3, 4],
        [square(5, 2), EMPTY, square(5, 4)],
        [[2.0, 5, 12, 15], [0.0, 0, 0, 0], [4.0, 5, 14, 15.5]],
    )
    clips = tuple(MaskTrack(video, *list(vars(c).values())[1:]) for c in (first, second))
    return JoinedTrack(DOG, score, clips, source)


def cat(score=0.5):
    """The same frames: a square at rest, which the dog covers in part."""
    parts = ([0, 1], [2, 3, 4])
    clips = [clip(CAT, n, [square(10, 5)] * len(n), [[5.0, 10, 15, 20]] * len(n)) for n in parts]
    return JoinedTrack(CAT, score, tuple(clips))


def labels(n, over=1):
    """Frame n of the dog as 1 and the cat as 2."""
    found = np.zeros(SIZE, np.uint8)
    found[10:20, 5:15] = 2
    if n != 3:
        found[5:15, n : n + 10] = 1
        found[10:15, 5 : n + 10] = over
    return found


def read(path):
    with Image.open(path) as image:
        return image.mode, np.array(image), image.getpalette()


def test_boxes_and_masks_of_clips_are_one_sequence():
    track = dog()
    assert list(track.frames) == [0, 1, 2, 3, 4] and len(track) == 5 and track.size == SIZE
    assert (track.masks(4) == square(5, 4).numpy()).all() and not track.masks(3).any()
    assert track.boxes([-1, 1]).tolist() == [[4, 5, 14, 15.5], [1, 5, 11, 15]]
    assert track.masks(slice(1, 3)).shape == (2, *SIZE) and track.masks([]).shape == (0, *SIZE)
    for frame in (5, -6):
        with pytest.raises(InputError, match=f"v: wanted frame {frame}, it has 5 frames"):
            track.boxes(frame)
    assert repr(track) == "Track('Red dog' in 'v', score 1.500, 5 frames)"


def test_parts_are_the_clips_frames_that_are_wanted():
    parts = list(dog().parts(range(1, 5, 3)))
    assert [part.frame_indices.tolist() for part in parts] == [[1], [4]]
    assert parts[1].boxes.tolist() == [[4, 5, 14, 15.5]]
    assert [p.frame_indices.tolist() for p in dog().parts(range(2))] == [[0, 1]]


def test_coco_has_an_entry_for_each_frame_in_which_somebody_is_found():
    track = dog()
    found = json.loads(json.dumps(track.to_coco(category_id=7)))
    assert [one["image_id"] for one in found] == [0, 1, 2, 4], "nobody in frame 3"
    assert [one["bbox"] for one in found] == [
        [0, 5, 10, 10],
        [1, 5, 10, 10],
        [2, 5, 10, 10],
        [4, 5, 10, 10.5],
    ]
    for one in found:
        assert (one["category_id"], one["category"], one["score"]) == (7, "Red dog", 1.5)
        assert one["segmentation"]["size"] == list(SIZE)
        mask = coco_mask.decode(one["segmentation"])
        assert (mask == track.masks(one["image_id"])).all() and mask.sum() == 100
    assert [one["image_id"] for one in track.to_coco(slice(1, 4))] == [1, 2]


def test_supervision_has_one_detection_or_none():
    pytest.importorskip("supervision")
    found = dog().to_supervision(4, tracker_id=3)
    assert found.xyxy.tolist() == [[4, 5, 14, 15.5]]
    assert found.mask.shape == (1, *SIZE) and (found.mask[0] == square(5, 4).numpy()).all()
    assert found.confidence.tolist() == [1.5] and found.tracker_id.tolist() == [3]
    assert found.data["text"].tolist() == ["Red dog"]
    assert len(dog().to_supervision(3)) == 0


def test_without_supervision_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match=r"pip install 'aamn\[supervision\]'"):
        dog().to_supervision(0)


@pytest.mark.parametrize(("scores", "over"), [((1.5, 0.5), 1), ((0.5, 1.5), 2)])
def test_tracks_share_davis_s_pictures(tmp_path, scores, over):
    write_davis([dog(scores[0]), cat(scores[1])], tmp_path)
    files = sorted((tmp_path / "v").iterdir())
    assert [file.name for file in files] == [f"{n:05d}.png" for n in range(5)]
    for n, file in enumerate(files):
        mode, found, palette = read(file)
        assert mode == "P" and palette[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
        assert (found == labels(n, over)).all()
    dog().to_davis(tmp_path / "alone")
    assert (read(tmp_path / "alone" / "v" / "00004.png")[1] == square(5, 4).numpy()).all()


def test_youtube_vos_names_each_object_and_its_frames_and_keeps_other_videos(tmp_path):
    write_youtube_vos([dog(), cat()], tmp_path)
    dog(video="a/b").to_youtube_vos(tmp_path)
    for n in range(5):
        found = read(tmp_path / "Annotations" / "v" / f"{n:05d}.png")
        assert found[0] == "P" and (found[1] == labels(n)).all()
    assert (tmp_path / "Annotations" / "a%2Fb" / "00000.png").is_file()
    shown, everywhere = ["00000", "00001", "00002", "00004"], [f"{n:05d}" for n in range(5)]
    one = {"category": "Red dog", "score": 1.5, "frames": shown}
    two = {"category": "a cat!", "score": 0.5, "frames": everywhere}
    assert json.loads((tmp_path / "meta.json").read_text()) == {
        "videos": {"v": {"objects": {"1": one, "2": two}}, "a%2Fb": {"objects": {"1": one}}}
    }
    (tmp_path / "meta.json").write_text("[]")
    with pytest.raises(InputError, match=r"meta\.json is no meta\.json of YouTube-VOS"):
        dog().to_youtube_vos(tmp_path)


@pytest.mark.parametrize("write", [write_davis, write_youtube_vos, plot_tracks])
@pytest.mark.parametrize("tracks", [[], [dog(), dog(video="w")], [dog()] * 256], ids=len)
def test_a_file_holds_tracks_of_one_video(write, tracks, tmp_path):
    with pytest.raises(InputError, match="wanted 1 to 255 tracks of one video"):
        write(tracks, tmp_path)


def test_saving_writes_what_segmenting_writes_for_one_sentence(tmp_path):
    track = dog(source=Frames(5))
    track.save(tmp_path / "one")
    answers = [Answer(0, 2, track.clips[:1]), Answer(2, 5, track.clips[1:])]
    facts = [{"score": 1.5, "matched": True, "absent_threshold": None, "probability": None}]
    (folder,) = write_results(
        tmp_path, "v", Frames(5), [DOG], answers, OutputOptions(range(5)), facts
    )
    assert folder.name == "00_red_dog"
    names, same = (
        sorted(str(file.relative_to(place)) for file in place.rglob("*"))
        for place in (folder, tmp_path / "one")
    )
    assert sorted([*names, "run.json"]) == same
    assert {"masks", "masks/00003.png", "masks.json", "overlay.mp4", "result.json"} <= set(names)
    for name in names:
        if (folder / name).is_file() and name != "overlay.mp4":
            assert (folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_frames_that_are_not_at_hand_can_be_given(tmp_path):
    track = dog()
    with pytest.raises(InputError, match="does not hold its frames; give them as video="):
        track.save(tmp_path)
    track.save(tmp_path / "given", video=Frames(5).video)
    assert json.loads((tmp_path / "given" / "result.json").read_text())["score"] == 1.5
    with pytest.raises(InputError, match=r"has frames of 50x39, .*is of 50x40"):
        track.plot(video=Frames(5).video[:, 1:])


def test_a_plot_shows_the_frames_with_the_mask_and_what_its_colour_means():
    track, video = dog(source=Frames(5)), Frames(5).video
    figure = track.plot([0, -1])
    assert isinstance(figure, Figure)
    for axes, n in zip(figure.axes, (0, 4), strict=True):
        assert axes.get_title() == f"frame {n}"
        picture = axes.images[0].get_array()
        assert (picture == overlay(video[n], track.masks(n))).all()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Red dog"]
    assert [axes.get_title() for axes in track.plot().axes] == [
        *("frame 0", "frame 1", "frame 2", "frame 4")
    ], "four from the first to the last"
    assert len(track.plot(3).axes) == 1


def test_several_tracks_are_plotted_in_their_sentences_colours():
    video = Frames(5)
    figure = plot_tracks([dog(source=video), cat(), cat()], [0])
    picture = figure.axes[0].images[0].get_array()
    shown = labels(0) > 0
    assert (picture[shown] == video.video[0][shown]).all()
    assert picture[4, 3].tolist() == list(COLOURS[0]), "above the dog"
    assert picture[20, 10].tolist() == list(COLOURS[1]), "below the cat"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Red dog", "a cat!"]


def test_a_joined_track_survives_pickling():
    copy = pickle.loads(pickle.dumps(dog()))
    assert (copy.masks() == dog().masks()).all() and copy.text == "Red dog"
