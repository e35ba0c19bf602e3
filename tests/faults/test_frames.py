"""Videos and pictures that are broken, odd, huge, or only look so."""

import re
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from fault_cases import Outcome, called, contents, refused
from PIL import Image

import aamn
from proposals.store import ProposalStore

SIZE, COUNT = (32, 48), 24


def write_video(path: Path, codec: str = "libx264", size=SIZE, pixels: str = "yuv420p") -> Path:
    """24 frames of noise, a key frame in each eight, the container's index first."""
    rng = np.random.default_rng(0)
    header = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=header) as container:
        stream = container.add_stream(codec, rate=Fraction(25), options={"g": "8"})
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        for _ in range(COUNT):
            noise = rng.integers(0, 255, (*size, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "rgb24")))
        container.mux(stream.encode())
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    return path


def zeroed(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    at = len(content) // 2
    content[at : at + 4000] = bytes(4000)
    path.write_bytes(content)
    return path


def pictures(folder: Path, *made: np.ndarray | Image.Image, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for number, one in enumerate(made):
        image = one if isinstance(one, Image.Image) else Image.fromarray(one)
        image.save(folder / f"{number}{suffix}")
    return folder


NOISE = [np.random.default_rng(n).integers(0, 255, (40, 50, 3), np.uint8) for n in range(4)]
JOBS = {  # a job on a folder of videos -> its words
    "extract": ("extract", "{videos}", "--detector", "{detector}", "--out", "{tmp}/out/p.h5"),
    "flow": ("flow", "{videos}", "--out", "{tmp}/out/flow.h5", "--workers", "0"),
    "index": ("index", "{videos}", "--bundle", "{bundle}", "--out", "{tmp}/out"),
}


def words(template, things, tmp_path, **places):
    return tuple(w.format(tmp=tmp_path, **vars(things), **places) for w in template)


def lines(found: Outcome, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a call has printed and logged."""
    return [*found.out.splitlines(), *found.err.splitlines(), *caplog.messages]


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("damage", [cut, zeroed])
def test_half_a_video_is_said_to_be_half(job, damage, things, tmp_path, capsys, caplog):
    """What was decoded is kept, the others are done; the exit code is 1."""
    videos = tmp_path / "videos"
    videos.mkdir()
    damage(write_video(videos / "a.mp4"))
    write_video(videos / "b.webm", "libvpx-vp9")
    found = called(capsys, *words(JOBS[job], things, tmp_path, videos=videos))
    assert found.code == 1, found.err[-2000:]
    said = [line for line in lines(found, caplog) if "a.mp4: video ends" in line]
    assert len(said) == 1 and f"of {COUNT} announced" in said[0] and "b.webm" not in said[0]
    if job == "extract":
        store = ProposalStore.read(tmp_path / "out" / "p.h5")
        assert 0 < store.frame_count("a") < COUNT == store.frame_count("b")
    else:
        assert len(contents(tmp_path / "out")) == (2 if job == "index" else 1)


def test_masks_of_half_a_video_are_written_and_said_to_be_of_half(things, tmp_path, capsys, caplog):
    video, out = cut(write_video(tmp_path / "a.mp4", "mpeg4")), tmp_path / "out"
    found = called(capsys, "segment", video, "w1", "--bundle", things.bundle, "--out", out)
    assert found.code == 1 and "Traceback" not in found.err
    (line,) = [line for line in lines(found, caplog) if "video ends at frame" in line]
    masks = len(list(out.glob("*/masks/*.png")))
    assert f"a.mp4: video ends at frame {masks} of {COUNT} announced" in line and masks > 4


def test_python_is_warned_of_half_a_video(things, tmp_path, caplog):
    index = aamn.load(things.bundle, "cpu").index(cut(write_video(tmp_path / "a.mp4")))
    assert f"a.mp4: video ends at frame {len(index)} of {COUNT} announced" in caplog.text


def test_an_index_of_half_a_video_is_said_to_be_one_each_time(things, tmp_path, capsys):
    from proposals import frames

    video = cut(write_video(tmp_path / "a.mp4"))
    call = ("index", video, "--bundle", things.bundle, "--out", tmp_path / "out")
    for _ in range(2):
        assert called(capsys, *call).code == 1
        frames._stamps_of.cache_clear()  # as another process


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.gif", "gif", "rgb8"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p10le"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mp4", "libsvtav1", "yuv420p"),
    ],
)
def test_a_video_needs_no_suffix(name, codec, pixels, things, tmp_path, capsys):
    size = (64, 64) if codec == "libsvtav1" else SIZE
    video = write_video(tmp_path / name, codec, size, pixels).rename(tmp_path / "video")
    out = tmp_path / "out"
    found = called(capsys, "extract", video, "--detector", things.detector, "--out", out / "p.h5")
    assert found.code == 0, found.err[-1000:]
    assert ProposalStore.read(out / "p.h5").frame_count("video") == COUNT


def no_decoder(folder: Path) -> Path:
    path = write_video(folder / "v.mp4")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"avc1", b"evc1").replace(b"avcC", b"evcC"))
    return path


def huge_video(folder: Path) -> Path:
    """A header that announces 12000x12000 pixels."""
    path = write_video(folder / "v.gif", "gif", pixels="rgb8")
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", 12000, 12000)
    path.write_bytes(content)
    return path


def png_bomb(folder: Path) -> Path:
    """A picture of 30000x30000 pixels in a few thousand bytes."""
    folder = pictures(folder / "v", *NOISE)

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(3751 * 300), 9))
    (folder / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b""))
    return folder


def float_tiff(folder: Path) -> Path:
    return pictures(folder / "v", np.ones((40, 50), np.float32) / 2, suffix=".tiff")


def sizes(folder: Path) -> Path:
    return pictures(folder / "v", NOISE[0], NOISE[1], NOISE[2][:30])


def text(folder: Path) -> Path:
    (folder / "v.mp4").write_text("no video\n" * 1000)
    return folder / "v.mp4"


def playlist(folder: Path) -> Path:
    write_video(folder / "other.mp4")
    (folder / "v.mp4").write_text("#EXTM3U\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n")
    return folder / "v.mp4"


def one_picture(folder: Path) -> Path:
    return pictures(folder / "p", NOISE[0]) / "0.png"


REFUSED = {  # -> what makes it, what is said
    "a codec without a decoder": (no_decoder, r"v\.mp4 is encoded as evc, for which .* convert it"),
    "a video of huge frames": (huge_video, r"v\.gif announces 12000x12000 .*AAMN_MAX_MEGAPIXELS"),
    "a huge picture": (png_bomb, r"0\.png announces 30000x30000 .*AAMN_MAX_MEGAPIXELS"),
    "pictures of floats": (float_tiff, r"0\.tiff is a picture of floats, .* 8 or 16 bits"),
    "pictures of two sizes": (sizes, r"frame 2 \(2\.png\) is 50x30, the first one 50x40"),
    "text": (text, r"v\.mp4: no frame can be decoded"),
    "a playlist": (playlist, r"v\.mp4: no frame can be decoded"),
    "one picture": (one_picture, r"0\.png is one picture; wanted a video, or the folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_by_name(case, things, tmp_path, capsys):
    make, said = REFUSED[case]
    video = make(tmp_path)
    call = ("segment", video, "w1", "--bundle", things.bundle, "--out", tmp_path / "out")
    refused(capsys, call, said, (things.bundle, video))


def strip(folder: Path) -> Path:
    return pictures(folder / "v", *[np.resize(NOISE[0], (16, 4000, 3))] * 2)


def dot(folder: Path) -> Path:
    return pictures(folder / "v", *[NOISE[0][:1, :1]] * 2)


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("make", [png_bomb, huge_video, strip, dot, sizes, no_decoder])
def test_one_such_video_does_not_end_the_others(job, make, things, tmp_path, capsys, caplog):
    """It is done or it fails by its name; the others are done."""
    (tmp_path / "videos").mkdir()
    make(tmp_path / "videos")
    pictures(tmp_path / "videos" / "a", *NOISE)
    pictures(tmp_path / "videos" / "z", *NOISE[::-1])
    out = tmp_path / "out"
    found = called(capsys, *words(JOBS[job], things, tmp_path, videos=tmp_path / "videos"))
    assert "Traceback" not in found.err, found.err[-2000:]
    named = [line for line in lines(found, caplog) if re.match(r" *v: ", line)]
    assert found.code == bool(named), (found.code, found.err[-1000:])
    if job == "extract":
        assert {"a", "z"} <= set(ProposalStore.read(out / "p.h5").video_ids)
    if job == "index":
        assert {"a.h5", "z.h5"} <= {path.name for path in out.iterdir()}


def test_the_limit_of_pixels_can_be_lifted(things, tmp_path, capsys, monkeypatch):
    call = ("flow", pictures(tmp_path / "v", *NOISE), "--out", tmp_path / "f.h5", "--workers", 0)
    monkeypatch.setenv("AAMN_MAX_MEGAPIXELS", "0.001")
    assert called(capsys, *call).code == 1
    monkeypatch.setenv("AAMN_MAX_MEGAPIXELS", "0.002")
    assert called(capsys, *call).code == 0


def data_set(root: Path) -> Path:
    """Two videos in A2D's layout, without annotations."""
    (root / "Release" / "clips320H").mkdir(parents=True)
    (root / "text_annotations").mkdir()
    rows = "".join(f"{name},11,,,32,48,{COUNT},1,1\n" for name in ("one", "two"))
    (root / "Release" / "videoset.csv").write_text(rows)
    sentences = "video_id,instance_id,query\none,1,w1 w2\ntwo,1,w3\n"
    (root / "text_annotations" / "a2d_annotation.txt").write_text(sentences)
    for name in ("one", "two"):
        write_video(root / "Release" / "clips320H" / f"{name}.mp4", "mpeg4")
    return root


@pytest.mark.parametrize("name", ["Release/videoset.csv", "text_annotations/a2d_annotation.txt"])
def test_a_byte_order_mark_drops_no_video(name, things, tmp_path, capsys):
    root, out = data_set(tmp_path / "data"), tmp_path / "out.h5"
    file = root / name
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    call = ("extract", "--data", root, "--detector", things.detector, "--out", out)
    assert called(capsys, *call).code == 0
    assert ProposalStore.read(out).video_ids == ["one", "two"]


@pytest.mark.parametrize("name", ["Release/videoset.csv", "text_annotations/a2d_annotation.txt"])
@pytest.mark.parametrize(
    ("text", "said"), [(b"on\0e", r"line \d: holds a NUL"), (b"\xe9ne", r"line \d: no UTF-8")]
)
def test_a_list_that_hides_something_in_a_name_is_refused(
    name, text, said, things, tmp_path, capsys
):
    root, out = data_set(tmp_path / "data"), tmp_path / "out.h5"
    file = root / name
    file.write_bytes(file.read_bytes().replace(b"one", text))
    call = ("extract", "--data", root, "--detector", things.detector, "--out", out)
    refused(capsys, call, rf"{Path(name).name}, {said}", (root,))
