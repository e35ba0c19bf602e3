"""Which tube a training sentence means, and the mask it learns from."""

from dataclasses import replace

import torch
from tiny_models import random_sample, tiny_segmenter

from aamn.models.assignment import Assignment, Referents, assign, mask_targets
from aamn.ops.masks import crop_masks
from aamn.structures import Target

KEY = 1


def referents(samples):
    return [Referents.of(sample) for sample in samples]


def make_batch():
    """Two clips of different sizes; the second has two sentences about one actor."""
    segmenter = tiny_segmenter()
    one = random_sample(segmenter, seed=1, video="a", lengths=(2, 2))
    two = random_sample(segmenter, seed=2, video="b", lengths=(2, 2, 2), size=(50, 40))
    first = two.targets[0]
    two = replace(two, targets=(first, first, two.targets[2]))
    boxes = torch.stack([s.proposals.boxes[KEY] for s in (one, two)])
    return (one, two), boxes, torch.ones(2, 4, dtype=torch.bool)


def test_a_sentence_means_the_box_that_overlaps_its_actor_most():
    samples, boxes, valid = make_batch()
    found = assign(referents(samples), boxes, valid, 0.5)
    assert found.clip.tolist() == [0, 0, 1, 1, 1]
    assert found.video.tolist() == [0, 0, 1, 1, 1]
    assert found.tube.tolist() == [0, 1, 0, 0, 2] and found.held.all()


def test_an_actor_without_a_box_is_not_held():
    samples, boxes, valid = make_batch()
    valid[0, 1] = False
    boxes[1, 2] = 0
    found = assign(referents(samples), boxes, valid, 0.9)
    assert found.held.tolist() == [True, False, True, True, False]
    assert found.of_held().tube.tolist() == [0, 0, 0]


def test_sentences_about_one_actor_share_a_mask():
    samples, boxes, valid = make_batch()
    found = assign(referents(samples), boxes, valid, 0.5)
    assert found.one_of_each_actor().tolist() == [0, 1, 2, 4]


def test_masks_are_cut_each_at_its_own_size():
    samples, boxes, valid = make_batch()
    found = assign(referents(samples), boxes, valid, 0.5)
    places = found.one_of_each_actor()
    own = boxes[found.clip[places], found.tube[places]]
    got = mask_targets(samples, places, own, 28)
    masks = [target.mask for sample in samples for target in sample.targets]
    for row, place in enumerate(places.tolist()):
        expected = crop_masks(masks[place][None], own[row][None], 28)[0]
        assert torch.equal(got[row], expected) and expected.mean() > 0.8


def sample_of(video, boxes, size=(20, 30), instances=None):
    """A sentence for each box, its mask filled."""
    segmenter_sample = random_sample(tiny_segmenter(), video=video, lengths=(1,) * len(boxes))
    targets = []
    for n, (x1, y1, x2, y2) in enumerate(boxes):
        mask = torch.zeros(size, dtype=torch.bool)
        mask[y1:y2, x1:x2] = True
        instance = n if instances is None else instances[n]
        targets.append(Target(instance, torch.tensor([float(x1), y1, x2, y2]), mask))
    return replace(segmenter_sample, targets=tuple(targets))


def test_assignment_by_hand():
    """Three clips, two of one video; IoU exactly one half is enough, and an invalid box, though
    it fits, is nobody's."""
    samples = [
        sample_of("a", [(0, 0, 10, 10)]),
        sample_of("b", [(0, 0, 10, 10), (10, 0, 20, 10)], instances=(7, 3)),
        sample_of("a", [(0, 0, 10, 10), (0, 0, 10, 10)], instances=(7, 7)),
    ]
    whole, half, less, other = (
        [0.0, 0, 10, 10], [0.0, 0, 10, 5], [0.0, 0, 10, 4.9], [10.0, 0, 20, 8]
    )  # fmt: skip
    boxes = torch.tensor([[less, half], [other, half], [whole, less]])
    valid = torch.tensor([[True, True], [True, True], [False, True]])
    found = assign(referents(samples), boxes, valid, 0.5)
    assert found.clip.tolist() == [0, 1, 1, 2, 2]
    assert found.video.tolist() == [0, 1, 1, 0, 0]
    assert found.actor.tolist() == [0, 7, 3, 7, 7]
    assert found.tube.tolist() == [1, 1, 0, 1, 1]
    assert found.held.tolist() == [True, True, True, False, False]
    held = found.of_held()
    assert (held.clip.tolist(), held.video.tolist()) == ([0, 1, 1], [0, 1, 1])
    assert (held.actor.tolist(), held.tube.tolist()) == ([0, 7, 3], [1, 1, 0])
    assert held.held.all() and assign(referents(samples), boxes, valid, 0.49).held.sum() == 5


def test_an_invalid_tube_holds_nobody_even_without_a_least_overlap():
    samples = [sample_of("a", [(0, 0, 10, 10)])]
    boxes, nobody = torch.zeros(1, 2, 4), torch.zeros(1, 2, dtype=torch.bool)
    assert not assign(referents(samples), boxes, nobody, 0.0).held.any()


def test_an_actor_is_known_by_its_clip_too_and_stands_for_its_first_held_sentence():
    clip, actor = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([4, 4, 5, 4, 4])
    held = torch.tensor([False, True, True, True, True])
    zero = torch.zeros_like(clip)
    found = Assignment(clip, zero, held, zero, actor, torch.zeros(5, 1))
    assert found.one_of_each_actor().tolist() == [1, 2, 3]
    nobody = replace(found, held=torch.zeros_like(held))
    assert nobody.one_of_each_actor().tolist() == [] and len(nobody.of_held().clip) == 0


def test_masks_are_cut_to_the_boxes_at_their_places_by_hand():
    """Left half, lower half and all of a box, from frames of two sizes, out of order."""
    samples = [
        sample_of("a", [(0, 0, 4, 8), (8, 4, 16, 8)]),
        sample_of("b", [(0, 0, 40, 40)], size=(40, 40)),
    ]
    boxes = torch.tensor([[8.0, 0, 16, 8], [4, 4, 12, 12], [0, 0, 8, 8]])
    found = mask_targets(samples, torch.tensor([1, 2, 0]), boxes, 4)
    lower, left = torch.zeros(4, 4), torch.zeros(4, 4)
    lower[2:], left[:, :2] = 1, 1
    assert torch.equal(found, torch.stack([lower, torch.ones(4, 4), left]))
