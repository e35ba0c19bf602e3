"""Checkpoints: whole or not at all, of this format alone, and how what they hold may be changed."""

import math

import pytest
import torch
from tiny_models import tiny_config, tiny_segmenter

from aamn.config.loading import to_dict
from aamn.data.words import Vocabulary
from aamn.inference.checkpoint import (
    FORMAT,
    load_segmenter,
    read_checkpoint,
    save_checkpoint,
)
from proposals.errors import InputError
from proposals.weights import save_tensors

VOCABULARY = Vocabulary([f"w{n}" for n in range(2, 23)], max_words=7)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "s.pt"
    segmenter, config = (
        tiny_segmenter(vocabulary=VOCABULARY).train(),
        tiny_config("data.root=there", "data.workers=5"),
    )
    save_checkpoint(path, segmenter, config, 11, {"state": {3: torch.ones(2)}}, 0.25)
    return path


def test_a_failure_while_writing_leaves_the_old_checkpoint_alone(tmp_path):
    path = tmp_path / "last.pt"
    save_tensors({"weight": torch.ones(3)}, path)
    before = path.read_bytes()
    with pytest.raises((AttributeError, TypeError)):
        save_tensors({"weight": torch.ones(3000), "code": lambda: None}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_all_that_was_saved_is_read_on_the_cpu(checkpoint):
    content = read_checkpoint(checkpoint)
    assert content["format"] == FORMAT
    assert (content["iteration"], content["best"]) == (11, 0.25)
    assert content["optimiser"]["state"][3].tolist() == [1, 1]
    assert content["config"] == to_dict(tiny_config("data.root=there", "data.workers=5"))
    assert content["vocabulary"] == {"words": list(VOCABULARY.words[2:]), "max_words": 7}
    own = tiny_segmenter().state_dict()
    assert content["model"].keys() == own.keys()
    assert all(torch.equal(value, own[name]) for name, value in content["model"].items())


def test_without_training_state_there_is_no_score_and_no_optimiser(tmp_path):
    save_checkpoint(tmp_path / "s.pt", tiny_segmenter(), tiny_config(), 0)
    content = read_checkpoint(tmp_path / "s.pt")
    assert content["optimiser"] == {} and content["best"] == -math.inf


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.ones(1)}, r"x\.pt is no checkpoint of a segmenter"),
        ([1, 2], r"x\.pt is no checkpoint of a segmenter"),
        ({"vocabulary": {}, "format": 7}, rf"x\.pt has checkpoint format 7; .* reads {FORMAT}"),
        ({"vocabulary": {}}, rf"x\.pt has checkpoint format None; .* reads {FORMAT}"),
    ],
)
def test_files_of_other_things_and_other_formats_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path / "x.pt")


def test_a_missing_checkpoint_says_what_makes_one(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint at .*x\.pt; train one with `aamn train`"):
        read_checkpoint(tmp_path / "x.pt")


def test_a_file_goes_before_what_was_trained_with_and_an_override_before_the_file(
    checkpoint, tmp_path
):
    (tmp_path / "c.yaml").write_text("data: {workers: 3}\naugment: {flip: 0.5}\n")
    trained = load_segmenter(checkpoint)
    other = load_segmenter(checkpoint, "cpu", tmp_path / "c.yaml", ["data.workers=1"])
    assert (trained.config.data.workers, trained.config.augment.flip) == (5, 0.0)
    assert (other.config.data.workers, other.config.augment.flip) == (1, 0.5)
    assert other.config.data.root == "there", "all else is as it was trained"
    for loaded in (trained, other):
        assert loaded.iteration == 11 and loaded.vocabulary.max_words == 7
        assert not any(module.training for module in loaded.segmenter.modules())
    wanted = tiny_segmenter().state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in trained.segmenter.state_dict().items())


def test_weights_that_do_not_fit_are_named_with_the_file(checkpoint):
    with pytest.raises(InputError, match=r"s\.pt: its weights do not fit .*: .*mask_head") as error:
        load_segmenter(checkpoint, overrides=["aamn.mask_head.channels=9"])
    assert "\n" not in str(error.value)


def vectors(folder, text):
    (folder / "v.txt").write_text(text)
    return f"words.vectors={folder / 'v.txt'}"


def test_only_words_that_are_new_and_have_a_vector_are_added(checkpoint, tmp_path, caplog):
    rows = "green 1 2 3 4 5 6\nw4 9 9 9 9 9 9\nother 7 7 7 7 7 7\nblue 6 5 4 3 2 1\n"
    loaded = load_segmenter(checkpoint, overrides=[vectors(tmp_path, rows)])
    before = loaded.segmenter.language.embedding.weight.detach().clone()
    loaded.words.learn(["Green w4, zebra", "the blue green"])
    assert loaded.vocabulary.words[len(VOCABULARY) :] == ("blue", "green")
    assert loaded.vocabulary.max_words == 7
    embedding = loaded.segmenter.language.embedding
    assert embedding.num_embeddings == len(loaded.vocabulary) == len(VOCABULARY) + 2
    assert embedding.weight[-2:].tolist() == [[6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6]]
    assert torch.equal(embedding.weight[:-2], before)
    (warning,) = (r for r in caplog.records if "does not know" in r.getMessage())
    assert warning.getMessage().endswith(": the, zebra")


@pytest.mark.parametrize("gone", [False, True])
def test_without_a_file_of_vectors_new_words_are_told_of(checkpoint, tmp_path, caplog, gone):
    values = [f"words.vectors={tmp_path / 'gone.txt'}"] if gone else []
    loaded = load_segmenter(checkpoint, overrides=values)
    loaded.words.learn(["purple w3"])
    assert len(loaded.vocabulary) == len(loaded.words.weight) == len(VOCABULARY)
    assert "purple" in caplog.text and "w3" not in caplog.text
    assert gone == (f"no word vectors at {tmp_path / 'gone.txt'}" in caplog.text)


def test_known_words_alone_change_and_say_nothing(checkpoint, tmp_path, caplog):
    loaded = load_segmenter(checkpoint, overrides=[vectors(tmp_path, "w3 1 1 1 1 1 1\n")])
    loaded.words.learn(["w3 W4 w22"])
    assert len(loaded.vocabulary) == len(VOCABULARY)
    assert not caplog.records
