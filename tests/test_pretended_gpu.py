"""The pretended GPU refuses what a real one refuses, and computes what the CPU does."""

import pytest
import torch
from pretended_gpu import pretended_gpu
from torch import nn

HERE, INDEX = torch.arange(6.0).view(2, 3), torch.tensor([1, 0])


@pytest.mark.parametrize(
    "work",
    [
        lambda there, index: there + HERE,
        lambda there, index: HERE @ there.T,
        lambda there, index: torch.cat([there, HERE]),
        lambda there, index: torch.where(HERE > 1, there, 0.0),
        lambda there, index: HERE[index],
        lambda there, index: there.gather(0, INDEX[None, :1]),
        lambda there, index: there.index_put((index,), HERE),
        lambda there, index: nn.functional.embedding(INDEX, there),
        lambda there, index: nn.Linear(3, 2)(there),
        lambda there, index: there.numpy(),
        lambda there, index: nn.utils.rnn.pack_padded_sequence(there[..., None], index + 1, True),
    ],
)
def test_a_tensor_that_was_not_moved_is_refused(work):
    with pretended_gpu() as device, pytest.raises((RuntimeError, TypeError), match=r"device|CUDA"):
        work(HERE.to(device), INDEX.to(device))


@pytest.mark.parametrize(
    ("work", "wanted"),
    [
        (lambda there: there + torch.tensor(2.0), HERE + 2),
        (lambda there: there[INDEX], HERE[INDEX]),
        (lambda there: there.copy_(HERE * 3), HERE * 3),
        (lambda there: there.new_zeros(2) + torch.ones(2, device=there.device), torch.ones(2)),
        (lambda there: there[there > 2], HERE[HERE > 2]),
        (lambda there: there.max(1)[1], torch.tensor([2, 2])),
    ],
)
def test_what_a_gpu_takes_is_taken(work, wanted):
    with pretended_gpu() as device:
        found = work(HERE.to(device))
        assert found.is_cuda and str(found.device) == device
        assert torch.equal(found.cpu(), wanted)


def test_a_change_in_place_is_seen_through_views():
    with pretended_gpu() as device:
        there = HERE.to(device)
        row = there[1]
        assert row.mul_(2) is row
        there[0] = 7
        assert there.tolist() == [[7, 7, 7], [6, 8, 10]] and HERE[1, 0] == 3


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bias", [True, False])
def test_recurrent_layers_compute_what_the_cpu_s_do(kind, bias):
    torch.manual_seed(0)
    layer, words = kind(3, 4, bias=bias, batch_first=True, bidirectional=True), torch.rand(2, 5, 3)
    with torch.no_grad():
        wanted = layer(words)[0]
    with pretended_gpu() as device:
        torch.testing.assert_close(layer.to(device)(words.to(device))[0].cpu(), wanted)


def test_nothing_of_it_remains():
    with pretended_gpu():
        pass
    assert torch.is_grad_enabled()
    assert not torch.__future__.get_overwrite_module_params_on_conversion()
    assert type(torch.zeros(1)) is torch.Tensor
