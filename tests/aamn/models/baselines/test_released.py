"""The released checkpoints' keys: what the authors' order of operations makes of them is what the
imported model answers."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aamn.models.baselines.acga import ACGA, ACGANetwork
from aamn.models.baselines.coordinates import coordinates
from aamn.models.baselines.cstm import CSTM, CSTMNetwork
from proposals.errors import InputError

BRANCHES = ("b0", "branch_0"), ("b1a", "branch_1.0"), ("b1b", "branch_1.1")
BRANCHES += ("b2a", "branch_2.0"), ("b2b", "branch_2.1"), ("b3b", "branch_3.1")
ACGA_NAMES = (
    (r"video\.(backbone\.layers|tail)\.", "video_model.model."),
    (r"text\.conv", "txt_model.0"),
    (r"word_guidance\.align", "attention_layer.video_reduce"),
    (r"cell_guidance\.query", "attention_layer.video_linearK"),
    (r"cell_guidance\.key", "attention_layer.video_linearQ"),
    (r"cell_guidance\.value", "attention_layer.video_linearV"),
    (r"cell_guidance\.gate", "attention_layer.txt_increase"),
    (r"decoder\.to_medium", "deconv_small"),
    (r"decoder\.to_large", "deconv_medium"),
    (r"decoder\.heads\.0", "conv_mask_small"),
    (r"decoder\.heads\.1", "conv_mask_medium"),
    (r"decoder\.heads\.2", "conv_mask_large"),
    (r"decoder\.fusion\.conv", "conv_fusion"),
)
CSTM_NAMES = (
    (r"text\.gru", "txt_encoder"),
    (r"text\.norm", "txt_norm.0"),
    (r"spatial\.stages\.(\d)", lambda m: f"s_layer{int(m[1]) + 1}"),
    (r"fusions\.(\d)\.spatial", r"ires_trans.\1"),
    (r"fusions\.(\d)\.temporal", r"vres_trans.\1"),
    (r"fusions\.(\d)\.fuse", r"conv_fuse1.\1"),
    (r"decoder\.merges\.(\d)", lambda m: f"conv_fuse2.{3 - int(m[1])}"),
    (r"decoder\.heads", "conv_mask"),
    (r"spatial\.modulations\.(\d)\.joint\.1", r"cmam_s.\1.vt.conv"),
    (r"spatial\.modulations\.(\d)\.joint\.2", r"cmam_s.\1.vt.bn"),
    (r"spatial\.modulations\.(\d)\.key\.0", r"cmam_s.\1.v_key.conv"),
    (r"spatial\.modulations\.(\d)\.key\.1", r"cmam_s.\1.v_key.bn"),
    (r"temporal\.modulations\.(\d)\.joint\.1", r"cmam_t.\1.vt.conv3d"),
    (r"temporal\.modulations\.(\d)\.joint\.2", r"cmam_t.\1.vt.batch3d"),
    (r"temporal\.modulations\.(\d)\.key\.0", r"cmam_t.\1.v_key.conv3d"),
    (r"temporal\.modulations\.(\d)\.key\.1", r"cmam_t.\1.v_key.batch3d"),
    (r"spatial\.modulations\.(\d)\.query", r"cmam_s.\1.l_query"),
    (r"temporal\.modulations\.(\d)\.query", r"cmam_t.\1.l_query"),
    (r"spatial\.modulations\.(\d)\.gate", r"cmam_s.\1.gamma.0"),
    (r"temporal\.modulations\.(\d)\.gate", r"cmam_t.\1.gamma.0"),
)
T_LAYERS = (
    ("conv3d_1a_7x7",),
    ("", "conv3d_2b_1x1", "conv3d_2c_3x3"),
    ("", "mixed_3b", "mixed_3c"),
    ("", "mixed_4b", "mixed_4c", "mixed_4d", "mixed_4e", "mixed_4f"),
    ("", "mixed_5b", "mixed_5c"),
)


def shaken(network):
    """Float64, in evaluation mode, no entry of which is as it was made."""
    torch.manual_seed(3)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.5 + 0.2 * ("var" in name) - 0.2)
            value.abs_() if "var" in name else None
    return network.double().eval()


def theirs(weights, names):
    """Weights in the released names."""
    found = {}
    for key, value in weights.items():
        for own, name in names:
            changed = re.sub(rf"^{own}", name, key)
            if changed != key:
                key = changed
                break
        if "mixed" in key or "conv3d_" in key:
            key = key.replace(".bn.", ".batch3d.")
            for own, name in BRANCHES:
                key = key.replace(f".{own}.", f".{name}.")
        found[f"module.{key}"] = value
    return found


@pytest.fixture
def acga(tiny):
    def make(**more):
        return ACGANetwork(tiny.acga(vision_guidance="attention_cut", **more), "rgb", 6)

    return make


def acga_answer(weights, vision, words):
    """ACGA behind the encoders, in the order of operations of the released code."""
    get = lambda name: {  # noqa: E731
        part: weights[f"module.{name}.{part}"] for part in ("weight", "bias")
    }
    linear = lambda name, x: F.linear(x, **get(f"attention_layer.{name}"))  # noqa: E731
    text = F.conv1d(words.transpose(1, 2), **get("txt_model.0"), padding=1).tanh()
    h, w = vision.shape[-2:]
    where = lambda maps: coordinates(maps).expand(len(maps), -1, -1, -1)  # noqa: E731
    cells = torch.cat([vision, where(vision)], 1).flatten(2).transpose(1, 2)
    score = (linear("video_reduce", cells) @ text / text.shape[1] ** 0.5).softmax(-1)
    heard = (score @ text.transpose(1, 2)).transpose(1, 2).unflatten(2, (h, w))
    gate = linear("txt_increase", text.amax(2))[:, None]
    k, q = linear("video_linearK", cells) * gate, linear("video_linearQ", cells) * gate
    look = (k @ q.transpose(1, 2) / cells.shape[2] ** 0.5).softmax(-1)
    seen = (look @ linear("video_linearV", cells)).transpose(1, 2).unflatten(2, (h, w))
    maps, found = seen[:, : vision.shape[1]], []
    for name, following in (("small", "small"), ("medium", "medium"), ("large", "")):
        resized = F.interpolate(heard, maps.shape[-2:], mode="bilinear")
        x = torch.cat([maps, resized, where(maps)], 1)
        x = F.conv2d(x, **get(f"conv_mask_{name}.0"), padding=1).relu()
        x = F.conv2d(x, **get(f"conv_mask_{name}.2"), padding=1).relu()
        found.append(F.conv2d(x, **get(f"conv_mask_{name}.4")))
        if following:
            up = F.conv_transpose2d(maps, **get(f"deconv_{name}.0"), stride=4, padding=2)
            maps = F.conv2d(up, **get(f"deconv_{name}.1"), padding=1)
    size = found[-1].shape[-2:]
    all_three = torch.cat([F.interpolate(x, size, mode="bilinear") for x in found], 1)
    return [*found[:2], F.conv2d(all_three, **get("conv_fusion"), padding=1)]


def test_acga_answers_as_the_released_order_of_operations_does(acga, tmp_path):
    source = shaken(acga())
    weights = theirs(source.state_dict(), ACGA_NAMES)
    weights["module.video_model.model.conv3d_0c_1x1.conv3d.bias"] = torch.zeros(3)
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {}}, tmp_path / "m.pth.tar")
    target = acga(weights=str(tmp_path / "m.pth.tar"))
    target.load_pretrained()
    target = target.double().eval()
    vision = F.normalize(torch.rand(2, source.video.channels, 2, 2, dtype=torch.float64), dim=1)
    words = torch.rand(2, 20, 6, dtype=torch.float64)
    answers = target.respond(vision, torch.arange(2), words)
    for found, wanted in zip(answers, acga_answer(weights, vision, words), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    clips = torch.rand(1, 3, 4, 32, 32, dtype=torch.float64)
    pair = (one.video(one.video.frozen(clips)) for one in (target, source))
    torch.testing.assert_close(*pair, rtol=1e-5, atol=1e-6)


@pytest.fixture
def cstm(tiny):
    return lambda **more: CSTMNetwork(tiny.cstm(**more), 6)


def cstm_weights(source):
    weights = theirs(source.state_dict(), CSTM_NAMES)
    for stage, names in enumerate(T_LAYERS):
        for place, name in enumerate(names):
            own = f"module.temporal.stages.{stage}.{name}."
            for key in [key for key in weights if name and key.startswith(own)]:
                new = f"module.t_layer{stage + 1}.{place}.{key.removeprefix(own)}"
                weights[new] = weights.pop(key)
    return weights


def cstm_decoded(weights, spatial, temporal):
    """CSTM behind its stages (finest first), in the order of operations of the released code."""
    get = lambda name: {  # noqa: E731
        part: weights[key]
        for part in ("weight", "bias")
        if (key := f"module.{name}.{part}") in weights
    }

    def unit(name, x):
        norm = [weights[f"module.{name}.1.running_{part}"] for part in ("mean", "var")]
        x = F.conv2d(x, **get(f"{name}.0"), padding=1)
        return F.batch_norm(x, *norm, **get(f"{name}.1")).relu()

    t = [unit(f"vres_trans.{i}", x[:, :, x.shape[2] // 2]) for i, x in enumerate(temporal)]
    s = [unit(f"ires_trans.{i}", x) for i, x in enumerate(spatial)]
    maps, found = unit("conv_fuse1.4", torch.cat([s[4], t[4]], 1)), []
    for i in range(6):
        if 1 <= i <= 4:
            both = unit(f"conv_fuse1.{4 - i}", torch.cat([t[4 - i], s[4 - i]], 1))
            maps = unit(f"conv_fuse2.{4 - i}", torch.cat([maps, both], 1))
        x = F.conv2d(maps, **get(f"conv_mask.{i}.0"), padding=1).relu()
        x = F.conv2d(x, **get(f"conv_mask.{i}.2"), padding=1).relu()
        found.append(F.conv2d(x, **get(f"conv_mask.{i}.4")))
        maps = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)
    return found


def test_cstm_answers_as_the_released_order_of_operations_does(cstm, tmp_path):
    source = shaken(cstm())
    weights = cstm_weights(source)
    assert not [key for key in weights if "stages" in key or "modulations" in key]
    torch.save({"state_dict": weights}, tmp_path / "c.pth.tar")
    target = cstm(weights=str(tmp_path / "c.pth.tar"))
    target.load_pretrained()
    target = target.double().eval()
    video, words = torch.rand(1, 3, 4, 64, 64).double(), torch.rand(1, 20, 6).double()
    owner = torch.zeros(1, dtype=torch.long)
    stages, wanted = (
        one.modulate(one.encode(video), owner, one.text(words)) for one in (target, source)
    )
    for name in ("spatial", "temporal"):
        for pair in zip(getattr(stages, name), getattr(wanted, name), strict=True):
            torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-4)
    answers = target.respond(target.encode(video), owner, words)
    decoded = cstm_decoded(weights, stages.spatial, stages.temporal)
    for found, theirs_ in zip(answers, decoded, strict=True):
        torch.testing.assert_close(found, theirs_, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_named(acga, cstm, tiny, tmp_path):
    path = tmp_path / "m.pth.tar"
    with pytest.raises(InputError, match=r"m\.pth\.tar.*acga\.weights names the authors'"):
        acga(weights=str(path)).load_pretrained()
    torch.save({"state_dict": theirs(acga().state_dict(), ACGA_NAMES)}, path)
    with pytest.raises(InputError, match=r"m\.pth\.tar: lacks .* decoder\.fusions?|lacks \d+ of"):
        cstm(weights=str(path)).load_pretrained()
    with pytest.raises(InputError, match=r"m\.pth\.tar: .* has shape"):
        acga(weights=str(path), channels=(5, 3, 2)).load_pretrained()
    with pytest.raises(InputError, match=r"acga\.weights: .* one stream"):
        acga(weights=str(path), streams="rgb+flow")


def test_a_system_starts_from_it(tiny, embedding, acga, cstm, tmp_path):
    for system, make, names in ((ACGA, acga, ACGA_NAMES), (CSTM, cstm, None)):
        source = make()
        weights = theirs(source.state_dict(), names) if names else cstm_weights(source)
        torch.save(weights, tmp_path / "w.pt")
        more = {"weights": str(tmp_path / "w.pt")}
        if system is ACGA:
            more["vision_guidance"] = "attention_cut"
        config = getattr(tiny, system.__name__.lower())(**more)
        built = system(config, nn.Embedding(8, 6))
        built.load_pretrained()
        own = built.networks["rgb"].state_dict()
        assert own.keys() == source.state_dict().keys()
        same = [torch.equal(own[key], value) for key, value in source.state_dict().items()]
        assert same.count(False) == (3 if system is ACGA else 4), "those put in another order"
