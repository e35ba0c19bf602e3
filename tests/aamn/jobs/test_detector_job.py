"""Fine-tuning a detector as a job: what is begun, what goes on, and what is done already."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from aamn.jobs import detector as detector_job
from aamn.jobs.detector import train_detector
from proposals.config import DetectorConfig, config_to_dict
from proposals.errors import InputError
from proposals.files import locked

TRAIN, VALIDATION = Path("train.json"), Path("test.json")


class Network:
    """A network that goes to a device."""

    def __init__(self, config, device=None):
        self.config, self.device = config, device

    def to(self, device):
        return Network(self.config, device)


@pytest.fixture
def job(monkeypatch, tmp_path):
    """Trains on manifests of the classes a and b: (what it measures, what was done)."""
    done = []

    def read_manifest(path):
        return SimpleNamespace(path=path, classes=("a", "b"))

    def finetune(network, manifest, out):
        done.append(("train", network.device, manifest.path, out))
        return network

    def evaluate(detector, manifest, megabytes):
        done.append(("measure", detector, manifest.path, megabytes))
        return {"AP": 0.5}

    for name, work in {
        "read_manifest": read_manifest,
        "build_detector": Network,
        "load_network": lambda path, device: Network(CONFIG[path.read_text()], device),
        "finetune": finetune,
        "evaluate": evaluate,
        "TorchDetector": lambda network: (network.config, network.device),
        "write_measures": lambda measures, path: done.append(("write", measures, path)),
        "best_device": lambda: "a device",
    }.items():
        monkeypatch.setattr(detector_job, name, work)

    def run(config, validation=None):
        return train_detector(config, TRAIN, validation, tmp_path), done

    return run


def recipe(**changed):
    return DetectorConfig(name="small", weights="", **changed)


CONFIG = {"own": recipe(classes=("a", "b")), "other": recipe(classes=("a", "b"), head=7)}


def test_it_is_trained_on_the_device_and_measured_where_there_is_something_to_measure(
    job, tmp_path
):
    config = recipe()
    assert job(config) == ({}, [("train", "a device", TRAIN, tmp_path)])
    assert config.classes == ("a", "b"), "the manifest's, where the recipe has none"
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert written == yaml.safe_load(yaml.safe_dump(config_to_dict(config)))
    assert next(iter(written)) == "name", "in the recipe's order"
    measured, done = job(config, VALIDATION)
    assert measured == {"AP": 0.5} and done[1:] == [
        ("train", "a device", TRAIN, tmp_path),
        ("measure", (config, "a device"), VALIDATION, config.finetune.cache_mb),
        ("write", measured, tmp_path / "metrics.json"),
    ]


def test_classes_of_the_recipe_are_kept(job):
    config = recipe(classes=("x",))
    job(config)
    assert config.classes == ("x",)


def test_what_was_begun_keeps_its_recipe(job, tmp_path):
    (tmp_path / "last.pt").touch()
    (tmp_path / "config.yaml").write_text("as it was")
    job(recipe(head=9))
    assert (tmp_path / "config.yaml").read_text() == "as it was", "the new one may be refused"


def test_what_is_finished_is_measured_only(job, tmp_path, caplog):
    (tmp_path / "detector.pt").write_text("own")
    with caplog.at_level("INFO", "proposals"):
        measured, done = job(recipe(), VALIDATION)
    assert measured == {"AP": 0.5} and [step[0] for step in done] == ["measure", "write"]
    assert done[0][1] == (CONFIG["own"], "a device")
    assert caplog.messages == [f"{tmp_path / 'detector.pt'} is finished already"]
    assert not (tmp_path / "config.yaml").exists()


def test_a_finished_detector_of_another_recipe_is_not_taken_for_this_one(job, tmp_path):
    (tmp_path / "detector.pt").write_text("other")
    said = rf"^{tmp_path / 'detector.pt'} was trained with another configuration; choose another"
    with pytest.raises(InputError, match=said):
        job(recipe())


@pytest.mark.parametrize("name", ["detector.pt", "last.pt", "metrics.json"])
def test_a_place_that_cannot_be_written_is_found_before_the_work(job, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=rf"cannot write .*{name}: a folder is where a file"):
        job(recipe())
    assert not (tmp_path / "config.yaml").exists()


def test_two_processes_do_not_train_one_detector(job, tmp_path):
    with locked(tmp_path / ".lock", tmp_path), pytest.raises(InputError) as refused:
        job(recipe())
    assert "wait for it, or choose another --out" in str(refused.value)
    assert str(tmp_path) in str(refused.value)
