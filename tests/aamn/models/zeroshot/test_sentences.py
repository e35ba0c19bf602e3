"""The table of rules, read as a table."""

import pytest

from aamn.data.words import tokenise
from aamn.models.zeroshot.sentences import COORDINATES, DIRECTIONS, RULES, read_sentence


def asked(text):
    tokens = tokenise(text)
    found = read_sentence(tokens)
    total = {}
    for values in found.coordinates.values():
        for name, value in values.items():
            total[name] = total.get(name, 0) + value
    nouns = [tokens[place] for place in found.nouns]
    return nouns, [*found.colours.values()], {k: v for k, v in total.items() if v}


STILL = {"still": 1.0, "slow": -0.2, "fast": -1.0}
SLOW = {"still": -0.6, "slow": 1.0, "fast": 0.2}
FAST = {"still": -1.0, "slow": 0.2, "fast": 1.0}


@pytest.mark.parametrize(
    ("text", "nouns", "colours", "coordinates"),
    [
        ("a dog", ["dog"], [], {}),
        ("The red dog", ["dog"], ["red"], {}),
        ("man in gray", ["man"], ["grey"], {}),
        ("the dog on the left", ["dog"], [], {"x": -1, "near_x": -1}),
        ("the right cat", ["cat"], [], {"x": 1, "near_x": 1}),
        ("bird at the top", ["bird"], [], {"y": -1, "near_y": -1}),
        ("car in the middle", ["car"], [], {"middle": 1, "near_middle": 1}),
        ("the largest ball", ["ball"], [], {"size": 0.5, "near_size": 1.5}),
        ("dog running", ["dog"], [], FAST),
        ("dog not running", ["dog"], [], {name: -value for name, value in FAST.items()}),
        ("dog walking left", ["dog"], [], {**SLOW, "right": -1.5}),
        ("dog running to the right", ["dog"], [], {**FAST, "right": 1.5}),
        # what is on the left is there, wherever it goes
        ("dog running on the right", ["dog"], [], {**FAST, "x": 1, "near_x": 1}),
        ("car standing still", ["car"], [], {name: 2 * value for name, value in STILL.items()}),
        ("dog jumping up", ["dog"], [], {**FAST, "down": -1}),
    ],
)
def test_what_a_sentence_asks(text, nouns, colours, coordinates):
    assert asked(text) == (nouns, colours, pytest.approx(coordinates))


def test_rules_ask_for_coordinates_that_there_are():
    for table in (RULES, DIRECTIONS):
        assert {name for values in table.values() for name in values} <= {*COORDINATES}
