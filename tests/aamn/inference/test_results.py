"""What a run over a whole video leaves behind, from answers that were made by hand."""

import json
import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_videos import SIZE, Frames

from aamn.inference.clip_by_clip import Answer
from aamn.inference.results import OutputOptions, folder_name, run_lengths, write_results
from aamn.structures import MaskTrack, Query, TubeScores
from aamn.visualization.overlays import COLOURS, word_attention
from proposals.errors import InputError

DOG = Query("Red dog", ("red", "dog"), torch.tensor([2, 3]))
CAT = Query("a cat!", ("a", "cat"), torch.tensor([4, 5]))
FOLDERS = ("00_red_dog", "01_a_cat")


@pytest.mark.parametrize(
    ("place", "text", "name"),
    [
        (0, "A red DOG!", "00_a_red_dog"),
        (7, "  ../etc/passwd  ", "07_etc_passwd"),
        (12, "the 2nd one, in blue", "12_the_2nd_one_in_blue"),
        (123, "cat", "123_cat"),
        (1, "x" * 59 + " yy", "01_" + "x" * 59),
        (1, "x" * 70, "01_" + "x" * 60),
    ],
)
def test_a_folder_is_named_after_the_sentence(place, text, name):
    assert folder_name(place, text) == name


def test_run_lengths_go_down_the_columns():
    mask = np.array([[0, 1], [0, 0], [1, 0]], bool)
    # Column by column 0 0 1 1 0 0: two zeros, two ones, two zeros, each a character from "0" on.
    assert run_lengths(mask) == {"size": [3, 2], "counts": "222"}
    assert run_lengths(np.zeros((3, 2), bool)) == {"size": [3, 2], "counts": "6"}


def square(y, x, side=10):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y : y + side, x : x + side] = True
    return mask


def track(query, frames, masks, score, scores=None, tube=0):
    """A track whose box in frame n is (n, 1, n + 10.126, 12)."""
    boxes = torch.tensor([[n, 1.0, n + 10.126, 12.0] for n in frames])
    indices = torch.tensor(frames)
    return MaskTrack("v", query.text, indices, boxes, torch.stack(masks), score, scores, tube)


def dog_masks(frames):
    """A square that moves right, one pixel a frame."""
    return [square(5, n) for n in frames]


def cat_masks(frames):
    """A square that covers a part of the dog's in every frame."""
    return [square(10, 5 + n) for n in frames]


def clip(frames, dog_score, cat_score):
    return Answer(
        frames[0],
        frames[-1] + 1,
        (
            track(DOG, frames, dog_masks(frames), dog_score),
            track(CAT, frames, cat_masks(frames), cat_score),
        ),
    )


def write(out, answers, wanted=None, facts=(), queries=(DOG, CAT), count=12):
    return write_results(out, "v", Frames(count), queries, answers, wanted, facts)


def read(path):
    with Image.open(path) as image:
        return image.mode, np.array(image)


def test_every_wanted_frame_has_its_own_mask_under_its_number(tmp_path):
    frames = [2, 5, 8, 11]
    answers = [clip([2, 5], 1.0, 0.0), clip([8, 11], 1.0, 0.0)]
    folders = write(tmp_path, iter(answers), OutputOptions(range(2, 12, 3)))
    assert folders == [tmp_path / name for name in FOLDERS]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [*FOLDERS, "run.json"], "no palette unasked"
    for folder, masks in zip(folders, (dog_masks(frames), cat_masks(frames)), strict=True):
        names = sorted(path.name for path in (folder / "masks").iterdir())
        assert names == [f"{n:05d}.png" for n in frames]
        codes = json.loads((folder / "masks.json").read_text())
        assert [code["frame"] for code in codes] == frames
        for name, code, mask in zip(names, codes, masks, strict=True):
            mode, picture = read(folder / "masks" / name)
            assert mode == "L" and np.array_equal(picture, mask.numpy() * np.uint8(255))
            assert code["segmentation"] == run_lengths(mask.numpy())


def test_the_record_of_each_clip_by_hand(tmp_path):
    scores = TubeScores(
        total=torch.tensor([0.5, -math.inf, 1.25]),
        actor=torch.tensor([0.25, -math.inf, 1.0]),
        action=torch.tensor([0.25, -math.inf, 0.25]),
        actor_attention=torch.tensor([0.75, 0.25]),
        action_attention=torch.tensor([0.125, 0.875]),
        context_attention=torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.75, 0.25]]),
        context_members=torch.tensor([[-1, 2], [-1, 0], [-1, 0]]),
    )
    first = track(DOG, [0, 1], dog_masks([0, 1]), 1.25, scores, tube=2)
    second = track(DOG, [2], [torch.zeros(SIZE).bool()], -math.inf, None, tube=-1)
    facts = [{"linking": "video", "score": 0.123456789, "present": True, "other": -math.inf}]
    answers = [Answer(0, 2, (first,)), Answer(2, 3, (second,))]
    (folder,) = write(tmp_path, answers, OutputOptions(range(3)), facts, [DOG])
    assert json.loads((folder / "result.json").read_text()) == {
        "video_id": "v",
        "video": {"kind": "unknown", "path": "noise", "bytes": 0, "blocks": ""},
        "sentence": "Red dog",
        "words": ["red", "dog"],
        "actor_attention": [0.75, 0.25],
        "action_attention": [0.125, 0.875],
        "size": [40, 50],
        "linking": "video",
        "score": 0.123457,
        "present": True,
        "other": None,
        "clips": [
            {
                "frames": [0, 2],
                "tube": 2,
                "score": 1.25,
                "boxes": [[0.0, 1.0, 10.13, 12.0], [1.0, 1.0, 11.13, 12.0]],
                "total_scores": [0.5, None, 1.25],
                "actor_scores": [0.25, None, 1.0],
                "action_scores": [0.25, None, 0.25],
                "context_attention": {"clip": 0.75, "tubes": [0.25, 0.0, 0.0]},
            },
            {
                "frames": [2, 3],
                "tube": -1,
                "score": None,
                "boxes": [[2.0, 1.0, 12.13, 12.0]],
            },
        ],
    }
    _, picture = read(folder / "attention.png")
    wanted = word_attention(DOG.tokens, scores.actor_attention, scores.action_attention)
    assert np.array_equal(picture, wanted)


@pytest.mark.parametrize(
    ("tube", "shares"),
    [
        (0, {"clip": 0.5, "tubes": [0.0, 0.125, 0.375]}),
        (1, {"clip": 0.0, "tubes": [0.75, 0.0, 0.25]}),
        (2, {"clip": 1.0, "tubes": [0.0, 0.0, 0.0]}),
    ],
)
def test_shares_of_the_context_stand_at_their_tubes(tmp_path, tube, shares):
    """Members come in any order; a tube that is none of them has no share."""
    weights = torch.tensor([[0.375, 0.5, 0.125], [0.75, 0.25, 0.0], [0.0, 1.0, 0.0]])
    members = torch.tensor([[2, -1, 1], [0, 2, -1], [1, -1, 0]])
    rows, words = [torch.zeros(3)] * 3, [torch.tensor([0.5, 0.5])] * 2
    found = track(DOG, [0], dog_masks([0]), 1.0, TubeScores(*rows, *words, weights, members), tube)
    (folder,) = write(tmp_path, [Answer(0, 1, (found,))], OutputOptions(range(1)), queries=[DOG])
    (entry,) = json.loads((folder / "result.json").read_text())["clips"]
    assert entry["context_attention"] == shares


def test_without_a_chosen_tube_or_a_context_nothing_is_said_of_it(tmp_path):
    rows = [torch.tensor([0.5, 1.0])] * 3
    context = (torch.tensor([[0.5, 0.5]] * 2), torch.tensor([[-1, 1], [-1, 0]]))
    words = [torch.tensor([0.5, 0.5])] * 2
    for tube, more in ((-1, context), (0, ())):
        found = track(DOG, [0], dog_masks([0]), 1.0, TubeScores(*rows, *words, *more), tube)
        (folder,) = write(
            tmp_path, [Answer(0, 1, (found,))], OutputOptions(range(1)), queries=[DOG]
        )
        (entry,) = json.loads((folder / "result.json").read_text())["clips"]
        assert "context_attention" not in entry and entry["total_scores"] == [0.5, 1.0]


def test_facts_go_to_their_own_sentence_and_no_attention_is_drawn_without_weights(tmp_path):
    facts = [{"score": 0.5, "present": True}, {"score": -math.inf, "present": False}]
    folders = write(tmp_path, [clip([0], 1.0, 0.0)], OutputOptions(range(1)), facts)
    records = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert [(r["score"], r["present"]) for r in records] == [(0.5, True), (None, False)]
    assert [r["sentence"] for r in records] == ["Red dog", "a cat!"]
    for record, folder in zip(records, folders, strict=True):
        assert "actor_attention" not in record and not (folder / "attention.png").exists()


@pytest.mark.parametrize(("scores", "shown"), [((2.0, 1.0), 1), ((1.0, 2.0), 2)])
def test_where_sentences_overlap_the_palette_shows_the_higher_score(tmp_path, scores, shown):
    """The dog has rows 5 to 14 and columns n to n + 9, the cat rows 10 to 19 and five further."""
    frames = [0, 1, 2]
    answers = [clip([0, 1], *scores), clip([2], *scores)]
    folders = write(tmp_path, answers, OutputOptions(range(3), palette=True))
    assert folders == [tmp_path / name for name in FOLDERS]
    names = sorted(path.name for path in (tmp_path / "palette").iterdir())
    assert names == ["00000.png", "00001.png", "00002.png"]
    for n, name in zip(frames, names, strict=True):
        mode, labels = read(tmp_path / "palette" / name)
        wanted = np.zeros(SIZE, np.uint8)
        wanted[5:15, n : n + 10] = 1
        wanted[10:20, 5 + n : 15 + n] = 2
        wanted[10:15, 5 + n : 10 + n] = shown
        assert mode == "P" and np.array_equal(labels, wanted)


def test_the_winner_of_an_overlap_is_chosen_clip_by_clip(tmp_path):
    answers = [clip([0], 2.0, 1.0), clip([1], 1.0, 2.0), clip([2], -math.inf, -5.0)]
    write(tmp_path, answers, OutputOptions(range(3), palette=True))
    labels = [read(tmp_path / "palette" / f"{n:05d}.png")[1][12, 7 + n] for n in range(3)]
    assert labels == [1, 2, 2]


def pixels(path):
    """Frames of a film (n, H, W, 3) RGB, and how many of them are shown a second."""
    film, frames = cv2.VideoCapture(str(path)), []
    while (found := film.read())[0]:
        frames.append(cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB))
    return np.array(frames), film.get(cv2.CAP_PROP_FPS)


class Grey(Frames):
    """Frame n is grey, of brightness 40 + 10 n."""

    def __init__(self, count):
        super().__init__(count)
        self.video = np.stack([np.full((*SIZE, 3), 40 + 10 * n, np.uint8) for n in range(count)])


def test_the_film_shows_the_wanted_frames_at_the_videos_pace(tmp_path):
    wanted = OutputOptions(range(1, 12, 2))
    answers = [clip([1, 3, 5], 1.0, 0.0), clip([7, 9, 11], 1.0, 0.0)]
    folders = write_results(tmp_path, "v", Grey(12), [DOG, CAT], answers, wanted)
    for folder, colour, (y, x) in zip(folders, COLOURS, ((5, 0), (10, 5)), strict=False):
        frames, rate = pixels(folder / "overlay.mp4")
        assert frames.shape == (6, 40 + 18, 50, 3), "the sentence stands below the picture"
        assert rate == pytest.approx(10 / 2, rel=1e-3), "every second frame of ten a second"
        for n, frame in zip(wanted.frames, frames.astype(int), strict=True):
            inside = frame[y + 3 : y + 7, x + n + 3 : x + n + 7].mean((0, 1))
            np.testing.assert_allclose(inside, 40 + 10 * n, atol=20)
            outside = frame[30:38, 32:].mean((0, 1))
            np.testing.assert_allclose(outside, 0.4 * (40 + 10 * n), atol=12)
            line = frame[y + 2 : y + 8, x + n + 10].mean(0) - frame[y + 2 : y + 8, x + n + 7].mean(
                0
            )
            assert np.corrcoef(line, colour)[0, 1] > 0.8


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (range(12), [0, 1, 3, 4, 6, 7, 9, 11]),  # eight of twelve: every 11/7-th, rounded down
        (range(2, 12, 3), [2, 5, 8, 11]),
        (range(4, 5), [4]),
    ],
)
def test_the_sheet_shows_eight_frames_from_the_first_to_the_last(tmp_path, wanted, shown):
    answers = [clip([n], 1.0, 0.0) for n in wanted]
    folders = write_results(tmp_path, "v", Grey(12), [DOG, CAT], answers, OutputOptions(wanted))
    places = ((8, 5, 5), (16, 10, 10))
    for folder, colour, (y, x, top) in zip(folders, COLOURS, places, strict=False):
        _, sheet = read(folder / "sheet.png")
        cells = [
            sheet[row : row + 58, left : left + 50]
            for row in range(0, sheet.shape[0], 58 + 4)
            for left in range(0, sheet.shape[1], 50 + 4)
        ]
        assert sheet.shape[1] == min(4, len(shown)) * 54 and len(cells) == len(shown)
        for cell, n in zip(cells, shown, strict=True):
            assert (cell[32:38, 32:48] == round(0.4 * (40 + 10 * n))).all(), "dimmed"
            assert (cell[y : y + 4, x + n] == 40 + 10 * n).all(), "what the mask shows, as it is"
            assert cell[top - 1, x + n].tolist() == list(colour), "a line in its colour"
            assert cell[1, n + 4].tolist() == [255] * 3, "the box"


def test_all_frames_are_wanted_where_nothing_else_is_said(tmp_path):
    (folder, _) = write(tmp_path, [clip([0, 1, 2], 1.0, 0.0)], None, count=3)
    assert pixels(folder / "overlay.mp4")[0].shape[0] == 3
    _, sheet = read(folder / "sheet.png")
    assert sheet.shape == (62, 3 * 54, 3)


def test_the_seventh_sentence_has_the_first_ones_colour(tmp_path):
    queries = [Query(f"s{n}", ("s",), torch.tensor([2])) for n in range(7)]
    tracks = tuple(track(query, [0], dog_masks([0]), 0.0) for query in queries)
    folders = write_results(
        tmp_path, "v", Grey(1), queries, [Answer(0, 1, tracks)], OutputOptions(range(1))
    )
    lines = [tuple(read(folder / "sheet.png")[1][15, 5].tolist()) for folder in folders]
    assert lines == [*COLOURS, COLOURS[0]]


def test_a_run_that_breaks_off_leaves_what_was_there(tmp_path):
    def broken():
        yield clip([0, 1], 1.0, 0.0)
        raise InputError("frame 2 cannot be decoded")

    write(tmp_path, [clip([0], 1.0, 0.0)], OutputOptions(range(1)))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="frame 2"):
        write(tmp_path, broken())
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_answers_to_fewer_sentences_than_asked_are_refused(tmp_path):
    lacking = Answer(0, 1, clip([0], 1.0, 0.0).tracks[:1])
    with pytest.raises(ValueError, match="shorter"):
        write(tmp_path, [lacking], OutputOptions(range(1)))
