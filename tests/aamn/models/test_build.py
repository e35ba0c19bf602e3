"""From a configuration to a segmenter: which system, which word vectors."""

import pytest
import torch
from tiny_models import WORDS, random_sample, tiny_config

from aamn.models.aamn import AAMN, MostConfident
from aamn.models.baselines.acga import ACGA
from aamn.models.baselines.cstm import CSTM
from aamn.models.baselines.gavrilyuk import Gavrilyuk
from aamn.models.build import build_segmenter
from proposals.errors import InputError


@pytest.mark.parametrize(
    ("system", "kind"),
    [
        ("aamn", AAMN),
        ("most_confident", MostConfident),
        ("gavrilyuk", Gavrilyuk),
        ("acga", ACGA),
        ("cstm", CSTM),
    ],
)
def test_each_name_is_its_system_at_its_own_sizes(system, kind):
    sizes = {"gavrilyuk": 64, "acga": 96, "cstm": 128}
    overrides = ["words.max_words=9", *(f"{system}.size={s}" for s in [sizes.get(system)] if s)]
    with torch.device("meta"):
        built = build_segmenter(tiny_config(f"system={system}", *overrides), WORDS)
    assert type(built) is kind
    assert built.input_spec.network_size[0] == sizes.get(system, 48)
    assert getattr(built, "max_words", 9) == 9


@pytest.mark.parametrize(
    ("given", "trainable", "learns"),
    [(True, True, True), (True, False, False), (False, False, True), (False, True, True)],
)
def test_word_vectors_are_the_files_and_fixed_only_where_they_are_given(given, trainable, learns):
    g = torch.Generator().manual_seed(0)
    vectors = torch.randn(WORDS, 6, generator=g) if given else None
    config = tiny_config(f"words.trainable={trainable}")
    segmenter = build_segmenter(config, WORDS, vectors)
    weight = segmenter.language.embedding.weight
    if given:
        assert torch.equal(weight, vectors) and weight is not vectors
    else:
        assert weight.shape == (WORDS, 6) and not weight[0].any()
    segmenter.train()([random_sample(segmenter)])["total"].backward()
    assert (weight.grad is not None) == weight.requires_grad == learns
    if learns:
        assert weight.grad.any() and not weight.grad[0].any(), "padding has no meaning to learn"


@pytest.mark.parametrize("shape", [(WORDS, 5), (WORDS + 1, 6)])
def test_vectors_of_another_size_are_refused(shape):
    config = tiny_config("words.vectors=glove.txt")
    with pytest.raises(
        InputError, match=rf"dimension is 6 .*{WORDS} words.*glove\.txt.*{shape[1]}"
    ):
        build_segmenter(config, WORDS, torch.zeros(shape))
