"""Finding, downloading and refusing the public weights: a real client against a server on loopback,
real classes of transformers at tiny sizes with random weights."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import torch
from tiny_image_text import save_tiny_model

from aamn.config.zeroshot import PublishedConfig
from aamn.models.zeroshot.image_text import FILES, WEIGHTS
from aamn.zeroshot import weights
from proposals.errors import InputError

REVISION = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "some/model"


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download uses: /repository/resolve/revision/file, and
    any other path as a plain file server."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        wrong = "/resolve/" in self.path and REVISION not in self.path
        content = None if wrong else self.files.get(self.path.rpartition("/")[2])
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "RevisionNotFound" if wrong else "EntryNotFound")
        else:
            self.send_header("ETag", hashlib.sha256(content).hexdigest())
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if body and content:
            self.wfile.write(content)

    def log_message(self, *given):
        pass


@contextmanager
def serving(files):
    handler = type("Handler", (Hub,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub's client, and of torch's."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs extra zeroshot")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return tmp_path


FILES_THERE = {name: f"content of {name}".encode() for name in (*FILES, WEIGHTS)}


def published(address, **changes):
    values = {
        "image_text": REPOSITORY,
        "image_text_revision": REVISION,
        "image_text_sha256": digest(FILES_THERE[WEIGHTS]),
        "hub": address,
        "detector_url": f"{address}/",
        **changes,
    }
    return PublishedConfig(**values)


def test_what_lacks_is_downloaded_once(cache):
    with serving(FILES_THERE) as address:
        found = weights.find_image_text(published(address))
    assert found.path.name == REVISION
    assert {f.name: f.read_bytes() for f in found.path.iterdir()} == FILES_THERE
    assert found.sha256 == digest(FILES_THERE[WEIGHTS])
    assert weights.find_image_text(published(address)) == found  # the server is gone: the cache's


@pytest.mark.parametrize(
    ("changes", "files", "wanted"),
    [
        ({"image_text_sha256": "0" * 64}, FILES_THERE, "the pinned one is 000000000000"),
        ({"image_text_revision": "1" * 40}, FILES_THERE, "the hub has no revision 1111"),
        ({}, {"config.json": b"{}"}, "only models with safetensors are used"),
    ],
)
def test_another_model_is_refused_in_one_line(cache, changes, files, wanted):
    with serving(files) as address, pytest.raises(InputError) as error:
        weights.find_image_text(published(address, **changes))
    assert wanted in str(error.value) and "\n" not in str(error.value)


def closed():
    """An address at which nobody listens."""
    with serving({}) as address:
        return address


def test_without_a_network_one_line_says_what_to_fetch(cache):
    address = closed()
    with pytest.raises(InputError) as error:
        weights.find_image_text(published(address))
    said = str(error.value)
    assert "\n" not in said
    assert (
        f"https://huggingface.co/{REPOSITORY}/tree/{REVISION}" in said and "--weights DIR" in said
    )
    assert WEIGHTS in said
    with pytest.raises(InputError) as error:
        weights.find_detector(published(address))
    said = str(error.value)
    assert f"fetch {address}/maskrcnn" in said and str(cache / "torch/checkpoints") in said


def test_a_folder_of_the_users(tmp_path):
    own = tmp_path / "model"
    own.mkdir()
    for name, content in FILES_THERE.items():
        (own / name).write_bytes(content)
    pinned = published("")
    assert weights.find_image_text(pinned, own).path == own
    assert weights.find_image_text(pinned, tmp_path).path == own  # by the model's name
    (own / WEIGHTS).unlink()
    with pytest.raises(InputError, match=rf"holds no {WEIGHTS}, nor does .*model: fetch config"):
        weights.find_image_text(pinned, tmp_path)
    with pytest.raises(InputError, match=r"lacks maskrcnn.*; fetch it from"):
        weights.find_detector(pinned, tmp_path)


def test_the_detectors_name_says_its_checksum(cache):
    content = b"weights"
    name = f"mask-{digest(content)[:8]}.pth"
    with serving({name: content}) as address:
        pinned = published(address, detector=name)
        found = weights.find_detector(pinned)
        assert found.path.read_bytes() == content and found.sha256 == digest(content)
        wrong = published(address, detector="mask-00000000.pth")
        with serving({wrong.detector: content}) as other, pytest.raises(InputError) as error:
            weights.find_detector(published(other, detector=wrong.detector))
    assert "has not the checksum that its name says" in str(error.value)
    assert not (found.path.parent / wrong.detector).exists()
    found.path.write_bytes(b"changed")
    with pytest.raises(InputError, match=r"its name says .*: remove it"):
        weights.find_detector(pinned)


# Real classes of transformers


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request, tmp_path_factory):
    """A model as the hub has it."""
    pytest.importorskip("transformers", reason="needs the extra zeroshot")
    return save_tiny_model(tmp_path_factory.mktemp(request.param), request.param)


def test_a_real_model_makes_vectors_of_length_one(folder):
    from aamn.models.zeroshot.image_text import read_image_text

    model = read_image_text(folder)
    assert model.side == 16 and model.mean.flatten().tolist() == [0.5] * 3
    with torch.inference_mode():
        images = model.encode_images(torch.rand(3, 3, 16, 16))
        texts = model.encode_texts(["a red dog", "something"])
        alone = model.encode_texts(["something"])
    assert images.shape == (3, model.width) and texts.shape == (2, model.width)
    assert torch.allclose(images.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(texts[1], alone[0], atol=1e-5)  # padding does not touch it
    assert not torch.allclose(texts[0], texts[1], atol=1e-4)


def test_a_real_model_behind_the_index(folder):
    from tiny_zeroshot import draw, tiny_zeroshot

    from aamn.models.zeroshot.image_text import read_image_text

    model = (read_image_text(folder), "tiny")
    segmenter = tiny_zeroshot("zeroshot.describers=image_text", model=model)
    tracks = segmenter.index(draw(6)).query(["a red dog", "something"])
    assert all(track.tubes.min() >= 0 for track in tracks)
    # a sentence that is one of the generic ones scores as they do on average, near 0
    assert all(abs(track.score) < 40 for track in tracks)


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("tokenizer.json", None, "lacks tokenizer.json"),
        (WEIGHTS, b"no tensors", "holds no usable image-text model"),
        ("config.json", b"{", "config.json is damaged"),
        ("config.json", b'{"model_type": "bert"}', "is of a model of type 'bert', wanted one of"),
    ],
)
def test_a_damaged_folder_is_one_line(folder, tmp_path, name, content, wanted):
    import shutil

    from aamn.models.zeroshot.image_text import read_image_text

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        read_image_text(copy)
    assert wanted in str(error.value) and "\n" not in str(error.value)
