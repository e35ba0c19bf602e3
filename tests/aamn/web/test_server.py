"""The real server on loopback: what it serves, and what it refuses."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from io import BytesIO
from zipfile import ZipFile

import numpy as np
import pytest
from click.testing import CliRunner
from page_server import served, write_clip
from pycocotools import mask as coco_mask

from aamn.cli.main import aamn as command
from proposals.errors import InputError


def call(method, url, content=None, **headers):
    """Status, headers and body of a request; dicts travel as JSON."""
    if isinstance(content, dict):
        content = json.dumps(content).encode()
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def said(method, url, content=None, **headers):
    status, _, body = call(method, url, content, **headers)
    return status, json.loads(body)


def opened(address, method, path, content=None):
    """The description of an opened video whose index is ready."""
    status, video = said(method, f"{address}{path}", content)
    assert status == 200, video
    while video.get("state") not in ("ready", "failed"):
        status, video = said("GET", f"{address}/api/videos/{video['token']}")
    assert video["state"] == "ready", video
    return video, f"{address}/api/videos/{video['token']}"


def test_a_video_is_brought_asked_and_taken_home(page, segmenter, clip):
    address, folder = page
    video, own = opened(address, "POST", "/api/videos?name=My%20clip.mp4", clip.read_bytes())
    assert (video["name"], video["frames"]) == ("My clip.mp4", 23) and str(folder) not in str(video)
    asked = {"sentences": ["w3 w4", "w7"]}
    status, headers, body = call("POST", f"{own}/answers", asked)
    answers = json.loads(body)["answers"]
    assert status == 200 and headers["Server-Timing"].startswith("answer;dur=")
    with segmenter.index(clip) as index:
        (track,) = index.query("w7", absent_threshold=None)
        clips = [said("GET", f"{own}/clips/{n}")[1] for n in range(len(video["clips"]))]
        for frame in (0, 11, 22):
            number = next(n for n, (_, end) in enumerate(video["clips"]) if frame < end)
            tube = next(
                t for t in clips[number]["tubes"] if t["tube"] == answers[1]["tubes"][number]
            )
            counts = tube["masks"][frame - clips[number]["frames"][0]]
            mask = coco_mask.decode({"size": video["size"], "counts": counts})
            assert (mask == track.masks(frame)).all()
    assert call("GET", f"{own}/frames/22")[2][:2] == b"\xff\xd8"
    status, _, body = call("POST", f"{own}/zip", {**asked, "threshold": 0.5})
    assert status == 200 and "01_w7/masks/00022.png" in ZipFile(BytesIO(body)).namelist()
    lines = said("POST", f"{own}/python", {**asked, "threshold": 0.5})[1]["lines"]
    assert "absent_threshold=0.5" in lines and "My clip.mp4" in lines
    assert said("DELETE", own) == (200, {})
    assert said("GET", own)[0] == 404 and not list(folder.glob("*.zip"))


def test_examples_and_library(page):
    address, _ = page
    status, start = said("GET", f"{address}/api/start")
    assert status == 200 and start["library"] == 3
    assert start["examples"] == [{"name": "clip", "sentences": ["w3 w4", "w7"]}]
    video, _ = opened(address, "POST", "/api/examples/0")
    assert video["suggestions"] == ["w3 w4", "w7"]
    assert call("GET", f"{address}/api/examples/0/picture")[2][:2] == b"\xff\xd8"
    hit = said("GET", f"{address}/api/library?sentence=w3")[1]["hits"][0]
    found, _ = opened(address, "POST", f"/api/library/{hit['place']}")
    assert found["name"] == f"{hit['video_id']}.mp4"
    picture = f"{address}/api/library/{hit['place']}/picture?sentence=w3&frame=1"
    assert call("GET", picture)[1]["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "words"),
    [
        ("GET", "/api/videos/guessed", None, 404, "not open any more"),
        ("GET", "/api/videos/guessed/frames/0", None, 404, "not open any more"),
        ("POST", "/api/videos/guessed/answers", {"sentences": ["w"] * 4}, 422, "at most 3"),
        ("POST", "/api/videos?name=x.mp4", b"text", 422, "x.mp4: no frame can be decoded"),
        ("POST", "/api/videos?name=x.mp4", b"\0" * 200_001, 422, "larger than 0.2 MB"),
        ("POST", "/api/examples/0", b"\0" * 70_000, 413, "too long"),
        ("POST", "/api/examples/7", None, 422, "no example 7"),
        ("POST", "/api/library/99", None, 422, "no video 99"),
        ("GET", "/api/library?sentence=%3F", None, 422, "holds no word"),
    ],
)
def test_a_mistake_is_said_in_one_line(page, method, path, content, status, words):
    found = said(method, page[0] + path, content)
    assert found[0] == status and words in found[1]["error"] and "\n" not in found[1]["error"]


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "/page/index.html", "/..%2fserver.py", "/%2e%2e/server.py", "/server.py"),
        *("/docs", "/openapi.json", "/api/videos", "/api/examples/0/video"),
    ],
)
def test_no_other_file_is_served(page, path):
    assert call("GET", page[0] + path)[0] in (404, 405)


def test_the_page_s_own_files_are_served_and_other_sites_are_kept_out(page):
    for path, kind in {"/": "html", "/page.css": "css", "/page.js": "javascript"}.items():
        status, headers, body = call("GET", page[0] + path)
        assert status == 200 and kind in headers["Content-Type"] and body
        assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert call("GET", page[0] + "/api/start", Host="evil.example")[0] == 400
    assert (
        "Access-Control-Allow-Origin" not in call("GET", page[0], Origin="http://evil.example")[1]
    )


def test_two_visitors_do_not_see_each_other(page, clip, tmp_path):
    address, _ = page
    other = write_clip(tmp_path / "other.mp4", 12, 5)
    one, first = opened(address, "POST", "/api/videos?name=a.mp4", clip.read_bytes())
    two, second = opened(address, "POST", "/api/videos?name=b.mp4", other.read_bytes())
    assert one["token"] != two["token"] and (one["frames"], two["frames"]) == (23, 12)
    asked = {"sentences": ["w3"]}
    pairs = [said("POST", f"{own}/answers", asked)[1]["answers"][0] for own in (first, second)]
    assert len(pairs[0]["tubes"]) != len(pairs[1]["tubes"])
    assert said("DELETE", first)[0] == 200
    assert said("POST", f"{second}/answers", asked)[1]["answers"][0] == pairs[1]


def test_what_visitors_brought_goes_with_the_server(segmenter, bundle, clip, tmp_path):
    pytest.importorskip("fastapi", reason="the page's server: pip install 'aamn[web]'")
    with served(segmenter, bundle, tmp_path) as address:
        said("POST", f"{address}/api/videos?name=a.mp4", clip.read_bytes())
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_when_the_command_is_told_to_end(bundle, clip, tmp_path):
    pytest.importorskip("fastapi", reason="the page's server: pip install 'aamn[web]'")
    words = ["-m", "aamn", "web", str(clip), "--bundle", str(bundle), "--port", "0"]
    program = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    address = program.stdout.readline().strip()
    status, video = said("POST", f"{address}/api/videos?name=a.mp4", clip.read_bytes())
    assert status == 200 and video["token"] and list(tmp_path.glob("aamn-web-*/video-*"))
    program.terminate()
    assert program.wait(60) == 0
    assert not list(tmp_path.iterdir())


def test_a_taken_port_is_said(segmenter, bundle):
    pytest.importorskip("fastapi", reason="the page's server: pip install 'aamn[web]'")
    from aamn.web.server import PageOptions, serve

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127.0.0.1:{port}.*--port"):
            serve(segmenter, PageOptions(bundle, port=port))


def test_the_command_serves_its_examples(monkeypatch, bundle, clip, library, capsys):
    pytest.importorskip("fastapi", reason="the page's server: pip install 'aamn[web]'")
    seen = []
    monkeypatch.setattr("aamn.web.server.serve", lambda *given: seen.append(given))
    words = ["web", str(clip), "--bundle", str(bundle), "--library", str(library), "--port", "0"]
    done = CliRunner().invoke(command, [*words, "--frames", "99"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    ((segmenter, options),) = seen
    assert segmenter.boxes is not None and options.host == "127.0.0.1"
    assert [example.video.path for example in options.examples] == [clip]
    assert (options.library, options.limits.frames, options.port) == (library, 99, 0)
    assert np.isclose(options.limits.megabytes, 200)
