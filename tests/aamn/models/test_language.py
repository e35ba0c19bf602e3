"""The word attentions that are not learned; the learned one is among the equations."""

import pytest
import torch
from tiny_models import random_query, random_sample, tiny_segmenter
from torch import nn

from aamn.config.schema import LanguageConfig
from aamn.models.language import Language, masked_softmax

LENGTHS = (4, 1, 3)


def language_of(attention, trained=None):
    torch.manual_seed(0)
    embedding = nn.Embedding(23, 6, padding_idx=0)
    built = Language(LanguageConfig(hidden=5, attention=attention), embedding, ("actor", "action"))
    if trained is not None:
        built.load_state_dict(trained.state_dict())
    return built.eval()


def sentences():
    g = torch.Generator().manual_seed(3)
    return [random_query(length, g).words for length in LENGTHS]


def test_masked_softmax_by_hand():
    logits = torch.tensor([[0.0, 2.0, 9.0], [5.0, 5.0, 5.0]]).log()
    logits[0, 0] = 0.0  # e to the 0 is 1
    mask = torch.tensor([[True, True, False], [False, True, False]])
    wanted = torch.tensor([[1 / 3, 2 / 3, 0], [0, 1, 0]])
    torch.testing.assert_close(masked_softmax(logits, mask), wanted)


def test_mean_attention_is_the_mean_of_a_sentences_own_words():
    """Table IV's baseline: a sentence's length is its own, whatever stands beside it."""
    language, words = language_of("mean"), sentences()
    said = language(words)
    wanted = torch.tensor([[1 / 4] * 4, [1, 0, 0, 0], [1 / 3] * 3 + [0]])
    for name in ("actor", "action"):
        torch.testing.assert_close(said.attention[name], wanted)
        for found, ids in zip(said.vectors[name], words, strict=True):
            torch.testing.assert_close(found, language.embedding.weight[ids].mean(0))


def test_random_attention_is_drawn_anew_for_each_module_and_call():
    """Table IX: on a trained model, whose weights it takes and does not look at."""
    language, words = language_of("random", trained=language_of("learned")), sentences()
    torch.manual_seed(1)
    one, two = language(words), language(words)
    drawn = [said.attention[name] for said in (one, two) for name in ("actor", "action")]
    for weights in drawn:
        torch.testing.assert_close(weights.sum(1), torch.ones(3))
        for row, length in zip(weights, LENGTHS, strict=True):
            assert (row[:length] > 0).all() and not row[length:].any()
        assert weights[0].std() > 0 and weights[1, 0] == 1
    assert not any(torch.allclose(drawn[0], other) for other in drawn[1:])
    words_0 = language.embedding.weight[words[0]]
    torch.testing.assert_close(one.vectors["action"][0], drawn[1][0] @ words_0)


@pytest.mark.parametrize("overrides", [(), ("aamn.actor.enabled=false",)])
def test_a_sentence_alone_and_among_longer_ones_is_the_same(overrides):
    segmenter = tiny_segmenter(*overrides)
    queries = random_sample(segmenter, lengths=(2, 7, 1, 4)).queries
    with torch.no_grad():
        together = segmenter.embed_queries(queries)
        for query, kept in zip(queries, together, strict=True):
            (alone,) = segmenter.embed_queries([query])
            torch.testing.assert_close(kept.vector, alone.vector, atol=1e-6, rtol=1e-5)
            assert len(kept.actor_attention) == len(kept.action_attention) == len(query.tokens)
            torch.testing.assert_close(kept.action_attention, alone.action_attention)
            torch.testing.assert_close(kept.actor_attention.sum(), torch.tensor(1.0))
