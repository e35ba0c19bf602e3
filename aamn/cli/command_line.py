"""What every program in tools/ shares: the common options and the way a mistake is reported."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from proposals.errors import InputError

log = logging.getLogger("aamn")


class _Parser(argparse.ArgumentParser):
    """Takes values that begin with a dash (`--video -abc`): A2D's ids often do."""

    def parse_known_args(self, args=None, namespace=None):
        return super().parse_known_args(_bind_dashes(self, args), namespace)


def _bind_dashes(parser: argparse.ArgumentParser, args: list[str] | None) -> list[str]:
    """Joins an option that takes one value to a following word that looks like an option but is
    none of this program's."""
    words, bound = list(sys.argv[1:] if args is None else args), []
    options = parser._option_string_actions
    single = {name for name, action in options.items() if action.nargs is None}
    while words:
        word = words.pop(0)
        dashed = bool(words) and words[0].startswith("-") and words[0] not in options
        if word in single and word.startswith("--") and dashed:
            word = f"{word}={words.pop(0)}"
        bound.append(word)
    return bound


def make_parser(description: str, example: str) -> argparse.ArgumentParser:
    """A parser with --config, --set and --out, and an example at the end of its help."""
    parser = _Parser(
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="YAML", help="recipe; default: the built-in values")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="override one value of the recipe, such as train.batch=4; may be repeated",
    )
    parser.add_argument("--out", metavar="PATH", help="where the result goes")
    return parser


def run(main: Callable[[], int | None]) -> None:
    """Runs a program: a user's mistake is one line and exit code 2, Ctrl-C is exit code 130."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        code = main() or 0
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        code = 0
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        code = 130
    sys.exit(code)
