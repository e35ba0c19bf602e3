"""Pictures of every kind are the same eight bits of red, green and blue, or refused by name."""

import warnings

import numpy as np
import pytest
from PIL import Image

from proposals.errors import InputError
from proposals.frames import open_frames, take_frames
from proposals.pictures import opened_picture, read_picture

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)
COLOURS = [(200, 30, 40), (20, 180, 90), (0, 0, 0), (255, 255, 255)]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_are_scaled_not_saturated(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray((RAMP * 256 + 7).astype(np.uint16)).save(path)
    assert (read_picture(path) == RAMP[..., None]).all()
    with Image.open(path) as image:
        assert (take_frames([image]).read([0])[0] == RAMP[..., None]).all()


def coloured() -> Image.Image:
    pixels = np.repeat(np.repeat(np.array(COLOURS, np.uint8).reshape(2, 2, 3), 16, 0), 16, 1)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("mode", "name", "near"),
    [
        ("P", "a.png", 0),
        ("RGBA", "a.png", 0),
        ("CMYK", "a.jpg", 12),
        ("YCbCr", "a.jpg", 12),
        ("CMYK", "a.tiff", 2),
    ],
)
def test_colours_are_those_that_were_saved(tmp_path, mode, name, near):
    palette = coloured().convert("P", palette=Image.Palette.ADAPTIVE)
    image = palette if mode == "P" else coloured().convert(mode)
    image.save(tmp_path / name, **({"quality": 95} if name.endswith("jpg") else {}))
    found = read_picture(tmp_path / name)[8::16, 8::16].reshape(4, 3).astype(int)
    assert np.abs(found - COLOURS).max() <= near


def test_a_palette_with_opacity_and_grey_with_opacity(tmp_path):
    palette = coloured().convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "p.png", transparency=0)
    assert (read_picture(tmp_path / "p.png") == np.asarray(coloured())).all()
    Image.new("LA", (2, 2), (77, 0)).save(tmp_path / "g.png")
    assert (read_picture(tmp_path / "g.png") == 77).all()


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_as_it_is_looked_at(tmp_path, turn):
    """EXIF's eight orientations, of 8 and of 16 bits."""
    small = np.zeros((4, 6), np.uint8)
    small[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    wanted = {
        **{1: (0, 0), 2: (0, 5), 3: (3, 5), 4: (3, 0)},
        **{5: (0, 0), 6: (0, 3), 7: (5, 3), 8: (5, 0)},
    }[turn]
    for name, pixels in (("a.png", small), ("b.png", small.astype(np.uint16) * 257)):
        Image.fromarray(pixels).save(tmp_path / name, exif=exif)
        found = read_picture(tmp_path / name)
        assert found.shape[:2] == ((4, 6) if turn < 5 else (6, 4))
        assert found[wanted].tolist() == [255] * 3 and found.sum() == 3 * 255


@pytest.mark.parametrize(
    ("pixels", "said"),
    [(np.ones((4, 6), np.float32), "floats"), (np.ones((4, 6), np.int32), "32-")],
)
def test_pixels_without_a_known_white_are_refused(tmp_path, pixels, said):
    path = tmp_path / "0.tiff"
    Image.fromarray(pixels).save(path)
    for read in (lambda: read_picture(path), lambda: open_frames(tmp_path)):
        with pytest.raises(InputError, match=rf"0\.tiff is a picture of {said}"):
            read()
    with pytest.raises(InputError, match=rf"frame 0 is a picture of {said}"):
        take_frames([Image.fromarray(pixels)])


def test_too_many_pixels_are_refused_before_they_are_made(tmp_path, monkeypatch):
    Image.new("1", (20000, 10000)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png announces 20000x10000 .*AAMN_MAX_MEGA"):
        read_picture(tmp_path / "a.png")
    monkeypatch.setenv("AAMN_MAX_MEGAPIXELS", "inf")
    pillow = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with opened_picture(tmp_path / "a.png") as image:
            assert image.size == (20000, 10000), "Pillow's own limit does not stand in the way"
    assert pillow == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("said", ["-1", "0", "many", "nan"])
def test_a_limit_that_is_no_number_is_named(tmp_path, monkeypatch, said):
    monkeypatch.setenv("AAMN_MAX_MEGAPIXELS", said)
    Image.new("1", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"AAMN_MAX_MEGAPIXELS={said}: wanted a number above 0"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp", "bmp"])
def test_a_damaged_picture_is_one_line(tmp_path, suffix, share):
    path = tmp_path / f"a.{suffix}"
    Image.effect_noise((40, 30), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    with pytest.raises(InputError, match=rf"a\.{suffix} is no readable image: .") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)
