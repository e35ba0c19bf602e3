"""RAFT around a small stand-in for torchvision's network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aamn.config.schema import FlowConfig
from aamn.data.flow import raft
from aamn.data.flow.estimators import build_estimator
from proposals.errors import InputError


class Sliding(nn.Module):
    """Answers with a first guess of 99 and then flow (8, 4) everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[Tensor] = []

    def forward(self, one: Tensor, two: Tensor) -> list[Tensor]:
        self.seen = [one, two]
        flow = torch.tensor([8.0, 4.0])[None, :, None, None].expand(1, 2, *one.shape[2:])
        return [torch.full_like(flow, 99), flow]


@pytest.mark.parametrize(
    ("frame", "network"),
    [
        ((60, 80), (128, 128)),  # no side is smaller
        ((128, 256), (128, 256)),
        ((131, 205), (128, 208)),  # multiples of eight, the nearest
        ((254, 100), (256, 128)),
    ],
)
def test_flow_is_in_the_frames_own_pixels(
    monkeypatch: pytest.MonkeyPatch, frame: tuple[int, int], network: tuple[int, int]
) -> None:
    model = Sliding()
    monkeypatch.setattr(raft, "load_raft", lambda weights: model)
    estimate = build_estimator(FlowConfig(method="raft", weights="small"))
    one, two = np.zeros((*frame, 3), np.uint8), np.full((*frame, 3), 255, np.uint8)
    two[..., 2] = 51
    flow = estimate(one, two)
    assert [tuple(picture.shape) for picture in model.seen] == [(1, 3, *network)] * 2
    assert torch.allclose(model.seen[0], torch.tensor(-1.0))
    assert torch.allclose(model.seen[1][0, :, 5, 5], torch.tensor([1.0, 1.0, -0.6]))
    assert flow.shape == (2, *frame) and flow.dtype == np.float32
    assert np.allclose(flow[0], 8 * frame[1] / network[1], atol=1e-5)
    assert np.allclose(flow[1], 4 * frame[0] / network[0], atol=1e-5)


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Stand-ins for both networks; the weights that were asked for."""
    asked: list[object] = []

    def build(width: int, published: str):
        def network(weights: str | None = None) -> nn.Module:
            asked.append(weights)
            return nn.Sequential(*[nn.Linear(1, 1) for _ in range(width)])

        return network, SimpleNamespace(url=f"https://example.org/{published}.pth")

    monkeypatch.setattr(raft, "_MODELS", {"small": build(1, "s"), "large": build(2, "l")})
    raft.load_raft.cache_clear()
    yield asked
    raft.load_raft.cache_clear()


@pytest.mark.parametrize(("name", "layers"), [("small", 1), ("large", 2)])
def test_the_published_weights_are_those_of_the_name(
    networks: list[object], name: str, layers: int
) -> None:
    model = raft.load_raft(name)
    assert len(model) == layers and not model.training
    assert networks == [raft._MODELS[name][1]]


@pytest.mark.parametrize("layers", [1, 2])
def test_a_file_of_either_network_is_known_by_its_keys(
    networks: list[object], tmp_path: Path, layers: int
) -> None:
    state = nn.Sequential(*[nn.Linear(1, 1) for _ in range(layers)]).state_dict()
    torch.save(state, tmp_path / "own.pt")
    model = raft.load_raft(str(tmp_path / "own.pt"))
    assert model.state_dict() == state and len(model) == layers and not model.training
    assert set(networks) == {None}  # nothing was downloaded


@pytest.mark.parametrize("error", [URLError("no route"), OSError("disk"), RuntimeError("hash")])
def test_without_a_network_the_file_to_get_is_named(
    networks: list[object], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(weights: object) -> nn.Module:
        raise error

    monkeypatch.setitem(raft._MODELS, "large", (fails, raft._MODELS["large"][1]))
    with pytest.raises(InputError, match=r"large weights .*https://example\.org/l\.pth"):
        raft.load_raft("large")
