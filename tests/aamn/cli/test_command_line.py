"""What every program shares: how its words are read, and its exit code."""

import sys

import pytest

from aamn.cli.command_line import make_parser, run
from proposals.errors import InputError


def parsed(words: list[str]):
    parser = make_parser("does a thing", "python tools/x.py --video v")
    parser.add_argument("--video")
    parser.add_argument("--videos", nargs="+", default=[])
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("-n", type=int)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--video", "-abc"], {"video": "-abc"}),
        (["--video", "--abc"], {"video": "--abc"}),
        (["--video=-abc"], {"video": "-abc"}),
        (["--video", "-a-", "--fresh"], {"video": "-a-", "fresh": True}),
        (["--fresh", "--video", "-5"], {"video": "-5", "fresh": True}),
        (["--videos", "a", "b", "--video", "-c"], {"videos": ["a", "b"], "video": "-c"}),
        (["--set", "a=1", "--set", "b.c=-2"], {"overrides": ["a=1", "b.c=-2"]}),
        (["--set", "-x", "--out", "-o.h5"], {"overrides": ["-x"], "out": "-o.h5"}),
        ([], {"config": None, "overrides": [], "out": None, "video": None, "fresh": False}),
        (["--config", "c.yaml", "-n", "3"], {"config": "c.yaml", "n": 3}),
    ],
)
def test_words_become_values(words, wanted):
    options = vars(parsed(words))
    assert {key: options[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    "words",
    [
        ["--video", "--fresh"],  # an option of the program's own is no value
        ["--fresh", "-abc"],  # an option that takes no value takes none
        ["--fre"],  # no abbreviation
        ["--conf", "c.yaml"],
        ["--unknown"],
        ["--video"],
    ],
)
def test_words_that_are_wrong(words, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed(words)
    assert ended.value.code == 2 and "usage" in capsys.readouterr().err


def test_the_words_of_the_command_line_are_read(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x.py", "--out", "-o"])
    assert make_parser("", "").parse_args().out == "-o"


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code", "said"),
    [
        (lambda: None, 0, ""),
        (lambda: 0, 0, ""),
        (lambda: 1, 1, ""),
        (raising(InputError("p.h5 is\n  wrong")), 2, "error: p.h5 is wrong\n"),
        (raising(BrokenPipeError()), 0, ""),
    ],
)
def test_exit_codes(main, code, said, capsys):
    with pytest.raises(SystemExit) as ended:
        run(main)
    assert (ended.value.code, capsys.readouterr().err) == (code, said)


def test_an_interruption_is_one_line_and_code_130(capsys):
    with pytest.raises(SystemExit) as ended:
        run(raising(KeyboardInterrupt()))
    error = capsys.readouterr().err
    assert ended.value.code == 130 and error.count("\n") == 1 and "interrupted" in error


@pytest.mark.parametrize("error", [ValueError("bug"), KeyError("bug"), OSError("bug")])
def test_a_fault_of_the_program_s_own_is_not_hidden(error):
    with pytest.raises(type(error), match="bug"):
        run(raising(error))
