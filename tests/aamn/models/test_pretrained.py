"""Weight files: what is around their tensors, and which entries a module takes from them."""

import pytest
import torch
from torch import nn

from aamn.models.pretrained import load_weights, read_weights
from proposals.errors import InputError

STATE = {"conv.weight": torch.tensor([1.0, 2.0]), "fc.bias": torch.tensor([3.0])}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state": state, "epoch": 3},
        lambda state: {"model": state, "optimiser": {}},
        lambda state: {"state_dict": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"state": {f"module.{key}": value for key, value in state.items()}},
    ],
)
def test_wrappers_around_the_tensors_are_taken_off(tmp_path, wrap):
    torch.save(wrap(STATE), tmp_path / "w.pt")
    read = read_weights(tmp_path / "w.pt")
    assert list(read) == list(STATE) and all(torch.equal(read[key], STATE[key]) for key in STATE)


def test_a_layer_called_module_keeps_its_name(tmp_path):
    torch.save({"net.module.bias": torch.zeros(1)}, tmp_path / "w.pt")
    assert list(read_weights(tmp_path / "w.pt")) == ["net.module.bias"]


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state": {"a": 1}}, {"model": 4}])
def test_a_file_of_something_else_is_named_with_the_advice(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w\.pt: wanted a state dict.*; look here"):
        read_weights(tmp_path / "w.pt", "; look here")
    with pytest.raises(InputError, match=r"none\.pt; look here"):
        read_weights(tmp_path / "none.pt", "; look here")


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def file_of(module):
    """Other values than the module has, without the batch counter."""
    state = {key: value + 1 for key, value in module.state_dict().items()}
    return {key: value for key, value in state.items() if "num_batches" not in key}


def test_every_entry_is_the_files_and_the_rest_of_the_file_is_left():
    module = small()
    weights = file_of(module)
    load_weights(module, weights | {"head.weight": torch.zeros(9)}, "w.pt")
    state = module.state_dict()
    assert all(torch.equal(state[key], value) for key, value in weights.items())
    assert state["1.num_batches_tracked"] == 0


@pytest.mark.parametrize("stored", [None, torch.full((2,), 7.0), torch.zeros(5)])
def test_ignored_entries_keep_their_values_whatever_the_file_holds(stored):
    """As the classifier of a ResNet, whose classes are others."""
    module = small()
    weights = file_of(module)
    del weights["2.bias"], weights["2.weight"]
    if stored is not None:
        weights["2.bias"] = stored
    before = {key: value.clone() for key, value in module[2].state_dict().items()}
    load_weights(module, weights, "w.pt", ignored=("2.weight", "2.bias"))
    assert torch.equal(module[0].weight, weights["0.weight"])
    assert all(torch.equal(value, before[key]) for key, value in module[2].state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"1.running_var": None}, r"w\.pt: lacks 1 of the 8 .*1\.running_var"),
        ({"0.bias": None, "2.bias": None}, r"w\.pt: lacks 2 of the 8 .*0\.bias"),
        ({"2.weight": torch.zeros(3, 2)}, r"w\.pt: 2\.weight .*\(3, 2\).*\(2, 3\)"),
    ],
)
def test_an_entry_that_is_missing_or_of_another_shape_is_named(change, message):
    module = small()
    weights = {k: v for k, v in (file_of(module) | change).items() if v is not None}
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(InputError, match=message):
        load_weights(module, weights, "w.pt")
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
