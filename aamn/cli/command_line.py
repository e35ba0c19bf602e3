"""What the subcommands share: how one is declared, and the options that several have.

A subcommand's module imports nothing heavy at its top, so that its help and a wrong path are
answered at once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from proposals.errors import InputError

log = logging.getLogger("aamn")

Function = TypeVar("Function", bound=Callable[..., Any])


class Place(click.Path):
    """A path, which an empty word is not: it would be the working folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        if not str(value):
            self.fail("wanted a path, got nothing", param, ctx)
        if "://" in str(value):
            return _here(str(value))
        return Path(str(super().convert(value, param, ctx)))


def _here(place: str) -> Path:
    """What a URL leads to, fetched as far as it is there."""
    from proposals import places

    return places.fetch(places.local_name(place), missing_ok=True)


class Output(Place):
    """Where a file, or a folder of files, will be written; that it can be is found out at once."""

    def __init__(self, folder: bool = False) -> None:
        super().__init__()
        self.folder = folder

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Raises:
        InputError: as `check_output`.
        """
        from proposals.outputs import check_output

        if "://" in str(value):
            return self._remote(str(value), ctx)
        path = super().convert(value, param, ctx)
        check_output(path, self.folder)
        return path

    def _remote(self, url: str, ctx: click.Context) -> Path:
        """The local name of a URL, to which it is put when the command ends, however it ends; a
        single file that is there is fetched, to go on with."""
        from proposals import places
        from proposals.outputs import check_output

        path = places.local_name(url)
        places.check_bucket(path)
        if not self.folder:
            places.fetch(path, missing_ok=True)
        check_output(path, self.folder)
        ctx.call_on_close(lambda: places.put(path))
        return path


OUT_FILE, OUT_FOLDER = Output(), Output(folder=True)


class Existing(Place):
    """A path of what is there already; else one line says what is not, and what makes it."""

    def __init__(self, kind: str, advice: str = "", folders: bool = False) -> None:
        super().__init__()
        self.kind, self.advice, self.folders = kind, advice, folders

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Raises:
        InputError: nothing is there, or a folder where a file is wanted.
        """
        path = super().convert(value, param, ctx)
        if not (path.is_file() or (self.folders and path.is_dir())):
            raise InputError(f"no {self.kind} at {path}{self.advice}")
        return path


class Finite(click.FloatRange):
    """A number in a range, which nan and inf are not."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number


PATH = Place()
PICTURES = click.IntRange(0, 1000)
WORKERS = click.IntRange(0, 1024)
CHECKPOINT = Existing("checkpoint", "; train one with `aamn train`")
DETECTOR = Existing("detector", "; `aamn train-detector` writes one")
FLOW = Existing("flow file", "; `aamn flow` writes one")
VIDEO = Existing("video", folders=True)


RENAMED = {  # options of version 0.1 -> today's
    "--link-weight": "--transition-cost",
    "--held-out": "--validation-share",
}


class Subcommand(click.Command):
    """Values may begin with a dash (`--video -abc`: A2D's ids often do), but an option's value is
    never another option of the same subcommand: then it was forgotten.

    What would do nothing is refused: an option without one of those that `only_with` names for it,
    two options of which the one leaves nothing to the other (`apart`), keys of the recipe that are
    `unread`.
    """

    def __init__(
        self,
        *args: Any,
        example: str = "",
        only_with: Mapping[str, str] | None = None,
        apart: Sequence[tuple[str, str]] = (),
        unread: Collection[str] = (),
        **attributes: Any,
    ) -> None:
        super().__init__(*args, **attributes)
        self.example, self.unread = example, unread
        self.only_with, self.apart = only_with or {}, apart

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
        args = [_with_new_name(word, known) for word in args]
        valued = {name for option in options if not option.is_flag for name in option.opts}
        for word, following in pairwise([*args, ""]):
            if word == "--":
                break
            if word in valued and following.split("=")[0] in known:
                raise click.BadOptionUsage(word, f"{word}: wanted a value, got {following}", ctx)
        rest = super().parse_args(ctx, args)
        given = {_shown(p): ctx.params[p.name or ""] for p in self.params if _is_given(p, ctx)}
        for said in self._useless(given):
            raise click.UsageError(said, ctx)
        self._refuse_unread(given)
        return rest

    def _useless(self, given: Mapping[str, Any]) -> Iterator[str]:
        for name, value in given.items():
            if value == "" or (isinstance(value, tuple) and "" in value):
                yield f"{name}: wanted a value, got nothing"
        for name, other in self.only_with.items():
            if name in given and other not in given:
                yield f"{name}: wanted with {other}, else it does nothing"
        for name, other in self.apart:
            if name in given and other in given:
                yield f"{name}: wanted without {other}, beside which it does nothing"

    def _refuse_unread(self, given: Mapping[str, Any]) -> None:
        if self.unread and given.keys() & {"--config", "--set"}:
            from aamn.config.loading import refuse_unread

            config, overrides = given.get("--config"), given.get("--set", ())
            refuse_unread(self.name or "", config, overrides, self.unread)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.example:
            with formatter.section("Example"):
                for line in self.example.splitlines():
                    formatter.write(f"{' ' * formatter.current_indent}{line}\n")


def _shown(parameter: click.Parameter) -> str:
    """An option as it is written, an argument by its name."""
    if isinstance(parameter, click.Argument):
        return parameter.metavar or (parameter.name or "").upper()
    return parameter.opts[0]


def _is_given(parameter: click.Parameter, ctx: click.Context) -> bool:
    """Whether the parameter stands on the command line with a value."""
    source = ctx.get_parameter_source(parameter.name or "")
    return source is ParameterSource.COMMANDLINE and ctx.params[parameter.name or ""] != ()


def _with_new_name(word: str, known: set[str]) -> str:
    """An option by today's name; says so where it was given by an older one."""
    name, given, value = word.partition("=")
    new = RENAMED.get(name)
    if new not in known:
        return word
    log.warning("%s is now %s", name, new)
    return f"{new}{given}{value}"


def subcommand(
    name: str, example: str, **useless: Any
) -> Callable[[Callable[..., Any]], Subcommand]:
    """Declares a subcommand; its docstring is its help, `example` stands below; `useless` is what
    `Subcommand` refuses because it would do nothing."""
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    return click.command(
        name, cls=Subcommand, example=example, context_settings=settings, **useless
    )


def all_but(*parts: str) -> tuple[str, ...]:
    """The other parts of the configuration, for `unread`."""
    from aamn.config.schema import Config
    from proposals.ranges import field_types

    return tuple(field_types(Config).keys() - set(parts))


def recipe_options(function: Function) -> Function:
    """--config and --set: a recipe, and single values of it."""
    overrides = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="override one value of the recipe, such as train.batch=4; may be repeated",
    )
    config = click.option(
        "--config",
        metavar="YAML",
        help="recipe: a file, or the name of one of `aamn configs`; default: the built-in values",
    )
    return config(overrides(function))


def out_option(
    help: str, required: bool = False, folder: bool = False, default: str | None = None
) -> Callable[[Function], Function]:
    """--out: where the result goes, a file or a folder of files."""
    kind = OUT_FOLDER if folder else OUT_FILE
    given: dict[str, Any] = {}
    if default is not None:  # which would be a value to click
        given["default"] = default
    return click.option("--out", type=kind, metavar="PATH", required=required, help=help, **given)


def public_parts_options(function: Function) -> Function:
    """--weights and --describe-every, of the zero-shot system and of what is trained from it."""
    describe = click.option(
        "--describe-every",
        type=click.IntRange(1, 1000),
        metavar="N",
        help="of zeroshot and what is trained from it: of a tube, only every N-th frame around the "
        "key frame is described; an index answers where N is the same; default: 4",
    )
    return weights_option(describe(function))


def weights_option(function: Function) -> Function:
    """--weights: where the public parts of the zero-shot system lie."""
    return click.option(
        "--weights",
        type=PATH,
        metavar="DIR",
        help="of zeroshot and what is trained from it: a folder with the public weights; else "
        "caches, or the network",
    )(function)


def inputs_options(function: Function) -> Function:
    """--bundle, --checkpoint, --detector, --proposals and --flow of what segments videos."""
    for option in (
        click.option("--flow", type=FLOW, metavar="HDF5", help="extracted flow; else on the fly"),
        click.option("--proposals", type=PATH, metavar="HDF5", help="extracted boxes"),
        click.option("--detector", type=DETECTOR, metavar="PT", help="finds the boxes now"),
        click.option(
            "--checkpoint", type=CHECKPOINT, metavar="PT", help="the segmenter, without bundle"
        ),
        public_parts_options,
        click.option(
            "--bundle",
            type=PATH,
            metavar="DIR",
            help="a segmenter with its detector; zeroshot: public pretrained parts",
        ),
    ):
        function = option(function)
    return function


def engine_options(function: Function) -> Function:
    """--engine, and how much of the machine or the cluster it takes."""
    for option in (
        click.option(
            "--cores",
            type=click.IntRange(1, 1024),
            default=1,
            help="with --engine ray: of a worker without a GPU",
        ),
        click.option(
            "--address",
            default="auto",
            help="of the Ray cluster; auto: this machine's",
            metavar="IP",
        ),
        click.option(
            "--processes",
            type=click.IntRange(1, 1024),
            help="of --engine local; default: one for two cores, or one on a GPU (docs/scale.md)",
        ),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            help="where the videos are worked on: this machine, or a Ray cluster",
        ),
    ):
        function = option(function)
    return function


def every_option(function: Function) -> Function:
    """--every: how many frames go through the networks."""
    return click.option(
        "--every",
        type=click.IntRange(1, 64),
        default=1,
        metavar="N",
        help="only every N-th frame goes through the networks; boxes and masks between two are "
        "interpolated (docs/indexes.md)",
    )(function)


class _Threshold(click.ParamType):
    name = "score"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        return value if value in ("auto", "none") else Finite().convert(value, param, ctx)


def threshold_option(function: Function) -> Function:
    """--absent-threshold: the score below which a sentence has no match."""
    return click.option(
        "--absent-threshold",
        type=_Threshold(),
        metavar="SCORE",
        help="sentences that score below have no match; default: the bundle's own score, where it "
        "has one, which `aamn evaluate --full-video --calibrate` finds; auto: refuse a bundle "
        "without one; none: any score is a match",
    )(function)


INPUTS = (
    *("bundle", "checkpoint", "detector", "proposals", "flow", "config", "overrides"),
    *("weights", "describe_every"),
)


def split_inputs(values: dict[str, Any]) -> dict[str, Any]:
    """Takes the values of `inputs_options` and `recipe_options` out of `values`."""
    return {name: values.pop(name) for name in INPUTS if name in values}


def sentences(file: Path | None) -> list[str]:
    """The sentences of a file, one a line.

    Raises:
        InputError: it is no readable text.
    """
    if file is None:
        return []
    from proposals.files import read_text

    try:
        lines = read_text(file).splitlines()
    except (OSError, InputError) as error:
        raise InputError(f"{file} is no readable list of sentences: {error}") from None
    return [line for line in lines if line.strip()]
