"""From zero-shot to trained: matching that is learned on frozen public parts."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from tiny_image_text import save_tiny_model
from tiny_zeroshot import TINY, ColourModel, write_corpus

import aamn
from aamn.cli.main import run
from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.evaluation.systems import evaluate_system, open_system
from aamn.inference.checkpoint import load_segmenter, read_checkpoint
from aamn.models.zeroshot.image_text import WEIGHTS, ImageTextModel
from aamn.training import run as training
from aamn.training.tubes import TubeDataset, keep_tubes
from aamn.zeroshot import assemble
from aamn.zeroshot.assemble import complete, put_together
from proposals.errors import InputError

SMALL = (
    *TINY,
    *("zeroshot.published.image_text_width=12", "aamn.tube_channels=16", "aamn.match_channels=16"),
    *("aamn.relation.channels=16", "aamn.relation.heads=2", "aamn.relation.layers=1"),
    *("aamn.language.hidden=8", "words.dimension=8", "data.kind=folder", "data.workers=0"),
    *("train.optimiser.iterations=60", "train.optimiser.warmup=0", "train.log_every=1"),
    *("train.optimiser.lr=0.01", "train.precision=32-true", "aamn.relation.dropout=0"),
    *("aamn.backbone.dropout=0", "aamn.language.word_dropout=0"),
    "train.phases=[{shown: tubes, batch: 4}]",
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    write_corpus(root, 6, split="train")
    return write_corpus(root, 4, split="test", seed=1)


def recipe(corpus, *overrides):
    data = (f"data.root={corpus}", f"data.proposals={corpus / 'boxes.h5'}")
    return load_config(Config, "adapted", [*SMALL, *data, *overrides])


class Counted(ColourModel):
    """How often, and for how many images, the image side is asked."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def encode_images(self, images):
        self.seen += len(images)
        return super().encode_images(images)


@pytest.fixture
def model(monkeypatch):
    """The colours' double in the place of the public image-text model."""
    found = Counted()
    monkeypatch.setattr(assemble, "_image_text", lambda config, weights: (found, "colours"))
    return found


def built(config):
    """The segmenter that a training begins with, and its samples."""
    segmenter, config = training._built(config)
    vocabulary = training.words_of(segmenter).vocabulary
    return segmenter, training._dataset(config, "train", segmenter.input_spec, vocabulary, True)


def samples_of(samples, *indices):
    return [samples[0, index] for index in indices]


def test_before_training_it_is_the_zero_shot_system(corpus, model):
    segmenter, samples = built(recipe(corpus))
    plain = put_together(load_config(Config, "zeroshot", TINY)).loaded
    sample = samples.at(0)
    texts = [f"the {word} dog" for word in ("red", "left", "odd")]
    own = training.words_of(segmenter).queries(texts)
    known = plain.words.queries(texts)
    with torch.inference_mode():
        ours = segmenter.encode([sample.clip], [sample.proposals])
        theirs = plain.segmenter.encode([sample.clip], [sample.proposals])
        said = segmenter.encode_sentences(own)
        wanted = plain.segmenter.scores(theirs.sides, plain.segmenter.encode_sentences(known))
        found = segmenter.scores(ours.sides, said)
    assert found.keys() == wanted.keys() == {"actor", "action"}
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name])
    widths = {name: side.vectors.shape[-1] for name, side in ours.sides.items()}
    assert widths == segmenter.head_widths and widths["actor"] == 12 + 8 + 1 + 16
    asked = ours, torch.tensor([1]), torch.tensor([[4.0, 4, 20, 20]])
    assert torch.equal(segmenter.mask_logits(*asked), plain.segmenter.mask_logits(*asked))


def test_kept_descriptions_teach_what_clips_teach(corpus, model, tmp_path):
    config = recipe(corpus, "augment.flip=0")
    segmenter, samples = built(config)
    with torch.no_grad():  # as after some training
        segmenter.heads["relation"].matching.score.weight.normal_()
    kept = TubeDataset(samples, keep_tubes(segmenter, samples, tmp_path, config.data))
    direct = segmenter(samples_of(samples, 0, 3, 7))
    cached = segmenter.matching_losses(samples_of(kept, 0, 3, 7))
    assert cached["total"].item() == pytest.approx(direct["total"].item(), rel=2e-3)  # in halves
    assert direct["total"].requires_grad and cached["count/sentences"] == 9


def trained(config, out, **options):
    progress = training.train_from(config, out, **options)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return progress, [line["matching"] for line in lines]


def test_own_words_are_learned_from_features_computed_once(corpus, model, tmp_path):
    config = recipe(corpus)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    _, losses = trained(config, tmp_path)
    key_frames, tubes, views = 18, 3, 2  # of six videos; one frame of a clip is described
    assert model.seen == key_frames * tubes * views * 2, "as they are, and mirrored"
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    content = read_checkpoint(tmp_path / "last.pt")["model"]
    assert not any("describers" in k or "rcnn" in k for k in content), "frozen parts are not saved"

    before = model.seen
    trained(config, tmp_path, restart=True)
    assert model.seen == before, "the file of descriptions is there"

    start = training.write_start(config, tmp_path)
    right = {}
    for name, path in (("zero-shot", start), ("trained", tmp_path / "last.pt")):
        rows = evaluate_system(open_system(path)).evaluation.report.rows
        right[name] = sum(row.box_iou > 0.5 for row in rows) / len(rows)
    assert right["zero-shot"] <= 0.5 and right["trained"] >= 0.9


# With real classes of transformers, through the command


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    pytest.importorskip("transformers", reason="needs the extra zeroshot")
    return save_tiny_model(tmp_path_factory.mktemp("weights") / "tiny", "siglip")


def pinned(weights):
    digest = hashlib.sha256((weights / WEIGHTS).read_bytes()).hexdigest()
    return (
        *("zeroshot.published.image_text=some/tiny", "zeroshot.published.image_text_width=16"),
        *(f"zeroshot.published.image_text_sha256={digest}", "train.optimiser.iterations=4"),
    )


def sets(values):
    return [word for value in values for word in ("--set", value)]


@pytest.fixture(scope="module")
def bundle(corpus, weights, tmp_path_factory):
    """What `aamn train` and `aamn bundle` leave, of real classes."""
    place = tmp_path_factory.mktemp("run")
    words = ["train", "--config", "adapted", "--data", corpus, "--proposals", corpus / "boxes.h5"]
    options = [*sets((*SMALL, *pinned(weights))), "--weights", weights.parent, "--out", place]
    assert run([*map(str, [*words, *options])]) == 0
    found = ["bundle", "--checkpoint", place / "last.pt", "--out", place / "bundle"]
    assert run([*map(str, found)]) == 0
    return place / "bundle"


def test_a_bundle_answers_through_the_same_door(corpus, weights, bundle, tmp_path):
    assert sorted(path.name for path in bundle.iterdir() if path.name[0] != ".") == [
        "bundle.json",
        "segmenter.pt",
    ]
    assert (bundle / "segmenter.pt").stat().st_size < 1_000_000, "public parts are not in it"
    segmenter = aamn.load(bundle, weights=weights.parent)
    from proposals.store import ProposalStore

    segmenter = replace(segmenter, boxes=ProposalStore.read(corpus / "boxes.h5"))
    video = corpus / "videos/test0"
    (track,) = segmenter.index(video).query(["the dax"])
    words = ["segment", video, "the dax", "--bundle", bundle, "--proposals", corpus / "boxes.h5"]
    words += ["--weights", weights.parent, "--out", tmp_path / "out"]
    assert run([*map(str, words)]) == 0
    (result,) = (tmp_path / "out").glob("*/result.json")
    told = json.loads(result.read_text())
    assert told["sentence"] == "the dax" and told["score"] == pytest.approx(track.score, abs=1e-3)
    assert track.masks().shape == (3, 48, 96)
    folder = tmp_path / "out/index"
    assert run(["search", str(folder), "the dax", "--bundle", str(bundle), "--weights",
                str(weights.parent)]) == 0  # fmt: skip


def test_the_index_is_of_these_parts(corpus, weights, bundle):
    loaded = complete(load_segmenter(bundle / "segmenter.pt"), weights.parent).loaded
    segmenter = loaded.segmenter
    assert not any(p.requires_grad for p in segmenter.frozen.parameters())
    segmenter.train()
    assert not segmenter.frozen.training
    own = segmenter.video_options()
    digest = hashlib.sha256((weights / WEIGHTS).read_bytes()).hexdigest()
    assert own["frozen"]["models"] == {"image_text": digest} and own["weights"] == ""
    fewer = load_segmenter(bundle / "segmenter.pt", overrides=["zeroshot.describe_every=3"])
    assert complete(fewer, weights.parent).loaded.segmenter.video_options() != own


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--bundle", "BUNDLE", "--weights", "nowhere"), "--weights nowhere: no folder there"),
        (("--bundle", "BUNDLE", "--weights", "OTHER"), "has the SHA-256"),
        (("--bundle", "AAMN", "--weights", "."), "--weights: wanted with --bundle zeroshot, or"),
    ],
)
def test_mistakes_in_use_are_one_line(corpus, bundle, tmp_path, capsys, words, wanted):
    from tiny_bundle import save_parts

    save_tiny_model(tmp_path / "other/tiny", "clip")
    save_parts(tmp_path)
    parts = ["--checkpoint", tmp_path / "s.pt", "--detector", tmp_path / "d.pt"]
    assert run([*map(str, ["bundle", *parts, "--out", tmp_path / "aamn"])]) == 0
    named = {"BUNDLE": bundle, "OTHER": tmp_path / "other", "AAMN": tmp_path / "aamn"}
    words = [str(named.get(word, word)) for word in words]
    boxes = ["--proposals", str(corpus / "boxes.h5"), "--out", str(tmp_path / "out")]
    code = run(["segment", str(corpus / "videos/test0"), "the dax", *words, *boxes])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert code == 2 and len(said) == 1 and wanted in said[0]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (("zeroshot.published.image_text_width=5",), "the parts' sides have"),
        (("aamn.matching=joint", "aamn.statistics="), "the system adapted learns by 'relation'"),
        (("train.phases=[{shown: key_frames}]",), "masks of the system adapted do not learn"),
    ],
)
def test_mistakes_in_training_are_one_line(corpus, model, tmp_path, changes, wanted):
    with pytest.raises(InputError, match=wanted):
        training.train_from(recipe(corpus, *changes), tmp_path)


def test_what_lacks_its_public_parts_says_so(bundle, tmp_path, capsys):
    alone = load_segmenter(bundle / "segmenter.pt").segmenter
    with pytest.raises(InputError, match="stands on public parts, which this does not load"):
        alone.backbone_hash  # noqa: B018
    from tiny_bundle import save_parts

    save_parts(tmp_path)
    words = ["bundle", "--checkpoint", tmp_path / "s.pt", "--out", tmp_path / "none"]
    assert run([*map(str, words)]) == 2
    assert "wanted --detector PT" in capsys.readouterr().err
    train = ["train", "--config", "aamn_demo", "--data", "x", "--proposals", "y", "--weights", "."]
    assert run(train) == 2
    assert "--weights: wanted with --config adapted" in capsys.readouterr().err


def test_a_checkpoint_does_not_say_where_parts_come_from(bundle, weights):
    found = load_segmenter(bundle / "segmenter.pt").config.zeroshot.published
    assert (found.folder, found.hub) == ("", "")
    assert found.image_text == "some/tiny" and found.image_text_sha256 == pinned(weights)[2][-64:]
    assert isinstance(ColourModel(), ImageTextModel)
