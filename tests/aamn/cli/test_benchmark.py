"""The benchmark on a tiny model and a few frames: it runs and its tables add up."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from programs import call
from tiny_models import TINY, tiny_config

from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.experiments import benchmark as benchmark_module
from aamn.experiments.benchmark import BenchmarkOptions
from aamn.experiments.flops import frame_flops as count_flops
from proposals.config import DetectorConfig
from proposals.errors import InputError

CONFIGS = Path(__file__).parents[3] / "configs"
DETECTOR = """
name: small
square: 48
widths: [8, 16]
strides: [4, 2]
head: 16
proposals: 8
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "detector.yaml"
    path.write_text(DETECTOR)
    return path


def printed(monkeypatch, capsys, *more):
    """What the program prints, and the first number behind each name."""
    model = [value for value in TINY if not value.startswith("train.")]
    words = [word for value in model for word in ("--set", value)]
    size = ["--frames", "7", "--width", "50", "--height", "40"]
    assert call("benchmark", *words, *size, "--no-memory", *more) == 0
    said = capsys.readouterr().out
    rows = re.findall(r"^ *([\w,:'\- ]+?) +(\d+\.\d+)", said, re.M)
    return said, {name: float(value) for name, value in rows}


@pytest.mark.slow
def test_the_table_has_every_part_and_names_the_fastest_way(monkeypatch, capsys):
    said, numbers = printed(monkeypatch, capsys, "--set", "aamn.mask_head.detail_stride=4")
    assert said.startswith("7 frames of 50x40; ")
    parts = ("boxes", "masks", "preparing", "streams", "tubes", "waiting", "writing")
    sum_of_parts = sum(numbers[part] for part in (*parts, "rest"))
    assert sum_of_parts == pytest.approx(numbers["indexing"], abs=1)  # each is rounded to 0.1
    for name in ("first sentence", "each further sentence", "clip by clip, one sentence"):
        assert numbers[name] > 0
    rows = dict(re.findall(r"^ *([\w,:'\- ]+?)  +(\d+\.\d.*)$", said, re.M))
    ms, by_forward, by_further = map(float, rows["indexing"].split())
    assert by_forward == pytest.approx(ms / numbers["forward passes and flow alone"], rel=0.05)
    assert by_further == pytest.approx(ms / numbers["each further sentence"], rel=0.1)
    assert rows["forward passes and flow alone"].split()[1] == "1.000"
    assert rows["each further sentence"].split()[2] == "1.0"
    assert numbers["ahead, decoding"] > 0 and numbers["ahead, flow"] > 0
    assert re.search(r"^bounded by (the networks|decoding and flow): ", said, re.M)
    cost = re.search(r"^streams, a frame +(\d+\.\d+) +(\d+\.\d) +(\d+\.\d+) +", said, re.M)
    assert float(cost[3]) == pytest.approx(numbers["streams"] / 7, abs=0.1)
    names = ["float32", "channels_last", "bfloat16", "bfloat16, channels_last"]
    names.append("float32, streams as learned")
    assert rows["float32"].split()[1] == "1.000"
    fastest = re.search(r"^fastest here: (.+)$", said, re.M)[1]
    assert numbers[fastest] == min(numbers[name] for name in names) > 0
    parts = (
        "rgb backbone",
        "flow backbone",
        "rgb regions",
        "flow regions",
        "matching",
        "mask head",
    )
    assert numbers["all"] == pytest.approx(sum(numbers[part] for part in parts), abs=0.05)
    assert numbers["paper: two VGG-16, ResNet-101"] > 400
    assert "peak memory" not in said


def test_a_detector_on_the_shared_backbone_is_measured_and_counted_once(
    monkeypatch, capsys, recipe
):
    _, numbers = printed(monkeypatch, capsys, "--detector", recipe)
    assert numbers["boxes"] > 0
    assert "detector's backbone" in numbers and "rgb backbone" not in numbers


@pytest.fixture(scope="module")
def frame_flops():
    return count_flops


def test_the_shared_pyramid_costs_at_most_80_gflop_a_frame(frame_flops):
    """Both streams, matching and masks with the detector; the paper's system costs 5 times that."""
    size = (240, 320)
    shared, papers = (
        frame_flops(
            load_config(Config, CONFIGS / recipe),
            load_config(DetectorConfig, CONFIGS / detector),
            size,
        )
        for recipe, detector in (
            ("aamn_r50fpn_shared.yaml", "detector_r50fpn_shared.yaml"),
            ("aamn_vgg16_a2d.yaml", "detector_resnet101_fpn.yaml"),
        )
    )
    assert 30e9 < sum(shared.values()) <= 80e9
    assert sum(papers.values()) > 400e9
    assert "rgb backbone" in papers and "rgb backbone" not in shared
    # VGG-16's convolutions: 15.35e9 multiply-adds at 224 x 224 (Simonyan and Zisserman, 2015)
    assert papers["rgb backbone"] == pytest.approx(2 * 15.35e9 * (512 / 224) ** 2, rel=0.01)


@pytest.mark.parametrize("name", ["mobile_shared", "demo_mobile"])
def test_the_pair_for_cpus_costs_at_most_6_gflop_a_frame(frame_flops, name):
    counted = frame_flops(
        load_config(Config, CONFIGS / f"aamn_{name}.yaml"),
        load_config(DetectorConfig, CONFIGS / f"detector_{name}.yaml"),
        (240, 320),
    )
    assert 2e9 < sum(counted.values()) <= 6e9
    assert "rgb backbone" not in counted


def test_parts_are_counted_by_hand(frame_flops):
    """The tiny model: FC6 and FC7 of 1 + 4 regions, the mask head on 4 of them."""
    counted = frame_flops(tiny_config(), None, (40, 50))
    assert counted["rgb regions"] == counted["flow regions"] == 2 * 5 * (16 * 49 * 12 + 12 * 12)
    cells = 4 * 14 * 14
    head = 2 * cells * (32 * 7 + 7 * 7 * 9 + 7 * 1 * 4)
    assert counted["mask head"] == head
    first = 12 * 12 * 8 * (3 + 2 * 8) * 9
    second = 6 * 6 * 16 * (8 + 2 * 16) * 9
    assert counted["rgb backbone"] == counted["flow backbone"] == 2 * (first + second)


def test_the_words_of_the_command_are_what_is_measured(monkeypatch, recipe):
    asked = []
    monkeypatch.setattr(benchmark_module, "benchmark", asked.append)
    assert call("benchmark") == 0 and asked == [BenchmarkOptions()]
    words = ("--frames", 7, "--width", 50, "--height", 40, "--detector", recipe, "--compile")
    more = ("--no-memory", "--only-index", "--config", "aamn_demo", "--set", "aamn.radius=3")
    assert call("benchmark", *words, *more) == 0
    assert asked[1] == BenchmarkOptions(
        "aamn_demo",
        ("aamn.radius=3",),
        str(recipe),
        7,
        50,
        40,
        compile=True,
        memory=False,
        only_index=True,
    )


def test_a_duration_is_the_median_of_its_calls(monkeypatch):
    benchmark = benchmark_module
    clock = iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(benchmark, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(benchmark.torch.cuda, "is_available", lambda: False)
    calls = []
    assert benchmark._seconds(lambda: calls.append(1), 3) == 2.0
    assert len(calls) == 3


def test_forward_passes_are_of_as_many_frames_as_asked(monkeypatch):
    benchmark = benchmark_module
    monkeypatch.setattr(benchmark, "_seconds", lambda work, times: 0.5)
    passes = SimpleNamespace(frames=4, once=lambda: None)
    assert benchmark.ForwardPasses.seconds(passes, 12) == 1.5


def test_drifting_boxes_stay_inside_the_frame_and_move():
    boxes = benchmark_module.DriftingBoxes((40, 50))
    window = boxes.window("v", np.arange(9), 3)
    x1, y1, x2, y2 = np.moveaxis(window.boxes, -1, 0)
    assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= 50).all() and (y2 <= 40).all()
    assert (x2 > x1).all() and (y2 > y1).all() and window.valid.all()
    inside = x2[:8] < 50
    moved = np.diff(x1[:8], axis=0)
    assert moved[inside[1:]] == pytest.approx(1), "a pixel a frame"
    assert (y1 == y1[0]).all() and (window.boxes[8] == window.boxes[0]).all()


def test_noise_has_so_many_frames_and_drifts():
    noise = benchmark_module.Noise(3, (4, 6))
    frames = [noise._frame(index) for index in range(3)]
    assert len(noise) == 3 and noise._frame(3) is None
    assert frames[0].shape == (4, 6, 3)
    assert (frames[2][:, 2:] == frames[0][:, :-2]).all() and (frames[1] != frames[0]).any()


def test_peaks_of_longer_videos_are_measured_in_processes_of_their_own(monkeypatch):
    benchmark, asked = benchmark_module, []

    def call(words, **options):
        asked.append(words[1:])
        return SimpleNamespace(returncode=0, stdout="some line\n 12.5\n", stderr="")

    monkeypatch.setattr(benchmark.subprocess, "run", call)
    size = {"width": 50, "height": 40}
    options = BenchmarkOptions(config="c", overrides=("a=1", "b=2"), **size)
    assert benchmark._peak(options, 28) == 12.5
    sizes = "-m aamn benchmark --only-index --frames 28 --width 50 --height 40"
    assert " ".join(asked[0]) == f"{sizes} --config c --set a=1 --set b=2"
    options = BenchmarkOptions(detector="d", **size)
    benchmark._peak(options, 7)
    assert " ".join(asked[1]) == f"{sizes.replace('28', '7')} --detector d"
    failed = SimpleNamespace(returncode=2, stdout="", stderr="Traceback\nerror: no such key\n")
    monkeypatch.setattr(benchmark.subprocess, "run", lambda *words, **options: failed)
    with pytest.raises(InputError, match=r"^error: no such key$"):
        benchmark._peak(options, 7)
