"""A short video, and the page's real server on loopback."""

import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from aamn.visualization.video_writer import written_video


def write_clip(path, frames=23, seed=0, size=(40, 50)):
    """A bright square that wanders over noise."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 120, (*size, 3), np.uint8)
    with written_video(path, 10, size) as video:
        for number in range(frames):
            picture = ground.copy()
            side = size[0] * 3 // 10
            x, y = (5 + number) % (size[1] - side), (8 + 3 * seed) % (size[0] - side)
            picture[y : y + side, x : x + side] = (250, 240, 60)
            video.add(picture)
    return path


@contextmanager
def served(segmenter, bundle, folder, **options):
    """The address of a real server; `folder` is where it keeps what visitors bring."""
    from aamn.web.server import PageOptions, build_app, server_of

    server = server_of(build_app(segmenter, PageOptions(bundle, **options), Path(folder)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
