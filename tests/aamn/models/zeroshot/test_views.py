import numpy as np
import torch

from aamn.models.zeroshot.masks import ellipse, grabcut
from aamn.models.zeroshot.views import TubeViews, moved, squared


def test_squares_by_hand():
    found = squared(torch.tensor([[0.0, 10.0, 20.0, 20.0]]), 0.25)
    assert found.tolist() == [[-5.0, 0.0, 25.0, 30.0]]


def test_a_mask_lies_where_its_box_is():
    boxes, squares = torch.tensor([[0.0, 0.0, 4.0, 8.0]]), torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    found = moved(torch.ones(1, 4, 4), boxes, squares, 8)[0]
    assert (found[1:7, :3] > 0.99).all() and (found[:, 5:] == 0).all()
    assert torch.allclose(found[0, :3], torch.tensor(0.75))  # a quarter lies above the first cell


def views(masks):
    images = torch.full((1, 3, 16, 16), 0.5)
    boxes = torch.tensor([4.0, 4.0, 12.0, 12.0]).view(1, 1, 1, 4)
    frames, there = torch.zeros(1, 1, 1, dtype=torch.long), torch.ones(1, 1, 1, dtype=torch.bool)
    return TubeViews(images, frames, boxes, masks, torch.ones(1, 1, 2), there)


def test_all_but_the_mask_is_dimmed():
    shown = views(torch.ones(1, 1, 1, 8, 8)).at(torch.tensor([True]))
    plain, dimmed = shown.surroundings(0.5, 16, 0.25)
    assert torch.allclose(plain, torch.full_like(plain, 0.5))
    assert torch.allclose(dimmed[..., 6:10, 6:10], torch.tensor(0.5), atol=1e-4)
    assert torch.allclose(dimmed[..., :3, :3], torch.tensor(0.125))


def test_means_are_of_the_frames_in_which_a_tube_is():
    base = views(torch.ones(1, 1, 1, 8, 8))
    there = torch.tensor([[[True, False]], [[False, False]]])
    some = TubeViews(base.images, base.frames, base.boxes, base.masks, base.classes, there)
    values = torch.tensor([[1.0], [3.0], [5.0], [7.0]])
    assert some.mean(values).flatten().tolist() == [1, 6]


def test_grabcut_finds_what_differs_from_its_surroundings():
    rng = np.random.default_rng(0)
    image = 0.3 + 0.05 * rng.random((3, 64, 64), np.float32)
    y, x = np.mgrid[:64, :64]
    disc = (x - 32) ** 2 + (y - 32) ** 2 < 14**2
    image[0, disc] = 0.9
    box = torch.tensor([[16.0, 16.0, 48.0, 48.0]])
    found = grabcut([torch.from_numpy(image)[None]], torch.tensor([0]), box)[0] > 0
    steps = 16 + (np.arange(28) + 0.5) * 32 / 28
    wanted = (steps[:, None] - 32) ** 2 + (steps - 32) ** 2 < 14**2
    both, either = (found.numpy() & wanted).sum(), (found.numpy() | wanted).sum()
    assert both / either > 0.85


def test_where_nothing_differs_the_ellipse_is_taken():
    image, boxes = torch.full((1, 3, 32, 32), 0.5), torch.tensor([[4.0, 4.0, 28.0, 28.0]])
    found = grabcut([image], torch.tensor([0]), boxes)
    assert torch.equal(found, ellipse([image], torch.tensor([0]), boxes))
    assert found[0, 14, 14] > 0 > found[0, 0, 0]
    assert grabcut([image], torch.zeros(0, dtype=torch.long), torch.zeros(0, 4)).shape == (
        0,
        28,
        28,
    )
