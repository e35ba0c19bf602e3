"""Cut-outs before other sequences' backgrounds: masks, words and splits are what they are said to
be."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from tiny_davis import SIZE, WHO, actor_mask, write_davis

from aamn.data.datasets.a2d import A2DSentences
from aamn.data.datasets.a2d_labels import ACTIONS, ACTORS
from aamn.data.datasets.validation import in_validation
from aamn.data.samples import SampleDataset
from aamn.data.synthetic import write_corpus
from aamn.data.synthetic.actors import Actor
from aamn.data.synthetic.casts import Cast
from aamn.data.synthetic.collage import Casting, Collages, CollageStudio, CutoutFigure, tinted
from aamn.data.synthetic.config import CollageConfig, SyntheticConfig
from aamn.data.synthetic.corpus import Entry, plan_video
from aamn.data.synthetic.cutouts import Background, Cutout, Cutouts, cut, read_cutouts
from aamn.data.synthetic.davis import DavisObject, find_sequences
from aamn.data.synthetic.labels import ACTIONS_OF, COLOURS, MOTIONS, label
from aamn.data.synthetic.motions import Stage, Territory, perform
from aamn.data.synthetic.rendering import Camera, render
from aamn.data.synthetic.scenes import Scene, render_scene
from aamn.data.synthetic.truth import videos_by_sentence
from aamn.data.verify.a2d import verify_a2d
from aamn.data.words import Vocabulary
from aamn.evaluation.key_frames import evaluate
from aamn.evaluation.metrics import summarise
from aamn.models.segmenter import Segmenter
from aamn.structures import InputSpec, MaskTrack
from proposals.errors import InputError

CONFIG = CollageConfig(
    seed=4, train_videos=14, test_videos=4, sentences=3, min_frames=12, max_frames=14
)
CLASSES = {
    "adult": "man person guy human",
    "bird": "bird",
    "car": "car automobile auto",
    "dog": "dog doggy",
}
DOINGS = {
    "leftward": r"(moving|going|heading|driving) (to the )?left",
    "rightward": r"(moving|going|heading|driving) (to the )?right",
    "growing": r"coming closer|approaching|getting bigger|growing",
    "shrinking": r"(moving|going) away|getting smaller|shrinking",
    "spinning": r"spinning|turning over|rolling over|tumbling",
    "jumping": r"jumping|hopping|leaping",
    "none": r"standing still|not moving|staying|resting|parked",
}


@pytest.fixture(scope="module")
def davis(tmp_path_factory) -> Path:
    return write_davis(tmp_path_factory.mktemp("davis"))


@pytest.fixture(scope="module")
def corpus(davis, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("collage") / "corpus"
    write_corpus(root, CONFIG, 1, davis)
    return root


@pytest.fixture(scope="module")
def scenes(corpus) -> list[Scene]:
    counts = {"train": CONFIG.train_videos, "test": CONFIG.test_videos}
    entries = [Entry(split, index) for split, count in counts.items() for index in range(count)]
    return [plan_video(corpus, CONFIG, entry) for entry in entries]


def full_video(root: Path, scene: Scene) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Instance -> masks (N, H, W) bool and boxes (N, 4)."""
    with h5py.File(root / "text_annotations/full_video" / f"{scene.video_id}.h5") as file:
        order = file["instance"][()].tolist()
        masks, boxes = file["masks"][()] > 0, file["boxes"][()]
    return dict(zip(order, masks, strict=True)), dict(zip(order, boxes, strict=True))


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


# The folder


def test_sequences_are_found_in_the_folder_and_in_those_it_holds(davis, tmp_path):
    found = find_sequences(davis)
    assert [one.name for one in found] == sorted(WHO) and {len(one) for one in found} == {24}
    assert [one.objects[0].actor for one in found] == ["dog", "car", "adult", "bird"]
    frame, mask = found[0].read(3)
    assert frame.shape == (*SIZE, 3) and set(np.unique(mask)) == {0, 1}
    np.testing.assert_array_equal(mask == 1, actor_mask(3))
    (tmp_path / "more").symlink_to(davis)
    assert [one.name for one in find_sequences(tmp_path)] == sorted(WHO)


def test_without_expressions_the_names_tell(tmp_path):
    root = write_davis(tmp_path, 1, {n: ("", (9, 9, 9)) for n in ("car-shadow", "tree", "libby")})
    (root / "expressions.csv").unlink()
    objects = {one.name: one.objects for one in find_sequences(root)}
    assert objects == {"car-shadow": (DavisObject(1, "car"),), "libby": (), "tree": ()}


def break_folder(root: Path, fault: str) -> None:
    frames, masks = (root / kind / "480p/old-car" for kind in ("JPEGImages", "Annotations"))
    if fault == "empty":
        for file in frames.iterdir():
            file.unlink()
    elif fault == "mask":
        (masks / "00001.png").unlink()
    elif fault == "size":
        cv2.imwrite(str(masks / "00001.png"), np.zeros((5, 7), np.uint8))
    elif fault == "damaged":
        (frames / "00001.jpg").write_bytes(b"no picture")
    elif fault == "row":
        (root / "expressions.csv").write_text("old-car,a car\n")
    elif fault == "unknown":
        (root / "expressions.csv").write_text("old-car,1,a tree\n")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("empty", "old-car: the sequence holds no image"),
        ("mask", r"00001\.png is not there: every frame of .*old-car wants a mask"),
        ("size", r"00001\.png: the mask is 7x5, its frame 96x72"),
        ("damaged", r"00001\.jpg is no readable image"),
        ("row", r"expressions\.csv, line 1: wanted video_id,object_id,expression"),
        ("unknown", "no expression and no name tells of one of A2D's actors"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(fault, said, tmp_path):
    root = write_davis(tmp_path / "davis", 2, {"old-car": WHO["old-car"]})
    break_folder(root, fault)
    with pytest.raises(InputError, match=said):
        [one.read(index) for one in find_sequences(root) for index in range(len(one))]


def test_other_folders_and_corpora_are_refused(davis, corpus, tmp_path):
    with pytest.raises(InputError, match="holds no sequence in DAVIS's layout: wanted JPEGImages"):
        find_sequences(tmp_path)
    with pytest.raises(InputError, match=r"nothing is no folder"):
        find_sequences(tmp_path / "nothing")
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(davis)
    with pytest.raises(InputError, match="the sequence brown-dog is there twice"):
        find_sequences(tmp_path)
    with pytest.raises(InputError, match="a collage wants a folder of sequences"):
        write_corpus(tmp_path / "c", CONFIG, 1)
    with pytest.raises(InputError, match="drawings want none"):
        write_corpus(tmp_path / "c", SyntheticConfig(), 1, davis)
    assert not (tmp_path / "c").exists()
    other = write_davis(tmp_path / "other", 23)
    with pytest.raises(InputError, match=r"another configuration \(cutouts changed\)"):
        write_corpus(corpus, CONFIG, 1, other)
    few = write_davis(tmp_path / "few", 24, {"old-car": WHO["old-car"]})
    with pytest.raises(InputError, match="too few sequences"):
        write_corpus(tmp_path / "d", CONFIG, 1, few)


# Cutting out


class Frames:
    """A sequence of given frames and masks."""

    name, objects = "car", (DavisObject(1, "car"),)

    def __init__(self, masks: list[np.ndarray]) -> None:
        self.masks = masks

    def __len__(self) -> int:
        return len(self.masks)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        mask = self.masks[index].astype(np.uint8)
        grey = np.where(mask > 0, 200, 50).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2), mask


def square(side: int, left: int = 40, rope: bool = False) -> np.ndarray:
    mask = np.zeros((120, 160), bool)
    mask[60 - side // 2 : 60 + side // 2, left : left + side] = True
    if rope:
        mask[:60, left + side // 2] = True
    return mask


def test_an_actor_is_cut_out_at_one_size_without_ropes_and_only_where_it_is_whole():
    near = [square(40 + 4 * n, rope=n == 3) for n in range(8)]
    cut_off, half, small = square(40, left=0), near[4] & (np.arange(160) < 60), square(20)
    found = cut(Frames([*near[:5], cut_off, half, small, *near[5:]]), height=100)
    (actor,) = found.actors
    assert len(actor.rgba) == 8, "the edge cuts one, another is half hidden, a third is tiny"
    assert actor.unit == 60 and actor.time.tolist() == [n / 8 for n in range(8)]
    for picture in actor.rgba:
        solid = picture[..., 3] > 127
        assert abs(solid.sum() ** 0.5 - 60) <= 2
        assert (picture[solid][:, :3] == 200).all(), "no colour of the background"
    assert np.abs(actor.half - 0.5).max() < 0.04 and np.abs(actor.reach - 0.707).max() < 0.06
    (background,) = found.backgrounds
    assert background.rgb.shape[1:] == (190, 253, 3)
    assert np.abs(background.rgb.astype(int) - 50).max() <= 12, "the actor is painted over"
    assert not background.real[0][95, 95] and background.real[0][10, 10]


def block(width: int = 20, height: int = 10) -> Cutout:
    """A cut-out whose left half is black and whose right half is white; 20 pixels are its size."""
    rgba = np.zeros((2, 24, 24, 4), np.uint8)
    top, left = 12 - height // 2, 12 - width // 2
    rgba[:, top : top + height, left : left + width, 3] = 255
    rgba[:, :, 12:, :3] = 255
    return Cutout("car", "one", 20, rgba, np.array((0, 0.5)), np.full((2, 2), 0.5), np.ones(2))


def still(action: str = "none", heading: float = 1.0, angle: float = 0.0, scale: float = 1.0):
    """An actor of 20 pixels that stands at (30, 20)."""
    track = perform("none", Stage(Territory(30, 20, 30, 20), 3, 60, np.random.default_rng(0)))
    same = {"heading": heading, "rotation": angle, "scale": scale}
    track = replace(track, **{key: np.full(3, value) for key, value in same.items()})
    return Actor(0, "car", "", action, 20.0, track, CutoutFigure(block(), "", 0, 1.0, 0.0))


@pytest.mark.parametrize(
    ("actor", "box", "bright"),
    [
        (still(), (20, 15, 40, 25), (30, 15, 40, 25)),
        (still(heading=-1.0), (20, 15, 40, 25), (20, 15, 30, 25)),
        (still(scale=0.5), (25, 17.5, 35, 22.5), (30, 17.5, 35, 22.5)),
        (still(angle=np.pi / 2), (25, 10, 35, 30), (25, 20, 35, 30)),  # clockwise: right goes down
    ],
)
def test_a_cut_out_lies_where_its_track_says(actor, box, bright):
    for shift in ((0, 0), (3, -2)):
        layer = actor.figure.layer(actor, 1, np.array(shift, float))
        cover, light = np.zeros((60, 80)), np.zeros((60, 80))
        place, inside = layer.placed(60, 80)
        cover[place], light[place] = layer.cover[inside], layer.rgb[inside][..., 0]
        for picture, wanted in ((cover, box), (light, bright)):
            x0, y0, x1, y1 = np.array(wanted) + (*shift, *shift)
            area = (x1 - x0) * (y1 - y0)
            assert picture.sum() == pytest.approx(area, rel=0.08)
            y, x = np.mgrid[:60, :80] + 0.5
            middle = (picture * x).sum() / picture.sum(), (picture * y).sum() / picture.sum()
            np.testing.assert_allclose(middle, ((x0 + x1) / 2, (y0 + y1) / 2), atol=0.3)


def test_the_annotated_mask_is_where_the_cut_out_changes_the_picture():
    """Red on grey, rendered with the actor and without."""
    actor = replace(still(), colour="red", figure=CutoutFigure(block(), "red", 0, 1.0, 0.0))
    camera = Camera(np.zeros((3, 2)), np.zeros((3, 2)))

    def grey(rng, height, width, unit):
        return np.full((height, width, 3), 128, np.float32)

    shown, bare = (
        render(actors, (), camera, (60, 80), np.random.default_rng(0), 0.0, grey)
        for actors in ((actor,), ())
    )
    away = np.abs(shown.frames.astype(int) - bare.frames).max(-1)
    np.testing.assert_array_equal(shown.masks[0], away > 40)
    assert shown.masks[0].sum() == 3 * 200


def hue(rgb: np.ndarray) -> np.ndarray:
    """Degrees of the colour circle, of pixels (n, 3)."""
    return cv2.cvtColor(rgb[None].astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[0, :, 0]


def colour_of(pixels: np.ndarray) -> str:
    """The colour that most of the pixels (n, 3) have: dark, grey and light, or by their hue."""
    high, low = pixels.max(1), pixels.min(1)
    names = [name for name in COLOURS if name not in ("black", "white")]
    circle = hue(np.array([COLOURS[name] for name in names]))
    away = np.abs((hue(pixels)[:, None] - circle + 180) % 360 - 180)
    found = np.where(high - low < 0.3 * high, "white", np.array(names)[away.argmin(1)])
    named, counts = np.unique(np.where(high < 85, "black", found), return_counts=True)
    assert counts.max() > 0.6 * counts.sum(), dict(zip(named, counts, strict=True))
    return str(named[counts.argmax()])


@pytest.mark.parametrize("colour", COLOURS)
def test_a_tinted_picture_is_of_its_colour(colour):
    """Whatever it was."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        coat = rng.integers(0, 256, 3)
        rgb = np.clip(coat * rng.uniform(0.2, 1.2, (40, 30, 1)), 0, 255).astype(np.uint8)
        grey = rgb @ np.array((0.299, 0.587, 0.114))
        pixels = tinted(rgb, (float(grey.min()), float(grey.max())), colour).reshape(-1, 3)
        assert colour_of(pixels) == colour
    same = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(tinted(same, (0, 9), ""), same)


@pytest.mark.parametrize("action", MOTIONS)
def test_the_path_is_what_the_motion_says(action):
    room = Territory(25, 30, 135, 90)
    for seed in range(20):
        track = perform(action, Stage(room, 24, 120, np.random.default_rng(seed)))
        steps = [np.diff(values) for values in (track.x, track.y, track.scale, track.rotation)]
        moving = [not np.allclose(step, 0) for step in steps]
        wanted = {"jumping": (0, 1, 0, 0), "spinning": (0, 0, 0, 1), "none": (0, 0, 0, 0)}
        wanted |= dict.fromkeys(("leftward", "rightward"), (1, 0, 0, 0))
        wanted |= dict.fromkeys(("growing", "shrinking"), (0, 0, 1, 0))
        assert tuple(map(int, moving)) == wanted[action]
        sign = {"leftward": -1, "shrinking": -1, "rightward": 1, "growing": 1}.get(action)
        if sign:
            assert (sign * steps[0 if action.endswith("ward") else 2] > 0).all()
        if action.endswith("ward"):
            assert np.ptp(track.x) > 24 and (track.heading == sign).all()
        assert room.left <= track.x.min() and track.x.max() <= room.right
        assert track.scale.max() == pytest.approx(1) and track.scale.min() >= 0.5


def test_every_motion_has_a_number_that_a2d_knows():
    for actor in ACTORS:
        for action in MOTIONS:
            number = label(actor, action)
            assert ACTORS[number // 10 - 1] == actor
            assert ACTIONS[number % 10 - 1] in ACTIONS_OF[actor]
    assert (label("bird", "leftward"), label("dog", "rightward")) == (44, 77)


# The corpus


def test_written_masks_are_the_pasted_ones_and_colours_are_in_the_pixels(corpus, scenes):
    seen = set()
    for scene in scenes:
        rendering = render_scene(scene, CONFIG.noise)
        masks, _ = full_video(corpus, scene)
        for place, actor in enumerate(scene.actors):
            np.testing.assert_array_equal(masks[actor.instance], rendering.masks[place])
            for frame in scene.annotated if actor.colour else ():
                own = rendering.masks[place, frame].astype(np.uint8)
                inside = cv2.erode(own, np.ones((3, 3), np.uint8)) > 0
                if inside.any():
                    assert colour_of(rendering.frames[frame][inside]) == actor.colour
            seen.add(actor.colour)
    assert "" in seen and len(seen) > 5


def said(text: str, words: dict[str, str]) -> str | None:
    found = {key for key, forms in words.items() if set(forms.split()) & set(text.split())}
    assert len(found) <= 1, f"{text!r} says {found}"
    return found.pop() if found else None


def read_doing(text: str) -> tuple[str | None, str]:
    """The motion of a sentence, and what is left of its words."""
    for doing, pattern in DOINGS.items():
        rest, count = re.subn(pattern, "", text)
        if count:
            return doing, rest
    return None, text


PLACES = {
    "left": "left",
    "right": "right",
    "top": "top upper",
    "bottom": "bottom lower",
    "middle": "middle center centre",
}


def fits_place(boxes: dict[int, np.ndarray], frames, own: int, others: list[int], place) -> bool:
    """Whether `own` alone lies there: of all boxes, in every annotated frame, by its centre."""
    if place is None:
        return True
    axis = int(place in ("top", "bottom"))
    centre = {i: (boxes[i][list(frames)][:, axis] + boxes[i][list(frames)][:, axis + 2]) / 2
              for i in (own, *others)}  # fmt: skip
    below = np.array([centre[own] < centre[i] for i in others])
    if place in ("left", "top"):
        return bool(below.all())
    if place in ("right", "bottom"):
        return not below.any()
    return bool(below.any() and not below.all())


def test_a_sentence_is_true_of_exactly_its_actor(corpus, scenes):
    """Read back word by word; motions and places are judged by the boxes of the annotation."""
    kinds = set()
    for scene in scenes:
        _, boxes = full_video(corpus, scene)
        for sentence in scene.sentences:
            doing, rest = read_doing(sentence.text.lower().replace(",", ""))
            name, place = said(rest, CLASSES), said(rest, PLACES)
            colour = said(rest, {one: one for one in COLOURS})
            alike = [
                actor.instance
                for actor in scene.actors
                if actor.name == name
                and (colour is None or actor.colour in ("", colour))
                and doing in (None, actor.action)
            ]
            case = f"{scene.video_id}: {sentence.text}"
            assert sentence.instance in alike, case
            others = [one for one in alike if one != sentence.instance]
            assert not others or place is not None, case
            assert fits_place(boxes, scene.annotated, sentence.instance, others, place), case
            kinds.add(sentence.kind)
        for actor in scene.actors:
            if not actor.action.endswith("ward"):
                continue
            own = boxes[actor.instance][list(scene.annotated)]
            own = own[(own[:, 0] > 0) & (own[:, 2] > 0) & (own[:, 2] < CONFIG.width)]
            if len(own) > 1:  # of those who are not just coming in
                way = (own[-1] - own[0])[[0, 2]].sum()
                assert (way > 0) == (actor.action == "rightward"), scene.video_id
    assert kinds == {"appearance", "location", "motion"}


class Oracle(Segmenter):
    """Answers with the annotated masks."""

    def __init__(self, source: A2DSentences) -> None:
        super().__init__()
        self.input_spec = InputSpec((0,), (16, 16), flow=False, proposals=0)
        self.targets = {(key.video_id, key.frame): source.targets(key) for key in source.key_frames}

    def segment(self, clip, proposals, queries):
        at = clip.frame_indices
        return [
            MaskTrack(clip.video_id, query.text, at, target.box[None], target.mask[None], 1.0)
            for query, target in zip(queries, self.targets[clip.video_id, int(at[0])], strict=True)
        ]


def test_nothing_is_wrong_with_the_files_and_their_own_masks_score_100(corpus):
    assert not verify_a2d(corpus).findings
    source = A2DSentences(corpus, "test")
    oracle = Oracle(source)
    samples = SampleDataset(source, oracle.input_spec, Vocabulary.build(source.texts()))
    every = (samples[i] for i in range(len(samples)))
    found = summarise(evaluate(oracle, every, system="oracle", data="collage").rows)
    assert found["P@0.9"] == found["Mean IoU"] == found["Overall IoU"] == 1.0


def test_the_same_seed_gives_the_same_bytes_and_what_is_there_is_kept(corpus, davis, tmp_path):
    again = tmp_path / "again"
    config = replace(CONFIG, train_videos=1, test_videos=1)
    write_corpus(tmp_path / "first", config, 1, davis)
    write_corpus(again, config, 1, davis)
    assert digests(again) == digests(tmp_path / "first")
    next((again / "Release/clips320H").iterdir()).unlink()
    assert write_corpus(again, config, 1, davis).written == 1
    assert digests(again) == digests(tmp_path / "first")


def test_splits_share_no_frame_of_an_actor_and_test_backgrounds_are_its_own(corpus, scenes):
    cutouts = read_cutouts(corpus / "cutouts.h5")
    whole = {one.sequence: [p.tobytes() for p in one.rgba] for one in cutouts.actors}
    frames: dict[str, set] = {"train": set(), "validation": set(), "test": set()}
    behind: dict[str, set] = {"train": set(), "validation": set(), "test": set()}
    for number, scene in enumerate(scenes):
        split = "test" if number >= CONFIG.train_videos else "train"
        if split == "train" and in_validation(scene.video_id, CONFIG.validation_share):
            split = "validation"
        own = {actor.figure.cutout.sequence for actor in scene.actors}
        names = {one.sequence for one in scene.backdrop.backgrounds}
        assert not own & names, "nobody stands before its own sequence"
        behind[split] |= names
        for actor in scene.actors:
            name = actor.figure.cutout.sequence
            frames[split] |= {
                (name, whole[name].index(p.tobytes())) for p in actor.figure.cutout.rgba
            }
    assert frames["train"] and frames["test"] and behind["train"] and behind["test"]
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert not frames[one] & frames[other]
    assert not behind["test"] & (behind["train"] | behind["validation"])


def test_busy_sequences_are_no_background_and_some_actors_play_in_training_alone():
    def background(name):
        return Background(
            name, np.zeros((10, 8, 8, 3), np.uint8), np.ones((10, 8, 8), bool), np.arange(10) / 10
        )

    def actor(name):
        time = np.arange(30) / 30
        half = np.ones((30, 2))
        return Cutout("dog", name, 4.0, np.zeros((30, 4, 4, 4), np.uint8), time, half, half[:, 0])

    names = "abcdef"
    cutouts = Cutouts(tuple(map(actor, names)), tuple(map(background, names)))
    collages = Collages(cutouts, Casting(0.2, ("a",), ("b", "c")))
    learned = next(video for video in "xyz" if not in_validation(video, 0.2))
    test, train = collages.studio("test", "x"), collages.studio("train", learned)
    rng = np.random.default_rng(0)

    def cast(studio: CollageStudio) -> set[str]:
        member = Cast("dog", "", "none")
        return {studio.figure(member, rng).cutout.sequence for _ in range(99)}

    assert cast(train) == set("abcdef") and cast(test) == set("adef")
    assert {one.sequence for one in train.backdrop([]).backgrounds} == set("bde")
    assert {one.sequence for one in test.backdrop([]).backgrounds} == {"c", "f"}


def test_a_collage_answers_for_other_videos_too(corpus, scenes):
    true = videos_by_sentence(corpus, "test")
    for scene in scenes[CONFIG.train_videos :]:
        for sentence in scene.sentences:
            assert scene.video_id in true[sentence.text]


def test_real_sequences(real_data, tmp_path):
    """Every third frame of four DAVIS sequences: actors of all four classes, small corpus."""
    if not (real_data / "davis").is_dir():
        pytest.skip(f"no DAVIS sequences at {real_data}/davis")
    for name in ("blackswan", "car-shadow", "dog", "libby"):
        for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
            folder = tmp_path / "davis" / kind / "480p" / name
            folder.mkdir(parents=True)
            for index in range(0, 40, 3):
                file = f"{index:05d}.{suffix}"
                (folder / file).symlink_to(real_data / "davis" / kind / "480p" / name / file)
    config = replace(CONFIG, train_videos=2, test_videos=1, validation_share=0.0)
    summary = write_corpus(tmp_path / "corpus", config, 1, tmp_path / "davis")
    assert summary.written == 4 and summary.annotated_frames >= 9
    cutouts = read_cutouts(tmp_path / "corpus" / "cutouts.h5")
    assert {one.actor for one in cutouts.actors} == {"bird", "car", "dog"}
    for one in cutouts.actors:
        assert 0.45 <= one.half.max() <= 0.8, one.sequence
