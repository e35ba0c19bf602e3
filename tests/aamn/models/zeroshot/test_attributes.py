"""What nouns and colours of a sentence want of a tube's coordinates."""

import pytest
import torch
from tiny_zeroshot import tiny_config

from aamn.models.zeroshot.attributes import Attributes
from aamn.models.zeroshot.sentences import COLOURS, read_sentence
from aamn.zeroshot.assemble import assemble

CLASSES = "person,dog,hot dog,bird,car,bicycle,motorcycle"
NAMES = CLASSES.split(",")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Vectors in which "lion" is near "dog", and "road" near nothing."""
    path = tmp_path_factory.mktemp("words") / "vectors.txt"
    rows = {
        "dog": "1 0 0",
        "lion": "0.9 0.1 0",
        "road": "0.5 0.6 0.7",
        "car": "0 1 0",
        "hot": "0 0 1",
    }
    path.write_text("".join(f"{word} {row}\n" for word, row in rows.items()))
    words = (f"zeroshot.classes=[{CLASSES}]", f"words.vectors={path}", "zeroshot.likeness=0.8")
    return assemble(tiny_config(*words)).loaded


def asked(loaded, text):
    """Class -> weight, and colour -> weight, of what the sentence wants."""
    (describer,) = loaded.segmenter.describers.values()
    assert isinstance(describer, Attributes)
    queries = loaded.words.queries(text)
    rows, _ = describer.sentences(queries, [read_sentence(query.tokens) for query in queries])
    values = rows[0].tolist()
    classes = {n: v for n, v in zip(NAMES, values, strict=False) if v > 0.5}
    colours = dict(zip(COLOURS, values[len(NAMES) :], strict=False))
    return classes, {name: value for name, value in colours.items() if value}


@pytest.mark.parametrize(
    ("text", "classes", "colours"),
    [
        ("a dog", {"dog": 2}, {}),
        ("dogs", {"dog": 2}, {}),
        ("a hot dog", {"hot dog": 2}, {}),
        ("the man in red", {"person": 2}, {"red": 2.5}),
        ("a woman in black and white", {"person": 2}, {"black": 1.25, "white": 1.25}),
        ("bike", {"bicycle": 2, "motorcycle": 2}, {}),
        ("a swan", {"bird": 2}, {}),
        # by the vectors
        ("a lion", {"dog": 2}, {}),
        ("the road", {}, {}),
        # the first of the nouns is meant
        ("a man on a bicycle", {"person": 2}, {}),
        ("a man riding a red motorcycle", {"person": 2}, {}),  # the colour is the motorcycle's
        ("a man in red riding a bicycle", {"person": 2}, {"red": 2.5}),
    ],
)
def test_what_a_sentence_wants(loaded, text, classes, colours):
    found = asked(loaded, text)
    assert found == (pytest.approx(classes), pytest.approx(colours))


def test_what_is_half_there_scores_nothing(loaded):
    (describer,) = loaded.segmenter.describers.values()
    queries = loaded.words.queries("a red dog")
    rows, _ = describer.sentences(queries, [read_sentence(queries[0].tokens)])
    half = torch.zeros(describer.width)
    half[NAMES.index("dog")] = half[len(NAMES) + COLOURS.index("red")] = 0.5
    half[-1] = 1
    assert float(rows[0] @ half) == pytest.approx(0)
