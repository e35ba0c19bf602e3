"""Videos that browsers play, with the speed, size and colours of what was given."""

import resource
from fractions import Fraction

import av
import numpy as np
import pytest

from aamn.visualization.video_writer import exact_rate, written_video
from proposals.errors import InputError
from proposals.frames import open_frames


def plain(height: int, width: int, colour=(100, 100, 100)) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def write(path, fps: float, pictures) -> None:
    with written_video(path, fps, pictures[0].shape[:2]) as video:
        for picture in pictures:
            video.add(picture)


@pytest.mark.parametrize(
    ("fps", "played"),
    [
        (10.0, Fraction(10)),
        (2.5, Fraction(5, 2)),
        (0.0, Fraction(25)),
        (30000 / 1001, Fraction(30000, 1001)),
        (30000 / 1001 / 7, Fraction(30000, 7007)),
        (23.976, Fraction(2997, 125)),
    ],
)
def test_a_video_plays_its_frames_in_order_at_their_exact_speed(tmp_path, fps, played):
    colours = [(200, 30, 30), (30, 160, 30), (30, 160, 30)]
    path = tmp_path / "new" / "f.mp4"
    with written_video(path, fps, (32, 48)) as video:
        for colour in colours:
            video.add(plain(32, 48, colour))
        assert not path.exists(), "not before it is complete"
    assert [file.name for file in path.parent.iterdir()] == ["f.mp4"]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == stream.guessed_rate == played == exact_rate(fps)
        assert stream.frames == 3
    frames = open_frames(path).read(range(3))
    assert frames.shape == (3, 32, 48, 3)
    np.testing.assert_allclose(frames.mean((1, 2)), colours, atol=4)


def test_a_browser_can_play_it_while_it_loads(tmp_path):
    write(tmp_path / "f.mp4", 25.0, [plain(32, 48)] * 3)
    content = (tmp_path / "f.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat"), "the index comes first"
    with av.open(str(tmp_path / "f.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (codec.colorspace, codec.color_range) == (6, 1), "no player has to guess"


@pytest.mark.parametrize(
    ("size", "even"), [((31, 47), (32, 48)), ((1, 2), (2, 2)), ((6, 5), (6, 6))]
)
def test_an_odd_side_repeats_its_last_pixels(tmp_path, size, even):
    write(tmp_path / "f.mp4", 25.0, [plain(*size, (90, 160, 30))] * 2)
    (frame, _) = open_frames(tmp_path / "f.mp4").read([0, 1])
    assert frame.shape[:2] == even
    np.testing.assert_allclose(
        frame.reshape(-1, 3), np.full((frame.size // 3, 3), (90, 160, 30)), atol=6
    )


def test_a_video_that_was_not_finished_leaves_what_was_there(tmp_path):
    (tmp_path / "f.mp4").write_bytes(b"before")
    with pytest.raises(KeyError), written_video(tmp_path / "f.mp4", 10.0, (32, 48)) as video:
        video.add(plain(32, 48))
        raise KeyError("x")
    assert [path.name for path in tmp_path.iterdir()] == ["f.mp4"]
    assert (tmp_path / "f.mp4").read_bytes() == b"before"


def test_a_video_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(InputError, match=r"f\.mp4: cannot write a video of 48x0 pixels"),
        written_video(tmp_path / "f.mp4", 10.0, (0, 48)),
    ):
        raise AssertionError("there is no such size")
    assert list(tmp_path.iterdir()) == []


def test_a_frame_of_another_size_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"f\.mp4: a frame of 50x32"):
        write(tmp_path / "f.mp4", 10.0, [plain(32, 48), plain(32, 50)])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), np.uint8)
    sizes = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, sizes[1]))
        with pytest.raises(InputError, match=r"cannot write .*f\.mp4: no space left"):
            write(tmp_path / "f.mp4", 10.0, list(noise))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, sizes)
