"""The GPU's path against the CPU's numbers.

`gpu` runs a test twice: on a pretended GPU, everywhere, so that neither a tensor that was not moved
nor a slip in the test waits for a device; and on the real one, where there is one. What learns
needs gradients, which are not pretended: `learner` runs the CPU against itself instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from pretended_gpu import pretended_gpu

REAL = pytest.param("cuda", marks=pytest.mark.gpu)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@contextmanager
def full_precision() -> Iterator[str]:
    """The real device; TF32, which rounds to ten bits, is off."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        assert not torch.backends.cuda.matmul.allow_tf32
        yield "cuda"


@pytest.fixture(params=["pretended", REAL])
def gpu(request):
    """What makes a context that gives the device's name."""
    return pretended_gpu if request.param == "pretended" else full_precision


@pytest.fixture(params=["cpu", REAL])
def learner(request):
    """The name of the device to learn on."""
    with full_precision():
        yield request.param
