"""What a file may ask of the memory: a few bytes can announce a picture, an array or a tree of
values that no machine holds. What is announced is looked at before any of it is made.

Each limit is lifted, or set, by an environment variable.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from proposals.errors import InputError

LIMITS = {  # variable -> its value where it is not set
    "AAMN_MAX_MEGAPIXELS": 64.0,  # of a picture, a frame or a mask; 8K video has 33
}


def limit(variable: str) -> float:
    """The limit that an environment variable sets.

    Raises:
        InputError: it is set to no number above 0.
    """
    text = os.environ.get(variable, "")
    try:
        value = float(text) if text else LIMITS[variable]
    except ValueError:
        value = math.nan
    if not value > 0:
        raise InputError(f"{variable}={text}: wanted a number above 0 (inf: no limit)")
    return value


def _refuse_above(variable: str, value: float, what: str) -> None:
    most = limit(variable)
    if value > most:
        raise InputError(f"{what}, more than {most:g}; if you trust it, set {variable}")


def check_pixels(size: Sequence[int], what: str) -> None:
    """Refuses a picture of (H0, W0) pixels that is too large; `what` begins the error's line.

    Raises:
        InputError: it has no pixel, or more than the limit.
    """
    height, width = (int(value) for value in size)
    if height < 1 or width < 1:
        raise InputError(f"{what} is of {width}x{height} pixels")
    described = f"{what} announces {width}x{height} pixels, {height * width / 1e6:.0f} million"
    _refuse_above("AAMN_MAX_MEGAPIXELS", height * width / 1e6, described)
