"""Training: order of samples, resuming to the same curve, checkpoints that rebuild themselves."""

import json
from itertools import chain

import pytest
import torch
from lightning_fabric import Fabric
from tiny_models import VOCABULARY, random_sample, tiny_config, tiny_segmenter
from tiny_training import RUN, Samples, curve

from aamn.config.schema import OptimiserConfig
from aamn.inference.checkpoint import load_segmenter, read_checkpoint
from aamn.training import loop as training
from aamn.training.loop import train
from aamn.training.optimiser import learning_rate
from aamn.training.sampler import IterationSampler
from proposals.errors import InputError


def run(out, *overrides, **options):
    segmenter = tiny_segmenter(*RUN, *overrides)
    config = tiny_config(*RUN, *overrides)
    return train(config, segmenter, Samples(segmenter), out, **options)


def test_every_epoch_shows_every_sample_once_in_another_order():
    batches = list(IterationSampler(6, 2, seed=1, start=0, stop=6))
    for number, part in enumerate((batches[:3], batches[3:])):
        assert sorted(chain(*part)) == [(number, index) for index in range(6)]
    assert [i for _, i in chain(*batches[:3])] != [i for _, i in chain(*batches[3:])]


def test_a_resumed_sampler_goes_on_where_it_was():
    whole = list(IterationSampler(5, 2, seed=3, start=0, stop=9))
    assert list(IterationSampler(5, 2, seed=3, start=4, stop=9)) == whole[4:]


def test_two_processes_share_the_batch_of_one():
    one = list(IterationSampler(7, 4, seed=3, start=0, stop=5))
    two = [list(IterationSampler(7, 2, 3, 0, 5, rank, 2)) for rank in range(2)]
    assert [sorted(batch) for batch in one] == [sorted(a + b) for a, b in zip(*two, strict=True)]


def test_a_stopped_run_resumes_to_the_same_curve_and_weights(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole)
    assert run(parts, stop_after=4).iteration == 4
    assert run(parts).iteration == 7
    assert curve(parts) == curve(whole)
    a, b = (read_checkpoint(out / "last.pt")["model"] for out in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_what_the_optimiser_goes_on_with_lies_where_its_parameters_do(tmp_path, monkeypatch, name):
    """As on a GPU, to which the model is moved; here it is "moved" to another number format."""
    values = (f"train.optimiser.name={name}",)
    run(tmp_path, *values, stop_after=2)
    setup, sums, formats = Fabric.setup, ("momentum_buffer", "exp_avg", "exp_avg_sq"), set()

    def step(fabric, model, optimiser, *_):
        for parameter, state in optimiser.state.items():
            formats.update((parameter.dtype, state[key].dtype) for key in sums if key in state)
        return {"total": torch.zeros(())}

    monkeypatch.setattr(Fabric, "setup", lambda self, module, o: setup(self, module.double(), o))
    monkeypatch.setattr(training, "_step", step)
    run(tmp_path, *values, stop_after=1)
    assert formats == {(torch.float64, torch.float64)}


def test_a_run_that_ends_between_two_lines_resumes_to_the_same_lines(tmp_path):
    """A line's means and sums are of all iterations since the one before, whoever did them."""
    sparse = ("train.log_every=3", "train.checkpoint_every=2")
    run(tmp_path / "whole", *sparse)
    run(tmp_path / "parts", *sparse, stop_after=2)
    run(tmp_path / "parts", *sparse, stop_after=2)
    run(tmp_path / "parts", *sparse)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    assert [line["iteration"] for line in curve(tmp_path / "whole")][:3] == [2, 3, 4]


def test_lines_after_the_last_checkpoint_are_written_again_not_twice(tmp_path):
    run(tmp_path, stop_after=3)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(json.dumps({"iteration": 4, "total": -1.0}) + "\n")
    run(tmp_path)
    lines = curve(tmp_path)
    assert [line["iteration"] for line in lines] == list(range(1, 8))
    assert all(line["total"] > 0 for line in lines)


def test_a_finished_run_does_nothing_more(tmp_path):
    run(tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    assert run(tmp_path).iteration == 7
    assert (tmp_path / "last.pt").read_bytes() == before


def test_another_configuration_is_refused(tmp_path):
    run(tmp_path, stop_after=1)
    with pytest.raises(InputError, match=r"aamn\.margin = 0\.1 there, 0\.2 here"):
        run(tmp_path, "aamn.margin=0.2")
    run(tmp_path, "aamn.margin=0.2", restart=True)


def test_a_checkpoint_rebuilds_its_model(tmp_path):
    run(tmp_path)
    loaded = load_segmenter(tmp_path / "last.pt")
    assert loaded.iteration == 7 and loaded.config.aamn.radius == 1
    assert loaded.vocabulary.words == VOCABULARY.words
    sample = random_sample(loaded.segmenter, seed=1)
    again = load_segmenter(tmp_path / "last.pt").segmenter
    for a, b in zip(
        loaded.segmenter.segment(sample.clip, sample.proposals, sample.queries),
        again.segment(sample.clip, sample.proposals, sample.queries),
        strict=True,
    ):
        assert a.score == b.score and torch.equal(a.masks, b.masks)


def test_a_checkpoint_can_be_read_in_another_way_where_its_weights_fit(tmp_path):
    run(tmp_path, stop_after=1)
    random = load_segmenter(tmp_path / "last.pt", overrides=["aamn.language.attention=random"])
    assert type(random.segmenter.language.attention).__name__ == "RandomAttention"
    with pytest.raises(InputError, match="do not fit"):
        load_segmenter(tmp_path / "last.pt", overrides=["aamn.tube_channels=99"])


def test_words_that_training_has_not_seen_get_their_pretrained_vector(tmp_path, caplog):
    run(tmp_path, stop_after=1)
    vectors = tmp_path / "vectors.txt"
    rows = {"w3": range(6), "purple": range(10, 16), "the": [0.5] * 6}
    lines = (" ".join(map(str, (word, *row))) for word, row in rows.items())
    vectors.write_text("\n".join(lines) + "\n")
    loaded = load_segmenter(tmp_path / "last.pt", overrides=[f"words.vectors={vectors}"])
    before = loaded.segmenter.language.embedding.weight.detach().clone()
    loaded.words.learn(["Purple w3", "a zebra"])
    (query,) = loaded.words.queries("purple w3 zebra")
    table = loaded.segmenter.language.embedding(query.words).detach()
    assert table[0].tolist() == [10, 11, 12, 13, 14, 15]
    assert torch.equal(table[1], before[3]), "a word of the training keeps what it learned"
    assert torch.equal(table[2], before[1]), "an unknown word stays unknown"
    assert "a, zebra" in caplog.text
    vectors.write_text("purple 1 2\n")
    with pytest.raises(InputError, match="2 numbers a word"):
        load_segmenter(tmp_path / "last.pt", overrides=[f"words.vectors={vectors}"]).words.queries(
            "purple"
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no checkpoint at"), (b"junk", "no checkpoint, or a damaged one"), (b"", "damaged")],
)
def test_no_checkpoint_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "x.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_segmenter(path)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    run(tmp_path, stop_after=1)
    data = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="damaged"):
        load_segmenter(tmp_path / "half.pt")


def test_half_precision_trains(tmp_path):
    run(tmp_path, "train.precision=bf16-mixed")
    assert curve(tmp_path)[-1]["total"] > 0


def test_the_best_of_several_validations_is_kept(tmp_path):
    scores = iter([0.2, 0.9, 0.5])
    run(tmp_path, "train.evaluate_every=3", validate=lambda segmenter: next(scores))
    assert read_checkpoint(tmp_path / "best.pt")["iteration"] == 6


@pytest.mark.parametrize("stop", [4, 6])
def test_a_worse_model_does_not_replace_the_best_after_a_resume(tmp_path, stop):
    values = ("train.evaluate_every=2", "train.checkpoint_every=4")
    early, late = iter([0.1, 0.9, 0.5]), iter([0.6, 0.5, 0.4])
    run(tmp_path, *values, stop_after=stop, validate=lambda segmenter: next(early))
    best = (tmp_path / "best.pt").read_bytes()
    assert read_checkpoint(tmp_path / "best.pt")["iteration"] == 4
    run(tmp_path, *values, validate=lambda segmenter: next(late))
    assert (tmp_path / "best.pt").read_bytes() == best
    assert read_checkpoint(tmp_path / "last.pt")["best"] == 0.9
    run(tmp_path, *values, restart=True, validate=lambda segmenter: 0.3)
    assert read_checkpoint(tmp_path / "best.pt")["best"] == 0.3


def test_the_best_counts_that_is_newer_than_the_last_checkpoint(tmp_path):
    """As after a kill between the two."""
    values = ("train.evaluate_every=2", "train.checkpoint_every=100")
    run(tmp_path, *values, stop_after=1)
    last = (tmp_path / "last.pt").read_bytes()
    run(tmp_path, *values, stop_after=2, validate=lambda segmenter: 0.9)
    (tmp_path / "last.pt").write_bytes(last)
    run(tmp_path, *values, validate=lambda segmenter: 0.5)
    assert read_checkpoint(tmp_path / "best.pt")["best"] == 0.9


def test_gradients_are_clipped_to_the_norm(tmp_path):
    """One step of plain SGD with rate 1 is as long as the clipped gradient."""
    values = ("train.optimiser.name=sgd", "train.optimiser.lr=1", "train.optimiser.momentum=0")
    values += ("train.optimiser.weight_decay=0", "train.optimiser.clip_norm=0.01")
    before = dict(tiny_segmenter(*RUN, *values).named_parameters())
    run(tmp_path, *values, stop_after=1)
    after = read_checkpoint(tmp_path / "last.pt")["model"]
    step = sum(float((after[n] - p.detach()).square().sum()) for n, p in before.items()) ** 0.5
    assert step == pytest.approx(0.01, rel=1e-3)


def test_a_diverged_loss_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"iteration \d+; lower train\.optimiser\.lr"):
        run(tmp_path, "train.optimiser.name=sgd", "train.optimiser.lr=1e9")


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        (OptimiserConfig(lr=1.0, milestones=(2, 3), iterations=4), [1, 1, 0.1, 0.01]),
        (OptimiserConfig(lr=1.0, milestones=(), warmup=3, iterations=4), [0.25, 0.5, 0.75, 1]),
        (OptimiserConfig(lr=1.0, schedule="cosine", iterations=4), [1, 0.853553, 0.5, 0.146447]),
    ],
)
def test_learning_rates_by_hand(config, rates):
    assert [learning_rate(config, i) for i in range(4)] == pytest.approx(rates, abs=1e-6)


def test_a_run_with_a_key_s_older_name_goes_on(tmp_path):
    run(tmp_path, stop_after=3)
    content = torch.load(tmp_path / "last.pt")
    content["config"]["aamn"]["balance"] = content["config"]["aamn"].pop("mask_loss_weight")
    torch.save(content, tmp_path / "last.pt")
    assert run(tmp_path).iteration == 7


def test_the_bar_shows_how_far_a_run_is_and_its_losses(tmp_path, capsys):
    run(tmp_path, "train.log_every=1", stop_after=2)
    assert train(tiny_config(*RUN), tiny_segmenter(*RUN), Samples(tiny_segmenter(*RUN)), tmp_path)
    shown = capsys.readouterr().err
    last = curve(tmp_path)[-1]
    assert f"{last['iteration']}/{last['iteration']}" in shown
    for name in ("matching", "mask", "total"):
        assert f"{name}={last[name]:.3f}" in shown
