"""Progress: a bar for who looks on, lines for a file."""

import logging
import re
import sys

import pytest

from proposals import progress as progress_module
from proposals.progress import progress, watched


def counted(total, done=0):
    with progress(total, "clip", "frame", done) as bar:
        for _ in range(3):
            bar.update(2)


@pytest.mark.parametrize(
    ("total", "done", "line"),
    [(10, 0, r"clip: 6 of 10 frames, .* left"), (10, 4, "clip: 10 of 10 frames"),
     (0, 0, r"clip: 6 of \? frames")],
)  # fmt: skip
def test_a_log_gets_lines_now_and_then(total, done, line, monkeypatch, caplog, capsys):
    with caplog.at_level(logging.INFO, "proposals"):
        counted(total, done)
        assert not caplog.messages, "nothing for short work"
        monkeypatch.setattr(progress_module, "SECONDS", 0)
        counted(total, done)
    assert any(re.match(line, message) for message in caplog.messages), caplog.messages
    assert all("\r" not in message and message for message in caplog.messages)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_that_goes_at_the_end(monkeypatch, caplog, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    counted(10)
    out, err = capsys.readouterr()
    assert not caplog.messages and not out
    assert "clip:   0%" in err and err.endswith("\r") and "\n" not in err


def test_a_watcher_sees_each_step_and_may_end_the_work():
    seen = []
    with watched(lambda *step: seen.append(step)):
        counted(10, 4)
        counted(0)
    counted(10)
    assert seen == [(6, 10), (8, 10), (10, 10), (2, 0), (4, 0), (6, 0)]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watched(stop):
        counted(10)
