"""Frames are counted, not believed."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from proposals import frames as frames_module
from proposals.errors import InputError
from proposals.frames import (
    fitted_size,
    is_path,
    natural_key,
    open_frames,
    resize_frame,
    take_frames,
)
from proposals.video_file import VideoDecoder

SIZE = (48, 64)


def shade(index: int) -> int:
    return 12 + 4 * index


def write_video(
    path: Path, frames: int = 60, codec: str = "mp4v", size=SIZE, fps: float = 25.0
) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size[::-1])
    assert writer.isOpened()
    for index in range(frames):
        writer.write(np.full((*size, 3), shade(index), np.uint8))
    writer.release()
    return path


def numbers(frames: np.ndarray) -> list[int]:
    """Which frames these are, read from their grey value."""
    return [round((float(frame.mean()) - 10) / 4) for frame in frames]


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "grey.mp4")


@pytest.mark.parametrize(
    "indices",
    [[0], [59], [5, 5, 4], [50, 3, 59, 0, 33], list(range(60)), list(range(59, -1, -7))],
    ids=str,
)
def test_random_access_gives_the_frames_of_sequential_decoding(video, indices):
    with open_frames(video) as source:
        assert numbers(source.read(indices)) == indices
        assert numbers(source.read(indices[::-1])) == indices[::-1]


def test_length_size_and_iteration(video):
    source = open_frames(video)
    assert (len(source), source.size, source.fps) == (60, SIZE, 25.0)
    assert numbers(source.iterate()) == list(range(60))
    assert numbers(source.iterate(40, 44)) == [40, 41, 42, 43]
    assert numbers(source.iterate(57)) == [57, 58, 59]
    assert len(source) == 60


def test_counting_and_closing_do_not_move_the_frames(video):
    source = open_frames(video)
    assert numbers(source.read([50])) == [50]
    assert len(source) == 60
    assert numbers(source.read([3, 59])) == [3, 59]
    source.close()
    assert len(source) == 60 and numbers(source.read([58, 4])) == [58, 4]
    with open_frames(video) as other:  # counted already, by this process
        assert len(other) == 60 and numbers(other.read([20])) == [20]


@pytest.mark.parametrize("start", [0, 1, 31, 32, 33, 34, 58, 59])
@pytest.mark.parametrize("then", [0, 1, 31, 33, 34, 59])
def test_any_frame_after_any_other(video, start, then):
    """Both sides of the distance at which decoding on gives way to seeking."""
    with open_frames(video) as source:
        assert numbers(source.read([start])) == [start]
        assert numbers(source.read([then])) == [then]


@pytest.mark.parametrize("indices", [[60], [-1], [3, 60], [5, -1, 3]], ids=str)
def test_frames_outside_a_video_are_refused(video, indices):
    wrong = next(i for i in sorted(indices) if not 0 <= i < 60)
    with pytest.raises(InputError, match=rf"grey.mp4: wanted frame {wrong}, it has 60"):
        open_frames(video).read(indices)


@pytest.mark.parametrize("by", [-7, 5, 100])
def test_a_seek_is_checked_against_time_stamps(video, monkeypatch, by):
    """A container that leads some frames beside the wanted one: still the right frame."""
    source, moved = open_frames(video), []
    step = source._stamps.times[0] or 512
    len(source)
    real = VideoDecoder.seek

    def beside(decoder, stamp):
        moved.append(stamp)
        decoder._container.seek(max(0, stamp + by * step), stream=decoder._stream)
        decoder._frames = decoder._decoded()
        return real(decoder, stamp + by) if by == 100 else decoder.advance().pts == stamp

    monkeypatch.setattr(VideoDecoder, "seek", beside)
    assert numbers(source.read([50])) == [50]
    assert moved


@pytest.mark.parametrize("fps", [12.5, 30.0, 240.0])
def test_the_speed_is_the_header_s(tmp_path, fps):
    source = open_frames(write_video(tmp_path / "v.avi", 3, "MJPG", fps=fps))
    assert (source.fps, source.announced) == (fps, 3)


@pytest.mark.parametrize("said", [0.0, -1.0, float("nan"), 1000.0, 90000.0])
def test_a_header_s_senseless_speed_is_not_believed(video, monkeypatch, said):
    real = frames_module.VideoDecoder

    def lying(path):
        decoder = real(path)
        decoder.fps, decoder.announced = said, 0
        return decoder

    monkeypatch.setattr(frames_module, "VideoDecoder", lying)
    with open_frames(video) as source:
        assert (source.fps, source.announced, len(source)) == (25.0, 0, 60)


def test_a_file_that_is_replaced_is_counted_anew(tmp_path):
    path = write_video(tmp_path / "v.avi", 5, "MJPG")
    assert len(open_frames(path)) == 5
    write_video(path, 9, "MJPG")
    source = open_frames(path)
    assert len(source) == 9 and numbers(source.read([8])) == [8]


def test_time_stamps_of_frames_in_order():
    stamps = frames_module._Stamps()
    for index, time in enumerate((0, 40, 80, 120)):
        stamps.note(index, time, key=index in (0, 2, 3), damaged=index == 3)
    stamps.note(1, 99)  # decoded again: the first stamp stays
    stamps.note(7, 99)  # not the next one
    assert stamps.times == [0, 40, 80, 120] and stamps.ordered
    assert [stamps.key_before(index) for index in range(4)] == [0, 0, 2, 2], "no damaged one"
    assert stamps.damaged == [3]


@pytest.mark.parametrize(
    "times", [(0, 0), (40, 0), (0, 40, 40), (None, 1), (0, None), (0, None, 2)]
)
def test_time_stamps_that_do_not_rise_name_no_frame(times):
    stamps = frames_module._Stamps()
    for index, time in enumerate(times):
        stamps.note(index, time)
    assert not stamps.ordered


def test_without_usable_time_stamps_frames_are_counted_from_the_start(video, monkeypatch):
    source = open_frames(video)
    stamps = frames_module._Stamps()
    monkeypatch.setattr(frames_module, "_stamps_of", lambda *_: stamps)
    stamps.times = [512 * (index + 5) for index in range(60)]  # they would mislead by five
    stamps.keys, stamps.ordered, stamps.complete = [0, 12, 24, 36, 48], False, True
    assert numbers(source.read([50])) == [50] and numbers(source.read([41, 7])) == [41, 7]


def test_a_source_travels_to_another_process(video):
    source = open_frames(video)
    source.read([30])
    copy = pickle.loads(pickle.dumps(source))
    assert numbers(copy.read([12, 13])) == [12, 13]


def test_colours_are_red_green_blue(tmp_path):
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, SIZE[::-1])
    writer.write(np.full((*SIZE, 3), (0, 0, 255), np.uint8))
    writer.release()
    red, green, blue = open_frames(path).read([0]).reshape(-1, 3).mean(0)
    assert red > 240 and green < 20 and blue < 20


def test_a_video_that_ends_early_is_counted_not_believed(tmp_path):
    path = write_video(tmp_path / "cut.avi", codec="MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_frames(path)
    assert 0 < len(source) < 60
    assert numbers(source.read([len(source) - 1])) == [len(source) - 1]
    with pytest.raises(InputError, match=rf"cut.avi: wanted frame 59, it has {len(source)}"):
        source.read([59])


def test_folders_are_read_in_natural_order(tmp_path):
    for index in (0, 2, 10, 9, 100):
        Image.new("RGB", SIZE[::-1], (index, index, index)).save(tmp_path / f"f{index}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    source = open_frames(tmp_path)
    assert [int(f[0, 0, 0]) for f in source.iterate()] == [0, 2, 9, 10, 100]
    assert source.read([4, 0])[:, 0, 0, 0].tolist() == [100, 0]
    assert (len(source), source.size) == (5, SIZE)


def test_images_become_rgb_as_they_are_looked_at(tmp_path):
    """Turned by their EXIF orientation, without palette and opacity; hidden files are none."""
    red = Image.new("RGB", (6, 4), (250, 10, 20))
    exif = red.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    red.save(tmp_path / "0.PNG", exif=exif)
    Image.new("RGBA", (4, 6), (1, 2, 3, 0)).save(tmp_path / "1.png")
    Image.new("L", (4, 6), 77).save(tmp_path / "2.bmp")
    Image.new("RGB", (4, 6), (9, 8, 7)).convert("P").save(tmp_path / "3.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "._1.png")
    source = open_frames(tmp_path)
    assert (source.size, source.announced, source.fps) == ((6, 4), 4, 25.0)
    pixels = source.read(range(4))[:, 0, 0].tolist()
    assert pixels[:3] == [[250, 10, 20], [1, 2, 3], [77, 77, 77]]
    assert np.abs(np.array(pixels[3]) - (9, 8, 7)).max() < 30  # of a palette of 6 x 6 x 6 colours
    with pytest.raises(InputError, match="wanted frame 4, it has 4"):
        source.read([4])


def test_a_folder_s_broken_image_is_named(tmp_path):
    for index in range(3):
        Image.new("RGB", (6, 4)).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png is no readable image"):
        open_frames(tmp_path).read([0, 1])


@pytest.mark.parametrize("name", ["V.AVI", "v.txt", "v", "v.mp4", "v: a,b|c%d.webm"])
def test_what_a_file_holds_makes_it_a_video(tmp_path, name):
    path = write_video(tmp_path / "v.avi", 3, "MJPG").rename(tmp_path / name)
    assert len(open_frames(path)) == 3


@pytest.mark.parametrize(
    ("size", "square", "wanted"),
    [
        ((240, 320), 320, (240, 320)),
        ((320, 240), 160, (160, 120)),
        ((24, 32), 48, (36, 48)),  # enlarged
        ((48, 48), 96, (96, 96)),
        ((1, 500), 48, (1, 48)),  # no side vanishes
        ((500, 1), 48, (48, 1)),
        ((100, 298), 100, (34, 100)),  # 33.56 is nearer to 34
        ((100, 302), 100, (33, 100)),  # 33.11 to 33
    ],
)
def test_sizes_fitted_into_a_square_by_hand(size, square, wanted):
    assert fitted_size(size, (square, square)) == wanted


def test_resizing_by_hand():
    """Shrinking averages every pixel; enlarging interpolates; the same size is the same frame."""
    frame = np.array([[0, 10, 20, 30], [40, 50, 60, 70]], np.uint8)[..., None].repeat(3, 2)
    assert resize_frame(frame, (1, 2))[..., 1].tolist() == [[25, 45]]
    assert resize_frame(frame, (2, 2))[..., 0].tolist() == [[5, 25], [45, 65]]
    assert resize_frame(frame, (2, 8))[0, :, 2].tolist() == [0, 3, 8, 13, 18, 23, 28, 30]
    assert resize_frame(frame, (2, 4)) is frame
    spots = np.zeros((8, 8, 3), np.uint8)
    spots[0, 0] = 255  # a bright pixel between those that a mere interpolation would look at
    assert resize_frame(spots, (2, 2))[0, 0, 0] == round(255 / 16)


@pytest.mark.parametrize(
    ("before", "after"), [("2.jpg", "10.jpg"), ("a9b", "a10b"), ("007", "8"), ("1a", "a")]
)
def test_natural_order(before, after):
    assert natural_key(before) < natural_key(after)


def _nothing(folder: Path) -> Path:
    return folder / "absent.mp4"


def _empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def _text(folder: Path) -> Path:
    (folder / "text.mp4").write_text("hello " * 1000)
    return folder / "text.mp4"


def _truncated(folder: Path) -> Path:
    path = write_video(folder / "truncated.mp4")
    path.write_bytes(path.read_bytes()[:600])
    return path


def _picture(folder: Path) -> Path:
    Image.new("RGB", (6, 4)).save(folder / "picture.png")
    return folder / "picture.png"


def _no_images(folder: Path) -> Path:
    (folder / "frames").mkdir()
    return folder / "frames"


def _bad_image(folder: Path) -> Path:
    path = _no_images(folder)
    Image.effect_noise((64, 64), 50).save(path / "0.png")
    (path / "0.png").write_bytes((path / "0.png").read_bytes()[:300])
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_nothing, "no video at .*absent.mp4"),
        (_empty, r"empty.mp4 is empty \(0 bytes\)"),
        (_text, "text.mp4: no frame can be decoded"),
        (_truncated, "truncated.mp4: no frame can be decoded"),
        (_picture, "picture.png is one picture; wanted a video, or the folder"),
        (_no_images, "frames: the folder holds no image"),
        (_bad_image, "0.png is no readable image"),
    ],
)
def test_what_cannot_be_decoded_is_named(tmp_path, make, message):
    with pytest.raises(InputError, match=message) as caught:
        open_frames(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_whose_frames_change_size_is_refused(tmp_path):
    for index, width in enumerate((64, 64, 80)):
        Image.new("RGB", (width, 48)).save(tmp_path / f"{index}.png")
    source = open_frames(tmp_path)
    assert source.read([0, 1]).shape == (2, 48, 64, 3)
    with pytest.raises(InputError, match=r"frame 2 \(2.png\) is 80x48, the first one 64x48"):
        source.read([2])


def test_a_video_that_changes_size_keeps_its_first_one(tmp_path):
    first = write_video(tmp_path / "a.avi", 10, "MJPG").read_bytes()
    second = write_video(tmp_path / "b.avi", 10, "MJPG", (96, 128)).read_bytes()
    (tmp_path / "both.avi").write_bytes(first + second)
    source = open_frames(tmp_path / "both.avi")
    assert [frame.shape for frame in source.iterate()] == [(*SIZE, 3)] * 20
    assert numbers(source.read([3, 17])) == [3, 7]


NOISE = np.random.default_rng(0).integers(0, 255, (4, 6, 8, 3), np.uint8)


def images(folder: Path) -> list:
    """The same four frames as an array, a PIL image, a path and a path's text."""
    for n in (2, 3):
        Image.fromarray(NOISE[n]).save(folder / f"{n}.png")
    return [NOISE[0], Image.fromarray(NOISE[1]), folder / "2.png", str(folder / "3.png")]


@pytest.mark.parametrize(
    "form",
    [
        lambda folder: NOISE,
        lambda folder: list(NOISE),
        images,
        lambda folder: tuple(images(folder)),
        lambda folder: iter(NOISE),
        lambda folder: (Image.fromarray(frame) for frame in NOISE),
    ],
    ids=["array", "list", "images", "tuple", "iterator", "generator of images"],
)
def test_frames_at_hand_are_a_source_like_any_other(tmp_path, form):
    with take_frames(form(tmp_path)) as source:
        assert (len(source), source.announced, source.size, source.fps) == (4, 4, (6, 8), 25.0)
        assert (np.stack(list(source.iterate())) == NOISE).all()
        assert (np.stack(list(source.iterate(1, 3))) == NOISE[1:3]).all()
    assert (source.read([3, 0, 3]) == NOISE[[3, 0, 3]]).all(), "any order, as often as wanted"
    with pytest.raises(InputError, match=r"frames-[0-9a-f]{16}: wanted frame 4, it has 4"):
        source.read([4])
    assert source.path == take_frames(NOISE).path, "named after what is seen, not how it came"


def test_frames_at_hand_are_named_by_every_pixel_and_their_size():
    other = NOISE.copy()
    other[2, 3, 4, 1] ^= 1
    names = {take_frames(v).path for v in (NOISE, other, NOISE[:3], NOISE.reshape(4, 8, 6, 3))}
    assert len(names) == 4


@pytest.mark.parametrize("memory", [1, 1 << 20])
def test_an_iterator_is_read_once_and_no_further_than_wanted(monkeypatch, memory):
    monkeypatch.setattr(frames_module, "_SPOOL_BYTES", memory)
    taken = []
    source = take_frames((taken.append(n) or NOISE[n % 4] for n in range(1000)), end=9)
    assert taken == list(range(9)) and len(source) == 9
    source.close()
    assert (source.read([8, 1]) == NOISE[[0, 1]]).all() and len(taken) == 9


@pytest.mark.parametrize(
    ("video", "said"),
    [
        (NOISE[0], r"array of shape \(6, 8, 3\): wanted \(frames, height, width, 3\)"),
        (NOISE.astype(float), r"frame 0: wanted .* uint8 RGB, got \(6, 8, 3\) float64"),
        (NOISE[..., :1], r"frame 0: wanted .*got \(6, 8, 1\) uint8"),
        ([NOISE[0], NOISE[1, :5]], "frame 1 is 8x5, the first one 8x6"),
        (iter([NOISE[0], NOISE[1, :5]]), "frame 1 is 8x5, the first one 8x6"),
        ([NOISE[0], "nowhere.png"], "nowhere.png is no readable image"),
        ([], "wanted at least one frame, got none"),
        (iter([]), "wanted at least one frame, got none"),
        (NOISE[:0], "wanted at least one frame, got none"),
        (iter(["x"]), "frame 0: wanted"),
        (True, "a bool is no video: wanted a path"),
        (None, "a NoneType is no video"),
        ({}, "a dict is no video"),
        (b"abc", "a bytes is no video"),
        (Image.fromarray(NOISE[0]), "a Image is no video"),
        (0, r"camera-0 never ends: wanted how many frames, such as frames=range\(100\)"),
        ("rtsp://camera/live", "rtsp://camera/live never ends"),
        ("nowhere.mp4", "no video at nowhere.mp4"),
    ],
)  # fmt: skip
def test_what_is_no_video_is_named(video, said):
    with pytest.raises(InputError, match=said):
        take_frames(video)


@pytest.mark.parametrize(
    ("video", "path"),
    [("a.mp4", True), (Path("a"), True), ("C:/a.mp4", True), ("https://x.org/a.mp4", False),
     ("RTSP://x", False), (0, False), (NOISE, False)],
    ids=str,
)  # fmt: skip
def test_what_is_a_path(video, path):
    assert is_path(video) is path


class Camera:
    """Twelve frames, of which frame n has the blue n."""

    def __init__(self, source) -> None:
        self.source, self.count, self.opened = source, 0, source != "http://gone/a.mp4"

    def isOpened(self) -> bool:
        return self.opened

    def get(self, key) -> float:
        return 12.5 if key == cv2.CAP_PROP_FPS else 0.0

    def read(self):
        self.count += 1
        return self.count <= 12, np.full((6, 8, 3), (self.count - 1, 0, 7), np.uint8)

    def release(self) -> None:
        self.opened = False


@pytest.mark.parametrize(
    ("video", "end", "count", "name"),
    [
        (0, 5, 5, "camera-0-"),
        (3, 100, 12, "camera-3-"),
        ("http://x.org/a.mp4", None, 12, "a.mp4-"),
        ("http://x.org/a.mp4", 4, 4, "a.mp4-"),
        ("rtsp://x.org/live", 4, 4, "live-"),
    ],
)
def test_what_opencv_opens_is_kept_as_it_comes(monkeypatch, video, end, count, name):
    opened = []
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda source: opened.append(Camera(source)) or opened[-1]
    )
    source = take_frames(video, end)
    assert [camera.source for camera in opened] == [video] and not opened[0].opened
    assert (len(source), source.size, source.fps) == (count, (6, 8), 12.5)
    assert source.read([count - 1])[0, 0, 0].tolist() == [7, 0, count - 1], "red, green, blue"
    assert source.path.name.startswith(name)


def test_what_opencv_cannot_open_is_named(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with pytest.raises(InputError, match=r"http://gone/a.mp4: OpenCV cannot open it"):
        take_frames("http://gone/a.mp4")


@pytest.mark.parametrize(
    ("video", "said"),
    [(-1, "camera -1"), ("rtsps://x/y", "rtsps://x/y"), ("rtmps://u:p@h/y?t=1", "h/y")],
)
def test_what_cannot_be_a_video_or_never_ends_is_refused_unopened(video, said, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", None)
    with pytest.raises(InputError) as found:
        take_frames(video)
    assert said in str(found.value) and "u:p" not in str(found.value)
