"""What fields may hold: the type and the range that stand beside them, through a whole tree."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from proposals.ranges import Count, Length, Range, Share, faults


@dataclass
class Part:
    names: list[str] = field(default_factory=list)
    factors: dict[str, Share] = field(default_factory=dict)


@dataclass
class Whole:
    count: Count = 1
    share: Share = 0.5
    pair: tuple[Share, Share] = (0, 1)
    widths: Annotated[tuple[Count, ...], Length(1, 3)] = (1,)
    kind: Literal["a", "b"] = "a"
    on: bool = True
    part: Part = field(default_factory=Part)


def test_numbers_inside_a_range():
    share = Range(0, 1, below=True)
    held = [value in share for value in (-0.1, 0, 0.5, 1, math.nan, math.inf, -math.inf)]
    assert held == [False, True, True, False, False, False, False]
    assert str(share) == "a number from 0 to below 1"
    above = Range(0, 2, above=True)
    assert [value in above for value in (0, 1e-9, 2, 2.1)] == [False, True, True, False]
    assert str(above) == "a number above 0 to 2"
    assert str(Length(2, 2)) == "a list of 2 values"


@pytest.mark.parametrize(
    ("values", "key", "said"),
    [
        ({"count": 0}, "count", "wanted a number from 1 to 1000000000, got 0"),
        ({"count": 1.5}, "count", "wanted a value of type int, got 1.5"),
        ({"count": True}, "count", "wanted a value of type int, got True"),
        ({"share": math.nan}, "share", "wanted a number from 0 to 1, got nan"),
        ({"share": "much"}, "share", "wanted a value of type float, got 'much'"),
        ({"pair": (0.5,)}, "pair", "wanted a list of 2 values, got [0.5]"),
        ({"pair": (0.5, 2)}, "pair[1]", "wanted a number from 0 to 1, got 2"),
        ({"widths": []}, "widths", "wanted a list of 1 to 3 values, got []"),
        ({"widths": [1, 0]}, "widths[1]", "wanted a number from 1 to 1000000000, got 0"),
        ({"widths": 5}, "widths", "wanted a tuple, got 5"),
        ({"kind": "c"}, "kind", "wanted one of ['a', 'b'], got 'c'"),
        ({"on": 1}, "on", "wanted a value of type bool, got 1"),
        ({"part": Part(names=[3])}, "part.names[0]", "wanted a value of type str, got 3"),
        ({"part": Part([], {"x": -1})}, "part.factors.x", "wanted a number from 0 to 1, got -1"),
        ({"part": Part(factors=[1])}, "part.factors", "wanted a dict, got [1]"),
        ({"part": None}, "part", "wanted values of Part, got None"),
    ],
)  # fmt: skip
def test_each_fault_is_named_by_its_key(values, key, said):
    assert list(faults(Whole(**values))) == [(key, said)]


def test_whole_numbers_are_numbers_and_lists_are_tuples():
    assert not list(faults(Whole(share=1, pair=[0, 1], widths=[3, 4], part=Part(["a"], {"x": 0}))))


def test_several_faults_come_in_the_order_of_the_fields():
    found = [key for key, _ in faults(Whole(count=0, widths=(0, 0), share=2))]
    assert found == ["count", "share", "widths[0]", "widths[1]"]
