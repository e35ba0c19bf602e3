"""Pictures in a browser: a real server on loopback."""

from urllib.request import urlopen

import cv2
import numpy as np
import pytest

from aamn.live.output import Screen, motion_jpeg
from proposals.errors import InputError


def picture(value):
    return np.full((16, 24, 3), value, np.uint8)


def parts(answer):
    """The JPEGs of the stream, until it ends."""
    while line := answer.readline():
        if line.startswith(b"Content-Length"):
            length = int(line.split()[1])
            assert answer.readline() == b"\r\n"
            yield cv2.imdecode(np.frombuffer(answer.read(length), np.uint8), cv2.IMREAD_COLOR)


def test_browsers_are_shown_each_picture_once_and_the_end():
    with motion_jpeg(0) as stream:
        red = picture(0)
        red[..., 0] = 200
        stream.add(red)
        with urlopen(stream.address, timeout=10) as answer:
            assert answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
            shown = parts(answer)
            first = next(shown)
            assert first.shape == (16, 24, 3) and first[8, 8, 2] > 150 > 50 > first[8, 8, 0]
            stream.add(picture(90))
            assert abs(int(next(shown)[8, 8, 1]) - 90) < 5
            stream._latest.end()
            assert list(shown) == []


def test_a_port_that_another_program_has_is_said():
    with motion_jpeg(0) as stream:
        port = int(stream.address.rsplit(":", 1)[1].strip("/"))
        with pytest.raises(InputError, match=f"--port {port}: .*choose another one"):
            motion_jpeg(port).__enter__()


def test_an_opencv_without_windows_says_what_to_do(monkeypatch):
    def none(*given):
        raise cv2.error("not implemented")

    monkeypatch.setattr(cv2, "namedWindow", none)
    with pytest.raises(InputError, match=r"--show: this OpenCV opens no window.*--port"):
        Screen()
