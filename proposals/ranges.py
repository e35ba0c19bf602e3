"""What the fields of a configuration may hold, declared beside them, and the one check of it.

batch: Count = 1
lr: Positive = 1e-4
widths: Annotated[tuple[Count, ...], Length(1, 8)] = (8, 16)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

MOST = 1_000_000_000
SCALARS = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`; with `above` without `low` itself, with `below` without
    `high`."""

    low: float
    high: float = MOST
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        return math.isfinite(value) and over and under

    def __str__(self) -> str:
        first = f"above {self.low}" if self.above else f"from {self.low}"
        return f"a number {first} to {'below ' * self.below}{self.high}"


@dataclass(frozen=True)
class Length:
    """Lists of `low` to `high` values."""

    low: int
    high: int

    def __contains__(self, value: list[Any]) -> bool:
        return self.low <= len(value) <= self.high

    def __str__(self) -> str:
        count = str(self.low) if self.low == self.high else f"{self.low} to {self.high}"
        return f"a list of {count} values"


Count = Annotated[int, Range(1)]
CountOrNone = Annotated[int, Range(0)]  # 0: none, or what the field says
Pixels = Annotated[int, Range(16, 8192)]  # a side of a picture inside a network
Channels = Annotated[int, Range(1, 65536)]
Cells = Annotated[int, Range(1, 256)]  # a side of a RoIAlign's grid
Stages = Annotated[int, Range(0, 6)]  # of a backbone
Processes = Annotated[int, Range(0, 1024)]
Batch = Annotated[int, Range(1, 65536)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, below=True)]
Widths = Annotated[tuple[Channels, ...], Length(1, 16)]  # channels of a network's stages
Strides = Annotated[tuple[Annotated[int, Range(1, 16)], ...], Length(1, 16)]


def faults(config: Any) -> Iterator[tuple[str, str]]:
    """(key, what was wanted and what came) of every value of a configuration, a tree of
    dataclasses, that is not of its field's type or outside its field's range."""
    return _faults("", type(config), config)


@cache
def field_types(schema: type) -> dict[str, Any]:
    """The fields of a dataclass with their types and, inside `Annotated`, their ranges."""
    hints = get_type_hints(schema, include_extras=True)
    return {field.name: hints[field.name] for field in fields(schema)}


def _faults(key: str, kind: Any, value: Any) -> Iterator[tuple[str, str]]:
    if get_origin(kind) is Annotated:
        inner, *rules = get_args(kind)
        found = list(_faults(key, inner, value))
        broken = [] if found else [rule for rule in rules if value not in rule]
        yield from found or [(key, f"wanted {rule}, got {value!r}") for rule in broken]
    elif is_dataclass(kind):
        yield from _of_fields(key, kind, value)
    elif kind in SCALARS:
        if type(value) not in SCALARS[kind]:
            yield key, f"wanted a value of type {kind.__name__}, got {value!r}"
    elif get_origin(kind) is Literal:
        if value not in get_args(kind):
            yield key, f"wanted one of {list(get_args(kind))}, got {value!r}"
    else:
        yield from _of_items(key, kind, value)


def _of_fields(key: str, kind: Any, value: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(value, kind):
        yield key, f"wanted values of {kind.__name__}, got {value!r}"
        return
    for name, own in field_types(kind).items():
        yield from _faults(f"{key}.{name}".lstrip("."), own, getattr(value, name))


def _of_items(key: str, kind: Any, value: Any) -> Iterator[tuple[str, str]]:
    """Of a list, a tuple of any or of a fixed length, or a dict with names as its keys."""
    origin, kinds = get_origin(kind), get_args(kind)
    fixed = origin is tuple and Ellipsis not in kinds
    if origin is dict and isinstance(value, dict):
        for name, own in value.items():
            yield from _faults(f"{key}.{name}", kinds[1], own)
    elif origin is dict or not isinstance(value, list | tuple):
        yield key, f"wanted a {origin.__name__}, got {value!r}"
    elif fixed and len(value) != len(kinds):
        yield key, f"wanted {Length(len(kinds), len(kinds))}, got {list(value)}"
    else:
        for place, own in enumerate(value):
            yield from _faults(f"{key}[{place}]", kinds[place] if fixed else kinds[0], own)
