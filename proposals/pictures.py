"""Pictures in files, read by Pillow: 8 bits of red, green and blue, the way up they are looked at.

Of 16 bits the upper 8 are kept; palettes are resolved, opacity is dropped, CMYK converted, EXIF's
orientation applied. Floats and 32-bit integers are refused: which of their values is white is
nowhere said.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from proposals.errors import InputError
from proposals.limits import check_pixels

_NO_RANGE = {"F": "floats", "I": "32-bit integers"}  # Pillow's mode -> what its pixels are
_pillow = threading.Lock()  # its limit is one for all threads


def read_picture(file: Path) -> np.ndarray:
    """The picture (H0, W0, 3) uint8 RGB of a file.

    Raises:
        InputError: as `opened_picture` and `as_looked_at`.
    """
    with opened_picture(file) as image:
        return as_looked_at(image, str(file))


@contextmanager
def opened_picture(file: Path) -> Iterator[Image.Image]:
    """An image file, to be decoded in the block.

    Raises:
        InputError: it cannot be read, or announces more pixels than `proposals.limits` allows.
    """
    try:
        with _opened(file) as image:
            check_pixels(image.size[::-1], str(file))
            yield image
    except InputError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise errors of all kinds
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = " ".join(said.split())
        raise InputError(f"{file} is no readable image: {reason}") from None


def _opened(file: Path) -> Image.Image:
    """Pillow's image, without its own limit, for which ours stands in."""
    with _pillow:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def as_looked_at(image: Image.Image, name: str) -> np.ndarray:
    """The picture (H0, W0, 3) uint8 RGB of an image, which errors call `name`.

    Raises:
        InputError: its pixels have no known range.
    """
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if image.mode in _NO_RANGE and not sixteen:
        raise InputError(
            f"{name} is a picture of {_NO_RANGE[image.mode]}, whose white is not known; save it "
            "with 8 or 16 bits a channel"
        )
    upright = ImageOps.exif_transpose(image)
    if sixteen:
        grey = (np.asarray(upright) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(upright.convert("RGB"))
