"""Learning on a GPU: the CPU's curve in float32, half precision, resuming."""

from functools import partial

import cv2
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from tiny_models import tiny_config, tiny_segmenter
from tiny_training import RUN, Samples, curve, train_divisibly

from aamn.inference.checkpoint import read_checkpoint
from aamn.training import loop as training
from aamn.training.loop import choose_precision, train
from proposals import finetune as finetuning
from proposals.build import build_detector, load_network
from proposals.config import DetectorConfig, FineTuneConfig
from proposals.finetune import finetune
from proposals.manifest import AnnotatedFrame, Manifest

PLAIN = ("train.optimiser.name=sgd", "train.optimiser.lr=0.05", "aamn.backbone.dropout=0")

SETTINGS = FineTuneConfig(
    iterations=8, batch=4, optimiser="sgd", lr=0.01, warmup=2, average=0.9, rois=8,
    checkpoint_every=3,
)  # fmt: skip
DETECTOR = DetectorConfig(
    name="small", weights="", classes=("a", "b"), min_size=48, max_size=64, proposals=30,
    widths=(8, 16), strides=(4, 2), head=16, pool=3, anchors=(16, 24), finetune=SETTINGS,
)  # fmt: skip


def on(monkeypatch, device):
    """Lets `train` choose that device."""
    monkeypatch.setattr(training, "Fabric", partial(_fabric, device))


def _fabric(device, accelerator, **options):
    return Fabric(accelerator={"cpu": "cpu", "cuda": accelerator}[device], **options)


def weights(path):
    return torch.cat([value.flatten().float() for value in read_checkpoint(path)["model"].values()])


def test_the_curve_is_the_cpu_s(learner, tmp_path, monkeypatch):
    on(monkeypatch, "cpu")
    train_divisibly(tmp_path / "cpu", "train.optimiser.iterations=2")
    on(monkeypatch, learner)
    train_divisibly(tmp_path / "here", "train.optimiser.iterations=2")
    for found, wanted in zip(*(curve(tmp_path / n) for n in ("here", "cpu")), strict=True):
        assert found == pytest.approx(wanted, rel=1e-3)
    found, wanted = (weights(tmp_path / n / "last.pt") for n in ("here", "cpu"))
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("optimiser", ["sgd", pytest.param("adamw", marks=pytest.mark.gpu)])
def test_half_precision_learns_and_resumes(learner, tmp_path, monkeypatch, optimiser):
    """`auto` is half precision where the device computes in it; a part of a run and the rest of it
    are the whole, but for sums in another order."""
    on(monkeypatch, learner)
    if learner == "cuda":
        assert choose_precision("auto") == "bf16-mixed"
    precision = "auto" if learner == "cuda" else "32-true"  # there the test alone is tested
    values = (*RUN, *PLAIN, f"train.optimiser.name={optimiser}", f"train.precision={precision}")
    values = (*values, "train.optimiser.iterations=4")
    values = (*values, f"train.optimiser.lr={0.05 if optimiser == 'sgd' else 0.001}")

    def run(out, **options):
        segmenter = tiny_segmenter(*values)
        train(tiny_config(*values), segmenter, Samples(segmenter), out, **options)
        assert segmenter.device.type == learner

    run(tmp_path / "whole")
    run(tmp_path / "parts", stop_after=2)
    begun = read_checkpoint(tmp_path / "parts/last.pt")["optimiser"]["state"]
    assert any(value.abs().sum() > 0 for one in begun.values() for value in one.values())
    run(tmp_path / "parts")
    lines = [curve(tmp_path / name) for name in ("whole", "parts")]
    assert [line["iteration"] for line in lines[1]] == [1, 2, 3, 4]
    for one, other in zip(*lines, strict=True):
        assert one["total"] == pytest.approx(other["total"], rel=0.02)
    found, wanted = (weights(tmp_path / n / "last.pt") for n in ("parts", "whole"))
    assert (found - wanted).norm() < 0.02 * (wanted - _untrained(values)).norm()


def _untrained(values):
    return torch.cat([v.flatten().float() for v in tiny_segmenter(*values).state_dict().values()])


@pytest.fixture
def manifest(tmp_path):
    """Eight pictures of noise with a bright square each."""
    rng, frames = np.random.default_rng(0), []
    for n in range(8):
        picture = rng.integers(0, 60, (48, 64, 3), dtype=np.uint8)
        picture[8:28, 4 + 4 * n : 24 + 4 * n] = 230
        cv2.imwrite(str(tmp_path / f"{n}.png"), picture)
        box = np.array([[4 + 4 * n, 8, 24 + 4 * n, 28]], np.float32)
        path = tmp_path / f"{n}.png"
        frames.append(AnnotatedFrame(n, path, None, (48, 64), box, np.array([n % 2])))
    return Manifest(tmp_path / "m.json", ("a", "b"), tuple(frames))


def test_a_detector_learns_and_resumes(learner, tmp_path, manifest, monkeypatch):
    """Which RoIs teach is drawn as if the run had not stopped."""

    def network():
        torch.manual_seed(0)
        return build_detector(DETECTOR).to(learner)

    whole = finetune(network(), manifest, tmp_path / "whole")
    step, left = finetuning._Trainer.step, iter(range(5))

    def stopping(self, *batch):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return step(self, *batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finetuning._Trainer, "step", stopping)
        finetune(network(), manifest, tmp_path / "parts")
    again = finetune(network(), manifest, tmp_path / "parts")
    start, end, other = (
        torch.cat([p.detach().cpu().flatten() for p in one.parameters()])
        for one in (network(), whole, again)
    )
    assert (end - other).norm() < 0.02 * (end - start).norm()
    stored = load_network(tmp_path / "parts/detector.pt", learner)
    assert stored.device.type == learner


def test_what_a_detector_learns_from_is_moved(gpu, tmp_path, monkeypatch):
    batch = ([torch.zeros(3, 48, 64, dtype=torch.uint8)], [torch.zeros(1, 4)], [torch.zeros(1)])
    moved = []

    def losses(self, *parts):
        moved.extend(value.is_cuda for part in parts for value in part)
        raise KeyboardInterrupt

    with gpu() as device, pytest.raises(KeyboardInterrupt):
        trainer = finetuning._Trainer(build_detector(DETECTOR).to(device), tmp_path / "last.pt")
        monkeypatch.setattr(type(trainer.network), "losses", losses)
        trainer.step(*batch)
    assert moved == [True] * 3
