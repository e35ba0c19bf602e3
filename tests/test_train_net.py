"""Where a training run begins."""

import importlib

import pytest
import torch
from tiny_models import WORDS, tiny_config, tiny_segmenter

from aamn.checkpoint import save_checkpoint
from aamn.data.words import Vocabulary
from proposals.errors import InputError

VOCABULARY = Vocabulary([f"w{n}" for n in range(2, WORDS)])


@pytest.fixture(scope="module")
def start_from():
    return importlib.import_module("train_net").start_from


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "s.pt"
    save_checkpoint(path, tiny_segmenter(seed=1), VOCABULARY, tiny_config(), 7)
    return path


def test_a_run_may_begin_with_the_weights_of_another_and_frozen_stages_of_its_own(
    start_from, checkpoint
):
    segmenter = tiny_segmenter("aamn.backbone.frozen_stages=2")
    start_from(str(checkpoint), segmenter, VOCABULARY)
    wanted = tiny_segmenter(seed=1).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in segmenter.state_dict().items())
    assert not any(p.requires_grad for p in segmenter.streams["rgb"].backbone.parameters())


def test_other_words_and_other_forms_are_refused(start_from, checkpoint):
    words = Vocabulary([f"v{n}" for n in range(2, WORDS)])
    with pytest.raises(InputError, match=r"train\.start: .*s\.pt was trained on other words"):
        start_from(str(checkpoint), tiny_segmenter(), words)
    with pytest.raises(InputError, match=r"s\.pt is of another form: .*match"):
        start_from(str(checkpoint), tiny_segmenter("aamn.match_channels=11"), VOCABULARY)
    with pytest.raises(InputError, match="no checkpoint at"):
        start_from(str(checkpoint) + "x", tiny_segmenter(), VOCABULARY)
