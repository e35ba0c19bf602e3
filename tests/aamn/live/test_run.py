"""A live run by a tiny bundle: a file at its own rate, sentences that change, flat memory."""

import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from tiny_bundle import save_parts

import aamn
from aamn.cli.main import run
from aamn.live import run as live
from aamn.live.run import LiveCounts, LiveOptions, answer_all, listen
from aamn.live.session import LiveSession
from aamn.live.source import TakenClip
from aamn.predictor import write_bundle
from proposals.errors import InputError
from proposals.frames import open_frames

COUNT, SIZE = 14, (40, 50)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    save_parts(folder)
    write_bundle(folder / "b", folder / "d.pt", folder / "s.pt")
    return folder / "b"


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 255, (COUNT, *SIZE, 3), np.uint8)


def clip(pictures, first, frames=4):
    return TakenClip(first, tuple(pictures[first : first + frames]), 0.0)


def test_a_clip_is_answered_as_in_an_index(bundle, pictures):
    """Clips of three frames side by side are those of the index; so are paths through them."""
    segmenter = aamn.load(bundle, "cpu")
    session = LiveSession(segmenter, ["w3 w4", "w7"], window=100)
    wanted = segmenter.index(pictures[:12]).query(["w3 w4", "w7"])
    for first in (0, 3, 6, 9):
        answer = session.answer(clip(pictures[:12], first))
        assert answer.clip == range(first, first + 3)
    for one, other, boxes, masks in zip(
        answer.tracks, wanted, answer.boxes, answer.masks, strict=True
    ):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        np.testing.assert_array_equal(one.tubes, other.tubes)
        np.testing.assert_allclose(boxes, other.boxes(range(9, 12)), atol=1e-3)
        assert (masks != other.masks(range(9, 12))).mean() < 0.01


def test_the_window_bounds_what_is_kept_and_frames_may_have_gaps(bundle, pictures):
    session = LiveSession(aamn.load(bundle, "cpu"), "w3", window=2)
    for first in (0, 5, 10):
        answer = session.answer(clip(pictures, first))
        assert answer.clip == range(first, first + 3) and answer.masks[0].shape == (3, *SIZE)
        assert len(session.blocks) == min(2, 1 + first // 5)
    assert answer.tracks[0].index.windows[:, 1].tolist() == [5, 10]


def test_sentences_change_between_two_clips(bundle, pictures, caplog):
    session = LiveSession(aamn.load(bundle, "cpu"), "w3")
    assert [t.text for t in session.answer(clip(pictures, 0)).tracks] == ["w3"]
    with caplog.at_level(logging.ERROR, "aamn"):
        listen(session, ["\n", "?!\n", "w5 w6 ; w7\n"])
    assert len(caplog.records) == 1
    assert [t.text for t in session.answer(clip(pictures, 3)).tracks] == ["w5 w6", "w7"]
    with pytest.raises(InputError):
        session.ask([])
    assert session.texts == ["w5 w6", "w7"]


def test_frames_of_another_size_are_refused(bundle, pictures):
    session = LiveSession(aamn.load(bundle, "cpu"), "w3")
    session.answer(clip(pictures, 0))
    with pytest.raises(InputError, match="a frame of 20x10 after frames of 50x40"):
        session.answer(clip(pictures[:, :10, :20], 3))


@pytest.fixture
def video(tmp_path, pictures):
    folder = tmp_path / "clip"
    folder.mkdir()
    for number, frame in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number:02}.png"), frame)
    return folder


def test_the_command_writes_a_video_of_all_clips(bundle, video, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(live, "paced", lambda frames, fps: frames)  # as fast as it can
    words = ("live", video, "w3 w4", "w7", "--bundle", bundle, "--out", tmp_path / "o.mp4")
    assert run([str(word) for word in (*words, "--precision", "float32")]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{COUNT} frames came, ") and "answered in" in said
    dropped = int(said.split("came, ")[1].split()[0])
    clips = int(said.split("; ")[1].split()[0])
    assert clips >= 1 and 3 * clips + dropped == COUNT
    with open_frames(tmp_path / "o.mp4") as written:
        assert len(written) == 3 * clips
        assert written.size[1] == 50 and written.size[0] > 40


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("live", "--camera", "0"), "wanted at least one sentence"),
        (("live",), "wanted SOURCE, or --camera N"),
        (("live", "no.mp4", "w3"), "no video at no.mp4"),
        (("live", "a.mp4", "w3", "--camera", "0", "--source", "b"), "wanted without --source"),
    ],
)
def test_mistakes_are_one_line(bundle, words, said, capsys):
    assert run([*words, "--bundle", str(bundle)]) == 2
    assert said in capsys.readouterr().err


class Ends:
    """A source of two clips, which somebody interrupts."""

    seen, dropped = 8, 1

    def __init__(self, pictures):
        self.clips = [clip(pictures, 0), clip(pictures, 4)]

    def clip(self):
        if not self.clips:
            raise KeyboardInterrupt
        return self.clips.pop(0)

    def clock(self):
        return 0.25


def test_ctrl_c_ends_a_run_as_its_source_does(bundle, pictures):
    shown = []
    session = LiveSession(aamn.load(bundle, "cpu"), "w3")
    counts = answer_all(Ends(pictures), session, lambda *given: shown.append(given))
    assert len(shown) == counts.clips == 2
    wanted = "8 frames came, 1 dropped; 2 clips, answered in 0.250 s (half of them) to 0.250 s"
    assert str(counts).startswith(wanted)
    assert str(LiveCounts(3, 3)) == "3 frames came, 3 dropped; 0 clips"


def test_memory_is_said_from_where_it_had_settled(monkeypatch):
    memory = iter([500.0, 501.0, 502.4])
    monkeypatch.setattr(live, "resident", lambda: next(memory))
    counts = LiveCounts()
    for seen in (400, 999, 1003, 1400, 2000):
        source = SimpleNamespace(clock=lambda: 1.0, seen=seen, dropped=0)
        counts.add(source, TakenClip(0, (), 0.5))
    assert str(counts).endswith("; 500 MiB at frame 1000, 502 MiB at the end")
    monkeypatch.undo()
    assert 10 < live.resident() < 1 << 20


def test_a_file_is_played_at_the_rate_that_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(live, "paced", lambda frames, fps: asked.append(fps))
    frames = SimpleNamespace(iterate=lambda *span: "frames", fps=12.0)
    assert live._coming(frames, LiveOptions(0, ("w",), rate=5.0)) == "frames" and not asked
    for rate in (None, 99.0):
        live._coming(frames, LiveOptions("clip.mp4", ("w",), rate=rate))
    assert asked == [12.0, 99.0]


def test_options_are_those_of_the_library():
    assert LiveOptions("v", ("w",)).window == 8
