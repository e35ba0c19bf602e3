"""The mask heads: the paper's, and the detailed one that sees an earlier map."""

import pytest
import torch
from tiny_models import random_sample, tiny_segmenter
from torch import nn
from torch.nn import functional

from aamn.config.schema import BackboneConfig, MaskHeadConfig
from aamn.models.mask_head import DetailedMaskHead, MaskHead
from aamn.models.visual import BACKBONES
from proposals.errors import InputError

DETAILED = "aamn.mask_head.detail_stride=4"


@pytest.mark.parametrize("name", BACKBONES)
def test_levels_have_the_channels_and_strides_that_they_say(name):
    torch.manual_seed(0)
    backbone = BACKBONES[name](BackboneConfig(name=name)).eval()
    with torch.no_grad():
        images = torch.rand(1, 3, 64, 64)
        maps = backbone.maps(images, range(len(backbone.level_strides)))
        (one,) = backbone.maps(images, (1,))
        assert torch.equal(one, maps[1])
    sizes = [(value.shape[1], 64 // value.shape[2]) for value in maps]
    assert sizes == list(zip(backbone.level_channels, backbone.level_strides, strict=True))


def test_masks_are_four_times_as_fine_as_the_grid():
    plain, detailed = tiny_segmenter(), tiny_segmenter(DETAILED)
    sample = random_sample(plain)
    for segmenter, side in ((plain, 28), (detailed, 56)):
        clips = segmenter.encode([sample.clip], [sample.proposals])
        boxes = clips.tubes.boxes[0, :2, 1]
        logits = segmenter.mask_logits(clips, torch.tensor([1, 1]), boxes)
        assert logits.shape == (2, side, side)


def test_the_papers_head_is_the_default_and_unchanged():
    names = {name for name, _ in tiny_segmenter().mask_head.named_parameters()}
    assert {name.split(".")[0] for name in names} == {"body", "logits"}
    assert not [name for name in names if "detail" in name]


def convolved(layer, maps):
    return functional.conv2d(maps, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)


def enlarged(layer, maps):
    """A deconvolution of 2 x 2 at stride 2: each cell becomes four, one for each place."""
    n, _, h, w = maps.shape
    out = torch.einsum("nchw,coyx->nohywx", maps, layer.weight)
    return out.reshape(n, -1, 2 * h, 2 * w) + layer.bias[:, None, None]


@pytest.mark.parametrize("convolutions", [0, 3])
def test_the_papers_head_is_the_naive_computation(convolutions):
    """1x1 to fuse, 3x3 convolutions, each with a ReLU, then one deconvolution to logits."""
    torch.manual_seed(0)
    head = MaskHead(MaskHeadConfig(channels=5, convolutions=convolutions), 3)
    layers = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    assert [layer.kernel_size[0] for layer in layers] == [1] + [3] * convolutions
    assert not any(layer.bias.any() for layer in layers), "biases begin at zero"
    for layer in layers:
        nn.init.normal_(layer.bias)
    grids = torch.randn(2, 3, 4, 4)
    x = grids
    for layer in layers:
        x = convolved(layer, x).clamp(min=0)
    torch.testing.assert_close(head(grids), enlarged(head.logits, x)[:, 0])


def test_the_heads_layers_begin_so_that_signals_keep_their_strength():
    """He et al.'s initialisation: a variance of 2 / (inputs of a cell)."""
    torch.manual_seed(0)
    head = MaskHead(MaskHeadConfig(channels=64, convolutions=2), 128)
    for layer in (m for m in head.modules() if isinstance(m, nn.Conv2d)):
        inputs = layer.in_channels * layer.kernel_size[0] ** 2
        assert layer.weight.var().item() == pytest.approx(2 / inputs, rel=0.1)


def test_the_detailed_head_is_the_naive_computation():
    torch.manual_seed(0)
    head = DetailedMaskHead(MaskHeadConfig(channels=5, convolutions=1, detail_channels=4), 3, 2)
    grids, details = torch.randn(2, 3, 4, 4), torch.randn(2, 2, 8, 8)
    x = grids
    for layer in (head.body[0], head.body[2]):
        x = convolved(layer, x).clamp(min=0)
    x = torch.cat([enlarged(head.enlarge, x), convolved(head.detail, details)], 1).clamp(min=0)
    for layer in (m for m in head.fine if isinstance(m, nn.Conv2d)):
        assert layer.kernel_size == (3, 3)
        x = convolved(layer, x).clamp(min=0)
    found = head(grids, details)
    assert found.shape == (2, 16, 16)
    torch.testing.assert_close(found, enlarged(head.logits, x)[:, 0], atol=1e-5, rtol=1e-4)


def test_detail_reaches_the_mask_from_the_earlier_map():
    """A change in the earlier map alone moves the mask, where its box is and nowhere else."""
    segmenter = tiny_segmenter(DETAILED)
    sample = random_sample(segmenter)
    clips = segmenter.encode([sample.clip], [sample.proposals])
    boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0], [36.0, 20.0, 60.0, 36.0]])
    frames = torch.tensor([1, 1])
    before = segmenter.mask_logits(clips, frames, boxes)
    clips.maps["rgb"][0][1, :, :3, :3] += 1.0
    after = segmenter.mask_logits(clips, frames, boxes)
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_it_learns_an_outline_finer_than_the_grid():
    """Stripes of one cell of the fine grid: only the detail can tell them apart."""
    torch.manual_seed(0)
    head = DetailedMaskHead(MaskHeadConfig(channels=7, convolutions=1, detail_channels=16), 3, 2)
    details = torch.rand(4, 2, 28, 28)
    wanted = (details[:, 0] > 0.5).float().repeat_interleave(2, 1).repeat_interleave(2, 2)
    optimiser = torch.optim.Adam(head.parameters(), 0.01)
    for _ in range(60):
        logits = head(torch.zeros(4, 3, 14, 14), details)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert ((logits > 0) == (wanted > 0.5)).float().mean() > 0.9


def test_segment_and_losses_work_through_the_same_door():
    segmenter = tiny_segmenter(DETAILED)
    samples = [random_sample(segmenter, seed=s, video=f"v{s}") for s in range(2)]
    segmenter.train()(samples)["total"].backward()
    assert all(p.grad is not None for p in segmenter.parameters())
    clip = samples[0]
    tracks = segmenter.eval().segment(clip.clip, clip.proposals, clip.queries)
    assert tracks[0].masks.shape == (3, 36, 60)


def test_a_stride_that_the_backbone_lacks_is_answered_with_those_it_has():
    with pytest.raises(InputError, match=r"detail_stride: 0 or one of \[4\], got 2"):
        tiny_segmenter("aamn.mask_head.detail_stride=2")
