"""`aamn`: one command, whose subcommands are found here and imported when they are called."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

import click

from aamn.version import __version__
from proposals.errors import InputError, reason_of
from proposals.terminal import PlainFormatter, printable

SUBCOMMANDS = {  # name -> its line in the overview; grouped as a user meets them
    "Use": {
        "demo": "the whole pipeline, small, on a synthetic corpus",
        "segment": "masks of a video's actors, chosen by sentences",
        "index": "compute videos once, so that any sentence can be asked later",
        "live": "masks of what a camera shows now, by sentences",
        "search": "find the videos of a folder of indexes that fit sentences",
        "library": "many indexes as one table, to be searched at any size",
        "web": "a page in the browser: drop a video, type, see the actor",
        "bundle": "put a detector and a segmenter into one folder",
        "export": "a bundle's networks as ONNX, which run without them",
        "checks": "what is installed here, and what is missing for what",
    },
    "Train": {
        "verify": "check a data set before it is trained on",
        "manifest": "the COCO JSON that detectors are fine-tuned on",
        "train-detector": "fine-tune a detector on annotated frames",
        "extract": "every frame's proposals into one HDF5 file",
        "flow": "every frame's optical flow into one HDF5 file",
        "train": "train a segmenter",
        "configs": "list recipes, print one, copy one",
        "synthetic": "draw a corpus of synthetic videos in A2D's layout",
    },
    "Measure": {
        "evaluate": "metrics of a trained segmenter on a data set's split",
        "report": "the same as an HTML page with curves and pictures",
        "table": "train and evaluate the rows of one of the paper's tables",
        "benchmark": "what an index costs and saves",
        "attention": "draw what a comparison system attends to",
        "parameters": "count a recipe's parameters, time single steps",
    },
}
COMPLETION = "_AAMN_COMPLETE"  # what click's completion scripts set
_LINES = {name: line for group in SUBCOMMANDS.values() for name, line in group.items()}


class _Subcommands(click.Group):
    """Imports a subcommand's module when it is called, so that the overview is there at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_LINES)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _LINES:
            return None
        return import_module(f"aamn.cli.{name.replace('-', '_')}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _LINES:
            near = get_close_matches(args[0], _LINES, 1)
            meant = f"is {near[0]} meant? " if near else ""
            raise InputError(f"no subcommand {args[0]}; {meant}`aamn --help` lists them")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, lines in SUBCOMMANDS.items():
            with formatter.section(title):
                formatter.write_dl(list(lines.items()))


@click.group(
    "aamn",
    cls=_Subcommands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="aamn")
@click.pass_context
def aamn(context: click.Context) -> None:
    """Text-based video segmentation: type "man in red jumping", get that actor's mask in every
    frame.

    \b
    The first minute:
      aamn demo                                         everything, on a synthetic corpus
      aamn segment clip.mp4 "red dog jumping" --bundle runs/demo/bundle

    Each subcommand's --help shows an example. A mistake in what is given is one line and exit code
    2; a batch goes on with the rest, lists what failed and exits with 1. All can be interrupted;
    the same command again goes on.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(words: Sequence[str] | None = None) -> int:
    """Runs the command with these words (default: the process's own); its exit code. A user's
    mistake is one line and exit code 2, Ctrl-C is exit code 130, a reader that has seen enough is
    none."""
    logging.basicConfig(level=logging.INFO, handlers=[_handler()])
    words = sys.argv[1:] if words is None else words
    try:  # aamn.main() would end with 1 for a closed pipe, and take EOFError for Ctrl-C
        with aamn.make_context("aamn", list(words)) as context:
            code = aamn.invoke(context)
    except InputError as error:
        return _mistake(str(error))
    except click.ClickException as error:
        return _mistake(error.format_message())
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.errno is None:  # not of the operating system
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        return _mistake(f"{where}{reason_of(error)}")
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 130
    return code or 0


def _handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(message)s"))
    return handler


def _mistake(message: str) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return 2


def _end(code: int) -> None:
    """Ends the process, without a word where nobody reads what is still to be printed, with one
    where it has no room."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            code = _mistake(f"standard output: {reason_of(error)}")
    sys.exit(code)


def main() -> None:
    """The entry point of the installed command, and what a shell asks for completions."""
    if COMPLETION in os.environ:
        aamn.main(prog_name="aamn")
    _end(run())


def tool(subcommand: str) -> None:
    """Runs one subcommand with the process's words: what a file of tools/ does."""
    _end(run([subcommand, *sys.argv[1:]]))
