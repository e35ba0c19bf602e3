"""The frozen backbone's features on disk: computed once, never stale, never half written."""

import os

import h5py
import pytest
import torch

from aamn.models.baselines import frozen_backbone as backbone_module
from aamn.models.baselines.acga import ACGA
from aamn.models.baselines.frozen_backbone import CachedBackbone, FrozenBackbone
from aamn.models.baselines.i3d import build_i3d
from aamn.models.baselines.one_stage import stack_stream


def frozen_features(system, clips, stream="rgb"):
    """What the layers that do not learn make of clips."""
    return system.networks[stream].video.frozen(stack_stream(clips, stream, system.device))


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return build_i3d(3, "mixed_3b", 0.1)


@pytest.fixture
def computed(monkeypatch):
    """The clips that were really computed."""
    clips, original = [], FrozenBackbone.forward
    monkeypatch.setattr(
        FrozenBackbone, "forward", lambda self, video: clips.extend(video) or original(self, video)
    )
    return clips


def test_stored_features_are_the_computed_ones(layers, tmp_path, computed):
    video = torch.rand(3, 3, 4, 32, 32)
    cached, plain = CachedBackbone(layers, tmp_path), FrozenBackbone(layers)
    fresh = cached(video)
    assert len(computed) == 3
    stored = cached(video.flip(0)).flip(0)
    assert len(computed) == 3
    assert torch.equal(fresh, stored) and fresh.dtype == torch.float32
    torch.testing.assert_close(fresh, plain(video), rtol=1e-3, atol=1e-4)
    assert len(list(tmp_path.rglob("*.h5"))) == 3 and not list(tmp_path.rglob("*.tmp"))


def test_another_process_finds_them(layers, tmp_path, computed):
    video = torch.rand(1, 3, 4, 32, 32)
    first = CachedBackbone(layers, tmp_path)(video)
    again = build_i3d(3, "mixed_3b", 0.1)
    again.load_state_dict(layers.state_dict())
    assert torch.equal(CachedBackbone(again, tmp_path)(video), first) and len(computed) == 1


def test_another_eps_never_reads_them(layers, tmp_path, computed):
    """The paper's and the released ACGA may share the folder and the file of weights."""
    video = torch.rand(1, 3, 4, 32, 32)
    CachedBackbone(layers, tmp_path)(video)
    other = build_i3d(3, "mixed_3b", 0.1, norm_eps=0.1)
    other.load_state_dict(layers.state_dict())
    found = CachedBackbone(other, tmp_path)(video)
    assert len(computed) == 2
    torch.testing.assert_close(found, FrozenBackbone(other)(video), rtol=1e-3, atol=1e-4)


def test_changed_clips_and_sizes_are_other_files(layers, tmp_path, computed):
    cached, clip = CachedBackbone(layers, tmp_path), torch.rand(3, 4, 32, 32)
    nudged = clip.clone()
    nudged[0, 0, 0, 0] += 1e-6
    clips = [clip, nudged, clip.flip(3), clip.reshape(3, 4, 64, 16), clip[:, :2]]
    assert len({cached.path(each) for each in clips}) == len(clips)


@pytest.mark.parametrize("how", ["load_state_dict", "load_pretrained"])
def test_other_weights_are_other_files(tmp_path, how, tiny, embedding, make_sample):
    """Weights that arrive after the first use, as a checkpoint's or a file's do."""
    other = build_i3d(3, "mixed_4f", tiny.i3d().width)
    torch.save(other.state_dict(), tmp_path / "i3d.pt")
    config = tiny.acga(
        backbone_cache=str(tmp_path / "cache"),
        i3d=tiny.i3d(rgb_weights=str(tmp_path / "i3d.pt")),
    )
    system = ACGA(config, embedding).eval()
    sample = make_sample(system.input_spec)
    random = frozen_features(system, [sample.clip])
    if how == "load_pretrained":
        system.load_pretrained()
    else:
        loaded = ACGA(tiny.acga(), embedding)
        system.load_state_dict(loaded.state_dict())
    assert not torch.equal(frozen_features(system, [sample.clip]), random)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_an_interrupted_write_leaves_no_file(layers, tmp_path, monkeypatch):
    cached, video = CachedBackbone(layers, tmp_path), torch.rand(1, 3, 4, 32, 32)

    def stop(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        cached(video)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    monkeypatch.undo()
    assert cached(video).isfinite().all() and cached.path(video[0]).exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_a_damaged_file_is_computed_again(layers, tmp_path, caplog, damage):
    cached, video = CachedBackbone(layers, tmp_path), torch.rand(1, 3, 4, 32, 32)
    wanted, path = cached(video), cached.path(video[0])
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        with h5py.File(path, "w") as file:
            file["something"] = 1
    assert torch.equal(cached(video), wanted)
    assert f"{path} is damaged" in caplog.text
    caplog.clear()
    assert torch.equal(cached(video), wanted) and not caplog.text


def test_a_cached_system_trains_as_an_uncached_one(tiny, embedding, make_sample, tmp_path):
    """Same parameters' names, and losses that differ by half precision at most."""
    torch.manual_seed(0)
    plain = ACGA(tiny.acga(), embedding).eval()
    cached = ACGA(tiny.acga(backbone_cache=str(tmp_path)), embedding).eval()
    cached.load_state_dict(plain.state_dict())
    sample = make_sample(plain.input_spec)
    wanted, got = plain([sample])["total"], cached([sample])["total"]
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


def test_frozen_backbones_never_train(layers):
    backbone = backbone_module.build_frozen_backbone(layers, "").train()
    video = torch.rand(1, 3, 4, 32, 32, requires_grad=True)
    before = [b.clone() for b in backbone.buffers()]
    assert not backbone(video).requires_grad
    assert all(torch.equal(a, b) for a, b in zip(backbone.buffers(), before, strict=True))
    assert not any(p.requires_grad for p in backbone.parameters())
