"""Graphs by OpenVINO: the network's numbers, roughly so in 8 bits."""

import sys
from types import SimpleNamespace

import pytest
import torch
from tiny_models import tiny_segmenter

from aamn.export.onnx_files import write_onnx
from aamn.export.openvino_runtime import OpenVinoGraph
from aamn.export.parts import segmenter_parts
from proposals.errors import InputError


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    pytest.importorskip("onnx", reason="onnx is not installed (extra export)")
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    part = next(p for p in segmenter_parts(tiny_segmenter()) if p.name == "stream_rgb")
    path = tmp_path_factory.mktemp("graphs") / "stream.onnx"
    write_onnx(part, path)
    return part, path


@torch.no_grad()
def test_float32_at_another_number_of_frames(stream):
    part, path = stream
    images = torch.rand(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    graph = OpenVinoGraph(path)
    first = graph({"images": images, "unknown": images})["rgb_map0"]
    torch.testing.assert_close(first, part.network(images)[0].contiguous(), atol=1e-4, rtol=1e-4)
    kept = first.clone()
    graph({"images": torch.zeros(3, 3, 48, 48)})
    assert torch.equal(first, kept)  # a later call does not write into it


@torch.no_grad()
def test_8_bits_by_examples(stream):
    pytest.importorskip("nncf", reason="NNCF is not installed (extra openvino)")
    part, path = stream
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(1, 3, 48, 48, generator=generator) for _ in range(4)]
    graph = OpenVinoGraph(path, examples=[{"images": one} for one in images])
    found, wanted = graph({"images": images[0]})["rgb_map0"], part.network(images[0])[0]
    error = (found - wanted).norm() / wanted.norm()
    assert 1e-5 < error < 0.1


@pytest.mark.parametrize(("package", "given"), [("openvino", ()), ("nncf", ({"images": None},))])
def test_what_lacks_is_said_with_the_extra(tmp_path, monkeypatch, package, given):
    if package == "nncf":
        pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
        model = SimpleNamespace(inputs=(), outputs=())
        monkeypatch.setattr("openvino.Core.read_model", lambda *_: model)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install 'aamn\[openvino\]'"):
        OpenVinoGraph(tmp_path / "any.onnx", examples=given)
