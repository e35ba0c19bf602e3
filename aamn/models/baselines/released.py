"""The checkpoints that the authors of ACGA and CSTM released, in this library's names.

Where layers are concatenated in another order there, the weights' input channels are put in ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aamn.models.baselines import coordinates
from aamn.models.baselines.i3d import own_key
from aamn.models.pretrained import load_weights, read_weights

Weights = dict[str, Tensor]

I3D = "video_model.model."
# Beginnings of their names -> of ours.
ACGA = {
    "txt_model.0": "text.conv",
    "attention_layer.video_reduce": "word_guidance.align",
    # Their softmax is over K Q^T: what they call K asks, what they call Q is asked.
    "attention_layer.video_linearK": "cell_guidance.query",
    "attention_layer.video_linearQ": "cell_guidance.key",
    "attention_layer.video_linearV": "cell_guidance.value",
    "attention_layer.txt_increase": "cell_guidance.gate",
    "deconv_small": "decoder.to_medium",
    "deconv_medium": "decoder.to_large",
    "conv_mask_small": "decoder.heads.0",
    "conv_mask_medium": "decoder.heads.1",
    "conv_mask_large": "decoder.heads.2",
    "conv_fusion": "decoder.fusion.conv",
}
CSTM = {"txt_encoder": "text.gru", "txt_norm.0": "text.norm"}
for i in range(5):
    CSTM |= {
        f"s_layer{i + 1}": f"spatial.stages.{i}",
        f"ires_trans.{i}": f"fusions.{i}.spatial",
        f"vres_trans.{i}": f"fusions.{i}.temporal",
        f"conv_fuse1.{i}": f"fusions.{i}.fuse",
        f"conv_fuse2.{i}": f"decoder.merges.{3 - i}",
    }
    for theirs, ours in (("cmam_s", "spatial"), ("cmam_t", "temporal")):
        at = f"{ours}.modulations.{i}"
        CSTM |= {
            f"{theirs}.{i}.{layer}.{part}": f"{at}.{name}.{place}"
            for layer, name, first in (("vt", "joint", 1), ("v_key", "key", 0))
            for part, place in (
                *((part, first) for part in ("conv", "conv3d")),
                *((part, first + 1) for part in ("bn", "batch3d")),
            )
        }
        CSTM |= {f"{theirs}.{i}.l_query": f"{at}.query", f"{theirs}.{i}.gamma.0": f"{at}.gate"}
CSTM |= {f"conv_mask.{i}": f"decoder.heads.{i}" for i in range(6)}


def _renamed(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> Weights:
    """The weights whose names begin with one of `names`, with that beginning replaced."""
    beginning = re.compile(rf"({'|'.join(map(re.escape, names))})\.")
    found = {key: beginning.match(key) for key in weights}
    return {names[m[1]] + key[m.end() - 1 :]: weights[key] for key, m in found.items() if m}


def acga_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> Weights:
    """The authors' weights of one stream in the names of an `ACGANetwork`."""
    found = _renamed(weights, ACGA)
    layers = {own_key(k.removeprefix(I3D)): v for k, v in weights.items() if k.startswith(I3D)}
    for part in ("video.backbone.layers.", "video.tail."):
        found |= {
            key: layers[key.removeprefix(part)]
            for key in network.state_dict()
            if key.startswith(part) and key.removeprefix(part) in layers
        }
    for head in range(3):
        first = f"decoder.heads.{head}.0.weight"
        if first in found and "text.conv.weight" in found:
            found[first] = _coordinates_first(found[first], len(found["text.conv.weight"]))
    return found


def _coordinates_first(weight: Tensor, text: int) -> Tensor:
    """Input channels [F_VA, F_TA, C], theirs, as [F_VA, C, F_TA]; `text` is F_TA's share."""
    vision = weight.shape[1] - text - coordinates.CHANNELS
    parts = weight.split([vision, text, coordinates.CHANNELS], 1) if vision > 0 else [weight]
    return torch.cat([parts[0], *reversed(parts[1:])], 1)


def cstm_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> Weights:
    """The authors' weights in the names of a `CSTMNetwork`."""
    found = _renamed(weights, CSTM)
    for stage, layers in enumerate(network.get_submodule("temporal.stages").children()):
        names = {
            f"t_layer{stage + 1}.{place}": f"temporal.stages.{stage}.{name}"
            for place, (name, _) in enumerate(layers.named_children())
        }
        found |= {own_key(key): value for key, value in _renamed(weights, names).items()}
    for stage in range(4):  # here they concatenate [temporal, spatial], at the fifth as we do
        key = f"fusions.{stage}.fuse.0.weight"
        if key in found:
            found[key] = torch.cat(found[key].chunk(2, 1)[::-1], 1)
    return found


RENAMED = {"acga": acga_weights, "cstm": cstm_weights}


def load_released(network: nn.Module, system: str, path: str) -> None:
    """Copies a released checkpoint into a network of `system`, acga or cstm.

    Raises:
        InputError: no such file, another one, or one of a network of other sizes.
    """
    weights = read_weights(path, f"; {system}.weights names the authors' checkpoint")
    load_weights(network, RENAMED[system](network, weights), path)
