import pytest
import torch

from aamn.data.synthetic.labels import COLOURS as PAINTS
from aamn.models.zeroshot.colours import colour_shares, name_pixels
from aamn.models.zeroshot.sentences import COLOURS


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        *((rgb, name) for name, rgb in PAINTS.items()),
        ((128, 128, 128), "grey"),
        ((255, 150, 170), "pink"),
        ((110, 60, 25), "brown"),
        ((0, 0, 0), "black"),
        ((70, 130, 180), "blue"),
        ((60, 110, 50), "green"),
    ],
)
def test_names(rgb, name):
    assert COLOURS[int(name_pixels(torch.tensor(rgb) / 255))] == name


def test_shares_are_weighed():
    crops = torch.zeros(1, 3, 2, 2)
    crops[0, 0, 0, 0] = 1  # one pixel is red, three are black
    weights = torch.tensor([[[3.0, 1.0], [1.0, 1.0]]])
    found = dict(zip(COLOURS, colour_shares(crops, weights)[0].tolist(), strict=True))
    assert found["red"] == pytest.approx(0.5)
    assert found["black"] == pytest.approx(0.5)
    assert sum(found.values()) == pytest.approx(1)
