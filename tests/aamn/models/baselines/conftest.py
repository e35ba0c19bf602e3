"""Naive float64 layers in NumPy and small samples, shared by the comparison systems' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch import nn

from aamn.config.baselines import ACGAConfig, CSTMConfig, GavrilyukConfig, I3DConfig
from aamn.structures import Clip, Geometry, InputSpec, Query, Sample, Target

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def conv(layer: nn.Module, maps: np.ndarray) -> np.ndarray:
    """Convolution of any number of axes, stride 1, that keeps the size: maps (C, *axes)."""
    kernel = layer.weight.shape[2:]
    padded = np.pad(maps, [(0, 0), *(((k - 1) // 2, k // 2) for k in kernel)])
    out = np.stack([correlate(padded, w, "valid")[0] for w in array(layer.weight)])
    if layer.bias is not None:
        out += array(layer.bias).reshape(-1, *[1] * len(kernel))
    return out


def pool(kernel: Sequence[int], stride: Sequence[int], maps: np.ndarray) -> np.ndarray:
    """Max-pooling of (C, T, h, w) to ceil(size / stride): zeros around the maps take part, of an
    odd number the larger half behind them."""
    sizes = [-(-n // s) for n, s in zip(maps.shape[1:], stride, strict=True)]
    totals = [
        max((out - 1) * s + k - n, 0)
        for n, out, k, s in zip(maps.shape[1:], sizes, kernel, stride, strict=True)
    ]
    padded = np.pad(maps, [(0, 0), *((total // 2, total - total // 2) for total in totals)])
    out = np.empty((len(maps), *sizes))
    for place in np.ndindex(*sizes):
        window = [slice(i * s, i * s + k) for i, k, s in zip(place, kernel, stride, strict=True)]
        out[(slice(None), *place)] = padded[(slice(None), *window)].max((1, 2, 3))
    return out


def transposed_conv(layer: nn.ConvTranspose2d, maps: np.ndarray) -> np.ndarray:
    """Every cell stamps its kernel, stride 4 apart, the 2 outermost pixels then cut."""
    _, h, w = maps.shape
    weight = array(layer.weight)
    out = np.zeros((weight.shape[1], 4 * (h - 1) + 8, 4 * (w - 1) + 8))
    for y in range(h):
        for x in range(w):
            stamp = np.einsum("c,cokl->okl", maps[:, y, x], weight)
            out[:, 4 * y : 4 * y + 8, 4 * x : 4 * x + 8] += stamp
    return out[:, 2:-2, 2:-2] + array(layer.bias)[:, None, None]


def linear(layer: nn.Linear, rows: np.ndarray) -> np.ndarray:
    return rows @ array(layer.weight).T + array(layer.bias)


def norm(layer: nn.Module, maps: np.ndarray) -> np.ndarray:
    """Batch normalisation with its running statistics: maps (C, *axes)."""
    mean, var, gamma, beta = (
        array(v).reshape(-1, *[1] * (maps.ndim - 1))
        for v in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (maps - mean) / np.sqrt(var + layer.eps) * gamma + beta


def relu(maps: np.ndarray) -> np.ndarray:
    return np.maximum(maps, 0)


def sigmoid(maps: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-maps))


def softmax(rows: np.ndarray, axis: int = -1) -> np.ndarray:
    """exp over its sum, as the formula says."""
    return np.exp(rows) / np.exp(rows).sum(axis, keepdims=True)


def _places(cells: int, size: int, corners: bool) -> list[tuple[int, int, float]]:
    """For each of `size` outputs the two inputs between which it lies, and how near the second."""
    places = []
    for i in range(size):
        at = i * (cells - 1) / (size - 1) if corners else (i + 0.5) * cells / size - 0.5
        at = min(max(at, 0), cells - 1)
        low = min(int(at), max(cells - 2, 0))
        places.append((low, min(low + 1, cells - 1), at - low))
    return places


def bilinear(maps: np.ndarray, size: tuple[int, int], corners: bool = False) -> np.ndarray:
    """Maps (C, h, w) at another size, one output pixel at a time."""
    out = np.zeros((len(maps), *size))
    for i, (y0, y1, dy) in enumerate(_places(maps.shape[1], size[0], corners)):
        for j, (x0, x1, dx) in enumerate(_places(maps.shape[2], size[1], corners)):
            top = maps[:, y0, x0] * (1 - dx) + maps[:, y0, x1] * dx
            bottom = maps[:, y1, x0] * (1 - dx) + maps[:, y1, x1] * dx
            out[:, i, j] = top * (1 - dy) + bottom * dy
    return out


def coordinates(h: int, w: int) -> np.ndarray:
    """C, cell by cell: its sides in [-1, 1], its centre, and the cells' size."""
    out = np.zeros((8, h, w))
    for y in range(h):
        for x in range(w):
            x0, x1, y0, y1 = x / w, (x + 1) / w, y / h, (y + 1) / h
            ends = [x0, y0, x1, y1, (x0 + x1) / 2, (y0 + y1) / 2]
            out[:, y, x] = [*(2 * v - 1 for v in ends), 1 / w, 1 / h]
    return out


def response_head(head: nn.Sequential, maps: np.ndarray) -> np.ndarray:
    """FCN of ACGA (11)."""
    return conv(head[4], relu(conv(head[2], relu(conv(head[0], maps)))))


def deconv(layer: nn.Sequential, maps: np.ndarray) -> np.ndarray:
    """Deconv of ACGA (10)."""
    return conv(layer[1], transposed_conv(layer[0], maps))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than these small models do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def naive() -> SimpleNamespace:
    """Layers written out in NumPy."""
    return SimpleNamespace(
        array=array,
        conv=conv,
        linear=linear,
        norm=norm,
        pool=pool,
        relu=relu,
        sigmoid=sigmoid,
        softmax=softmax,
        bilinear=bilinear,
        coordinates=coordinates,
        response_head=response_head,
        deconv=deconv,
    )


@pytest.fixture
def exact() -> Callable[[nn.Module], nn.Module]:
    """Makes a module float64, in evaluation mode, with batch statistics that a test can see."""

    def prepare(module: nn.Module) -> nn.Module:
        for part in module.modules():
            if isinstance(part, NORMS):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias)
        return module.double().eval()

    torch.manual_seed(0)
    return prepare


@pytest.fixture
def embedding() -> nn.Embedding:
    """Vectors of eight words, the first padding."""
    torch.manual_seed(1)
    return nn.Embedding(8, 6, padding_idx=0)


def _sample(input_spec: InputSpec, sentences: int = 2, seed: int = 0) -> Sample:
    """A clip of noise from a 30 x 40 video, its sentences about two squares in turn."""
    generator = torch.Generator().manual_seed(seed)
    geometry = Geometry.fit((30, 40), input_spec.network_size)
    t, (h, w) = len(input_spec.offsets), geometry.content_size
    rgb, flow = (
        torch.zeros(t, 3, *input_spec.network_size),
        torch.zeros(t, 2, *input_spec.network_size),
    )
    rgb[..., :h, :w] = torch.rand(t, 3, h, w, generator=generator)
    flow[..., :h, :w] = torch.randn(t, 2, h, w, generator=generator)
    queries, targets = [], []
    for i in range(sentences):
        words = torch.randint(1, 8, (2 + i,), generator=generator)
        queries.append(Query(f"sentence {i}", tuple("abcdefgh"[: 2 + i]), words))
        mask = torch.zeros(30, 40, dtype=torch.bool)
        mask[5:15, 20 * (i % 2) : 20 * (i % 2) + 10] = True
        box = torch.tensor([20.0 * (i % 2), 5, 20.0 * (i % 2) + 10, 15])
        targets.append(Target(i + 1, box, mask))
    clip = Clip(
        f"video{seed}",
        torch.arange(t),
        rgb,
        flow if input_spec.flow else None,
        geometry,
        input_spec.key,
    )
    return Sample(clip, None, tuple(queries), tuple(targets))


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    """(needs, sentences, seed) -> a sample of noise."""
    return _sample


def _tiny(width: float = 0.05, **changes) -> I3DConfig:
    return I3DConfig(**{"width": width, **changes})


@pytest.fixture
def tiny() -> SimpleNamespace:
    """Configurations small enough to run in a blink; keywords go through."""
    return SimpleNamespace(
        acga=lambda **more: ACGAConfig(
            **{"size": 32, "frames": 4, "channels": (4, 3, 2), "i3d": _tiny(), **more}
        ),
        gavrilyuk=lambda **more: GavrilyukConfig(
            **{"size": 32, "frames": 4, "channels": (4, 3), "i3d": _tiny(), **more}
        ),
        cstm=lambda **more: CSTMConfig(
            **{
                "size": 64,
                "frames": 4,
                "text_channels": 6,
                "channels": 4,
                "spatial": "resnet18",
                "i3d": _tiny(frozen_until="", rgb_range=(0.0, 1.0)),
                **more,
            }
        ),
        i3d=_tiny,
    )
