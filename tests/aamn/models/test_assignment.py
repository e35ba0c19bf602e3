"""Which tube a training sentence means, and the mask it learns from."""

from dataclasses import replace

import torch
from tiny_models import random_sample, tiny_segmenter

from aamn.masks import crop_masks
from aamn.models.assignment import assign, mask_targets

KEY = 1


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
    found = assign(samples, boxes, valid, 0.5)
    assert found.clip.tolist() == [0, 0, 1, 1, 1]
    assert found.video.tolist() == [0, 0, 1, 1, 1]
    assert found.tube.tolist() == [0, 1, 0, 0, 2] and found.held.all()


def test_an_actor_without_a_box_is_not_held():
    samples, boxes, valid = make_batch()
    valid[0, 1] = False
    boxes[1, 2] = 0
    found = assign(samples, boxes, valid, 0.9)
    assert found.held.tolist() == [True, False, True, True, False]
    assert found.of_held().tube.tolist() == [0, 0, 0]


def test_sentences_about_one_actor_share_a_mask():
    samples, boxes, valid = make_batch()
    found = assign(samples, boxes, valid, 0.5)
    assert found.one_of_each_actor().tolist() == [0, 1, 2, 4]


def test_masks_are_cut_each_at_its_own_size():
    samples, boxes, valid = make_batch()
    found = assign(samples, boxes, valid, 0.5)
    places = found.one_of_each_actor()
    own = boxes[found.clip[places], found.tube[places]]
    got = mask_targets(samples, places, own, 28)
    masks = [target.mask for sample in samples for target in sample.targets]
    for row, place in enumerate(places.tolist()):
        expected = crop_masks(masks[place][None], own[row][None], 28)[0]
        assert torch.equal(got[row], expected) and expected.mean() > 0.8
