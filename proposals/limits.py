"""What a file may ask of the memory: a few bytes can announce a picture, an array or a tree of
values that no machine holds. What is announced is looked at before any of it is made.

Each limit is lifted, or set, by an environment variable.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import h5py

from proposals.errors import InputError

LIMITS = {  # variable -> its value where it is not set
    "AAMN_MAX_MEGAPIXELS": 64.0,  # of a picture, a frame or a mask; 8K video has 33
    "AAMN_MAX_GIGABYTES": 8.0,  # of an array that is read at once
}
_DEEPEST = 100  # of a YAML file


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
        raise InputError(f"{what}, more than {most:g}; set {variable}={math.ceil(value)} if it is")


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


def check_bytes(count: int, what: str) -> None:
    """Refuses `count` bytes that are too many to be read at once.

    Raises:
        InputError: they are more than the limit.
    """
    described = f"{what} announces {count / 1e9:.1f} gigabytes"
    _refuse_above("AAMN_MAX_GIGABYTES", count / 1e9, described)


def read_array(array: h5py.Dataset, what: str, place: Any = ()) -> Any:
    """All of an HDF5 array, or what the numbers and slices of `place` choose of it; `what` begins
    the error's line.

    Raises:
        InputError: it is too large, or a checksum in it says that it has changed.
    """
    chosen = place if isinstance(place, tuple) else (place,)
    sizes = [
        len(range(*one.indices(size))) if isinstance(one, slice) else 1
        for one, size in zip(chosen, array.shape, strict=False)
    ]
    count = math.prod((*sizes, *array.shape[len(sizes) :]))
    check_bytes(count * array.dtype.itemsize, f"{what}: {array.name}")
    try:
        return array[place]
    except OSError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what}: {array.name} is damaged ({reason}); make it again") from None


def check_nesting(text: str, what: str) -> str:
    """The text, whose brackets must not lie too deep: YAML's parser takes the square of it.

    Raises:
        InputError: they do.
    """
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
    if max(accumulate(steps), default=0) > _DEEPEST:
        raise InputError(f"{what}: its brackets lie deeper than {_DEEPEST} levels")
    return text
