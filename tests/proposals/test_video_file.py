"""Any codec, any container: every frame at its number, and what is broken is said."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from proposals import frames as frames_module
from proposals.errors import InputError
from proposals.frames import open_frames

SIZE, COUNT = (48, 64), 40


def shades(count: int = COUNT, size=SIZE) -> list[np.ndarray]:
    """Dark frames with a bright corner at the top left and their number in bits of 8x16 pixels."""
    frames = [np.full((*size, 3), 40, np.uint8) for _ in range(count)]
    for number, frame in enumerate(frames):
        frame[:8, :16] = 250
        for bit in range(6):
            frame[16:32, 8 * bit : 8 * bit + 8] = 220 if number >> bit & 1 else 40
    return frames


def numbers(frames) -> list[int]:
    return [sum((frame[24, 8 * bit + 4, 0] > 130) << bit for bit in range(6)) for frame in frames]


def encoded(
    path: Path,
    codec: str = "libx264",
    options: dict | None = None,
    frames: list[np.ndarray] | None = None,
    times: list[int] | None = None,
    pixels: str = "yuv420p",
    turn: int = 0,
    header: dict | None = None,
) -> Path:
    """A video of `frames` shown at `times` (in 1/25 s), by PyAV."""
    frames = shades() if frames is None else frames
    with av.open(str(path), "w", options=header or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(25), options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if turn:
            stream.set_display_rotation(turn)
        for place, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            picture.pts, picture.time_base = (times or range(COUNT))[place], Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


KINDS = {  # name -> file, encoder, its options, pixel format
    "H.264": ("v.mp4", "libx264", {"bf": "3"}, "yuv420p"),
    "open groups": (
        "v.mp4",
        "libx264",
        {"x264-params": "open-gop=1:keyint=7:bframes=3"},
        "yuv420p",
    ),
    "no key frames": ("v.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=9"}, "yuv420p"),
    "10 bits": ("v.mkv", "libx264", {}, "yuv420p10le"),
    "transport stream": ("v.ts", "libx264", {"g": "10"}, "yuv420p"),
    "VP9": ("v.webm", "libvpx-vp9", {"g": "10", "cpu-used": "8"}, "yuv420p"),
    "AV1": ("v.mp4", "libsvtav1", {"g": "10", "preset": "8", "crf": "5"}, "yuv420p"),
    "MPEG-4": ("v.mov", "mpeg4", {"g": "10", "q:v": "2"}, "yuv420p"),
    "MJPEG": ("v.avi", "mjpeg", {}, "yuvj420p"),
    "GIF": ("v.gif", "gif", {}, "rgb8"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_found_at_its_number(tmp_path, kind, monkeypatch):
    """Also by seeks, and on the way to frames that nobody has decoded before."""
    monkeypatch.setattr(frames_module, "_NEAR", 3)
    name, codec, options, pixels = KINDS[kind]
    path = encoded(tmp_path / name, codec, options, pixels=pixels)
    unknown = path.rename(tmp_path / "file")  # no suffix helps
    with open_frames(unknown) as source:
        assert numbers(source.read([12, 30, 2, 21])) == [12, 30, 2, 21]
        in_order = np.stack(list(source.iterate()))
        assert numbers(in_order) == list(range(COUNT)) and len(source) == COUNT
        order = np.random.default_rng(0).permutation(COUNT)
        one_by_one = np.concatenate([source.read([n]) for n in order])
        assert (one_by_one == in_order[order]).all(), "bit for bit"
        assert source.lacking() == ""
        if kind != "GIF":  # whose frames last whole hundredths of a second
            assert source.fps == 25 and source.announced in (0, COUNT)


def test_frames_are_counted_however_long_they_last(tmp_path):
    times = [n * n + n for n in range(COUNT)]
    with open_frames(encoded(tmp_path / "v.mp4", times=times)) as source:
        assert numbers(source.read([30, 3, 39])) == [30, 3, 39]
        assert (len(source), source.lacking()) == (COUNT, "")


@pytest.mark.parametrize(
    ("turn", "size", "corner"),
    [(90, (64, 48), (-1, 0)), (-90, (64, 48), (0, -1)), (180, (48, 64), (-1, -1))],
)
def test_the_container_s_rotation_is_applied(tmp_path, turn, size, corner):
    with open_frames(encoded(tmp_path / "v.mp4", frames=shades(3), turn=turn)) as source:
        frame = source.read([0])[0]
        assert source.size == frame.shape[:2] == size and frame.flags.c_contiguous
    assert frame[corner].min() > 230 and np.median(frame) < 50


def damaged(path: Path, share: float, zeros: int = 0) -> Path:
    """The file cut off at a share of its bytes, or with zeros there."""
    content = bytearray(path.read_bytes())
    at = round(share * len(content))
    path.write_bytes(content[:at] + (bytes(zeros) + content[at + zeros :] if zeros else b""))
    return path


NOISE = np.random.default_rng(0).integers(0, 255, (COUNT, *SIZE, 3), np.uint8)
START = {"movflags": "faststart"}  # the index first, so that a cut leaves it


@pytest.mark.parametrize(
    ("name", "codec", "header"),
    [
        ("v.mp4", "libx264", START),
        ("v.mp4", "mpeg4", START),
        ("v.mkv", "libx264", {}),
        ("v.webm", "libvpx-vp9", {}),
        ("v.avi", "mpeg4", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_video_that_is_cut_off_ends_there_and_says_so(tmp_path, name, codec, header):
    whole = encoded(tmp_path / name, codec, {"g": "10"}, list(NOISE), header=header)
    with open_frames(whole) as source:
        wanted = list(source.iterate())
        assert source.lacking() == ""
    with open_frames(damaged(whole, 0.6)) as source:
        found = list(source.iterate())
        said = source.lacking()
        assert 5 < len(found) == len(source) < COUNT
        clean = len(found) - len(source._stamps.damaged)
    assert all((a == b).all() for a, b in zip(found[:clean], wanted, strict=False))
    assert f"v{whole.suffix}: video ends at frame {len(found)} of {COUNT} announced" in said


def test_what_cannot_be_decoded_in_the_middle_ends_a_video(tmp_path):
    """The frames behind it would get wrong numbers."""
    path = encoded(tmp_path / "v.mp4", "mpeg4", {"g": "10"}, list(NOISE))
    with open_frames(path) as source:
        wanted = list(source.iterate())
    with open_frames(damaged(path, 0.5, 6000)) as source:
        found = list(source.iterate())
        damage = source._stamps.damaged
        first = min([len(found), *damage])
        said = source.lacking()
    assert 10 < first < 30 and all((found[n] == wanted[n]).all() for n in range(first))
    assert f"video ends at frame {len(found)} of {COUNT} announced (Invalid data" in said


def test_what_the_decoder_mends_keeps_its_number_and_is_counted(tmp_path):
    path = encoded(tmp_path / "v.avi", "mpeg4", {"g": "10"}, list(NOISE))
    with open_frames(damaged(path, 0.5, 40)) as source:
        found = np.stack(list(source.iterate()))
        assert len(found) == COUNT
        assert "of 40 frames are damaged, the first one is frame" in source.lacking()
        order = np.random.default_rng(1).permutation(COUNT)
        assert (np.concatenate([source.read([n]) for n in order]) == found[order]).all()


def test_frames_that_players_must_not_show_are_none_that_lack(tmp_path):
    """An edit list that leaves out a video's first frames, as a cut without encoding makes it."""
    whole, cut = encoded(tmp_path / "v.mp4", options={"g": "10", "bf": "0"}), tmp_path / "cut.mp4"
    with av.open(str(whole)) as read, av.open(str(cut), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - 4 * 512, packet.dts - 4 * 512
                packet.stream = stream
                write.mux(packet)
    with open_frames(cut) as source:
        assert (len(source), source.announced, source.lacking()) == (COUNT - 4, COUNT, "")
        assert numbers(source.read([0])) == [4]


def test_a_codec_without_a_decoder_is_named(tmp_path):
    content = encoded(tmp_path / "v.mp4", frames=shades(3)).read_bytes()
    (tmp_path / "v.mp4").write_bytes(content.replace(b"avc1", b"evc1").replace(b"avcC", b"evcC"))
    with pytest.raises(InputError, match=r"v.mp4 is encoded as evc, for which there is no decoder"):
        open_frames(tmp_path / "v.mp4")


def test_a_file_without_pictures_is_no_video(tmp_path):
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(InputError, match=r"v.mp4 holds no video, only sound"):
        open_frames(tmp_path / "v.mp4")


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXTINF:1,\nv.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile v.mp4\n",
        "text\n" * 99,
    ],
    ids=["playlist", "concat", "text"],
)
def test_a_file_that_names_others_is_no_video(tmp_path, content):
    encoded(tmp_path / "v.mp4", frames=shades(3))
    (tmp_path / "list.mp4").write_text(content)
    with pytest.raises(InputError, match=r"list.mp4: no frame can be decoded"):
        open_frames(tmp_path / "list.mp4")


def test_a_video_of_huge_frames_is_refused_before_they_are_made(tmp_path, monkeypatch):
    path = encoded(tmp_path / "v.mp4", frames=shades(2, (480, 640)))
    monkeypatch.setenv("AAMN_MAX_MEGAPIXELS", "0.3")
    with pytest.raises(InputError, match=r"v.mp4 announces 640x480 .* set AAMN_MAX_MEGAPIXELS"):
        open_frames(path)
    monkeypatch.setenv("AAMN_MAX_MEGAPIXELS", "0.31")
    assert open_frames(path).size == (480, 640)


def test_a_video_whose_frames_grow_is_refused_where_they_do(tmp_path, monkeypatch):
    first = encoded(tmp_path / "a.avi", "mjpeg", None, shades(3), pixels="yuvj420p").read_bytes()
    second = encoded(tmp_path / "b.avi", "mjpeg", None, shades(3, (96, 128)), pixels="yuvj420p")
    (tmp_path / "both.avi").write_bytes(first + second.read_bytes())
    monkeypatch.setenv("AAMN_MAX_MEGAPIXELS", "0.01")
    with pytest.raises(InputError, match=r"both.avi announces 128x96 pixels"):
        list(open_frames(tmp_path / "both.avi").iterate())


def test_colours_of_tagged_videos_are_those_that_were_encoded(tmp_path):
    """BT.601 and BT.709, of both ranges: the same red."""
    red = [np.full((48, 64, 3), (200, 40, 60), np.uint8)] * 2
    found = [open_frames(encoded(tmp_path / "v.mp4", frames=red)).read([0])[0, 20, 20]]
    for matrix, space in (("bt709", "ITU709"), ("smpte170m", "ITU601")):
        path = tmp_path / f"{matrix}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"colorspace": matrix})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            picture = av.VideoFrame.from_ndarray(red[0], "rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace=space)))
            container.mux(stream.encode())
        found.append(open_frames(path).read([0])[0, 20, 20])
    assert np.abs(np.array(found, int) - (200, 40, 60)).max() <= 3
