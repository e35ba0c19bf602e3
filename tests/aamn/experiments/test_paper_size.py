"""The paper's model by its parts, and single steps of a model of its shape."""

import pytest
import torch
from programs import call
from tiny_models import TINY, tiny_segmenter
from torch import nn

from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.experiments import parameters
from aamn.experiments.parameters import count_parts, random_clip, time_steps
from aamn.models.build import build_segmenter

VGG = 14_714_688  # torchvision's vgg16().features
FC6, FC7 = 512 * 7 * 7 * 4096 + 4096, 4096 * 4096 + 4096


def lstm(inputs, hidden):
    """One direction of one layer with both of torch's bias vectors."""
    return 4 * hidden * (inputs + hidden + 2)


def linear(inputs, outputs):
    return inputs * outputs + outputs


@pytest.fixture(scope="module")
def counts():
    config = load_config(Config)
    with torch.device("meta"):
        return dict(count_parts(build_segmenter(config, 2000), 3))


@pytest.mark.parametrize(
    ("part", "parameters"),
    [
        ("streams.rgb.backbone", VGG),
        ("streams.flow.head", FC6 + FC7),
        ("streams", 2 * (VGG + FC6 + FC7)),
        ("tube_layers", 2 * linear(4096, 1024)),
        ("language.embedding", 2000 * 300),
        ("language.attention", 2 * (lstm(300, 512) + lstm(1024, 512)) + 2 * 2048),
        ("heads.actor", linear(1029, 512) + linear(300, 512) + 513),
        ("heads.action.context", lstm(1024, 512) + linear(512, 512) + 512),
        ("heads.action.fusion", linear(1536, 300) + linear(1024, 300) + linear(600, 300)),
        ("heads.action.matching", 2 * linear(300, 512) + 513),
        ("mask_head", linear(1024, 256) + 3 * linear(256 * 9, 256) + 256 * 4 + 1),
        ("all", 294_535_911),
    ],
)
def test_the_papers_parts_have_the_sizes_of_its_layers(counts, part, parameters):
    assert counts[part] == parameters


def test_parts_add_up(counts):
    children = ("streams", "tube_layers", "language", "heads", "mask_head")
    assert sum(counts[child] for child in children) == counts["all"]


def test_single_steps_run_and_are_timed():
    config = load_config(Config, None, list(TINY))
    seconds = time_steps(config, ["train", "infer"])
    assert list(seconds) == ["train", "infer"] and min(seconds.values()) > 0


def test_a_clip_of_noise_has_what_the_sentences_mean_inside_its_frame():
    input_spec = tiny_segmenter().input_spec
    torch.manual_seed(0)
    sample = random_clip(input_spec, 2)
    t, k = len(input_spec.offsets), input_spec.proposals
    assert sample.clip.rgb.shape == (t, 3, *input_spec.network_size)
    boxes = sample.proposals.boxes
    assert boxes.shape == (t, k, 4)
    assert (boxes[..., 2:] - boxes[..., :2]).min() >= 60 and boxes.min() >= 0
    assert [target.instance for target in sample.targets] == [0, 1]
    for place, target in enumerate(sample.targets):
        x1, y1, x2, y2 = boxes[input_spec.key, place].round().long().tolist()
        assert target.mask.shape == (320, 568)
        assert int(target.mask.sum()) == (x2 - x1) * (y2 - y1) > 0
        assert target.mask[y1:y2, x1:x2].all()
        assert target.box.tolist() == boxes[input_spec.key, place].tolist()


def test_a_part_without_parameters_is_left_out_and_depth_is_how_far_names_go():
    inner = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    module = nn.ModuleDict({"a": inner, "b": nn.Linear(1, 1, bias=False), "c": nn.ReLU()})
    assert count_parts(module, 0) == [("all", 10)]
    assert count_parts(module, 1) == [("all", 10), ("a", 9), ("b", 1)]
    assert count_parts(module, 2) == [("all", 10), ("a", 9), ("a.0", 9), ("b", 1)]


def printed(monkeypatch, capsys, *words):
    overrides = [word for value in TINY for word in ("--set", value)]
    assert call("paper_size", *overrides, *words) == 0
    return capsys.readouterr().out.splitlines()


def test_the_program_prints_and_writes_the_parts(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        parameters, "time_steps", lambda config, steps: {name: 1.26 for name in steps}
    )
    words = ("--depth", "1", "--out", str(tmp_path / "p.md"), "--steps", "infer", "train")
    lines = printed(monkeypatch, capsys, *words)
    counts = dict(count_parts(tiny_segmenter(), 1))
    table = lines[:-2]
    assert table[:2] == ["| part | parameters |", "| --- | ---: |"]
    mask_head = counts["mask_head"]
    assert f"| mask_head | {mask_head:,} |" in table
    children = [int(line.split("|")[2].replace(",", "")) for line in table[3:]]
    assert table[2] == f"| all | {sum(children):,} |"
    assert lines[-2:] == ["infer: 1.3 s", "train: 1.3 s"]
    assert (tmp_path / "p.md").read_text().splitlines() == table
    assert not any(line.endswith(" s") for line in printed(monkeypatch, capsys))
