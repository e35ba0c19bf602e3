"""Every sentence is true of exactly one actor, for the reason its kind names."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from aamn.data.datasets.a2d_labels import ACTORS
from aamn.data.synthetic import SyntheticConfig
from aamn.data.synthetic.casts import PROGRAMME
from aamn.data.synthetic.labels import ACTIONS_OF, COLOURS, label
from aamn.data.synthetic.rendering import frame_layers, visible_masks
from aamn.data.synthetic.scenes import Scene, plan_scene, render_scene, video_seed
from aamn.data.synthetic.sentences import KINDS, places
from proposals.errors import InputError

CONFIG = SyntheticConfig(seed=11)

# What a reader takes each word for; words that are missing here say nothing of the actor.
CLASSES = {
    "adult": "man person guy adult human",
    "baby": "baby toddler infant child",
    "ball": "ball",
    "bird": "bird parrot pigeon",
    "car": "car vehicle automobile",
    "cat": "cat kitty kitten pussycat",
    "dog": "dog puppy doggy",
}
DOINGS = {
    "climbing": "climbing clambering",
    "crawling": "crawling creeping",
    "eating": "eating feeding having",
    "flying": "flying soaring",
    "jumping": "jumping hopping leaping bouncing",
    "rolling": "rolling tumbling",
    "running": "running sprinting racing driving",
    "walking": "walking strolling taking",
    "none": "standing not staying resting parked parking lying",
}
SIDES = {
    "left": "left",
    "right": "right",
    "top": "top upper",
    "bottom": "bottom lower",
    "middle": "middle center centre",
}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [plan_scene(CONFIG, "train", index) for index in range(84)]


def read(text: str, lexicon: dict[str, str]) -> str | None:
    """What the words of a sentence say in terms of one lexicon."""
    words = text.lower().split()
    said = {key for key, forms in lexicon.items() if set(forms.split()) & set(words)}
    assert len(said) <= 1, f"{text!r} says {said}"
    return said.pop() if said else None


def annotated_masks(scene: Scene) -> np.ndarray:
    """Visible masks (A, n, H, W) in the annotated frames."""
    masks = []
    for frame in scene.annotated:
        layers = frame_layers(scene.actors, scene.occluders, scene.camera, frame)
        masks.append(visible_masks(layers, len(scene.actors), *scene.size))
    return np.array(masks)


def side_of(scene: Scene, masks: np.ndarray, number: int, others: list[int], side: str) -> bool:
    """Whether an actor's mask lies on that side, and none of the others' does, in all frames."""
    for shown in masks:
        at = {}
        for n in (number, *others):
            ys, xs = np.nonzero(shown[n])
            x, y = (xs.min() + xs.max() + 1) / 2, (ys.min() + ys.max() + 1) / 2
            at[n] = x / scene.size[1], y / scene.size[0]
        x, y = at[number]
        axis = int(side in ("top", "bottom"))
        if min(abs(at[n][axis] - at[number][axis]) for n in others) < 0.15:
            return False
        lower, upper = (
            [n for n in others if at[n][axis] < at[number][axis]],
            [n for n in others if at[n][axis] > at[number][axis]],
        )
        true = {
            "left": not lower and x < 0.5,
            "right": not upper and x > 0.5,
            "top": not lower and y < 0.5,
            "bottom": not upper and y > 0.5,
            "middle": bool(lower and upper) and abs(x - 0.5) < 0.16,
        }
        if not true[side]:
            return False
    return True


def test_sentences_fit_exactly_one_actor_for_the_reason_given(scenes):
    """Reads the sentences back word by word and compares them with the actors and their masks."""
    for scene in scenes:
        masks = annotated_masks(scene)
        for sentence in scene.sentences:
            name, colour = (
                read(sentence.text, CLASSES),
                read(sentence.text, {c: c for c in COLOURS}),
            )
            doing, side = read(sentence.text, DOINGS), read(sentence.text, SIDES)
            looks = [
                n
                for n, actor in enumerate(scene.actors)
                if name == actor.name and colour in (None, actor.colour)
            ]
            does = [n for n, a in enumerate(scene.actors) if doing in (None, a.action)]
            both = [n for n in looks if n in does]
            own = next(n for n, a in enumerate(scene.actors) if a.instance == sentence.instance)
            case = f"{scene.video_id}: {sentence}"
            assert own in both, case
            assert sentence.distractors >= 2, case
            if sentence.kind == "appearance":
                assert (side, looks, len(does)) == (None, [own], sentence.distractors), case
            elif sentence.kind == "motion":
                assert doing is not None, case
                assert (side, both, len(looks)) == (None, [own], sentence.distractors), case
            else:
                assert len(both) == sentence.distractors, case
                others = [n for n in both if n != own]
                assert side_of(scene, masks, own, others, side), case


def test_look_alikes_of_each_kind(scenes):
    """The actors that a video is about differ in what its kind names, and in nothing else."""
    for scene in scenes:
        own = [s.instance for s in scene.sentences if s.kind == scene.kind]
        about = [actor for actor in scene.actors if actor.instance in own]
        looks = {(a.name, a.colour) for a in about}
        actions = {a.action for a in about}
        want = {
            "appearance": (len(about), 1),
            "motion": (1, len(about)),
            "location": (1, 1),
        }[scene.kind]
        assert len(about) >= 2
        assert (len(looks), len(actions)) == want


def test_every_video_has_a_distractor_and_every_actor_a_sentence(scenes):
    for scene in scenes:
        assert 2 <= len(scene.actors) <= 4
        assert sorted(s.instance for s in scene.sentences) == list(range(len(scene.actors)))
        assert all(actor.action in ACTIONS_OF[actor.name] for actor in scene.actors)
        assert 3 <= len(scene.annotated) <= 5
        assert scene.annotated[0] >= 0 and scene.annotated[-1] < scene.frames


def test_kinds_places_classes_and_actions_are_balanced(scenes):
    kinds = Counter(s.kind for scene in scenes for s in scene.sentences)
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) > 0.25 * sum(kinds.values())
    sides = Counter(s.description.place for scene in scenes for s in scene.sentences)
    for side in ("left", "right", "top", "bottom"):
        assert sides[side] > 0.12 * kinds["location"]
    assert sides["middle"] > 0
    names = Counter(actor.name for scene in scenes for actor in scene.actors)
    assert set(names) == set(ACTORS) and min(names.values()) > 0.5 * max(names.values())


def test_wording_varies_as_annotators_do(scenes):
    texts = [s.text for scene in scenes for s in scene.sentences]
    words = {word for text in texts for word in text.lower().split()}
    assert 80 <= len(words) <= 150
    assert len(set(texts)) > 0.85 * len(texts)
    assert any(text != text.strip() for text in texts)
    assert any(text.strip()[0].isupper() for text in texts)
    assert not any(mark in text for text in texts for mark in ',"\n')
    assert not any("  " in text or text.split()[-1] == "is" for text in texts)


def test_masks_are_of_visible_pixels(scenes):
    """No pixel shows two actors; each shows most of itself, or comes in later; and all through
    the corpus actors are partly hidden."""
    hidden = 0
    for scene in scenes:
        masks = annotated_masks(scene)
        assert masks.sum(1).max() == 1
        assert masks.any((2, 3)).any(0).all(), "everybody is seen at least once"
        for frame, shown in zip(scene.annotated, masks, strict=True):
            layers = frame_layers(scene.actors, (), scene.camera, frame)
            for layer, mask in zip(layers, shown, strict=True):
                share = mask.sum() / (layer.cover >= 0.5).sum()
                assert share == 0 or share >= 0.3
                hidden += 0 < share < 0.95
    assert hidden > 0.5 * len(scenes)


def test_no_two_videos_share_a_seed():
    seeds = {
        split: {video_seed(7, split, index) for index in range(500)}
        for split in ("train", "test", "missed")
    }
    assert len(set().union(*seeds.values())) == 1500
    assert video_seed(7, "train", 0) != video_seed(8, "train", 0)


def test_planning_and_drawing_are_deterministic():
    first, second = (plan_scene(CONFIG, "test", 4) for _ in range(2))
    assert first.sentences == second.sentences and first.video_id == second.video_id
    one, two = (render_scene(scene, 2.0) for scene in (first, second))
    np.testing.assert_array_equal(one.frames, two.frames)
    np.testing.assert_array_equal(one.masks, two.masks)


def test_ids_look_like_those_of_a2d(scenes):
    ids = [scene.video_id for scene in scenes]
    assert len(set(ids)) == len(ids) and {len(name) for name in ids} == {11}
    assert any(name.startswith("-") for name in ids) and any("_" in name for name in ids)


def test_programme_turns_through_all_kinds():
    assert set(PROGRAMME) == set(KINDS)


@pytest.mark.parametrize(
    ("pair", "want"), [(("adult", "climbing"), 11), (("bird", "flying"), 44), (("dog", "none"), 79)]
)
def test_labels_are_those_of_a2d(pair, want):
    assert label(*pair) == want


@pytest.mark.parametrize(
    ("centres", "want"),
    [
        # one frame, a picture of 100 x 100
        ([[(20, 50)], [(80, 50)]], [{"left"}, {"right"}]),
        ([[(20, 10)], [(80, 90)]], [{"left", "top"}, {"right", "bottom"}]),
        ([[(20, 50)], [(50, 50)], [(80, 50)]], [{"left"}, {"middle"}, {"right"}]),
        ([[(20, 50)], [(30, 50)]], [set(), set()]),  # nearer than 15 %
        ([[(60, 50)], [(90, 50)]], [set(), {"right"}]),  # left of it, but not on the left
        ([[(20, 50), (80, 50)], [(80, 50), (20, 50)]], [set(), set()]),  # they change sides
        ([[(20, 50), (np.nan, np.nan)], [(80, 50), (80, 50)]], [set(), set()]),  # not there yet
    ],
)
def test_places(centres, want):
    assert places(np.array(centres, float), (100, 100)) == [frozenset(words) for words in want]


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 161},
        {"height": 32},
        {"min_frames": 8},
        {"min_frames": 30, "max_frames": 29},
        {"test_videos": -1},
        {"codec": "h264x"},
    ],
)
def test_impossible_configurations_name_the_key(wrong):
    with pytest.raises(InputError, match=next(iter(wrong)).split("_")[0]):
        SyntheticConfig(**wrong)
