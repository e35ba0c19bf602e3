"""What every subcommand shares: how its words are read, what it refuses, and its exit code."""

import ast
import errno
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from aamn.cli import main as main_module
from aamn.cli.command_line import (
    Existing,
    Finite,
    all_but,
    inputs_options,
    out_option,
    recipe_options,
    sentences,
    split_inputs,
    subcommand,
    threshold_option,
)
from aamn.cli.evaluate import samples_options
from aamn.cli.main import SUBCOMMANDS, aamn, run, tool
from aamn.data.datasets.registry import READERS
from aamn.index.video_index import LINKINGS
from aamn.predictor import PRECISIONS
from aamn.version import __version__
from proposals.errors import InputError

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "aamn" / "cli"
SHARED = {"__init__", "command_line", "main"}  # modules of aamn/cli that are no subcommand
LINES = {name: line for group in SUBCOMMANDS.values() for name, line in group.items()}
HEAVY = ("torch", "torchvision", "cv2", "h5py", "numpy", "scipy", "matplotlib")


def parsed(*words: str) -> dict:
    """What a subcommand with an option of each form makes of its words."""
    seen = {}

    @subcommand("thing", "aamn thing --video v")
    @click.argument("places", nargs=-1)
    @click.option("--video")
    @click.option("--query", multiple=True)
    @click.option("--fresh", is_flag=True)
    @click.option("--pixel", nargs=2, type=int)
    @click.option("-n", type=int)
    @recipe_options
    @out_option("where to")
    def command(**values):
        """Does a thing."""
        seen.update(values)

    command.main(list(words), "thing", standalone_mode=False)
    return seen


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--video", "-abc"], {"video": "-abc"}),
        (["--video", "--abc"], {"video": "--abc"}),
        (["--video=-abc"], {"video": "-abc"}),
        (["--video=--fresh"], {"video": "--fresh", "fresh": False}),
        (["--video", "-a-", "--fresh"], {"video": "-a-", "fresh": True}),
        (["--fresh", "--video", "-5"], {"video": "-5", "fresh": True}),
        (["--video", "--", "--fresh"], {"video": "--", "fresh": True}),
        (["a", "b", "--video", "-c"], {"places": ("a", "b"), "video": "-c"}),
        (["--video", "-c", "a", "b"], {"places": ("a", "b"), "video": "-c"}),
        (["--", "--video", "--fresh"], {"places": ("--video", "--fresh"), "video": None}),
        (["--query", "-a", "--query", "b"], {"query": ("-a", "b")}),
        (["--pixel", "-1", "2"], {"pixel": (-1, 2)}),
        (["--set", "a=1", "--set", "b.c=-2"], {"overrides": ("a=1", "b.c=-2")}),
        (["--set", "-x", "--out", "-o.h5"], {"overrides": ("-x",), "out": Path("-o.h5")}),
        ([], {"config": None, "overrides": (), "out": None, "video": None, "fresh": False}),
        (["--config", "c.yaml", "-n", "3"], {"config": "c.yaml", "n": 3}),
    ],
)
def test_words_become_values(words, wanted):
    found = parsed(*words)
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--video", "--fresh"], "--video: wanted a value, got --fresh"),
        (["--video", "--help"], "--video: wanted a value, got --help"),
        (["--video", "--out=o"], "--video: wanted a value, got --out=o"),
        (["--out", "--set", "a=1"], "--out: wanted a value, got --set"),
        (["--fresh", "-abc"], "-a"),  # an option that takes no value takes none
        (["--fre"], "--fresh"),  # no abbreviation, but a word of advice
        (["--conf", "c.yaml"], "--config"),
        (["--unknown"], "--unknown"),
        (["--video"], "--video"),
        (["-n", "x"], "'x'"),
        (["--pixel", "3"], "--pixel"),
    ],
)
def test_words_that_are_wrong(words, said):
    with pytest.raises(click.UsageError) as refused:
        parsed(*words)
    assert said in refused.value.format_message()


def test_the_words_of_the_process_are_read(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["aamn", "configs", "show", "synthetic_demo"])
    assert run() == 0
    recipe = (ROOT / "configs" / "synthetic_demo.yaml").read_text()
    assert capsys.readouterr().out == recipe
    monkeypatch.setattr(sys, "argv", ["tools/configs.py", "show", "synthetic_demo"])
    with pytest.raises(SystemExit) as ended:
        tool("configs")
    assert (ended.value.code, capsys.readouterr().out) == (0, recipe)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no"], "error: no subcommand no; `aamn --help` lists them\n"),
        (["segmnt"], "error: no subcommand segmnt; is segment meant? `aamn --help` lists them\n"),
        (["train_net"], "is train meant?"),
        (["--quick"], "--quick"),
        (["configs", "print"], "'print'"),
        (["index"], "VIDEOS"),
        (["segment", "--quer", "dog"], "--query"),
        (["segment", "--video", "--query", "dog"], "--video: wanted a value, got --query"),
        (["manifest", "--data", "d"], "Missing option '--out'"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(words, said, capsys):
    assert run(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error


@pytest.fixture
def ends(monkeypatch):
    """Runs the command with a subcommand that ends so; its exit code."""

    def ends(work):
        monkeypatch.setattr(
            main_module._Subcommands,
            "get_command",
            lambda self, ctx, name: subcommand(name, "")(lambda: work()),
        )
        return run(["checks"])

    return ends


def raising(error: BaseException):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "code", "said"),
    [
        (lambda: None, 0, ""),
        (lambda: 0, 0, ""),
        (lambda: 1, 1, ""),
        (raising(InputError("p.h5 is\n  wrong")), 2, "error: p.h5 is wrong\n"),
        (raising(click.UsageError("one of\n two")), 2, "error: one of two\n"),
        (raising(BrokenPipeError()), 0, ""),
        (raising(BrokenPipeError(32, "Broken pipe")), 0, ""),
        (raising(KeyboardInterrupt()), 130, "interrupted; what was finished is kept\n"),
    ],
)
def test_exit_codes(ends, work, code, said, capsys):
    assert (ends(work), capsys.readouterr().err) == (code, said)


@pytest.mark.parametrize("kind", [ValueError, KeyError, OSError, EOFError])
def test_a_fault_of_the_program_s_own_is_not_hidden(ends, kind):
    with pytest.raises(kind, match="bug"):
        ends(raising(kind("bug")))


def process(*words, **options):
    return subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        **options,
    )


def test_a_reader_that_has_seen_enough_ends_the_command_quietly():
    started = process("-m", "aamn", "configs")
    started.stdout.close()
    assert (started.stderr.read(), started.wait()) == (b"", 0)


def test_what_existing_says_of_what_is_not_there(tmp_path):
    (tmp_path / "f").write_text("")
    file, any_ = Existing("list", "; write one"), Existing("video", folders=True)
    assert file.convert(str(tmp_path / "f"), None, None) == tmp_path / "f"
    assert any_.convert(str(tmp_path), None, None) == tmp_path
    assert any_.convert(str(tmp_path / "f"), None, None) == tmp_path / "f"
    for kind, name, said in (
        (file, "no", f"no list at {tmp_path / 'no'}; write one"),
        (file, "", f"no list at {tmp_path}; write one"),  # a folder
        (any_, "no", f"no video at {tmp_path / 'no'}"),
    ):
        with pytest.raises(InputError) as refused:
            kind.convert(str(tmp_path / name), None, None)
        assert str(refused.value) == said


def test_sentences_are_the_lines_with_words(tmp_path):
    (tmp_path / "s.txt").write_text("a dog\n\n  \n cät \n", encoding="utf-8")
    assert sentences(tmp_path / "s.txt") == ["a dog", " cät "] and sentences(None) == []
    (tmp_path / "s.txt").write_bytes(b"c\xe4t")
    with pytest.raises(InputError, match=r"s\.txt is no readable list of sentences"):
        sentences(tmp_path / "s.txt")


def test_the_inputs_are_taken_out_of_the_values():
    @click.command()
    @inputs_options
    @recipe_options
    @click.option("--top")
    def command(**values):
        return split_inputs(values), values

    words = ["--bundle", "b", "--set", "a=1", "--top", "3"]
    inputs, rest = command.main(words, "x", standalone_mode=False)
    assert rest == {"top": "3"}
    given = {"bundle": Path("b"), "overrides": ("a=1",)}
    assert {name: value for name, value in inputs.items() if value} == given
    left = {"checkpoint", "detector", "proposals", "flow", "config", "weights", "describe_every"}
    assert set(inputs) == {*left, *given}


@pytest.fixture
def declared():
    """Runs a subcommand that is declared now with these options: what it is given."""

    def run(*words, options=(), **useless):
        seen = {}

        @subcommand("thing", "aamn thing", **useless)
        def command(**values):
            """Does a thing."""
            seen.update(values)

        for option in options:
            command = option(command)
        command.main(list(words), "thing", standalone_mode=False)
        return seen

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--flow", "no.h5"), "no flow file at no.h5; `aamn flow` writes one"),
        (("--detector", "no.pt"), "no detector at no.pt; `aamn train-detector` writes one"),
        (("--checkpoint", "no.pt"), "no checkpoint at no.pt; train one with `aamn train`"),
    ],
)
def test_inputs_that_are_not_there_are_named_with_what_makes_them(declared, words, said):
    with pytest.raises(InputError) as refused:
        declared(*words, options=[inputs_options])
    assert str(refused.value) == said


def test_inputs_are_paths_and_an_empty_one_is_none(declared, tmp_path):
    (tmp_path / "f").touch()
    for name in ("bundle", "checkpoint", "detector", "proposals", "flow"):
        given = declared(f"--{name}", str(tmp_path / "f"), options=[inputs_options])
        assert {key: value for key, value in given.items() if value} == {name: tmp_path / "f"}
    for name in ("bundle", "proposals"):
        with pytest.raises(click.UsageError, match="wanted a path, got nothing"):
            declared(f"--{name}=", options=[inputs_options])


def test_what_a_segmenter_is_asked_about_and_compared_with(declared, tmp_path):
    (tmp_path / "s.pt").touch()
    own = ("--checkpoint", str(tmp_path / "s.pt"))
    default = dict.fromkeys(("data", "split", "proposals", "flow"), "")
    default |= {"checkpoint": tmp_path / "s.pt", "compare": (), "index": None}
    assert declared(*own, options=[samples_options]) == default
    words = {"data": "d", "split": "s", "proposals": "p", "flow": "f", "index": "i", "compare": "c"}
    given = [word for name, value in words.items() for word in (f"--{name}", value)]
    found = declared(*own, *given, "--compare", "e", options=[samples_options])
    assert found == default | words | {"index": Path("i"), "compare": ("c", "e")}
    with pytest.raises(click.MissingParameter):
        declared(options=[samples_options])
    with pytest.raises(InputError, match=r"no checkpoint at no\.pt"):
        declared("--checkpoint", "no.pt", options=[samples_options])


@pytest.mark.parametrize(
    "options", [inputs_options, samples_options, recipe_options, threshold_option, out_option("x")]
)
def test_a_shared_option_says_what_it_is_for(options):
    command = options(click.Command("thing"))
    for option in command.params:
        assert option.help and (option.metavar or option.name == "split"), option


@pytest.mark.parametrize(
    ("word", "value"), [("auto", "auto"), ("none", "none"), ("-0.5", -0.5), ("1e3", 1000.0)]
)
def test_a_threshold_is_a_number_or_one_of_two_words(declared, word, value):
    given = declared("--absent-threshold", word, options=[threshold_option])
    assert given == {"absent_threshold": value}
    assert declared(options=[threshold_option]) == {"absent_threshold": None}


@pytest.mark.parametrize("word", ["nan", "inf", "-inf"])
def test_what_is_no_finite_number_is_refused(declared, word):
    number = click.option("--n", type=Finite())
    for option, name in ((threshold_option, "--absent-threshold"), (number, "--n")):
        with pytest.raises(click.BadParameter, match=f"{word} is no finite number") as refused:
            declared(f"{name}={word}", options=[option])
        assert name in refused.value.format_message()


def test_where_the_result_goes_may_be_wanted_have_a_default_and_be_a_folder(
    declared, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    assert declared(options=[out_option("x")]) == {"out": None}
    assert declared(options=[out_option("x", default="a/b")]) == {"out": Path("a/b")}
    with pytest.raises(click.MissingParameter):
        declared(options=[out_option("x", required=True)])
    for name, folder in (("file", False), ("folder", True)):
        assert declared("--out", name, options=[out_option("x", folder=folder)])["out"] == Path(
            name
        )
        with pytest.raises(InputError, match=f"cannot write {name}: a f"):
            declared("--out", name, options=[out_option("x", folder=not folder)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--a", "1"], "--a: wanted with --b, else it does nothing"),
        (["--b", "1", "--c", "2"], "--b: wanted without --c, beside which it does nothing"),
        (["--c="], "--c: wanted a value, got nothing"),
        (["--many", "x", "--many", ""], "--many: wanted a value, got nothing"),
        ([""], "PLACE: wanted a value, got nothing"),
    ],
)
def test_what_would_do_nothing_is_refused(declared, words, said):
    options = [click.option(f"--{name}") for name in "abc"]
    options += [click.option("--many", multiple=True), click.argument("place", required=False)]
    apart = [("--b", "--c")]
    with pytest.raises(click.UsageError) as refused:
        declared(*words, options=options, only_with={"--a": "--b"}, apart=apart)
    assert refused.value.format_message() == said
    fine = ["--a", "1", "--b", "2", "--many", "x"]
    assert declared(*fine, options=options, only_with={"--a": "--b"}, apart=apart)["many"] == ("x",)


def test_keys_that_a_subcommand_does_not_read_are_refused(declared, tmp_path):
    (tmp_path / "c.yaml").write_text("train: {batch: 3}\n")
    unread = ("train", "data.root")
    for words, said in (
        (["--set", "train.batch=3"], "--set train.batch=3: `aamn thing` does not read train.batch"),
        (["--set", "seed=1", "--set", "data.root=x"], "does not read data.root"),
        (
            ["--config", str(tmp_path / "c.yaml")],
            "`aamn thing` reads none of its keys, train.batch",
        ),
    ):
        with pytest.raises(InputError) as refused:
            declared(*words, options=[recipe_options], unread=unread)
        assert said in str(refused.value)
        assert declared(*words, options=[recipe_options])["overrides"] is not None
    given = declared("--set", "data.kind=a2d", options=[recipe_options], unread=unread)
    assert given == {"config": None, "overrides": ("data.kind=a2d",)}


def test_all_parts_of_the_recipe_but_some():
    parts = all_but("data", "flow")
    assert {"train", "aamn", "words", "seed"} <= set(parts) and not {"data", "flow"} & set(parts)


# How the process is set up, and how it ends


def test_what_is_said_goes_to_standard_error_without_what_a_terminal_obeys(
    ends, monkeypatch, capsys
):
    given = []
    monkeypatch.setattr(logging, "basicConfig", lambda **more: given.append(more))
    ends(lambda: None)
    ((handler,), level) = given[0]["handlers"], given[0]["level"]
    assert level == logging.INFO and given[0].keys() == {"handlers", "level"}
    record = logging.LogRecord("aamn", logging.INFO, "f", 1, "%s\nis\x1b[2J here", ("it",), None)
    handler.handle(record)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "it\nis\\x1b[2J here\n")


class Closed:
    """A standard output that fails like this."""

    def __init__(self, error):
        self.error = error

    def flush(self):
        if self.error:
            raise self.error

    def fileno(self):
        return 41


@pytest.mark.parametrize(
    ("error", "ended", "said"),
    [
        (None, 3, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 3, ""),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: standard output: no space"),
    ],
    ids=str,
)
def test_the_end_of_a_process_whose_output_nobody_takes(monkeypatch, capsys, error, ended, said):
    calls = []
    system = SimpleNamespace(
        dup2=lambda *given: calls.append(given),
        open=lambda *given: calls.append(given) or 7,
        devnull="/dev/null",
        O_WRONLY=os.O_WRONLY,
    )
    monkeypatch.setattr(main_module, "os", system)
    monkeypatch.setattr(sys, "stdout", Closed(error))
    with pytest.raises(SystemExit) as end:
        main_module._end(3)
    monkeypatch.undo()
    assert end.value.code == ended
    assert capsys.readouterr().err.startswith(said)
    assert calls == ([("/dev/null", os.O_WRONLY), (7, 41)] if error else []), (
        "what is left goes there"
    )


@pytest.mark.parametrize("shell", [False, True])
def test_the_entry_point_answers_a_shell_or_runs_the_words(monkeypatch, shell):
    done = []
    monkeypatch.setattr(main_module, "run", lambda: 5)
    monkeypatch.setattr(aamn, "main", lambda **named: done.append(named))
    monkeypatch.delenv(main_module.COMPLETION, raising=False)
    if shell:
        monkeypatch.setenv(main_module.COMPLETION, "bash_complete")
    with pytest.raises(SystemExit) as end:
        main_module.main()
    assert end.value.code == 5 and done == ([{"prog_name": "aamn"}] if shell else [])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "error: no space left on the device; "),
        (IsADirectoryError(errno.EISDIR, "x", "/f"), "error: /f: a folder is where a file is wan"),
    ],
)
def test_an_error_of_the_operating_system_is_one_line(ends, capsys, error, said):
    assert ends(raising(error)) == 2
    assert capsys.readouterr().err.startswith(said)


# The overview, and each subcommand's help


def module_of(name: str) -> str:
    return name.replace("-", "_")


def test_each_module_is_a_subcommand_of_the_overview_and_each_tool_one_of_them():
    modules = {path.stem for path in FOLDER.glob("*.py")} - SHARED
    assert {module_of(name) for name in LINES} == modules
    assert len(LINES) == sum(map(len, SUBCOMMANDS.values())), "each is in one group"
    for path in (ROOT / "tools").glob("*.py"):
        (call,) = [node for node in ast.walk(ast.parse(path.read_text())) if type(node) is ast.Call]
        assert ast.literal_eval(call.args[0]) in LINES, path


@pytest.mark.parametrize("name", LINES)
def test_help_has_an_example_that_can_be_read(name, capsys):
    command = aamn.get_command(click.Context(aamn), name)
    assert command.name == name and run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert run([name, "-h"]) == 0 and capsys.readouterr().out == text
    options, example = text.split("Example:\n")
    assert example.split()[:2] == ["aamn", name]
    for word in example.split():
        assert not word.startswith("--") or word in options, word


@pytest.mark.parametrize(
    ("name", "option", "choices"),
    [
        ("verify", "--kind", READERS),
        ("extract", "--kind", READERS),
        ("manifest", "--kind", READERS),
        ("segment", "--linking", LINKINGS),
        ("index", "--precision", PRECISIONS),
    ],
)
def test_choices_are_the_library_s(name, option, choices):
    """They are written out in the subcommand, which imports none of the library."""
    parameters = aamn.get_command(click.Context(aamn), name).params
    (found,) = [one for one in parameters if option in one.opts]
    assert set(found.type.choices) == set(choices)


def test_the_overview_has_each_line_under_its_title(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert run([]) == 0 and capsys.readouterr().out == text
    assert "aamn segment clip.mp4" in text
    for title, group in SUBCOMMANDS.items():
        own = text.split(f"{title}:\n")[1].split("\n\n")[0]
        found = [line.split(maxsplit=1) for line in own.splitlines()]
        assert [(name, " ".join(rest.split())) for name, rest in found] == list(group.items())


def test_the_version_is_the_package_s(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"aamn, version {__version__}\n"


LIGHT = f"""
import contextlib, io, sys
from aamn.cli.main import SUBCOMMANDS, run
names = [name for group in SUBCOMMANDS.values() for name in group]
said = io.StringIO()
with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    for words in [["--help"], ["configs"], *([name, "--help"] for name in names)]:
        assert run(words) == 0, words
    for words in (
        ["segment", "/no/such.mp4"],
        ["segment", "--video", "/no/such.mp4", "--query", "dog"],
        ["attention", "--checkpoint", "/no/such.pt", "--video", "/no/such.mp4", "--query", "dog"],
        ["evaluate", "--checkpoint", "/no/such.pt"],
        ["report", "--checkpoint", "/no/such.pt", "--out", "page"],
        ["bundle", "--checkpoint", "/no/such.pt", "--detector", "/no/such.pt", "--out", "b"],
        ["train", "--flow", "/no/such.h5"],
        ["train-detector", "--manifest", "/no/such.json", "--out", "d"],
        ["extract", "--out", "p.h5"],
        ["extract", "clips", "--detector", "/no/such.pt", "--out", "p.h5"],
        ["search", "indexes", "--bundle", "b"],
        ["table"],
        ["nothing"],
    ):
        assert run(words) == 2, words
lines = said.getvalue().splitlines()
print(sum("no video at /no/such.mp4" in line for line in lines))
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_help_and_wrong_paths_are_answered_without_the_libraries_that_take_seconds():
    done = process("-c", LIGHT)
    said, error = done.communicate()
    assert done.returncode == 0, error.decode()
    assert said.decode().splitlines() == ["2", "[]"]


def test_a_mistake_is_one_line_in_a_process_of_its_own():
    for words in (["-m", "aamn", "segment"], ["tools/segment_video.py"]):
        done = process(*words, "/no/such.mp4")
        said, error = done.communicate()
        assert (done.returncode, said) == (2, b"")
        assert error == b"error: no video at /no/such.mp4\n"


def test_an_option_s_older_name_is_taken_and_said(caplog, capsys):
    for words in (("--link-weight", "x"), ("--link-weight=x",)):
        assert run(["segment", "v.mp4", "dog", "--bundle", "b", *words]) == 2
        assert "'x' is not a valid float" in capsys.readouterr().err, (
            "it is the value of the new one"
        )
        assert "--link-weight is now --transition-cost" in caplog.text
        caplog.clear()
    assert run(["train", "--link-weight", "1"]) == 2, "of this subcommand it never was one"
    assert "No such option" in capsys.readouterr().err and not caplog.text


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("aamn se", {"segment", "search"}), ("aamn segment --li", {"--linking"})],
)
def test_a_shell_completes(typed, offered):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = subprocess.run(
        [sys.executable, "-m", "aamn"],
        env={**os.environ, "_AAMN_COMPLETE": "bash_complete", **words},
        capture_output=True,
        text=True,
    )
    assert {line.partition(",")[2] for line in done.stdout.split()} == offered


@pytest.mark.parametrize("words", [("--index", "x.h5"), ("--data", "corpus")])
def test_a_video_beside_an_index_or_a_data_set_is_no_sentence(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").touch()
    Path("x.h5").touch()
    assert run(["segment", "clip.mp4", "red dog", "--bundle", "b", *words]) == 2
    assert "clip.mp4: a video beside" in capsys.readouterr().err


def test_what_the_system_refuses_is_one_line_with_the_file(monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(aamn, "invoke", refuse)
    assert run(["checks"]) == 2
    said = "permission denied; choose another place, or change who may write there"
    assert capsys.readouterr().err == f"error: /some/file: {said}\n"
