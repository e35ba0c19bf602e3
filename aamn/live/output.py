"""Where the pictures of a live run go: an mp4, a page in a browser, a window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Protocol

import cv2
import numpy as np

from proposals.errors import InputError

BOUNDARY = "frame"
QUALITY = 85  # of the JPEGs


class Output(Protocol):
    """Takes pictures (H, W, 3) uint8 RGB, all of one size."""

    def add(self, picture: np.ndarray) -> None: ...


class Screen:
    """A window of OpenCV's."""

    def __init__(self, title: str = "aamn live") -> None:
        """Raises:
        InputError: this build of OpenCV has no windows, or there is no screen.
        """
        self.title = title
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise InputError(
                "--show: this OpenCV opens no window (opencv-python-headless has none, and there "
                "must be a screen); use --port, and a browser, or --out"
            ) from None

    def add(self, picture: np.ndarray) -> None:
        cv2.imshow(self.title, picture[..., ::-1])
        cv2.waitKey(1)


class _Latest:
    """The last picture as a JPEG, for whoever waits for the next one."""

    def __init__(self) -> None:
        self.number, self.jpeg, self.ended = 0, b"", False
        self.changed = Condition()

    def put(self, jpeg: bytes) -> None:
        with self.changed:
            self.number, self.jpeg = self.number + 1, jpeg
            self.changed.notify_all()

    def end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def after(self, number: int) -> tuple[int, bytes] | None:
        """A later picture than this one, with its number; None at the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.number > number or self.ended)
            return None if self.number <= number else (self.number, self.jpeg)


class MotionJPEG:
    """A stream of JPEGs that browsers show as a moving picture; who is slow is shown fewer."""

    def __init__(self, server: ThreadingHTTPServer, latest: _Latest) -> None:
        self._server, self._latest = server, latest

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def add(self, picture: np.ndarray) -> None:
        _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        self._latest.put(jpeg.tobytes())


@contextmanager
def motion_jpeg(port: int) -> Iterator[MotionJPEG]:
    """The stream at a port of this machine, for this machine alone; 0: any free one.

    Raises:
        InputError: another program has the port.
    """
    latest = _Latest()
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler(latest))
    except OSError as error:
        raise InputError(f"--port {port}: {error.strerror}; choose another one") from None
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, name="mjpeg", daemon=True)
    thread.start()
    try:
        yield MotionJPEG(server, latest)
    finally:
        latest.end()
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(latest: _Latest) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            number = 0
            try:
                while found := latest.after(number):
                    number, jpeg = found
                    self.wfile.write(_part(jpeg))
            except (BrokenPipeError, ConnectionResetError):
                return  # the browser has gone

        def log_message(self, format: str, *arguments: object) -> None:
            """A request is no news."""

    return Handler


def _part(jpeg: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + b"\r\n"
