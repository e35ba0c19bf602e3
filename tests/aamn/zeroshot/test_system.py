"""The zero-shot system on a video of coloured squares, through the index as any other system."""

import zlib

import numpy as np
import pytest
import torch
from tiny_zeroshot import (
    BLUE,
    GREEN,
    RED,
    TINY,
    ColourModel,
    Squares,
    box_of,
    draw,
    tiny_parts,
    tiny_zeroshot,
)

from aamn.models.zeroshot.segmenter import ZeroShot
from aamn.models.zeroshot.sentences import MOTION, PLACE
from aamn.zeroshot.assemble import load_zeroshot
from proposals.errors import InputError

FRAMES = draw()


def shown(track, frame=6):
    """The colour of the square that the track's box is on."""
    found = track.boxes(range(frame, frame + 1))[0]
    for colour in (RED, BLUE, GREEN):
        wanted = np.array(box_of(FRAMES[frame], colour), np.float32)
        if np.abs(found - wanted).max() < 2:
            return colour
    return None


@pytest.fixture(scope="module")
def attributes():
    return tiny_zeroshot().index(FRAMES)


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("the red dog", RED),
        ("blue dog", BLUE),
        ("a cat", GREEN),
        ("kitten", GREEN),
        ("the dog on the left", RED),
        ("right dog", BLUE),
        ("dog moving right", RED),
        ("dog standing still", BLUE),
        ("animal at the top", GREEN),
        ("dog in blue", BLUE),
    ],
)
def test_sentences_find_their_square(attributes, text, colour):
    (track,) = attributes.query(text)
    assert track.present and shown(track) == colour


@pytest.mark.parametrize("text", ["a car", "the yellow cat", "a xylophone"])
def test_what_is_not_there_has_no_match(attributes, text):
    (track,) = attributes.query(text)
    assert not track.present and not track.masks().any()


def test_masks_are_inside_the_boxes(attributes):
    (track,) = attributes.query("the red dog")
    masks = track.masks()
    red = (FRAMES == RED).all(-1)
    assert masks.any((1, 2)).all()
    assert (masks & red).sum() / (masks | red).sum() > 0.7  # an ellipse in a square


def test_the_score_is_an_inner_product(attributes):
    encoder = attributes.query_encoder
    queries = encoder.queries(["the red dog", "cat on the left"])
    sentences = encoder.encode(queries)
    vectors = torch.from_numpy(attributes.file.array("vectors")[:])
    sides = torch.cat([sentences.sides[name] for name in ("actor", "action")], 1)
    products = torch.einsum("ckd,qd->qck", vectors, sides)
    assert torch.allclose(products, sum(attributes.scores(sentences).values()), atol=1e-5)


def test_words_explain_themselves(attributes):
    (track,) = attributes.query("the red dog moving right")
    weights = dict(zip(track.query.tokens, track.actor_attention, strict=True))
    assert weights["red"] > weights["dog"] > weights["the"] == 0
    assert sum(weights.values()) == pytest.approx(1)
    moves = dict(zip(track.query.tokens, track.action_attention, strict=True))
    assert moves["right"] > moves["moving"] > 0 == moves["dog"]


def test_sentences_do_not_touch_each_other(attributes):
    texts = ["the red dog", "a cat", "dog standing still on the right"]
    together = [track.score for track in attributes.query(texts)]
    alone = [attributes.query(text)[0].score for text in texts]
    assert together == pytest.approx(alone, abs=1e-5)


def test_unknown_words_have_no_match_without_an_image_text_model(attributes):
    (track,) = attributes.query("xylophone")
    assert not track.present


@pytest.mark.parametrize("recipe", ["image_text", "image_text+attributes"])
def test_an_image_text_model_reads_any_word(recipe):
    segmenter = tiny_zeroshot(f"zeroshot.describers={recipe}", model=(ColourModel(), "colours"))
    index = segmenter.index(FRAMES)
    for text, colour in (("blue xylophone", BLUE), ("something red", RED), ("green", GREEN)):
        (track,) = index.query(text)
        assert shown(track) == colour, text
    widths = index.header.heads
    described = (12 if "image_text" in recipe else 0) + (15 if "attributes" in recipe else 0)
    assert widths == {"actor": described + len(PLACE) + 1, "action": len(MOTION)}


class AnyTexts(ColourModel):
    """Its texts are random vectors, always the same for one text."""

    def encode_texts(self, texts):
        rows = [torch.Generator().manual_seed(zlib.crc32(text.encode())) for text in texts]
        rows = torch.stack([torch.randn(self.width, generator=one) for one in rows])
        return torch.nn.functional.normalize(rows, dim=-1)


def test_no_match_is_what_generic_sentences_get():
    """The mean of what the image-text model says of them is 0 for any tube; the threshold, too."""
    parts = tiny_parts("zeroshot.describers=image_text", model=(AnyTexts(), "texts"))
    segmenter, config = parts.loaded.segmenter, parts.loaded.config.zeroshot
    assert parts.absent_threshold == config.absent_threshold == 0.0
    queries = parts.loaded.words.queries([*config.generic, "a red dog"])
    said = segmenter.encode_sentences(queries).sides["actor"][:, : AnyTexts().width]
    assert torch.allclose(said[:-1].mean(0), torch.zeros(said.shape[1]), atol=1e-5)
    assert (said.norm(dim=1) > 1).all(), "each of them differs from their mean"
    tubes = torch.nn.functional.normalize(torch.randn(7, said.shape[1]), dim=-1)
    assert torch.allclose((said[:-1] @ tubes.T).mean(0), torch.zeros(7), atol=1e-5)


def test_an_index_is_searched_like_any_other(tmp_path):
    segmenter = tiny_zeroshot()
    segmenter.index(FRAMES, out=tmp_path)
    segmenter.index(draw(12, [(GREEN, "cat", 10, 10, 20, 0)]), out=tmp_path)
    indexes = segmenter.open_indexes(tmp_path)
    (hits,) = indexes.search(["the red dog"], top=2)
    assert len(hits) == 2 and hits[0].score > hits[1].score
    assert shown(indexes.track(hits[0])) == RED


def test_what_the_sentence_side_weighs_is_not_in_the_index(tmp_path):
    first = tiny_zeroshot()
    first.index(FRAMES, out=tmp_path)
    other = tiny_zeroshot("zeroshot.gains.colours=3")
    assert other.query_encoder.model == first.query_encoder.model
    changed = tiny_zeroshot("zeroshot.describe_every=1")
    assert changed.query_encoder.model != first.query_encoder.model


def test_not_enough_memory_is_one_line(monkeypatch):
    def full(self, device):
        raise torch.OutOfMemoryError("out of memory\nTried to allocate 1 GiB")

    monkeypatch.setattr(ZeroShot, "to", full)
    with pytest.raises(InputError, match=r"not enough memory on cpu for zeroshot_boxes \(out of"):
        load_zeroshot("zeroshot_boxes", overrides=TINY)


def test_bad_input_is_one_line():
    with pytest.raises(InputError, match=r"boxes of squares are of 2 classes"):
        tiny_zeroshot(boxes=Squares(classes=("dog", "cat"))).index(FRAMES)
    with pytest.raises(InputError, match=r"zeroshot\.masks is 'rcnn'"):
        tiny_parts("zeroshot.masks=rcnn")
    with pytest.raises(InputError, match="wants an image-text model"):
        tiny_parts("zeroshot.describers=image_text")
