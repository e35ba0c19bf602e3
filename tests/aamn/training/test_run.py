"""Where a training run begins."""

import math
from types import SimpleNamespace

import programs
import pytest
import torch
from tiny_models import WORDS, tiny_config, tiny_segmenter

from aamn.data.words import Vocabulary
from aamn.inference.checkpoint import load_segmenter, save_checkpoint, words_of
from aamn.structures import Row
from aamn.training import run
from aamn.training.loop import Progress
from proposals.errors import InputError

VOCABULARY = Vocabulary([f"w{n}" for n in range(2, WORDS)])


@pytest.fixture(scope="module")
def start_from():
    return run.start_from


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "s.pt"
    save_checkpoint(path, tiny_segmenter(seed=1), tiny_config(), 7)
    return path


def test_a_run_may_begin_with_the_weights_of_another_and_frozen_stages_of_its_own(
    start_from, checkpoint
):
    segmenter = tiny_segmenter("aamn.backbone.frozen_stages=2")
    start_from(str(checkpoint), segmenter)
    wanted = tiny_segmenter(seed=1).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in segmenter.state_dict().items())
    assert not any(p.requires_grad for p in segmenter.streams["rgb"].backbone.parameters())


def test_other_words_and_other_forms_are_refused(start_from, checkpoint):
    words = Vocabulary([f"v{n}" for n in range(2, WORDS)])
    with pytest.raises(InputError, match=r"train\.start: .*s\.pt was trained on other words"):
        start_from(str(checkpoint), tiny_segmenter(vocabulary=words))
    with pytest.raises(InputError, match=r"s\.pt is of another form: .*match"):
        start_from(str(checkpoint), tiny_segmenter("aamn.match_channels=11"))
    with pytest.raises(InputError, match="no checkpoint at"):
        start_from(str(checkpoint) + "x", tiny_segmenter())


@pytest.fixture
def program(monkeypatch, tmp_path, capsys):
    """Calls the program without training; its exit code, errors and what it would train."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        asked = {}

        def train_from(config, out, restart=False):
            asked.update(config=config, out=str(out), restart=restart)
            return Progress(3, {})

        monkeypatch.setattr(run, "train_from", train_from)
        return programs.call("train_net", *words), capsys.readouterr().err, asked

    return call


def test_options_go_before_overrides_and_these_before_the_recipe(program, tmp_path):
    (tmp_path / "c.yaml").write_text(
        "name: mine\ndata: {root: a, flow: a.h5, proposals: a.p}\nseed: 3\ntrain: {batch: 2}\n"
    )
    words = ("--config", "c.yaml", "--set", "data.root=b", "--set", "data.flow=b.h5")
    code, _, asked = program(*words, "--set", "train.batch=5", "--data", "c")
    data = asked["config"].data
    assert code == 0
    assert (data.root, data.flow, data.proposals) == ("c", "b.h5", "a.p")
    assert (asked["config"].seed, asked["config"].train.batch) == (3, 5)
    assert (asked["out"], asked["restart"]) == ("runs/mine", False)
    (tmp_path / "d.h5").touch()
    code, _, asked = program(*words, "--flow", "d.h5", "--proposals", "d.p", "--restart")
    data = asked["config"].data
    assert (data.root, data.flow, data.proposals) == ("b", "d.h5", "d.p")
    assert asked["restart"] is True
    assert program(*words, "--out", "o")[2]["out"] == "o"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "--data ROOT"),
        (("--data", "d", "--set", "seed=x"), "--set seed=x"),
        (("--data", "d", "--config", "gone.yaml"), "gone.yaml"),
        (("--data", "d", "--config", "aamn_dem"), "is aamn_demo meant?"),
        (("--data", "d", "--flow", "gone.h5"), "no flow file at gone.h5; `aamn flow` writes one"),
    ],
)
def test_a_mistake_is_exit_code_2_and_trains_nothing(program, words, named):
    code, said, asked = program(*words)
    assert code == 2 and not asked
    assert said.startswith("error: ") and named in said


def test_a_recipe_is_found_by_its_name(program):
    code, _, asked = program("--config", "aamn_demo", "--data", "d", "--proposals", "p.h5")
    assert code == 0 and asked["out"] == "runs/aamn_demo"
    assert asked["config"].name == "aamn_demo" and asked["config"].data.root == "d"
    code, _, asked = program("--config", "baselines/acga_demo", "--data", "d")
    assert code == 0 and asked["config"].system == "acga"


class Source:
    """Two sentences for each split."""

    def __init__(self, split):
        self.split = split

    def texts(self):
        return [f"the {self.split} w2", "w2 runs"]


class Samples(SimpleNamespace):
    """One sample, which nobody reads."""

    def __len__(self):
        return 1


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Runs `train_from` as far as the training itself; what it would have been given."""

    def call(*overrides, restart=False):
        seen = {"started": []}
        monkeypatch.setattr(run, "open_source", lambda data, split: Source(split))

        def dataset(source, input_spec, vocabulary, store, flow, augment, seed, flow_config):
            return Samples(
                source=source, augment=augment, seed=seed, flow=flow, flow_config=flow_config
            )

        def train(config, segmenter, dataset, out, restart, validate):
            seen.update(segmenter=segmenter, dataset=dataset)
            seen.update(vocabulary=words_of(segmenter).vocabulary)
            seen.update(restart=restart, validate=validate, drawn=torch.rand(1).item())
            return Progress(1, {})

        started = seen["started"].append
        monkeypatch.setattr(run, "SampleDataset", dataset)
        monkeypatch.setattr(run.ProposalStore, "read", lambda path: f"boxes of {path}")
        monkeypatch.setattr(run, "stored_flow", lambda path, *_: f"flow of {path}")
        monkeypatch.setattr(run, "train", train)
        monkeypatch.setattr(run, "start_backbones", lambda *given: started("backbones"))
        monkeypatch.setattr(run, "start_from", lambda path, *given: started(path))
        config = tiny_config(*overrides)
        run.train_from(config, tmp_path, restart)
        return seen

    return call


def test_words_come_from_the_training_split_and_samples_are_augmented(trained):
    seen = trained("augment.flip=0.5", "seed=7", "data.train_split=learn", "data.flow=f.h5")
    assert set(seen["vocabulary"].words[2:]) == {"w2", "the", "learn", "runs"}
    assert seen["vocabulary"].words[2] == "w2", "the most frequent first"
    data = seen["dataset"]
    assert (data.source.split, data.augment.flip, data.seed) == ("learn", 0.5, 7)
    assert data.flow == "flow of f.h5"
    assert seen["validate"] is None
    assert trained("words.max_words=3")["vocabulary"].max_words == 3


def test_a_seed_is_the_weights_that_a_run_begins_with(trained):
    one, same, other = (trained(f"seed={seed}")["segmenter"].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("overrides", "there", "restart", "started"),
    [
        ((), False, False, ["backbones"]),
        ((), True, False, []),
        ((), True, True, ["backbones"]),
        (("train.start=s.pt",), False, False, ["s.pt"]),
        (("train.start=s.pt",), True, False, []),
        (("train.start=s.pt",), True, True, ["s.pt"]),
    ],
)
def test_given_weights_are_for_a_run_that_begins(
    trained, tmp_path, overrides, there, restart, started
):
    if there:
        (tmp_path / "last.pt").write_bytes(b"")
    seen = trained(*overrides, restart=restart)
    assert seen["started"] == started and seen["restart"] is restart


@pytest.mark.parametrize(
    ("overrides", "split"),
    [
        (("data.test_split=try",), "try"),
        (("data.validation_share=0.1",), "validation"),
        (("data.validation_split=val", "data.validation_share=0.1"), "val"),
    ],
)
def test_validation_is_the_mean_iou_on_its_split_as_it_is(trained, monkeypatch, overrides, split):
    asked = {}

    def evaluate(segmenter, samples, system, data, total):
        asked.update(samples=samples, data=data)
        rows = [Row("v", 0, 0, "s", "", *hit, math.nan) for hit in ((20, 100), (30, 50))]
        return SimpleNamespace(rows=rows)

    monkeypatch.setattr(run, "DataLoader", lambda data, batch_size: Sized(data))
    monkeypatch.setattr(run, "evaluate", evaluate)
    seen = trained("train.evaluate_every=1", "augment.flip=0.5", *overrides)
    assert seen["validate"](seen["segmenter"]) == pytest.approx(0.4)
    assert asked["data"] == split
    data = asked["samples"].data
    assert data.source.split == split
    assert data.augment is None, "what is measured is not changed at random"


class Sized:
    """A loader of a data set, which nobody reads."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return 2


@pytest.mark.parametrize(
    ("system", "said"),
    [("gavrilyuk", "word2vec"), ("acga", "word2vec"), ("cstm", "GloVe"), ("aamn", "")],
)
def test_random_word_vectors_of_a_comparison_system_are_said(tmp_path, caplog, system, said):
    vocabulary, given = Vocabulary(["dog"]), tmp_path / "v.txt"
    assert run._word_vectors(tiny_config(f"system={system}"), vocabulary) is None
    lines = [record.message for record in caplog.records]
    assert len(lines) == bool(said)
    if said:
        start = f"words.vectors names no file: {system} learns word vectors from random ones"
        assert lines[0].startswith(start) and said in lines[0]
    caplog.clear()
    given.write_text("dog 1 2 3 4 5 6\n")
    config = tiny_config(f"system={system}", f"words.vectors={given}")
    assert run._word_vectors(config, vocabulary) is not None
    assert "random" not in caplog.text


def test_vectors_of_a_file_are_the_embedding_s(trained, tmp_path):
    (tmp_path / "v.txt").write_text("w2 1 2 3 4 5 6\nruns 6 5 4 3 2 1\n")
    seen = trained(f"words.vectors={tmp_path / 'v.txt'}")
    weight = seen["segmenter"].language.embedding.weight
    place = {word: number for number, word in enumerate(seen["vocabulary"].words)}
    assert weight[place["w2"]].tolist() == [1, 2, 3, 4, 5, 6]
    assert weight[place["runs"]].tolist() == [6, 5, 4, 3, 2, 1]


def test_the_start_of_a_training_is_a_checkpoint(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "open_source", lambda data, split: Source(split))
    path = run.write_start(tiny_config("seed=5"), tmp_path)
    found = load_segmenter(path)
    assert path == tmp_path / "start.pt" and found.iteration == 0
    assert set(found.vocabulary.words[2:]) == {"w2", "the", "train", "runs"}
    again = load_segmenter(run.write_start(tiny_config("seed=5"), tmp_path / "b"))
    for one, other in zip(found.segmenter.parameters(), again.segmenter.parameters(), strict=True):
        assert torch.equal(one, other)
